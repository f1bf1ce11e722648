//! A root file system of busybox and the probe.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::tools::{binary, unpacked};

/// The applets of busybox, asked for once.
fn applets() -> &'static [String] {
    static APPLETS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    APPLETS.get_or_init(|| {
        let out = Command::new(busybox()).arg("--list").output().expect("busybox");
        String::from_utf8_lossy(&out.stdout)
            .lines()
            .map(str::to_owned)
            .collect()
    })
}

fn busybox() -> PathBuf {
    let candidates = ["busybox/bin/busybox", "busybox/usr/bin/busybox"];
    let tools = unpacked("busybox");
    let found = candidates
        .iter()
        .map(|path| tools.join(path.trim_start_matches("busybox/")));
    found
        .into_iter()
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no busybox in {}: run `tests/setup`", tools.display()))
}

/// Fills a folder: busybox with all its names, the probe, two users.
pub fn make(rootfs: &Path) -> std::io::Result<()> {
    for name in [
        "bin", "dev", "etc", "home", "lib", "lib64", "mnt", "proc", "root", "run", "sys", "tmp", "usr/bin",
    ] {
        std::fs::create_dir_all(rootfs.join(name))?;
    }
    std::fs::copy(busybox(), rootfs.join("bin/busybox"))?;
    std::fs::copy(binary("runtime-probe"), rootfs.join("bin/probe"))?;
    for applet in applets().iter().filter(|name| *name != "busybox") {
        symlink("busybox", rootfs.join("bin").join(applet))?;
    }
    std::fs::write(
        rootfs.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
    )?;
    std::fs::write(rootfs.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
    std::fs::set_permissions(rootfs.join("tmp"), PermissionsExt::from_mode(0o1777))
}

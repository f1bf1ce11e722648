//! Names that another process changes while the runtime works on them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use harness::{Test, tests};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::bundle::{Bundle, SECRET};
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        a_folder_swapped_with_a_link_under_a_tmpfs,
        a_folder_swapped_with_a_link_under_a_bound_folder,
        a_folder_swapped_with_a_link_under_a_bound_file,
        dev_shm_swapped_in_a_shared_volume,
        the_working_directory_swapped_with_a_link,
        a_masked_path_swapped_with_a_link,
    ]
}

/// Exchanges two names as fast as it goes, until dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn start(one: PathBuf, other: PathBuf) -> Swapper {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (stop.clone(), count.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let swapped = renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE);
                counted.fetch_add(usize::from(swapped.is_ok()), Ordering::Relaxed);
                // Long enough for the runtime to see each state; short enough for it to see both.
                std::thread::sleep(std::time::Duration::from_micros(30));
            }
        });
        Swapper {
            stop,
            count,
            thread: Some(thread),
        }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

const ROUNDS: usize = 40;

/// Runs the container again and again while `swap` in `folder` is now a folder, now a link to the host.
fn race(bundle: &Bundle, folder: &Path) {
    let target = bundle.victim();
    std::fs::create_dir_all(folder.join("swap/inner")).unwrap();
    std::fs::write(folder.join("swap/secret"), "inside").unwrap();
    symlink(
        format!("../../../../../../../../../../../..{target}"),
        folder.join("link"),
    )
    .unwrap();
    let swapper = Swapper::start(folder.join("swap"), folder.join("link"));
    let mut worked = 0;
    for _ in 0..ROUNDS {
        let out = bundle.run();
        worked += usize::from(out.code == 0);
        assert!(!out.out.contains(SECRET), "the host's file was read: {}", out.out);
        bundle.host_is_untouched();
    }
    let swaps = swapper.count.load(Ordering::Relaxed);
    harness::process::note(format!("  {swaps} swaps, {worked} of {ROUNDS} containers ran"));
    assert!(swaps > 10 * ROUNDS, "only {swaps} swaps: this was no race");
}

/// What a container looks at that may have got the host's folder.
fn look(bundle: &Bundle) -> String {
    format!(
        "cat /vol/swap/secret /vol/swap/../secret /vol/link/secret {} 2>/dev/null; ls /vol/swap/ >/dev/null 2>&1; true",
        bundle.secret()
    )
}

/// CVE-2021-30465.
fn a_folder_swapped_with_a_link_under_a_tmpfs(world: &World) {
    let mut bundle = world.bundle();
    let (volume, line) = (bundle.volume(""), look(&bundle));
    bundle
        .bind(&volume, "/vol")
        .mount("/vol/swap/inner", "tmpfs", "tmpfs", &["mode=755"]);
    bundle.mount("/vol/swap", "tmpfs", "tmpfs", &["mode=755"]).shell(&line);
    race(&bundle, &volume);
}

/// CVE-2021-30465 and, for the folder that is made, CVE-2024-45310.
fn a_folder_swapped_with_a_link_under_a_bound_folder(world: &World) {
    let mut bundle = world.bundle();
    let (volume, line) = (bundle.volume(""), look(&bundle));
    std::fs::create_dir(volume.join("source")).unwrap();
    bundle
        .bind(&volume, "/vol")
        .bind(volume.join("source"), "/vol/swap/made/by-the-runtime")
        .shell(&line);
    race(&bundle, &volume);
}

/// CVE-2024-45310, for the file that is made.
fn a_folder_swapped_with_a_link_under_a_bound_file(world: &World) {
    let mut bundle = world.bundle();
    let (volume, line) = (bundle.volume(""), look(&bundle));
    std::fs::write(volume.join("source"), "text").unwrap();
    bundle
        .bind(&volume, "/vol")
        .bind(volume.join("source"), "/vol/swap/file-of-the-runtime")
        .shell(&line);
    race(&bundle, &volume);
}

/// Two containers share `/dev/shm`, one of them changes what lies in it while the other one is made.
fn dev_shm_swapped_in_a_shared_volume(world: &World) {
    let mut bundle = world.bundle();
    let (volume, line) = (bundle.volume(""), look(&bundle));
    bundle.without_mount("/dev/shm").bind(&volume, "/dev/shm");
    bundle
        .mount("/dev/shm/swap", "tmpfs", "tmpfs", &["mode=1777"])
        .shell(&line);
    race(&bundle, &volume);
}

fn the_working_directory_swapped_with_a_link(world: &World) {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    bundle
        .bind(&volume, "/vol")
        .set("/process/cwd", "/vol/swap")
        .shell("cat secret ../secret");
    race(&bundle, &volume);
}

/// CVE-2025-31133: what is masked, or covers it, changes meanwhile.
fn a_masked_path_swapped_with_a_link(world: &World) {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    bundle.bind(&volume, "/vol");
    bundle
        .push("/linux/maskedPaths", "/vol/swap/secret")
        .push("/linux/readonlyPaths", "/vol/swap/inner");
    bundle.shell("cat /vol/link/secret; probe write-open /proc/sys/kernel/core_pattern /proc/sysrq-trigger | grep opened && cat /vol/swap/secret; true");
    race(&bundle, &volume);
    let out = bundle.run();
    assert!(!out.out.contains("opened"), "{}", out.out);
}

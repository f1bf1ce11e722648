//! Device nodes, hidden and read-only paths.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde_json::json;

use super::draft::{Draft, same};
use super::draw::Draw;
use super::seen::flags_at;

/// Type, numbers and owner of a node, as a test can compare them.
type Node = (char, u64, u64, u32, u32, u32);

fn node(path: &std::path::Path) -> Result<Node, String> {
    let about = std::fs::symlink_metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let kind = about.file_type();
    let kind = match () {
        () if kind.is_char_device() => 'c',
        () if kind.is_block_device() => 'b',
        () if kind.is_fifo() => 'p',
        () => '?',
    };
    let number = about.rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    Ok((kind, major, minor, about.mode() & 0o7777, about.uid(), about.gid()))
}

/// Nodes that every container has.
const USUAL: &[(&str, u64, u64)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

pub fn usual(draft: &mut Draft, _: &mut Draw) {
    for (path, major, minor) in USUAL {
        draft.expect(*path, Ok(('c', *major, *minor)), |seen| {
            node(&seen.inside(path)).map(|(kind, major, minor, ..)| (kind, major, minor))
        });
    }
    for (path, target) in [("/dev/fd", "/proc/self/fd"), ("/dev/stdin", "/proc/self/fd/0")] {
        draft.expect(path, target.to_owned(), move |seen| {
            std::fs::read_link(seen.inside(path))
                .unwrap_or_default()
                .display()
                .to_string()
        });
    }
}

const DEVICES: &[(&str, char, i64, i64)] = &[
    ("/dev/own-null", 'c', 1, 3),
    ("/dev/fuse", 'c', 10, 229),
    ("/dev/own/deep/tun", 'c', 10, 200),
    ("/dev/loop-of-mine", 'b', 7, 0),
    ("/dev/pipe", 'p', 0, 0),
    ("/nodes/any", 'c', 4095, 1_048_575),
    ("/dev/unbuffered", 'u', 1, 5),
];

pub fn devices(draft: &mut Draft, draw: &mut Draw) {
    if draft.users.is_some() {
        // Nobody makes nodes there; those of the host are bound, if it has them.
        return;
    }
    for (path, kind, major, minor) in draw.some(DEVICES, 35) {
        let mut device = json!({"path": path, "type": kind.to_string()});
        if kind != 'p' || draw.chance(30) {
            (device["major"], device["minor"]) = (major.into(), minor.into());
        }
        let mode = draw.chance(60).then(|| draw.below(0o10000) as u32);
        if let Some(mode) = mode {
            device["fileMode"] = mode.into();
        }
        let mut owner = || draw.chance(40).then(|| draw.below(70_000) as u32);
        let (uid, gid) = (owner(), owner());
        if let Some(uid) = uid {
            device["uid"] = uid.into();
        }
        if let Some(gid) = gid {
            device["gid"] = gid.into();
        }
        draft.config.push("/linux/devices", device);
        let kind = if kind == 'u' { 'c' } else { kind };
        let wanted: Node = (
            kind,
            major as u64,
            minor as u64,
            // What every runtime takes where nothing is said.
            mode.unwrap_or(0o666),
            uid.unwrap_or(0),
            gid.unwrap_or(0),
        );
        draft.expect(path, Ok(wanted), move |seen| node(&seen.inside(path)));
    }
}

/// Hides folders and files that the rootfs has (or has not).
pub fn masked(draft: &mut Draft, draw: &mut Draw) {
    let all = [
        "/etc/secret",
        "/opt/hidden",
        "/no/such/path",
        "/proc/kcore",
        "/sys/firmware",
        "opt/../etc/secret",
    ];
    let mut paths: Vec<&str> = draw.some(&all, 40);
    if draw.chance(10) {
        paths.extend(paths.clone());
    }
    for path in &paths {
        match *path {
            "/etc/secret" => draft.expect("linux.maskedPaths /etc/secret", Ok(('c', 1, 3)), |seen| {
                node(&seen.inside("/etc/secret")).map(|(kind, major, minor, ..)| (kind, major, minor))
            }),
            "/opt/hidden" => draft.check("linux.maskedPaths /opt/hidden", |seen| {
                let folder = seen.inside("/opt/hidden");
                let names = std::fs::read_dir(&folder).map_err(|error| error.to_string())?.count();
                same(&(names, flags_at(&folder)?.contains("ro")), &(0, true))
            }),
            _ => {}
        }
    }
    draft.set("/linux/maskedPaths", paths);
}

pub fn readonly(draft: &mut Draft, draw: &mut Draw) {
    let all = [
        "/etc/fixed",
        "/opt/fixed",
        "/no/such/path",
        "/proc/sys",
        "/proc/sysrq-trigger",
        "/proc/bus",
    ];
    let paths: Vec<&str> = draw.some(&all, 40);
    let has_proc = draft
        .config
        .0
        .pointer("/mounts/0/type")
        .is_some_and(|kind| kind == "proc");
    for path in paths.iter().copied() {
        if path == "/no/such/path" || path.starts_with("/proc/") && !has_proc {
            continue;
        }
        draft.check(format!("linux.readonlyPaths {path}"), move |seen| {
            let place = seen.inside(path);
            same(&(!place.exists() || flags_at(&place)?.contains("ro")), &true)
        });
    }
    draft.set("/linux/readonlyPaths", paths);
}

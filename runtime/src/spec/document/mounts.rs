//! Mounts of a plan in the words of a configuration.

use super::super::{Result, invalid, unsupported};
use super::text;
use crate::defaults::V1_CGROUP_ROOT;
use crate::plan::{Mount, MountSource};
use nix::mount::MsFlags;
use serde_json::{Value, json};
use std::path::Path;

/// Words by the flag that they set and the one that takes it away.
const FLAGS: [(u64, &str, &str); 11] = [
    (MsFlags::MS_RDONLY.bits(), "ro", "rw"),
    (MsFlags::MS_NOSUID.bits(), "nosuid", "suid"),
    (MsFlags::MS_NODEV.bits(), "nodev", "dev"),
    (MsFlags::MS_NOEXEC.bits(), "noexec", "exec"),
    (MsFlags::MS_SYNCHRONOUS.bits(), "sync", "async"),
    (MsFlags::MS_NOATIME.bits(), "noatime", "atime"),
    (MsFlags::MS_NODIRATIME.bits(), "nodiratime", "diratime"),
    (MsFlags::MS_RELATIME.bits(), "relatime", "norelatime"),
    (MsFlags::MS_STRICTATIME.bits(), "strictatime", "nostrictatime"),
    (256, "nosymfollow", "symfollow"),
    (MsFlags::MS_DIRSYNC.bits(), "dirsync", ""),
];

/// `MOUNT_ATTR_*` for the mount and all below it.
const RECURSIVE: [(u64, &str, &str); 6] = [
    (0x1, "rro", "rrw"),
    (0x2, "rnosuid", "rsuid"),
    (0x4, "rnodev", "rdev"),
    (0x8, "rnoexec", "rexec"),
    (0x80, "rnodiratime", "rdiratime"),
    (0x20_0000, "rnosymfollow", "rsymfollow"),
];

/// The word for a propagation.
pub(super) fn propagation(flags: u64) -> Option<&'static str> {
    let words = [
        (MsFlags::MS_PRIVATE, "private", "rprivate"),
        (MsFlags::MS_SLAVE, "slave", "rslave"),
        (MsFlags::MS_SHARED, "shared", "rshared"),
        (MsFlags::MS_UNBINDABLE, "unbindable", "runbindable"),
    ];
    let rec = MsFlags::MS_REC.bits();
    let (_, plain, recursive) = words.iter().find(|(flag, ..)| flags & !rec == flag.bits())?;
    Some(if flags & rec == 0 { plain } else { recursive })
}

/// All mounts, with one for the control groups in place of those that make up our own view of them.
pub(super) fn all(mounts: &[Mount]) -> Result<Vec<Value>> {
    let mut out = Vec::new();
    let mut cgroups = false;
    for mount in mounts {
        if is_default_cgroup(mount) {
            if !cgroups {
                out.push(cgroup(mount));
            }
            cgroups = true;
            continue;
        }
        if mount.optional && !is_possible(mount) {
            continue;
        }
        out.push(one(mount)?);
    }
    Ok(out)
}

/// Part of the view of the control groups that `defaults::mounts` makes; a user's own bind there is not optional.
fn is_default_cgroup(mount: &Mount) -> bool {
    mount.target.starts_with(V1_CGROUP_ROOT)
        && match &mount.source {
            MountSource::Fs { fstype, .. } => {
                matches!(&**fstype, "cgroup" | "cgroup2") || mount.target == Path::new(V1_CGROUP_ROOT)
            }
            MountSource::Bind { .. } => mount.optional,
            MountSource::BindFrom { .. } | MountSource::Remount { .. } => false,
        }
}

/// `mount` is one of them: the first, which on v1 is the tmpfs that stays writable until the others stand.
fn cgroup(mount: &Mount) -> Value {
    let words = ["nosuid", "noexec", "nodev", "relatime"];
    let v2 = matches!(&mount.source, MountSource::Fs { fstype, .. } if fstype == "cgroup2");
    let readonly = mount.flags & MsFlags::MS_RDONLY.bits() != 0;
    let mut options: Vec<&str> = words.to_vec();
    if readonly || !v2 {
        options.push("ro");
    }
    json!({"destination": V1_CGROUP_ROOT, "type": "cgroup", "source": "cgroup", "options": options})
}

/// Whether what may be absent is there.
fn is_possible(mount: &Mount) -> bool {
    match &mount.source {
        MountSource::Bind { path, .. } => path.exists(),
        MountSource::Fs { fstype, .. } => {
            let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
            known.lines().any(|line| line.split_whitespace().last() == Some(fstype))
        }
        MountSource::BindFrom { .. } | MountSource::Remount { .. } => true,
    }
}

fn one(mount: &Mount) -> Result<Value> {
    let target = text("mounts", &mount.target)?;
    let field = || format!("mounts of {target}");
    if mount.id_map.is_some() {
        return unsupported(format!("{target}: a map of users in another runtime's container"));
    }
    let mut options: Vec<String> = Vec::new();
    let (kind, source) = match &mount.source {
        MountSource::Bind { path, recursive } => {
            options.push(if *recursive { "rbind" } else { "bind" }.into());
            ("bind", text("mounts", path)?)
        }
        MountSource::Fs {
            fstype,
            source,
            data,
            copy_up,
        } => {
            options.extend(data.split(',').filter(|word| !word.is_empty()).map(str::to_owned));
            if *copy_up {
                options.push("tmpcopyup".into());
            }
            (&**fstype, &**source)
        }
        MountSource::BindFrom { .. } => {
            return unsupported(format!("{target} of another container in another runtime's container"));
        }
        MountSource::Remount { .. } => {
            return unsupported(format!("{target}: a remount in another runtime's container"));
        }
    };
    words(&FLAGS, mount.flags, mount.clear, &field(), &mut options)?;
    words(
        &RECURSIVE,
        mount.recursive_set,
        mount.recursive_clear,
        &field(),
        &mut options,
    )?;
    if mount.propagation != 0 {
        match propagation(mount.propagation) {
            Some(word) => options.push(word.into()),
            None => return invalid(field(), "unknown propagation"),
        }
    }
    Ok(json!({"destination": target, "type": kind, "source": source, "options": options}))
}

fn words(table: &[(u64, &str, &str)], set: u64, clear: u64, field: &str, out: &mut Vec<String>) -> Result<()> {
    let known = table.iter().fold(0, |all, (flag, ..)| all | flag);
    if (set | clear) & !known != 0 {
        return invalid(field, format!("flags {:#x} have no name", (set | clear) & !known));
    }
    for (flag, on, off) in table {
        if set & flag != 0 {
            out.push((*on).to_owned());
        } else if clear & flag != 0 && !off.is_empty() {
            out.push((*off).to_owned());
        }
    }
    Ok(())
}

//! The mounts of a configuration.

use super::{Host, Result, check_path, in_bundle, invalid, unsupported};
use crate::cgroup::CgroupPath;
use crate::defaults::{self, MountOptions, V1_CGROUP_ROOT};
use crate::plan::{Mount, MountSource};
use nix::mount::MsFlags;
use oci_spec::runtime as oci;
use std::path::{Path, PathBuf};

/// Mounts, and what is to be made read-only once all of them stand.
pub(super) struct Compiled {
    pub mounts: Vec<Mount>,
    pub readonly: Option<PathBuf>,
}

pub(super) fn compile(list: &[oci::Mount], host: &Host<'_>, cgroup: &CgroupPath) -> Result<Compiled> {
    let mut out = Compiled {
        mounts: Vec::new(),
        readonly: None,
    };
    for mount in list {
        let field = || format!("mounts of {}", mount.destination().display());
        check_path(&field(), mount.destination())?;
        let mapped = |list: &Option<Vec<oci::LinuxIdMapping>>| list.as_ref().is_some_and(|list| !list.is_empty());
        if mapped(mount.uid_mappings()) || mapped(mount.gid_mappings()) {
            return unsupported(format!("an id mapping in {}", field()));
        }
        let options = Options::parse(mount.options().as_deref().unwrap_or_default(), &field())?;
        if mount.typ().as_deref() == Some("cgroup") {
            cgroups(mount, &options, host, cgroup, &mut out)?;
            continue;
        }
        out.mounts.push(one(mount, options, host, &field())?);
    }
    Ok(out)
}

fn one(mount: &oci::Mount, options: Options, host: &Host<'_>, field: &str) -> Result<Mount> {
    let kind = mount.typ().as_deref().unwrap_or_default();
    let bind = options.bind.is_some() || matches!(kind, "bind" | "rbind");
    let source = if bind {
        if let Some(word) = options.data.first() {
            return invalid(field, format!("the option {word:?} means nothing for a bind mount"));
        }
        if options.copy_up {
            return invalid(field, "tmpcopyup is for tmpfs");
        }
        let Some(source) = mount.source() else {
            return invalid(field, "a bind mount needs a source");
        };
        MountSource::Bind {
            path: in_bundle(field, host.bundle, source)?,
            // A bind without a word about it is a single one; type `rbind` is nobody's, but clear.
            recursive: options.bind.unwrap_or(kind == "rbind"),
        }
    } else {
        if kind.is_empty() {
            return invalid(field, "it has neither a type nor the option bind");
        }
        if options.copy_up && kind != "tmpfs" {
            return invalid(field, "tmpcopyup is for tmpfs");
        }
        let source = mount.source().as_ref().map(|source| source.to_str().map(str::to_owned));
        let source = match source {
            Some(None) => return invalid(field, "the source is not UTF-8"),
            Some(Some(source)) if !source.is_empty() => source,
            _ => kind.to_owned(),
        };
        if kind.contains('\0') || source.contains('\0') {
            return invalid(field, "it holds a NUL");
        }
        MountSource::Fs {
            fstype: kind.to_owned(),
            source,
            data: options.data.join(","),
            copy_up: options.copy_up,
        }
    };
    Ok(Mount {
        target: mount.destination().clone(),
        source,
        flags: options.set.bits(),
        clear: if bind { options.clear.bits() } else { 0 },
        recursive_set: options.recursive_set,
        recursive_clear: options.recursive_clear,
        propagation: options.propagation.bits(),
        optional: false,
    })
}

/// `cgroup` stands for whatever this machine has.
fn cgroups(
    mount: &oci::Mount,
    options: &Options,
    host: &Host<'_>,
    cgroup: &CgroupPath,
    out: &mut Compiled,
) -> Result<()> {
    let privileged = !options.set.contains(MsFlags::MS_RDONLY);
    let wanted = MountOptions {
        privileged,
        v1_cgroups: host.cgroups.v1_mounts(),
        // The container's own groups, bound: the same view as a fresh mount in its cgroup namespace, at less cost.
        cgroup_path: Some(cgroup.as_str().to_owned()),
        ..MountOptions::default()
    };
    let root = Path::new(V1_CGROUP_ROOT);
    for mut made in defaults::mounts(&wanted) {
        let Ok(rest) = made.target.strip_prefix(root) else {
            continue;
        };
        made.target = match rest.as_os_str().is_empty() {
            true => mount.destination().clone(),
            false => mount.destination().join(rest),
        };
        made.propagation = options.propagation.bits();
        out.mounts.push(made);
    }
    if !wanted.v1_cgroups.is_empty() && !privileged {
        out.readonly = Some(mount.destination().clone());
    }
    Ok(())
}

/// The words of `mounts[].options`, sorted by what becomes of them.
struct Options {
    set: MsFlags,
    clear: MsFlags,
    recursive_set: u64,
    recursive_clear: u64,
    propagation: MsFlags,
    /// `bind` (false) or `rbind` (true).
    bind: Option<bool>,
    copy_up: bool,
    data: Vec<String>,
}

// <linux/mount.h>
const ATTR_RDONLY: u64 = 0x1;
const ATTR_NOSUID: u64 = 0x2;
const ATTR_NODEV: u64 = 0x4;
const ATTR_NOEXEC: u64 = 0x8;
/// The access time modes are values of one field: setting one means clearing the field.
const ATTR_ATIME: u64 = 0x70;
const ATTR_NOATIME: u64 = 0x10;
const ATTR_STRICTATIME: u64 = 0x20;
const ATTR_NODIRATIME: u64 = 0x80;
const ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

/// `MS_NOSYMFOLLOW`, which `nix` lacks.
const MS_NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(256);

impl Options {
    fn parse(words: &[String], field: &str) -> Result<Options> {
        let mut out = Options {
            set: MsFlags::empty(),
            clear: MsFlags::empty(),
            recursive_set: 0,
            recursive_clear: 0,
            propagation: MsFlags::empty(),
            bind: None,
            copy_up: false,
            data: Vec::new(),
        };
        for word in words {
            if word.contains('\0') {
                return invalid(field, "an option holds a NUL");
            }
            out.word(word, field)?;
        }
        Ok(out)
    }

    fn word(&mut self, word: &str, field: &str) -> Result<()> {
        // Later words override earlier ones.
        let flag = match word {
            "" | "defaults" => return Ok(()),
            "ro" => (true, MsFlags::MS_RDONLY),
            "rw" => (false, MsFlags::MS_RDONLY),
            "nosuid" => (true, MsFlags::MS_NOSUID),
            "suid" => (false, MsFlags::MS_NOSUID),
            "nodev" => (true, MsFlags::MS_NODEV),
            "dev" => (false, MsFlags::MS_NODEV),
            "noexec" => (true, MsFlags::MS_NOEXEC),
            "exec" => (false, MsFlags::MS_NOEXEC),
            "noatime" => (true, MsFlags::MS_NOATIME),
            "atime" => (false, MsFlags::MS_NOATIME),
            "nodiratime" => (true, MsFlags::MS_NODIRATIME),
            "diratime" => (false, MsFlags::MS_NODIRATIME),
            "relatime" => (true, MsFlags::MS_RELATIME),
            "norelatime" => (false, MsFlags::MS_RELATIME),
            "strictatime" => (true, MsFlags::MS_STRICTATIME),
            "nostrictatime" => (false, MsFlags::MS_STRICTATIME),
            "nosymfollow" => (true, MS_NOSYMFOLLOW),
            "symfollow" => (false, MS_NOSYMFOLLOW),
            // No difference to anything since mandatory locking went.
            "nomand" | "async" | "loud" | "nolazytime" | "noiversion" => return Ok(()),
            _ => return self.other(word, field),
        };
        let (on, off) = if flag.0 {
            (&mut self.set, &mut self.clear)
        } else {
            (&mut self.clear, &mut self.set)
        };
        on.insert(flag.1);
        off.remove(flag.1);
        Ok(())
    }

    fn other(&mut self, word: &str, field: &str) -> Result<()> {
        let rec = MsFlags::MS_REC;
        let propagation = match word {
            "private" => MsFlags::MS_PRIVATE,
            "rprivate" => MsFlags::MS_PRIVATE | rec,
            "slave" => MsFlags::MS_SLAVE,
            "rslave" => MsFlags::MS_SLAVE | rec,
            "shared" => MsFlags::MS_SHARED,
            "rshared" => MsFlags::MS_SHARED | rec,
            "unbindable" => MsFlags::MS_UNBINDABLE,
            "runbindable" => MsFlags::MS_UNBINDABLE | rec,
            _ => MsFlags::empty(),
        };
        if !propagation.is_empty() {
            self.propagation = propagation;
            return Ok(());
        }
        // (bits to set, bits to clear) on the mount and all below it
        let recursive = match word {
            "rro" => (ATTR_RDONLY, 0),
            "rrw" => (0, ATTR_RDONLY),
            "rnosuid" => (ATTR_NOSUID, 0),
            "rsuid" => (0, ATTR_NOSUID),
            "rnodev" => (ATTR_NODEV, 0),
            "rdev" => (0, ATTR_NODEV),
            "rnoexec" => (ATTR_NOEXEC, 0),
            "rexec" => (0, ATTR_NOEXEC),
            "rnodiratime" => (ATTR_NODIRATIME, 0),
            "rdiratime" => (0, ATTR_NODIRATIME),
            "rnosymfollow" => (ATTR_NOSYMFOLLOW, 0),
            "rsymfollow" => (0, ATTR_NOSYMFOLLOW),
            "rnoatime" => (ATTR_NOATIME, ATTR_ATIME),
            "rstrictatime" => (ATTR_STRICTATIME, ATTR_ATIME),
            "rrelatime" | "ratime" | "rnorelatime" | "rnostrictatime" => (0, ATTR_ATIME),
            "bind" => {
                // Both words are common together; the recursive one says more.
                self.bind = Some(self.bind.unwrap_or(false));
                return Ok(());
            }
            "rbind" => {
                self.bind = Some(true);
                return Ok(());
            }
            "tmpcopyup" => {
                self.copy_up = true;
                return Ok(());
            }
            "remount" | "mand" | "idmap" | "ridmap" | "silent" => {
                return unsupported(format!("the option {word:?} in {field}"));
            }
            data => {
                self.data.push(data.to_owned());
                return Ok(());
            }
        };
        self.recursive_set = self.recursive_set & !recursive.1 | recursive.0;
        self.recursive_clear = self.recursive_clear & !recursive.0 | recursive.1;
        Ok(())
    }
}

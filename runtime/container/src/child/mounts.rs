//! The container's file systems: the root, the mounts of the plan, hidden and read-only paths.
//!
//! Everything is mounted detached and attached by descriptor, so that no name inside the root can lead a mount astray.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use runtime::plan::{Mount, MountSource, Plan};
use runtime::proto::Step;
use runtime_sys::mount::{self, Filesystem, attr};
use runtime_sys::openat2::{Resolve, openat2};

use super::copy_up::{copy_mode, copy_up};
use super::labels;
use super::nodes::is_null;
use super::root::Root;
use crate::failure::{At, Result, failure};
use crate::namespaces::sent;

/// Makes everything of the host a slave: what is mounted from here on never shows outside.
pub fn detach_propagation() -> Result<()> {
    change_propagation(MsFlags::MS_SLAVE | MsFlags::MS_REC).at(Step::Root, "/")
}

/// Sets the propagation of the process' root.
pub fn change_propagation(flags: MsFlags) -> nix::Result<()> {
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
}

/// Whether a mount has to be copied before the host's tree becomes a slave: one that stays shared with the host.
pub fn is_shared(mount: &Mount) -> bool {
    matches!(mount.source, MountSource::Bind { .. }) && mount.propagation & MsFlags::MS_SHARED.bits() != 0
}

/// Copies what has to be copied before the host's tree becomes a slave: binds that stay shared with the host, and folders
/// of other containers.
pub fn clone_early(plan: &Plan, joined: &[OwnedFd], maps: &[OwnedFd]) -> Result<Vec<Option<OwnedFd>>> {
    let early = |mount: &Mount| match &mount.source {
        MountSource::BindFrom { namespace, path } => {
            let tree = clone_from(sent(joined, *namespace)?, path)?;
            map_ids(mount, &tree, maps)?;
            Ok(Some(tree))
        }
        _ if is_shared(mount) => clone_source(mount, maps),
        _ => Ok(None),
    };
    plan.mounts.iter().map(early).collect()
}

/// A detached copy of what is bound; `None` when it is absent and may be.
pub fn clone_source(mount: &Mount, maps: &[OwnedFd]) -> Result<Option<OwnedFd>> {
    let MountSource::Bind { path, recursive } = &mount.source else {
        return Ok(None);
    };
    match mount::clone_tree(path, *recursive) {
        Err(error) if mount.optional && error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        other => {
            let tree = other.at(Step::Mount, path)?;
            map_ids(mount, &tree, maps)?;
            Ok(Some(tree))
        }
    }
}

/// The user namespace at an index of the plan.
pub fn map_at(maps: &[OwnedFd], index: u32) -> Result<BorrowedFd<'_>> {
    maps.get(index as usize)
        .map(AsFd::as_fd)
        .ok_or_else(|| failure(Step::IdMap, index.to_string(), Errno::EBADF, "the plan has no such map"))
}

fn map_ids(mount: &Mount, tree: &OwnedFd, maps: &[OwnedFd]) -> Result<()> {
    let Some(wanted) = &mount.id_map else { return Ok(()) };
    let mapped = mount::map_ids(tree.as_fd(), map_at(maps, wanted.map)?, wanted.recursive);
    mapped.map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        let message = match errno {
            Errno::EINVAL => "its file system cannot be idmapped by this kernel, or is already",
            _ => "",
        };
        failure(Step::Mount, &mount.target, errno, message)
    })
}

/// Copies the source of a mount that shows another container's folder: from inside that container's mount namespace, which
/// is left again before anything else is done.
pub fn clone_from(namespace: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let subject = path;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let own = open("/proc/self/ns/mnt", flags, Mode::empty()).at(Step::Mount, subject)?;
    setns(namespace, CloneFlags::CLONE_NEWNS).at(Step::Mount, subject)?;
    let cloned = open("/", flags | OFlag::O_DIRECTORY, Mode::empty())
        .map_err(io::Error::from)
        .and_then(|root| openat2(root.as_fd(), path, libc::O_PATH, 0, Resolve::IN_ROOT_NO_SYMLINKS))
        .and_then(|folder| mount::clone_tree_of(folder.as_fd(), false));
    setns(&own, CloneFlags::CLONE_NEWNS).at(Step::Mount, subject)?;
    cloned.at(Step::Mount, subject)
}

/// Makes one mount. `cloned` is the bind's source where it was copied before; `apart`: whoever we are now may not enter the
/// host's folders, so that what did not come along is absent. `label` is that of the files of new file systems.
pub fn add(
    root: &Root,
    mount: &Mount,
    cloned: Option<OwnedFd>,
    maps: &[OwnedFd],
    label: &str,
    apart: bool,
) -> Result<()> {
    match &mount.source {
        MountSource::Fs { .. } => match cloned {
            Some(made) => attach_kernels(root, mount, made),
            None => add_fs(root, mount, label, apart),
        },
        MountSource::Remount { data } => remount(root, mount, data),
        MountSource::Bind { .. } | MountSource::BindFrom { .. } => {
            let tree = match cloned {
                None if apart => None,
                None => clone_source(mount, maps)?,
                // Copied once more (Linux 6.15), so that it is shown after the mounts that were made meanwhile: the list
                // of mounts is in the order in which they were made.
                Some(tree) if !apart => Some(mount::clone_tree_of(tree.as_fd(), true).unwrap_or(tree)),
                tree => tree,
            };
            tree.map_or(Ok(()), |tree| add_bind(root, mount, tree))
        }
    }
}

/// Changes what an earlier mount, or the root, has at the target.
fn remount(root: &Root, mount: &Mount, data: &str) -> Result<()> {
    let subject = &mount.target;
    let target = root.place(subject).at(Step::Mount, subject)?;
    if !data.is_empty() {
        let fs = Filesystem::of_mount(target.as_fd()).at(Step::Mount, subject)?;
        configure(&fs, "", data, mount.flags)
            .and_then(|()| fs.reconfigure())
            .map_err(|error| {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                failure(Step::Mount, subject, errno, fs.complaint())
            })?;
    }
    let (set, clear) = changes(mount.flags, mount.clear);
    if set | clear != 0 {
        mount::set_attributes(target.as_fd(), set, clear, 0, false).at(Step::Mount, subject)?;
    }
    finish(mount, target.as_fd()).at(Step::Mount, subject)
}

fn add_fs(root: &Root, mount: &Mount, label: &str, apart: bool) -> Result<()> {
    let MountSource::Fs {
        fstype,
        source,
        data,
        copy_up: copy,
    } = &mount.source
    else {
        return Ok(());
    };
    let (subject, copy) = (&mount.target, *copy);
    let there = copy && openat2(root.fd(), subject, libc::O_PATH, 0, Resolve::IN_ROOT).is_ok();
    let target = root.folder(&mount.target).at(Step::Mount, subject)?;
    if matches!(&**fstype, "proc" | "sysfs") {
        // An image with a symlink at /proc would have it somewhere else, and a folder of its own where the runtime
        // and others expect the kernel's.
        root.place_without_symlinks(&mount.target).at(Step::Mount, subject)?;
    }
    let fs = match Filesystem::open(fstype) {
        Err(error) if mount.optional && error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
        other => other.at(Step::Mount, subject)?,
    };
    let made = configure(&fs, source, data, mount.flags)
        .and_then(
            |()| match labels::context_option(label).filter(|_| takes_label(fstype)) {
                Some((key, value)) => fs.string(key, value.as_bytes()),
                None => Ok(()),
            },
        )
        .and_then(|()| fs.mount(attributes(mount.flags)));
    let made = match made {
        Ok(made) => made,
        // Of a network namespace that somebody else's users own there is no new view; the host's is shown instead.
        Err(error) if apart && fstype == "sysfs" && error.raw_os_error() == Some(libc::EPERM) => {
            let tree = mount::clone_tree(Path::new("/sys"), true).at(Step::Mount, subject)?;
            return add_bind(root, mount, tree);
        }
        Err(error) => {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            return Err(failure(Step::Mount, subject, errno, fs.complaint()));
        }
    };
    refuse_fake_proc(subject, made.as_fd(), target.as_fd())?;
    if copy {
        copy_up(target.as_fd(), made.as_fd()).at(Step::Mount, subject)?;
        if there && !data.split(',').any(|option| option.starts_with("mode=")) {
            copy_mode(target.as_fd(), made.as_fd()).at(Step::Mount, subject)?;
        }
    }
    finish(mount, made.as_fd()).at(Step::Mount, subject)?;
    attach(mount, made.as_fd(), target.as_fd()).at(Step::Mount, subject)
}

/// A new sysfs, detached, if that is what is mounted. It shows the network namespace of the calling process.
pub fn sysfs(mount: &Mount) -> Result<Option<OwnedFd>> {
    match &mount.source {
        MountSource::Fs {
            fstype, source, data, ..
        } if fstype == "sysfs" => {
            let made = Filesystem::open(fstype).and_then(|fs| {
                configure(&fs, source, data, mount.flags).and_then(|()| fs.mount(attributes(mount.flags)))
            });
            made.at(Step::Mount, &mount.target).map(Some)
        }
        _ => Ok(None),
    }
}

/// Attaches a file system of the kernel that somebody with more rights has made.
fn attach_kernels(root: &Root, mount: &Mount, made: OwnedFd) -> Result<()> {
    let subject = &mount.target;
    let target = root.folder(subject).at(Step::Mount, subject)?;
    root.place_without_symlinks(subject).at(Step::Mount, subject)?;
    refuse_fake_proc(subject, made.as_fd(), target.as_fd())?;
    finish(mount, made.as_fd()).at(Step::Mount, subject)?;
    mount::attach(made.as_fd(), target.as_fd()).at(Step::Mount, subject)
}

/// File systems whose files are the container's own; those of the kernel have labels by themselves.
fn takes_label(fstype: &str) -> bool {
    matches!(fstype, "tmpfs" | "mqueue" | "devpts" | "ramfs")
}

/// Flags of the file system rather than of the mount.
const OF_FILE_SYSTEM: [(MsFlags, &str); 4] = [
    (MsFlags::MS_SYNCHRONOUS, "sync"),
    (MsFlags::MS_DIRSYNC, "dirsync"),
    (MsFlags::MS_MANDLOCK, "mand"),
    (MsFlags::MS_LAZYTIME, "lazytime"),
];

fn configure(fs: &Filesystem, source: &str, data: &str, flags: u64) -> io::Result<()> {
    for (flag, name) in OF_FILE_SYSTEM {
        if flags & flag.bits() != 0 {
            fs.flag(name)?;
        }
    }
    if !source.is_empty() {
        fs.string("source", source.as_bytes())?;
    }
    for option in data.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some((key, value)) => fs.string(key, value.as_bytes())?,
            None => fs.flag(option)?,
        }
    }
    Ok(())
}

fn add_bind(root: &Root, mount: &Mount, tree: OwnedFd) -> Result<()> {
    let subject = &mount.target;
    let kind = SFlag::from_bits_truncate(fstat(&tree).at(Step::Mount, subject)?.st_mode) & SFlag::S_IFMT;
    let target = if kind == SFlag::S_IFDIR {
        root.folder(subject)
    } else {
        root.file(subject)
    };
    let target = target.at(Step::Mount, subject)?;
    refuse_fake_proc(subject, tree.as_fd(), target.as_fd())?;
    let (set, clear) = changes(mount.flags, mount.clear);
    if set | clear != 0 {
        mount::set_attributes(tree.as_fd(), set, clear, 0, false).at(Step::Mount, subject)?;
    }
    if mount.propagation & !MsFlags::MS_REC.bits() == 0 {
        mount::set_attributes(tree.as_fd(), 0, 0, MsFlags::MS_PRIVATE.bits(), true).at(Step::Mount, subject)?;
    }
    finish(mount, tree.as_fd()).at(Step::Mount, subject)?;
    attach(mount, tree.as_fd(), target.as_fd()).at(Step::Mount, subject)
}

/// Files of procfs that tools like lxcfs replace.
const REPLACEABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Something else in the place of procfs, or over a part of it, could forge what the runtime, or a privileged process in the
/// container, relies on; and nothing in it would be hidden (CVE-2019-16884, CVE-2025-52881).
fn refuse_fake_proc(subject: &Path, made: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<()> {
    if subject == Path::new("/proc") && fstatfs(made).at(Step::Mount, subject)?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(failure(
            Step::Mount,
            subject,
            Errno::EPERM,
            "only a procfs can be mounted there",
        ));
    }
    let inside = fstatfs(target).at(Step::Mount, subject)?.filesystem_type() == PROC_SUPER_MAGIC;
    if !inside || REPLACEABLE.iter().any(|allowed| Path::new(allowed) == subject) {
        return Ok(());
    }
    Err(failure(
        Step::Mount,
        subject,
        Errno::EPERM,
        "cannot be mounted because it is inside /proc",
    ))
}

/// Recursive attributes and the propagation asked for, on a mount that is not attached yet.
fn finish(mount: &Mount, made: BorrowedFd<'_>) -> io::Result<()> {
    if mount.recursive_set | mount.recursive_clear != 0 {
        mount::set_attributes(made, mount.recursive_set, mount.recursive_clear, 0, true)?;
    }
    let recursive = mount.propagation & MsFlags::MS_REC.bits() != 0;
    let propagation = mount.propagation & !MsFlags::MS_REC.bits();
    // A slave keeps receiving from the host; one that was cloned after the host's tree became a slave is one already.
    if propagation != 0 {
        mount::set_attributes(made, 0, 0, propagation, recursive)?;
    }
    Ok(())
}

/// Attaches a mount. On a shared one Linux takes nothing unbindable, and makes everything else shared as well: what was asked
/// for comes once more afterwards.
fn attach(mount: &Mount, made: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let recursive = mount.propagation & MsFlags::MS_REC.bits() != 0;
    let propagation = mount.propagation & (MsFlags::MS_PRIVATE | MsFlags::MS_UNBINDABLE).bits();
    let set = |propagation: u64| mount::set_attributes(made, 0, 0, propagation, recursive);
    match mount::attach(made, target) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && propagation == MsFlags::MS_UNBINDABLE.bits() => {
            set(MsFlags::MS_PRIVATE.bits())?;
            mount::attach(made, target)?;
        }
        other => other?,
    }
    match propagation {
        0 => Ok(()),
        _ => set(propagation).or_else(|error| match error.raw_os_error() {
            // In a tree that is attached nowhere it stays as it was set.
            Some(libc::EINVAL) => Ok(()),
            _ => Err(error),
        }),
    }
}

const SIMPLE: [(MsFlags, u64); 6] = [
    (MsFlags::MS_RDONLY, attr::RDONLY),
    (MsFlags::MS_NOSUID, attr::NOSUID),
    (MsFlags::MS_NODEV, attr::NODEV),
    (MsFlags::MS_NOEXEC, attr::NOEXEC),
    (MsFlags::MS_NODIRATIME, attr::NODIRATIME),
    (MsFlags::from_bits_retain(256), attr::NOSYMFOLLOW), // MS_NOSYMFOLLOW, which nix does not name
];

/// `MS_*` as `MOUNT_ATTR_*`.
fn attributes(flags: u64) -> u64 {
    let flags = MsFlags::from_bits_retain(flags);
    let mut attributes = 0;
    for (flag, attribute) in SIMPLE {
        if flags.contains(flag) {
            attributes |= attribute;
        }
    }
    if flags.contains(MsFlags::MS_NOATIME) {
        attributes |= attr::NOATIME;
    } else if flags.contains(MsFlags::MS_STRICTATIME) {
        attributes |= attr::STRICTATIME;
    }
    attributes
}

/// What a bind sets and clears. The access time modes exclude each other: to set one is to clear the field first.
fn changes(flags: u64, clear: u64) -> (u64, u64) {
    let set = attributes(flags);
    let mut clear = attributes(clear) & !attr::ATIME & !set;
    let times = MsFlags::MS_NOATIME | MsFlags::MS_RELATIME | MsFlags::MS_STRICTATIME;
    if flags & times.bits() != 0 {
        clear |= attr::ATIME;
    }
    (set, clear)
}

/// Hides paths: a file by the null device, a folder by an empty one.
pub fn mask(root: &Root, paths: &[PathBuf]) -> Result<()> {
    let mut empty: Option<OwnedFd> = None;
    let mut null: Option<OwnedFd> = None;
    for path in paths {
        let Some(target) = present(root, path, Step::Mask)? else {
            continue;
        };
        let cover = if is_folder(target.as_fd()).at(Step::Mask, path)? {
            // One empty file system serves all.
            match &empty {
                Some(first) => mount::clone_tree_of(first.as_fd(), false).at(Step::Mask, path)?,
                None => {
                    let fs = Filesystem::open("tmpfs").at(Step::Mask, path)?;
                    for (key, value) in [("nr_blocks", "1"), ("nr_inodes", "1")] {
                        fs.string(key, value.as_bytes()).at(Step::Mask, path)?;
                    }
                    fs.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)
                        .at(Step::Mask, path)?
                }
            }
        } else {
            match &null {
                Some(first) => mount::clone_tree_of(first.as_fd(), false).at(Step::Mask, path)?,
                None => null_device().at(Step::Mask, path)?,
            }
        };
        mount::attach(cover.as_fd(), target.as_fd()).at(Step::Mask, path)?;
        // An attached mount can be copied on every kernel, a detached one since 6.15.
        let first = if is_folder(cover.as_fd()).at(Step::Mask, path)? {
            &mut empty
        } else {
            &mut null
        };
        first.get_or_insert(cover);
    }
    Ok(())
}

/// A mount of the host's null device, verified. It has to be of our mount namespace, which a descriptor of the shim is
/// not.
fn null_device() -> io::Result<OwnedFd> {
    let tree = mount::clone_tree(Path::new("/dev/null"), false)?;
    if is_null(&tree) {
        Ok(tree)
    } else {
        Err(Errno::ENODEV.into())
    }
}

/// Makes paths read-only, with what is mounted below.
pub fn make_readonly(root: &Root, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let Some(target) = present(root, path, Step::Readonly)? else {
            continue;
        };
        let tree = mount::clone_tree_of(target.as_fd(), true).at(Step::Readonly, path)?;
        mount::set_attributes(tree.as_fd(), attr::RDONLY, 0, 0, true).at(Step::Readonly, path)?;
        mount::attach(tree.as_fd(), target.as_fd()).at(Step::Readonly, path)?;
    }
    Ok(())
}

fn present(root: &Root, path: &Path, step: Step) -> Result<Option<OwnedFd>> {
    match root.place(path) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        other => other.at(step, path).map(Some),
    }
}

fn is_folder(file: BorrowedFd<'_>) -> nix::Result<bool> {
    Ok(SFlag::from_bits_truncate(fstat(file)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// Reads a small file inside the root that nobody may trust: a regular one, of bounded size.
pub fn read_bounded(root: &Root, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = root.open(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
    if SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Errno::EINVAL.into());
    }
    let mut content = Vec::new();
    File::from(file).take(limit).read_to_end(&mut content)?;
    Ok(content)
}

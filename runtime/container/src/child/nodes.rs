//! Device nodes and symbolic links.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, fstatat, makedev, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use runtime::plan::{Device, DeviceKind, Symlink};
use runtime::proto::Step;
use runtime_sys::mount;

use super::root::{Parents, Root};
use crate::failure::{At, Result, failure};

pub fn device(parents: &mut Parents<'_>, device: &Device) -> Result<()> {
    let subject = &device.path;
    let root = parents.root();
    let (folder, name) = parents.of(&device.path).at(Step::Device, subject)?;
    let (kind, number) = match device.kind {
        DeviceKind::Char => (SFlag::S_IFCHR, makedev(device.major.into(), device.minor.into())),
        DeviceKind::Block => (SFlag::S_IFBLK, makedev(device.major.into(), device.minor.into())),
        DeviceKind::Fifo => (SFlag::S_IFIFO, 0),
    };
    let mode = Mode::from_bits_truncate(device.mode & 0o7777);
    match mknodat(folder, name, kind, mode, number) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let there = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).at(Step::Device, subject)?;
            let same = SFlag::from_bits_truncate(there.st_mode) & SFlag::S_IFMT == kind && there.st_rdev == number;
            return if same { Ok(()) } else { bind_from_host(root, device) };
        }
        // A machine that may not make nodes (a nested one, say) can still show those of the host.
        Err(Errno::EPERM) if device.kind != DeviceKind::Fifo => return bind_from_host(root, device),
        Err(errno) => return Err(failure(Step::Device, subject, errno, "")),
    }
    if (device.uid, device.gid) != (0, 0) {
        let (owner, group) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        fchownat(folder, name, Some(owner), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW).at(Step::Device, subject)?;
        if device.mode & 0o6000 != 0 {
            // A new owner costs a file these bits. It is the node that was just made: nobody else is here to put a symlink
            // into its place.
            fchmodat(folder, name, mode, FchmodatFlags::FollowSymlink).at(Step::Device, subject)?;
        }
    }
    Ok(())
}

/// Binds the host's node of the same number, looked for under the same name.
fn bind_from_host(root: &Root, device: &Device) -> Result<()> {
    let subject = &device.path;
    let node = mount::clone_tree(&device.path, false).at(Step::Device, subject)?;
    let about = fstat(&node).at(Step::Device, subject)?;
    let number = makedev(device.major.into(), device.minor.into());
    if about.st_rdev != number {
        return Err(failure(
            Step::Device,
            subject,
            Errno::ENODEV,
            "the host's node has another number",
        ));
    }
    let target = root.own_file(&device.path).at(Step::Device, subject)?;
    mount::attach(node.as_fd(), target.as_fd()).at(Step::Device, subject)
}

pub fn symlink(parents: &mut Parents<'_>, link: &Symlink) -> Result<()> {
    let (folder, name) = parents.of(&link.path).at(Step::Symlink, &link.path)?;
    match symlinkat(link.target.as_path(), folder, name) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(failure(Step::Symlink, &link.path, errno, "")),
    }
}

/// The container's own `/dev/null`, if it is one.
pub fn null_device(root: &Root) -> Option<OwnedFd> {
    let flags = nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_NOCTTY | nix::fcntl::OFlag::O_NONBLOCK;
    let file = root.open(Path::new("/dev/null"), flags).ok()?;
    is_null(&file).then_some(file)
}

/// Whether an open file is the null device of the kernel.
pub fn is_null(file: impl AsFd) -> bool {
    fstat(file).is_ok_and(|about| {
        SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR && about.st_rdev == makedev(1, 3)
    })
}

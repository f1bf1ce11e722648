//! Project quotas: `quotactl_fd(2)`, and the project of a folder by `FS_IOC_FSSETXATTR` (`ioctl_xfs_fsgetxattr(2)`).
//!
//! A folder that hands its project down counts everything that is made in it, and the file system refuses what goes
//! beyond the project's limit.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::cvt::check;

/// linux/quota.h: the third kind of quota.
const PRJQUOTA: libc::c_int = 2;
const Q_GETQUOTA: libc::c_int = 0x0080_0007;
const Q_SETQUOTA: libc::c_int = 0x0080_0008;
/// linux/dqblk_xfs.h, answered by every file system with quotas.
const Q_XGETQSTATV: libc::c_int = 0x5808;
const FS_QUOTA_PDQ_ACCT: u16 = 1 << 4;
const FS_QUOTA_PDQ_ENFD: u16 = 1 << 5;
const QIF_BLIMITS: u32 = 1;

/// linux/fs.h: `_IOR('X', 31, struct fsxattr)`, `_IOW('X', 32, struct fsxattr)`.
const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// `struct if_dqblk` of linux/quota.h. Limits are in KiB, use in bytes.
#[repr(C)]
#[derive(Default)]
struct Block {
    hard: u64,
    soft: u64,
    space: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    time: u64,
    inodes_time: u64,
    valid: u32,
}

/// `struct fs_quota_statv` of linux/dqblk_xfs.h.
#[repr(C, align(8))]
struct State {
    version: i8,
    pad: u8,
    flags: u16,
    rest: [u8; 156],
}

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    pad: [u8; 8],
}

/// What a project may have and has, in bytes; a limit of 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Rounded up to KiB.
    pub limit: u64,
    pub used: u64,
    /// It has a file, however small, or a limit of any kind.
    pub is_known: bool,
}

/// # Safety
/// `address` is that of what `command` reads or writes, or null where it does neither.
unsafe fn quotactl(
    on: BorrowedFd<'_>,
    command: libc::c_int,
    project: u32,
    address: *mut libc::c_void,
) -> io::Result<()> {
    // QCMD of linux/quota.h.
    let command = (command << 8) | PRJQUOTA;
    // SAFETY: the descriptor is open for as long as it is borrowed; the address is as our caller promises.
    check(unsafe { libc::syscall(libc::SYS_quotactl_fd, on.as_raw_fd(), command, project, address) }).map(drop)
}

/// Whether the file system of this folder counts by projects and holds them to their limits.
///
/// # Errors
/// `ENOSYS`, `EINVAL` or the like where there are no quotas at all.
pub fn is_enforced(on: BorrowedFd<'_>) -> io::Result<bool> {
    let mut state = State {
        version: 1,
        pad: 0,
        flags: 0,
        rest: [0; 156],
    };
    // SAFETY: the kernel reads and writes one fs_quota_statv, which State is in size and layout.
    unsafe { quotactl(on, Q_XGETQSTATV, 0, (&raw mut state).cast())? };
    let both = FS_QUOTA_PDQ_ACCT | FS_QUOTA_PDQ_ENFD;
    Ok(state.flags & both == both)
}

/// What a project has.
///
/// # Errors
/// The file system has no project quotas. A project that nobody has used has nothing.
pub fn usage(on: BorrowedFd<'_>, project: u32) -> io::Result<Usage> {
    let mut block = Block::default();
    // SAFETY: the kernel writes one if_dqblk, which Block is in size and layout.
    match unsafe { quotactl(on, Q_GETQUOTA, project, (&raw mut block).cast()) } {
        Ok(()) => Ok(Usage {
            limit: block.hard.saturating_mul(1024),
            used: block.space,
            is_known: [
                block.hard,
                block.soft,
                block.space,
                block.inodes_hard,
                block.inodes_soft,
                block.inodes,
            ]
            .iter()
            .any(|number| *number != 0),
        }),
        // XFS: there is nothing to tell.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Usage::default()),
        Err(error) => Err(error),
    }
}

/// Sets a project's limit in bytes, rounded up to KiB; 0 takes it away.
///
/// # Errors
/// The file system has no project quotas; we lack `CAP_SYS_ADMIN`.
pub fn set_limit(on: BorrowedFd<'_>, project: u32, limit: u64) -> io::Result<()> {
    let mut block = Block {
        hard: limit.div_ceil(1024),
        soft: limit.div_ceil(1024),
        valid: QIF_BLIMITS,
        ..Block::default()
    };
    // SAFETY: the kernel reads one if_dqblk, which Block is in size and layout.
    unsafe { quotactl(on, Q_SETQUOTA, project, (&raw mut block).cast()) }
}

/// The project that a folder is in and hands down to what is made in it; `None` if it hands down none.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` where the file system has no projects.
pub fn project(folder: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let attributes = attributes(folder)?;
    Ok((attributes.flags & FS_XFLAG_PROJINHERIT != 0).then_some(attributes.project))
}

/// Puts a file into a project; `hand_down`: a folder, and all that is made in it from now on.
///
/// # Errors
/// As [`project`].
pub fn set_project(file: BorrowedFd<'_>, project: u32, hand_down: bool) -> io::Result<()> {
    let mut attributes = attributes(file)?;
    attributes.project = project;
    if hand_down {
        attributes.flags |= FS_XFLAG_PROJINHERIT;
    }
    // SAFETY: the kernel reads one fsxattr, which Attributes is in size and layout.
    check(unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR as _, &raw const attributes) }.into()).map(drop)
}

fn attributes(folder: BorrowedFd<'_>) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the kernel writes one fsxattr, which Attributes is in size and layout.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_FSGETXATTR as _, &raw mut attributes) }.into())?;
    Ok(attributes)
}

// The sizes are part of the calls.
const _: () = assert!(size_of::<Block>() == 72 && size_of::<State>() == 160 && size_of::<Attributes>() == 28);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_file_system_without_quotas_says_so() {
        // It has no disk to count on, on every machine.
        let folder = std::fs::File::open("/proc").unwrap();
        assert!(is_enforced(folder.as_fd()).is_err());
        assert!(usage(folder.as_fd(), 1).is_err());
        assert!(set_project(folder.as_fd(), 1, true).is_err());
    }
}

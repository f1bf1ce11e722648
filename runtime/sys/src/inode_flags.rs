//! Inode flags: `ioctl_iflags(2)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::cvt::check;

// linux/fs.h: _IOR('f', 1, long), _IOW('f', 2, long) and the flag; libc has no name for the last.
const FS_IOC_GETFLAGS: libc::c_ulong = 0x8008_6601;
const FS_IOC_SETFLAGS: libc::c_ulong = 0x4008_6602;
const FS_TOPDIR_FL: libc::c_int = 0x0002_0000;

/// Tells ext2/3/4 that the folders in this one have nothing to do with each other (`chattr +T`), so that it spreads them
/// over the disk.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` on file systems without that flag.
pub fn set_top_folder(folder: BorrowedFd<'_>) -> io::Result<()> {
    // In spite of the request's name the kernel reads and writes an int.
    let mut flags: libc::c_int = 0;
    // SAFETY: the kernel writes one int to the address given, which is that of an int of ours.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_GETFLAGS as _, &raw mut flags) }.into())?;
    if flags & FS_TOPDIR_FL != 0 {
        return Ok(());
    }
    flags |= FS_TOPDIR_FL;
    // SAFETY: the kernel reads one int from the address given, which is that of an int of ours.
    check(unsafe { libc::ioctl(folder.as_raw_fd(), FS_IOC_SETFLAGS as _, &raw const flags) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn it_is_set_or_refused_but_never_harms() {
        let temp = tempfile::tempdir().unwrap();
        let folder = std::fs::File::open(temp.path()).unwrap();
        for _ in 0..2 {
            match set_top_folder(folder.as_fd()) {
                Ok(()) => {}
                Err(error) => {
                    assert!(
                        matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP)),
                        "{error}"
                    );
                }
            }
        }
        std::fs::create_dir(temp.path().join("inside")).unwrap();
    }
}

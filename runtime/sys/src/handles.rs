//! Files by handle instead of by path, for tests that a container may not: `name_to_handle_at(2)`,
//! `open_by_handle_at(2)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::cvt::{c_path, check, check_fd};

/// `MAX_HANDLE_SZ` of `linux/exportfs.h`.
const MOST: usize = 128;

/// A file's handle, valid for the file system that it was made on.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; MOST],
}

impl Handle {
    /// The handle of the inode `number` as ext4 and its like make them (`FILEID_INO32_GEN`); the root folder of ext4 is
    /// number 2, of generation 0.
    pub fn of_inode(number: u32) -> Handle {
        let mut data = [0; MOST];
        data[..4].copy_from_slice(&number.to_ne_bytes());
        Handle {
            bytes: 8,
            kind: 1,
            data,
        }
    }

    /// The handle of what `path` names: `name_to_handle_at(2)`.
    ///
    /// # Errors
    /// As `name_to_handle_at(2)`.
    pub fn of_path(path: &Path) -> io::Result<Handle> {
        let path = c_path(path)?;
        let mut handle = Handle {
            bytes: MOST as u32,
            kind: 0,
            data: [0; MOST],
        };
        let mut mount = 0i32;
        // SAFETY: the path lives across the call, and so does the room for the handle, whose size is in its head, and for
        // the mount's number.
        check(unsafe {
            libc::syscall(
                libc::SYS_name_to_handle_at,
                libc::AT_FDCWD,
                path.as_ptr(),
                &raw mut handle,
                &raw mut mount,
                0,
            )
        })?;
        Ok(handle)
    }

    /// Opens it on the file system of `mount`: `open_by_handle_at(2)`.
    ///
    /// # Errors
    /// As `open_by_handle_at(2)`; `EPERM` without `CAP_DAC_READ_SEARCH`.
    pub fn open(&self, mount: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: the handle lives across the call; the result is a new descriptor.
        unsafe {
            check_fd(libc::syscall(
                libc::SYS_open_by_handle_at,
                mount.as_raw_fd(),
                std::ptr::from_ref(self),
                flags,
            ))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn a_handle_leads_to_its_file_or_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "text").unwrap();
        let mount = File::open(folder.path()).unwrap();
        let Ok(handle) = Handle::of_path(&path) else {
            // Not every file system has handles.
            return;
        };
        match handle.open(mount.as_fd()) {
            Ok(file) => assert_eq!(io::read_to_string(File::from(file)).unwrap(), "text"),
            Err(error) => assert!(matches!(error.raw_os_error(), Some(libc::EPERM)), "{error}"),
        }
    }
}

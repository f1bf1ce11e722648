//! Extended attributes: `setxattr(2)`, `getxattr(2)`, `listxattr(2)`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::cvt::{c_bytes, check};

/// Sets an attribute of an open file.
///
/// # Errors
/// As `fsetxattr(2)`; `ENOTSUP` where the file system has none of that kind.
pub fn set(file: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    let name = c_bytes(name)?;
    // SAFETY: the name is a C string and the value a readable buffer of the given length, both alive across the call.
    let result = unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(result.into()).map(drop)
}

/// Sets an attribute of the file `entry` in the directory `dir`, without following it if it is a symbolic link. For what
/// cannot be opened: links, devices, fifos.
///
/// # Errors
/// As `lsetxattr(2)`; `EINVAL` if `entry` is not a plain name.
pub fn set_at(dir: BorrowedFd<'_>, entry: &[u8], name: &[u8], value: &[u8]) -> io::Result<()> {
    let path = entry_path(dir, entry)?;
    let name = c_bytes(name)?;
    // SAFETY: path and name are C strings and the value a readable buffer of the given length, all alive across the call.
    let result = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(result.into()).map(drop)
}

/// All attributes of the file `entry` in the directory `dir`, without following it. A file system without attributes has
/// none; one that vanishes between listing and reading is left out.
///
/// # Errors
/// As `llistxattr(2)` and `lgetxattr(2)`.
pub fn all_at(dir: BorrowedFd<'_>, entry: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let path = entry_path(dir, entry)?;
    let names = sized(|buffer| {
        // SAFETY: the path is a C string; the kernel writes at most `buffer.len()` bytes into `buffer`.
        check(unsafe { libc::llistxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) } as libc::c_long)
    });
    let names = match names {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => return Ok(Vec::new()),
        names => names?,
    };
    let mut all = Vec::new();
    for name in names.split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let c_name = c_bytes(name)?;
        let value = sized(|buffer| {
            // SAFETY: path and name are C strings; the kernel writes at most `buffer.len()` bytes into `buffer`.
            check(
                unsafe { libc::lgetxattr(path.as_ptr(), c_name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
                    as libc::c_long,
            )
        });
        match value {
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => {}
            value => all.push((name.to_vec(), value?)),
        }
    }
    Ok(all)
}

/// Calls twice: for the size, then for the content; again if it grew in between.
fn sized(mut call: impl FnMut(&mut [u8]) -> io::Result<libc::c_long>) -> io::Result<Vec<u8>> {
    loop {
        let size = call(&mut [])? as usize;
        let mut buffer = vec![0; size];
        if size == 0 {
            return Ok(buffer);
        }
        match call(&mut buffer) {
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) => {}
            got => {
                buffer.truncate(got? as usize);
                return Ok(buffer);
            }
        }
    }
}

/// There is no `lsetxattrat` before Linux 6.13; through `/proc/self/fd` the directory is still the one that was opened.
fn entry_path(dir: BorrowedFd<'_>, entry: &[u8]) -> io::Result<CString> {
    if entry.is_empty() || entry == b".." || entry.contains(&b'/') {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(entry);
    c_bytes(&path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn attributes_are_set_and_listed_without_following_links() {
        let temp = tempfile::tempdir().unwrap();
        let dir = File::open(temp.path()).unwrap();
        let file = File::create(temp.path().join("f")).unwrap();
        std::os::unix::fs::symlink("f", temp.path().join("l")).unwrap();
        set(file.as_fd(), b"user.one", b"1").unwrap();
        set_at(dir.as_fd(), b"f", b"user.two", b"").unwrap();
        let mut all = all_at(dir.as_fd(), b"f").unwrap();
        all.sort();
        assert_eq!(
            all,
            [
                (b"user.one".to_vec(), b"1".to_vec()),
                (b"user.two".to_vec(), Vec::new())
            ]
        );
        assert!(all_at(dir.as_fd(), b"l").unwrap().is_empty());
        // A link takes no user attributes: the call must not have gone to its target.
        assert!(set_at(dir.as_fd(), b"l", b"user.three", b"3").is_err());
        assert!(set_at(dir.as_fd(), b"../x", b"user.three", b"3").is_err());
    }
}

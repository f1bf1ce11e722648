//! What Docker's `--tmpfs` does: the new file system begins with what the image has at that place.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchown, fchownat, symlinkat};

/// How deep folders may nest: each level keeps two descriptors open.
const MAX_DEPTH: u32 = 200;

/// Copies the content of one folder into another. No symlink is followed anywhere.
pub fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    copy_folder(from, to, 0)
}

/// Gives one folder owner and mode of another: a tmpfs looks like the folder it covers, unless its mode was asked for.
pub fn copy_mode(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let top = fstat(from)?;
    let to = openat(
        to,
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    fchown(&to, Some(Uid::from_raw(top.st_uid)), Some(Gid::from_raw(top.st_gid)))?;
    fchmod(&to, Mode::from_bits_truncate(top.st_mode))?;
    Ok(())
}

/// What was a regular file when it was looked at may be a device by now, where the folder is another container's too: one
/// that this process, with the host's rights, could read and the container could not.
fn regular(file: OwnedFd) -> io::Result<File> {
    match SFlag::from_bits_truncate(fstat(&file)?.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Ok(File::from(file)),
        _ => Err(Errno::ESTALE.into()),
    }
}

fn copy_folder(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(Errno::ELOOP.into());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut entries = Dir::openat(from, ".", flags, Mode::empty())?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let about = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_bits_truncate(about.st_mode);
        let kind = SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT;
        let open = |folder: BorrowedFd<'_>, flags: OFlag| -> nix::Result<OwnedFd> {
            openat(
                folder,
                name,
                flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
                Mode::from_bits_truncate(0o600),
            )
        };
        match kind {
            SFlag::S_IFDIR => {
                mkdirat(to, name, Mode::S_IRWXU)?;
                let below = (open(from, OFlag::O_PATH)?, open(to, OFlag::O_PATH)?);
                copy_folder(below.0.as_fd(), below.1.as_fd(), depth + 1)?;
            }
            SFlag::S_IFREG => {
                let mut source = regular(open(from, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?)?;
                let mut copy = File::from(open(to, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?);
                io::copy(&mut source, &mut copy)?;
            }
            SFlag::S_IFLNK => symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?,
            _ => mknodat(to, name, kind, mode, about.st_rdev)?,
        }
        let (owner, group) = (Uid::from_raw(about.st_uid), Gid::from_raw(about.st_gid));
        fchownat(to, name, Some(owner), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if kind != SFlag::S_IFLNK {
            // After the owner: a change of owner clears the set-id bits. Nothing can have become a symlink meanwhile:
            // the folder is not attached anywhere yet.
            fchmodat(to, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let open = |path: &str| OwnedFd::from(File::open(path).unwrap());
        assert!(regular(open("/proc/self/exe")).is_ok());
        for path in ["/dev/zero", "/"] {
            assert_eq!(
                regular(open(path)).unwrap_err().raw_os_error(),
                Some(libc::ESTALE),
                "{path}"
            );
        }
    }
}

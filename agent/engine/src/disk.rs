//! The folders of the two roots, and the lock that keeps a second daemon out.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::EngineConfig;
use crate::error::{Error, Result};

/// Makes the folders that the engine itself owns; the store makes its own.
pub fn prepare(config: &EngineConfig) -> Result<()> {
    make(&config.data_root, 0o710)?;
    make(&config.data_root.join("containers"), 0o710)?;
    make(&config.data_root.join("volumes"), 0o701)?;
    make(&config.exec_root, 0o711)?;
    make(&config.exec_root.join("run"), 0o700)?;
    // Root of a user namespace finds the bundle of its container in there, and nothing else.
    let bundles = config.exec_root.join("bundle");
    make(&bundles, 0o711)?;
    // A daemon of an earlier version made it narrower.
    fs::set_permissions(&bundles, fs::Permissions::from_mode(0o711))
        .map_err(Error::io(format!("open {} to be walked through", bundles.display())))?;
    make(&config.exec_root.join("stage"), 0o700)?;
    make(&config.exec_root.join("shim"), 0o700)
}

fn make(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(Error::io(format!("create {}", path.display())))
}

/// Writes a small file that a reader never sees half written. Not synced: for files that a reboot may lose.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

/// Makes the names in a folder durable. A file system need not do so when a file elsewhere is synced.
///
/// # Errors
/// The folder is not there, or the disk fails.
pub fn sync_folder(path: &Path) -> Result<()> {
    let synced = fs::File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(Error::io(format!("sync {}", path.display())))
}

/// Makes everything durable that was written to the file system of `path`.
///
/// # Errors
/// The path is not there, or the disk fails.
pub fn sync_tree(path: &Path) -> Result<()> {
    let synced = fs::File::open(path).and_then(|tree| Ok(nix::unistd::syncfs(&tree)?));
    synced.map_err(Error::io(format!("sync {}", path.display())))
}

/// Removes a file that may be gone already.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Mount points at `path` and below it, the innermost first.
pub fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
        .filter(|point| point.starts_with(path))
        .collect();
    // Later lines are mounted later: over or inside of the earlier ones.
    found.reverse();
    found
}

/// `\040` and the like, as the kernel writes blanks in its tables.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) = (*first, tail) {
            out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

/// Takes every mount at `path` and below it away, so that deleting the folder cannot reach what is mounted there.
///
/// # Errors
/// The kernel refuses one; nothing below may be deleted then.
pub fn detach_below(path: &Path) -> Result<()> {
    for point in mounts_below(path) {
        nix::mount::umount2(
            &point,
            nix::mount::MntFlags::MNT_DETACH | nix::mount::MntFlags::UMOUNT_NOFOLLOW,
        )
        .map_err(io::Error::from)
        .map_err(Error::io(format!("unmount {}", point.display())))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_mount_points_are_read_back() {
        assert_eq!(unescape(br"/a\040b\134c"), br"/a b\c");
        assert_eq!(unescape(br"/a\9\04"), br"/a\9\04");
    }
}

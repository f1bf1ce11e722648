//! The folders of the two roots, and the lock that keeps a second daemon out.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::config::EngineConfig;
use crate::error::{Error, Result};

/// Makes the folders that the engine itself owns; the store makes its own.
pub fn prepare(config: &EngineConfig) -> Result<()> {
    make(&config.data_root, 0o710)?;
    make(&config.data_root.join("containers"), 0o710)?;
    make(&config.data_root.join("volumes"), 0o701)?;
    make(&config.exec_root, 0o711)?;
    make(&config.exec_root.join("run"), 0o700)?;
    make(&config.exec_root.join("bundle"), 0o700)?;
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

/// Removes a file that may be gone already.
pub fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Bytes that a tree occupies on disk; what cannot be read counts nothing.
pub fn usage(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    let Ok(entries) = fs::read_dir(path) else { return own };
    own + entries.flatten().map(|entry| usage(&entry.path())).sum::<u64>()
}

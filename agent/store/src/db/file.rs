//! The database's file: opened again after a failed write, and with room kept for removals.
//!
//! redb refuses everything after its first failed write until the file is opened anew; and it writes new pages before it
//! frees old ones, so that even a removal needs room. A full disk would thus be for good: nothing could be removed to make
//! room. Therefore blocks are reserved behind the end of the file, as many as the next growth takes.

use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use redb::Database;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

/// Page cache of the database. The records are small and the kernel caches the file as well.
const CACHE: usize = 4 << 20;

/// Bounds of the reserve. redb doubles a small file when it grows.
const RESERVE_LEAST: u64 = 1 << 20;
const RESERVE_MOST: u64 = 16 << 20;

/// A failure of the database, with what to do about it.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// In the database's words.
    pub reason: Arc<str>,
    /// The disk is full.
    pub full: bool,
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Failure {
        let full = match &error {
            redb::Error::Io(error) => {
                matches!(error.raw_os_error(), Some(nix::libc::ENOSPC | nix::libc::EDQUOT))
            }
            _ => false,
        };
        Failure {
            reason: error.to_string().into(),
            full,
        }
    }
}

impl Failure {
    /// No room for one more record.
    pub fn no_room() -> Failure {
        Failure {
            reason: "what room is left is kept for removals".into(),
            full: true,
        }
    }
}

/// The file and, unless opening it failed after a failed write, the database in it.
pub(super) struct DbFile {
    path: PathBuf,
    /// For the reserve; redb has its own.
    file: File,
    database: RwLock<Option<Database>>,
    /// The file's length when blocks were last reserved behind it; 0 if they could not be.
    reserved_at: AtomicU64,
}

impl DbFile {
    /// Opens or creates the file. Returns whether it had to be repaired after a crash.
    pub fn open(path: &Path) -> Result<(DbFile, bool)> {
        if !path.exists() {
            initialise(path)?;
        }
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(Error::io("open", path))?;
        let (database, repaired) =
            database(path).map_err(|error| Error::database("open its file", path, Failure::from(error)))?;
        let file = DbFile {
            path: path.to_owned(),
            file,
            database: RwLock::new(Some(database)),
            reserved_at: AtomicU64::new(0),
        };
        file.reserve();
        Ok((file, repaired))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that the file can grow once more although the disk is full; false if it could not.
    pub fn reserve(&self) -> bool {
        let Ok(length) = self.file.metadata().map(|meta| meta.len()) else {
            return false;
        };
        if self.reserved_at.load(Ordering::Relaxed) == length {
            return true;
        }
        let wanted = length + length.clamp(RESERVE_LEAST, RESERVE_MOST);
        let held = match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, wanted as i64) {
            Err(Errno::ENOSPC | Errno::EDQUOT) => false,
            // A file system that cannot reserve: then all there is against a full disk is to open the file again.
            Ok(()) | Err(_) => true,
        };
        self.reserved_at.store(if held { length } else { 0 }, Ordering::Relaxed);
        held
    }

    /// Uses the database; opens it first if a failure closed it.
    pub fn with<T>(&self, action: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, Failure> {
        {
            let open = self.database.read().unwrap_or_else(|e| e.into_inner());
            if let Some(database) = &*open {
                return Ok(action(database)?);
            }
        }
        self.reopen()?;
        let open = self.database.read().unwrap_or_else(|e| e.into_inner());
        match &*open {
            Some(database) => Ok(action(database)?),
            None => Err(redb::Error::DatabaseClosed.into()),
        }
    }

    /// Closes the database if it is open, and opens it as of its last commit.
    pub fn reopen(&self) -> Result<(), Failure> {
        let mut slot = self.database.write().unwrap_or_else(|e| e.into_inner());
        // Closed first: the file has one owner.
        drop(slot.take());
        *slot = Some(database(&self.path)?.0);
        Ok(())
    }
}

fn database(path: &Path) -> Result<(Database, bool), redb::Error> {
    let repaired = Arc::new(AtomicBool::new(false));
    let seen = repaired.clone();
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder.set_repair_callback(move |_| seen.store(true, Ordering::Relaxed));
    let database = builder.create(path)?;
    Ok((database, repaired.load(Ordering::Relaxed)))
}

/// Makes an empty database under another name and renames it. Killed half-way through its first initialisation, redb leaves
/// a file that it refuses to open ever after.
fn initialise(path: &Path) -> Result<()> {
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &new)(e)),
        _ => {}
    }
    // Records hold environments and labels: for root alone.
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new);
    drop(file.map_err(Error::io("create", &new))?);
    let database = Database::create(&new)
        .map_err(|error| Error::database("create its file", &new, Failure::from(redb::Error::from(error))))?;
    drop(database);
    std::fs::rename(&new, path).map_err(Error::io("rename the new database to", path))
}

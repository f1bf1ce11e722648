//! The handle: opening, what is shared behind it, and the comparison of records with folders at start.

use crate::archive::Archive;
use crate::db::{Batch, Db};
use crate::digest::{ChainId, Digest};
use crate::error::{Error, Result};
use crate::gc::Collected;
use crate::image::Image;
use crate::images::Images;
use crate::layers::{Layer, Layers, Progress};
use crate::lease::Lease;
use crate::quota::{self, Quota};
use crate::record;
use crate::snapshots::Snapshots;
use crate::sync::Syncer;
use crate::trash::Trash;
use nix::fcntl::{Flock, FlockArg};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Where the store lives and how much it takes from an archive.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Data root; created if it is not there.
    pub root: PathBuf,
    /// Bounds for hostile archives.
    pub limits: Limits,
}

impl StoreConfig {
    /// A store at `root` with the default limits.
    pub fn new(root: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig {
            root: root.into(),
            limits: Limits::default(),
        }
    }
}

/// Bounds for hostile archives. A layer beyond them is refused and leaves nothing behind.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries of one layer.
    pub entries: u64,
    /// Bytes of one uncompressed layer.
    pub layer_bytes: u64,
    /// How many times larger than its compressed form a layer may be, beyond the first 64 MiB.
    /// (deflate cannot do more than 1,032 : 1; honest layers stay below 50.)
    pub ratio: u64,
    /// Bytes of a manifest or configuration.
    pub document_bytes: u64,
    /// Layers of one image: what the kernel takes in one overlay mount.
    pub layers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            entries: 10_000_000,
            layer_bytes: 1 << 40,
            ratio: 200,
            document_bytes: 8 << 20,
            layers: 500,
        }
    }
}

/// What [`Store::open`] found and put right.
#[derive(Debug, Default, Clone)]
pub struct Recovered {
    /// Folders without a record, moved to the trash (relative to the root).
    pub orphans: Vec<PathBuf>,
    /// Layers whose folder is gone or, after a power failure, damaged.
    pub lost_layers: Vec<ChainId>,
    /// Images that lost a layer that way and were therefore dropped, with their names.
    pub lost_images: Vec<(Digest, Vec<String>)>,
    /// Writable layers whose folder had not reached the disk when the machine went down; empty now.
    pub remade_snapshots: Vec<String>,
    /// Writable layers whose folder is gone.
    pub lost_snapshots: Vec<String>,
    /// The database needed a repair (the last run ended by a crash).
    pub repaired: bool,
}

impl Recovered {
    /// Nothing had to be put right.
    pub fn is_clean(&self) -> bool {
        self.orphans.is_empty()
            && self.lost_layers.is_empty()
            && self.lost_images.is_empty()
            && self.remade_snapshots.is_empty()
            && self.lost_snapshots.is_empty()
            && !self.repaired
    }
}

/// The image store. Cheap to clone; every method blocks unless it says otherwise.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub root: PathBuf,
    pub limits: Limits,
    pub db: Db,
    pub trash: Trash,
    pub syncer: Syncer,
    pub state: Mutex<State>,
    /// Held by whoever changes images or names, through the commit: memory never shows what may not become durable.
    pub change: Mutex<()>,
    pub boot_id: String,
    temp: AtomicU64,
    _lock: Flock<File>,
}

/// What the records say, in memory.
#[derive(Default)]
pub(crate) struct State {
    pub images: HashMap<Digest, Arc<Image>>,
    pub names: HashMap<String, Digest>,
    pub layers: HashMap<ChainId, Arc<Layer>>,
    pub by_diff: HashMap<Digest, HashSet<ChainId>>,
    pub busy: HashMap<ChainId, Arc<Progress>>,
    pub leased: HashMap<ChainId, usize>,
    pub snapshots: HashMap<String, Vec<ChainId>>,
    /// Of those snapshots that have a size.
    pub quotas: HashMap<String, Quota>,
}

impl Store {
    /// Opens the store, creating it if the root is empty, and puts right what a crash left behind.
    ///
    /// # Errors
    /// Another process owns the root ([`Error::Locked`]), or the disk or the database fails.
    pub fn open(config: StoreConfig) -> Result<(Store, Recovered)> {
        let root = config.root;
        for dir in ["", "layers", "rw", "tmp", "trash"] {
            make_private(&root.join(dir))?;
        }
        for dir in ["tmp", "rw"] {
            // Layers begin in `tmp`. Without this ext4 puts the files of all layers next to each other, where the inodes of
            // layers removed in the last minutes are passed over one by one (28 % of the time of a load after a removal).
            let folder = File::open(root.join(dir)).map_err(Error::io("open", root.join(dir)))?;
            if let Err(error) = runtime_sys::inode_flags::set_top_folder(folder.as_fd()) {
                tracing::debug!(dir, %error, "the file system does not spread folders");
            }
        }
        let lock_path = root.join("lock");
        let lock = File::create(&lock_path).map_err(Error::io("create", &lock_path))?;
        let lock = take_lock(lock).ok_or_else(|| Error::Locked { path: root.clone() })?;
        let (db, repaired) = Db::open(&root.join("meta.redb"))?;
        let trash = Trash::open(&root)?;
        let syncer = Syncer::new(&root)?;
        let inner = Inner {
            limits: config.limits,
            db,
            trash,
            syncer,
            state: Mutex::default(),
            change: Mutex::default(),
            boot_id: boot_id(),
            temp: AtomicU64::new(0),
            _lock: lock,
            root,
        };
        let store = Store { inner: Arc::new(inner) };
        let mut recovered = Recovered {
            repaired,
            ..Recovered::default()
        };
        store.recover(&mut recovered)?;
        store.inner.syncer.start(Arc::downgrade(&store.inner));
        Ok((store, recovered))
    }

    /// The metadata database; the engine keeps its records there too (in tables of its own).
    pub fn db(&self) -> &Db {
        &self.inner.db
    }

    /// Images and their names.
    pub fn images(&self) -> Images<'_> {
        Images { store: self }
    }

    /// Read-only layers.
    pub fn layers(&self) -> Layers<'_> {
        Layers { store: self }
    }

    /// Writable layers of containers.
    pub fn snapshots(&self) -> Snapshots<'_> {
        Snapshots { store: self }
    }

    /// Loading, saving, importing and exporting.
    pub fn archive(&self) -> Archive<'_> {
        Archive { store: self }
    }

    /// Protects layers that belong to work in progress from collection, until it is dropped.
    pub fn lease(&self) -> Lease {
        Lease::new(self.clone())
    }

    /// Removes every layer that no image, no writable layer and no lease needs.
    ///
    /// # Errors
    /// The database fails.
    pub fn gc(&self) -> Result<Collected> {
        crate::gc::collect(self, None)
    }

    /// The data root.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The name of the file system that writable layers are on, as `docker info` has it.
    pub fn file_system(&self) -> &'static str {
        quota::file_system(&self.inner.root.join("rw"))
    }

    /// Whether a writable layer can be given a size.
    ///
    /// # Errors
    /// [`Error::NoQuotas`] says what is missing.
    pub fn quotas(&self) -> Result<()> {
        quota::supported(&self.inner.root.join("rw"))
    }

    /// Removes a folder below the data root that is not the store's own: renamed away at once, deleted in the background.
    ///
    /// # Errors
    /// The rename fails; what is not there is fine.
    pub fn discard(&self, path: &Path) -> Result<()> {
        self.inner.trash.discard(path)
    }

    /// Bytes of the files in a tree that somebody may be changing; a file with several names counts once, and no link is
    /// followed.
    ///
    /// # Errors
    /// The tree cannot be opened.
    pub fn tree_size(&self, path: &Path) -> Result<u64> {
        crate::snapshots::tree_size(path).map_err(Error::io("measure", path))
    }

    /// Waits until the background deletions asked for so far are done. For tests and orderly ends.
    pub fn settle(&self) {
        self.inner.trash.settle();
    }

    fn recover(&self, recovered: &mut Recovered) -> Result<()> {
        let inner = &*self.inner;
        // Whatever was in progress died with its process: we hold the lock.
        for name in names_in(&inner.root.join("tmp"))? {
            recovered.orphans.push(Path::new("tmp").join(&name));
            inner.trash.discard(&inner.root.join("tmp").join(name))?;
        }
        let mut state = inner.state();
        let mut batch = Batch::new();
        record::load_layers(inner, &mut state, &mut batch, recovered)?;
        record::load_snapshots(inner, &mut state, &mut batch, recovered)?;
        record::load_images(inner, &mut state, &mut batch, recovered)?;
        let layers: HashSet<String> = state.layers.keys().map(ChainId::folder).collect();
        sweep_folder(inner, "layers", |name| layers.contains(name), recovered)?;
        sweep_folder(inner, "rw", |name| state.snapshots.contains_key(name), recovered)?;
        drop(state);
        if !batch.is_empty() {
            inner.db.commit_blocking(batch)?;
        }
        Ok(())
    }
}

fn sweep_folder(inner: &Inner, folder: &str, owned: impl Fn(&str) -> bool, recovered: &mut Recovered) -> Result<()> {
    for name in names_in(&inner.root.join(folder))? {
        if !name.to_str().is_some_and(&owned) {
            recovered.orphans.push(Path::new(folder).join(&name));
            let path = inner.root.join(folder).join(name);
            quota::release_orphan(&path);
            inner.trash.discard(&path)?;
        }
    }
    Ok(())
}

pub(crate) fn names_in(dir: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = fs::read_dir(dir).map_err(Error::io("list", dir))?;
    entries
        .map(|e| e.map(|e| e.file_name()).map_err(Error::io("list", dir)))
        .collect()
}

/// How long a lock may stay with a child of a killed daemon that has not come to its `exec` yet.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

fn take_lock(mut file: File) -> Option<Flock<File>> {
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((busy, nix::Error::EWOULDBLOCK)) if Instant::now() < patience => file = busy,
            Err(_) => return None,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    // Nobody but root may enter: images bring set-user-id programs, which no user of the host may run (CVE-2021-41091).
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Error::io("create", dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(Error::io("set the mode of", dir))
}

/// Changes with each boot of the machine: tells whether the page cache that we relied on is still the same.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|s| s.trim().to_owned())
        .unwrap_or_default()
}

impl Inner {
    pub fn state(&self) -> MutexGuard<'_, State> {
        // The state is only changed by short code that cannot panic half-way.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn change(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn layer_dir(&self, chain: &ChainId) -> PathBuf {
        self.root.join("layers").join(chain.folder())
    }

    /// A new empty folder for work in progress; goes to the trash unless it is renamed away.
    pub fn temp_dir(&self, what: &str) -> Result<TempDir<'_>> {
        let n = self.temp.fetch_add(1, Ordering::Relaxed);
        // Where ext4 puts a folder follows from its name; a new name each time spreads them.
        let path = self
            .root
            .join("tmp")
            .join(format!("{what}-{n}-{:08x}", rand::random::<u32>()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(Error::io("create", &path))?;
        Ok(TempDir {
            inner: self,
            path,
            keep: false,
        })
    }
}

/// A folder below `tmp/`.
pub(crate) struct TempDir<'a> {
    inner: &'a Inner,
    pub path: PathBuf,
    keep: bool,
}

impl TempDir<'_> {
    /// Renames it to its final place.
    pub fn persist(mut self, target: &Path) -> Result<()> {
        fs::rename(&self.path, target).map_err(Error::io("rename a finished folder to", target))?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for TempDir<'_> {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = self.inner.trash.discard(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "unfinished work stays until the next start");
        }
    }
}

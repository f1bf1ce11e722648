//! The metadata database: one redb file, one writer thread, group commit.
//!
//! ```text
//! commit(batch) ─┐
//! commit(batch) ─┼─► queue ─► writer: take all that wait ─► one transaction ─► one fsync ─► answer everyone
//! commit(batch) ─┘
//! ```
//!
//! A batch is all or nothing, and batches are applied in the order in which they were sent. Readers never wait for the writer.

use crate::error::{Error, Result};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use std::collections::HashSet;
use std::fs::File;
use std::future::Future;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How many batches one transaction takes at most: bounds the time that the first of them waits.
const GROUP: usize = 512;

/// How long a patient batch waits for company. A container's start, exit and removal often come within it and then cost
/// one fsync instead of three.
const GATHER: Duration = Duration::from_millis(50);

/// Page cache of the database. The records are small and the kernel caches the file as well.
const CACHE: usize = 4 << 20;

/// Changes that become durable together.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    ops: Vec<Op>,
}

#[derive(Debug, Clone)]
struct Op {
    table: &'static str,
    key: String,
    value: Option<Vec<u8>>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Sets a record.
    pub fn put(&mut self, table: &'static str, key: &str, value: Vec<u8>) -> &mut Batch {
        self.ops.push(Op {
            table,
            key: key.to_owned(),
            value: Some(value),
        });
        self
    }

    /// Deletes a record; deleting what is not there is fine.
    pub fn delete(&mut self, table: &'static str, key: &str) -> &mut Batch {
        self.ops.push(Op {
            table,
            key: key.to_owned(),
            value: None,
        });
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Appends another batch's changes behind this one's.
    pub fn append(&mut self, other: Batch) -> &mut Batch {
        self.ops.extend(other.ops);
        self
    }
}

type Answer = std::result::Result<(), Arc<str>>;

enum Reply {
    Async(oneshot::Sender<Answer>),
    Blocking(mpsc::SyncSender<Answer>),
}

impl Reply {
    fn send(self, answer: Answer) {
        // A caller that went away does not undo its batch.
        match self {
            Reply::Async(tx) => drop(tx.send(answer)),
            Reply::Blocking(tx) => drop(tx.send(answer)),
        }
    }
}

struct Request {
    batch: Batch,
    reply: Reply,
    /// Nobody waits for it: it may share a transaction with what comes within [`GATHER`].
    patient: bool,
}

/// The database. Share it by reference; it closes when dropped.
pub struct Db {
    database: Arc<Database>,
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Db {
    /// Opens or creates the file. Returns whether it had to be repaired after a crash.
    pub(crate) fn open(path: &Path) -> Result<(Db, bool)> {
        if !path.exists() {
            initialise(path)?;
        }
        let repaired = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = repaired.clone();
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        builder.set_repair_callback(move |_| seen.store(true, std::sync::atomic::Ordering::Relaxed));
        let database = builder.create(path).map_err(|e| Error::Metadata {
            what: "open its file",
            reason: e.to_string(),
        })?;
        let database = Arc::new(database);
        let (tx, rx) = mpsc::channel();
        let for_writer = database.clone();
        let writer = std::thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || write_loop(&for_writer, &rx))
            .map_err(Error::io("start the commit thread for", path))?;
        let db = Db {
            database,
            requests: Mutex::new(Some(tx)),
            writer: Mutex::new(Some(writer)),
        };
        Ok((db, repaired.load(std::sync::atomic::Ordering::Relaxed)))
    }

    /// Makes a batch durable. The batch is queued at the call; the future only waits for it.
    ///
    /// # Errors
    /// The disk is full or fails; then nothing of the batch is stored.
    pub fn commit(&self, batch: Batch) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        self.queue(batch, false)
    }

    /// As [`Db::commit`], for what nobody waits for: durable within some dozens of milliseconds, in the same order.
    ///
    /// # Errors
    /// As [`Db::commit`].
    pub fn commit_soon(&self, batch: Batch) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        self.queue(batch, true)
    }

    fn queue(&self, batch: Batch, patient: bool) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let (tx, rx) = oneshot::channel();
        let sent = self.send(Request {
            batch,
            reply: Reply::Async(tx),
            patient,
        });
        async move {
            sent?;
            answer(rx.await.map_err(|_| Error::Closed)?)
        }
    }

    /// As [`Db::commit`], for threads.
    ///
    /// # Errors
    /// As [`Db::commit`].
    pub fn commit_blocking(&self, batch: Batch) -> Result<()> {
        let (tx, rx) = mpsc::sync_channel(1);
        self.send(Request {
            batch,
            reply: Reply::Blocking(tx),
            patient: false,
        })?;
        answer(rx.recv().map_err(|_| Error::Closed)?)
    }

    fn send(&self, request: Request) -> Result<()> {
        let queue = self.requests.lock().unwrap_or_else(|e| e.into_inner());
        queue
            .as_ref()
            .ok_or(Error::Closed)?
            .send(request)
            .map_err(|_| Error::Closed)
    }

    /// One record, as of the last commit.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn get(&self, table: &'static str, key: &str) -> Result<Option<Vec<u8>>> {
        let txn = self.database.begin_read().map_err(failed("read"))?;
        let definition: TableDefinition<&str, &[u8]> = TableDefinition::new(table);
        match txn.open_table(definition) {
            Ok(table) => Ok(table.get(key).map_err(failed("read"))?.map(|v| v.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(e) => Err(failed("read")(e)),
        }
    }

    /// All records of a table in the order of their keys, as of the last commit.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn scan(&self, table: &'static str) -> Result<Vec<(String, Vec<u8>)>> {
        let txn = self.database.begin_read().map_err(failed("read"))?;
        let definition: TableDefinition<&str, &[u8]> = TableDefinition::new(table);
        let table = match txn.open_table(definition) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(e) => return Err(failed("read")(e)),
        };
        let mut records = Vec::new();
        for record in table.iter().map_err(failed("read"))? {
            let (key, value) = record.map_err(failed("read"))?;
            records.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(records)
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        drop(self.requests.lock().unwrap_or_else(|e| e.into_inner()).take());
        if let Some(writer) = self.writer.lock().unwrap_or_else(|e| e.into_inner()).take() {
            drop(writer.join());
        }
    }
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
    let database = Database::create(&new).map_err(failed("create its file"))?;
    drop(database);
    std::fs::rename(&new, path).map_err(Error::io("rename the new database to", path))
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Error {
    move |e| Error::Metadata {
        what,
        reason: e.to_string(),
    }
}

fn answer(answer: Answer) -> Result<()> {
    answer.map_err(|reason| Error::Metadata {
        what: "commit",
        reason: reason.to_string(),
    })
}

fn write_loop(database: &Database, requests: &mpsc::Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut group = vec![first];
        let until = Instant::now() + GATHER;
        while group.len() < GROUP && group.iter().all(|request| request.patient) {
            match requests.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(next) => group.push(next),
                Err(_) => break,
            }
        }
        while group.len() < GROUP {
            match requests.try_recv() {
                Ok(next) => group.push(next),
                Err(_) => break,
            }
        }
        let result = apply(database, &group).map_err(|e| Arc::<str>::from(e.to_string()));
        for request in group {
            request.reply.send(result.clone());
        }
    }
}

fn apply(database: &Database, group: &[Request]) -> std::result::Result<(), redb::Error> {
    if group.iter().all(|r| r.batch.is_empty()) {
        return Ok(());
    }
    let mut txn = database.begin_write()?;
    // One fsync per commit, by checksums, and no copy of the allocator's state: opening after kill -9 walks the file instead,
    // which is short (a few KiB for each container), while the second fsync would be on the path of every create and remove.
    txn.set_two_phase_commit(false);
    txn.set_quick_repair(false);
    let names: HashSet<&'static str> = group
        .iter()
        .flat_map(|r| r.batch.ops.iter().map(|op| op.table))
        .collect();
    let mut tables = std::collections::HashMap::new();
    for name in names {
        let definition: TableDefinition<&str, &[u8]> = TableDefinition::new(name);
        tables.insert(name, txn.open_table(definition)?);
    }
    for op in group.iter().flat_map(|r| r.batch.ops.iter()) {
        let Some(table) = tables.get_mut(op.table) else {
            continue;
        };
        match &op.value {
            Some(value) => drop(table.insert(op.key.as_str(), value.as_slice())?),
            None => drop(table.remove(op.key.as_str())?),
        }
    }
    drop(tables);
    txn.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn batches_survive_and_are_seen_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.redb");
        {
            let (db, _) = Db::open(&path).unwrap();
            assert!(db.scan("t").unwrap().is_empty());
            std::thread::scope(|s| {
                for t in 0..4 {
                    let db = &db;
                    s.spawn(move || {
                        for i in 0..20 {
                            let mut batch = Batch::new();
                            batch.put("t", &format!("{t}-{i:02}"), vec![i]);
                            batch.delete("t", &format!("{t}-{:02}", i.wrapping_sub(1)));
                            db.commit_blocking(batch).unwrap();
                        }
                    });
                }
            });
        }
        let (db, repaired) = Db::open(&path).unwrap();
        assert!(!repaired, "a clean close needs no repair");
        let keys: Vec<String> = db.scan("t").unwrap().into_iter().map(|(k, _)| k).collect();
        assert_eq!(keys, ["0-19", "1-19", "2-19", "3-19"]);
        assert_eq!(db.get("t", "0-19").unwrap(), Some(vec![19]));
        assert_eq!(db.get("t", "0-18").unwrap(), None);
    }

    #[tokio::test]
    async fn a_commit_is_sent_even_if_nobody_waits() {
        let dir = tempfile::tempdir().unwrap();
        let (db, _) = Db::open(&dir.path().join("meta.redb")).unwrap();
        let mut batch = Batch::new();
        batch.put("t", "k", b"v".to_vec());
        drop(db.commit(batch));
        db.commit(Batch::new()).await.unwrap();
        let mut batch = Batch::new();
        batch.put("t", "k2", b"v".to_vec());
        db.commit(batch).await.unwrap();
        assert_eq!(db.get("t", "k").unwrap(), Some(b"v".to_vec()));
    }
}

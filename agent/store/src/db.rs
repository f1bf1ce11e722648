//! The metadata database: one redb file, one writer thread, group commit.
//!
//! ```text
//! commit(batch) ─┐
//! commit(batch) ─┼─► queue ─► writer: take all that wait ─► one transaction ─► one fsync ─► answer everyone
//! commit(batch) ─┘
//! ```
//!
//! A batch is all or nothing, and batches are applied in the order in which they were sent. Readers never wait for the writer.

mod commit;
mod file;

use crate::error::{Error, Result};
use file::{DbFile, Failure};
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError};
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use tokio::sync::oneshot;

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

type Answer = std::result::Result<(), Failure>;

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
    urgency: Urgency,
}

/// How a batch meets others, and a disk without room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    /// Somebody waits for it, who is told when it cannot be written.
    Asked,
    /// It tells of what has happened, and somebody is likely to ask for that at once: never refused, but owed.
    Told,
    /// The same, and nobody waits: it may share a transaction with what comes within [`commit::GATHER`].
    Patient,
}

/// The database. Share it by reference; it closes when dropped.
pub struct Db {
    file: Arc<DbFile>,
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Db {
    /// Opens or creates the file. Returns whether it had to be repaired after a crash.
    pub(crate) fn open(path: &Path) -> Result<(Db, bool)> {
        let (file, repaired) = DbFile::open(path)?;
        let file = Arc::new(file);
        let (tx, rx) = mpsc::channel();
        let for_writer = file.clone();
        let writer = std::thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || commit::write_loop(&for_writer, &rx))
            .map_err(Error::io("start the commit thread for", path))?;
        let db = Db {
            file,
            requests: Mutex::new(Some(tx)),
            writer: Mutex::new(Some(writer)),
        };
        Ok((db, repaired))
    }

    /// Makes a batch durable. The batch is queued at the call; the future only waits for it.
    ///
    /// # Errors
    /// The disk is full or fails; then nothing of the batch is stored.
    pub fn commit(&self, batch: Batch) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        self.queue(batch, Urgency::Asked)
    }

    /// As [`Db::commit`], for what has happened already. Where there is no room it is not refused but waits for room; so
    /// does the future.
    ///
    /// # Errors
    /// The store is going away.
    pub fn commit_told(&self, batch: Batch) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        self.queue(batch, Urgency::Told)
    }

    /// As [`Db::commit_told`], for what nobody waits for: durable within some dozens of milliseconds, in the same order.
    ///
    /// # Errors
    /// The store is going away.
    pub fn commit_soon(&self, batch: Batch) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        self.queue(batch, Urgency::Patient)
    }

    fn queue(&self, batch: Batch, urgency: Urgency) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let (tx, rx) = oneshot::channel();
        let file = self.file.clone();
        let sent = self.send(Request {
            batch,
            reply: Reply::Async(tx),
            urgency,
        });
        async move {
            sent?;
            answer(&file, rx.await.map_err(|_| Error::Closed)?)
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
            urgency: Urgency::Asked,
        })?;
        answer(&self.file, rx.recv().map_err(|_| Error::Closed)?)
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
        self.read(|database| {
            let txn = database.begin_read()?;
            let definition: TableDefinition<&str, &[u8]> = TableDefinition::new(table);
            match txn.open_table(definition) {
                Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_vec())),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })
    }

    /// All records of a table in the order of their keys, as of the last commit.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn scan(&self, table: &'static str) -> Result<Vec<(String, Vec<u8>)>> {
        self.read(|database| {
            let txn = database.begin_read()?;
            let definition: TableDefinition<&str, &[u8]> = TableDefinition::new(table);
            let table = match txn.open_table(definition) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut records = Vec::new();
            for record in table.iter()? {
                let (key, value) = record?;
                records.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(records)
        })
    }

    fn read<T>(&self, action: impl FnOnce(&redb::Database) -> std::result::Result<T, redb::Error>) -> Result<T> {
        let read = self.file.with(action);
        read.map_err(|failure| Error::database("read", self.file.path(), failure))
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

fn answer(file: &DbFile, answer: Answer) -> Result<()> {
    answer.map_err(|failure| Error::database("commit", file.path(), failure))
}

impl Error {
    fn database(what: &'static str, path: &Path, failure: Failure) -> Error {
        if failure.full {
            return Error::NoRoomForRecord { path: path.to_owned() };
        }
        Error::Metadata {
            what,
            reason: failure.reason.to_string(),
        }
    }
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

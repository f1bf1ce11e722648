//! The writer thread: groups of batches become transactions, and what could not be written is owed.
//!
//! A batch that somebody asked for is written or refused. One that tells of what has happened already (an
//! exit, a finished layer) cannot be refused, so it is owed until there is room, ahead of everything that comes later.

use super::file::{DbFile, Failure};
use super::{Op, Request, Urgency};
use redb::{Database, ReadableTable, Table, TableDefinition, WriteTransaction};
use std::collections::HashMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How many batches one transaction takes at most: bounds the time that the first of them waits.
const GROUP: usize = 512;

/// How long a patient batch waits for company. A container's start and exit often come within it and then cost one fsync
/// instead of two.
const GATHER: Duration = Duration::from_millis(50);

/// How often it is tried to write what is owed.
const RETRY: Duration = Duration::from_secs(1);

pub(super) fn write_loop(file: &DbFile, requests: &mpsc::Receiver<Request>) {
    let mut owed: Vec<Request> = Vec::new();
    loop {
        let first = if owed.is_empty() {
            requests.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
        } else {
            requests.recv_timeout(RETRY)
        };
        let group = match first {
            Ok(first) => gather(first, requests),
            Err(mpsc::RecvTimeoutError::Timeout) => Vec::new(),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                // The last try: what is still owed then is told to whoever listens.
                settle(file, Vec::new(), &mut owed);
                return;
            }
        };
        settle(file, group, &mut owed);
    }
}

fn gather(first: Request, requests: &mpsc::Receiver<Request>) -> Vec<Request> {
    let mut group = vec![first];
    let until = Instant::now() + GATHER;
    while group.len() < GROUP && group.iter().all(|request| request.urgency == Urgency::Patient) {
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
    group
}

/// Writes what is owed and the group behind it, and answers everyone but those who are owed now.
fn settle(file: &DbFile, group: Vec<Request>, owed: &mut Vec<Request>) {
    let was_owed = !owed.is_empty();
    let tight = !file.reserve();
    let all: Vec<Request> = owed.drain(..).chain(group).collect();
    let written = file.with(|database| apply(database, &all, tight));
    if let Err(failure) = &written {
        tracing::error!(path = %file.path().display(), reason = %failure.reason, "the metadata database cannot be written");
        // redb takes nothing more until it is opened anew; reads need it as well.
        if let Err(failure) = file.reopen() {
            tracing::error!(path = %file.path().display(), reason = %failure.reason, "the metadata database cannot be opened again yet");
        }
    }
    for (at, request) in all.into_iter().enumerate() {
        let result = match &written {
            Ok(taken) if taken[at] => Ok(()),
            Ok(_) => Err(Failure::no_room()),
            Err(failure) => Err(failure.clone()),
        };
        match result {
            // An empty batch asks whether everything before it is on the disk.
            Ok(()) if request.batch.is_empty() && !owed.is_empty() => request.reply.send(Err(Failure::no_room())),
            Ok(()) => {
                supersede(owed, &request);
                request.reply.send(Ok(()));
            }
            Err(_) if request.urgency != Urgency::Asked => {
                supersede(owed, &request);
                owed.push(request);
            }
            Err(failure) => request.reply.send(Err(failure)),
        }
    }
    match (was_owed, owed.is_empty()) {
        (false, false) => tracing::error!(
            path = %file.path().display(),
            "there is no room for a record of what has happened; it is written as soon as there is"
        ),
        (true, true) => tracing::info!(path = %file.path().display(), "the metadata database has room again"),
        _ => {}
    }
}

/// Takes out of what is owed what `later` says anew: written afterwards, it would bring back what is gone.
fn supersede(owed: &mut Vec<Request>, later: &Request) {
    for request in owed.iter_mut() {
        request.batch.ops.retain(|op| {
            !later
                .batch
                .ops
                .iter()
                .any(|new| new.table == op.table && new.key == op.key)
        });
    }
    let (kept, empty) = std::mem::take(owed)
        .into_iter()
        .partition(|request| !request.batch.is_empty());
    *owed = kept;
    for request in empty {
        // What it said is no longer so; the later record answers for both.
        request.reply.send(Ok(()));
    }
}

/// One transaction. Tells of each batch whether it was taken: where room is tight, none is that would add records.
fn apply(database: &Database, group: &[Request], tight: bool) -> Result<Vec<bool>, redb::Error> {
    if group.iter().all(|request| request.batch.is_empty()) {
        return Ok(vec![true; group.len()]);
    }
    let mut txn = database.begin_write()?;
    // One fsync per commit, by checksums, and no copy of the allocator's state: opening after kill -9 walks the file instead,
    // which is short (a few KiB for each container), while the second fsync would be on the path of every create and remove.
    txn.set_two_phase_commit(false);
    txn.set_quick_repair(false);
    let mut taken = Vec::with_capacity(group.len());
    {
        let mut tables = Tables::new(&txn);
        for request in group {
            let fits = !tight || tables.growth(&request.batch.ops)? <= 0;
            if fits {
                tables.apply(&request.batch.ops)?;
            }
            taken.push(fits);
        }
    }
    txn.commit()?;
    Ok(taken)
}

/// The tables of one transaction, opened when they are first needed.
struct Tables<'t> {
    txn: &'t WriteTransaction,
    open: HashMap<&'static str, Table<'t, &'static str, &'static [u8]>>,
}

impl<'t> Tables<'t> {
    fn new(txn: &'t WriteTransaction) -> Tables<'t> {
        Tables {
            txn,
            open: HashMap::new(),
        }
    }

    fn table(&mut self, name: &'static str) -> Result<&mut Table<'t, &'static str, &'static [u8]>, redb::Error> {
        use std::collections::hash_map::Entry;
        match self.open.entry(name) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => Ok(entry.insert(self.txn.open_table(TableDefinition::new(name))?)),
        }
    }

    /// How many records more there would be.
    fn growth(&mut self, ops: &[Op]) -> Result<i64, redb::Error> {
        let mut growth = 0;
        for op in ops {
            let known = self.table(op.table)?.get(op.key.as_str())?.is_some();
            match &op.value {
                Some(_) if !known => growth += 1,
                None if known => growth -= 1,
                _ => {}
            }
        }
        Ok(growth)
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), redb::Error> {
        for op in ops {
            let table = self.table(op.table)?;
            match &op.value {
                Some(value) => drop(table.insert(op.key.as_str(), value.as_slice())?),
                None => drop(table.remove(op.key.as_str())?),
            }
        }
        Ok(())
    }
}

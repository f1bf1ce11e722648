//! Removal: rename away at once, delete in the background.

use crate::error::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

enum Job {
    Delete(PathBuf),
    Settled(mpsc::SyncSender<()>),
}

/// The `trash/` folder and the thread that empties it.
pub(crate) struct Trash {
    dir: PathBuf,
    next: AtomicU64,
    jobs: mpsc::Sender<Job>,
}

impl Trash {
    /// Starts deleting what the last run left there.
    pub fn open(root: &Path) -> Result<Trash> {
        let dir = root.join("trash");
        let (jobs, queue) = mpsc::channel();
        // Not joined at the end: what is left is deleted by the next start.
        std::thread::Builder::new()
            .name("store-trash".into())
            .spawn(move || work(&queue))
            .map_err(Error::io("start the deleting thread for", &dir))?;
        let mut next = 0;
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let entry = entry.map_err(Error::io("list", &dir))?;
            if let Some(n) = entry.file_name().to_str().and_then(|n| n.parse::<u64>().ok()) {
                next = next.max(n + 1);
            }
            drop(jobs.send(Job::Delete(entry.path())));
        }
        Ok(Trash {
            dir,
            next: AtomicU64::new(next),
            jobs,
        })
    }

    /// Makes `path` disappear. What is not there is fine.
    pub fn discard(&self, path: &Path) -> Result<()> {
        let target = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        match fs::rename(path, &target) {
            Ok(()) => {
                drop(self.jobs.send(Job::Delete(target)));
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::io("move to the trash", path)(e)),
        }
    }

    /// Waits until all that was discarded so far is deleted.
    pub fn settle(&self) {
        let (tx, rx) = mpsc::sync_channel(1);
        if self.jobs.send(Job::Settled(tx)).is_ok() {
            let _ = rx.recv();
        }
    }
}

fn work(queue: &mpsc::Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        match job {
            Job::Delete(path) => delete(&path),
            Job::Settled(tx) => drop(tx.send(())),
        }
    }
}

fn delete(path: &Path) {
    let is_dir = match fs::symlink_metadata(path) {
        Ok(meta) => meta.is_dir(),
        Err(_) => return,
    };
    // std's remove_dir_all walks by directory fd and never follows a symbolic link.
    let done = if is_dir {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    if let Err(error) = done {
        tracing::warn!(path = %path.display(), %error, "cannot delete; the next start tries again");
    }
}

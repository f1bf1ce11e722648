//! Removal: rename away at once, delete in the background.

use crate::error::{Error, Result};
use nix::NixPath;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use runtime_sys::quota;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Folders inside each other that are deleted in place; each holds a descriptor.
const DEPTH: usize = 64;
/// Entries of a folder that are listed at once.
const PORTION: usize = 4096;
/// How long nothing must have been discarded before deleting begins: whoever removes a container does something next, and
/// the disk and the core are theirs for that moment.
const QUIET: Duration = Duration::from_millis(20);
/// What is discarded without a pause is deleted when it is that much.
const MANY: usize = 32;

enum Job {
    Delete(PathBuf),
    Settled(mpsc::SyncSender<()>),
}

/// The `trash/` folder and the thread that empties it.
pub(crate) struct Trash {
    dir: PathBuf,
    next: Arc<AtomicU64>,
    jobs: mpsc::Sender<Job>,
}

impl Trash {
    /// Starts deleting what the last run left there.
    pub fn open(root: &Path) -> Result<Trash> {
        let dir = root.join("trash");
        let (jobs, queue) = mpsc::channel();
        let mut next = 0;
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let entry = entry.map_err(Error::io("list", &dir))?;
            if let Some(n) = entry.file_name().to_str().and_then(|n| n.parse::<u64>().ok()) {
                next = next.max(n + 1);
            }
            drop(jobs.send(Job::Delete(entry.path())));
        }
        let next = Arc::new(AtomicU64::new(next));
        let (trash, numbers) = (dir.clone(), next.clone());
        // Not joined at the end: what is left is deleted by the next start.
        std::thread::Builder::new()
            .name("store-trash".into())
            .spawn(move || work(&trash, &numbers, &queue))
            .map_err(Error::io("start the deleting thread for", &dir))?;
        Ok(Trash { dir, next, jobs })
    }

    /// Makes `path` disappear. What is not there is fine.
    pub fn discard(&self, path: &Path) -> Result<()> {
        let target = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let moved = match fs::rename(path, &target) {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => File::open(&self.dir)
                .and_then(|trash| adopt(AT_FDCWD, path, trash.as_fd()))
                .and_then(|()| fs::rename(path, &target)),
            moved => moved,
        };
        match moved {
            Ok(()) => {
                runtime_sys::failpoint!("trash-moved");
                drop(self.jobs.send(Job::Delete(target)));
                Ok(())
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
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

fn work(trash: &Path, next: &AtomicU64, queue: &mpsc::Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        let mut jobs = vec![job];
        // Somebody waits, or it is enough, or it is quiet.
        while matches!(jobs.last(), Some(Job::Delete(_))) && jobs.len() < MANY {
            let Ok(job) = queue.recv_timeout(QUIET) else { break };
            jobs.push(job);
        }
        jobs.into_iter().for_each(|job| match job {
            Job::Delete(path) => {
                if let Err(error) = delete(trash, next, &path) {
                    tracing::warn!(path = %path.display(), %error, "cannot delete; the next start tries again");
                }
            }
            Job::Settled(tx) => drop(tx.send(())),
        });
    }
}

/// Deletes a tree that may be as deep as its maker liked: what lies deeper than [`DEPTH`] is first moved up into the trash
/// itself and then deleted in its turn, so that neither the stack nor the file descriptors run out.
fn delete(trash: &Path, next: &AtomicU64, path: &Path) -> io::Result<()> {
    let trash = File::open(trash)?;
    let name = path
        .file_name()
        .and_then(|n| CString::new(n.as_bytes()).ok())
        .ok_or(Errno::EINVAL)?;
    let mut doomed = vec![name];
    let mut result = Ok(());
    while let Some(name) = doomed.pop() {
        let mut lift = |dir: BorrowedFd<'_>, name: &CStr| {
            let lifted = CString::new(next.fetch_add(1, Ordering::Relaxed).to_string())?;
            let lift = || nix::fcntl::renameat(dir, name, &trash, lifted.as_c_str());
            match lift() {
                Err(Errno::EXDEV) => adopt(dir, name, trash.as_fd()).and_then(|()| Ok(lift()?)),
                moved => moved.map_err(io::Error::from),
            }?;
            doomed.push(lifted);
            Ok(())
        };
        result = result.and(remove(trash.as_fd(), &name, 0, &mut lift));
    }
    result
}

/// Makes a folder one of the project that the trash hands down (the administrator's, for all of the data root): as one of
/// another project it is not let in (`EXDEV`).
fn adopt<N: NixPath + ?Sized>(dir: BorrowedFd<'_>, name: &N, trash: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let Some(project) = quota::project(trash)? else {
        return Err(Errno::EXDEV.into());
    };
    let folder = openat(dir, name, flags, Mode::empty())?;
    quota::set_project(folder.as_fd(), project, true)
}

fn remove(
    dir: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
    lift: &mut dyn FnMut(BorrowedFd<'_>, &CStr) -> io::Result<()>,
) -> io::Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(e) => return Err(e.into()),
    }
    if depth == DEPTH {
        return lift(dir, name);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut result = Ok(());
    loop {
        let mut folder = Dir::openat(dir, name, flags, Mode::empty())?;
        // In portions: a folder may have more entries than memory should hold.
        let mut names = Vec::new();
        for entry in folder.iter() {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
                if names.len() == PORTION {
                    break;
                }
            }
        }
        let count = names.len();
        for entry in names {
            result = result.and(remove(folder.as_fd(), &entry, depth + 1, lift));
        }
        // What cannot be deleted would be found again and again.
        if count < PORTION || result.is_err() {
            break;
        }
    }
    result.and_then(|()| Ok(unlinkat(dir, name, UnlinkatFlags::RemoveDir)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn very_deep_and_very_wide_trees_go() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        for dir in ["root", "root/trash", "root/deep", "root/wide", "outside"] {
            fs::create_dir(temp.path().join(dir)).unwrap();
        }
        fs::write(temp.path().join("outside/kept"), b"").unwrap();
        std::os::unix::fs::symlink(temp.path().join("outside"), root.join("wide/link")).unwrap();
        for n in 0..PORTION + 10 {
            fs::write(root.join(format!("wide/{n}")), b"").unwrap();
        }
        // Far deeper than a path or a stack goes; made as a container can make it, one step at a time.
        let mut dir: std::os::fd::OwnedFd = File::open(root.join("deep")).unwrap().into();
        for _ in 0..5000 {
            nix::sys::stat::mkdirat(&dir, "d", Mode::from_bits_truncate(0o700)).unwrap();
            dir = openat(&dir, "d", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).unwrap();
        }
        let trash = Trash::open(&root).unwrap();
        trash.discard(&root.join("deep")).unwrap();
        trash.discard(&root.join("wide")).unwrap();
        trash.discard(&root.join("never was there")).unwrap();
        trash.settle();
        assert_eq!(fs::read_dir(root.join("trash")).unwrap().count(), 0);
        assert!(temp.path().join("outside/kept").exists());
    }
}

//! The file with the daemon's process id. A lock on it, not the number in it, says that a daemon runs.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

/// A daemon that was killed while it started a shim leaves a child with the lock's descriptor until that child's `exec`
/// closes it: a lock that does not go away for this long is somebody's.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

/// Held while the daemon runs; removes the file.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // Still ours: nobody else can have the lock.
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes the file, or says who has it.
pub fn claim(path: &Path) -> anyhow::Result<Pidfile> {
    let doing = || format!("cannot write the pidfile {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(doing)?;
    }
    let open = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path);
    let mut file = open.with_context(doing)?;
    let patience = Instant::now() + PATIENCE;
    let mut lock = loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => break lock,
            Err((busy, nix::Error::EWOULDBLOCK)) if Instant::now() < patience => {
                file = busy;
                std::thread::sleep(PAUSE);
            }
            Err((mut busy, nix::Error::EWOULDBLOCK)) => {
                let mut holder = String::new();
                let _ = busy.read_to_string(&mut holder);
                bail!(
                    "process {} is still running with the pidfile {}; stop it first",
                    holder.trim(),
                    path.display()
                );
            }
            Err((_, error)) => return Err(error).with_context(doing),
        }
    };
    lock.set_len(0).with_context(doing)?;
    lock.rewind().with_context(doing)?;
    write!(lock, "{}", std::process::id()).with_context(doing)?;
    Ok(Pidfile {
        path: path.to_owned(),
        _lock: lock,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_daemon_at_a_time_and_leftovers_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/iechord.pid");
        let first = claim(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        let error = claim(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("process {} is still running", std::process::id())),
            "{error}"
        );
        drop(first);
        assert!(!path.exists());
        // Left by a daemon that was killed, with a number that may be anybody's by now.
        fs::write(&path, "1").unwrap();
        let second = claim(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), std::process::id().to_string());
        drop(second);
    }
}

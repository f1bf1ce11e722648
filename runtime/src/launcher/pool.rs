//! Shims that are ready before they are needed.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use runtime_sys::seqpacket;
use tracing::{debug, warn};

/// A shim that waits for its plan.
#[derive(Debug)]
pub(super) struct Warm {
    pub socket: OwnedFd,
    pub child: Child,
}

impl Warm {
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        seqpacket::send(self.socket.as_fd(), message, fds)
    }
}

#[derive(Debug)]
pub(super) struct Pool {
    /// The shim's program, sealed in memory.
    program: Arc<OwnedFd>,
    ready: Mutex<VecDeque<Warm>>,
    wanted: usize,
    refill: Arc<tokio::sync::Notify>,
}

/// How long the daemon has to be idle before a shim is replaced: starting one takes a millisecond of a core, which the
/// container that was just started can use better.
const IDLE: Duration = Duration::from_millis(3);

impl Pool {
    pub fn new(program: &Path, wanted: usize) -> io::Result<Arc<Pool>> {
        let pool = Arc::new(Pool {
            program: Arc::new(super::sealed_program(program)?),
            ready: Mutex::new(VecDeque::new()),
            wanted,
            refill: Arc::default(),
        });
        tokio::spawn(keep_full(Arc::downgrade(&pool), Arc::clone(&pool.refill)));
        pool.refill.notify_one();
        Ok(pool)
    }

    /// A warm shim, or a new one.
    pub async fn take(&self) -> io::Result<Warm> {
        loop {
            let taken = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(mut warm) = taken else { break };
            // One that was killed meanwhile is no loss.
            match warm.child.try_wait() {
                Ok(None) => return Ok(warm),
                other => debug!(?other, "a warm shim has gone"),
            }
        }
        let program = Arc::clone(&self.program);
        tokio::task::spawn_blocking(move || spawn(&program))
            .await
            .map_err(io::Error::other)?
    }

    pub fn refill_later(&self) {
        self.refill.notify_one();
    }

    fn missing(&self) -> usize {
        self.wanted
            .saturating_sub(self.ready.lock().unwrap_or_else(PoisonError::into_inner).len())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.refill.notify_one();
        let ready = std::mem::take(self.ready.get_mut().unwrap_or_else(PoisonError::into_inner));
        for warm in ready {
            drop(warm.socket);
            reap(warm.child);
        }
    }
}

/// Runs as long as the pool, which it holds only while it fills it.
async fn keep_full(pool: Weak<Pool>, refill: Arc<tokio::sync::Notify>) {
    loop {
        refill.notified().await;
        tokio::time::sleep(IDLE).await;
        loop {
            let Some(pool) = pool.upgrade() else { return };
            if pool.missing() == 0 {
                break;
            }
            let program = Arc::clone(&pool.program);
            match tokio::task::spawn_blocking(move || spawn(&program)).await {
                Ok(Ok(warm)) => pool
                    .ready
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_back(warm),
                Ok(Err(error)) => {
                    // A start will try by itself and tell its user.
                    warn!(%error, "cannot keep a shim ready");
                    break;
                }
                Err(_) => return,
            }
        }
    }
}

/// Starts a shim, with its socket as standard input.
fn spawn(program: &OwnedFd) -> io::Result<Warm> {
    let (ours, theirs) = seqpacket::pair()?;
    runtime_sys::fd::set_nonblocking(ours.as_fd(), true)?;
    // Resolved in the child before its descriptors are closed. Only arguments that posix_spawn can do are used: no
    // `pre_exec`, no user, no working folder.
    let child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .arg0("iechor-shim")
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .env_clear()
        .spawn()?;
    Ok(Warm { socket: ours, child })
}

/// Waits for a shim that is about to end, so that it does not stay as a zombie.
pub(super) fn reap(mut child: Child) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(async move {
            // A shim ends when everybody has their output; nothing else tells us when that is.
            let mut pause = Duration::from_millis(2);
            while let Ok(None) = child.try_wait() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        })),
        // The daemon ends: whoever inherits the shim reaps it.
        Err(_) => drop(child),
    }
}

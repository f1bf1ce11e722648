//! Shims that are ready before they are needed.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use runtime_sys::seqpacket;
use tracing::{debug, warn};

use super::nursery::{Child, Nursery, exec};

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
    program: OwnedFd,
    nursery: Mutex<Option<Nursery>>,
    ready: Mutex<VecDeque<Warm>>,
    wanted: usize,
    last_taken: Mutex<Option<Instant>>,
    refill: Arc<tokio::sync::Notify>,
}

/// How long nobody must have taken a shim before those are replaced: starting one takes a millisecond of a core, which the
/// container that was just started, and what its user does next, can use better. Its whole life takes some 6 ms.
const IDLE: Duration = Duration::from_millis(20);
/// The same with little left: the next start would have to make its own.
const URGENT: Duration = Duration::from_millis(3);

impl Pool {
    pub fn new(program: &Path, wanted: usize) -> io::Result<Arc<Pool>> {
        let pool = Arc::new(Pool {
            program: super::sealed_program(program)?,
            nursery: Mutex::new(None),
            ready: Mutex::new(VecDeque::new()),
            wanted,
            last_taken: Mutex::new(None),
            refill: Arc::default(),
        });
        tokio::spawn(keep_full(Arc::downgrade(&pool), Arc::clone(&pool.refill)));
        pool.refill.notify_one();
        Ok(pool)
    }

    /// A warm shim, or a new one.
    pub async fn take(self: &Arc<Self>) -> io::Result<Warm> {
        *self.last_taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        loop {
            let taken = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(mut warm) = taken else { break };
            // One that was killed meanwhile is no loss.
            if !warm.child.has_ended() {
                return Ok(warm);
            }
            debug!("a warm shim has gone");
        }
        let pool = Arc::clone(self);
        tokio::task::spawn_blocking(move || pool.make())
            .await
            .map_err(io::Error::other)?
    }

    /// A new shim, by copy where shims are kept ready at all; otherwise nothing of them is there when none is needed.
    fn make(&self) -> io::Result<Warm> {
        if self.wanted == 0 {
            return exec(&self.program);
        }
        let mut nursery = self.nursery.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was killed meanwhile is no loss.
        for _ in 0..2 {
            let made = nursery.take().map_or_else(|| Nursery::start(&self.program), Ok);
            let copied = made.and_then(|made| made.bear().map(|warm| (made, warm)));
            match copied {
                Ok((made, warm)) => {
                    *nursery = Some(made);
                    return Ok(warm);
                }
                Err(error) => debug!(%error, "the nursery of shims is of no use"),
            }
        }
        drop(nursery);
        exec(&self.program)
    }

    pub fn refill_later(&self) {
        self.refill.notify_one();
    }

    fn left(&self) -> usize {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How long to wait before shims are replaced; nothing when it is time.
    fn wait(&self) -> Option<Duration> {
        let taken = (*self.last_taken.lock().unwrap_or_else(PoisonError::into_inner))?;
        let idle = if self.left() <= self.wanted / 4 { URGENT } else { IDLE };
        idle.checked_sub(taken.elapsed()).filter(|rest| !rest.is_zero())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.refill.notify_one();
        let ready = std::mem::take(self.ready.get_mut().unwrap_or_else(PoisonError::into_inner));
        for warm in ready {
            drop(warm.socket);
            warm.child.wait_later();
        }
    }
}

/// Runs as long as the pool, which it holds only while it fills it.
async fn keep_full(pool: Weak<Pool>, refill: Arc<tokio::sync::Notify>) {
    loop {
        refill.notified().await;
        while let Some(rest) = pool.upgrade().and_then(|pool| pool.wait()) {
            // Whoever takes another one meanwhile may leave so little that this cannot wait.
            let _ = tokio::time::timeout(rest, refill.notified()).await;
        }
        // Now that the core is disturbed, all of them.
        loop {
            let Some(pool) = pool.upgrade() else { return };
            if pool.left() >= pool.wanted {
                break;
            }
            let maker = Arc::clone(&pool);
            match tokio::task::spawn_blocking(move || maker.make()).await {
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

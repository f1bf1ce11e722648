//! A live shim, as the daemon sees it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use nix::errno::Errno;
use tokio::sync::{OnceCell, watch};
use tracing::debug;

use super::error::ShimError;
use super::link::{Answer, Connected, Link, Presence, Progress, Running, ended, unseen};
use super::pool::Pool;
use super::{Attach, sealed};
use crate::exit::{Exit, read_exit};
use crate::log::LogState;
use crate::plan::ExecPlan;
use crate::proto::{INIT, INLINE_PLAN, Place, Request, VERSION};
use crate::start_error::StartError;
use crate::wire::Wire;

/// A running container's shim. Cheap to clone; dropping the last one disconnects, and the shim lives on.
#[derive(Debug, Clone)]
pub struct Shim {
    pub(super) link: Arc<Link>,
    pub(super) pid: i32,
    pub(super) shim_pid: i32,
    pub(super) started_at: SystemTime,
    pub(super) exit: watch::Receiver<Progress>,
    /// Where the shims of execs come from.
    pool: Arc<Pool>,
    /// What its first exec was told: it holds until the container ends, whose sleeping shim need not be woken for each.
    place: Arc<OnceCell<Option<(Box<Place>, OwnedFd)>>>,
}

impl Shim {
    pub(super) fn new(running: Running, pool: &Arc<Pool>) -> Shim {
        let Running {
            link,
            shim_pid,
            pid,
            started_at,
            progress,
        } = running;
        Shim {
            link,
            pid,
            shim_pid,
            started_at,
            exit: progress,
            pool: Arc::clone(pool),
            place: Arc::default(),
        }
    }

    /// The container's first process, in the daemon's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The shim's own process.
    pub fn shim_pid(&self) -> i32 {
        self.shim_pid
    }

    /// When the program began to run.
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    pub(super) fn presence(&self) -> Presence {
        Presence::of(&self.link)
    }

    /// Where the shim leaves its exit record: read by [`Shim::wait`] if the shim itself is lost. Known for containers
    /// that this daemon started; to be told after [`super::Launcher::reconnect`].
    pub fn set_exit_file(&self, path: PathBuf) {
        *self
            .link
            .shared
            .exit_file
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(path);
    }

    /// Waits for the container's end, and that all of its output was read. Returns code 255 if the shim was lost and
    /// left no record.
    pub async fn wait(&self) -> Exit {
        if let Some(exit) = ended(self.exit.clone()).await {
            return exit;
        }
        let path = self
            .link
            .shared
            .exit_file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        path.and_then(|path| read_exit(&path).ok().flatten())
            .unwrap_or_else(unseen)
    }

    /// How the log fares, as far as the shim has told. Ends with the last handle of the shim.
    pub fn log(&self) -> watch::Receiver<LogState> {
        self.link.shared.log.subscribe()
    }

    /// Sends a signal to the container's first process.
    ///
    /// # Errors
    /// [`ShimError::NoProcess`] when it has ended.
    pub async fn signal(&self, signal: i32) -> Result<(), ShimError> {
        self.link
            .done(
                |tag| Request::Signal {
                    tag,
                    process: INIT,
                    signal,
                },
                &[],
            )
            .await
    }

    /// Tells the container's terminal its size.
    ///
    /// # Errors
    /// When it has none, or has ended.
    pub async fn resize(&self, rows: u16, cols: u16) -> Result<(), ShimError> {
        self.link
            .done(
                |tag| Request::Resize {
                    tag,
                    process: INIT,
                    rows,
                    cols,
                },
                &[],
            )
            .await
    }

    /// Attaches a further client; it sees the output from now on.
    ///
    /// # Errors
    /// [`ShimError::NoProcess`] when the container has ended.
    pub async fn attach(&self, attach: Attach) -> Result<(), ShimError> {
        let streams = attach.streams();
        self.link
            .done(|tag| Request::Attach { tag, streams }, &[attach.socket.as_fd()])
            .await
    }

    /// Runs a further process in the container and returns when its program runs. It has a shim of its own: that of the
    /// container has given up the rights that this takes.
    ///
    /// # Errors
    /// As [`super::Launcher::start`].
    pub async fn exec(&self, exec: ExecPlan, attach: Option<Attach>) -> Result<ExecHandle, StartError> {
        if *self.exit.borrow() != Progress::Running {
            return Err(StartError::not_running());
        }
        let place = self.place.get_or_try_init(|| self.place()).await?;
        let encoded = exec.encode();
        let file = if encoded.len() > INLINE_PLAN {
            Some(sealed(&encoded)?)
        } else {
            None
        };
        let plan = file.is_none().then(|| Box::new(exec));
        match place {
            Some((place, init)) => self.exec_in(place.clone(), init, plan, file, attach).await,
            None => self.exec_by_runtime(plan, file, attach).await,
        }
    }

    /// By a shim of its own.
    async fn exec_in(
        &self,
        place: Box<Place>,
        init: &OwnedFd,
        plan: Option<Box<ExecPlan>>,
        file: Option<OwnedFd>,
        attach: Option<Attach>,
    ) -> Result<ExecHandle, StartError> {
        let message = Request::ExecIn {
            version: VERSION,
            plan,
            attach: attach.as_ref().map(Attach::streams),
            place,
        };
        let fds: Vec<BorrowedFd<'_>> = std::iter::once(init)
            .chain(&file)
            .chain(attach.iter().map(|attach| &attach.socket))
            .map(AsFd::as_fd)
            .collect();
        let no_shim = |source| StartError::no_shim(&source);
        let warm = self.pool.take().await.map_err(no_shim)?;
        warm.send(&message.encode(), &fds).map_err(no_shim)?;
        drop(fds);
        drop(attach);
        let running = Connected::begin(warm, None).map_err(no_shim)?.started().await;
        self.pool.refill_later();
        let Running {
            link, pid, progress, ..
        } = running?;
        Ok(ExecHandle {
            link,
            process: INIT,
            pid,
            progress,
        })
    }

    /// By the runtime that made the container, in the container's shim.
    async fn exec_by_runtime(
        &self,
        plan: Option<Box<ExecPlan>>,
        file: Option<OwnedFd>,
        attach: Option<Attach>,
    ) -> Result<ExecHandle, StartError> {
        let streams = attach.as_ref().map(Attach::streams);
        let fds: Vec<BorrowedFd<'_>> = file
            .iter()
            .chain(attach.iter().map(|attach| &attach.socket))
            .map(AsFd::as_fd)
            .collect();
        let request = |tag| Request::Exec {
            tag,
            plan,
            attach: streams,
        };
        match self.link.request(request, &fds).await {
            Ok(Answer::Exec { process, pid, progress }) => Ok(ExecHandle {
                link: Arc::clone(&self.link),
                process,
                pid,
                progress,
            }),
            other => Err(refused(other)),
        }
    }

    /// What a process that enters the container needs to know, and the container's first process. `None`: another
    /// runtime made the container.
    async fn place(&self) -> Result<Option<(Box<Place>, OwnedFd)>, StartError> {
        match self.link.request(|tag| Request::Enter { tag }, &[]).await {
            Ok(Answer::Place(place, init)) => Ok(Some((place, init))),
            Ok(Answer::Done(errno)) if Errno::from_raw(errno) == Errno::ENOTSUP => Ok(None),
            other => Err(refused(other)),
        }
    }

    /// Tells the shim that the exit is recorded: it cleans up and ends. Whether it did; one that has gone already may have
    /// left things.
    pub async fn release(&self) -> bool {
        self.link.shared.released.store(true, Ordering::Release);
        let released = self.link.done(|tag| Request::Release { tag }, &[]).await;
        if let Err(error) = &released {
            debug!(%error, shim = self.shim_pid, "release");
        }
        released.is_ok()
    }
}

/// A further process in a container. Dropping it leaves the process alone.
#[derive(Debug, Clone)]
pub struct ExecHandle {
    link: Arc<Link>,
    /// Its number in its shim.
    process: u32,
    pid: i32,
    progress: watch::Receiver<Progress>,
}

impl ExecHandle {
    /// The process, in the daemon's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for the process' end. Code 255 if the shim was lost.
    pub async fn wait(&self) -> Exit {
        ended(self.progress.clone()).await.unwrap_or_else(unseen)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// [`ShimError::NoProcess`] when it has ended.
    pub async fn signal(&self, signal: i32) -> Result<(), ShimError> {
        let process = self.process;
        self.link
            .done(|tag| Request::Signal { tag, process, signal }, &[])
            .await
    }

    /// Tells its terminal its size.
    ///
    /// # Errors
    /// When it has none, or has ended.
    pub async fn resize(&self, rows: u16, cols: u16) -> Result<(), ShimError> {
        let process = self.process;
        self.link
            .done(
                |tag| Request::Resize {
                    tag,
                    process,
                    rows,
                    cols,
                },
                &[],
            )
            .await
    }
}

/// Why there is no exec.
fn refused(answer: Result<Answer, ShimError>) -> StartError {
    match answer {
        Ok(Answer::Failed(error)) => error,
        Err(ShimError::Refused(error)) => StartError::no_shim(&error),
        Ok(_) | Err(_) => StartError::gone(),
    }
}

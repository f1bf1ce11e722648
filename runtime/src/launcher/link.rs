//! The connection to a shim: requests and their answers by tag, and news without being asked.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};
use tracing::debug;

use runtime_sys::seqpacket;

use super::client::Shim;
use super::error::ShimError;
use super::foreign;
use super::nursery::Child;
use super::pool::{Pool, Warm};
use crate::exit::Exit;
use crate::log::LogState;
use crate::proto::{Event, INIT, Place, Request, Time, VERSION};
use crate::start_error::StartError;
use crate::wire::Wire;

/// How far a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Running,
    Ended(Exit),
    /// The connection is gone without news.
    Lost,
}

/// A connection with its reader.
#[derive(Debug)]
pub(super) struct Link {
    socket: Arc<AsyncFd<Socket>>,
    pub shared: Arc<Shared>,
    reader: tokio::task::AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        // Ends the connection: the reader holds the other reference to the socket.
        self.reader.abort();
    }
}

#[derive(Debug)]
struct Socket(OwnedFd);

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What the reader and the requests share.
#[derive(Debug)]
pub(super) struct Shared {
    next_tag: AtomicU32,
    state: Mutex<State>,
    init: watch::Sender<Progress>,
    pub log: watch::Sender<LogState>,
    /// Where the exit may be found when the shim is gone.
    pub exit_file: Mutex<Option<PathBuf>>,
    /// Whether the connection is over, by the shim's end or ours.
    over: watch::Sender<bool>,
    pub released: AtomicBool,
}

/// Whether a container's shim is still there.
#[derive(Debug, Clone)]
pub(super) struct Presence(std::sync::Weak<Shared>);

impl Presence {
    pub fn of(link: &Link) -> Presence {
        Presence(Arc::downgrade(&link.shared))
    }

    pub fn is_over(&self) -> bool {
        self.0.upgrade().is_none_or(|shared| *shared.over.borrow())
    }

    /// Waits for the end of a shim that was released. False: it was not released, or does not end.
    pub async fn wait_end(&self, limit: Duration) -> bool {
        let Some(shared) = self.0.upgrade() else { return true };
        let mut over = shared.over.subscribe();
        if !*over.borrow() && !shared.released.load(Ordering::Acquire) {
            return false;
        }
        tokio::time::timeout(limit, over.wait_for(|over| *over)).await.is_ok()
    }
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<u32, oneshot::Sender<Answer>>,
    execs: HashMap<u32, watch::Sender<Progress>>,
    /// Told once: the start's outcome, or the state of a shim that was found running.
    greeting: Option<oneshot::Sender<Greeting>>,
    closed: bool,
}

#[derive(Debug)]
pub(super) enum Answer {
    Done(i32),
    Place(Box<Place>, OwnedFd),
    Exec {
        process: u32,
        pid: i32,
        progress: watch::Receiver<Progress>,
    },
    Failed(StartError),
}

#[derive(Debug)]
enum Greeting {
    Started {
        pid: i32,
        at: Time,
    },
    Failed(StartError),
    State {
        version: u32,
        shim: i32,
        pid: i32,
        started: Option<Time>,
    },
}

/// A connection whose first news is still to come.
pub(super) struct Connected {
    link: Arc<Link>,
    greeting: oneshot::Receiver<Greeting>,
    shim_pid: i32,
}

/// A process that runs, and whoever keeps it.
pub(super) struct Running {
    pub link: Arc<Link>,
    pub shim_pid: i32,
    pub pid: i32,
    pub started_at: SystemTime,
    pub progress: watch::Receiver<Progress>,
}

impl Connected {
    pub fn begin(warm: Warm, exit_file: Option<PathBuf>) -> io::Result<Connected> {
        let shim_pid = warm.child.pid();
        Connected::new(warm.socket, Some(warm.child), shim_pid, exit_file)
    }

    /// Talks to a shim that runs already. `None`: it ended while we connected.
    pub async fn resume(socket: OwnedFd, pool: &Arc<Pool>) -> io::Result<Option<Shim>> {
        let connected = Connected::new(socket, None, 0, None)?;
        let mut init = connected.link.shared.init.subscribe();
        let Ok(Greeting::State {
            version,
            shim,
            mut pid,
            started,
        }) = connected.greeting.await
        else {
            return Ok(None);
        };
        if version != VERSION {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("it speaks version {version}, this daemon version {VERSION}"),
            ));
        }
        let started_at = match started {
            Some(at) => SystemTime::from(&at),
            // Found in the middle of a start: that is a matter of milliseconds.
            None => match connected.link.shared.wait_started(&mut init).await {
                Some((first, at)) => {
                    pid = first;
                    at
                }
                None => return Ok(None),
            },
        };
        let running = Running {
            link: connected.link,
            shim_pid: shim,
            pid,
            started_at,
            progress: init,
        };
        Ok(Some(Shim::new(running, pool)))
    }

    fn new(socket: OwnedFd, child: Option<Child>, shim_pid: i32, exit_file: Option<PathBuf>) -> io::Result<Connected> {
        // The successor of `new` is unsafe, for types whose descriptor can change; `Socket` owns the one it has.
        #[allow(deprecated)]
        let socket = Arc::new(AsyncFd::new(Socket(socket))?);
        let (told, greeting) = oneshot::channel();
        let shared = Arc::new(Shared {
            next_tag: AtomicU32::new(1),
            state: Mutex::new(State {
                greeting: Some(told),
                ..State::default()
            }),
            init: watch::Sender::new(Progress::Running),
            log: watch::Sender::new(LogState::default()),
            exit_file: Mutex::new(exit_file),
            over: watch::Sender::new(false),
            released: AtomicBool::new(false),
        });
        let reader = tokio::spawn(read_events(Arc::clone(&socket), Arc::clone(&shared), child)).abort_handle();
        Ok(Connected {
            link: Arc::new(Link { socket, shared, reader }),
            greeting,
            shim_pid,
        })
    }

    /// The outcome of the start.
    pub async fn started(self) -> Result<Running, StartError> {
        let progress = self.link.shared.init.subscribe();
        match self.greeting.await {
            Ok(Greeting::Started { pid, at }) => Ok(Running {
                link: self.link,
                shim_pid: self.shim_pid,
                pid,
                started_at: SystemTime::from(&at),
                progress,
            }),
            Ok(Greeting::Failed(error)) => Err(error),
            Ok(Greeting::State { .. }) | Err(_) => Err(StartError::gone()),
        }
    }
}

/// The end of a connection, however it comes: the shim's process is ours to be waited for, also when the connection
/// was given up, in which case it may live for long.
struct End {
    child: Option<Child>,
    shared: Arc<Shared>,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(child) = self.child.take() {
            child.wait_later();
        }
    }
}

async fn read_events(socket: Arc<AsyncFd<Socket>>, shared: Arc<Shared>, child: Option<Child>) {
    let _end = End {
        child,
        shared: Arc::clone(&shared),
    };
    let mut buffer = Vec::new();
    loop {
        let received = socket
            .async_io(Interest::READABLE, |socket| {
                let Some(length) = seqpacket::next_length(socket.0.as_fd())? else {
                    return Ok((0, Vec::new()));
                };
                buffer.resize(length, 0);
                seqpacket::receive(socket.0.as_fd(), &mut buffer)
            })
            .await;
        match received {
            Ok((count, fds)) if count > 0 => match Event::decode(buffer.get(..count).unwrap_or_default()) {
                Ok(event) => shared.handle(event, fds),
                Err(error) => {
                    debug!(%error, "a shim's message is not understood");
                    break;
                }
            },
            // The shim of an exec ended without having read what we sent. The kernel says so once; its words come after.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            _ => break,
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, event: Event, fds: Vec<OwnedFd>) {
        let mut state = self.lock();
        match event {
            Event::Started { pid, at } => greet(&mut state, Greeting::Started { pid, at }),
            Event::Failed { tag: 0, failure } => greet(
                &mut state,
                Greeting::Failed(StartError::new(foreign::clarified(failure))),
            ),
            Event::Failed { tag, failure } => answer(
                &mut state,
                tag,
                Answer::Failed(StartError::new(foreign::clarified(failure))),
            ),
            Event::Done { tag, errno } => answer(&mut state, tag, Answer::Done(errno)),
            Event::ExecStarted { tag, process, pid } => {
                // Made here, so that an end that follows at once is not missed.
                let sender = watch::Sender::new(Progress::Running);
                let progress = sender.subscribe();
                state.execs.insert(process, sender);
                answer(&mut state, tag, Answer::Exec { process, pid, progress });
            }
            Event::Exited { process: INIT, exit } => {
                self.init.send_replace(Progress::Ended(Exit::from(&exit)));
            }
            Event::Exited { process, exit } => {
                if let Some(sender) = state.execs.remove(&process) {
                    sender.send_replace(Progress::Ended(Exit::from(&exit)));
                }
            }
            Event::Log { errno, rotations } => {
                self.log.send_replace(LogState { errno, rotations });
            }
            Event::Place { tag, place } => {
                let found = fds.into_iter().next().map(|init| Answer::Place(place, init));
                answer(&mut state, tag, found.unwrap_or(Answer::Failed(StartError::gone())));
            }
            // Said by one that has no container.
            Event::Born { .. } => debug!("a shim that was not asked for another tells of one"),
            Event::State {
                version,
                shim,
                pid,
                started,
                exit,
            } => {
                if let Some(exit) = exit {
                    self.init.send_replace(Progress::Ended(Exit::from(&exit)));
                }
                greet(
                    &mut state,
                    Greeting::State {
                        version,
                        shim,
                        pid,
                        started,
                    },
                );
            }
        }
    }

    /// The connection is over.
    fn close(&self) {
        {
            let mut state = self.lock();
            *state = State {
                closed: true,
                ..State::default()
            };
        }
        self.init.send_if_modified(|progress| {
            let lost = *progress == Progress::Running;
            if lost {
                *progress = Progress::Lost;
            }
            lost
        });
        self.over.send_replace(true);
    }

    async fn wait_started(&self, init: &mut watch::Receiver<Progress>) -> Option<(i32, SystemTime)> {
        let (told, greeting) = oneshot::channel();
        self.lock().greeting = Some(told);
        tokio::select! {
            greeting = greeting => match greeting {
                Ok(Greeting::Started { pid, at }) => Some((pid, SystemTime::from(&at))),
                _ => None,
            },
            _ = init.wait_for(|progress| *progress != Progress::Running) => None,
        }
    }
}

fn greet(state: &mut State, greeting: Greeting) {
    if let Some(told) = state.greeting.take() {
        // Nobody listens when the start was given up.
        let _ = told.send(greeting);
    }
}

fn answer(state: &mut State, tag: u32, answer: Answer) {
    if let Some(waiting) = state.answers.remove(&tag) {
        let _ = waiting.send(answer);
    }
}

impl Link {
    pub async fn request(
        &self,
        make: impl FnOnce(u32) -> Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answer, ShimError> {
        let tag = self.shared.next_tag.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            if state.closed {
                return Err(ShimError::Gone);
            }
            state.answers.insert(tag, sender);
        }
        let message = make(tag).encode();
        let sent = self
            .socket
            .async_io(Interest::WRITABLE, |socket| {
                seqpacket::send(socket.0.as_fd(), &message, fds)
            })
            .await;
        if let Err(error) = sent {
            self.shared.lock().answers.remove(&tag);
            return Err(if error.kind() == io::ErrorKind::BrokenPipe {
                ShimError::Gone
            } else {
                ShimError::Refused(error)
            });
        }
        receiver.await.map_err(|_| ShimError::Gone)
    }

    pub async fn done(&self, make: impl FnOnce(u32) -> Request, fds: &[BorrowedFd<'_>]) -> Result<(), ShimError> {
        match self.request(make, fds).await? {
            Answer::Done(0) => Ok(()),
            Answer::Done(errno) => Err(ShimError::of(errno)),
            Answer::Place(..) | Answer::Exec { .. } | Answer::Failed(_) => Err(ShimError::Gone),
        }
    }
}

pub(super) async fn ended(mut progress: watch::Receiver<Progress>) -> Option<Exit> {
    match progress
        .wait_for(|progress| *progress != Progress::Running)
        .await
        .as_deref()
    {
        Ok(Progress::Ended(exit)) => Some(*exit),
        _ => None,
    }
}

/// What is told of a process whose end nobody saw: its shim was killed.
pub(super) fn unseen() -> Exit {
    Exit {
        code: 255,
        signal: None,
        oom: false,
        at: SystemTime::now(),
    }
}

//! The daemon's side of the shims.
//!
//! ```text
//! Launcher ── warm pool ──► start(plan) ──► Shim ── signal · resize · attach · exec · wait · release
//!     └── reconnect(id) after a restart ─────┘
//! ```
//!
//! The shim's program is run from a sealed copy in memory, so that no container can overwrite it through
//! `/proc/PID/exe`. The first is started by `posix_spawn` (no copy of the daemon's memory); it copies itself for the others,
//! while nothing else is to do.

mod client;
mod error;
mod foreign;
mod link;
mod nursery;
mod pool;

pub use crate::start_error::{StartError, StartErrorKind};
pub use client::{ExecHandle, Shim};
pub use error::{LauncherError, ShimError};

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::plan::Plan;
use crate::proto::{INLINE_PLAN, Request, Streams, VERSION};
use crate::wire::{Blob, Wire};
use runtime_sys::seqpacket;

use link::{Connected, Presence};
use pool::Pool;

/// How long a released shim may take to end before its container is started again.
const FORMER_SHIM: Duration = Duration::from_secs(5);

/// Where shims come from and where they live.
#[derive(Debug, Clone)]
pub struct LauncherConfig {
    /// The program `iechor-shim`.
    pub shim: PathBuf,
    /// Folder for the shims' sockets; made when absent, open to the owner alone.
    pub state: PathBuf,
    /// How many shims are kept ready.
    pub warm: usize,
}

/// A client attached to a process' streams: its socket at the shim's end (`AF_UNIX`, `SOCK_STREAM`; the other end
/// stays with the caller), and in which streams it takes part.
///
/// Without a terminal the shim sends Docker's frames (8 bytes of header), with one the bytes as they are; what it
/// receives is the process' input.
#[derive(Debug)]
pub struct Attach {
    /// The shim's end.
    pub socket: OwnedFd,
    /// The client types.
    pub stdin: bool,
    /// The client sees standard output.
    pub stdout: bool,
    /// The client sees standard error.
    pub stderr: bool,
}

impl Attach {
    fn streams(&self) -> Streams {
        Streams {
            stdin: self.stdin,
            stdout: self.stdout,
            stderr: self.stderr,
        }
    }
}

/// Descriptors that go with a plan.
#[derive(Debug, Default)]
pub struct StartFds {
    /// Namespaces to join; the plan refers to them by index.
    pub joined: Vec<OwnedFd>,
    /// Clients attached from the first byte on.
    pub attach: Vec<Attach>,
}

/// Starts containers, and finds them again. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Launcher {
    state: Arc<PathBuf>,
    pool: Arc<Pool>,
    /// Containers whose shims may still live, so that one that is started again waits for its former shim's end.
    former: Arc<Mutex<HashMap<String, Presence>>>,
}

impl Launcher {
    /// Prepares the state folder and the shim's program, and begins to fill the pool. Within a tokio runtime.
    ///
    /// # Errors
    /// When the folder cannot be made or the program not be read.
    pub fn new(config: LauncherConfig) -> Result<Launcher, LauncherError> {
        use std::os::unix::fs::DirBuilderExt;
        let LauncherConfig { shim, state, warm } = config;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&state)
            .map_err(|source| LauncherError::State {
                path: state.clone(),
                source,
            })?;
        let pool = Pool::new(&shim, warm).map_err(|source| LauncherError::Program {
            path: shim.clone(),
            source,
        })?;
        Ok(Launcher {
            state: Arc::new(state),
            pool,
            former: Arc::default(),
        })
    }

    /// Starts a container and returns when its program runs. `plan.head.socket` is set by the launcher.
    ///
    /// # Errors
    /// In Docker's words; nothing of the container is left then.
    pub async fn start(&self, mut plan: Plan, fds: StartFds) -> Result<Shim, StartError> {
        plan.head.socket = self.socket(&plan.head.id)?;
        let id = plan.head.id.clone();
        self.wait_for_former(&id).await?;
        let exit_file = plan.head.exit_file.clone();
        let encoded = plan.encode();
        let (inline, file) = if encoded.len() <= INLINE_PLAN {
            (Some(Blob(encoded)), None)
        } else {
            (None, Some(sealed(&encoded)?))
        };
        let message = Request::Start {
            version: VERSION,
            plan: inline,
            joined: fds.joined.len() as u32,
            attach: fds.attach.iter().map(Attach::streams).collect(),
        };
        let sent: Vec<BorrowedFd<'_>> = file
            .iter()
            .chain(&fds.joined)
            .chain(fds.attach.iter().map(|attach| &attach.socket))
            .map(AsFd::as_fd)
            .collect();
        let warm = self.pool.take().await.map_err(|source| StartError::no_shim(&source))?;
        let message = message.encode();
        if let Err(source) = warm.send(&message, &sent) {
            return Err(StartError::no_shim(&source));
        }
        drop(sent);
        let StartFds { joined, attach } = fds;
        // The shim's ends alone keep the clients' streams open.
        drop(attach);
        let connected = Connected::begin(warm, Some(exit_file)).map_err(|source| StartError::no_shim(&source))?;
        let shim = connected.started().await.map(|running| Shim::new(running, &self.pool));
        // Another runtime opens namespaces by path, out of this process' descriptors.
        drop(joined);
        self.pool.refill_later();
        self.remember(&id, shim.as_ref().ok());
        shim
    }

    /// A released shim still lets go of mounts (overlayfs wants its upper folder for itself) when it has answered.
    async fn wait_for_former(&self, id: &str) -> Result<(), StartError> {
        let former = self
            .former
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned();
        match former {
            Some(former) if former.wait_end(FORMER_SHIM).await => Ok(()),
            Some(_) => Err(StartError::running(id)),
            None => Ok(()),
        }
    }

    fn remember(&self, id: &str, shim: Option<&Shim>) {
        let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        if former.len() >= 64 && former.len().is_power_of_two() {
            former.retain(|_, presence| !presence.is_over());
        }
        if let Some(shim) = shim {
            former.insert(id.to_owned(), shim.presence());
        }
    }

    /// The shim of a container that a daemon before us started; `None` when there is no live one (its exit record may
    /// be in the plan's exit file). `exit_file` is that of the plan.
    ///
    /// # Errors
    /// When the state folder cannot be read, or the shim answers in another language.
    pub async fn reconnect(&self, id: &str) -> Result<Option<Shim>, LauncherError> {
        let path = self
            .socket(id)
            .map_err(|_| LauncherError::BadId { id: id.to_owned() })?;
        let failed = |source| LauncherError::Connect {
            path: path.clone(),
            source,
        };
        let socket = match seqpacket::connect(&path) {
            Ok(socket) => socket,
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc_errno::ENOENT | libc_errno::ECONNREFUSED)
                ) =>
            {
                // A shim that was killed left its name behind, for as long as that tells somebody something (`sweep`).
                return Ok(None);
            }
            Err(error) => return Err(failed(error)),
        };
        let shim = Connected::resume(socket, &self.pool).await.map_err(failed)?;
        self.remember(id, shim.as_ref());
        Ok(shim)
    }

    /// Removes the name of a socket at which nobody listens any more: of a shim that was killed.
    pub fn sweep(&self, id: &str) {
        if let Ok(path) = self.socket(id)
            && seqpacket::connect(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        {
            let _ = std::fs::remove_file(&path);
        }
    }

    /// The ids of containers that have a socket in the state folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn live(&self) -> Result<Vec<String>, LauncherError> {
        let failed = |source| LauncherError::State {
            path: (*self.state).clone(),
            source,
        };
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&*self.state).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".sock")) {
                ids.push(id.to_owned());
            }
        }
        Ok(ids)
    }

    fn socket(&self, id: &str) -> Result<PathBuf, StartError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if id.is_empty() || id.starts_with('.') || !id.bytes().all(plain) {
            return Err(StartError::bad_id(id));
        }
        Ok(self.state.join(format!("{id}.sock")))
    }
}

/// Content in memory that nobody can change any more.
fn sealed(content: &[u8]) -> Result<OwnedFd, StartError> {
    sealed_file(c"iechor-plan", content).map_err(|source| StartError::no_shim(&source))
}

fn sealed_file(name: &std::ffi::CStr, content: &[u8]) -> std::io::Result<OwnedFd> {
    use std::io::Write;
    let mut file = std::fs::File::from(runtime_sys::fd::memory_file(name)?);
    file.write_all(content)?;
    runtime_sys::fd::seal(file.as_fd())?;
    Ok(file.into())
}

/// A sealed copy of a program.
fn sealed_program(path: &Path) -> std::io::Result<OwnedFd> {
    sealed_file(c"iechor-shim", &std::fs::read(path)?)
}

/// The two numbers that tell an absent listener, under the name that the C library gives them.
mod libc_errno {
    pub const ENOENT: i32 = nix::errno::Errno::ENOENT as i32;
    pub const ECONNREFUSED: i32 = nix::errno::Errno::ECONNREFUSED as i32;
}

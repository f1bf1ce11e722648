//! Why a container or an exec did not start, in Docker's words where a user sees them.

use std::fmt;
#[cfg(feature = "host")]
use std::io;

use nix::errno::Errno;

use crate::proto::{Failure, Step};

/// What is said of a shim that was killed.
const SHIM_GONE: &str = "the container's shim ended unexpectedly";

/// What kind of failure a failed start is; clients give different exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartErrorKind {
    /// The program does not exist (127).
    NotFound,
    /// The program may not or cannot be run (126).
    NotExecutable,
    /// The user or a group does not exist in the container (125/126).
    UserNotFound,
    /// The container, or its user, may have no more processes.
    NoProcess,
    /// Anything else.
    Other,
}

/// Why a container or an exec did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    failure: Failure,
}

impl std::error::Error for StartError {}

impl StartError {
    /// From what a child or a shim reported.
    pub fn new(failure: Failure) -> StartError {
        StartError { failure }
    }

    /// The step that failed.
    pub fn step(&self) -> &Step {
        &self.failure.step
    }

    /// Whether the shim was killed over it, and could take nothing back.
    pub fn is_shim_gone(&self) -> bool {
        self.failure.step == Step::Vanished && self.failure.subject.as_os_str() == SHIM_GONE
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> StartErrorKind {
        use StartErrorKind::{NoProcess, NotExecutable, NotFound, Other, UserNotFound};
        match (&self.failure.step, Errno::from_raw(self.failure.errno)) {
            (Step::Lookup | Step::Exec, Errno::ENOENT) => NotFound,
            (Step::Lookup | Step::Exec, Errno::EACCES | Errno::EPERM | Errno::ENOEXEC | Errno::EISDIR) => NotExecutable,
            (Step::Lookup, Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => NotFound,
            (Step::Clone | Step::Exec, Errno::EAGAIN) => NoProcess,
            (Step::User, _) => UserNotFound,
            (Step::Foreign, _) => kind_in_words(&self.failure.message),
            _ => Other,
        }
    }
}

/// Other runtimes have nothing but words for what went wrong: runc's and crun's, by which dockerd tells it too.
fn kind_in_words(message: &str) -> StartErrorKind {
    let message = message.to_lowercase();
    let says = |words: &str| message.contains(words);
    if !says("exec") {
        StartErrorKind::Other
    } else if says("executable file") && says("not found") || says("no such file or directory") {
        StartErrorKind::NotFound
    } else if says("permission denied") || says("is a directory") || says("exec format error") {
        StartErrorKind::NotExecutable
    } else {
        StartErrorKind::Other
    }
}

/// What goes wrong around a shim.
#[cfg(feature = "host")]
impl StartError {
    pub(crate) fn no_shim(error: &io::Error) -> StartError {
        StartError::own("the container's shim could not be used", error.to_string())
    }

    pub(crate) fn gone() -> StartError {
        StartError::own(SHIM_GONE, String::new())
    }

    /// As the shim itself says it.
    pub(crate) fn not_running() -> StartError {
        StartError {
            failure: Failure {
                step: Step::Join,
                subject: Default::default(),
                errno: Errno::ESRCH as i32,
                message: "the container is not running".to_owned(),
            },
        }
    }

    pub(crate) fn running(id: &str) -> StartError {
        StartError::own(
            &format!("container {id} still has a shim; wait for its end and release it first"),
            String::new(),
        )
    }

    pub(crate) fn bad_id(id: &str) -> StartError {
        StartError::own(&format!("{id:?} is no container id"), String::new())
    }

    fn own(what: &str, message: String) -> StartError {
        StartError {
            failure: Failure {
                step: Step::Vanished,
                subject: what.into(),
                errno: 0,
                message,
            },
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure {
            step,
            subject,
            errno,
            message,
        } = &self.failure;
        let subject = subject.to_string_lossy();
        let errno = Errno::from_raw(*errno);
        // As Go words errors: lower case.
        let reason = errno.desc().to_lowercase();
        match (step, errno) {
            (Step::Lookup, _) if !message.is_empty() && subject.is_empty() => return f.write_str(message),
            (Step::Lookup, _) if !message.is_empty() => return write!(f, "exec: \"{subject}\": {message}"),
            (Step::Lookup, Errno::EACCES) => return write!(f, "exec: \"{subject}\": permission denied"),
            (Step::Lookup, Errno::EISDIR) => return write!(f, "exec: \"{subject}\": is a directory"),
            (Step::Lookup, _) => return write!(f, "exec: \"{subject}\": stat {subject}: {reason}"),
            (Step::Exec, Errno::EAGAIN) => {
                return write!(
                    f,
                    "exec {subject}: resource temporarily unavailable: a limit of processes is reached"
                );
            }
            (Step::Exec, Errno::ENOEXEC) => return write!(f, "exec {subject}: exec format error"),
            (Step::Exec, _) => return write!(f, "exec {subject}: {reason}"),
            (Step::User, _) => return f.write_str(message),
            _ => {}
        }
        match step {
            Step::Plan => f.write_str("cannot carry out the container's plan")?,
            Step::Cgroup => write!(f, "cannot set up cgroup {subject}")?,
            Step::CgroupJoin => write!(f, "cannot put the process into cgroup {subject}")?,
            Step::Log => write!(f, "cannot open log {subject}")?,
            Step::Clone => f.write_str("cannot create the container's process")?,
            Step::Join => write!(f, "cannot join namespace {subject}")?,
            Step::Root => write!(f, "cannot mount the root file system at {subject}")?,
            Step::Mount => write!(f, "cannot mount {subject}")?,
            Step::Device => write!(f, "cannot make device {subject}")?,
            Step::Symlink => write!(f, "cannot make symlink {subject}")?,
            Step::Terminal => write!(f, "cannot set up the terminal ({subject})")?,
            Step::Mask => write!(f, "cannot mask {subject}")?,
            Step::Readonly => write!(f, "cannot make {subject} read-only")?,
            Step::Sysctl => write!(f, "cannot set sysctl {subject}")?,
            Step::Hostname => write!(f, "cannot set host or domain name {subject}")?,
            Step::Pivot => f.write_str("cannot change to the container's root")?,
            Step::Rlimit => write!(f, "cannot set resource limit {subject}")?,
            Step::OomScore => write!(f, "cannot set oom_score_adj to {subject}")?,
            Step::Cwd => write!(f, "cannot change to working directory {subject:?}")?,
            Step::Identity => write!(f, "cannot become {subject}")?,
            Step::Capabilities => write!(f, "cannot set capabilities {subject}")?,
            Step::Seccomp => f.write_str("cannot load the seccomp profile")?,
            Step::Streams => write!(f, "cannot set up standard streams ({subject})")?,
            Step::Socket => write!(f, "cannot listen at {subject}")?,
            Step::IdMap => write!(f, "cannot map users: {subject}")?,
            Step::Hook => write!(f, "hook {subject} failed")?,
            Step::Tuning => write!(f, "cannot set {subject}")?,
            Step::Label => write!(f, "cannot set the label {subject}")?,
            Step::Time => write!(f, "cannot set the clocks of the time namespace ({subject})")?,
            Step::NetDevice => write!(f, "cannot move network interface {subject} into the container")?,
            Step::Rdt => write!(f, "cannot set up the resource class {subject}")?,
            Step::Listener => write!(f, "cannot hand the seccomp listener to {subject}")?,
            Step::Keyring => f.write_str("cannot make a session keyring")?,
            Step::Foreign => write!(f, "OCI runtime {subject} failed")?,
            Step::Vanished if subject.is_empty() => f.write_str("the process ended during its set-up")?,
            Step::Vanished => f.write_str(&subject)?,
            Step::User | Step::Lookup | Step::Exec => {}
        }
        match (message.is_empty(), self.failure.errno) {
            (true, 0) => Ok(()),
            (true, _) => write!(f, ": {reason}"),
            (false, 0) => write!(f, ": {message}"),
            (false, _) => write!(f, ": {message}: {reason}"),
        }
    }
}

/// An error and all that lies below it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

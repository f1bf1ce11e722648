//! What can go wrong, in Docker's words where scripts match words; one [`Kind`] per error decides the status.

use crate::cdi::CdiError;
use std::io;

use crate::ids::ContainerId;

/// What sort of failure an error is; adapters map it to HTTP status or gRPC code, each in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 404, `NOT_FOUND`.
    NotFound,
    /// 400, `INVALID_ARGUMENT`.
    InvalidArgument,
    /// 409, `FAILED_PRECONDITION` (or `ALREADY_EXISTS`).
    Conflict,
    /// 401.
    Unauthorized,
    /// 403, `PERMISSION_DENIED`.
    Forbidden,
    /// 503, `UNAVAILABLE`.
    Unavailable,
    /// 501, `UNIMPLEMENTED`.
    NotImplemented,
    /// 500, `INTERNAL`.
    Internal,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousId(String),
    #[error("No such image: {0}")]
    NoSuchImage(String),
    #[error("repository {0} not found: it has no tags to pull")]
    NoTags(String),
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    #[error("error looking up volume plugin {0}: plugin \"{0}\" not found")]
    NoSuchVolumeDriver(String),
    #[error("network {0} not found")]
    NoSuchNetwork(String),
    #[error("Could not find the file {path} in container {container}")]
    NoSuchFile { path: String, container: String },
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken { name: String, holder: ContainerId },
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    BadName(String),
    /// A request that contradicts itself or the rules; the text says which value and why.
    #[error("{0}")]
    Invalid(String),
    #[error(
        "image with reference {name} was found but does not provide the specified platform ({wanted}); it is for {own}"
    )]
    OtherPlatform { name: String, wanted: String, own: String },
    /// The object is in a state that does not admit the request; the text names both.
    #[error("{0}")]
    Conflict(String),
    #[error(
        "cannot remove container \"/{name}\": container is {state}: stop the container before removing or force remove"
    )]
    StillRunning { name: String, state: &'static str },
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
    #[error("removal of container {0} is already in progress")]
    Removing(ContainerId),
    #[error("{feature} is not supported by this version of iEchor")]
    Unsupported { feature: String },
    #[error(
        "could not select device driver \"{driver}\" with capabilities: {}",
        go_lists(capabilities)
    )]
    NoDeviceDriver {
        driver: String,
        capabilities: Vec<Vec<String>>,
    },
    #[error("CDI device injection failed: {0}")]
    NoDevice(String),
    #[error("configured logging driver does not support reading")]
    NotReadable,
    #[error("error while mounting volume '{volume}'")]
    VolumeMount { volume: String, source: Box<Error> },
    /// The program could not be started; the source has Docker's words for the reason.
    #[error("failed to start container {id}")]
    Start {
        id: ContainerId,
        source: runtime::launcher::StartError,
    },
    #[error("cannot run exec in container {id}")]
    ExecStart {
        id: ContainerId,
        source: runtime::launcher::StartError,
    },
    #[error("container {id}: the runtime failed")]
    Runtime {
        id: ContainerId,
        source: runtime::launcher::ShimError,
    },
    #[error(transparent)]
    Launcher(#[from] runtime::launcher::LauncherError),
    #[error(
        "failed to set up container networking: driver failed programming external connectivity on endpoint {owner}"
    )]
    Ports { owner: String, source: network::Error },
    #[error(transparent)]
    Cgroup(#[from] runtime::cgroup::CgroupError),
    #[error("the systemd cgroup driver failed")]
    Systemd(#[from] runtime_systemd::Error),
    #[error(transparent)]
    Store(#[from] agent_store::Error),
    #[error(transparent)]
    Registry(#[from] agent_registry::Error),
    /// The registry did not take the credentials.
    #[error("login attempt to {registry} failed")]
    Login {
        registry: String,
        source: agent_registry::Error,
    },
    #[error(transparent)]
    Network(#[from] network::Error),
    #[error("cannot {doing}")]
    Io { doing: String, source: io::Error },
    #[error("the stored record of {what} cannot be read")]
    Record { what: String, source: serde_json::Error },
    #[error("the daemon is shutting down")]
    ShuttingDown,
    #[error("too many operations wait; try again")]
    Busy,
    /// A task that carried the operation ended early: a defect, reported rather than hidden.
    #[error("the operation was cut off inside the daemon")]
    CutOff,
}

/// As Go prints lists of lists.
fn go_lists(lists: &[Vec<String>]) -> String {
    let each: Vec<String> = lists.iter().map(|list| format!("[{}]", list.join(" "))).collect();
    format!("[{}]", each.join(" "))
}

impl From<CdiError> for Error {
    fn from(error: CdiError) -> Error {
        match error {
            CdiError::Unresolvable { .. } => Error::NoDevice(error.to_string()),
            CdiError::Unsupported { device, edit } => Error::unsupported(format!("{edit} of the CDI device {device}")),
        }
    }
}

impl Error {
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let doing = doing.into();
        move |source| Error::Io { doing, source }
    }

    pub fn invalid(text: impl Into<String>) -> Error {
        Error::Invalid(text.into())
    }

    pub fn unsupported(feature: impl Into<String>) -> Error {
        Error::Unsupported {
            feature: feature.into(),
        }
    }

    /// The sort of this failure; total, so that a new variant is a decision.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NoSuchContainer(_)
            | Error::NoSuchImage(_)
            | Error::NoTags(_)
            | Error::OtherPlatform { .. }
            | Error::NoSuchExec(_)
            | Error::NoSuchFile { .. }
            | Error::NoSuchVolume(_)
            | Error::NoSuchVolumeDriver(_)
            | Error::NoSuchNetwork(_) => Kind::NotFound,
            Error::AmbiguousId(_) | Error::BadName(_) | Error::Invalid(_) => Kind::InvalidArgument,
            Error::NameTaken { .. }
            | Error::Conflict(_)
            | Error::StillRunning { .. }
            | Error::NotRunning(_)
            | Error::Removing(_) => Kind::Conflict,
            Error::Unsupported { .. } | Error::NotReadable => Kind::NotImplemented,
            Error::Start { source, .. } | Error::ExecStart { source, .. } => match source.kind() {
                // dockerd answers 400 where the user named a program or user that is not there.
                runtime::launcher::StartErrorKind::NotFound
                | runtime::launcher::StartErrorKind::NotExecutable
                | runtime::launcher::StartErrorKind::UserNotFound => Kind::InvalidArgument,
                // What was asked for in the limits does not let it start.
                runtime::launcher::StartErrorKind::NoProcess => Kind::Conflict,
                runtime::launcher::StartErrorKind::Other => Kind::Internal,
            },
            Error::Login { source, .. } => match source.kind() {
                agent_registry::Kind::Unauthorized | agent_registry::Kind::Denied => Kind::Unauthorized,
                _ => registry_kind(source),
            },
            Error::Store(error) => store_kind(error),
            Error::Registry(error) => registry_kind(error),
            Error::Network(error) => network_kind(error),
            Error::Ports { .. } | Error::Systemd(_) | Error::NoDeviceDriver { .. } | Error::NoDevice(_) => {
                Kind::Internal
            }
            Error::Cgroup(error) => match error {
                runtime::cgroup::CgroupError::Invalid { .. } => Kind::InvalidArgument,
                _ => Kind::Internal,
            },
            Error::VolumeMount { source, .. } => source.kind(),
            Error::Runtime { .. } | Error::Launcher(_) | Error::Io { .. } | Error::Record { .. } | Error::CutOff => {
                Kind::Internal
            }
            Error::ShuttingDown | Error::Busy => Kind::Unavailable,
        }
    }

    /// The message with its causes, as one line for an API answer.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let part = error.to_string();
            // Some messages have their cause's words in them already.
            let words = part.split(" (os error").next().unwrap_or_default().to_lowercase();
            if !text.to_lowercase().contains(&words) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }
}

fn store_kind(error: &agent_store::Error) -> Kind {
    match error.kind() {
        agent_store::Kind::NotFound => Kind::NotFound,
        agent_store::Kind::Conflict => Kind::Conflict,
        agent_store::Kind::Forbidden => Kind::Forbidden,
        agent_store::Kind::Invalid | agent_store::Kind::TooLarge => Kind::InvalidArgument,
        agent_store::Kind::Unsupported => Kind::NotImplemented,
        agent_store::Kind::NoSpace | agent_store::Kind::Internal => Kind::Internal,
    }
}

fn registry_kind(error: &agent_registry::Error) -> Kind {
    use agent_registry::Kind as Registry;
    // What a web server says of a file is no secret, and dockerd passes it on.
    let of_a_file = matches!(error, agent_registry::Error::Download { .. });
    match error.kind() {
        Registry::Unauthorized if of_a_file => Kind::Unauthorized,
        Registry::Denied if of_a_file => Kind::Forbidden,
        Registry::InvalidReference => Kind::InvalidArgument,
        // Docker answers 404 for what may be private: clients show the text.
        Registry::NotFound | Registry::Denied => Kind::NotFound,
        Registry::Unauthorized => Kind::Internal,
        Registry::TooManyRequests | Registry::Unavailable | Registry::Corrupt => Kind::Internal,
        Registry::Unsupported => Kind::InvalidArgument,
    }
}

fn network_kind(error: &network::Error) -> Kind {
    match error.kind() {
        network::Kind::Invalid => Kind::InvalidArgument,
        network::Kind::Conflict => Kind::Conflict,
        network::Kind::Exhausted | network::Kind::System => Kind::Internal,
    }
}

//! Why a call failed, in one line.

use std::fmt;

use runtime::start_error::chain;

/// A message with the exit code that goes with it. The chain of sources is part of the message: callers (containerd,
/// conmon) read it from the log and show it as it is.
#[derive(Debug)]
pub struct Error {
    message: String,
    /// Of this process.
    pub code: u8,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure with nothing below it.
    pub fn new(message: impl Into<String>) -> Error {
        Error {
            message: message.into(),
            code: 1,
        }
    }

    /// With another exit code than 1.
    pub fn with_code(mut self, code: u8) -> Error {
        self.code = code;
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Error {
        Error::new(chain(&error))
    }
}

/// Says what was being done when an error came up.
pub trait Context<T> {
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: std::error::Error> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::new(format!("{what}: {}", chain(&error))))
    }
}

/// A failure of a container's or a process' set-up.
pub fn of_failure(failure: runtime::proto::Failure) -> Error {
    use runtime::start_error::{StartError, StartErrorKind};
    let error = StartError::new(failure);
    let code = match error.kind() {
        StartErrorKind::NotFound => 127,
        StartErrorKind::NotExecutable => 126,
        StartErrorKind::UserNotFound | StartErrorKind::NoProcess | StartErrorKind::Other => 1,
    };
    Error::from(error).with_code(code)
}

//! What a command ends with: words for stderr and an exit code.

use std::fmt;

/// The daemon refused, or the command line is wrong.
pub const REFUSED: u8 = 125;
/// The program in the image cannot be executed.
pub const NOT_EXECUTABLE: u8 = 126;
/// There is no such program in the image.
pub const NOT_FOUND: u8 = 127;

/// A command that did not do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    /// Empty when everything was said already (or the container's own exit code is all there is to say).
    pub message: String,
    pub code: u8,
}

pub type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    /// An ordinary failure: exit code 1.
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            code: 1,
        }
    }

    /// Only an exit code.
    pub fn code(code: u8) -> Failure {
        Failure {
            message: String::new(),
            code,
        }
    }

    pub fn with_code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Any error: its words, then each cause once.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let words = inner.to_string();
            if !message.contains(&words) {
                message.push_str(": ");
                message.push_str(&words);
            }
            cause = inner.source();
        }
        Failure::new(message)
    }
}

/// `fail!("words {}", x)` leaves the function with a failure.
macro_rules! fail {
    ($($words:tt)*) => { return Err($crate::failure::Failure::new(format!($($words)*))) };
}
pub(crate) use fail;

/// Several objects, one after the other: everything is tried, every refusal told, the exit code 1 if there was one.
#[derive(Debug, Default)]
pub struct Tally {
    failures: Vec<String>,
}

impl Tally {
    /// Notes a failure; `None` when there was one.
    pub fn note<T>(&mut self, outcome: std::result::Result<T, impl Into<Failure>>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(failure) => {
                self.failures.push(failure.into().message);
                None
            }
        }
    }

    pub fn end(self) -> Result {
        if self.failures.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(self.failures.join("\n")))
        }
    }
}

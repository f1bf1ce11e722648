//! Errors of the set-up: which step, on what, the kernel's reason.

use std::ffi::OsStr;
use std::io;

use nix::errno::Errno;
use runtime::proto::{Failure, Step};

pub type Result<T> = std::result::Result<T, Failure>;

/// A failure that is not the kernel's, or says more than its errno.
pub fn failure(step: Step, subject: impl AsRef<OsStr>, errno: Errno, message: impl Into<String>) -> Failure {
    Failure {
        step,
        subject: subject.as_ref().to_owned(),
        errno: errno as i32,
        message: message.into(),
    }
}

/// Names the step and the subject of an error.
pub trait At<T> {
    fn at(self, step: Step, subject: impl AsRef<OsStr>) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, step: Step, subject: impl AsRef<OsStr>) -> Result<T> {
        self.map_err(|error| Failure {
            step,
            subject: subject.as_ref().to_owned(),
            errno: error.raw_os_error().unwrap_or(0),
            // Errors of the kernel are told by number and put into words by the daemon.
            message: if error.raw_os_error().is_some() {
                String::new()
            } else {
                error.to_string()
            },
        })
    }
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, step: Step, subject: impl AsRef<OsStr>) -> Result<T> {
        self.map_err(|errno| failure(step, subject, errno, ""))
    }
}

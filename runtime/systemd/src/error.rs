//! What can go wrong between us and systemd.

use std::io;

/// Why systemd did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another init is process 1.
    #[error("this machine was not booted with systemd (there is no /run/systemd/system): use the cgroupfs driver")]
    NotBooted,
    /// Not root.
    #[error("the systemd cgroup driver needs root: units of a user's own systemd are not supported")]
    Rootless,
    /// The environment names a bus that we cannot reach.
    #[error(
        "DBUS_SYSTEM_BUS_ADDRESS is {address:?}: of bus addresses only unix:path= and unix:abstract= are supported"
    )]
    Address {
        /// As it stands in the environment.
        address: String,
    },
    /// Nobody answers there.
    #[error("cannot connect to systemd at {place}")]
    Connect {
        /// A socket.
        place: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The other side does not take us for who we are.
    #[error("{place} refused our user id: {answer:?}")]
    Refused {
        /// A socket.
        place: String,
        /// What was said instead of OK.
        answer: String,
    },
    /// The connection broke.
    #[error("lost the connection to systemd during {during}")]
    Lost {
        /// The call.
        during: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("systemd did not finish {during} within {seconds} s")]
    Timeout {
        /// The call, or the job.
        during: String,
        /// The limit.
        seconds: u64,
    },
    /// What came is not D-Bus, or not the answer to our question.
    #[error("what systemd answered to {during} cannot be read: {why}")]
    Malformed {
        /// The call.
        during: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something that we were given cannot be sent.
    #[error("cannot send {during} to systemd: {why}")]
    Unsendable {
        /// The call.
        during: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// systemd said no.
    #[error("systemd refused {during}: {message} ({name})")]
    Call {
        /// The call and the unit.
        during: String,
        /// The D-Bus name of the error.
        name: String,
        /// systemd's words.
        message: String,
    },
    /// The unit runs already.
    #[error("the systemd unit {unit} exists already; choose another name, or stop it: systemctl stop {unit}")]
    UnitExists {
        /// Its name.
        unit: String,
    },
    /// A job ended in another way than done.
    #[error("the systemd unit {unit} was not {verb}: its job ended with {result:?}; see systemctl status {unit}")]
    Job {
        /// The unit.
        unit: String,
        /// "started" or "stopped".
        verb: &'static str,
        /// `canceled`, `timeout`, `failed`, `dependency`, `skipped`.
        result: String,
    },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

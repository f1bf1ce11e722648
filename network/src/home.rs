//! The network namespace that a [`Network`](crate::Network) belongs to.

use std::os::fd::OwnedFd;

use runtime_sys::netns;

use crate::error::{Error, Result};

/// Most things need no care: a netlink socket stays where it was made. Binding a port and reading /proc/sys do.
#[derive(Debug)]
pub struct Home {
    /// `None`: that of the process, where every thread is already.
    elsewhere: Option<OwnedFd>,
}

impl Home {
    /// The calling thread's.
    pub fn here() -> Result<Self> {
        let open = || match netns::is_process_namespace()? {
            true => Ok(None),
            false => netns::current().map(Some),
        };
        Ok(Self {
            elsewhere: open().map_err(Error::system("open the host's network namespace"))?,
        })
    }

    /// Does this there.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        match &self.elsewhere {
            None => Ok(work()),
            Some(namespace) => {
                netns::within(namespace, work).map_err(Error::system("enter the host's network namespace"))
            }
        }
    }
}

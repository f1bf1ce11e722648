//! Hearing of OOM kills as they happen.
//!
//! v1 tells by an event descriptor that is registered with the group. v2 marks `memory.events` itself, for poll(2), until it
//! is read: an inotify instance for each container would be more than a user may have (128 by default).

use super::detect::Place;
use super::{CgroupPath, Cgroups, Result, io_error};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;

/// Becomes ready when something happens for want of memory; on v1 also when the group goes away.
#[derive(Debug)]
pub struct OomWatch(Source);

#[derive(Debug)]
enum Source {
    V1(EventFd),
    V2(File),
}

impl OomWatch {
    /// What poll(2) is to wait for: `POLLPRI` instead of `POLLIN`.
    pub fn is_priority(&self) -> bool {
        matches!(self.0, Source::V2(_))
    }

    /// Takes what has been told, so that the next event can be heard.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has been told; others when the group is gone.
    pub fn take(&self) -> io::Result<()> {
        match &self.0 {
            // What is told at the group's end looks the same; the count of kills tells them apart.
            Source::V1(event) => event.read().map(drop).map_err(io::Error::from),
            Source::V2(events) => events.read_at(&mut [0; 512], 0).map(drop),
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Source::V1(event) => event.as_fd(),
            Source::V2(events) => events.as_fd(),
        }
    }
}

impl AsRawFd for OomWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Cgroups {
    /// Watches a container's group; `None` where nobody counts memory.
    ///
    /// # Errors
    /// When the group is gone, or the kernel has no descriptors to spare.
    pub fn oom_watch(&self, path: &CgroupPath) -> Result<Option<OomWatch>> {
        let source = match self.tree.place("memory", path) {
            None => return Ok(None),
            Some(Place::V1(folder)) => {
                let control = folder.join("memory.oom_control");
                let file = File::open(&control).map_err(|error| io_error("open", &control, error))?;
                let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
                let event = EventFd::from_value_and_flags(0, flags)
                    .map_err(|error| io_error("make an event descriptor for", &control, error.into()))?;
                let register = folder.join("cgroup.event_control");
                fs::write(&register, format!("{} {}", event.as_raw_fd(), file.as_raw_fd()))
                    .map_err(|error| io_error("write", &register, error))?;
                Source::V1(event)
            }
            Some(Place::V2(folder)) => {
                let events = folder.join("memory.events");
                let file = File::open(&events).map_err(|error| io_error("open", &events, error))?;
                // Marked from the beginning, until it is read for the first time.
                file.read_at(&mut [0; 512], 0)
                    .map_err(|error| io_error("read", &events, error))?;
                Source::V2(file)
            }
        };
        Ok(Some(OomWatch(source)))
    }
}

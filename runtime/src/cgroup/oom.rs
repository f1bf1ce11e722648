//! Hearing of OOM kills as they happen.
//!
//! v1 tells by an event descriptor that is registered with the group, v2 by a change of `memory.events`.

use super::detect::Place;
use super::{CgroupPath, Cgroups, Result, io_error};
use nix::sys::eventfd::{EfdFlags, EventFd};
use runtime_sys::inotify::{Inotify, Watch};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Becomes readable when something happens for want of memory, or the group goes away.
#[derive(Debug)]
pub struct OomWatch(Source);

#[derive(Debug)]
enum Source {
    V1(EventFd),
    V2(Inotify),
}

impl OomWatch {
    /// Takes what has been told, so that the next event can be heard. `false`: the group is gone.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has been told.
    pub fn take(&self) -> io::Result<bool> {
        match &self.0 {
            // What is told at the group's end looks the same; the count tells them apart.
            Source::V1(event) => event.read().map(|_| true).map_err(io::Error::from),
            Source::V2(inotify) => Ok(inotify.drain()? == Watch::Changed),
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Source::V1(event) => event.as_fd(),
            Source::V2(inotify) => inotify.as_fd(),
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
                let watch = Inotify::new().and_then(|inotify| {
                    inotify.watch_folder(&folder)?;
                    Ok(inotify)
                });
                Source::V2(watch.map_err(|error| io_error("watch", &folder, error))?)
            }
        };
        Ok(Some(OomWatch(source)))
    }
}

//! Namespaces that a child can only get from the process that makes it: joined ones, and the clocks of a new one.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use runtime::plan::TimeOffset;
use runtime::proto::Step;

use crate::Host;
use crate::failure::{At, Result, failure};

/// `CLONE_NEWTIME`, which `nix` lacks. In the range of `clone`'s signal numbers, so that only `clone3`, `unshare` and
/// `setns` take it.
pub const CLONE_NEWTIME: u64 = 0x80;

/// `CLONE_NEW*` kinds and their names below `/proc/PID/ns`.
const KINDS: [(u64, &str); 8] = [
    (libc::CLONE_NEWUSER as u64, "user"),
    (libc::CLONE_NEWNS as u64, "mnt"),
    (libc::CLONE_NEWPID as u64, "pid"),
    (libc::CLONE_NEWNET as u64, "net"),
    (libc::CLONE_NEWIPC as u64, "ipc"),
    (libc::CLONE_NEWUTS as u64, "uts"),
    (libc::CLONE_NEWCGROUP as u64, "cgroup"),
    (CLONE_NEWTIME, "time"),
];

/// What a kind is called.
pub fn name(kind: u64) -> &'static str {
    KINDS
        .iter()
        .find(|(flag, _)| *flag == kind)
        .map_or("?", |(_, name)| name)
}

/// `setns(2)` for any kind.
pub fn enter(namespace: BorrowedFd<'_>, kinds: u64) -> nix::Result<()> {
    setns(namespace, CloneFlags::from_bits_retain(kinds as i32))
}

/// Namespaces that this process has entered for the time of a clone. [`Detour::home`] must be called, and its error is
/// fatal: a process that cannot come back is of no further use.
#[derive(Default)]
pub struct Detour {
    own: Vec<(u64, OwnedFd)>,
}

impl Detour {
    /// Enters a namespace (or, by a process descriptor, that of a process) of this kind.
    pub fn enter(&mut self, host: &Host, namespace: BorrowedFd<'_>, kind: u64) -> Result<()> {
        self.remember(host, kind)?;
        enter(namespace, kind).at(Step::Join, format!("{} namespace", name(kind)))
    }

    /// Makes a time namespace for children and sets its clocks.
    pub fn new_clocks(&mut self, host: &Host, offsets: &[TimeOffset]) -> Result<()> {
        self.remember(host, CLONE_NEWTIME)?;
        unshare(CloneFlags::from_bits_retain(CLONE_NEWTIME as i32)).at(Step::Time, "unshare")?;
        for TimeOffset { clock, seconds, nanos } in offsets {
            let file = host.open_proc("self/timens_offsets", OFlag::O_WRONLY);
            let line = format!("{clock} {seconds} {nanos}\n");
            file.and_then(|file| nix::unistd::write(&file, line.as_bytes()))
                .at(Step::Time, line.trim_end())?;
        }
        Ok(())
    }

    fn remember(&mut self, host: &Host, kind: u64) -> Result<()> {
        let path = format!("self/ns/{}", name(kind));
        let own = host.open_proc(&path, OFlag::O_RDONLY).at(Step::Join, &path)?;
        self.own.push((kind, own));
        Ok(())
    }

    /// Goes back to where this process was.
    pub fn home(self) -> Result<()> {
        use std::os::fd::AsFd;
        let mut outcome = Ok(());
        for (kind, own) in self.own.iter().rev() {
            if let Err(errno) = enter(own.as_fd(), *kind) {
                outcome = Err(failure(Step::Join, format!("own {} namespace", name(*kind)), errno, ""));
            }
        }
        outcome
    }
}

/// A namespace that came along with the plan.
pub fn sent(fds: &[OwnedFd], index: u32) -> Result<BorrowedFd<'_>> {
    use std::os::fd::AsFd;
    fds.get(index as usize)
        .map(AsFd::as_fd)
        .ok_or_else(|| failure(Step::Join, index.to_string(), Errno::EBADF, "not sent"))
}

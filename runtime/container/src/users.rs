//! Maps of users: of the container's user namespace, and of namespaces that exist only to map mounts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::{Gid, Uid, fchown};
use runtime::plan::{IdMap, OomScoreAdj, Rlimit};
use runtime::proto::Step;
use runtime_sys::clone::{Cloned, clone3, exit_now, reap};
use runtime_sys::{pidfd, privilege, seqpacket};

use crate::Host;
use crate::failure::{At, Result, failure};

/// Says who is who in the new user namespace of a process, `uid_map(5)`.
pub fn write_maps(host: &Host, pid: i32, map: &IdMap) -> Result<()> {
    let write = |file: &str, text: &str| {
        let path = format!("{pid}/{file}");
        // One write: the kernel takes a map once and whole.
        let written = host
            .open_proc(&path, OFlag::O_WRONLY)
            .and_then(|file| nix::unistd::write(&file, text.as_bytes()));
        written.map(drop)
    };
    let lines = |ranges| runtime::plan::lines(ranges);
    match write("gid_map", &lines(&map.groups)) {
        // Somebody without rights over the outer groups may map the own one alone, and then leave no group.
        Err(Errno::EPERM) if !nix::unistd::geteuid().is_root() => {
            write("setgroups", "deny").at(Step::IdMap, "setgroups")?;
            write("gid_map", &lines(&map.groups)).at(Step::IdMap, "groups")?;
        }
        other => other.at(Step::IdMap, "groups")?,
    }
    write("uid_map", &lines(&map.users)).at(Step::IdMap, "users")
}

/// A user namespace that nobody is in, to map mounts with.
pub fn namespace(host: &Host, map: &IdMap) -> Result<OwnedFd> {
    let (ours, theirs) = seqpacket::pair().at(Step::IdMap, "socket")?;
    let cloned = clone3(&host.single, libc::CLONE_NEWUSER as u64, None).at(Step::IdMap, "clone")?;
    let Cloned::Parent { pid, pidfd } = cloned else {
        drop(ours);
        // Until the other end is closed, by a word that never comes.
        let _ = seqpacket::receive(theirs.as_fd(), &mut [0]);
        exit_now(0);
    };
    drop(theirs);
    let path = format!("{pid}/ns/user");
    let opened =
        write_maps(host, pid, map).and_then(|()| host.open_proc(&path, OFlag::O_RDONLY).at(Step::IdMap, "namespace"));
    let _ = pidfd::signal(pidfd.as_fd(), libc::SIGKILL);
    let _ = reap(pid, true);
    opened
}

/// Gives pipes to root of a process' user namespace, so that they can be opened by name (`/dev/stdout`) in there, and given
/// on to another user. What is not a pipe is somebody else's.
pub fn own_streams(host: &Host, pid: i32, streams: &[Option<BorrowedFd<'_>>]) {
    let root = |file: &str| {
        let file = host.open_proc(&format!("{pid}/{file}"), OFlag::O_RDONLY).ok()?;
        let text = std::io::read_to_string(std::fs::File::from(file)).ok()?;
        text.lines().find_map(|line| {
            let mut numbers = line.split_whitespace();
            (numbers.next() == Some("0")).then(|| numbers.next()?.parse::<u32>().ok())?
        })
    };
    let owner = (root("uid_map").map(Uid::from_raw), root("gid_map").map(Gid::from_raw));
    for stream in streams.iter().flatten() {
        let kind = fstat(stream).map(|about| SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT);
        if kind == Ok(SFlag::S_IFIFO) {
            // They work without; only the name does not.
            let _ = fchown(stream, owner.0, owner.1);
        }
    }
}

/// What only the host's rights can give a process that has left them behind: higher limits, a lower OOM score.
pub fn grant(host: &Host, pid: i32, limits: &[Rlimit], score: Option<&OomScoreAdj>) -> Result<()> {
    for limit in limits {
        // What the process can do by itself, and how errors are told, is its own matter.
        let _ = privilege::raise_limit_of(pid, limit.resource, limit.hard);
    }
    let Some(score) = score else { return Ok(()) };
    let path = format!("{pid}/oom_score_adj");
    let written = host
        .open_proc(&path, OFlag::O_WRONLY)
        .and_then(|file| nix::unistd::write(&file, score.value.to_string().as_bytes()));
    match written {
        Err(errno) if score.strict => Err(failure(Step::OomScore, score.value.to_string(), errno, "")),
        _ => Ok(()),
    }
}

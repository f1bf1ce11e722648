//! From the shim's rights down to those of the plan.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use runtime::plan::{Caps, ProcessPlan, Rlimit};
use runtime::proto::Step;
use runtime_sys::privilege::{self, Capabilities};
use runtime_sys::{seccomp, seqpacket};

use super::Inherited;
use super::users::Identity;
use crate::failure::{At, Result, failure};
use crate::report::word;

pub fn limits(limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        let (resource, soft, hard) = (limit.resource, limit.soft, limit.hard);
        let set = privilege::set_limit(resource, soft, hard).or_else(|error| {
            if limit.strict || error.raw_os_error() != Some(libc::EPERM) {
                return Err(error);
            }
            // Without CAP_SYS_RESOURCE no limit can be raised: a default takes what there is.
            let (_, highest) = privilege::limit(resource)?;
            privilege::set_limit(resource, soft.min(highest), hard.min(highest))
        });
        set.at(Step::Rlimit, name(resource))?;
    }
    Ok(())
}

/// Raises hard limits while the host's rights are still there; [`limits`] says what did not work.
pub fn raise_limits(limits: &[Rlimit]) {
    for limit in limits {
        if let Ok((soft, hard)) = privilege::limit(limit.resource)
            && hard < limit.hard
        {
            let _ = privilege::set_limit(limit.resource, soft, limit.hard);
        }
    }
}

fn name(resource: u32) -> String {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    NAMES
        .get(resource as usize)
        .map_or_else(|| resource.to_string(), |name| (*name).to_owned())
}

/// Takes on user, groups, capabilities and the seccomp program.
///
/// The program is loaded as late as can be ([`Rest`]), so that it need not allow what is done before the container's own
/// begins.
pub fn apply(plan: &ProcessPlan, identity: &Identity) -> Result<Rest> {
    match privilege::set_groups(&identity.groups) {
        // A namespace of an unprivileged user has no groups to give, and none to take away.
        Err(error)
            if error.raw_os_error() == Some(libc::EPERM) && identity.groups.iter().all(|gid| *gid == identity.gid) => {}
        other => other.at(Step::Identity, "groups")?,
    }
    privilege::set_group(identity.gid).at(Step::Identity, identity.gid.to_string())?;
    let held = privilege::capabilities().at(Step::Capabilities, "")?;
    bounding(plan.caps.bounding).at(Step::Capabilities, "bounding set")?;
    if identity.uid != 0 {
        privilege::keep_capabilities(true).at(Step::Capabilities, "")?;
    }
    privilege::set_user(identity.uid).at(Step::Identity, identity.uid.to_string())?;
    // A change of user makes the kernel fall back to its default, which an administrator may have changed.
    privilege::set_dumpable(false).at(Step::Identity, "")?;
    let mut caps = plan.caps;
    if plan.no_new_privs && identity.uid != 0 {
        // What `exec` takes away from a user anyway; but a file with capabilities would keep what is still there, which is
        // not what "no new privileges" is asked for.
        caps.permitted &= caps.ambient;
        caps.effective &= caps.ambient;
    }
    let rest = Rest {
        caps,
        held: held.permitted,
        filtered: !plan.seccomp.is_empty(),
    };
    if plan.no_new_privs {
        privilege::no_new_privileges().at(Step::Seccomp, "no_new_privs")?;
    } else if rest.filtered {
        // Without no_new_privs, loading a program takes this right.
        let loading = Caps {
            permitted: caps.permitted | SYS_ADMIN,
            effective: caps.effective | SYS_ADMIN,
            ambient: 0,
            ..caps
        };
        capabilities(&loading, rest.held)?;
        return Ok(rest);
    }
    capabilities(&caps, rest.held)?;
    Ok(rest)
}

const SYS_ADMIN: u64 = 1 << 21;

/// What is left to do right before the program runs.
pub struct Rest {
    caps: Caps,
    held: u64,
    filtered: bool,
}

impl Rest {
    /// Loads the seccomp program, and gives up the right to do so. One that asks an agent is loaded while whoever made us
    /// still listens, and hands the agent its descriptor; any other when nothing is left to do but `exec`.
    pub fn confine(&self, inherited: &Inherited<'_>, plan: &ProcessPlan, last: bool) -> Result<()> {
        if !self.filtered || plan.listener.is_none() != last {
            return Ok(());
        }
        filter(inherited, plan)?;
        match plan.no_new_privs {
            true => Ok(()),
            false => capabilities(&self.caps, self.held),
        }
    }
}

fn filter(inherited: &Inherited<'_>, plan: &ProcessPlan) -> Result<()> {
    let notifies = plan.listener.is_some();
    let listener = seccomp::load(&plan.seccomp, plan.seccomp_flags, notifies).at(Step::Seccomp, "")?;
    match listener {
        // From here on the agent may be asked about anything that we do: it gets the descriptor first.
        Some(listener) => {
            seqpacket::send(inherited.sync, &[word::LISTENER], &[listener.as_fd()]).at(Step::Listener, "socket")
        }
        None => Ok(()),
    }
}

fn bounding(keep: u64) -> io::Result<()> {
    for capability in 0..64 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        match privilege::drop_bounding(capability) {
            // Past the last one that the kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// What the shim itself lacks is left out: the daemon has refused explicit wishes for it before.
fn capabilities(caps: &Caps, held: u64) -> Result<()> {
    let sets = Capabilities {
        effective: caps.effective & held,
        permitted: caps.permitted & held,
        inheritable: caps.inheritable & held,
    };
    privilege::set_capabilities(sets).at(Step::Capabilities, "")?;
    for capability in 0..64u32 {
        if caps.ambient & held & (1 << capability) != 0 {
            privilege::raise_ambient(capability).at(Step::Capabilities, format!("ambient {capability}"))?;
        }
    }
    Ok(())
}

/// How likely the kernel's OOM killer picks this process. `proc` is the host's procfs.
pub fn oom_score(proc: std::os::fd::BorrowedFd<'_>, score: &runtime::plan::OomScoreAdj) -> Result<()> {
    use nix::fcntl::{OFlag, openat};
    let file = openat(
        proc,
        "self/oom_score_adj",
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    );
    let written = file.and_then(|file| nix::unistd::write(&file, score.value.to_string().as_bytes()));
    match written {
        Ok(_) => Ok(()),
        // Without CAP_SYS_RESOURCE it can only be raised.
        Err(Errno::EACCES | Errno::EPERM) if !score.strict => Ok(()),
        Err(errno) => Err(failure(Step::OomScore, score.value.to_string(), errno, "")),
    }
}

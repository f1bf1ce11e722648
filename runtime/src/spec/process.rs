//! The process of a configuration.

use super::{Result, SpecError, check_path, invalid, tuning, unsupported};
use crate::capabilities as names;
use crate::plan::{Caps, Labels, OomScoreAdj, ProcessPlan, Rlimit, User};
use crate::seccomp::Filter;
use nix::libc;
use oci_spec::runtime::{Capabilities, PosixRlimitType, Process};
use std::ffi::OsString;

pub(super) fn compile(
    process: &Process,
    user: Option<&User>,
    caps: Caps,
    filter: &Filter,
    exec: bool,
) -> Result<ProcessPlan> {
    refuse(process)?;
    let argv = process.args().as_deref().unwrap_or_default();
    if process.args().as_ref().is_some_and(Vec::is_empty) || exec && argv.is_empty() {
        return Err(SpecError::Missing("process.args"));
    }
    if let Some(bad) = argv.iter().find(|arg| arg.contains('\0')) {
        return invalid("process.args", format!("{bad:?} holds a NUL"));
    }
    let env = process.env().as_deref().unwrap_or_default();
    for entry in env {
        if entry.contains('\0') || entry.find('=').is_none_or(|at| at == 0) {
            return invalid("process.env", format!("{entry:?} is not NAME=value"));
        }
    }
    check_path("process.cwd", process.cwd())?;
    let oom_score_adj = match process.oom_score_adj() {
        Some(value @ -1000..=1000) => Some(OomScoreAdj { value, strict: true }),
        Some(value) => return invalid("process.oomScoreAdj", format!("{value} is not within -1000 and 1000")),
        None => None,
    };
    let ids = process.user();
    if ids.umask().is_some_and(|mask| mask > 0o7777) {
        return invalid("process.user.umask", format!("{:o}", ids.umask().unwrap_or_default()));
    }
    Ok(ProcessPlan {
        argv: argv.iter().map(OsString::from).collect(),
        env: env.iter().map(OsString::from).collect(),
        cwd: process.cwd().clone(),
        user: user.cloned().unwrap_or_else(|| User::Ids {
            uid: ids.uid(),
            gid: ids.gid(),
            groups: ids.additional_gids().clone().unwrap_or_default(),
        }),
        umask: ids.umask(),
        caps,
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        seccomp: filter.program.clone().into(),
        seccomp_flags: filter.flags,
        rlimits: rlimits(process)?,
        oom_score_adj,
        tuning: tuning::of_process(process)?,
        labels: labels(process)?,
        listener: None,
        keep_keyring: false,
        document: String::new(),
    })
}

/// Fields of other platforms.
fn refuse(process: &Process) -> Result<()> {
    let text = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
    for (name, present) in [
        ("process.commandLine", text(process.command_line())),
        ("process.user.username", text(process.user().username())),
    ] {
        if present {
            return unsupported(name);
        }
    }
    Ok(())
}

/// A configuration without a process: a container can be made of it, and not be started.
pub(super) fn nothing() -> Process {
    let mut process = Process::default();
    process
        .set_args(None)
        .set_env(None)
        .set_capabilities(None)
        .set_rlimits(None)
        .set_no_new_privileges(None);
    process
}

/// Labels, where this machine has what gives them a meaning. Where it has not, they are passed over, as runc does: files
/// with Docker's profile in them are run everywhere.
fn labels(process: &Process) -> Result<Labels> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (apparmor, selinux) = (text(process.apparmor_profile()), text(process.selinux_label()));
    for (field, label) in [
        ("process.apparmorProfile", &apparmor),
        ("process.selinuxLabel", &selinux),
    ] {
        if label.contains(['\0', '\n']) {
            return invalid(field, format!("{label:?} holds a control character"));
        }
    }
    let meant = |label: String, enabled: bool| if enabled { label } else { String::new() };
    Ok(Labels {
        apparmor: meant(apparmor, apparmor_enabled()),
        selinux: meant(selinux, selinux_enabled()),
    })
}

/// Whether the kernel enforces AppArmor profiles.
fn apparmor_enabled() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}

/// Whether the kernel gives SELinux labels a meaning.
pub(crate) fn selinux_enabled() -> bool {
    std::path::Path::new("/sys/fs/selinux/enforce").exists()
}

/// The five sets, within what we can hand on: as other runtimes do, a capability that this machine or daemon lacks is left
/// out. Absent sets are empty.
pub(super) fn capabilities(process: &Process) -> Result<Caps> {
    let available = names::available();
    let Some(sets) = process.capabilities() else {
        return Ok(Caps::default());
    };
    let mask = |set: &Option<Capabilities>| {
        set.iter()
            .flatten()
            .try_fold(0, |mask, capability| match names::number(&capability.to_string()) {
                Some(bit) => Ok(mask | 1 << bit),
                None => invalid("process.capabilities", format!("{capability} is not known")),
            })
    };
    let (bounding, permitted) = (mask(sets.bounding())?, mask(sets.permitted())?);
    let (effective, inheritable, ambient) = (
        mask(sets.effective())?,
        mask(sets.inheritable())?,
        mask(sets.ambient())?,
    );
    // What the kernel would answer with a bare EPERM in the middle of the start.
    if effective & !permitted != 0 {
        return invalid(
            "process.capabilities",
            format!(
                "{:?} is effective but not permitted",
                names::names(effective & !permitted)
            ),
        );
    }
    if ambient & !(permitted & inheritable) != 0 {
        let lacking = names::names(ambient & !(permitted & inheritable));
        return invalid(
            "process.capabilities",
            format!("{lacking:?} is ambient but not permitted and inheritable"),
        );
    }
    Ok(Caps {
        bounding: bounding & available,
        effective: effective & available,
        permitted: permitted & available,
        inheritable: inheritable & available,
        ambient: ambient & available,
    })
}

fn rlimits(process: &Process) -> Result<Vec<Rlimit>> {
    let mut out: Vec<Rlimit> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let resource = match limit.typ() {
            PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
            PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
            PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
            PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
            PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
            PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
            PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
            PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
            PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
            PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
            PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
            PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
            PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
            PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
            PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
            PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
        };
        let (soft, hard) = (limit.soft(), limit.hard());
        if soft > hard {
            return invalid(
                "process.rlimits",
                format!("{}: soft {soft} is above hard {hard}", limit.typ()),
            );
        }
        if out.iter().any(|other| other.resource == resource) {
            return invalid("process.rlimits", format!("{} is there twice", limit.typ()));
        }
        out.push(Rlimit {
            resource,
            soft,
            hard,
            strict: true,
        });
    }
    Ok(out)
}

//! The process of a plan in the words of a configuration, but for its user.

use super::super::{Result, invalid, unsupported};
use super::text;
use crate::capabilities;
use crate::plan::{ConsoleSize, ProcessPlan};
use nix::libc;
use serde_json::{Map, Value, json};
use std::ffi::OsString;

pub(super) fn compile(plan: &ProcessPlan, terminal: Option<&ConsoleSize>) -> Result<Map<String, Value>> {
    refuse(plan)?;
    let mut process = Map::new();
    process.insert("args".into(), strings("process.args", &plan.argv)?);
    process.insert("env".into(), strings("process.env", &plan.env)?);
    process.insert("cwd".into(), text("process.cwd", &plan.cwd)?.into());
    process.insert("noNewPrivileges".into(), plan.no_new_privs.into());
    let caps = &plan.caps;
    process.insert(
        "capabilities".into(),
        json!({
            "bounding": capabilities::names(caps.bounding),
            "effective": capabilities::names(caps.effective),
            "permitted": capabilities::names(caps.permitted),
            "inheritable": capabilities::names(caps.inheritable),
            "ambient": capabilities::names(caps.ambient),
        }),
    );
    let limits = plan.rlimits.iter().map(|limit| {
        let Some((_, name)) = RLIMITS.iter().find(|(resource, _)| *resource == limit.resource) else {
            return invalid("process.rlimits", format!("number {}", limit.resource));
        };
        Ok(json!({"type": name, "soft": limit.soft, "hard": limit.hard}))
    });
    process.insert("rlimits".into(), limits.collect::<Result<Vec<_>>>()?.into());
    if let Some(score) = &plan.oom_score_adj {
        process.insert("oomScoreAdj".into(), score.value.into());
    }
    process.insert("terminal".into(), terminal.is_some().into());
    if let Some(size) = terminal.filter(|size| size.rows != 0 && size.cols != 0) {
        process.insert("consoleSize".into(), json!({"height": size.rows, "width": size.cols}));
    }
    Ok(process)
}

fn refuse(plan: &ProcessPlan) -> Result<()> {
    let (tuning, labels) = (&plan.tuning, &plan.labels);
    let refused = [
        (tuning.scheduler.is_some(), "a scheduler"),
        (tuning.io_priority.is_some(), "an io priority"),
        (tuning.affinity.is_some(), "a CPU affinity"),
        (tuning.memory_policy.is_some(), "a memory policy"),
        (!labels.apparmor.is_empty() || !labels.selinux.is_empty(), "a label"),
        (plan.listener.is_some(), "a seccomp agent"),
        (plan.keep_keyring, "the caller's keyring"),
    ];
    match refused.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => unsupported(format!("{what} in another runtime's container")),
        None => Ok(()),
    }
}

fn strings(field: &str, list: &[OsString]) -> Result<Value> {
    let texts = list.iter().map(|text| match text.to_str() {
        Some(text) => Ok(Value::from(text)),
        None => invalid(field, format!("{:?} is not UTF-8", text.display())),
    });
    texts.collect::<Result<Vec<_>>>().map(Value::from)
}

const RLIMITS: [(u32, &str); 16] = [
    (libc::RLIMIT_CPU, "RLIMIT_CPU"),
    (libc::RLIMIT_FSIZE, "RLIMIT_FSIZE"),
    (libc::RLIMIT_DATA, "RLIMIT_DATA"),
    (libc::RLIMIT_STACK, "RLIMIT_STACK"),
    (libc::RLIMIT_CORE, "RLIMIT_CORE"),
    (libc::RLIMIT_RSS, "RLIMIT_RSS"),
    (libc::RLIMIT_NPROC, "RLIMIT_NPROC"),
    (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
    (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"),
    (libc::RLIMIT_AS, "RLIMIT_AS"),
    (libc::RLIMIT_LOCKS, "RLIMIT_LOCKS"),
    (libc::RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING"),
    (libc::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE"),
    (libc::RLIMIT_NICE, "RLIMIT_NICE"),
    (libc::RLIMIT_RTPRIO, "RLIMIT_RTPRIO"),
    (libc::RLIMIT_RTTIME, "RLIMIT_RTTIME"),
];

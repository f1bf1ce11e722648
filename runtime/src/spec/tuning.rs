//! Scheduler, priorities, CPUs, memory nodes and personality of a configuration, in the kernel's numbers.

use super::{Result, invalid};
use crate::plan::{Affinity, MemoryPolicy, Scheduler, Tuning};
use oci_spec::runtime::{
    IOPriorityClass, Linux, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType,
    MemoryPolicyModeType, Process, Scheduler as OciScheduler,
};

/// What a process says of itself. (`execCPUAffinity` takes effect for further processes alone.)
pub(super) fn of_process(process: &Process) -> Result<Tuning> {
    let affinity = match process.exec_cpu_affinity() {
        Some(affinity) => Some(Affinity {
            initial: numbers("process.execCPUAffinity.initial", affinity.initial().as_deref())?,
            last: numbers(
                "process.execCPUAffinity.final",
                affinity.cpu_affinity_final().as_deref(),
            )?,
        }),
        None => None,
    };
    Ok(Tuning {
        scheduler: process.scheduler().as_ref().map(scheduler).transpose()?,
        io_priority: io_priority(process)?,
        affinity,
        personality: None,
        memory_policy: None,
    })
}

/// What the container says of all of its processes.
pub(super) fn of_container(linux: &Linux, tuning: &mut Tuning) -> Result<()> {
    if let Some(personality) = linux.personality() {
        if let Some(flag) = personality.flags().iter().flatten().next() {
            return invalid("linux.personality.flags", format!("{flag:?}: no flags are defined"));
        }
        tuning.personality = Some(match personality.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        });
    }
    if let Some(policy) = linux.memory_policy() {
        tuning.memory_policy = Some(memory_policy(policy)?);
    }
    Ok(())
}

fn scheduler(from: &OciScheduler) -> Result<Scheduler> {
    use LinuxSchedulerPolicy as P;
    let policy = from.policy();
    let number = match policy {
        P::SchedOther => 0,
        P::SchedFifo => 1,
        P::SchedRr => 2,
        P::SchedBatch => 3,
        P::SchedIso => 4,
        P::SchedIdle => 5,
        P::SchedDeadline => 6,
    };
    let real_time = matches!(policy, P::SchedFifo | P::SchedRr);
    let (nice, priority) = (from.nice().unwrap_or(0), from.priority().unwrap_or(0));
    if !(-20..=19).contains(&nice) {
        return invalid("process.scheduler.nice", format!("{nice} is not within -20 and 19"));
    }
    match priority {
        0 if !real_time => {}
        1..=99 if real_time => {}
        other => {
            return invalid(
                "process.scheduler.priority",
                format!("{other} for {policy}: real-time policies take 1 to 99, the others 0"),
            );
        }
    }
    let (runtime, deadline, period) = (
        from.runtime().unwrap_or(0),
        from.deadline().unwrap_or(0),
        from.period().unwrap_or(0),
    );
    if !matches!(policy, P::SchedDeadline) && (runtime, deadline, period) != (0, 0, 0) {
        return invalid(
            "process.scheduler",
            format!("runtime, deadline and period are for SCHED_DEADLINE, not for {policy}"),
        );
    }
    let mut flags = 0;
    for flag in from.flags().iter().flatten() {
        flags |= match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x1,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x2,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x4,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x8,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
        };
    }
    Ok(Scheduler {
        policy: number,
        flags,
        nice,
        priority: priority.unsigned_abs(),
        runtime,
        deadline,
        period,
    })
}

/// `linux/ioprio.h`: the class in the upper bits, the level below.
fn io_priority(process: &Process) -> Result<Option<u32>> {
    let Some(wanted) = process.io_priority() else {
        return Ok(None);
    };
    let class = match wanted.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u32::try_from(wanted.priority()) {
        Ok(level @ 0..=7) => Ok(Some(class << 13 | level)),
        _ => invalid(
            "process.ioPriority.priority",
            format!("{} is not within 0 and 7", wanted.priority()),
        ),
    }
}

fn memory_policy(from: &oci_spec::runtime::LinuxMemoryPolicy) -> Result<MemoryPolicy> {
    use MemoryPolicyModeType as M;
    let nodes = numbers("linux.memoryPolicy.nodes", from.nodes().as_deref())?;
    let mode = match from.mode() {
        M::MpolDefault => 0,
        M::MpolPreferred => 1,
        M::MpolBind => 2,
        M::MpolInterleave => 3,
        M::MpolLocal => 4,
        M::MpolPreferredMany => 5,
        M::MpolWeightedInterleave => 6,
    };
    let takes_nodes = !matches!(from.mode(), M::MpolDefault | M::MpolLocal);
    if !takes_nodes && !nodes.is_empty() {
        return invalid("linux.memoryPolicy.nodes", format!("{} takes no nodes", from.mode()));
    }
    if takes_nodes && nodes.is_empty() && !matches!(from.mode(), M::MpolPreferred) {
        return invalid("linux.memoryPolicy.nodes", format!("{} needs nodes", from.mode()));
    }
    let mut flags = 0;
    for flag in from.flags().iter().flatten() {
        flags |= match flag {
            MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
            MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        };
    }
    Ok(MemoryPolicy {
        mode: mode | flags,
        nodes,
    })
}

/// The kernel's list format, `0-3,7`, as numbers below 4,096 (more CPUs and nodes no kernel has).
pub(super) fn numbers(field: &str, text: Option<&str>) -> Result<Vec<u32>> {
    let mut out = Vec::new();
    for part in text
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        match (from.trim().parse::<u32>(), to.trim().parse::<u32>()) {
            (Ok(from), Ok(to)) if from <= to && to < 4096 => out.extend(from..=to),
            _ => return invalid(field, format!("{part:?} is not a number or a range like 0-3")),
        }
    }
    out.sort_unstable();
    out.dedup();
    Ok(out)
}

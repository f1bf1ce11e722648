//! How the kernel treats the process: scheduler, block layer, CPUs, memory nodes, personality.

use runtime::plan::Tuning;
use runtime::proto::Step;
use runtime_sys::tuning::{self, SchedAttr};

use crate::failure::{At, Result};

/// CPUs of an exec before it is in the container's groups, so that the way there does not disturb others.
pub fn initial_affinity(plan: &Tuning) -> Result<()> {
    match &plan.affinity {
        Some(affinity) if !affinity.initial.is_empty() => {
            tuning::set_affinity(&affinity.initial).at(Step::Tuning, "process.execCPUAffinity.initial")
        }
        _ => Ok(()),
    }
}

/// CPUs of an exec from when it is in the container's groups.
pub fn last_affinity(plan: &Tuning) -> Result<()> {
    match &plan.affinity {
        Some(affinity) if !affinity.last.is_empty() => {
            tuning::set_affinity(&affinity.last).at(Step::Tuning, "process.execCPUAffinity.final")
        }
        _ => Ok(()),
    }
}

/// Everything else, while the rights for it are there.
pub fn apply(plan: &Tuning) -> Result<()> {
    if let Some(scheduler) = &plan.scheduler {
        let mut attributes = SchedAttr::default();
        attributes.policy = scheduler.policy;
        attributes.flags = scheduler.flags;
        attributes.nice = scheduler.nice;
        attributes.priority = scheduler.priority;
        attributes.runtime = scheduler.runtime;
        attributes.deadline = scheduler.deadline;
        attributes.period = scheduler.period;
        tuning::set_scheduler(attributes).at(Step::Tuning, "process.scheduler")?;
    }
    if let Some(value) = plan.io_priority {
        tuning::set_io_priority(value).at(Step::Tuning, "process.ioPriority")?;
    }
    if let Some(policy) = &plan.memory_policy {
        tuning::set_memory_policy(policy.mode, &policy.nodes).at(Step::Tuning, "linux.memoryPolicy")?;
    }
    if let Some(persona) = plan.personality {
        tuning::set_personality(persona).at(Step::Tuning, "linux.personality")?;
    }
    Ok(())
}

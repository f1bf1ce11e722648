//! A plan for another runtime: the same, with the documents that tell it what to do.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use runtime::cgroup::Resources as Limits;
use runtime::plan::{ExecPlan, Foreign, Plan};
use runtime::spec::{SpecError, document};

use super::Injected;
use super::devices::limits;
use super::security::{Seccomp, capability_sets, error_text, security};
use crate::Engine;
use crate::config::{OWN_RUNTIME, RuntimeProgram};
use crate::container::Record;
use crate::container::mounts::MountKind;
use crate::error::{Error, Result};

pub(crate) fn refused(error: SpecError) -> Error {
    match error {
        SpecError::Unsupported(what) => Error::unsupported(what),
        other => Error::invalid(error_text(&other)),
    }
}

/// Whether a container's runtime is ours. Records of containers from before there was a choice have no name.
pub(crate) fn is_own_runtime(name: &str) -> bool {
    name.is_empty() || name == OWN_RUNTIME
}

impl Engine {
    /// The program of a runtime; `None` for our own.
    ///
    /// # Errors
    /// In Docker's words, for a name that nobody has configured.
    pub(crate) fn runtime(&self, name: &str) -> Result<Option<RuntimeProgram>> {
        if is_own_runtime(name) {
            return Ok(None);
        }
        match self.live().runtimes.get(name) {
            Some(program) => Ok(Some(program.clone())),
            None => Err(Error::invalid(format!("unknown or invalid runtime name: {name}"))),
        }
    }

    /// Gives the plan of a run to another runtime. `joined` are the namespaces that the plan names by index; they are
    /// opened by path, as long as this process holds them: until the start has succeeded or failed.
    pub(crate) fn hand_over(
        &self,
        record: &Record,
        program: &RuntimeProgram,
        plan: &mut Plan,
        joined: &[OwnedFd],
        injected: &Injected,
    ) -> Result<()> {
        let host = &record.host;
        let outwards = |propagation: &str| matches!(propagation, "shared" | "rshared");
        let binds = record.mounts.iter().filter(|mount| mount.kind != MountKind::Tmpfs);
        if let Some(mount) = binds.into_iter().find(|mount| outwards(&mount.propagation)) {
            // The root is mounted where the host does not see it, and neither would it see this.
            return Err(Error::unsupported(format!(
                "bind-propagation={} of {} with the runtime {}",
                mount.propagation, mount.target, host.runtime
            )));
        }
        let mut limits = limits(&host.resources, host.privileged, &plan.devices)?;
        injected.allow(&mut limits, host.privileged);
        self.drop_swap(&mut limits);
        let security = security(host)?;
        let seccomp = match (&security.seccomp, host.privileged) {
            (Seccomp::Default, true) => None,
            (wanted, _) => self.plans.oci_profile(wanted, host, capability_sets(host)?)?,
        };
        let own = std::process::id();
        let joined: Vec<PathBuf> = joined
            .iter()
            .map(|fd| PathBuf::from(format!("/proc/{own}/fd/{}", fd.as_raw_fd())))
            .collect();
        let outside = document::Outside {
            cgroup: &self.cgroup_path(record)?,
            limits: &limits,
            seccomp: seccomp.as_ref(),
            joined: &joined,
        };
        plan.process.document = document::config(plan, &outside).map_err(refused)?;
        plan.head.foreign = Some(Foreign {
            name: host.runtime.clone(),
            program: program.path.clone(),
            args: program.args.iter().map(Into::into).collect(),
            bundle: self.places(&record.id).bundle,
        });
        Ok(())
    }

    /// Docker's default for swap where swap is not accounted: other runtimes would fail.
    fn drop_swap(&self, limits: &mut Limits) {
        if limits.swap_is_default && !self.cgroups.support().swap {
            limits.memory_swap = None;
        }
    }

    /// Gives the plan of a further process to the container's runtime.
    pub(crate) fn hand_over_exec(&self, mut plan: ExecPlan) -> Result<ExecPlan> {
        plan.process.document = document::process(&plan).map_err(refused)?;
        Ok(plan)
    }
}

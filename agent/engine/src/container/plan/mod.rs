//! From a container's record to what the shim carries out.
//!
//! Namespaces, mounts, limits and privileges as Docker gives them by default, changed by what the user asked for. Users and
//! programs are looked up inside the container, by the child itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sched::CloneFlags;
use runtime::cgroup::DeviceRule;
use runtime::plan::{
    Caps, ConsoleSize, ExecPlan, Head, JoinedNamespace, Namespaces, OomScoreAdj, Plan, ProcessPlan, Rlimit, Root,
    Stdin, Symlink, User,
};
use runtime::seccomp::{self, Profile};
use runtime::{capabilities, defaults};

use super::Record;
use super::exec::{ExecRequest, ExecStart};
use super::spec::{Config, HostConfig, Ulimit};
use super::validate::{Share, ipc_share, pid_share};
mod devices;
mod foreign;
mod injected;
mod mounts;
mod security;

use devices::limits;
pub(crate) use devices::{asked_nodes, changed_limits, restored_limits};
pub(crate) use foreign::{is_own_runtime, refused};
pub(crate) use injected::{Injected, ROOT};
use mounts::root_propagation;
pub use security::PlanCache;
use security::{Seccomp, capability_sets, error_text, security, sysctl};

use crate::Engine;
use crate::error::{Error, Result};

/// Stands in the place of a namespace's kind for a mount namespace that comes along only to bind something out of it.
pub(crate) const FOR_BINDS: u64 = 0;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"; // Docker's

/// Everything of a request that only the plan looks at, checked at create.
pub(crate) fn check(config: &Config, host: &HostConfig) -> Result<()> {
    let security = security(host)?;
    let caps = capability_sets(host)?;
    if let Seccomp::Profile(text) = &security.seccomp {
        let compiled = Profile::from_json(text.as_bytes())
            .and_then(|profile| seccomp::Cache::default().get(&Arc::new(profile), caps));
        compiled.map_err(|error| Error::invalid(error_text(&error)))?;
    }
    for name in host.sysctls.keys() {
        sysctl(name, host)?;
    }
    for name in host.resources.ulimits.keys() {
        rlimit_number(name)?;
    }
    for rule in &host.resources.device_cgroup_rules {
        DeviceRule::parse(true, rule).map_err(|error| Error::invalid(error.to_string()))?;
    }
    for group in &host.group_add {
        if group.is_empty() {
            return Err(Error::invalid("invalid group to add: the name is empty"));
        }
    }
    injected::check(host)?;
    if config.user.contains('\0') {
        return Err(Error::invalid("invalid user: it contains a NUL byte"));
    }
    Ok(())
}

fn rlimit_number(name: &str) -> Result<u32> {
    use nix::libc as c;
    Ok(match name {
        "as" => c::RLIMIT_AS,
        "core" => c::RLIMIT_CORE,
        "cpu" => c::RLIMIT_CPU,
        "data" => c::RLIMIT_DATA,
        "fsize" => c::RLIMIT_FSIZE,
        "locks" => c::RLIMIT_LOCKS,
        "memlock" => c::RLIMIT_MEMLOCK,
        "msgqueue" => c::RLIMIT_MSGQUEUE,
        "nice" => c::RLIMIT_NICE,
        "nofile" => c::RLIMIT_NOFILE,
        "nproc" => c::RLIMIT_NPROC,
        "rss" => c::RLIMIT_RSS,
        "rtprio" => c::RLIMIT_RTPRIO,
        "rttime" => c::RLIMIT_RTTIME,
        "sigpending" => c::RLIMIT_SIGPENDING,
        "stack" => c::RLIMIT_STACK,
        other => return Err(Error::invalid(format!("invalid ulimit type: {other}"))),
    })
}

fn limit(name: &str, limit: &Ulimit, strict: bool) -> Result<Rlimit> {
    let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    Ok(Rlimit {
        resource: rlimit_number(name)?,
        soft: value(limit.soft),
        hard: value(limit.hard),
        strict,
    })
}

impl Engine {
    /// The plan of a container's next run; `joined` are the kinds of the namespaces whose descriptors are sent along.
    pub(crate) fn compile(&self, record: &Record, joined: &[u64], injected: &Injected) -> Result<Plan> {
        let (config, host) = (&record.config, &record.host);
        let places = self.places(&record.id);
        let rw = self.store.snapshots().get(record.id.as_str())?;
        let mut devices = self.devices(host)?;
        injected.devices(&mut devices);
        let mut limits = limits(&host.resources, host.privileged, &devices)?;
        injected.allow(&mut limits, host.privileged);
        let cgroup = self.cgroup_plan(record, &limits)?;
        let terminal = config.tty.then_some(ConsoleSize {
            rows: host.console_size[0],
            cols: host.console_size[1],
        });
        let stdin = if config.open_stdin {
            Stdin::Pipe {
                once: config.stdin_once,
            }
        } else {
            Stdin::Null
        };
        let own_uts = host.uts_mode != "host";
        let mut sysctls = Vec::new();
        // Docker's defaults for ports below 1024 and ping are set in every namespace that the network gives.
        for (name, value) in &host.sysctls {
            sysctls.push((sysctl(name, host)?, value.clone()));
        }
        let (masked, readonly) = if host.privileged {
            (Vec::new(), Vec::new())
        } else {
            let masked = host.masked_paths.as_deref().unwrap_or(defaults::masked_paths());
            let mut readonly = match &host.readonly_paths {
                Some(own) => own.iter().map(PathBuf::from).collect(),
                None => defaults::READONLY_PATHS.iter().map(PathBuf::from).collect::<Vec<_>>(),
            };
            if !self.cgroups.v1_mounts().is_empty() {
                // Writable until the hierarchies are mounted in it.
                readonly.push(PathBuf::from(defaults::V1_CGROUP_ROOT));
            }
            (masked.iter().map(PathBuf::from).collect(), readonly)
        };
        let mut plan = Plan {
            head: Head {
                id: record.id.to_string(),
                exit_file: places.exit_file(),
                socket: self.config.exec_root.join("shim").join(format!("{}.sock", record.id)),
                log: self.log_target(record)?,
                namespaces: namespaces(host, joined)?,
                cgroup,
                stdin,
                terminal,
                ..Head::default()
            },
            root: Root::Overlay {
                lower: rw.lower,
                upper: rw.upper,
                work: rw.work,
                // Not even for --rm: a restart mounts the same layer again, which the kernel refuses after a volatile mount.
                volatile: false,
            },
            readonly_root: host.readonly_rootfs,
            root_propagation: root_propagation(&record.mounts),
            mounts: self.mounts(record, joined)?,
            devices,
            symlinks: defaults::SYMLINKS
                .iter()
                .map(|(path, target)| Symlink {
                    path: PathBuf::from(path),
                    target: PathBuf::from(target),
                })
                .collect(),
            masked_paths: masked,
            readonly_paths: readonly,
            hostname: if own_uts {
                config.hostname.clone()
            } else {
                String::new()
            },
            domainname: if own_uts {
                config.domainname.clone()
            } else {
                String::new()
            },
            sysctls,
            process: self.process(record)?,
            init: host.init.unwrap_or(self.config.init),
            ..Plan::default()
        };
        injected.edit(&mut plan, record, &places.bundle);
        Ok(plan)
    }

    fn process(&self, record: &Record) -> Result<ProcessPlan> {
        let (config, host) = (&record.config, &record.host);
        let security = security(host)?;
        let caps = capability_sets(host)?;
        let filter = match (&security.seccomp, host.privileged) {
            // A privileged container has no filter unless one is asked for.
            (Seccomp::Default, true) => Arc::default(),
            (wanted, _) => self.plans.filter(wanted, host, caps)?,
        };
        let mut rlimits = Vec::new();
        for (name, value) in &self.config.default_ulimits {
            if !host.resources.ulimits.contains_key(name) {
                rlimits.push(limit(name, value, false)?);
            }
        }
        for (name, value) in &host.resources.ulimits {
            rlimits.push(limit(name, value, true)?);
        }
        let mut env = vec![
            OsString::from(DEFAULT_PATH),
            OsString::from(format!("HOSTNAME={}", config.hostname)),
        ];
        if config.tty {
            env.push("TERM=xterm".into());
        }
        if !host.links.is_empty() {
            override_env(&mut env, &self.link_environment(record));
        }
        override_env(&mut env, &config.env);
        Ok(ProcessPlan {
            argv: record.argv().into_iter().map(OsString::from).collect(),
            env,
            cwd: PathBuf::from(if config.working_dir.is_empty() {
                "/"
            } else {
                &config.working_dir
            }),
            user: User::Named {
                user: config.user.clone(),
                extra_groups: host.group_add.clone(),
            },
            umask: None,
            caps: caps_of(caps),
            no_new_privs: security.no_new_privileges.unwrap_or(self.config.no_new_privileges) && !host.privileged
                || security.no_new_privileges == Some(true),
            seccomp: filter.program.clone().into(),
            seccomp_flags: filter.flags,
            rlimits,
            oom_score_adj: (host.oom_score_adj != 0).then_some(OomScoreAdj {
                value: host.oom_score_adj,
                strict: true,
            }),
            ..ProcessPlan::default()
        })
    }

    /// The plan of a further process, with the container's privileges (all of them for `--privileged`).
    pub(crate) fn compile_exec(&self, record: &Record, request: &ExecRequest, start: ExecStart) -> Result<ExecPlan> {
        let mut process = self.process(record)?;
        process.argv = request.argv.iter().map(OsString::from).collect();
        if request.tty && !record.config.tty {
            process.env.push("TERM=xterm".into());
        }
        override_env(&mut process.env, &request.env);
        if !request.working_dir.is_empty() {
            process.cwd = PathBuf::from(&request.working_dir);
        }
        if !request.user.is_empty() {
            process.user = User::Named {
                user: request.user.clone(),
                extra_groups: record.host.group_add.clone(),
            };
        }
        if request.privileged {
            process.caps = caps_of(capabilities::ALL & capabilities::available());
            process.seccomp = Vec::new().into();
        }
        let console = start.console.or(request.console).unwrap_or_default();
        Ok(ExecPlan {
            process,
            stdin: if request.stdin {
                Stdin::Pipe { once: true }
            } else {
                Stdin::Null
            },
            terminal: request.tty.then_some(ConsoleSize {
                rows: console[0],
                cols: console[1],
            }),
        })
    }
}

fn caps_of(set: u64) -> Caps {
    Caps {
        bounding: set,
        effective: set,
        permitted: set,
        inheritable: 0,
        ambient: 0,
    }
}

/// Later values replace earlier ones of the same name; a name without a value removes.
fn override_env(env: &mut Vec<OsString>, own: &[String]) {
    for entry in own {
        let (name, value) = entry
            .split_once('=')
            .map_or((entry.as_str(), None), |(name, value)| (name, Some(value)));
        let prefix = format!("{name}=");
        env.retain(|other| !other.as_encoded_bytes().starts_with(prefix.as_bytes()));
        if value.is_some() {
            env.push(entry.into());
        }
    }
}

fn namespaces(host: &HostConfig, joined: &[u64]) -> Result<Namespaces> {
    let mut new = CloneFlags::CLONE_NEWNS;
    if pid_share(host)? == Share::Own {
        new |= CloneFlags::CLONE_NEWPID;
    }
    if ipc_share(host)? == Share::Own {
        new |= CloneFlags::CLONE_NEWIPC;
    }
    if host.uts_mode != "host" {
        new |= CloneFlags::CLONE_NEWUTS;
    }
    if host.cgroupns_mode != "host" {
        new |= CloneFlags::CLONE_NEWCGROUP;
    }
    let joined = joined
        .iter()
        .zip(0..)
        .filter(|(kind, _)| **kind != FOR_BINDS)
        .map(|(kind, fd)| JoinedNamespace { kind: *kind, fd })
        .collect();
    Ok(Namespaces {
        new: new.bits() as u64,
        joined,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn own_variables_replace_defaults() {
        let mut env = vec![OsString::from("PATH=/bin"), OsString::from("A=1")];
        override_env(&mut env, &["PATH=/x".into(), "A".into(), "B=2".into()]);
        assert_eq!(env, ["PATH=/x", "B=2"]);
    }
}

//! User namespaces: which containers have one, and who is who in it.
//!
//! Nothing on disk knows of them. Layers, volumes and the files that the engine makes belong to whom the image says, in the
//! host's numbers; a container with a user namespace sees them through mounts that map the owners. So one image store
//! serves containers with and without, and a container can be started either way.
//! (docs/adr/0011-user-namespaces.md)
//!
//! Who is who is the daemon's setting, or what the container was asked to be: [`ask`] reads it, [`allot`] gives ranges.

pub(crate) mod allot;
mod ask;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::libc::{CLONE_NEWNET, CLONE_NEWUSER};
use nix::mount::MsFlags;
use runtime::plan::{IdMap, IdRange, Mount, MountIdMap, MountSource, Plan};

use super::mounts::MountKind;
use super::plan::{Injected, asked_nodes, is_own_runtime};
use super::spec::HostConfig;
use super::start::Joined;
use super::validate::{Share, ipc_share, network_share, pid_share};
use super::{Record, start};
use crate::Engine;
use crate::error::{Error, Result};
use crate::ids::ContainerId;

use allot::Claim;
use ask::UsersMode;

/// What the engine makes for every container; bound into it.
const FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];

/// Says what `--userns` says, for docker's client, which lets only `host` through. Only the request's: an image has labels,
/// and no say in this.
const ANNOTATION: &str = "iechor.userns";

/// Rights over the network, which belongs to the host's root also where the container does not.
const NETWORK_RIGHTS: [&str; 2] = ["NET_ADMIN", "NET_RAW"];

impl Engine {
    /// Whether a container has a user namespace.
    pub(crate) fn is_remapped(&self, host: &HostConfig) -> bool {
        match host.userns_mode.as_str() {
            "host" => false,
            "" => self.config.remap.always,
            _ => true,
        }
    }

    /// The ids of a container that is being made, where it has some of its own.
    pub(crate) fn claim_users(&self, id: &ContainerId, host: &HostConfig) -> Result<Claim<'_>> {
        let mode = UsersMode::parse(&host.userns_mode)?;
        let daemons = &self.config.remap.map;
        let mut reserved = self.config.remap.reserved.clone();
        reserved.extend(daemons.users.iter().chain(&daemons.groups).cloned());
        self.allotments.claim(id.as_str(), &mode, &reserved)
    }

    /// What does not go together with a user namespace. The words are Docker's where it has some.
    pub(crate) fn check_users(&self, host: &HostConfig) -> Result<()> {
        let mode = UsersMode::parse(&host.userns_mode)?;
        if !self.is_remapped(host) {
            return Ok(());
        }
        let conflicts = [
            (
                host.privileged,
                "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
            ),
            (
                network_share(host)? == Share::Host,
                "cannot share the host's network namespace when user namespaces are enabled",
            ),
            (
                pid_share(host)? == Share::Host,
                "cannot share the host PID namespace when user namespaces are enabled",
            ),
            (
                ipc_share(host)? == Share::Host,
                "cannot share the host's IPC namespace when user namespaces are enabled",
            ),
        ];
        if matches!(mode, UsersMode::Fixed(_) | UsersMode::Auto { .. }) {
            for share in [network_share(host)?, pid_share(host)?, ipc_share(host)?] {
                if let Share::Container(other) = share {
                    return Err(Error::invalid(format!(
                        "conflicting options: --userns={} and a namespace of container {other}, whose users it would have",
                        host.userns_mode
                    )));
                }
            }
        }
        if let Some((_, words)) = conflicts.iter().find(|(so, _)| *so) {
            return Err(Error::invalid(*words));
        }
        let live = self.live();
        let runtime = match host.runtime.as_str() {
            "" => &live.default_runtime,
            own => own,
        };
        if !is_own_runtime(runtime) {
            return Err(Error::unsupported(format!(
                "a user namespace with the runtime {runtime}; use --userns=host"
            )));
        }
        if network_share(host)? == Share::Own && host.network_mode != "none" {
            let asked = host.cap_add.iter().map(|name| name.to_ascii_uppercase());
            let mut asked = asked.map(|name| name.strip_prefix("CAP_").unwrap_or(&name).to_owned());
            if let Some(name) = asked.find(|name| NETWORK_RIGHTS.contains(&name.as_str())) {
                return Err(Error::unsupported(format!(
                    "--cap-add {name} in a user namespace, whose network belongs to the host; use --userns=host or --network=none"
                )));
            }
        }
        Ok(())
    }

    /// Whether a container makes its network namespace by itself: one with nothing but a loopback can belong to it.
    pub(crate) fn owns_network(&self, record: &Record) -> bool {
        let empty = record.host.network_mode == "none" || record.config.network_disabled;
        empty && self.is_remapped(&record.host)
    }

    /// Who shares a namespace with another container shares its users too: rights over it are theirs.
    pub(crate) fn join_users(&self, record: &Record, others: &[(String, i32)], joined: &mut Joined) -> Result<()> {
        if !self.is_remapped(&record.host) {
            return Ok(());
        }
        let number = |path: &str| {
            fs::metadata(path)
                .map(|about| about.ino())
                .map_err(Error::io(format!("look at {path}")))
        };
        let mut first = None;
        for (name, pid) in others {
            let path = format!("/proc/{pid}/ns/user");
            let theirs = number(&path)?;
            if theirs == number("/proc/self/ns/user")? {
                return Err(Error::Conflict(format!(
                    "cannot join a namespace of container {name}, which has no user namespace; use --userns=host"
                )));
            }
            match first {
                None => {
                    joined.add(
                        nix::sched::CloneFlags::CLONE_NEWUSER,
                        start::namespace_of(*pid, "user")?,
                    );
                    joined.users = Some(map_of(*pid)?);
                    first = Some(theirs);
                }
                Some(first) if first == theirs => {}
                Some(_) => {
                    return Err(Error::Conflict(format!(
                        "cannot join a namespace of container {name}: another one is that of a container with other users"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Gives the plan of a run its user namespace, if it has one.
    pub(crate) fn remap(&self, record: &Record, plan: &mut Plan, joined: &Joined, injected: &Injected) -> Result<()> {
        if !self.is_remapped(&record.host) {
            return Ok(());
        }
        // The daemon's setting may be newer than the container.
        self.check_users(&record.host)?;
        let map = match &joined.users {
            Some(map) => map.clone(),
            None => {
                let map = match &record.users {
                    Some(own) => own.map(),
                    None => self.config.remap.map.clone(),
                };
                plan.head.namespaces.new |= CLONE_NEWUSER as u64;
                plan.head.users = Some(map.clone());
                map
            }
        };
        if self.owns_network(record) {
            plan.head.namespaces.new |= CLONE_NEWNET as u64;
            // As in every namespace that the network gives.
            plan.sysctls
                .insert(0, ("net/ipv4/ip_unprivileged_port_start".into(), "0".into()));
        }
        plan.head.id_maps = vec![map];
        plan.root_id_map = Some(0);
        for mount in &mut plan.mounts {
            let own = record.mounts.iter().find(|own| Path::new(&own.target) == mount.target);
            let mapped = match own {
                // Whose a bound folder is, is the host's matter, as with Docker.
                Some(own) => own.kind == MountKind::Volume,
                None => FILES.iter().any(|file| Path::new(file) == mount.target),
            };
            if mapped {
                mount.id_map = Some(MountIdMap {
                    map: 0,
                    recursive: false,
                });
            }
        }
        // No nodes can be made by root of a user namespace; those of the host are shown.
        for (source, node) in asked_nodes(&record.host)?.into_iter().chain(injected.bound_nodes()) {
            plan.devices.retain(|device| device.path != node);
            plan.mounts.push(bound_node(source, node));
        }
        Ok(())
    }
}

/// Takes the user namespace's mode from the annotation, where the request has it there.
pub(super) fn from_annotation(host: &mut HostConfig) -> Result<()> {
    let Some(asked) = host.annotations.get(ANNOTATION) else {
        return Ok(());
    };
    if !host.userns_mode.is_empty() && host.userns_mode != *asked {
        return Err(Error::invalid(format!(
            "conflicting options: --userns={} and the annotation {ANNOTATION}={asked}",
            host.userns_mode
        )));
    }
    host.userns_mode.clone_from(asked);
    Ok(())
}

fn bound_node(path: PathBuf, target: PathBuf) -> Mount {
    Mount {
        target,
        source: MountSource::Bind { path, recursive: false },
        flags: (MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC).bits(),
        clear: 0,
        recursive_set: 0,
        recursive_clear: 0,
        propagation: 0,
        optional: false,
        id_map: None,
    }
}

/// Who is who in the user namespace of a process.
pub(super) fn map_of(pid: i32) -> Result<IdMap> {
    let ranges = |file: &str| -> Result<Vec<IdRange>> {
        let path = format!("/proc/{pid}/{file}");
        let text = fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))?;
        Ok(parse_map(&text))
    };
    Ok(IdMap {
        users: ranges("uid_map")?,
        groups: ranges("gid_map")?,
    })
}

/// The lines of `uid_map(5)`.
fn parse_map(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
        Some(IdRange {
            inside: numbers.next()??,
            outside: numbers.next()??,
            count: numbers.next()??,
        })
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_as_the_kernel_prints_them() {
        let range = |inside, outside, count| IdRange { inside, outside, count };
        let text = "         0     100000      65536\n     65536          0          1\n";
        assert_eq!(parse_map(text), [range(0, 100_000, 65_536), range(65_536, 0, 1)]);
        assert_eq!(runtime::plan::lines(&parse_map(text)), "0 100000 65536\n65536 0 1\n");
    }
}

//! What `update` can change beyond limits (an extension of ours): published ports at once, environment and mounts
//! from the next start on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::create::Made;
use super::mounts::{self, MountPoint};
use super::spec::{Config, HostConfig, Mount, PortBinding};
use super::state::Phase;
use super::validate::{self, Share, network_share};
use super::{Container, Record, ports};
use crate::Engine;
use crate::error::{Error, Result};

/// What is to be different. Removals come before additions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// `KEY=value`; replaces what the key had.
    pub env_add: Vec<String>,
    /// `KEY`
    pub env_remove: Vec<String>,
    pub mount_add: Vec<Mount>,
    /// Targets.
    pub mount_remove: Vec<String>,
    /// `80/tcp` → where on the host, beside what is there.
    pub publish_add: BTreeMap<String, Vec<PortBinding>>,
    /// `80/tcp`: all that is published of it.
    pub publish_remove: Vec<String>,
    /// A container that runs is restarted for what needs a start.
    pub now: bool,
}

/// Values that a container has from its next start on; absent where they are as they were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Next {
    pub env: Vec<String>,
    pub mounts: Vec<MountPoint>,
    pub binds: Vec<String>,
    pub host_mounts: Vec<Mount>,
    pub tmpfs: BTreeMap<String, String>,
    pub volumes: BTreeSet<String>,
}

impl Next {
    /// What the record has now, or will have.
    fn of(record: &Record) -> Next {
        match &record.next {
            Some(next) => (**next).clone(),
            None => Next {
                env: record.config.env.clone(),
                mounts: record.mounts.clone(),
                binds: record.host.binds.clone(),
                host_mounts: record.host.mounts.clone(),
                tmpfs: record.host.tmpfs.clone(),
                volumes: record.config.volumes.clone(),
            },
        }
    }

    fn apply(self, record: &mut Record) {
        record.config.env = self.env;
        record.mounts = self.mounts;
        record.host.binds = self.binds;
        record.host.mounts = self.host_mounts;
        record.host.tmpfs = self.tmpfs;
        record.config.volumes = self.volumes;
    }

    fn change_env(&mut self, change: &Change) -> Result<()> {
        let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
        for gone in &change.env_remove {
            if gone.is_empty() || gone.contains('=') {
                return Err(Error::invalid(format!(
                    "invalid name of an environment variable: {gone:?}"
                )));
            }
            self.env.retain(|entry| key(entry) != *gone);
        }
        for entry in &change.env_add {
            validate::environment(entry)?;
            if !entry.contains('=') {
                return Err(Error::invalid(format!("environment variable without a value: {entry}")));
            }
            match self.env.iter_mut().find(|other| key(other) == key(entry)) {
                Some(other) => other.clone_from(entry),
                None => self.env.push(entry.clone()),
            }
        }
        Ok(())
    }

    fn remove_mounts(&mut self, targets: &[String]) -> Result<()> {
        for target in targets {
            let target = mounts::clean_target(target, target)?;
            let before = self.mounts.len();
            self.mounts.retain(|mount| mount.target != target);
            if self.mounts.len() == before {
                return Err(Error::invalid(format!("nothing is mounted at {target}")));
            }
            // Wherever it was asked for: none of these may bring it back.
            self.binds
                .retain(|bind| mounts::parse_bind(bind).is_ok_and(|planned| planned.point.target != target));
            self.host_mounts
                .retain(|mount| mounts::lexical(&mount.target) != target);
            self.tmpfs.retain(|path, _| mounts::lexical(path) != target);
            self.volumes.retain(|path| mounts::lexical(path) != target);
        }
        Ok(())
    }
}

impl Record {
    /// The mounts it has, and those that it will have: what they need is in use.
    pub fn all_mounts(&self) -> impl Iterator<Item = &MountPoint> {
        let next = self.next.iter().flat_map(|next| next.mounts.iter());
        self.mounts.iter().chain(next)
    }

    /// A start makes true what was changed for it.
    pub(crate) fn take_next(&mut self) {
        if let Some(next) = self.next.take() {
            next.apply(self);
        }
    }
}

/// The ports after a change.
fn change_ports(config: &mut Config, host: &mut HostConfig, change: &Change) -> Result<()> {
    let parse = |text: &String| ports::container_port(text);
    for gone in &change.publish_remove {
        let gone = parse(gone)?;
        let before = ports::requests(config, host)?;
        if !before.iter().any(|one| (one.container_port, one.proto) == gone) {
            return Err(Error::invalid(format!("port {}/{} is not published", gone.0, gone.1)));
        }
        if host.publish_all_ports {
            // All but this one: the others are named from now on.
            host.publish_all_ports = false;
            for port in &config.exposed_ports {
                let bound = parse(port)?;
                let named = host
                    .port_bindings
                    .keys()
                    .any(|key| parse(key).is_ok_and(|key| key == bound));
                if !named {
                    host.port_bindings.insert(port.clone(), Vec::new());
                }
            }
        }
        host.port_bindings
            .retain(|key, _| parse(key).is_ok_and(|key| key != gone));
    }
    for (port, bindings) in &change.publish_add {
        let wanted = parse(port)?;
        let known = host
            .port_bindings
            .keys()
            .find(|key| parse(key).is_ok_and(|key| key == wanted));
        let key = known.cloned().unwrap_or_else(|| format!("{}/{}", wanted.0, wanted.1));
        config.exposed_ports.insert(key.clone());
        let list = host.port_bindings.entry(key).or_default();
        if bindings.is_empty() {
            list.push(PortBinding::default());
        }
        list.extend(bindings.iter().cloned());
    }
    Ok(())
}

impl Engine {
    /// Everything of a change but its ports: checks it, makes the volumes it needs, and returns what the record will
    /// say. The caller owns the container's `op`.
    pub(super) async fn change_next(&self, record: &Record, change: &Change, made: &mut Made) -> Result<Option<Next>> {
        let mut next = Next::of(record);
        let before = next.clone();
        next.change_env(change)?;
        next.remove_mounts(&change.mount_remove)?;
        let wanted = HostConfig {
            mounts: change.mount_add.clone(),
            ..HostConfig::default()
        };
        let planned = mounts::plan(&wanted, &[], std::iter::empty())?;
        validate::bind_sources(&planned)?;
        for mount in &planned {
            let target = &mount.point.target;
            if next.mounts.iter().any(|own| own.target == *target) {
                return Err(Error::invalid(format!("Duplicate mount point: {target}")));
            }
        }
        if !planned.is_empty() {
            let image = self.image_for(&record.image)?;
            for mount in planned {
                next.mounts.push(self.realise(mount, &image, made).await?);
            }
            next.mounts.sort_by_key(|mount| mount.target.matches('/').count());
            next.host_mounts.extend(change.mount_add.iter().cloned());
        }
        Ok((next != before).then_some(next))
    }

    /// Changes what is published; whether there was anything to change. All or nothing.
    pub(super) fn change_published(&self, container: &Container, change: &Change) -> Result<bool> {
        if change.publish_add.is_empty() && change.publish_remove.is_empty() {
            return Ok(false);
        }
        let (mut config, mut host) = {
            let record = &container.lock().record;
            (record.config.clone(), record.host.clone())
        };
        if network_share(&host)? != Share::Own || host.network_mode == "none" {
            return Err(Error::Conflict(format!(
                "ports cannot be published with the network mode {:?}",
                host.network_mode
            )));
        }
        change_ports(&mut config, &mut host, change)?;
        self.publish_as(container, config, host)?;
        Ok(true)
    }

    /// Gives the record this configuration, which differs from its own in ports alone, and the kernel its ports where the
    /// container runs on a network of its own. All or nothing.
    pub(super) fn publish_as(&self, container: &Container, config: Config, host: HostConfig) -> Result<()> {
        let (present, net) = {
            let inner = container.lock();
            let present = ports::requests(&inner.record.config, &inner.record.host)?;
            (present, inner.run.as_ref().map(|run| run.net.clone()))
        };
        let wanted = ports::requests(&config, &host)?;
        if let Some(mut net) = net
            && let Some(endpoint) = net.endpoint.clone()
        {
            let owner = container.id.to_string();
            let published = self.network.republish(&owner, &endpoint, &present, &wanted);
            net.ports = published.map_err(|source| Error::Ports { owner, source })?;
            if let Err(error) = self.write_run(&container.id, &net) {
                match self
                    .network
                    .republish(container.id.as_str(), &endpoint, &wanted, &present)
                {
                    // A free port that nobody chose may be another one now.
                    Ok(ports) => {
                        if let Some(run) = &mut container.lock().run {
                            run.net.ports = ports;
                        }
                    }
                    Err(error) => {
                        tracing::error!(container = %container.id, %error, "ports are not as the record says");
                    }
                }
                return Err(error);
            }
            if let Some(run) = &mut container.lock().run {
                run.net = net;
            }
        }
        let record = &mut container.lock().record;
        (record.config, record.host) = (config, host);
        Ok(())
    }

    /// Whether the container has something that only a start can change.
    pub(super) fn waits_for_a_start(container: &Container) -> bool {
        let inner = container.lock();
        inner.run.is_some() || inner.record.status.phase == Phase::Restarting
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn next() -> Next {
        Next {
            env: vec!["PATH=/bin".into(), "A=1".into(), "AB=2".into()],
            mounts: Vec::new(),
            binds: Vec::new(),
            host_mounts: Vec::new(),
            tmpfs: BTreeMap::new(),
            volumes: BTreeSet::new(),
        }
    }

    #[test]
    fn environment_by_whole_names() {
        let mut env = next();
        let change = Change {
            env_remove: vec!["A".into(), "absent".into()],
            env_add: vec!["AB=3=4".into(), "C=".into()],
            ..Change::default()
        };
        env.change_env(&change).unwrap();
        assert_eq!(env.env, ["PATH=/bin", "AB=3=4", "C="]);
        for (add, remove) in [("", "A=1"), ("=x", ""), ("novalue", ""), ("A=\0", "")] {
            let words = |text: &str| {
                if text.is_empty() {
                    Vec::new()
                } else {
                    vec![text.to_owned()]
                }
            };
            let change = Change {
                env_add: words(add),
                env_remove: words(remove),
                ..Change::default()
            };
            assert!(next().change_env(&change).is_err(), "{add:?} {remove:?}");
        }
    }

    #[test]
    fn one_of_all_published_ports_names_the_others() {
        let mut config = Config {
            exposed_ports: ["80/tcp".into(), "81".into(), "82/udp".into()].into(),
            ..Config::default()
        };
        let mut host = HostConfig {
            publish_all_ports: true,
            ..HostConfig::default()
        };
        let binding = PortBinding {
            host_ip: "127.0.0.1".into(),
            host_port: "8081".into(),
        };
        let change = Change {
            publish_remove: vec!["80".into()],
            publish_add: [("81/tcp".to_owned(), vec![binding.clone()])].into(),
            ..Change::default()
        };
        change_ports(&mut config, &mut host, &change).unwrap();
        assert!(!host.publish_all_ports);
        let expected = [("81".to_owned(), vec![binding]), ("82/udp".to_owned(), vec![])];
        assert_eq!(host.port_bindings, expected.into());
        let again = Change {
            publish_remove: vec!["80/tcp".into()],
            ..Change::default()
        };
        assert!(change_ports(&mut config, &mut host, &again).is_err());
    }
}

//! `--link`: another container of the default network by names of one's own, in `/etc/hosts` and in the environment.
//!
//! The record keeps `ID:ALIAS`, so that a link follows a container that is renamed. One to a container that is removed is
//! no more, without an error, as with Docker.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::spec::HostConfig;
use super::validate::{Share, network_share};
use super::{Container, Record, ports};
use crate::Engine;
use crate::error::{Error, Result};

/// How long a start after a boot waits for what it links to and what is being started as well.
const BOOT_WAIT: Duration = Duration::from_secs(5); // Docker's

/// A hosts file that is larger was not written by us, and is the container's own business.
const HOSTS_LIMIT: u64 = 1 << 20;

/// One link, as it is at this moment.
struct Link {
    target: Arc<Container>,
    alias: String,
}

/// `NAME`, `NAME:ALIAS`, or as inspect shows it: `/NAME:/OWNER/ALIAS`.
fn parse(text: &str) -> Result<(&str, &str)> {
    let bad = || Error::invalid(format!("bad format for links: {text}"));
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    let alias = match name.strip_prefix('/') {
        Some(_) => alias.rsplit('/').next().unwrap_or_default(),
        None => alias,
    };
    let name = name.trim_start_matches('/');
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '=');
    if name.is_empty() || alias.is_empty() || alias.contains(strange) {
        return Err(bad());
    }
    Ok((name, alias))
}

impl Engine {
    /// Puts ids in the place of names, for a container that is being made.
    pub(super) fn resolve_links(&self, host: &mut HostConfig) -> Result<()> {
        if host.links.is_empty() {
            return Ok(());
        }
        let conflict = match network_share(host)? {
            Share::Host => Some("host type networking"),
            Share::Container(_) => Some("container type network"),
            Share::Own if host.network_mode == "none" => Some("network mode none"),
            Share::Own => None,
        };
        if let Some(mode) = conflict {
            return Err(Error::invalid(format!(
                "conflicting options: {mode} can't be used with links. This would result in undefined behavior"
            )));
        }
        let mut resolved: Vec<String> = Vec::new();
        for text in &host.links {
            let (name, alias) = parse(text)?;
            let target = self.link_target(name)?;
            let link = format!("{}:{alias}", target.id);
            if resolved.contains(&link) {
                continue;
            }
            if resolved.iter().any(|other| other.ends_with(&format!(":{alias}"))) {
                return Err(Error::Conflict(format!(
                    "cannot link to {name} as {alias}: the alias is that of another link"
                )));
            }
            resolved.push(link);
        }
        host.links = resolved;
        Ok(())
    }

    /// The container that has the address.
    fn link_target(&self, name: &str) -> Result<Arc<Container>> {
        let mut wanted = name.to_owned();
        let mut seen = BTreeSet::new();
        loop {
            let target = self.container(&wanted).map_err(|error| {
                // Not "not found": clients would take that for the image, and pull it.
                Error::invalid(format!("could not get container for {wanted}: {error}"))
            })?;
            let share = network_share(&target.lock().record.host)?;
            match share {
                Share::Own => return Ok(target),
                Share::Host => {
                    return Err(Error::invalid(
                        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
                    ));
                }
                Share::Container(next) if seen.insert(target.id.to_string()) => wanted = next,
                Share::Container(_) => return Err(Error::invalid(format!("bad format for links: {name}"))),
            }
        }
    }

    fn links(&self, record: &Record) -> Vec<Link> {
        let link = |text: &String| {
            let (id, alias) = text.split_once(':')?;
            Some(Link {
                target: self.container(id).ok()?,
                alias: alias.to_owned(),
            })
        };
        record.host.links.iter().filter_map(link).collect()
    }

    /// The links as inspect shows them.
    pub fn shown_links(&self, record: &Record) -> Vec<String> {
        let shown = |link: Link| format!("/{}:/{}/{}", link.target.name(), record.name, link.alias);
        self.links(record).into_iter().map(shown).collect()
    }

    /// Lines of `/etc/hosts` for a container that is about to start; what it links to must run.
    pub(super) fn link_hosts(&self, record: &Record) -> Result<Vec<(IpAddr, String)>> {
        let line = |link: Link| {
            let address = link.address().ok_or_else(|| {
                Error::Conflict(format!(
                    "Cannot link to a non running container: /{} AS /{}/{}",
                    link.target.name(),
                    record.name,
                    link.alias
                ))
            })?;
            Ok((address, link.names()))
        };
        self.links(record).into_iter().map(line).collect()
    }

    /// What the environment tells of the containers that run.
    pub(super) fn link_environment(&self, record: &Record) -> Vec<String> {
        let variables = |link: Link| {
            let Some(address) = link.address() else {
                return Vec::new();
            };
            let inner = link.target.lock();
            let config = &inner.record.config;
            let path = format!("/{}/{}", record.name, link.alias);
            variables(&link.alias, &path, address, &config.exposed_ports, &config.env)
        };
        self.links(record).into_iter().flat_map(variables).collect()
    }

    /// After a start of `container`: who links to it has the address that it has now, and it has those of its own links.
    pub(super) fn follow_links(&self, container: &Arc<Container>) {
        let id = format!("{}:", container.id);
        for other in self.index.all() {
            let itself = other.id == container.id;
            let record = {
                let inner = other.lock();
                let links = &inner.record.host.links;
                if links.is_empty() || !(itself || links.iter().any(|link| link.starts_with(&id))) {
                    continue;
                }
                inner.record.clone()
            };
            if let Err(error) = self.rewrite_hosts(&record) {
                tracing::warn!(container = %record.id, error = %error.chain(), "its links have old addresses");
            }
        }
    }

    /// Writes new addresses into the lines of links, and leaves all else as the container has it.
    fn rewrite_hosts(&self, record: &Record) -> Result<()> {
        let path = self.places(&record.id).hosts();
        // One at a time: two starts may be about the same file.
        let _turn = self.hosts_files.lock().unwrap_or_else(PoisonError::into_inner);
        let reading = || Error::io(format!("read {}", path.display()));
        let mut text = String::new();
        match File::open(&path) {
            Ok(file) => {
                file.take(HOSTS_LIMIT + 1)
                    .read_to_string(&mut text)
                    .map_err(reading())?;
            }
            // It has not been started yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(reading()(error)),
        };
        if text.len() as u64 > HOSTS_LIMIT {
            return Ok(());
        }
        let mut new = text.clone();
        for link in self.links(record) {
            if let Some(address) = link.address() {
                new = with_address(&new, &link.names(), address);
            }
        }
        if new != text {
            fs::write(&path, new).map_err(Error::io(format!("write {}", path.display())))?;
        }
        Ok(())
    }

    /// After a boot: waits for what `container` links to, as far as it is among those that are being started.
    pub(crate) async fn await_links(&self, container: &Arc<Container>, starting: &BTreeSet<String>) {
        let record = container.lock().record.clone();
        for link in self.links(&record) {
            if starting.contains(link.target.id.as_str()) {
                let mut changes = link.target.changes.subscribe();
                let live = changes.wait_for(|change| change.phase.is_live() || change.removed);
                let _ = tokio::time::timeout(BOOT_WAIT, live).await;
            }
        }
    }

    /// `rm --link OWNER/ALIAS`: the name goes, the container that it stood for stays.
    pub async fn remove_link(&self, owner: &str, alias: &str) -> Result<()> {
        let owner = self.container(owner)?;
        let (engine, alias) = (self.clone(), alias.to_owned());
        self.detached(async move {
            let _op = owner.op.lock().await;
            let suffix = format!(":{alias}");
            let before = {
                let mut inner = owner.lock();
                let before = inner.record.host.links.clone();
                inner.record.host.links.retain(|link| !link.ends_with(&suffix));
                if inner.record.host.links == before {
                    let name = &inner.record.name;
                    return Err(Error::NoSuchContainer(format!("{name}/{alias}")));
                }
                before
            };
            if let Err(error) = engine.save_now(&owner).await {
                owner.lock().record.host.links = before;
                return Err(error);
            }
            Ok(())
        })
        .await
    }
}

impl Link {
    fn address(&self) -> Option<IpAddr> {
        let inner = self.target.lock();
        let run = inner.run.as_ref()?;
        run.net.endpoint.as_ref().map(|endpoint| IpAddr::from(endpoint.ip))
    }

    /// The names of its line: the alias, the host name, and the container's where it is another one.
    fn names(&self) -> String {
        let inner = self.target.lock();
        let (hostname, name) = (&inner.record.config.hostname, &inner.record.name);
        match *name == self.alias {
            true => format!("{} {hostname}", self.alias),
            false => format!("{} {hostname} {name}", self.alias),
        }
    }
}

/// The text with another address in the line of these names.
fn with_address(text: &str, names: &str, address: IpAddr) -> String {
    let mut new = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        match line.trim_end_matches('\n').split_once('\t') {
            Some((_, own)) if own == names => {
                new.push_str(&format!("{address}\t{names}"));
                new.push_str(&line[line.trim_end_matches('\n').len()..]);
            }
            _ => new.push_str(line),
        }
    }
    new
}

/// The variables of one link.
fn variables(alias: &str, path: &str, address: IpAddr, exposed: &BTreeSet<String>, env: &[String]) -> Vec<String> {
    let prefix = alias.to_uppercase().replace('-', "_");
    let known = exposed.iter().filter_map(|text| {
        let (port, _) = ports::container_port(text).ok()?;
        let protocol = text.split_once('/').map_or("tcp", |(_, protocol)| protocol);
        Some((port, protocol.to_ascii_lowercase()))
    });
    // By number, and tcp before udp.
    let sorted: BTreeSet<(u16, String)> = known.collect();
    let mut variables = Vec::new();
    if let Some((port, protocol)) = sorted.first() {
        variables.push(format!("{prefix}_PORT={protocol}://{address}:{port}"));
    }
    for (port, protocol) in &sorted {
        let name = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
        variables.push(format!("{name}={protocol}://{address}:{port}"));
        variables.push(format!("{name}_ADDR={address}"));
        variables.push(format!("{name}_PORT={port}"));
        variables.push(format!("{name}_PROTO={protocol}"));
    }
    variables.push(format!("{prefix}_NAME={path}"));
    for entry in env {
        // What every container has by itself is nothing to tell.
        if let Some((name, value)) = entry.split_once('=')
            && !matches!(name, "HOME" | "PATH")
        {
            variables.push(format!("{prefix}_ENV_{name}={value}"));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_are_read_in_every_notation() {
        assert_eq!(parse("db").unwrap(), ("db", "db"));
        assert_eq!(parse("db:store").unwrap(), ("db", "store"));
        assert_eq!(parse("/db:/web/store").unwrap(), ("db", "store"));
        for bad in ["", ":", "db:", ":a", "a:b:c", "a:b c", "a:b/c", "a:b\nc", "a:b=c"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn variables_are_dockers() {
        let exposed = ["80/tcp", "53/udp", "53/tcp"].map(str::to_owned).into();
        let env = ["PATH=/bin", "HOME=/", "USER=x=y"].map(str::to_owned);
        let made = variables("my-db", "/web/my-db", IpAddr::from([172, 17, 0, 5]), &exposed, &env);
        for wanted in [
            "MY_DB_PORT=tcp://172.17.0.5:53",
            "MY_DB_PORT_53_UDP=udp://172.17.0.5:53",
            "MY_DB_PORT_80_TCP_ADDR=172.17.0.5",
            "MY_DB_PORT_80_TCP_PORT=80",
            "MY_DB_PORT_80_TCP_PROTO=tcp",
            "MY_DB_NAME=/web/my-db",
            "MY_DB_ENV_USER=x=y",
        ] {
            assert!(made.iter().any(|one| one == wanted), "{wanted}: {made:?}");
        }
        assert!(
            !made
                .iter()
                .any(|one| one.contains("_ENV_PATH") || one.contains("_ENV_HOME"))
        );
    }

    proptest! {
        /// Whatever a container wrote into its file: only addresses of these names change, and a second time nothing does.
        #[test]
        fn only_lines_of_the_link_change(text in "([0-9.]{0,8}\t?(db host|other|)\n?){0,8}") {
            let address = IpAddr::from([10, 0, 0, 9]);
            let once = with_address(&text, "db host", address);
            prop_assert_eq!(&with_address(&once, "db host", address), &once);
            let (old, new): (Vec<_>, Vec<_>) = (text.split('\n').collect(), once.split('\n').collect());
            prop_assert_eq!(old.len(), new.len());
            for (old, new) in old.iter().zip(new) {
                match old.split_once('\t') {
                    Some((_, "db host")) => prop_assert_eq!(new, "10.0.0.9\tdb host"),
                    _ => prop_assert_eq!(*old, new),
                }
            }
        }
    }
}

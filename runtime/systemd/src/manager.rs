//! systemd's manager: starts, changes and stops units.

use crate::address::{SYSTEM_BUS, sockets};
use crate::connection::{CALL_LIMIT, Connection, Wait};
use crate::error::{Error, Result};
use crate::marshal::Writer;
use crate::message::{Call, Message};
use runtime::systemd::{SystemdUnit, UnitProperty};
use std::os::unix::net::SocketAddr;
use std::time::Duration;

/// Where systemd answers root without a bus.
const PRIVATE: &str = "/run/systemd/private";
/// How long the job of a unit may take, as in runc. (For stopping: processes are killed before, so nothing is waited for.)
const JOB_LIMIT: Duration = Duration::from_secs(30);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
pub(crate) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: &str = "org.freedesktop.DBus";

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// A connection to systemd. Drop it after use: systemd sends more than anybody reads.
#[derive(Debug)]
pub struct Manager {
    connection: Connection,
    subscribed: bool,
}

impl Manager {
    /// Connects as root: to systemd itself, or where it does not listen, over the system bus
    /// (`DBUS_SYSTEM_BUS_ADDRESS`, or the usual place).
    ///
    /// # Errors
    /// [`Error::NotBooted`], [`Error::Rootless`]; [`Error::Connect`] and others when nobody answers.
    pub fn connect() -> Result<Manager> {
        if !crate::booted() {
            return Err(Error::NotBooted);
        }
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::Rootless);
        }
        Manager::connect_private().or_else(|_| Manager::connect_bus(None))
    }

    /// Connects to systemd without a bus.
    ///
    /// # Errors
    /// As for [`connect`](Manager::connect).
    pub fn connect_private() -> Result<Manager> {
        let place = || PRIVATE.to_owned();
        let address = SocketAddr::from_pathname(PRIVATE).map_err(|source| Error::Connect { place: place(), source })?;
        Ok(Manager {
            connection: Connection::open(&address, PRIVATE, false)?,
            // It tells its direct clients of every job unasked.
            subscribed: true,
        })
    }

    /// Connects to systemd over a bus: this one, that of the environment, or the usual one.
    ///
    /// # Errors
    /// As for [`connect`](Manager::connect).
    pub fn connect_bus(address: Option<&str>) -> Result<Manager> {
        let from_environment = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
        let address = address.or(from_environment.as_deref().filter(|address| !address.is_empty()));
        let address = address.unwrap_or(SYSTEM_BUS);
        let mut last = Error::Address {
            address: address.to_owned(),
        };
        for socket in sockets(address) {
            let opened = socket.map_err(|source| Error::Connect {
                place: address.to_owned(),
                source,
            });
            match opened.and_then(|socket| Connection::open(&socket, address, true)) {
                Ok(connection) => return Manager::on_bus(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn on_bus(connection: Connection) -> Result<Manager> {
        let mut manager = Manager {
            connection,
            subscribed: false,
        };
        manager.ask_bus("Hello", "", |_| {})?;
        let answer = manager.ask_bus("GetNameOwner", "s", |body| body.text(SYSTEMD))?;
        let mut body = answer.body("s").map_err(|why| malformed("GetNameOwner", why))?;
        // Any user of the bus may send us a signal that looks like systemd's: the sender is what tells them apart.
        manager.connection.peer = body.text().map_err(|why| malformed("GetNameOwner", why))?.to_owned();
        Ok(manager)
    }

    fn ask_bus(&mut self, member: &str, signature: &str, arguments: impl FnOnce(&mut Writer)) -> Result<Message> {
        let mut body = Writer::default();
        arguments(&mut body);
        let call = Call {
            destination: BUS,
            path: "/org/freedesktop/DBus",
            interface: BUS,
            member,
            signature,
            body,
        };
        self.connection.call(call, &Wait::new(member, CALL_LIMIT))
    }

    fn ask(
        &mut self,
        wait: &Wait,
        member: &str,
        signature: &str,
        arguments: impl FnOnce(&mut Writer),
    ) -> Result<Message> {
        let mut body = Writer::default();
        arguments(&mut body);
        let call = Call {
            destination: SYSTEMD,
            path: OBJECT,
            interface: MANAGER,
            member,
            signature,
            body,
        };
        self.connection.call(call, wait)
    }

    fn property(&mut self, wait: &Wait, object: &str, interface: &str, name: &str) -> Result<String> {
        let mut body = Writer::default();
        body.text(interface);
        body.text(name);
        let call = Call {
            destination: SYSTEMD,
            path: object,
            interface: PROPERTIES,
            member: "Get",
            signature: "ss",
            body,
        };
        let answer = self.connection.call(call, wait)?;
        let text = answer.body("v").and_then(|mut body| body.text_variant());
        text.map(str::to_owned).map_err(|why| wait.malformed(why))
    }

    /// systemd's version (`252` of `252.38-1~deb12u1`).
    ///
    /// # Errors
    /// When systemd does not say it.
    pub fn version(&mut self) -> Result<u32> {
        let wait = Wait::new("Get Version", CALL_LIMIT);
        let text = self.property(&wait, OBJECT, MANAGER, "Version")?;
        version_of(&text).ok_or_else(|| wait.malformed("its version is no number"))
    }

    /// Starts a transient unit and waits until it is there (30 s at most). A scope takes `pids` in, of which there
    /// must be one at least; a slice takes no processes, and one that exists already is fine. What a failed unit of
    /// the same name has left is cleared away first.
    ///
    /// # Errors
    /// [`Error::UnitExists`], [`Error::Job`], [`Error::Timeout`]; [`Error::Call`] with systemd's own words for a
    /// property that it does not take.
    pub fn start_unit(&mut self, unit: &SystemdUnit, pids: &[i32]) -> Result<()> {
        self.subscribe()?;
        let name = unit.name.as_str();
        let properties = start_properties(unit, pids);
        let mut tried = false;
        loop {
            self.connection.forget_signals();
            let wait = Wait::new(&format!("the start of {name}"), JOB_LIMIT);
            let started = self.ask(&wait, "StartTransientUnit", "ssa(sv)a(sa(sv))", |body| {
                body.text(name);
                body.text("replace");
                body.properties(&properties);
                // No auxiliary units.
                body.array(8, |_| {});
            });
            let ended = match started {
                Ok(job) => self.wait_for(&job, &wait, name, "started"),
                Err(Error::Call { name: error, .. }) if error == UNIT_EXISTS => {
                    if unit.is_slice() {
                        return Ok(());
                    }
                    if tried {
                        return Err(Error::UnitExists { unit: name.to_owned() });
                    }
                    // One that failed stays until somebody looks at it; one that runs is not moved by this.
                    tried = true;
                    let _ = self.reset_failed(name);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if matches!(ended, Err(Error::Job { .. } | Error::Timeout { .. })) {
                let _ = self.reset_failed(name);
            }
            return ended;
        }
    }

    /// Stops a unit and waits until it has stopped (30 s at most). One that is not there is fine.
    ///
    /// # Errors
    /// [`Error::Job`], [`Error::Timeout`].
    pub fn stop_unit(&mut self, name: &str) -> Result<()> {
        self.subscribe()?;
        self.connection.forget_signals();
        let wait = Wait::new(&format!("the stop of {name}"), JOB_LIMIT);
        let stopped = self.ask(&wait, "StopUnit", "ss", |body| {
            body.text(name);
            body.text("replace");
        });
        let stopped = match stopped {
            Ok(job) => self.wait_for(&job, &wait, name, "stopped"),
            Err(Error::Call { name: error, .. }) if error == NO_SUCH_UNIT => return Ok(()),
            Err(error) => Err(error),
        };
        // Failed while stopping: it would stay, and hold its name.
        let _ = self.reset_failed(name);
        stopped
    }

    /// Clears away what a failed unit has left. One that is not there is fine.
    ///
    /// # Errors
    /// When systemd refuses.
    pub fn reset_failed(&mut self, name: &str) -> Result<()> {
        let wait = Wait::new(&format!("the reset of {name}"), CALL_LIMIT);
        match self.ask(&wait, "ResetFailedUnit", "s", |body| body.text(name)) {
            Err(Error::Call { name: error, .. }) if error == NO_SUCH_UNIT => Ok(()),
            other => other.map(drop),
        }
    }

    /// Changes properties of a unit; for as long as it runs, or until the next boot, when `runtime`.
    ///
    /// # Errors
    /// [`Error::Call`] with systemd's own words.
    pub fn set_properties(&mut self, name: &str, runtime: bool, properties: &[UnitProperty]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let wait = Wait::new(&format!("the change of {name}"), CALL_LIMIT);
        self.ask(&wait, "SetUnitProperties", "sba(sv)", |body| {
            body.text(name);
            body.bool(runtime);
            body.properties(properties);
        })
        .map(drop)
    }

    /// The control group of a scope, slice or service below the root of the hierarchies (`/system.slice/x.scope`);
    /// empty for one that does not run.
    ///
    /// # Errors
    /// [`Error::Call`] for a unit that is not there.
    pub fn control_group(&mut self, name: &str) -> Result<String> {
        let wait = Wait::new(&format!("the search for {name}"), CALL_LIMIT);
        let answer = self.ask(&wait, "GetUnit", "s", |body| body.text(name))?;
        let object = answer.body("o").and_then(|mut body| body.text().map(str::to_owned));
        let object = object.map_err(|why| wait.malformed(why))?;
        let kind = match name.rsplit_once('.') {
            Some((_, "slice")) => "Slice",
            Some((_, "service")) => "Service",
            _ => "Scope",
        };
        self.property(&wait, &object, &format!("{SYSTEMD}.{kind}"), "ControlGroup")
    }

    /// Makes systemd tell us of jobs.
    fn subscribe(&mut self) -> Result<()> {
        if self.subscribed {
            return Ok(());
        }
        let rule =
            format!("type='signal',sender='{SYSTEMD}',path='{OBJECT}',interface='{MANAGER}',member='JobRemoved'");
        self.ask_bus("AddMatch", "s", |body| body.text(&rule))?;
        self.ask(&Wait::new("Subscribe", CALL_LIMIT), "Subscribe", "", |_| {})?;
        self.subscribed = true;
        Ok(())
    }

    fn wait_for(&mut self, answer: &Message, wait: &Wait, unit: &str, verb: &'static str) -> Result<()> {
        let ours = answer.body("o").and_then(|mut body| body.text());
        let ours = ours.map_err(|why| wait.malformed(why))?;
        loop {
            let signal = self.connection.job_end(wait)?;
            let (job, result) = job_removed(&signal).map_err(|why| wait.malformed(why))?;
            if job != ours {
                continue;
            }
            return match result {
                "done" => Ok(()),
                _ => Err(Error::Job {
                    unit: unit.to_owned(),
                    verb,
                    result: result.to_owned(),
                }),
            };
        }
    }
}

fn malformed(during: &str, why: &'static str) -> Error {
    Error::Malformed {
        during: during.to_owned(),
        why,
    }
}

/// The job and its result, of a `JobRemoved`.
fn job_removed(signal: &Message) -> Result<(&str, &str), &'static str> {
    let mut body = signal.body("uoss")?;
    body.u32()?;
    let job = body.text()?;
    body.text()?;
    Ok((job, body.text()?))
}

fn start_properties(unit: &SystemdUnit, pids: &[i32]) -> Vec<UnitProperty> {
    let mut properties = vec![UnitProperty::new("Description", unit.description.as_str())];
    // A slice stands where its name says, and processes get into it by its control group alone.
    if !unit.is_slice() {
        properties.push(UnitProperty::new("Slice", unit.slice.as_str()));
        let pids: Vec<u32> = pids.iter().filter_map(|pid| u32::try_from(*pid).ok()).collect();
        properties.push(UnitProperty::new("PIDs", pids));
    }
    properties.extend(unit.properties.iter().cloned());
    properties
}

/// `v245.4-1.fc32`, `245`, `"257.1"` → the first number.
fn version_of(text: &str) -> Option<u32> {
    let text = text.trim_start_matches(['"', 'v']);
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests;

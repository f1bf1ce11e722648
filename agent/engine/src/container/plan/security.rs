//! Privileges: security options, capabilities, sysctls, and the compiled filters.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use runtime::capabilities;
use runtime::seccomp::{self, Filter, Profile};

use crate::container::spec::HostConfig;
use crate::container::validate::{Share, ipc_share, network_share};
use crate::error::{Error, Result};

/// What `--security-opt` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Security {
    pub no_new_privileges: Option<bool>,
    pub seccomp: Seccomp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Seccomp {
    #[default]
    Default,
    Unconfined,
    /// A profile as JSON text.
    Profile(String),
}

pub(super) fn security(host: &HostConfig) -> Result<Security> {
    let mut found = Security::default();
    for option in &host.security_opt {
        let (key, value) = option
            .split_once('=')
            .or_else(|| option.split_once(':'))
            .unwrap_or((option, ""));
        match (key, value) {
            ("no-new-privileges", "" | "true") => found.no_new_privileges = Some(true),
            ("no-new-privileges", "false") => found.no_new_privileges = Some(false),
            ("seccomp", "unconfined") => found.seccomp = Seccomp::Unconfined,
            ("seccomp", "" | "builtin") => found.seccomp = Seccomp::Default,
            ("seccomp", profile) => found.seccomp = Seccomp::Profile(profile.to_owned()),
            // No AppArmor or SELinux is applied, so turning them off asks for what is so.
            ("apparmor", "unconfined") | ("label", "disable") => {}
            ("apparmor" | "label" | "systempaths" | "writable-cgroups" | "credentialspec", _) => {
                return Err(Error::unsupported(format!("--security-opt {option}")));
            }
            _ => return Err(Error::invalid(format!("invalid --security-opt 2: \"{option}\""))),
        }
    }
    Ok(found)
}

/// The capabilities of a container: Docker's rule, within what this daemon can hand on.
pub(super) fn capability_sets(host: &HostConfig) -> Result<u64> {
    let available = capabilities::available();
    if host.privileged {
        return Ok(capabilities::ALL & available);
    }
    let wanted = capabilities::adjust(&host.cap_add, &host.cap_drop)
        .map_err(|name| Error::invalid(format!("invalid capability: \"{name}\"")))?;
    let all = host.cap_add.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let named = capabilities::mask(host.cap_add.iter().filter(|name| !name.eq_ignore_ascii_case("ALL"))).unwrap_or(0);
    let missing = capabilities::names(named & wanted & !available);
    if let (Some(name), false) = (missing.first(), all) {
        return Err(Error::invalid(format!(
            "capability {name} cannot be given: the daemon does not have it itself"
        )));
    }
    Ok(wanted & available)
}

/// Sysctls that belong to a namespace of the container; others would change the host.
pub(super) fn sysctl(name: &str, host: &HostConfig) -> Result<String> {
    let path = name.replace('.', "/");
    let ipc = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
    ];
    let own_ipc = ipc_share(host)? != Share::Host;
    let own_net = network_share(host)? != Share::Host;
    let refuse = |why: &str| Err(Error::invalid(format!("sysctl '{name}' is not allowed: {why}")));
    if path
        .split('/')
        .any(|part| part.is_empty() || part == ".." || part == ".")
    {
        return refuse("it is no name of a setting");
    }
    if ipc.contains(&path.as_str()) || path.starts_with("fs/mqueue/") {
        return if own_ipc {
            Ok(path)
        } else {
            refuse("the container has the host's IPC namespace")
        };
    }
    if path.starts_with("net/") {
        return if own_net {
            Ok(path)
        } else {
            refuse("the container has the host's network namespace")
        };
    }
    match path.as_str() {
        "kernel/domainname" if host.uts_mode != "host" => Ok(path),
        "kernel/hostname" => refuse("use --hostname"),
        _ => refuse("it is not in a separate kernel namespace"),
    }
}

/// Profiles and their compiled filters: compiling takes longer than starting.
#[derive(Default)]
pub struct PlanCache {
    filters: seccomp::Cache,
    /// Users' profiles by their text.
    profiles: Mutex<HashMap<String, Arc<Profile>>>,
}

/// Users' profiles kept; there may be many.
pub(super) const PROFILES: usize = 64;

impl PlanCache {
    pub fn new() -> PlanCache {
        PlanCache::default()
    }

    fn profile(&self, text: &str) -> Result<Arc<Profile>> {
        let mut profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(profile) = profiles.get(text) {
            return Ok(profile.clone());
        }
        let read = Profile::from_json(text.as_bytes()).map_err(|error| Error::invalid(error_text(&error)))?;
        let profile = Arc::new(read);
        if profiles.len() >= PROFILES {
            profiles.clear();
        }
        profiles.insert(text.to_owned(), profile.clone());
        Ok(profile)
    }

    /// What a container's calls go by; `None`: no filter. One with a size must not be able to leave its project.
    fn chosen(&self, wanted: &Seccomp, host: &HostConfig) -> Result<Option<Arc<Profile>>> {
        let profile = match wanted {
            Seccomp::Unconfined => return Ok(None),
            Seccomp::Default => Profile::docker(),
            Seccomp::Profile(text) => self.profile(text)?,
        };
        Ok(Some(match host.storage_opt.is_empty() {
            true => profile,
            false => Arc::new(profile.keeping_projects()),
        }))
    }

    /// The profile in the words of the OCI specification; `None`: no filter.
    pub(super) fn oci_profile(
        &self,
        wanted: &Seccomp,
        host: &HostConfig,
        caps: u64,
    ) -> Result<Option<serde_json::Value>> {
        let Some(profile) = self.chosen(wanted, host)? else {
            return Ok(None);
        };
        let context = seccomp::Context::of_machine(caps);
        let oci = context.and_then(|context| profile.to_oci(&context));
        oci.map(Some).map_err(|error| Error::invalid(error_text(&error)))
    }

    pub(super) fn filter(&self, wanted: &Seccomp, host: &HostConfig, caps: u64) -> Result<Arc<Filter>> {
        let Some(profile) = self.chosen(wanted, host)? else {
            return Ok(Arc::default());
        };
        let filter = self
            .filters
            .get(&profile, caps)
            .map_err(|error| Error::invalid(error_text(&error)))?;
        if filter.notifies() {
            return Err(Error::unsupported("a seccomp profile with SCMP_ACT_NOTIFY".to_owned()));
        }
        Ok(filter)
    }
}

/// An error with its causes, as one line.
pub(super) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sysctls_stay_in_their_namespaces() {
        let own = HostConfig::default();
        assert_eq!(sysctl("net.ipv4.ip_forward", &own).unwrap(), "net/ipv4/ip_forward");
        let host = HostConfig {
            network_mode: "host".into(),
            ipc_mode: "host".into(),
            ..HostConfig::default()
        };
        for name in [
            "net.ipv4.ip_forward",
            "kernel.shmmax",
            "vm.swappiness",
            "net..x",
            "net.ipv4.../../x",
        ] {
            assert!(sysctl(name, &host).is_err(), "{name}");
        }
        assert!(sysctl("kernel.panic", &own).is_err());
    }

    #[test]
    fn a_profile_that_notifies_is_refused_by_name() {
        let profile = |action: &str| {
            let text = format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent.sock",
                    "syscalls": [{{"names": ["mkdir"], "action": "{action}"}}]}}"#
            );
            PlanCache::new().filter(&Seccomp::Profile(text), &HostConfig::default(), 0)
        };
        assert!(profile("SCMP_ACT_LOG").is_ok());
        let error = profile("SCMP_ACT_NOTIFY").unwrap_err().to_string();
        assert!(error.contains("SCMP_ACT_NOTIFY"), "{error}");
    }

    #[test]
    fn security_options() {
        let with = |option: &str| HostConfig {
            security_opt: vec![option.into()],
            ..HostConfig::default()
        };
        assert_eq!(
            security(&with("no-new-privileges")).unwrap().no_new_privileges,
            Some(true)
        );
        assert_eq!(
            security(&with("seccomp=unconfined")).unwrap().seccomp,
            Seccomp::Unconfined
        );
        assert!(security(&with("apparmor=foo")).is_err() && security(&with("nonsense")).is_err());
    }
}

//! Options of the `local` driver: what is mounted as a volume's content, and when.
//!
//! A volume with options is mounted over its folder when the first container that has it starts, and unmounted when the
//! last one of them ends; who has it is kept here and found anew after a restart of the daemon. The kernel's own word is
//! asked before anything is deleted below a mount point.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::mount::MsFlags;

use super::{Volume, Volumes};
use crate::Engine;
use crate::container::Record;
use crate::container::mounts::MountKind;
use crate::disk;
use crate::error::{Error, Result};

/// What a volume's options ask the kernel for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    pub fstype: String,
    pub device: String,
    /// `o`, split into the kernel's flags …
    pub flags: MsFlags,
    /// … what follows the mount itself, one call each …
    pub propagation: Vec<MsFlags>,
    /// … and the file system's own words.
    pub data: String,
}

/// Reads and checks the options of a new volume; `None` when there are none.
///
/// # Errors
/// Docker's words for an option that is not known, or one that is missing.
pub fn parse(options: &BTreeMap<String, String>) -> Result<Option<MountOptions>> {
    if options.is_empty() {
        return Ok(None);
    }
    for key in options.keys() {
        match key.as_str() {
            "type" | "device" | "o" => {}
            "size" => return Err(Error::invalid("quota size requested but no quota support")),
            other => return Err(Error::invalid(format!("invalid option: \"{other}\""))),
        }
    }
    let text = |key: &str| options.get(key).cloned().unwrap_or_default();
    for key in ["device", "type"] {
        if !options.contains_key(key) {
            return Err(Error::invalid(format!("missing required option: \"{key}\"")));
        }
    }
    let (fstype, device) = (text("type"), text("device"));
    if [&fstype, &device, &text("o")].iter().any(|value| value.contains('\0')) {
        return Err(Error::invalid("invalid option: a value has a NUL byte"));
    }
    let (flags, propagation, data) = words(&text("o"));
    if flags.contains(MsFlags::MS_BIND) && !device.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid option: device {device:?} of a bind must be an absolute path"
        )));
    }
    Ok(Some(MountOptions {
        fstype,
        device,
        flags,
        propagation,
        data,
    }))
}

/// `o=…`: words that the kernel has flags for, and the rest.
fn words(text: &str) -> (MsFlags, Vec<MsFlags>, String) {
    let (mut flags, mut propagation, mut data) = (MsFlags::empty(), Vec::new(), Vec::new());
    let recursive = MsFlags::MS_REC;
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "defaults" | "rw" | "suid" | "dev" | "exec" | "async" | "atime" | "diratime" | "nostrictatime"
            | "norelatime" | "loud" | "nomand" | "noiversion" => {}
            "ro" => flags |= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            "mand" => flags |= MsFlags::MS_MANDLOCK,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | recursive,
            "private" => propagation.push(MsFlags::MS_PRIVATE),
            "rprivate" => propagation.push(MsFlags::MS_PRIVATE | recursive),
            "shared" => propagation.push(MsFlags::MS_SHARED),
            "rshared" => propagation.push(MsFlags::MS_SHARED | recursive),
            "slave" => propagation.push(MsFlags::MS_SLAVE),
            "rslave" => propagation.push(MsFlags::MS_SLAVE | recursive),
            "unbindable" => propagation.push(MsFlags::MS_UNBINDABLE),
            "runbindable" => propagation.push(MsFlags::MS_UNBINDABLE | recursive),
            other => data.push(other.to_owned()),
        }
    }
    (flags, propagation, data.join(","))
}

impl MountOptions {
    /// Network file systems want an address where people write a name.
    fn resolved_data(&self) -> std::io::Result<String> {
        if !matches!(self.fstype.as_str(), "nfs" | "nfs4" | "cifs") {
            return Ok(self.data.clone());
        }
        let resolve = |word: &str| -> std::io::Result<String> {
            let Some(host) = word.strip_prefix("addr=") else {
                return Ok(word.to_owned());
            };
            if host.parse::<std::net::IpAddr>().is_ok() {
                return Ok(word.to_owned());
            }
            let found = (host, 0).to_socket_addrs()?.next();
            let found = found.ok_or_else(|| std::io::Error::other(format!("{host} has no address")))?;
            Ok(format!("addr={}", found.ip()))
        };
        let words: Vec<String> = self.data.split(',').map(resolve).collect::<std::io::Result<_>>()?;
        Ok(words.join(","))
    }

    fn mount(&self, target: &Path) -> Result<()> {
        let failed = |source: std::io::Error| Error::Io {
            doing: format!(
                "mount local volume: mount {}:{}, data: {}",
                self.device,
                target.display(),
                self.data
            ),
            source,
        };
        let data = self.resolved_data().map_err(failed)?;
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (device, fstype, data) = (some(&self.device), some(&self.fstype), some(&data));
        let call = |flags: MsFlags| {
            nix::mount::mount(device.as_deref(), target, fstype.as_deref(), flags, data.as_deref())
                .map_err(|errno| failed(errno.into()))
        };
        call(self.flags)?;
        let undo = |error| {
            // The failure is what counts; a mount that stays is found at the next start.
            let _ = disk::detach_below(target);
            error
        };
        if self.flags.contains(MsFlags::MS_BIND) && self.flags.intersects(!(MsFlags::MS_BIND | MsFlags::MS_REC)) {
            // A bind takes its other flags only when it is mounted again.
            call((self.flags - MsFlags::MS_REC) | MsFlags::MS_REMOUNT).map_err(undo)?;
        }
        for flags in &self.propagation {
            nix::mount::mount(None::<&str>, target, None::<&str>, *flags, None::<&str>)
                .map_err(|errno| undo(failed(errno.into())))?;
        }
        Ok(())
    }
}

/// Who has which volume mounted.
#[derive(Default)]
pub(super) struct Holders(Mutex<HashMap<String, Arc<Mutex<BTreeSet<String>>>>>);

impl Holders {
    /// The holders of one volume, behind a lock of their own: a slow server holds up nobody else.
    fn of(&self, volume: &str) -> Arc<Mutex<BTreeSet<String>>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(volume.to_owned()).or_default().clone()
    }
}

fn lock(holders: &Mutex<BTreeSet<String>>) -> MutexGuard<'_, BTreeSet<String>> {
    holders.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Volumes {
    /// Mounts a volume for a holder, if it is one that is mounted. Blocks.
    pub(crate) fn hold(&self, name: &str, holder: &str) -> Result<()> {
        let Some(options) = parse(&self.get(name)?.options)? else {
            return Ok(());
        };
        let holders = self.holders.of(name);
        let mut holders = lock(&holders);
        let target = self.mountpoint(name);
        if disk::mounts_below(&target).is_empty() {
            options.mount(&target)?;
        }
        holders.insert(holder.to_owned());
        Ok(())
    }

    /// The holder needs it no more; the last one's end unmounts it. Blocks.
    pub(crate) fn let_go(&self, name: &str, holder: &str) -> Result<()> {
        let holders = self.holders.of(name);
        let mut holders = lock(&holders);
        if holders.remove(holder) && holders.is_empty() {
            disk::detach_below(&self.mountpoint(name))?;
        }
        Ok(())
    }

    /// Whether somebody has it mounted, as far as we know.
    pub(crate) fn is_held(&self, name: &str) -> bool {
        !lock(&self.holders.of(name)).is_empty()
    }

    /// Unmounts a volume that nobody holds.
    pub(crate) fn unmount_if_unheld(&self, name: &str) -> Result<()> {
        let holders = self.holders.of(name);
        let holders = lock(&holders);
        match holders.is_empty() {
            true => disk::detach_below(&self.mountpoint(name)),
            false => Ok(()),
        }
    }

    /// Unmounts what is at a volume's folder before that goes.
    pub(super) fn unmount(&self, name: &str) -> Result<()> {
        let holders = self.holders.of(name);
        let _nobody_mounts_meanwhile = lock(&holders);
        disk::detach_below(&self.root.join(name))
    }

    /// After a restart: a container that runs on holds its volumes still.
    pub(crate) fn remember_holder(&self, id: &str, record: &Record) {
        for name in mounted(self, record) {
            lock(&self.holders.of(&name)).insert(id.to_owned());
        }
    }

    /// Unmounts every volume that nobody holds.
    pub(crate) fn unmount_unheld(&self) -> Result<()> {
        for volume in self.all().iter().filter(|volume| !volume.options.is_empty()) {
            let holders = self.holders.of(&volume.name);
            let holders = lock(&holders);
            if holders.is_empty() {
                disk::detach_below(&self.mountpoint(&volume.name))?;
            }
        }
        Ok(())
    }
}

/// Volumes of a container that are mounted for use.
fn mounted(volumes: &Volumes, record: &Record) -> Vec<String> {
    let names = record.mounts.iter().filter(|mount| mount.kind == MountKind::Volume);
    let is_mounted = |volume: Volume| (!volume.options.is_empty()).then_some(volume.name);
    names
        .filter_map(|mount| is_mounted(volumes.get(&mount.name).ok()?))
        .collect()
}

impl Engine {
    pub(crate) fn has_mounted_volumes(&self, record: &Record) -> bool {
        !mounted(&self.volumes, record).is_empty()
    }

    /// Mounts the container's volumes that have to be. Blocks.
    pub(crate) fn hold_volumes(&self, record: &Record) -> Result<()> {
        for name in mounted(&self.volumes, record) {
            self.volumes
                .hold(&name, record.id.as_str())
                .map_err(|error| Error::VolumeMount {
                    volume: name,
                    source: Box::new(error),
                })?;
        }
        Ok(())
    }

    /// The container's run is over.
    pub(crate) async fn release_volumes(&self, id: &str, record: &Record) {
        let names = mounted(&self.volumes, record);
        if names.is_empty() {
            return;
        }
        let holder = id.to_owned();
        let released =
            self.blocking(move |engine| names.iter().try_for_each(|name| engine.volumes.let_go(name, &holder)));
        if let Err(error) = released.await {
            tracing::warn!(container = id, error = %error.chain(), "a volume of an ended container stays mounted");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn options_are_checked_by_name() {
        assert_eq!(parse(&options(&[])).unwrap(), None);
        let tmpfs = options(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,noexec,uid=7")]);
        let read = parse(&tmpfs).unwrap().unwrap();
        assert_eq!((read.flags, read.data.as_str()), (MsFlags::MS_NOEXEC, "size=1m,uid=7"));
        for (bad, word) in [
            (options(&[("colour", "blue")]), "invalid option: \"colour\""),
            (options(&[("type", "tmpfs")]), "missing required option: \"device\""),
            (options(&[("device", "x")]), "missing required option: \"type\""),
            (options(&[("o", "ro")]), "missing required option"),
            (options(&[("size", "1g")]), "quota"),
            (
                options(&[("type", "none"), ("device", "data"), ("o", "bind")]),
                "absolute",
            ),
        ] {
            let error = parse(&bad).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    proptest! {
        #[test]
        fn every_word_is_a_flag_or_goes_to_the_file_system(words in proptest::collection::vec("[a-z]{2,8}(=[a-z0-9]{1,4})?", 0..6)) {
            let text = words.join(",");
            let (flags, propagation, data) = super::words(&text);
            let known = |word: &String| {
                let (own, other, rest) = super::words(word);
                rest.is_empty() && (own.is_empty() || flags.contains(own)) && other.iter().all(|flag| propagation.contains(flag))
            };
            for word in &words {
                prop_assert!(known(word) || data.split(',').any(|own| own == word), "{} is lost", word);
            }
        }
    }
}

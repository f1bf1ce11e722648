//! Create: request + image → a whole container on disk, not yet running.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::SystemTime;

use agent_store::{Batch, Image};

use super::mounts::{self, MountKind, MountPoint, PlannedMount};
use super::spec::{Config, CreateRequest, Healthcheck};
use super::state::Status;
use super::{Container, RECORD_VERSION, Record, storage, unhealthy, users, validate};
use crate::Engine;
use crate::disk;
use crate::error::{Error, Result};
use crate::events::EventKind;
use crate::ids::{ContainerId, container_name, random_hex};
use crate::volumes::VolumeRequest;

pub(crate) const TABLE: &str = "containers";

/// Tries for a random name before giving up.
const NAME_TRIES: u32 = 64;

/// Answer to a create.
#[derive(Clone, Debug)]
pub struct Created {
    pub id: ContainerId,
    pub warnings: Vec<String>,
}

/// The folder of a container's log and of its files for names and addresses.
pub(crate) fn make_folder(path: &std::path::Path) -> Result<()> {
    DirBuilder::new()
        .mode(0o710)
        .create(path)
        .map_err(Error::io(format!("create {}", path.display())))
}

impl Engine {
    /// Makes a container from an image that is here already.
    ///
    /// # Errors
    /// `NoSuchImage` (clients pull then and try again), `NameTaken`, and whatever is wrong with the request. Nothing is
    /// left behind then.
    pub async fn create(&self, name: Option<String>, request: CreateRequest) -> Result<Created> {
        let engine = self.clone();
        self.detached(async move { engine.create_now(name, request).await })
            .await
    }

    async fn create_now(&self, name: Option<String>, mut request: CreateRequest) -> Result<Created> {
        users::from_annotation(&mut request.host)?;
        // docker's client says links of the default network twice.
        for endpoint in request.endpoints.values_mut() {
            endpoint.links.retain(|link| !request.host.links.contains(link));
        }
        let wanted = name
            .filter(|name| !name.is_empty())
            .map(|name| container_name(&name))
            .transpose()?;
        let mut warnings = validate::request(&request, self)?;
        let image = self.image_for(&request.config.image)?;
        self.last_use.note(image.id.as_str());
        let id = ContainerId::random();
        let claim = match &wanted {
            Some(name) => self.index.claim(name, &id)?,
            None => self.claim_random(&id)?,
        };
        let mut config = merge(request.config, &image)?;
        warnings.extend(unhealthy::doubt(&config, &request.host));
        if let validate::Share::Container(target) = validate::network_share(&request.host)? {
            // It shares the other one's address, and so its name.
            let other = self.container(&target)?;
            let inner = other.lock();
            config.hostname.clone_from(&inner.record.config.hostname);
            config.domainname.clone_from(&inner.record.config.domainname);
        }
        if config.hostname.is_empty() {
            config.hostname = match request.host.network_mode.as_str() {
                "host" => host_name(),
                _ if request.host.uts_mode == "host" => host_name(),
                _ => id.short().to_owned(),
            };
        }
        let mut host = request.host;
        self.fill_host_defaults(&mut host);
        self.resolve_links(&mut host)?;
        if let Some(endpoint) = request.endpoints.values().next() {
            validate::endpoint(endpoint)?;
            if !endpoint.mac_address.is_empty() {
                config.mac_address.clone_from(&endpoint.mac_address);
            }
        }
        let inherited = self.volumes_from(&host.volumes_from)?;
        let planned = mounts::plan(&host, &inherited, config.volumes.iter().cloned())?;
        validate::bind_sources(&planned)?;

        let users = self.claim_users(&id, &host)?;
        let mut record = Record {
            version: RECORD_VERSION,
            id: id.clone(),
            name: claim.name().to_owned(),
            created: SystemTime::now(),
            image: image.id.to_string(),
            chain: image.chain.iter().map(ToString::to_string).collect(),
            config,
            host,
            mounts: inherited
                .into_iter()
                .filter(|mount| !planned.iter().any(|own| own.point.target == mount.target))
                .collect(),
            status: Status::default(),
            health: None,
            next: None,
            users: users.given.clone(),
        };
        if record.argv().is_empty() {
            return Err(Error::invalid("no command specified"));
        }
        record.health = super::health::initial(&record.config);

        let mut made = Made::default();
        if let Err(error) = self.build(&mut record, &image, planned, &mut made).await {
            self.undo(&id, made).await;
            return Err(error);
        }
        let container = Arc::new(Container::new(record));
        self.index.insert(container.clone());
        claim.keep();
        users.keep();
        self.journal.record(
            EventKind::Container,
            "create",
            id.as_str(),
            container.event_attributes(),
        );
        Ok(Created { id, warnings })
    }

    /// Everything that touches the disk, in an order in which a crash leaves only folders without a record.
    async fn build(
        &self,
        record: &mut Record,
        image: &Arc<Image>,
        planned: Vec<PlannedMount>,
        made: &mut Made,
    ) -> Result<()> {
        let places = self.places(&record.id);
        make_folder(&places.data)?;
        made.folder = true;
        runtime_sys::failpoint!("create-folder-made");
        for mount in planned {
            record.mounts.push(self.realise(mount, image, made).await?);
        }
        record.mounts.sort_by_key(|mount| mount.target.matches('/').count());
        let bytes = serde_json::to_vec(record).map_err(|source| Error::Record {
            what: format!("container {}", record.id),
            source,
        })?;
        let mut batch = Batch::new();
        let size = storage::size(&record.host.storage_opt)?;
        self.store
            .snapshots()
            .create_in(&mut batch, record.id.as_str(), &image.chain, size)?;
        made.snapshot = true;
        runtime_sys::failpoint!("create-layer-made");
        batch.put(TABLE, record.id.as_str(), bytes);
        self.store.db().commit(batch).await?;
        runtime_sys::failpoint!("create-recorded");
        Ok(())
    }

    /// Makes the volume or the source folder of one mount.
    pub(super) async fn realise(
        &self,
        planned: PlannedMount,
        image: &Arc<Image>,
        made: &mut Made,
    ) -> Result<MountPoint> {
        let mut point = planned.point;
        match point.kind {
            MountKind::Bind => {
                if planned.create_source && !point.source.exists() {
                    fs::create_dir_all(&point.source)
                        .map_err(Error::io(format!("create the bind source {}", point.source.display())))?;
                }
            }
            MountKind::Volume => {
                let request = VolumeRequest {
                    name: point.name.clone(),
                    driver: String::new(),
                    options: planned.volume_driver_options,
                    labels: planned.volume_labels,
                };
                let (volume, new) = self.ensure_volume(request, point.anonymous).await?;
                if new {
                    made.volumes.push(volume.name.clone());
                }
                point.source = self.volumes.mountpoint(&volume.name);
                if point.copy_up && !volume.options.is_empty() {
                    // Its content is there only while it is mounted.
                    let (image, point, name) = (image.clone(), point.clone(), volume.name.clone());
                    self.blocking(move |engine| {
                        let holder = format!("create {}", random_hex());
                        engine.volumes.hold(&name, &holder)?;
                        let copied = engine.fill_volume(&image, &point);
                        engine.volumes.let_go(&name, &holder)?;
                        copied
                    })
                    .await?;
                } else if point.copy_up && is_empty(&point.source) {
                    let (image, point) = (image.clone(), point.clone());
                    self.blocking(move |engine| engine.fill_volume(&image, &point)).await?;
                }
            }
            MountKind::Image => {
                let mounted = self.find_image(&point.name).map_err(|error| match error {
                    // Not "not found": clients would take that for the container's own image, and pull it.
                    Error::NoSuchImage(_) => {
                        Error::invalid(format!("invalid mount config for type \"image\": {error}"))
                    }
                    other => other,
                })?;
                point.name = mounted.id.to_string();
                let layers = self.store.layers().lower(&mounted.chain);
                point.source = layers.into_iter().next().unwrap_or_default();
            }
            MountKind::Tmpfs => {}
        }
        Ok(point)
    }

    /// Gives an empty volume what the image has at its place. Blocks.
    fn fill_volume(&self, image: &Image, point: &MountPoint) -> Result<()> {
        if !is_empty(&point.source) {
            return Ok(());
        }
        let target = std::path::Path::new(&point.target);
        self.store.snapshots().copy_out(&image.chain, target, &point.source)?;
        // Filled once only: what a power loss took of it would be missing for good.
        disk::sync_tree(&point.source)
    }

    /// Mounts that come from other containers (`--volumes-from`); a later one of the same target replaces an earlier one.
    fn volumes_from(&self, sources: &[String]) -> Result<Vec<MountPoint>> {
        let mut mounts: Vec<MountPoint> = Vec::new();
        for source in sources {
            let (name, mode) = source.split_once(':').unwrap_or((source, ""));
            let writable = match mode {
                "" | "rw" | "z" | "Z" => true,
                "ro" => false,
                other => return Err(Error::invalid(format!("invalid mode: {other}"))),
            };
            let other = self.container(name).map_err(|error| match error {
                Error::NoSuchContainer(name) => Error::invalid(format!("No such container: {name}")),
                error => error,
            })?;
            let inner = other.lock();
            for mount in inner
                .record
                .mounts
                .iter()
                .filter(|mount| mount.kind != MountKind::Tmpfs)
            {
                let mut mount = mount.clone();
                mount.writable &= writable;
                // It belongs to the other container and stays when this one goes.
                mount.anonymous = false;
                mounts.retain(|earlier| earlier.target != mount.target);
                mounts.push(mount);
            }
        }
        Ok(mounts)
    }

    pub(super) async fn undo(&self, id: &ContainerId, made: Made) {
        if made.snapshot {
            let mut batch = Batch::new();
            let removed = match self.store.snapshots().remove_in(&mut batch, id.as_str()) {
                Ok(()) => self.store.db().commit(batch).await,
                Err(error) => Err(error),
            };
            self.store.snapshots().removed(id.as_str());
            if let Err(error) = removed {
                tracing::warn!(container = %id, %error, "undo of a create: the writable layer stays until the next start");
            }
        }
        for volume in made.volumes {
            if let Err(error) = self.drop_volume(&volume, true).await {
                tracing::warn!(container = %id, %volume, %error, "undo of a create: the volume stays");
            }
        }
        if made.folder {
            let _ = fs::remove_dir_all(self.places(id).data);
        }
    }

    fn claim_random(&self, id: &ContainerId) -> Result<crate::index::NameClaim<'_>> {
        let mut last = None;
        for attempt in 0..NAME_TRIES {
            match self.index.claim(&super::list::random_name(attempt), id) {
                Ok(claim) => return Ok(claim),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(Error::Busy))
    }

    fn fill_host_defaults(&self, host: &mut super::spec::HostConfig) {
        if host.network_mode.is_empty() || host.network_mode == "default" {
            host.network_mode = "bridge".into();
        }
        let limits = &mut host.resources;
        if limits.memory > 0 && limits.memory_swap == 0 && self.cgroups.support().swap {
            // Docker's default, shown by inspect: as much swap again as memory.
            limits.memory_swap = limits.memory.saturating_mul(2);
        }
        if host.shm_size == 0 {
            host.shm_size = self.config.default_shm_size;
        }
        host.log = self.effective_log(&host.log);
        if host.ipc_mode.is_empty() {
            host.ipc_mode = "private".into();
        }
        if host.cgroupns_mode.is_empty() {
            host.cgroupns_mode = "private".into();
        }
        if host.runtime.is_empty() {
            host.runtime.clone_from(&self.live().default_runtime);
        }
    }
}

/// What a create has made so far.
#[derive(Default)]
pub(super) struct Made {
    folder: bool,
    snapshot: bool,
    volumes: Vec<String>,
}

fn is_empty(folder: &std::path::Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".into())
}

/// The request over the image's defaults, as Docker merges them.
pub(crate) fn merge(mut own: Config, image: &Image) -> Result<Config> {
    let base = &image.parsed.config;
    if own.user.is_empty() {
        own.user.clone_from(&base.user);
    }
    own.exposed_ports
        .extend(base.exposed_ports.iter().flat_map(|ports| ports.keys().cloned()));
    let named = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let set: Vec<String> = own.env.iter().map(named).collect();
    let mut env: Vec<String> = base
        .env
        .iter()
        .flatten()
        .filter(|entry| !set.contains(&named(entry)))
        .cloned()
        .collect();
    // A name without `=` takes a variable out.
    env.extend(own.env.iter().filter(|entry| entry.contains('=')).cloned());
    own.env = env;
    for (key, value) in base.labels.iter().flatten() {
        own.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let no_entrypoint = own.entrypoint.as_ref().is_none_or(Vec::is_empty);
    if no_entrypoint {
        let no_command = own.cmd.as_ref().is_none_or(Vec::is_empty);
        if no_command {
            own.cmd = base.cmd.clone();
        }
        // `--entrypoint ""` arrives as [""] and takes the image's away.
        if own.entrypoint.is_none() {
            own.entrypoint = base.entrypoint.clone();
        }
    }
    if own.entrypoint.as_deref() == Some(&[String::new()][..]) {
        own.entrypoint = None;
    }
    let declared = base.healthcheck.as_ref().map(|check| Healthcheck {
        test: check.test.clone().unwrap_or_default(),
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    });
    match (&mut own.healthcheck, declared) {
        (None, inherited) => own.healthcheck = inherited,
        (Some(own), Some(base)) => {
            if own.test.is_empty() {
                own.test = base.test;
            }
            for (own, base) in [
                (&mut own.interval, base.interval),
                (&mut own.timeout, base.timeout),
                (&mut own.start_period, base.start_period),
                (&mut own.start_interval, base.start_interval),
                (&mut own.retries, base.retries),
            ] {
                if *own == 0 {
                    *own = base;
                }
            }
        }
        (Some(_), None) => {}
    }
    if own.working_dir.is_empty() {
        own.working_dir.clone_from(&base.working_dir);
    }
    if !own.working_dir.is_empty() {
        if !own.working_dir.starts_with('/') {
            return Err(Error::invalid(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                own.working_dir
            )));
        }
        own.working_dir = mounts::lexical(&own.working_dir);
    }
    own.volumes
        .extend(base.volumes.iter().flat_map(|volumes| volumes.keys().cloned()));
    if own.stop_signal.as_ref().is_none_or(String::is_empty) {
        own.stop_signal = base.stop_signal.clone().filter(|signal| !signal.is_empty());
    }
    if own.stop_timeout.is_none() {
        own.stop_timeout = base.stop_timeout;
    }
    if own.on_build.is_none() {
        own.on_build = base.on_build.clone();
    }
    if own.shell.is_none() {
        own.shell = base.shell.clone();
    }
    Ok(own)
}

impl Engine {
    /// The image a create names: by id, prefix, digest or reference.
    pub(crate) fn image_for(&self, name: &str) -> Result<Arc<Image>> {
        if name.is_empty() {
            return Err(Error::invalid(
                "config cannot be empty in order to create a container: no image given",
            ));
        }
        self.find_image(name)
    }
}

/// Extra attributes of an event.
pub(crate) fn with<const N: usize>(
    mut attributes: BTreeMap<String, String>,
    more: [(&str, String); N],
) -> BTreeMap<String, String> {
    attributes.extend(more.into_iter().map(|(key, value)| (key.to_owned(), value)));
    attributes
}

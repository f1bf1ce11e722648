//! Pull: resolve at the registry, fetch the missing layers side by side, unpack while they arrive, record the image.
//!
//! A layer that is there (from another image, or from a pull that broke off) is not fetched again; two pulls that want the
//! same layer make it once. Dropping the receiver cancels: layers that are complete stay, half ones leave nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_registry::{Credentials, LayerDesc, Platform, Reference, Resolved};
use agent_store::{Begin, ChainId, Digest, Image, Lease, NewImage, NewManifest, Source, Unpack, feed};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::Engine;
use crate::error::{Error, Result};
use crate::events::EventKind;

/// Chunks between download and unpacking; each is what the connection gave, at most some dozens of KiB.
const FEED_DEPTH: usize = 32;
/// How often the progress of a layer is told.
const TICK: Duration = Duration::from_millis(100);
/// Progress records that wait for a slow reader; more are dropped, the last state of a layer never is.
const EVENTS: usize = 1024;

/// What a pull tells while it runs.
#[derive(Debug)]
pub enum PullEvent {
    /// The registry knows it; layers follow.
    Pulling { tag: String, repository: String },
    /// A layer, by the first twelve digits of its digest.
    Layer { id: String, step: LayerStep },
    /// Digest of what the name stands for.
    Digest(String),
    /// The end: the image, and whether anything new came; or why not.
    Done(Result<Pulled>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerStep {
    Waiting,
    /// Bytes of the compressed layer.
    Downloading {
        current: u64,
        total: u64,
    },
    /// All of it is here.
    Downloaded,
    Extracting,
    Done,
    AlreadyExists,
}

#[derive(Clone, Debug)]
pub struct Pulled {
    pub image: Arc<Image>,
    /// Familiar name with tag or digest.
    pub name: String,
    pub new: bool,
}

/// Turns of layers over all pulls of the node.
#[derive(Clone)]
pub struct Pulls {
    turns: Arc<Semaphore>,
}

impl Default for Pulls {
    fn default() -> Self {
        Pulls {
            turns: Arc::new(Semaphore::new(3)),
        }
    }
}

impl Pulls {
    /// `downloads` layers at once.
    pub fn new(downloads: usize) -> Pulls {
        Pulls {
            turns: Arc::new(Semaphore::new(downloads.max(1))),
        }
    }
}

impl Engine {
    /// Pulls an image; the receiver ends with [`PullEvent::Done`].
    pub fn pull(
        &self,
        reference: Reference,
        platform: Option<Platform>,
        credentials: Option<Credentials>,
    ) -> mpsc::Receiver<PullEvent> {
        self.begin_pull(reference.or_latest(), platform, credentials, For::Users)
    }

    /// Of one tag or digest, or of all tags of a bare name.
    pub(super) fn begin_pull(
        &self,
        reference: Reference,
        platform: Option<Platform>,
        credentials: Option<Credentials>,
        wanted_for: For,
    ) -> mpsc::Receiver<PullEvent> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        let pull = Pull {
            engine: self.clone(),
            reference,
            platform: platform.unwrap_or_else(Platform::host),
            credentials,
            wanted_for,
            events: sender,
        };
        self.tasks.spawn(pull.finish());
        receiver
    }
}

/// Who asked: what only a kubelet asked for, it may remove by itself ([`super::pods`]).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Users,
    Pods,
}

#[derive(Clone)]
pub(super) struct Pull {
    pub engine: Engine,
    pub reference: Reference,
    pub platform: Platform,
    pub credentials: Option<Credentials>,
    pub wanted_for: For,
    pub events: mpsc::Sender<PullEvent>,
}

impl Pull {
    /// Pulls one or all, unless a receiver that is dropped or the end of the daemon cuts it off, and tells how it ended.
    pub(super) async fn finish(self) {
        let work = async {
            match self.reference.is_name_only() {
                true => self.run_all().await,
                false => self.run().await,
            }
        };
        let result = tokio::select! {
            result = work => result,
            () = self.events.closed() => return,
            () = self.engine.shutdown.cancelled() => Err(Error::ShuttingDown),
        };
        self.tell(PullEvent::Done(result)).await;
    }

    pub(super) async fn run(&self) -> Result<Pulled> {
        let resolved = self
            .engine
            .live()
            .registry
            .resolve(&self.reference, &self.platform, self.credentials.as_ref())
            .await?;
        let tag = match (self.reference.tag(), self.reference.digest()) {
            (Some(tag), _) => tag.to_owned(),
            (None, Some(digest)) => digest.to_string(),
            (None, None) => "latest".to_owned(),
        };
        let repository = self.reference.repository().to_owned();
        self.tell(PullEvent::Pulling { tag, repository }).await;
        let lease = Arc::new(self.engine.store.lease());
        self.layers(&resolved, &lease).await?;
        self.tell(PullEvent::Digest(resolved.digest.to_string())).await;
        let pulled = self.record(resolved).await?;
        drop(lease);
        Ok(pulled)
    }

    /// All layers, side by side; the first failure ends the others.
    async fn layers(&self, resolved: &Resolved, lease: &Arc<Lease>) -> Result<()> {
        let mut tasks = JoinSet::new();
        let mut parent: Option<ChainId> = None;
        for layer in &resolved.layers {
            let diff_id = Digest::parse(layer.diff_id.as_str())?;
            let chain = match &parent {
                None => ChainId::base(&diff_id),
                Some(parent) => parent.push(&diff_id),
            };
            self.step(layer, LayerStep::Waiting).await;
            tasks.spawn(
                self.clone()
                    .layer(layer.clone(), parent.replace(chain), diff_id, lease.clone()),
            );
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|_| Error::CutOff)??;
        }
        Ok(())
    }

    async fn layer(self, layer: LayerDesc, parent: Option<ChainId>, diff_id: Digest, lease: Arc<Lease>) -> Result<()> {
        loop {
            let begin = {
                let (parent, diff_id, lease) = (parent.clone(), diff_id.clone(), lease.clone());
                self.engine
                    .blocking(move |engine| Ok(engine.store.layers().begin(&lease, parent.as_ref(), &diff_id)))
                    .await?
            };
            match begin {
                Begin::Present(present) => {
                    let source = Source {
                        digest: Digest::parse(layer.digest.as_str())?,
                        size: layer.size,
                    };
                    if !present.sources.contains(&source) {
                        self.engine
                            .blocking(move |engine| Ok(engine.store.layers().add_source(&present.chain, source)?))
                            .await?;
                    }
                    self.step(&layer, LayerStep::AlreadyExists).await;
                    return Ok(());
                }
                // Somebody else makes it: take theirs, or try again when they failed.
                Begin::InProgress(other) => {
                    self.engine.blocking(move |_| Ok(other.wait())).await?;
                }
                Begin::Write(writer) => return self.fetch(&layer, writer).await,
            }
        }
    }

    /// Download and unpack, overlapped.
    async fn fetch(&self, layer: &LayerDesc, writer: agent_store::LayerWriter) -> Result<()> {
        let live = self.engine.live();
        let _turn = live.pulls.turns.acquire().await.map_err(|_| Error::ShuttingDown)?;
        let expected = Some((Digest::parse(layer.digest.as_str())?, layer.size));
        let (feed, reader) = feed(FEED_DEPTH);
        let engine = self.engine.clone();
        let unpacking = tokio::task::spawn_blocking(move || {
            let unpack = Unpack {
                tree: false,
                compression: None,
                expected,
                progress: None,
            };
            engine.store.layers().unpack(writer, reader, unpack)
        });
        let received = Arc::new(AtomicU64::new(0));
        self.step(
            layer,
            LayerStep::Downloading {
                current: 0,
                total: layer.size,
            },
        )
        .await;
        let download = self.download(layer, feed, &received);
        let ticker = async {
            let mut ticks = tokio::time::interval(TICK);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let current = received.load(Ordering::Relaxed);
                let step = match current {
                    current if current >= layer.size => LayerStep::Extracting,
                    current => LayerStep::Downloading {
                        current,
                        total: layer.size,
                    },
                };
                self.step(layer, step).await;
            }
        };
        let both = async {
            let downloaded = download.await;
            if downloaded.is_ok() {
                self.step(layer, LayerStep::Downloaded).await;
            }
            let unpacked = unpacking.await.map_err(|_| Error::CutOff)?;
            // The download's own error says more than the "stream ended" that unpacking makes of it.
            downloaded?;
            Ok::<_, Error>(unpacked?)
        };
        let result = tokio::select! {
            result = both => result,
            () = ticker => unreachable!("the ticker never ends"),
        };
        result?;
        self.step(layer, LayerStep::Done).await;
        Ok(())
    }

    async fn download(&self, layer: &LayerDesc, feed: agent_store::Feed, received: &AtomicU64) -> Result<()> {
        let live = self.engine.live();
        let mut blob = live.registry.blob(&self.reference, layer, self.credentials.as_ref());
        while let Some(chunk) = blob.next().await {
            match chunk {
                Ok(chunk) => {
                    received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    if !feed.send(chunk).await {
                        // Unpacking gave up; its error is the one to report.
                        return Ok(());
                    }
                }
                Err(error) => {
                    feed.fail(std::io::Error::other("the download failed")).await;
                    return Err(error.into());
                }
            }
        }
        feed.finish().await;
        Ok(())
    }

    /// Records image, name and digest.
    async fn record(&self, resolved: Resolved) -> Result<Pulled> {
        let before = self.engine.find_image(&self.reference.canonical()).ok();
        let names = match (self.reference.tag(), self.reference.digest()) {
            (_, Some(_)) => Vec::new(),
            (_, None) => vec![self.reference.canonical()],
        };
        let digest = format!("{}@{}", self.reference.name(), resolved.digest);
        if self.wanted_for == For::Users {
            self.engine
                .names_are_users(names.iter().cloned().chain([digest.clone()]));
        }
        let new = NewImage {
            config: resolved.config.to_vec(),
            manifest: Some(NewManifest {
                media_type: resolved.manifest_media_type.clone(),
                bytes: resolved.manifest.to_vec(),
            }),
            names,
            digests: vec![digest],
        };
        let image = self
            .engine
            .blocking(move |engine| Ok(engine.store.images().put(new)?))
            .await?;
        let name = self.reference.familiar();
        let attributes = BTreeMap::from([("name".to_owned(), self.reference.familiar_name())]);
        self.engine.journal.record(EventKind::Image, "pull", &name, attributes);
        let new = before.is_none_or(|before| before.id != image.id);
        Ok(Pulled { image, name, new })
    }

    async fn tell(&self, event: PullEvent) {
        // A receiver that is gone cancels the pull elsewhere.
        let _ = self.events.send(event).await;
    }

    async fn step(&self, layer: &LayerDesc, step: LayerStep) {
        let id = layer.digest.hex().get(..12).unwrap_or_default().to_owned();
        let event = PullEvent::Layer { id, step };
        match step {
            // Progress is dropped for a reader that is slow; states are not.
            LayerStep::Downloading { .. } | LayerStep::Extracting => drop(self.events.try_send(event)),
            LayerStep::Waiting | LayerStep::Downloaded | LayerStep::Done | LayerStep::AlreadyExists => {
                self.tell(event).await
            }
        }
    }
}

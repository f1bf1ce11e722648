//! Whether records, folders, mounts, namespaces and the nftables table agree while the daemon runs, and putting right
//! what has one safe way to be put right.
//!
//! | difference | repair |
//! |---|---|
//! | folder, control group, mount, run record or interface that no record owns | removed |
//! | layer, writable layer, container folder, volume folder that is gone | none: reported |
//! | published port that the table lacks, or has without an owner; table gone | the table is written anew |
//! | volume mounted that nobody has | unmounted |
//! | volume not mounted that a running container has; namespace or interface of a running container gone | none |
//! | run record of a running container gone | written again |
//!
//! Nobody is stopped for it: what is being made or removed while we look is no difference. Starts wait for the moment of
//! a look, and only what two looks agree on is reported.

mod look;
mod repair;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::Engine;
use crate::error::{Error, Result};

/// Between two looks: longer than the kernel takes to remove an interface, or we to remove a folder.
const PAUSE: Duration = Duration::from_millis(1500);

/// What kind of thing a difference is about. The words are part of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    LayerFolder,
    WritableLayer,
    ContainerFolder,
    RunRecord,
    VolumeFolder,
    VolumeMount,
    StagedMount,
    ControlGroup,
    NetworkNamespace,
    Interface,
    PublishedPort,
    NftTable,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::LayerFolder => "layer-folder",
            Kind::WritableLayer => "writable-layer",
            Kind::ContainerFolder => "container-folder",
            Kind::RunRecord => "run-record",
            Kind::VolumeFolder => "volume-folder",
            Kind::VolumeMount => "volume-mount",
            Kind::StagedMount => "staged-mount",
            Kind::ControlGroup => "control-group",
            Kind::NetworkNamespace => "network-namespace",
            Kind::Interface => "interface",
            Kind::PublishedPort => "published-port",
            Kind::NftTable => "nft-table",
        }
    }
}

/// On which side of the comparison something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// It is there, and no record knows it.
    Orphan,
    /// A record knows it, and it is not there.
    Missing,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Side::Orphan => "orphan",
            Side::Missing => "missing",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub kind: Kind,
    pub side: Side,
    /// The folder, id, interface or port.
    pub name: String,
    /// Whose it is or was, and what follows; a sentence.
    pub note: String,
}

/// A difference and what became of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub finding: Finding,
    /// There is one safe way to put it right.
    pub repairable: bool,
    pub repaired: bool,
    /// Why a repair failed.
    pub error: Option<String>,
}

impl Engine {
    /// Compares everything; with `repair`, puts right what can be.
    ///
    /// # Errors
    /// Something could not be looked at; nothing was repaired then.
    pub async fn check(&self, repair: bool) -> Result<Vec<Outcome>> {
        let engine = self.clone();
        self.detached(async move {
            let first = engine.look().await?;
            if first.is_empty() {
                return Ok(Vec::new());
            }
            tokio::time::sleep(PAUSE).await;
            let second = engine.look().await?;
            let agreed: Vec<Finding> = first.intersection(&second).cloned().collect();
            if !repair {
                return Ok(agreed.into_iter().map(|finding| outcome(finding, None)).collect());
            }
            engine.blocking(move |engine| Ok(engine.repair(agreed))).await
        })
        .await
    }

    /// One look, during which nothing starts.
    async fn look(&self) -> Result<BTreeSet<Finding>> {
        let all = u32::try_from(crate::STARTS_IN_FLIGHT).unwrap_or(u32::MAX);
        let _no_starts = self.starts.acquire_many(all).await.map_err(|_| Error::ShuttingDown)?;
        self.blocking(|engine| engine.differences()).await
    }
}

fn outcome(finding: Finding, done: Option<Result<()>>) -> Outcome {
    Outcome {
        repairable: repair::is_possible(&finding),
        repaired: matches!(done, Some(Ok(()))),
        error: match done {
            Some(Err(error)) => Some(error.chain()),
            _ => None,
        },
        finding,
    }
}

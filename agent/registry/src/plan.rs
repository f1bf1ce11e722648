//! A pull as a plan: which layers there are to get, and how far each one is.
//!
//! The caller decides which layers it has already, opens the others, and unpacks them; the [`Board`] holds the state of
//! each for whoever shows it. A reader of the board that is slow sees fewer steps and never holds up the download.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::auth::Credentials;
use crate::blob::{BlobEvent, BlobStream};
use crate::client::Client;
use crate::manifest::LayerDesc;
use crate::reference::Reference;
use crate::resolve::Resolved;

/// Where a layer stands. The words are those of `docker pull`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    /// `Pulling fs layer`: known, nothing done yet.
    Known,
    /// `Waiting`: for other downloads.
    Waiting,
    /// `Downloading`: so many bytes are here.
    Downloading(u64),
    /// `Retrying in 5 seconds`: the connection broke.
    Retrying {
        /// From now, when it began.
        pause: Duration,
        /// Why.
        why: String,
    },
    /// `Download complete`: and its digest is right.
    Downloaded,
    /// `Extracting`: so many bytes of the download are unpacked. Set by the caller.
    Extracting(u64),
    /// `Pull complete`. Set by the caller.
    Complete,
    /// `Already exists`. Set by the caller.
    Present,
}

/// The states of all layers of a pull.
#[derive(Debug)]
pub struct Board {
    layers: Mutex<Vec<LayerState>>,
    version: watch::Sender<u64>,
}

impl Board {
    fn new(layers: usize) -> Board {
        Board {
            layers: Mutex::new(vec![LayerState::Known; layers]),
            version: watch::Sender::new(0),
        }
    }

    /// Put down where layer `index` stands.
    pub fn set(&self, index: usize, state: LayerState) {
        if let Some(layer) = self
            .layers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(index)
        {
            // Unpacking overlaps the download; its progress is the one that matters then.
            let unpacking = matches!(
                layer,
                LayerState::Extracting(_) | LayerState::Complete | LayerState::Present
            );
            let of_download = matches!(
                state,
                LayerState::Downloading(_) | LayerState::Downloaded | LayerState::Waiting
            );
            if unpacking && of_download {
                return;
            }
            *layer = state;
        }
        self.version.send_modify(|version| *version += 1);
    }

    /// Where everything stands now.
    pub fn snapshot(&self) -> Vec<LayerState> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something to wait on: it changes with each [`Board::set`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

/// What a pull has to get. Each layer stands in it once, even if the image has it twice.
pub struct PullPlan {
    client: Client,
    reference: Reference,
    credentials: Option<Credentials>,
    image: Resolved,
    layers: Vec<LayerDesc>,
    board: Arc<Board>,
}

impl PullPlan {
    /// Plan the pull of a resolved image.
    pub fn new(client: &Client, reference: &Reference, image: Resolved, credentials: Option<&Credentials>) -> PullPlan {
        let mut seen = HashSet::new();
        // The same bytes can stand for two diff ids only in a broken image; unpacking tells.
        let once = image
            .layers
            .iter()
            .filter(|layer| seen.insert((layer.digest.clone(), layer.diff_id.clone())));
        let layers: Vec<LayerDesc> = once.cloned().collect();
        PullPlan {
            client: client.clone(),
            reference: reference.clone(),
            credentials: credentials.cloned(),
            image,
            board: Arc::new(Board::new(layers.len())),
            layers,
        }
    }

    /// The image.
    pub fn image(&self) -> &Resolved {
        &self.image
    }

    /// What to get, from the bottom up.
    pub fn layers(&self) -> &[LayerDesc] {
        &self.layers
    }

    /// Where each of [`PullPlan::layers`] stands.
    pub fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// The download of layer `index`, which writes its progress on the board. Drop it to cancel.
    ///
    /// # Panics
    /// When there is no such layer.
    pub fn open(&self, index: usize) -> BlobStream {
        let board = self.board.clone();
        self.client
            .blob(&self.reference, &self.layers[index], self.credentials.as_ref())
            .observed(move |event| {
                board.set(
                    index,
                    match event {
                        BlobEvent::Waiting => LayerState::Waiting,
                        BlobEvent::Received(bytes) => LayerState::Downloading(bytes),
                        BlobEvent::Retrying { pause, why, .. } => LayerState::Retrying { pause, why },
                        BlobEvent::Verified => LayerState::Downloaded,
                    },
                );
            })
    }
}

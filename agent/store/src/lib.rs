//! The image store: content by digest, layers unpacked once into overlay lower directories, writable layers of
//! containers, and the metadata of all of it in one transactional database.
//!
//! ```text
//! <root>/meta.redb              records (images, layers, snapshots, the engine's own tables) and small content: configurations, manifests
//!       /lock                   held by the one daemon that owns this root
//!       /layers/<chain>/tree    an overlay lower directory
//!       /layers/<chain>/split   what rebuilds the layer's exact tar from the tree (zstd)
//!       /layers/<chain>/extra   payloads of entries that a later entry of the same layer replaced (rare)
//!       /layers/<chain>/implied directories that the archive did not mention, until an image with the layer is recorded
//!       /rw/<id>/{upper,work}   a container's writable layer
//!       /tmp/…                  work in progress; emptied at open
//!       /trash/…                renamed away, being deleted in the background; emptied at open
//! ```
//!
//! **Invariants.** Every folder is owned by a record; [`Store::open`] compares both and moves what has no owner to the
//! trash. A layer appears by a rename after everything in it is written and both its digests were verified. A record is
//! written after its folder is in place and deleted before the folder goes.
//!
//! **Crash safety.** Killing the daemon never loses what the kernel has, so a finished layer is recorded at once with the
//! machine's boot id; one `syncfs` in the background removes that mark. After a power failure a layer that still bears
//! the mark of another boot is not trusted: its exact tar is rebuilt and compared with its diff id before use.
//!
//! **Deliberately absent.** Reference syntax (callers pass normalised names), the network, containers, and any asynchronous
//! file work: every method blocks unless it says otherwise; call them from a blocking thread.

#![forbid(unsafe_code)]

mod adopt;
mod archive;
mod audit;
mod changes;
mod chunk;
mod copy_out;
mod db;
mod decompress;
mod digest;
mod error;
mod extract;
mod feed;
mod gc;
mod image;
mod images;
mod layers;
mod lease;
mod overlay;
mod pipeline;
mod quota;
mod rebuild;
mod record;
mod snapshots;
mod split;
mod store;
mod sync;
mod tar;
mod trash;
mod tree;

pub use archive::{
    Archive, CommitOptions, ExportOptions, ImportOptions, LoadEvent, LoadOptions, Loaded, LoadedImage, SaveImage,
    SaveName,
};
pub use audit::Audit;
pub use changes::{Change, Changed};
pub use db::{Batch, Db};
pub use decompress::Compression;
pub use digest::{Algorithm, ChainId, Digest, Hasher, HashingReader};
pub use error::{Error, Kind, Result};
pub use feed::{Feed, FeedReader, feed};
pub use gc::Collected;
pub use image::{
    DOCKER_LIST, DOCKER_MANIFEST, Healthcheck, History, Image, ImageConfig, Manifest, OCI_CONFIG, OCI_INDEX, OCI_LAYER,
    OCI_MANIFEST, RootFs, RunConfig,
};
pub use images::{Images, NewImage, NewManifest, Removed, Untagged};
pub use layers::{Begin, InProgress, Layer, LayerWriter, Layers, Source};
pub use lease::Lease;
pub use pipeline::Unpack;
pub use rebuild::LayerTar;
pub use snapshots::{Rw, Snapshots};
pub use store::{Limits, Recovered, Store, StoreConfig};
pub use tree::{Bind, BindSource, Found, IntoOptions, Owners, Source as TreeSource, Target, Tree, View, view};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

//! Loading.

use crate::digest::Digest;
use crate::error::Result;
use crate::image::Image;
use crate::store::Store;
use std::io::Read;
use std::sync::Arc;

/// How to load.
pub struct LoadOptions<'a> {
    /// Turns a name of the archive (`busybox:1`) into the normalised form; `None` refuses it as malformed.
    pub normalise: &'a dyn Fn(&str) -> Option<String>,
    /// GOARCH to choose where an index offers several platforms.
    pub architecture: String,
    /// Variant to prefer (`v8`); may be empty.
    pub variant: String,
}

/// Progress of a load.
#[derive(Debug, Clone)]
pub enum LoadEvent {
    /// A layer is being unpacked.
    Layer {
        /// Its name in the archive, shortened: what a progress line is called.
        id: String,
        /// Bytes done.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A layer is done.
    LayerDone {
        /// As in [`LoadEvent::Layer`].
        id: String,
    },
}

/// One image of the archive.
#[derive(Debug, Clone)]
pub struct LoadedImage {
    /// The image as it is in the store now.
    pub image: Arc<Image>,
    /// The normalised names that it got from the archive; may be empty.
    pub names: Vec<String>,
    /// For each name that was another image's before: that image.
    pub renamed: Vec<(String, Digest)>,
}

/// What a load brought.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// In the order of the archive.
    pub images: Vec<LoadedImage>,
}

pub(super) fn load(
    _store: &Store,
    _reader: impl Read,
    _options: &LoadOptions<'_>,
    _progress: &mut dyn FnMut(LoadEvent),
) -> Result<Loaded> {
    unimplemented!("written next")
}

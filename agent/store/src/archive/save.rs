//! Saving.

use crate::error::Result;
use crate::image::Image;
use crate::store::Store;
use std::io::Write;
use std::sync::Arc;

/// An image to save, with the names that the archive shall carry.
#[derive(Debug, Clone)]
pub struct SaveImage {
    /// Which.
    pub image: Arc<Image>,
    /// None: it is saved by id.
    pub names: Vec<SaveName>,
}

/// A name in both of its forms.
#[derive(Debug, Clone)]
pub struct SaveName {
    /// `busybox:1`, for `manifest.json` and `repositories`.
    pub familiar: String,
    /// `docker.io/library/busybox:1`, for `index.json`.
    pub normalised: String,
}

pub(super) fn save(_store: &Store, _images: &[SaveImage], _writer: impl Write) -> Result<()> {
    unimplemented!("written next")
}

//! Importing.

use crate::error::Result;
use crate::image::{Image, RunConfig};
use crate::store::Store;
use std::io::Read;
use std::sync::Arc;

/// What the image is like beside its files.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Normalised names.
    pub names: Vec<String>,
    /// The run configuration (made from `--change` by the caller).
    pub config: RunConfig,
    /// `--message`; Docker's default is "Imported from -".
    pub message: String,
    /// GOARCH.
    pub architecture: String,
    /// May be empty.
    pub variant: String,
    /// RFC 3339, now.
    pub created: String,
}

pub(super) fn import(_store: &Store, _reader: impl Read, _options: ImportOptions) -> Result<Arc<Image>> {
    unimplemented!("written next")
}

//! Exporting.

use crate::error::Result;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How to export.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {}

pub(super) fn export(_lower: &[PathBuf], _upper: Option<&Path>, _o: &ExportOptions, _w: impl Write) -> Result<()> {
    unimplemented!("written next")
}

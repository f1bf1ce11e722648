//! Exporting: the merged view of a container as a tar.
//!
//! The view is a detached read-only overlay mount, reached by its descriptor only. A running container may change files
//! meanwhile: each header is true to its file's length at that moment, and what grew is cut, what shrank is filled up.

use super::walk::Walk;
use super::writer::TarWriter;
use crate::copy_out::view;
use crate::error::{Error, Result};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use std::io::Write;
use std::path::{Path, PathBuf};

/// How to export.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {}

pub(super) fn export(
    lower: &[PathBuf],
    upper: Option<&Path>,
    _options: &ExportOptions,
    writer: impl Write,
) -> Result<()> {
    let layers: Vec<PathBuf> = upper
        .iter()
        .map(|u| u.to_path_buf())
        .chain(lower.iter().cloned())
        .collect();
    let shown = layers.first().cloned().unwrap_or_default();
    let mut tar = TarWriter::new(writer);
    if let Some(view) = view(&layers).map_err(Error::io("mount the merged view of", &shown))? {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = openat(&view, ".", flags, Mode::empty()).map_err(Error::sys("open the merged view of", &shown))?;
        Walk::of_a_view(&mut tar).folder(root, b"", 0)?;
    }
    tar.finish()
}

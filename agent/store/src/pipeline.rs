//! From a compressed stream to a tree.

use crate::digest::Digest;
use crate::error::Result;
use crate::layers::Source;
use crate::store::Limits;
use std::io::Read;
use std::path::Path;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Plain tar.
    None,
    /// gzip, one or several members.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// What is known about a stream before it is unpacked.
#[derive(Default)]
pub struct Unpack<'a> {
    /// `None`: look at the first bytes (the safest: media types lie).
    pub compression: Option<Compression>,
    /// Digest and size of the stream as it comes (compressed).
    pub expected: Option<(Digest, u64)>,
    /// Called with the bytes read from the stream so far.
    pub progress: Option<&'a (dyn Fn(u64) + Sync)>,
}

/// What came out.
pub(crate) struct Done {
    pub diff_id: Digest,
    pub tar_bytes: u64,
    pub file_bytes: u64,
    pub entries: u64,
    pub source: Option<Source>,
}

pub(crate) fn run(_dir: &Path, _reader: impl Read, _unpack: &Unpack<'_>, _limits: &Limits) -> Result<Done> {
    unimplemented!("written next")
}

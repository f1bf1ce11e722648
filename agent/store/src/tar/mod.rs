//! Reading tar as Docker's archives use it: ustar, GNU (long names, base-256 numbers, sparse), PAX (all that matters of
//! it, and sparse 0.0, 0.1, 1.0).
//!
//! The reader is strict where two readers could disagree about where the next entry starts, because that is how an archive
//! shows one content to a scanner and another one to us: a PAX size that contradicts the header, a size below zero, a
//! damaged checksum, an extension without its entry are all refused.
//!
//! Every byte that is not a file's payload goes to a [`Raw`] sink in order, so that the exact archive can be rebuilt.

mod header;
mod pax;
mod reader;
mod sparse;
mod write;

pub(crate) use header::{Kind, is_header};
pub(crate) use reader::{Entry, Raw, TarReader};
pub(crate) use write::Header;

/// Bytes of a tar block.
pub(crate) const BLOCK: usize = 512;

//! Container logs: what the shim writes and the daemon reads.
//!
//! Two formats on disk, both as a current file `path` and rotated ones `path.1` (newest) … `path.N-1`:
//!
//! - `local`, the default: binary records whose length stands in front and behind, so that a reader finds the last
//!   lines of a file without reading the rest;
//! - `json-file`: Docker's line format, byte for byte, for the collectors that read it from disk.
//!
//! Both are bounded by size and number of files. The writer belongs to the shim: it makes no allocation per line
//! and holds at most one unfinished line per stream. The reader (feature `host`) belongs to the daemon. They share no
//! lock: files are only appended to, renamed and unlinked, and a reader recognises its file by inode.
//!
//! Deliberately absent: compression of rotated files (the tail of a log has to be fast) and `fsync` per line (a log
//! survives a crash of every process of ours, and the torn last record of a crash of the machine is cut off).

mod json;
mod record;
mod writer;

#[cfg(feature = "host")]
mod reader;
#[cfg(feature = "host")]
mod source;

#[cfg(test)]
mod tests;

pub use record::{MAX_LINE, Stream};
pub use writer::LogWriter;

#[cfg(feature = "host")]
pub use reader::{Entry, LogReader, ReadOptions};

use std::path::{Path, PathBuf};

/// Size at which Docker's `local` driver begins a new file.
pub const DEFAULT_MAX_SIZE: u64 = 20 * 1024 * 1024;
/// How many files Docker's `local` driver keeps, the current one included.
pub const DEFAULT_MAX_FILES: u32 = 5;

/// The name of the `index`th rotated file; 0 is the current one.
fn rotated(path: &Path, index: u32) -> PathBuf {
    if index == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    name.into()
}

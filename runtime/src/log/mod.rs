//! Container logs: what the shim writes and the daemon reads.
//!
//! Two formats on disk, both as a current file `path` and rotated ones `path.1` (newest) … `path.N-1`:
//!
//! - `local`, the default: binary records whose length stands in front and behind, so that a reader finds the last
//!   lines of a file without reading the rest, each as much as the shim read at once;
//! - `json-file`: Docker's line format, byte for byte, for the collectors that read it from disk.
//!
//! Both are bounded by size and number of files. The writer belongs to the shim: it makes no allocation per line
//! and holds at most one unfinished line per stream. The reader (feature `host`) belongs to the daemon, and so does the
//! compression of rotated files (`path.N.gz`). Reader and writer share no lock: files are only appended to, renamed and
//! unlinked, and a reader recognises its file by inode.
//!
//! ```text
//! shim: LogWriter ─ lines ─► OpenLog ─ records ─► path ─ rotation ─► path.1 … path.N
//! daemon: LogReader ◄─ lines ─ LogFile ◄───────── path, path.1, path.2.gz …      compress: path.2 ─► path.2.gz
//! ```
//!
//! Deliberately absent: `fsync` per line (a log survives a crash of every process of ours, and the torn last record of a
//! crash of the machine is cut off).

mod file;
mod json;
mod record;
mod scan;
mod torn;
mod writer;

#[cfg(feature = "host")]
mod compression;
#[cfg(feature = "host")]
mod reader;
#[cfg(feature = "host")]
mod source;
#[cfg(feature = "host")]
mod tail;

#[cfg(test)]
mod tests;

pub use record::{MAX_LINE, Stream};
pub use writer::{LogState, LogWriter};

#[cfg(feature = "host")]
pub use compression::compress;
#[cfg(feature = "host")]
pub use json::{parse_time, write_time};
#[cfg(feature = "host")]
pub use reader::{Entry, LogReader, Position, ReadOptions};

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

/// The name of a rotated file once it is compressed.
fn compressed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

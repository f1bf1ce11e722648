//! What `…/archive` says of a path, in a header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::time::Time;

/// The header that holds a [`PathStat`].
pub const PATH_STAT: &str = "x-docker-container-path-stat";

/// One path of a container. `mode` has the bits of Go's `os.FileMode`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    pub mode: u32,
    pub mtime: Time,
    /// Where a symbolic link leads in the end.
    #[serde(rename = "linkTarget")]
    pub link_target: String,
}

/// Types in Go's `os.FileMode`; none of them is a file.
pub mod mode {
    pub const DIR: u32 = 1 << 31;
    pub const SYMLINK: u32 = 1 << 27;
    pub const DEVICE: u32 = 1 << 26;
    pub const PIPE: u32 = 1 << 25;
    pub const SOCKET: u32 = 1 << 24;
    pub const SETUID: u32 = 1 << 23;
    pub const SETGID: u32 = 1 << 22;
    pub const CHAR_DEVICE: u32 = 1 << 21;
    pub const STICKY: u32 = 1 << 20;
}

impl PathStat {
    /// As the header has it: base64 of JSON.
    pub fn encode(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads the header.
    pub fn decode(header: &str) -> Option<PathStat> {
        serde_json::from_slice(&STANDARD.decode(header).ok()?).ok()
    }

    pub fn is_dir(&self) -> bool {
        self.mode & mode::DIR != 0
    }

    pub fn is_symlink(&self) -> bool {
        self.mode & mode::SYMLINK != 0
    }

    pub fn is_device(&self) -> bool {
        self.mode & mode::DEVICE != 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_header_is_that_of_docker() {
        let header = STANDARD
            .encode(br#"{"name":"x","size":4,"mode":134218239,"mtime":"2026-01-02T03:04:05.6Z","linkTarget":"/y"}"#);
        let stat = PathStat::decode(&header).unwrap();
        assert!(stat.is_symlink() && !stat.is_dir());
        assert_eq!(
            (stat.name.as_str(), stat.size, stat.link_target.as_str()),
            ("x", 4, "/y")
        );
        assert_eq!(stat.encode(), header);
        for bad in ["", "%", "e30"] {
            assert_eq!(PathStat::decode(bad), None, "{bad}");
        }
    }
}

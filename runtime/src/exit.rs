//! How a container ended, and the record of it that survives shim and daemon.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::proto::{ExitStatus, Time};
use crate::wire::{Wire, WireError};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, or 128 + the number of the signal that killed it.
    pub code: i32,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Whether the kernel killed something in the container for want of memory.
    pub oom: bool,
    /// When.
    pub at: SystemTime,
}

impl From<&ExitStatus> for Exit {
    fn from(status: &ExitStatus) -> Exit {
        Exit {
            code: status.code,
            signal: status.signal,
            oom: status.oom,
            at: (&status.at).into(),
        }
    }
}

impl Time {
    /// This moment.
    pub fn now() -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time {
            seconds: since.as_secs() as i64,
            nanos: since.subsec_nanos(),
        }
    }
}

impl From<&Time> for SystemTime {
    fn from(time: &Time) -> SystemTime {
        // Times before 1970 are nobody's; a hostile number must not overflow.
        let seconds = u64::try_from(time.seconds).unwrap_or(0);
        UNIX_EPOCH
            .checked_add(Duration::new(seconds, time.nanos.min(999_999_999)))
            .unwrap_or(UNIX_EPOCH)
    }
}

/// First bytes of an exit record: what it is, and the version of its form.
const MAGIC: &[u8; 8] = b"iexit\0\0\x01";

/// Writes the record durably: a temporary file, synced, renamed.
///
/// # Errors
/// When the folder is gone or full.
pub fn write_exit(path: &Path, status: &ExitStatus) -> io::Result<()> {
    let mut content = MAGIC.to_vec();
    status.put(&mut content);
    let temporary = temporary(path);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(&content)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    // The new name is durable when its folder is.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

/// Reads the record that a shim left; `None` when it left none.
///
/// # Errors
/// When the file cannot be read, or holds something else.
pub fn read_exit(path: &Path) -> io::Result<Option<Exit>> {
    let mut content = Vec::new();
    match File::open(path) {
        // A record is some 30 bytes.
        Ok(file) => file.take(4096).read_to_end(&mut content)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let invalid = |error: WireError| io::Error::new(io::ErrorKind::InvalidData, error);
    let body = content
        .strip_prefix(MAGIC)
        .ok_or(invalid(WireError::Unknown("record")))?;
    let status = ExitStatus::decode(body).map_err(invalid)?;
    Ok(Some(Exit::from(&status)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_record_is_read_as_written_and_other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exit");
        assert_eq!(read_exit(&path).unwrap(), None);
        let at = Time {
            seconds: 1_700_000_000,
            nanos: 5,
        };
        write_exit(
            &path,
            &ExitStatus {
                code: 137,
                signal: Some(9),
                oom: true,
                at,
            },
        )
        .unwrap();
        let exit = read_exit(&path).unwrap().unwrap();
        assert_eq!((exit.code, exit.signal, exit.oom), (137, Some(9), true));
        assert_eq!(exit.at, UNIX_EPOCH + Duration::new(1_700_000_000, 5));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file stays"
        );
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read_exit(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_end_comes_back(code: i32, signal: Option<i32>, oom: bool, seconds in 0i64..1 << 40, nanos in 0u32..1_000_000_000) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("exit");
            let status = ExitStatus { code, signal, oom, at: Time { seconds, nanos } };
            write_exit(&path, &status).unwrap();
            proptest::prop_assert_eq!(read_exit(&path).unwrap().unwrap(), Exit::from(&status));
        }

        #[test]
        fn any_file_is_a_record_or_refused(bytes: Vec<u8>, real: bool) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("exit");
            let start: &[u8] = if real { MAGIC } else { b"" };
            fs::write(&path, [start, &bytes].concat()).unwrap();
            let _ = read_exit(&path);
        }
    }
}

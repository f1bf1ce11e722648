//! Rotated files, compressed by the daemon: the shim has no memory to spare for it.
//!
//! `path.N` becomes `path.N.gz`, as with Docker. The header's extra field is JSON, as Docker's: the time of the last line,
//! and by which those who read the file recognise it again: its inode, and the time of its first line.
//!
//! The shim renames all files when it rotates, so the exchange is made under a lock on the current file, which the shim
//! tries for before it rotates, and never waits for.

use super::file::whole_file_lock;
use super::json;
use super::source::{Format, LogFile};
use super::{compressed, rotated};
use crate::plan::LogTarget;
use flate2::bufread::MultiGzDecoder;
use flate2::{Compression, GzBuilder};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Extra {
    #[serde(rename = "lastTime")]
    last_time: String,
    inode: u64,
    /// Time of the first line, nanoseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<i64>,
}

#[derive(Debug)]
pub(super) struct Gz {
    decoder: MultiGzDecoder<BufReader<File>>,
    extra: Extra,
    inode: u64,
}

impl Gz {
    /// None when there is no such file.
    pub(super) fn open(path: &Path) -> io::Result<Option<Gz>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let extra = read_extra(&file).unwrap_or_default();
        Ok(Some(Gz {
            // One that does not say whose place it takes has its own.
            inode: match extra.inode {
                0 => file.metadata()?.ino(),
                inode => inode,
            },
            decoder: MultiGzDecoder::new(BufReader::with_capacity(64 * 1024, file)),
            extra,
        }))
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// Before compression, as the last four bytes of the file have it (RFC 1952: modulo 4 GiB).
    pub(super) fn length(&self) -> io::Result<u64> {
        use std::os::unix::fs::FileExt;
        let file = self.decoder.get_ref().get_ref();
        let mut length = [0; 4];
        file.read_exact_at(&mut length, file.metadata()?.len().saturating_sub(4))?;
        Ok(u32::from_le_bytes(length).into())
    }

    pub(super) fn first_time(&self) -> Option<i64> {
        self.extra.first
    }

    pub(super) fn last_time(&self) -> Option<i64> {
        json::parse_time(&self.extra.last_time)
    }
}

impl Read for Gz {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read(buffer)
    }
}

/// RFC 1952: ten bytes, of which the fourth has a flag for the field, its length, and the field.
fn read_extra(file: &File) -> Option<Extra> {
    use std::os::unix::fs::FileExt;
    let mut head = [0; 12];
    file.read_exact_at(&mut head, 0).ok()?;
    if head[..3] != [0x1f, 0x8b, 8] || head[3] & 4 == 0 {
        return None;
    }
    let mut field = vec![0; usize::from(u16::from_le_bytes([head[10], head[11]]))];
    file.read_exact_at(&mut field, 12).ok()?;
    serde_json::from_slice(&field).ok()
}

/// Compresses the rotated files of a log that are not yet. The newest rotated file of a `local` log stays as it is: what is
/// near the end of a log has to be fast. Blocks for as long as it takes (some 50 ms for 20 MB).
///
/// # Errors
/// When a file cannot be read or written: it stays as it was.
pub fn compress(target: &LogTarget) -> io::Result<()> {
    let (path, format, max_files, first) = match target {
        LogTarget::None => return Ok(()),
        LogTarget::Local { path, max_files, .. } => (path, Format::Local, *max_files, 2),
        LogTarget::JsonFile { path, max_files, .. } => (path, Format::Json, *max_files, 1),
    };
    // From the oldest on: names move up while we work, so that none is passed over.
    for index in (first..max_files).rev() {
        let plain = rotated(path, index);
        if plain.exists() {
            let temporary = temporary(path);
            let done = one(path, &plain, &temporary, format, max_files);
            let _ = fs::remove_file(&temporary);
            done?;
        }
    }
    Ok(())
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".compressing");
    name.into()
}

fn one(path: &Path, plain: &Path, temporary: &Path, format: Format, max_files: u32) -> io::Result<()> {
    let mut from = match File::open(plain) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let inode = from.metadata()?.ino();
    let (first, last) = match LogFile::open(plain, format)? {
        Some(file) => (file.identity()?.first, file.last_time(plain)?),
        None => (None, None),
    };
    let mut last_time = Vec::new();
    json::write_time(&mut last_time, last.unwrap_or_default())?;
    let extra = Extra {
        last_time: String::from_utf8(last_time).unwrap_or_default(),
        inode,
        first,
    };
    let to = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(temporary)?;
    let mut encoder = GzBuilder::new()
        .extra(serde_json::to_vec(&extra)?)
        .write(io::BufWriter::with_capacity(64 * 1024, to), Compression::fast());
    let mut block = vec![0; 64 * 1024];
    loop {
        match from.read(&mut block)? {
            0 => break,
            count => encoder.write_all(&block[..count])?,
        }
    }
    encoder.finish()?.into_inner().map_err(|error| error.into_error())?;
    runtime_sys::failpoint!("log-compressed");
    exchange(path, temporary, inode, max_files)
}

/// Puts the compressed file in the place of the one with that inode, wherever that is by now.
fn exchange(path: &Path, temporary: &Path, inode: u64, max_files: u32) -> io::Result<()> {
    let _held = hold(path)?;
    for index in 1..max_files {
        let plain = rotated(path, index);
        if fs::metadata(&plain).is_ok_and(|metadata| metadata.ino() == inode) {
            fs::rename(temporary, compressed(&plain))?;
            runtime_sys::failpoint!("log-exchanged");
            return fs::remove_file(&plain);
        }
    }
    // It was removed meanwhile.
    Ok(())
}

/// Keeps the shim from rotating for as long as the file that is returned is open.
fn hold(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..16 {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // The shim has it for the time of a few renames.
        match fcntl(&file, FcntlArg::F_OFD_SETLKW(&whole_file_lock())) {
            Ok(_) => {}
            // A file system without locks: as good as it gets.
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::EOPNOTSUPP) => return Ok(Some(file)),
            Err(errno) => return Err(errno.into()),
        }
        // It may have been rotated away before we had it.
        if fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino())) {
            return Ok(Some(file));
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

//! The file that is written to: records appended, rotated away when it is full.

use super::record::{HEAD, Header, Kind, Stream, TAIL};
use super::scan::newline;
use super::torn::{whole_lines, whole_records};
use super::{compressed, json, rotated};
use crate::plan::LogTarget;
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

#[derive(Debug)]
enum Format {
    Local,
    Json {
        attrs: Vec<u8>,
        /// Lines of one call, on their way to the file.
        buffer: Vec<u8>,
    },
}

/// Encoded JSON is handed to the kernel in pieces of about this size.
const JSON_BUFFER: usize = 32 * 1024;

/// What a record counts against the size of its file: its text, so that 20 MB of log are 20 MB of output and at most a
/// third more bytes; but records with so little text that most of them is not text count whole.
fn charge(text: usize) -> u64 {
    const SHORT: usize = 64;
    text.max((HEAD + text + TAIL).min(SHORT)) as u64
}

#[derive(Debug)]
pub(super) struct OpenLog {
    format: Format,
    file: File,
    path: PathBuf,
    /// End of the last whole record.
    end: u64,
    /// What counts against `max_size`.
    charged: u64,
    /// 0: no bound.
    max_size: u64,
    max_files: u32,
    rotations: u32,
    /// The file was given another name, and its successor could not be made yet.
    renamed: bool,
}

impl OpenLog {
    /// None: nothing is to be kept.
    pub(super) fn open(target: &LogTarget) -> io::Result<Option<OpenLog>> {
        let (format, path, max_size, max_files) = match target {
            LogTarget::None => return Ok(None),
            LogTarget::Local {
                path,
                max_size,
                max_files,
            } => (Format::Local, path, max_size, max_files),
            LogTarget::JsonFile {
                path,
                max_size,
                max_files,
                attrs,
            } => {
                let format = Format::Json {
                    attrs: attrs.to_vec(),
                    buffer: Vec::new(),
                };
                (format, path, max_size, max_files)
            }
        };
        let file = open_file(path)?;
        let length = file.metadata()?.len();
        let end = match format {
            Format::Local => whole_records(&file, length)?,
            Format::Json { .. } => whole_lines(&file, length)?,
        };
        if end != length {
            file.set_len(end)?;
        }
        Ok(Some(OpenLog {
            format,
            file,
            path: path.clone(),
            end,
            charged: end,
            max_size: *max_size,
            max_files: *max_files,
            rotations: 0,
            renamed: false,
        }))
    }

    pub(super) fn rotations(&self) -> u32 {
        self.rotations
    }

    pub(super) fn rest(&mut self) {
        if let Format::Json { buffer, .. } = &mut self.format {
            *buffer = Vec::new();
        }
    }

    /// Appends a text. After an error the file ends where it did before, or after whole lines of the text.
    pub(super) fn append(&mut self, stream: Stream, time: i64, kind: Kind, text: &[u8]) -> io::Result<()> {
        match &mut self.format {
            Format::Local => self.append_text(stream, time, kind, text),
            Format::Json { attrs, buffer } => {
                let mut trailer = Vec::with_capacity(80 + attrs.len());
                json::trailer(&mut trailer, stream, time, attrs)?;
                let buffer = std::mem::take(buffer);
                let (buffer, written) = self.append_lines(buffer, kind, text, &trailer);
                if let Format::Json { buffer: place, .. } = &mut self.format {
                    *place = buffer;
                }
                written
            }
        }
    }

    /// One record, or several where a file is filled before the end of the lines.
    fn append_text(&mut self, stream: Stream, time: i64, kind: Kind, text: &[u8]) -> io::Result<()> {
        let mut rest = text;
        while !rest.is_empty() {
            self.rotate_if_full(0)?;
            let room = match self.max_size {
                0 => rest.len(),
                most => usize::try_from(most.saturating_sub(self.charged)).unwrap_or(rest.len()),
            };
            let fill = rest.len().min(room).saturating_sub(1);
            let end = match kind {
                Kind::Lines => rest[fill..]
                    .iter()
                    .position(|&byte| byte == b'\n')
                    .map(|at| fill + at + 1),
                Kind::Line | Kind::Piece => None,
            };
            let (now, later) = rest.split_at(end.unwrap_or(rest.len()));
            self.append_record(stream, time, kind, now)?;
            rest = later;
        }
        Ok(())
    }

    fn append_record(&mut self, stream: Stream, time: i64, kind: Kind, text: &[u8]) -> io::Result<()> {
        let header = Header {
            length: text.len(),
            stream,
            kind,
            time,
        };
        let (head, tail) = (header.encode(), (text.len() as u32).to_le_bytes());
        let mut slices = [IoSlice::new(&head), IoSlice::new(text), IoSlice::new(&tail)];
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match self.file.write_vectored(rest) {
                Ok(0) => return Err(self.undo(io::ErrorKind::WriteZero.into())),
                Ok(count) => IoSlice::advance_slices(&mut rest, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.undo(error)),
            }
        }
        self.end += (HEAD + text.len() + TAIL) as u64;
        self.charged += charge(text.len());
        Ok(())
    }

    /// Gives the buffer back, empty.
    fn append_lines(
        &mut self,
        mut buffer: Vec<u8>,
        kind: Kind,
        text: &[u8],
        trailer: &[u8],
    ) -> (Vec<u8>, io::Result<()>) {
        let mut work = || -> io::Result<()> {
            let mut rest = text;
            while !rest.is_empty() {
                let (line, used) = match newline(rest).filter(|_| kind == Kind::Lines) {
                    Some(end) => (&rest[..end], end + 1),
                    None => (rest, rest.len()),
                };
                rest = &rest[used..];
                // The escaped length is not known beforehand: like Docker, a file ends after the line that fills it.
                if buffer.len() >= JSON_BUFFER || self.is_full(buffer.len()) {
                    self.write_lines(&mut buffer)?;
                    self.rotate_if_full(0)?;
                }
                json::encode(&mut buffer, kind == Kind::Piece, line, trailer)?;
            }
            self.write_lines(&mut buffer)
        };
        let written = work();
        buffer.clear();
        (buffer, written)
    }

    fn write_lines(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        if let Err(error) = self.file.write_all(buffer) {
            return Err(self.undo(error));
        }
        self.end += buffer.len() as u64;
        self.charged += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }

    /// Takes back what was written of a record that did not become whole.
    fn undo(&mut self, error: io::Error) -> io::Error {
        // If even this fails, the reader cuts the torn record off.
        let _ = self.file.set_len(self.end);
        error
    }

    fn is_full(&self, more: usize) -> bool {
        self.renamed || (self.max_size != 0 && self.charged + more as u64 >= self.max_size)
    }

    /// Begins a new file when this one has what it may have.
    fn rotate_if_full(&mut self, more: usize) -> io::Result<()> {
        if !self.is_full(more) {
            return Ok(());
        }
        if !self.renamed {
            // Whoever compresses rotated files holds this lock while it puts one in another's place: microseconds, which
            // the container does not wait for.
            if self.max_files > 1 && !lock(&self.file) {
                return Ok(());
            }
            self.rename()?;
            runtime_sys::failpoint!("log-renamed");
            self.renamed = true;
        }
        self.file = open_file(&self.path)?;
        runtime_sys::failpoint!("log-begun");
        self.renamed = false;
        self.rotations = self.rotations.wrapping_add(1);
        (self.end, self.charged) = (0, 0);
        Ok(())
    }

    /// Readers recognise files by inode, so the old one is renamed or unlinked, never truncated.
    fn rename(&self) -> io::Result<()> {
        let missing_is_fine = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if self.max_files <= 1 {
            return missing_is_fine(fs::remove_file(&self.path));
        }
        let last = rotated(&self.path, self.max_files - 1);
        missing_is_fine(fs::remove_file(compressed(&last)))?;
        missing_is_fine(fs::remove_file(&last))?;
        runtime_sys::failpoint!("log-oldest-gone");
        for index in (1..self.max_files).rev() {
            let (from, to) = (rotated(&self.path, index - 1), rotated(&self.path, index));
            if index > 1 {
                missing_is_fine(fs::rename(compressed(&from), compressed(&to)))?;
            }
            missing_is_fine(fs::rename(from, to))?;
        }
        Ok(())
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// The lock of an open file on all of itself. It goes with the last descriptor, so that nobody who dies keeps it.
pub(super) fn whole_file_lock() -> nix::libc::flock {
    nix::libc::flock {
        l_type: nix::libc::F_WRLCK as nix::libc::c_short,
        l_whence: nix::libc::SEEK_SET as nix::libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn lock(file: &File) -> bool {
    // A file system without locks has nobody who holds one.
    !matches!(
        fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file_lock())),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES)
    )
}

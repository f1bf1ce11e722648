//! Where the last lines of a file begin, found from its end.

use super::record::{HEAD, Header, Kind, MAX_BLOCK, TAIL};
use super::source::BLOCK;
use super::torn::{whole_lines, whole_records};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The place in front of the lines, and how many of them there are.
pub(super) struct Place {
    pub found: u64,
    /// Of a record.
    pub at: u64,
    /// Lines of that record which do not belong to them.
    pub skip: u64,
}

pub(super) fn local(file: &File, count: u64) -> io::Result<Place> {
    let mut window = Window::new(file);
    let mut end = whole_records(file, file.metadata()?.len())?;
    let mut found = 0;
    while found < count && end >= (HEAD + TAIL) as u64 {
        let tail = window.bytes(end - TAIL as u64, TAIL)?;
        let text = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]) as usize;
        let whole = (HEAD + text + TAIL) as u64;
        if text > MAX_BLOCK || whole > end {
            break;
        }
        let Some(head) = Header::decode(window.bytes(end - whole, HEAD)?).filter(|head| head.length == text) else {
            break;
        };
        let lines = match head.kind {
            Kind::Lines => {
                let text = window.bytes(end - whole + HEAD as u64, text)?;
                let open = text.last().is_some_and(|last| *last != b'\n');
                memchr::memchr_iter(b'\n', text).count() as u64 + u64::from(open)
            }
            Kind::Line => 1,
            Kind::Piece => u64::from(text > 0),
        };
        end -= whole;
        found += lines;
    }
    Ok(Place {
        found: found.min(count),
        at: end,
        skip: found.saturating_sub(count),
    })
}

pub(super) fn json(file: &File, count: u64) -> io::Result<Place> {
    let mut end = whole_lines(file, file.metadata()?.len())?;
    let place = |found, at| Place { found, at, skip: 0 };
    if count == 0 || end == 0 {
        return Ok(place(0, end));
    }
    let mut found = 0;
    let mut block = vec![0; BLOCK];
    end -= 1; // the newline of the last line
    while end > 0 {
        let from = end.saturating_sub(BLOCK as u64);
        let block = &mut block[..(end - from) as usize];
        file.read_exact_at(block, from)?;
        for at in memchr::memrchr_iter(b'\n', block) {
            found += 1;
            if found == count {
                return Ok(place(found, from + at as u64 + 1));
            }
        }
        end = from;
    }
    Ok(place(found + 1, 0))
}

/// Reads small pieces near each other, going backwards, with few system calls.
struct Window<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    from: u64,
}

impl<'a> Window<'a> {
    fn new(file: &'a File) -> Self {
        Window {
            file,
            buffer: Vec::new(),
            from: 0,
        }
    }

    fn bytes(&mut self, from: u64, length: usize) -> io::Result<&[u8]> {
        let end = from + length as u64;
        if from < self.from || end > self.from + self.buffer.len() as u64 {
            let start = end.saturating_sub(BLOCK as u64).min(from);
            self.buffer.resize((end - start) as usize, 0);
            self.file.read_exact_at(&mut self.buffer, start)?;
            self.from = start;
        }
        let at = (from - self.from) as usize;
        Ok(&self.buffer[at..at + length])
    }
}

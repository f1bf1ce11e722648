//! From bytes to entries.

use super::BLOCK;
use super::header::{Block, Kind};
use super::pax::{self, Pax};
use super::sparse::{self, Segment, keep};
use crate::error::{Error, Result};
use std::io::{BufRead, ErrorKind};

/// What GNU long names and PAX headers may take, as in Go's reader.
const EXTENSION_LIMIT: u64 = 1 << 20;

/// Takes every byte that is not a file's payload.
pub(crate) trait Raw {
    fn raw(&mut self, bytes: &[u8]) -> Result<()>;
}

/// For those who do not want them.
impl Raw for () {
    fn raw(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// One entry, all extensions applied. Names are as in the archive: unchecked.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits, 07777.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: (i64, u32),
    pub device: (u64, u64),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Size of the file: for a sparse one with its holes.
    pub size: u64,
    /// Bytes that follow in the archive: read exactly these with [`TarReader::payload`].
    pub stored: u64,
    /// For a sparse file, where they go.
    pub sparse: Option<Vec<Segment>>,
}

impl Entry {
    /// The name for messages.
    pub fn display(&self) -> String {
        String::from_utf8_lossy(&self.name).chars().take(300).collect()
    }
}

/// Reads entries one by one. After each, all of its payload must be taken before the next.
pub(crate) struct TarReader<R> {
    input: R,
    offset: u64,
    limit: u64,
    /// Payload bytes of the current entry not yet taken.
    pub(super) left: u64,
    /// Padding behind it.
    padding: usize,
}

impl<R: BufRead> TarReader<R> {
    /// Reads at most `limit` bytes.
    pub fn new(input: R, limit: u64) -> Self {
        TarReader {
            input,
            offset: 0,
            limit,
            left: 0,
            padding: 0,
        }
    }

    fn bad(&self, reason: &'static str) -> Error {
        Error::BadTar {
            offset: self.offset,
            reason,
        }
    }

    /// The next entry, or `None` at the end, when all bytes behind the end mark have been read as well.
    pub fn next(&mut self, raw: &mut impl Raw) -> Result<Option<Entry>> {
        debug_assert_eq!(self.left, 0, "the payload of the entry before was not read");
        self.skip_padding(raw)?;
        let mut pax: Option<Pax> = None;
        let (mut long_name, mut long_link) = (None, None);
        let pending = |pax: &Option<Pax>, name: &Option<Vec<u8>>, link: &Option<Vec<u8>>| {
            pax.is_some() || name.is_some() || link.is_some()
        };
        loop {
            let Some(block) = self.block(raw)? else {
                if pending(&pax, &long_name, &long_link) {
                    return Err(self.bad("it ends after an extension header, before the entry"));
                }
                return Ok(None);
            };
            if block.is_zero() {
                if pending(&pax, &long_name, &long_link) {
                    return Err(self.bad("it ends after an extension header, before the entry"));
                }
                self.finish(raw)?;
                return Ok(None);
            }
            if !block.checksum_fits() {
                return Err(self.bad("the header's checksum is wrong (not a tar archive, or a damaged one)"));
            }
            match block.flag() {
                b'x' => {
                    let data = self.extension(&block, raw)?;
                    pax = Some(Pax::parse(&data).map_err(|reason| self.bad(reason))?);
                }
                b'g' => {
                    // Docker ignores global headers. One that would move names or sizes is not ignored alike by all readers.
                    let data = self.extension(&block, raw)?;
                    for (key, _) in pax::records(&data).map_err(|reason| self.bad(reason))? {
                        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
                            return Err(self.bad("a global PAX header that sets a name or a size"));
                        }
                    }
                }
                b'L' => long_name = Some(self.long(&block, raw)?),
                b'K' => long_link = Some(self.long(&block, raw)?),
                _ => {
                    return self
                        .entry(&block, pax.unwrap_or_default(), long_name, long_link, raw)
                        .map(Some);
                }
            }
        }
    }

    fn entry(
        &mut self,
        block: &Block,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
        raw: &mut impl Raw,
    ) -> Result<Entry> {
        let name = long_name.or(pax.path).unwrap_or_else(|| block.name());
        let link = long_link.or(pax.link).unwrap_or_else(|| block.link());
        let refuse = |reason: &str| {
            let entry = String::from_utf8_lossy(&name).chars().take(300).collect();
            Error::BadEntry {
                entry,
                reason: reason.to_owned(),
            }
        };
        let kind = match block.flag() {
            0 if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            flag => return Err(refuse(&format!("its type {:?} is not supported", char::from(flag)))),
        };
        let size = block
            .size()
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| refuse("its size is not a number"))?;
        let size = match pax.size {
            // A size that the header block cannot hold stands there as anything; else both must agree.
            Some(real) if real == size || real > 0o77_777_777_777 => real,
            Some(real) => {
                return Err(refuse(&format!(
                    "its PAX header says {real} bytes, its header block {size}"
                )));
            }
            None => size,
        };
        let id = |pax: Option<u64>, block: Option<i64>, what: &str| {
            let id = pax.or_else(|| block.and_then(|n| u64::try_from(n).ok()));
            id.and_then(|n| u32::try_from(n).ok())
                .filter(|n| *n != u32::MAX)
                .ok_or_else(|| refuse(&format!("its {what} id is not one")))
        };
        let mode = block.mode().ok_or_else(|| refuse("its mode is not a number"))? as u32 & 0o7777;
        let mtime = match pax.mtime {
            Some(time) => time,
            None => (block.mtime().ok_or_else(|| refuse("its time is not a number"))?, 0),
        };
        let device = match kind {
            Kind::Char | Kind::BlockDevice => {
                let device = block
                    .device()
                    .and_then(|(a, b)| Some((u64::try_from(a).ok()?, u64::try_from(b).ok()?)));
                device.ok_or_else(|| refuse("its device number is not one"))?
            }
            _ => (0, 0),
        };
        let mut entry = Entry {
            kind,
            mode,
            uid: id(pax.uid, block.uid(), "user")?,
            gid: id(pax.gid, block.gid(), "group")?,
            mtime,
            device,
            xattrs: pax.xattrs,
            size,
            stored: size,
            sparse: None,
            name: name.clone(),
            link,
        };
        if kind != Kind::File {
            // Only files have a payload, whatever the size says: so do Go's reader and everyone who follows POSIX.
            entry.size = 0;
            entry.stored = 0;
        }
        if entry.stored > self.limit.saturating_sub(self.offset) {
            return Err(Error::Limit {
                what: "the size of an archive in bytes",
                limit: self.limit,
            });
        }
        self.left = entry.stored;
        self.padding = (BLOCK - (entry.stored % BLOCK as u64) as usize) % BLOCK;
        let sparse = if block.flag() == b'S' {
            Some(self.gnu_sparse(block, raw).map_err(|e| keep(e, &refuse))?)
        } else if pax.sparse.is_used() && kind == Kind::File {
            if let Some(name) = &pax.sparse.name {
                entry.name = name.clone();
            }
            Some(self.pax_sparse(&pax.sparse, raw).map_err(|e| keep(e, &refuse))?)
        } else {
            None
        };
        if let Some((map, real_size)) = sparse {
            entry.stored = self.left;
            entry.size = real_size;
            if real_size > self.limit {
                return Err(Error::Limit {
                    what: "the size of a sparse file in bytes",
                    limit: self.limit,
                });
            }
            entry.sparse = Some(sparse::check(&map, real_size, self.left).map_err(refuse)?);
        }
        Ok(entry)
    }

    /// The data of a GNU long name or link.
    fn long(&mut self, block: &Block, raw: &mut impl Raw) -> Result<Vec<u8>> {
        let mut data = self.extension(block, raw)?;
        let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
        data.truncate(end);
        Ok(data)
    }

    fn extension(&mut self, block: &Block, raw: &mut impl Raw) -> Result<Vec<u8>> {
        let size = block
            .size()
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| self.bad("a size that is not a number"))?;
        if size > EXTENSION_LIMIT {
            return Err(self.bad("an extension header of more than 1 MiB"));
        }
        let mut data = Vec::with_capacity(size as usize);
        while data.len() < size as usize {
            let block = self
                .block(raw)?
                .ok_or_else(|| self.bad("it ends in an extension header"))?;
            data.extend_from_slice(&block.0);
        }
        data.truncate(size as usize);
        Ok(data)
    }

    /// Payload of the current entry: at least one byte and at most `most`, without a copy. Empty when all is taken.
    /// Call [`TarReader::consume`] with what was used.
    pub fn payload(&mut self, most: u64) -> Result<&[u8]> {
        let most = most.min(self.left);
        if most == 0 {
            return Ok(&[]);
        }
        let offset = self.offset;
        let available = fill(&mut self.input)?;
        if available.is_empty() {
            return Err(Error::BadTar {
                offset,
                reason: "it ends in the middle of a file",
            });
        }
        let n = usize::try_from(most).unwrap_or(usize::MAX).min(available.len());
        Ok(&available[..n])
    }

    /// Marks payload as used.
    pub fn consume(&mut self, n: usize) {
        self.input.consume(n);
        self.left -= n as u64;
        self.offset += n as u64;
    }

    fn skip_padding(&mut self, raw: &mut impl Raw) -> Result<()> {
        while self.padding > 0 {
            let available = fill(&mut self.input)?;
            if available.is_empty() {
                return Err(self.bad("it ends in the padding of a file"));
            }
            let n = self.padding.min(available.len());
            raw.raw(&available[..n])?;
            self.input.consume(n);
            self.padding -= n;
            self.offset += n as u64;
        }
        Ok(())
    }

    /// One block; `None` at the end of the input.
    pub(super) fn block(&mut self, raw: &mut impl Raw) -> Result<Option<Block>> {
        if self.offset + BLOCK as u64 > self.limit {
            return Err(Error::Limit {
                what: "the size of an archive in bytes",
                limit: self.limit,
            });
        }
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let available = fill(&mut self.input)?;
            if available.is_empty() {
                if have == 0 {
                    return Ok(None);
                }
                return Err(self.bad("it ends in the middle of a block"));
            }
            let n = (BLOCK - have).min(available.len());
            block[have..have + n].copy_from_slice(&available[..n]);
            self.input.consume(n);
            have += n;
        }
        raw.raw(&block)?;
        self.offset += BLOCK as u64;
        Ok(Some(Block(block)))
    }

    /// Behind the first zero block: a second one (or nothing) must follow; whatever comes then belongs to nobody, but is
    /// part of the digest.
    fn finish(&mut self, raw: &mut impl Raw) -> Result<()> {
        match self.block(raw)? {
            None => return Ok(()),
            Some(block) if block.is_zero() => {}
            Some(_) => return Err(self.bad("data follows a single zero block")),
        }
        loop {
            let available = fill(&mut self.input)?;
            if available.is_empty() {
                return Ok(());
            }
            let n = available.len();
            raw.raw(available)?;
            self.input.consume(n);
            self.offset += n as u64;
            if self.offset > self.limit {
                return Err(Error::Limit {
                    what: "the size of an archive in bytes",
                    limit: self.limit,
                });
            }
        }
    }
}

fn fill(input: &mut impl BufRead) -> Result<&[u8]> {
    loop {
        // Twice, because the borrow checker does not let a borrow out of a loop that goes on.
        match input.fill_buf() {
            Ok(_) => break,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(Error::Source {
                    what: "the archive",
                    source,
                });
            }
        }
    }
    input.fill_buf().map_err(|source| Error::Source {
        what: "the archive",
        source,
    })
}

//! Compressions, and the compressed stream of a layer: counted, hashed, cut off where it grows beyond what was announced.

use crate::chunk::CHUNK;
use crate::digest::Hasher;
use crate::error::{Error, Result};
use bzip2::bufread::MultiBzDecoder;
use lzma_rust2::XzReader;
use std::io::{self, BufRead, BufReader, Cursor, Read};

/// Compressed data is read in portions of this size.
pub(crate) const READ: usize = 256 << 10;
/// Memory that a damaged or hostile xz stream may ask for, in KiB: what `xz -9` needs, and some.
const XZ_MEMORY: u32 = 96 << 10;
/// zstd window: what `zstd` itself accepts by default (128 MiB).
const ZSTD_WINDOW_LOG: u32 = 27;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Plain tar.
    None,
    /// gzip, one or several members.
    Gzip,
    /// Zstandard.
    Zstd,
    /// bzip2, one or several streams.
    Bzip2,
    /// xz, one or several streams.
    Xz,
}

impl Compression {
    /// Looks at the first bytes (six are enough).
    ///
    /// # Errors
    /// A compression that is known but not supported.
    pub fn sniff(start: &[u8], what: &str) -> Result<Compression> {
        let unsupported = |method| {
            Err(Error::UnsupportedCompression {
                what: what.to_owned(),
                method,
            })
        };
        match start {
            [0x1f, 0x8b, ..] => Ok(Compression::Gzip),
            // A zstd frame, or a skippable frame in front of one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Compression::Zstd),
            [b'B', b'Z', b'h', ..] => Ok(Compression::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Ok(Compression::Xz),
            [0x04, 0x22, 0x4d, 0x18, ..] => unsupported("lz4"),
            _ => Ok(Compression::None),
        }
    }
}

/// The plain bytes of a stream in any compression that we read.
pub(crate) fn plain<'a>(mut reader: impl Read + 'a, what: &'static str) -> Result<Box<dyn BufRead + 'a>> {
    let fail = |source| Error::Source { what, source };
    let mut start = Vec::with_capacity(8);
    reader.by_ref().take(6).read_to_end(&mut start).map_err(fail)?;
    let compression = Compression::sniff(&start, what)?;
    let input = BufReader::with_capacity(READ, Cursor::new(start).chain(reader));
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(BufReader::with_capacity(
            READ,
            flate2::bufread::MultiGzDecoder::new(input),
        )),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(fail)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(fail)?;
            Box::new(BufReader::with_capacity(READ, Damaged(decoder)))
        }
        Compression::Bzip2 => Box::new(BufReader::with_capacity(READ, MultiBzDecoder::new(input))),
        Compression::Xz => Box::new(BufReader::with_capacity(READ, xz(input))),
    })
}

/// zstd calls damage by no kind of its own.
struct Damaged<R>(R);

impl<R: Read> Read for Damaged<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Other if error.raw_os_error().is_none() => io::Error::new(io::ErrorKind::InvalidData, error),
            _ => error,
        })
    }
}

fn xz<R: Read>(input: R) -> XzReader<R> {
    XzReader::new_mem_limit(input, true, XZ_MEMORY)
}

/// The stream as it comes: counted, hashed, and cut off when it grows beyond what was announced.
pub(crate) struct Compressed<'a, R> {
    pub reader: R,
    pub hasher: Option<Hasher>,
    pub count: u64,
    pub limit: u64,
    pub progress: Option<&'a dyn Fn(u64)>,
    pub excess: bool,
    pub failed: Option<io::Error>,
}

impl<R: Read> Read for Compressed<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = loop {
            match self.reader.read(buf) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    // Decoders wrap or rename errors; keep the original.
                    let kind = e.kind();
                    self.failed = Some(e);
                    return Err(kind.into());
                }
                Ok(n) => break n,
            }
        };
        self.count += n as u64;
        if self.count > self.limit {
            self.excess = true;
            return Err(io::Error::other("longer than announced"));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buf[..n]);
        }
        if let Some(progress) = self.progress
            && n > 0
        {
            progress(self.count);
        }
        Ok(n)
    }
}

impl<R> Compressed<'_, R> {
    /// The cause behind an error that came through a decoder.
    pub fn error(&mut self, what: &'static str, error: io::Error) -> Error {
        if self.excess {
            return Error::SizeMismatch {
                what: what.to_owned(),
                expected: self.limit,
                actual: self.count,
            };
        }
        match self.failed.take().map(io::Error::downcast::<Error>) {
            // It comes from an archive around the layer.
            Some(Ok(error)) => error,
            Some(Err(source)) => Error::Source { what, source },
            None => Error::Decompress {
                what: what.to_owned(),
                source: error,
            },
        }
    }
}

pub(crate) type Input<'r, 'p, R> = BufReader<io::Chain<Cursor<Vec<u8>>, &'r mut Compressed<'p, R>>>;

/// The plain bytes of a layer.
pub(crate) enum Decoder<'r, 'p, R: Read> {
    None(Input<'r, 'p, R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Input<'r, 'p, R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Input<'r, 'p, R>>),
    Bzip2(Box<MultiBzDecoder<Input<'r, 'p, R>>>),
    Xz(Box<XzReader<Input<'r, 'p, R>>>),
}

impl<'r, 'p, R: Read> Decoder<'r, 'p, R> {
    pub fn new(compression: Compression, input: Input<'r, 'p, R>) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Decoder::None(input),
            Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Decoder::Zstd(decoder)
            }
            Compression::Bzip2 => Decoder::Bzip2(Box::new(MultiBzDecoder::new(input))),
            Compression::Xz => Decoder::Xz(Box::new(xz(input))),
        })
    }

    pub fn source(&mut self) -> &mut Compressed<'p, R> {
        let input = match self {
            Decoder::None(input) => input,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Zstd(decoder) => decoder.get_mut(),
            Decoder::Bzip2(decoder) => decoder.get_mut(),
            Decoder::Xz(decoder) => decoder.inner_mut(),
        };
        input.get_mut().get_mut().1
    }

    /// Fills a chunk to its capacity; `false` at the end. On an error, what was read before it is in the chunk.
    pub fn fill(&mut self, chunk: &mut Vec<u8>) -> io::Result<bool> {
        chunk.resize(CHUNK, 0);
        let mut filled = 0;
        let result = loop {
            if filled == CHUNK {
                break Ok(true);
            }
            let rest = &mut chunk[filled..];
            let read = match self {
                Decoder::None(input) => input.read(rest),
                Decoder::Gzip(decoder) => decoder.read(rest),
                Decoder::Zstd(decoder) => decoder.read(rest),
                Decoder::Bzip2(decoder) => decoder.read(rest),
                Decoder::Xz(decoder) => decoder.read(rest),
            };
            match read {
                Ok(0) => break Ok(false),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => break Err(e),
            }
        };
        chunk.truncate(filled);
        result
    }
}

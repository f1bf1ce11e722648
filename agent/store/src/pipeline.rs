//! From a compressed stream to a tree.
//!
//! ```text
//! caller's thread: read ─► hash (compressed) ─► inflate ─┬─► hash (tar)      thread 2
//!                                                        └─► create files    thread 3
//! ```
//!
//! The chunks between the threads are shared, bounded in number, and used again: fresh memory is dear (about 6 µs a page on
//! virtual machines).

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::extract::{Built, Extractor, own_umask};
use crate::layers::Source;
use crate::split::SplitWriter;
use crate::store::Limits;
use crate::tar::TarReader;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

/// Bytes of a chunk: a multiple of the tar block, and three of them fit a usual second-level cache.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait for one thread: 8 MiB, so that a burst of small files does not stop the decompression.
const DEPTH: usize = 32;
/// Compressed data is read in portions of this size.
const READ: usize = 256 << 10;
/// Below this size no ratio is suspicious: a layer of zeros is a common test image.
const RATIO_FREE: u64 = 4 << 30;
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
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
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
            Box::new(BufReader::with_capacity(READ, decoder))
        }
    })
}

/// What is known about a stream before it is unpacked.
#[derive(Default)]
pub struct Unpack<'a> {
    /// `None`: look at the first bytes (the safest: media types lie).
    pub compression: Option<Compression>,
    /// Digest and size of the stream as it comes (compressed).
    pub expected: Option<(Digest, u64)>,
    /// Called with the bytes read from the stream so far.
    pub progress: Option<&'a dyn Fn(u64)>,
}

/// What came out.
pub(crate) struct Done {
    pub diff_id: Digest,
    pub tar_bytes: u64,
    pub file_bytes: u64,
    pub entries: u64,
    pub source: Option<Source>,
}

/// Unpacks into `dir/tree`, with the record that gives the tar back in `dir/split`.
pub(crate) fn run(dir: &Path, reader: impl Read, unpack: &Unpack<'_>, hasher: Hasher, limits: &Limits) -> Result<Done> {
    std::thread::scope(|scope| {
        let (to_files, files) = sync_channel(DEPTH);
        let (to_hash, hash) = sync_channel(DEPTH);
        let spawn_failed = |e| Error::io("start a thread for", dir)(e);
        let builder = || std::thread::Builder::new();
        let files = builder()
            .name("store-files".into())
            .spawn_scoped(scope, move || build(dir, ChunkReader::new(files), limits))
            .map_err(spawn_failed)?;
        let hash = builder()
            .name("store-hash".into())
            .spawn_scoped(scope, move || hash_all(hasher, &hash))
            .map_err(spawn_failed)?;
        let fed = feed(reader, unpack, limits, &to_files, &to_hash);
        if fed.is_err() {
            // Without the end mark the builder knows that this is no end of the archive.
            drop(to_files);
        } else {
            drop(to_files.send(None));
            drop(to_files);
        }
        drop(to_hash);
        let built = files.join().unwrap_or(Err(Error::Closed));
        let (diff_id, tar_bytes) = hash.join().map_err(|_| Error::Closed)?;
        // The first cause: what was fed was wrong, or else creating the files failed and stopped the feeding.
        let source = match fed {
            Ok(source) => source,
            Err(Stop::Cause(error)) => return Err(error),
            Err(Stop::Receiver) => return Err(built.err().unwrap_or(Error::Closed)),
        };
        let (Built { entries, file_bytes }, recorded) = built?;
        if recorded != tar_bytes {
            return Err(Error::BadTar {
                offset: recorded,
                reason: "not all of it was read",
            });
        }
        let source = source.or_else(|| {
            Some(Source {
                digest: diff_id.clone(),
                size: tar_bytes,
            })
        });
        Ok(Done {
            diff_id,
            tar_bytes,
            file_bytes,
            entries,
            source,
        })
    })
}

fn build(dir: &Path, input: ChunkReader, limits: &Limits) -> Result<(Built, u64)> {
    own_umask()?;
    let mut split = SplitWriter::create(dir.join("split"))?;
    let mut extractor = Extractor::new(dir, &mut split, limits)?;
    extractor.run(&mut TarReader::new(input, limits.layer_bytes))?;
    let built = extractor.finish()?;
    Ok((built, split.finish()?))
}

fn hash_all(mut hasher: Hasher, chunks: &Receiver<Arc<Chunk>>) -> (Digest, u64) {
    let mut count = 0;
    while let Ok(chunk) = chunks.recv() {
        hasher.update(&chunk.bytes);
        count += chunk.bytes.len() as u64;
    }
    (hasher.finish(), count)
}

/// Why feeding stopped early.
enum Stop {
    /// The stream is at fault.
    Cause(Error),
    /// The other end is gone and knows why.
    Receiver,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Cause(error)
    }
}

/// Reads, decompresses and passes on. Returns what the compressed stream was, unless it was not compressed and nothing was
/// announced about it.
fn feed(
    reader: impl Read,
    unpack: &Unpack<'_>,
    limits: &Limits,
    files: &SyncSender<Option<Arc<Chunk>>>,
    hash: &SyncSender<Arc<Chunk>>,
) -> std::result::Result<Option<Source>, Stop> {
    let expected = unpack.expected.as_ref();
    let mut source = Compressed {
        reader,
        hasher: Some(expected.map_or_else(Hasher::sha256, |(digest, _)| Hasher::like(digest))),
        count: 0,
        limit: expected.map_or(u64::MAX, |(_, size)| *size),
        progress: unpack.progress,
        excess: false,
        failed: None,
    };
    let mut start = Vec::with_capacity(8);
    if let Err(error) = (&mut source).take(6).read_to_end(&mut start) {
        return Err(source.error("the layer", error).into());
    }
    let compression = match unpack.compression {
        Some(known) => known,
        None => Compression::sniff(&start, "the layer")?,
    };
    if compression == Compression::None && expected.is_none() {
        // Its digest is the diff id, which is computed anyway.
        source.hasher = None;
    }
    let pool = Pool::default();
    let mut total = 0u64;
    {
        let input = BufReader::with_capacity(READ, Cursor::new(start).chain(&mut source));
        let mut output = Decoder::new(compression, input).map_err(|e| Error::Source {
            what: "the layer",
            source: e,
        })?;
        loop {
            let mut chunk = pool.take();
            let filled = output.fill(&mut chunk.bytes);
            let n = chunk.bytes.len();
            total += n as u64;
            if n > 0 {
                let chunk = Arc::new(chunk);
                let sent = files.send(Some(chunk.clone())).is_ok();
                if !sent || hash.send(chunk).is_err() {
                    return Err(Stop::Receiver);
                }
            }
            let read = output.source().count;
            if total > limits.layer_bytes {
                return Err(Error::Limit {
                    what: "the size of a layer in bytes",
                    limit: limits.layer_bytes,
                }
                .into());
            }
            if total > RATIO_FREE && total / limits.ratio.max(1) > read {
                return Err(Error::Limit {
                    what: "how many times a layer grows when decompressed",
                    limit: limits.ratio,
                }
                .into());
            }
            match filled {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Err(output.source().error("the layer", error).into()),
            }
        }
    }
    // What follows the compressed data is part of the announced bytes.
    let mut rest = vec![0; 64 << 10];
    loop {
        match source.read(&mut rest) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(source.error("the layer", error).into()),
        }
    }
    let size = source.count;
    let digest = source.hasher.take().map(Hasher::finish);
    if let (Some((announced, announced_size)), Some(digest)) = (expected, &digest) {
        if size != *announced_size {
            let what = "the layer".to_owned();
            return Err(Error::SizeMismatch {
                what,
                expected: *announced_size,
                actual: size,
            }
            .into());
        }
        if digest != announced {
            let what = "the layer".to_owned();
            return Err(Error::DigestMismatch {
                what,
                expected: announced.clone(),
                actual: digest.clone(),
            }
            .into());
        }
    }
    Ok(digest.map(|digest| Source { digest, size }))
}

/// The stream as it comes: counted, hashed, and cut off when it grows beyond what was announced.
struct Compressed<'a, R> {
    reader: R,
    hasher: Option<Hasher>,
    count: u64,
    limit: u64,
    progress: Option<&'a dyn Fn(u64)>,
    excess: bool,
    failed: Option<io::Error>,
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
    fn error(&mut self, what: &'static str, error: io::Error) -> Error {
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

type Input<'r, 'p, R> = BufReader<io::Chain<Cursor<Vec<u8>>, &'r mut Compressed<'p, R>>>;

enum Decoder<'r, 'p, R: Read> {
    None(Input<'r, 'p, R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<Input<'r, 'p, R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Input<'r, 'p, R>>),
}

impl<'r, 'p, R: Read> Decoder<'r, 'p, R> {
    fn new(compression: Compression, input: Input<'r, 'p, R>) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Decoder::None(input),
            Compression::Gzip => Decoder::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Decoder::Zstd(decoder)
            }
        })
    }

    fn source(&mut self) -> &mut Compressed<'p, R> {
        let input = match self {
            Decoder::None(input) => input,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Zstd(decoder) => decoder.get_mut(),
        };
        input.get_mut().get_mut().1
    }

    /// Fills a chunk to its capacity; `false` at the end. On an error, what was read before it is in the chunk.
    fn fill(&mut self, chunk: &mut Vec<u8>) -> io::Result<bool> {
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

/// A part of the tar, shared by the threads that use it; its memory goes back to the pool when the last one is done.
struct Chunk {
    bytes: Vec<u8>,
    pool: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Ok(mut free) = self.pool.lock() {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[derive(Default)]
struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    fn take(&self) -> Chunk {
        let free = self.0.lock().ok().and_then(|mut free| free.pop());
        Chunk {
            bytes: free.unwrap_or_else(|| Vec::with_capacity(CHUNK)),
            pool: self.0.clone(),
        }
    }
}

/// The builder's end of the channel as a buffered reader.
struct ChunkReader {
    chunks: Receiver<Option<Arc<Chunk>>>,
    current: Option<Arc<Chunk>>,
    at: usize,
    ended: bool,
}

impl ChunkReader {
    fn new(chunks: Receiver<Option<Arc<Chunk>>>) -> ChunkReader {
        ChunkReader {
            chunks,
            current: None,
            at: 0,
            ended: false,
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buf.len());
        buf[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while !self.ended && self.current.as_ref().is_none_or(|chunk| self.at == chunk.bytes.len()) {
            self.current = None; // back to the pool before we wait
            self.at = 0;
            match self.chunks.recv() {
                Ok(Some(chunk)) => self.current = Some(chunk),
                Ok(None) => self.ended = true,
                Err(_) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream broke off")),
            }
        }
        Ok(self.current.as_ref().map_or(&[], |chunk| &chunk.bytes[self.at..]))
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

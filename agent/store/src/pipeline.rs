//! From a compressed stream to a tree.
//!
//! ```text
//! caller's thread: read ─► hash (compressed) ─► inflate ─┬─► hash (tar)      thread 2
//!                                                        └─► create files    thread 3
//! ```
//!
//! The chunks between the threads are shared, bounded in number, and used again: fresh memory is dear (about 6 µs a page on
//! virtual machines).

use crate::chunk::{Chunk, ChunkReader, Pool};
use crate::decompress::{Compressed, Compression, Decoder, READ};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::extract::{Built, Extractor, own_umask};
use crate::layers::Source;
use crate::split::SplitWriter;
use crate::store::Limits;
use crate::tar::TarReader;
use std::io::{BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Chunks that may wait for one thread: 8 MiB, so that a burst of small files does not stop the decompression.
const DEPTH: usize = 32;
/// Below this size no ratio is suspicious: a layer of zeros is a common test image.
const RATIO_FREE: u64 = 4 << 30;

/// What is known about a stream before it is unpacked.
#[derive(Default)]
pub struct Unpack<'a> {
    /// `None`: look at the first bytes (the safest: media types lie).
    pub compression: Option<Compression>,
    /// Digest and size of the stream as it comes (compressed).
    pub expected: Option<(Digest, u64)>,
    /// It is a tree and no layer: names that begin with `.wh.` are names, and symbolic links may say what they like.
    pub tree: bool,
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
        let is_tree = unpack.tree;
        let files = builder()
            .name("store-files".into())
            .spawn_scoped(scope, move || build(dir, ChunkReader::new(files), limits, is_tree))
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

fn build(dir: &Path, input: ChunkReader, limits: &Limits, is_tree: bool) -> Result<(Built, u64)> {
    own_umask()?;
    let mut split = SplitWriter::create(dir.join("split"))?;
    let mut extractor = Extractor::new(dir, &mut split, limits)?;
    extractor.is_tree = is_tree;
    extractor.run(&mut TarReader::new(input, limits.layer_bytes))?;
    let built = extractor.finish()?;
    runtime_sys::failpoint!("tree-extracted");
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

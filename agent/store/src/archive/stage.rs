//! The files of an archive: documents are kept, layers are unpacked where they stand.

use super::documents::Collected;
use super::load::{LoadEvent, short_name};
use crate::decompress::Compression;
use crate::digest::{ChainId, Digest, Hasher};
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::pipeline::{Done, Unpack};
use crate::store::{Store, TempDir};
use crate::tar::{Entry, TarReader, is_header};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, BufRead, Cursor, Read};

/// How much of a file is looked at to tell what it is: a tar header.
const HEAD: usize = 512;
/// Files that are neither documents nor layers (`VERSION`) are skipped.
const REPORT_EVERY: u64 = 512 << 10;

/// A layer of the archive.
pub(super) enum Staged<'a> {
    /// Unpacked, waiting for its place.
    Tree(TempDir<'a>, Done),
    /// In the store, with this content, at this place (perhaps not the one where it is wanted).
    Known(Digest, ChainId),
}

impl Staged<'_> {
    pub fn diff_id(&self) -> &Digest {
        match self {
            Staged::Tree(_, done) => &done.diff_id,
            Staged::Known(diff_id, _) => diff_id,
        }
    }
}

/// Takes files as they come.
pub(super) struct Stager<'a> {
    store: &'a Store,
    lease: &'a Lease,
    /// By cleaned name.
    pub staged: HashMap<String, Staged<'a>>,
}

impl<'a> Stager<'a> {
    pub fn new(store: &'a Store, lease: &'a Lease) -> Stager<'a> {
        Stager {
            store,
            lease,
            staged: HashMap::new(),
        }
    }

    pub fn file<R: BufRead>(
        &mut self,
        name: &str,
        entry: &Entry,
        tar: &mut TarReader<R>,
        found: &mut Collected,
        progress: &mut dyn FnMut(LoadEvent),
    ) -> Result<()> {
        if entry.sparse.is_some() {
            return Err(Error::BadEntry {
                entry: entry.display(),
                reason: "it is sparse".to_owned(),
            });
        }
        let mut payload = Payload { tar };
        let mut head = Vec::with_capacity(HEAD);
        payload
            .by_ref()
            .take(HEAD as u64)
            .read_to_end(&mut head)
            .map_err(unwrap)?;
        // An OCI blob is named by its digest, which is a promise.
        let digest = blob_digest(name)?;
        let is_layer = is_header(&head) || Compression::sniff(&head, name)? != Compression::None;
        if is_layer {
            let stream = Cursor::new(head).chain(payload);
            return self.layer(name, entry.stored, digest, stream, progress);
        }
        let is_document = matches!(head.iter().find(|b| !b.is_ascii_whitespace()), Some(b'{' | b'['));
        let mut rest = Cursor::new(head).chain(payload);
        if !is_document || entry.stored > self.store.inner.limits.document_bytes {
            io::copy(&mut rest, &mut io::sink()).map_err(unwrap)?;
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(entry.stored as usize);
        rest.read_to_end(&mut bytes).map_err(unwrap)?;
        if let Some(expected) = digest {
            let mut hasher = Hasher::like(&expected);
            hasher.update(&bytes);
            let actual = hasher.finish();
            if actual != expected {
                return Err(Error::DigestMismatch {
                    what: name.to_owned(),
                    expected,
                    actual,
                });
            }
        }
        found.document(name, bytes)
    }

    fn layer(
        &mut self,
        name: &str,
        size: u64,
        digest: Option<Digest>,
        stream: impl Read,
        progress: &mut dyn FnMut(LoadEvent),
    ) -> Result<()> {
        let id = short_name(name);
        let progress = RefCell::new(progress);
        let reported = RefCell::new(0);
        let report = |current: u64| {
            let mut last = reported.borrow_mut();
            if current == size || current - *last >= REPORT_EVERY {
                *last = current;
                progress.borrow_mut()(LoadEvent::Layer {
                    id: id.clone(),
                    current,
                    total: size,
                });
            }
        };
        let staged = match self.known(name, digest.as_ref()) {
            Some((promised, diff_id, chain)) => {
                let actual = hash(stream, Hasher::like(&promised), &report)?;
                if actual != promised {
                    return Err(Error::DigestMismatch {
                        what: name.to_owned(),
                        expected: promised,
                        actual,
                    });
                }
                Staged::Known(diff_id, chain)
            }
            None => {
                let expected = digest.map(|digest| (digest, size));
                let unpack = Unpack {
                    tree: false,
                    compression: None,
                    expected,
                    progress: Some(&report),
                };
                let (temp, done) = self.store.layers().stage(stream, unpack, Hasher::sha256())?;
                Staged::Tree(temp, done)
            }
        };
        self.staged.insert(name.to_owned(), staged);
        progress.borrow_mut()(LoadEvent::LayerDone { id });
        Ok(())
    }

    /// Whether the store has what a file of this name must contain: the digest that its content must then have, its diff id,
    /// and where it is. The name alone proves nothing; the digest is checked.
    fn known(&self, name: &str, digest: Option<&Digest>) -> Option<(Digest, Digest, ChainId)> {
        let promised = match digest {
            Some(digest) => digest.clone(),
            // docker-archives of today name the file by its diff id; old ones have `<some id>/layer.tar`, which is no promise.
            None => Digest::from_sha256_hex(name.strip_suffix(".tar")?).ok()?,
        };
        let state = self.store.inner.state();
        let by_diff = state.by_diff.get(&promised).and_then(|chains| chains.iter().next());
        let chain = by_diff.or_else(|| {
            let layer = state
                .layers
                .values()
                .find(|l| l.sources.iter().any(|s| s.digest == promised));
            layer.map(|layer| &layer.chain)
        });
        let layer = state.layers.get(chain?)?.clone();
        drop(state);
        self.lease.hold(&layer.chain);
        // It may have been collected between the look and the lease.
        self.store.layers().get(&layer.chain)?;
        Some((promised, layer.diff_id.clone(), layer.chain.clone()))
    }
}

fn hash(mut stream: impl Read, mut hasher: Hasher, report: &dyn Fn(u64)) -> Result<Digest> {
    let mut buffer = vec![0; 256 << 10];
    let mut done = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                done += n as u64;
                report(done);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(unwrap(e)),
        }
    }
}

/// The digest that an OCI layout's file name promises.
fn blob_digest(name: &str) -> Result<Option<Digest>> {
    match name.strip_prefix("blobs/").and_then(|rest| rest.split_once('/')) {
        Some((algorithm, hex)) => Digest::parse(&format!("{algorithm}:{hex}")).map(Some),
        None => Ok(None),
    }
}

/// The payload of the current entry as a reader.
struct Payload<'t, R> {
    tar: &'t mut TarReader<R>,
}

impl<R: BufRead> Read for Payload<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.tar.payload(buf.len() as u64).map_err(io::Error::other)?;
        let n = bytes.len();
        buf[..n].copy_from_slice(bytes);
        self.tar.consume(n);
        Ok(n)
    }
}

/// Our own error, when it only travelled through [`Read`].
fn unwrap(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::Source {
            what: "the image archive",
            source,
        },
    }
}

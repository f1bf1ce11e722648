//! The content of a blob as a stream: verified while it flows, resumed where it broke.
//!
//! ```text
//!        ┌──────── nothing for `stall_timeout`, connection broken, 5xx ───────┐
//!        ▼ pause (doubling)                                                   │
//!      open ── GET, from the second time on with Range ──► reading ── last byte ──► digest right? ──► end
//!        │ refused                                            │ more or less than promised
//!        ▼                                                    ▼
//!      next place (mirror → registry), or the error         error
//! ```
//!
//! Dropping the stream cancels it: the connection is closed, the place in the download queue is given back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::stream::{self, Stream};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::answer::Subject;
use crate::auth::Credentials;
use crate::client::Shared;
use crate::digest::{Digest, Hasher};
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::reader::BlobReader;
use crate::redirect::request_name;
use crate::reference::Reference;
use crate::session::Ask;
use crate::transport::body_error;

/// Progress after which earlier failures are forgiven. A server that sends a byte and hangs up gets no endless patience.
const PROGRESS: u64 = 256 << 10;
/// Reconnections of one blob at most, whatever the progress.
const MAX_RECONNECTS: u32 = 1000;
/// A server that sends less than this within twice the stall timeout is taken for stalled: one that drips a byte now and
/// then could otherwise hold a download for ever.
const LEAST: u64 = 4 << 10;
/// How long the end of a body may take once all its bytes are there.
const TAIL: Duration = Duration::from_millis(500);

/// What happens to a download, for those who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobEvent {
    /// In the queue behind other downloads.
    Waiting,
    /// So many bytes are here, of all.
    Received(u64),
    /// It broke, and goes on after a pause.
    Retrying {
        /// The pause.
        pause: Duration,
        /// Failures in a row so far.
        failures: u32,
        /// Of the last one.
        why: String,
    },
    /// All bytes are here and their digest is right.
    Verified,
}

/// What to get.
pub(crate) struct Wanted {
    /// In messages.
    pub(crate) what: &'static str,
    pub(crate) reference: Reference,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) credentials: Option<Credentials>,
}

/// A download in progress; see [`Client::blob`](crate::Client::blob).
pub struct BlobStream {
    shared: Arc<Shared>,
    wanted: Wanted,
    /// Where to ask; the first is the current one.
    places: Vec<Arc<Endpoint>>,
    body: Option<Incoming>,
    /// Of the open body, for messages.
    request: String,
    received: u64,
    /// Bytes that a server which knows no Range sends again.
    skip: u64,
    hasher: Option<Hasher>,
    permit: Option<OwnedSemaphorePermit>,
    unlimited: bool,
    failures: u32,
    reconnects: u32,
    /// `received` at the last failure.
    mark: u64,
    pace: Pace,
    observer: Option<Box<dyn FnMut(BlobEvent) + Send>>,
    state: State,
}

/// How fast bytes come, counting only the time that we wait for them and not the reader's own.
#[derive(Default)]
pub(crate) struct Pace {
    pub(crate) waited: Duration,
    bytes: u64,
}

impl Pace {
    /// How long the next bytes may take.
    pub(crate) fn limit(&self, silence: Duration) -> Duration {
        silence.min((silence * 2).saturating_sub(self.waited))
    }

    pub(crate) fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes >= LEAST {
            *self = Pace::default();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// Everything was handed out and was right.
    Complete,
    Failed,
}

impl BlobStream {
    pub(crate) fn new(shared: Arc<Shared>, wanted: Wanted) -> BlobStream {
        BlobStream {
            hasher: Some(wanted.digest.hasher()),
            shared,
            wanted,
            places: Vec::new(),
            body: None,
            request: String::new(),
            received: 0,
            skip: 0,
            permit: None,
            unlimited: false,
            failures: 0,
            reconnects: 0,
            mark: 0,
            pace: Pace::default(),
            observer: None,
            state: State::Reading,
        }
    }

    /// Do not stand in the queue of downloads.
    pub(crate) fn unlimited(mut self) -> BlobStream {
        self.unlimited = true;
        self
    }

    /// Leave the digest to the reader, who computes it anyway. The size is still checked.
    #[must_use]
    pub fn without_digest_check(mut self) -> BlobStream {
        self.hasher = None;
        self
    }

    /// Have `observer` told what happens. It is called often and must be quick.
    #[must_use]
    pub fn observed(mut self, observer: impl FnMut(BlobEvent) + Send + 'static) -> BlobStream {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.wanted.size
    }

    /// Bytes handed out so far.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next bytes, `None` at the end. The last bytes come only when the whole is right.
    ///
    /// Cancel-safe: what was received is not lost when the returned future is dropped.
    ///
    /// # Errors
    /// Once; after that the stream is at its end.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.state == State::Failed {
            return None;
        }
        match self.advance().await {
            Ok(bytes) => bytes.map(Ok),
            Err(error) => {
                self.state = State::Failed;
                self.close();
                Some(Err(error))
            }
        }
    }

    /// As a [`Stream`].
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes>> + Send {
        stream::unfold(
            self,
            |mut blob| async move { blob.next().await.map(|item| (item, blob)) },
        )
    }

    /// All of it. For small blobs: the caller checks the size before.
    pub(crate) async fn collect(mut self) -> Result<Bytes> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all.into())
    }

    /// As a blocking reader for another thread, while a task on `runtime` reads ahead a few chunks.
    ///
    /// Dropping the reader cancels the download. Errors come as [`std::io::Error`] holding an [`Error`].
    pub fn into_reader(self, runtime: &Handle) -> BlobReader {
        BlobReader::start(self, runtime)
    }

    async fn advance(&mut self) -> Result<Option<Bytes>> {
        if self.state == State::Complete {
            return Ok(None);
        }
        if self.wanted.size == 0 {
            // Nothing to ask for; but nothing has one digest only.
            self.complete()?;
            return Ok(None);
        }
        loop {
            if self.body.is_none() {
                self.open().await?;
            }
            let Some(body) = &mut self.body else { continue };
            let silence = self.shared.session.transport.silence();
            let since = Instant::now();
            let next = timeout(self.pace.limit(silence), body.frame()).await;
            self.pace.waited += since.elapsed();
            let failure = match next {
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => match self.take(bytes).await? {
                        Some(bytes) => return Ok(Some(bytes)),
                        None => continue,
                    },
                    Err(_trailers) => continue,
                },
                Ok(Some(Err(error))) => body_error(self.request.clone(), &error),
                Ok(None) => Error::Interrupted {
                    request: self.request.clone(),
                    why: "unexpected EOF".to_owned(),
                },
                Err(_) => Error::Stalled {
                    request: self.request.clone(),
                    waited: self.pace.waited,
                },
            };
            self.recover(failure).await?;
        }
    }

    /// Account for bytes of the body; gives back those that are new.
    async fn take(&mut self, mut bytes: Bytes) -> Result<Option<Bytes>> {
        self.pace.count(bytes.len() as u64);
        if self.skip > 0 {
            let again = self.skip.min(bytes.len() as u64);
            bytes.advance(usize::try_from(again).unwrap_or(bytes.len()));
            self.skip -= again;
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let received = self.received + bytes.len() as u64;
        if received > self.wanted.size {
            return Err(self.wrong_size(received));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        self.received = received;
        self.tell(BlobEvent::Received(received));
        if received == self.wanted.size {
            // The reader may stop at the last byte: so it gets that only when all is well.
            self.complete()?;
            self.end_body().await?;
        }
        Ok(Some(bytes))
    }

    /// Everything is here: check it.
    fn complete(&mut self) -> Result<()> {
        if let Some(hasher) = self.hasher.take() {
            let actual = hasher.finish();
            if actual != self.wanted.digest {
                if let Some(place) = self.places.first() {
                    self.shared.endpoints.rest(place);
                }
                let expected = self.wanted.digest.clone();
                return Err(Error::BadDigest {
                    what: self.wanted.what,
                    expected,
                    actual,
                });
            }
        }
        self.state = State::Complete;
        self.tell(BlobEvent::Verified);
        Ok(())
    }

    /// Read the end of the body, so that the connection can be used again, and see that nothing comes after it.
    async fn end_body(&mut self) -> Result<()> {
        let rest = match &mut self.body {
            Some(body) => timeout(TAIL, body.frame()).await,
            None => return Ok(()),
        };
        self.close();
        match rest {
            Ok(Some(Ok(frame))) => match frame.data_ref() {
                Some(data) if !data.is_empty() => Err(self.wrong_size(self.received + data.len() as u64)),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn close(&mut self) {
        self.body = None;
        self.permit = None;
    }

    /// Ask for what is missing until somebody answers.
    async fn open(&mut self) -> Result<()> {
        if self.permit.is_none() && !self.unlimited {
            let downloads = self.shared.downloads.clone();
            let permit = match downloads.clone().try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    self.tell(BlobEvent::Waiting);
                    let closed = |_| Error::Interrupted {
                        request: String::new(),
                        why: "the client is closed".to_owned(),
                    };
                    downloads.acquire_owned().await.map_err(closed)?
                }
            };
            self.permit = Some(permit);
        }
        if self.places.is_empty() {
            self.places = self.shared.endpoints.of(&self.wanted.reference)?;
        }
        loop {
            let error = match self.request().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.recover(error).await?;
        }
    }

    async fn request(&mut self) -> Result<()> {
        let Some(place) = self.places.first().cloned() else {
            return Err(Error::BlobUnknown {
                name: self.wanted.reference.familiar_name(),
                digest: self.wanted.digest.clone(),
            });
        };
        let wanted = &self.wanted;
        let mut headers = HeaderMap::new();
        if self.received > 0
            && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", self.received))
        {
            headers.insert(RANGE, range);
        }
        let ask = Ask {
            method: Method::GET,
            repository: wanted.reference.repository(),
            tail: &format!("blobs/{}", wanted.digest),
            headers,
            credentials: place.credentials(&wanted.reference, wanted.credentials.as_ref()),
            subject: Subject::Blob(&wanted.reference, &wanted.digest),
        };
        let answer = self.shared.session.ask(&place, &ask).await?;
        let headers = answer.response.headers();
        self.request = request_name(&Method::GET, &answer.url);
        match answer.response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let (start, total) = content_range(headers).ok_or_else(|| self.bad_range("no valid Content-Range"))?;
                if start != self.received {
                    return Err(self.bad_range("another part than asked for"));
                }
                if let Some(total) = total.filter(|&total| total != self.wanted.size) {
                    return Err(self.wrong_size(total));
                }
                self.skip = 0;
            }
            // Some answer 200 with everything, whatever was asked.
            _ => {
                if let Some(length) = content_length(headers).filter(|&length| length != self.wanted.size) {
                    return Err(self.wrong_size(length));
                }
                self.skip = self.received;
            }
        }
        self.body = Some(answer.response.into_body());
        Ok(())
    }

    /// After a failure: wait and go on, or go on elsewhere, or give up with it.
    async fn recover(&mut self, error: Error) -> Result<()> {
        self.body = None;
        self.pace = Pace::default();
        if self.received >= self.mark + PROGRESS {
            self.failures = 0;
        }
        self.mark = self.received;
        self.failures += 1;
        self.reconnects += 1;
        // The registry was there a moment ago to tell of this blob, and may be restarting: then even a refused connection
        // is worth another try.
        let passing = match &error {
            Error::Unreachable { why, .. } => why.is_passing(),
            error => error.is_passing(),
        };
        let pause = self.shared.session.pause(self.failures, &error).filter(|_| passing);
        // With another place at hand there is no reason to wait for this one.
        if self.places.len() > 1 && (!passing || self.failures > 1) {
            let left = self.places.remove(0);
            tracing::warn!(mirror = %left.authority(), %error, blob = %self.wanted.digest, "mirror failed, going on without it");
            self.shared.endpoints.rest(&left);
            self.failures = 0;
            return Ok(());
        }
        let Some(pause) = pause.filter(|_| self.reconnects < MAX_RECONNECTS) else {
            return Err(error);
        };
        tracing::debug!(%error, ?pause, blob = %self.wanted.digest, received = self.received, "download goes on after a pause");
        self.tell(BlobEvent::Retrying {
            pause,
            failures: self.failures,
            why: error.to_string(),
        });
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn tell(&mut self, event: BlobEvent) {
        if let Some(observer) = &mut self.observer {
            observer(event);
        }
    }

    fn wrong_size(&self, actual: u64) -> Error {
        let (what, digest) = (self.wanted.what, self.wanted.digest.clone());
        Error::BadSize {
            what,
            digest,
            expected: self.wanted.size,
            actual,
        }
    }

    fn bad_range(&self, why: &str) -> Error {
        Error::Protocol {
            request: self.request.clone(),
            why: format!("the answer to a range request has {why}"),
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Start and, where it is told, total of `Content-Range: bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (start, _) = range.split_once('-')?;
    let total = if total.trim() == "*" {
        None
    } else {
        Some(total.trim().parse().ok()?)
    };
    Some((start.trim().parse().ok()?, total))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn content_ranges_are_read() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 0-0/*", Some((0, None))),
            ("bytes  7-9/10 ", Some((7, Some(10)))),
            ("bytes */10", None),
            ("bytes -9/10", None),
            ("bytes 5-9", None),
            ("bits 5-9/10", None),
            ("", None),
            ("bytes 99999999999999999999-1/2", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, HeaderValue::from_str(text).unwrap());
            assert_eq!(content_range(&headers), expected, "{text:?}");
        }
    }
}

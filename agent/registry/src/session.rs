//! A request to a registry as a whole: address, challenge, token, retry.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue};

use crate::answer::{self, Subject};
use crate::auth::{Authenticator, Credentials, Key};
use crate::config::ClientConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::redirect::same_origin;
use crate::transport::{Answer, Call, Transport};

/// Everything that requests share.
pub(crate) struct Session {
    pub(crate) transport: Transport,
    authenticator: Authenticator,
    attempts: u32,
    backoff: Duration,
    max_backoff: Duration,
}

/// What to ask of an endpoint.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) repository: &'a str,
    /// `manifests/latest`, `blobs/sha256:…`; may have a query.
    pub(crate) tail: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) credentials: Option<&'a Credentials>,
    pub(crate) subject: Subject<'a>,
}

impl Session {
    pub(crate) fn new(config: &ClientConfig) -> Result<Session> {
        Ok(Session {
            transport: Transport::new(config)?,
            authenticator: Authenticator::default(),
            attempts: config.attempts.max(1),
            backoff: config.backoff,
            max_backoff: config.max_backoff,
        })
    }

    /// Ask once, answering a challenge on the way. Any status but success is an error.
    pub(crate) async fn ask(&self, endpoint: &Endpoint, ask: &Ask<'_>) -> Result<Answer> {
        let scheme = match endpoint.scheme {
            Some(scheme) => scheme,
            None => self.transport.scheme(&endpoint.host, endpoint.port).await?,
        };
        let mut call = Call::new(ask.method.clone(), endpoint.url(scheme, ask.repository, ask.tail)?);
        call.headers = ask.headers.clone();
        // A digest is of the bytes as stored: nobody on the way may pack them anew.
        call.headers
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let answer = self.authenticated(endpoint, ask, call).await.inspect_err(|error| {
            if let Error::Unreachable { why, .. } = error
                && why.is_plain()
            {
                self.transport.forget_scheme(&endpoint.host, endpoint.port);
            }
        })?;
        if answer.response.status().is_success() {
            return Ok(answer);
        }
        Err(answer::error(&self.transport, answer, &ask.method, &ask.subject).await)
    }

    async fn authenticated(&self, endpoint: &Endpoint, ask: &Ask<'_>, mut call: Call) -> Result<Answer> {
        let key = Key::new(&endpoint.authority(), ask.repository, ask.credentials);
        let ready = ask
            .credentials
            .and_then(|credentials| credentials.registry_token.as_deref());
        let ready = ready.and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        let may_answer = ready.is_none();
        call.authorization = ready.or_else(|| self.authenticator.kept(&key));
        let mut kept = call.authorization.is_some();
        let mut origin = call.url.clone();
        loop {
            let answer = self.transport.send(call.clone()).await?;
            // Only the registry's own word counts: what a content network behind it says is not about our credentials.
            let ours = same_origin(&origin, &answer.url);
            if answer.response.status().as_u16() != 401 || !ours || !may_answer {
                return Ok(answer);
            }
            let challenges = answer::challenges(answer.response.headers());
            self.authenticator.forget(&key);
            if call.authorization.is_some() && !kept {
                // A fresh answer was refused; another one would be too.
                return Ok(answer);
            }
            if challenges.is_empty() {
                return Ok(answer);
            }
            kept = false;
            origin = call.url.clone();
            let scope = (!ask.repository.is_empty()).then(|| format!("repository:{}:pull", ask.repository));
            let fresh = self.authenticator.answer(
                &self.transport,
                key.clone(),
                &call,
                &challenges,
                ask.credentials,
                scope.as_deref(),
            );
            call.authorization = Some(fresh.await?);
        }
    }

    /// Ask and read the whole answer, again and again while failures look passing.
    pub(crate) async fn fetch(
        &self,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        what: &str,
        limit: u64,
    ) -> Result<(HeaderMap, Bytes)> {
        let mut failures = 0;
        loop {
            let once = async {
                let answer = self.ask(endpoint, ask).await?;
                let headers = answer.response.headers().clone();
                let body = self.transport.read(answer, &ask.method, what, limit).await?;
                Ok((headers, body))
            };
            let error: Error = match once.await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            // A registry that lets us wait is asked once more and not six times: somebody sits before the terminal.
            failures += if matches!(error, Error::Stalled { .. }) {
                self.attempts.div_ceil(2)
            } else {
                1
            };
            match self.pause(failures, &error) {
                Some(pause) if error.is_passing() => {
                    tracing::debug!(%error, ?pause, "asking the registry again");
                    tokio::time::sleep(pause).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// How long to wait before another try after `failures` in a row; `None` when there should be none.
    ///
    /// The pause doubles, with half of it left to chance, so that the clients of a registry that was down do not all come
    /// back at the same moment.
    pub(crate) fn pause(&self, failures: u32, error: &Error) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let doubled = self
            .backoff
            .saturating_mul(1 << (failures - 1).min(16))
            .min(self.max_backoff);
        let pause = doubled.div_f64(2.0) + doubled.mul_f64(rand::random::<f64>() / 2.0);
        match error.retry_after() {
            // It knows when it will be ready. Nobody wants to look at a silent terminal for an hour.
            Some(wanted) if wanted > self.max_backoff => None,
            Some(wanted) => Some(wanted.max(pause)),
            None => Some(pause),
        }
    }
}

/// The header that asks for exactly these media types.
pub(crate) fn accept(types: &[&'static str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // In one line: there are servers that read the first line only.
    if let Ok(value) = HeaderValue::from_str(&types.join(", ")) {
        headers.insert(ACCEPT, value);
    }
    headers
}

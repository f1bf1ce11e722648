//! HTTP/1.1 to the daemon: one request at a time per connection, idle connections kept for the next call, answers as
//! bytes, as a stream, or as the raw connection.

use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, UPGRADE, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use crate::call::{Body, Call, copy, empty, repeatable};
use crate::download::Download;
use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::hijack::Hijacked;
use crate::tls::TlsOptions;
use crate::transport;
use crate::version::{ApiVersion, NEWEST, OLDEST};

/// An answer that is collected must fit: nothing the API returns as one object comes near it.
const MAX_ANSWER: usize = 256 << 20;
/// Error bodies are one sentence; a hostile daemon must not fill the memory with one.
const MAX_ERROR: usize = 1 << 20;
/// Idle connections kept; a CLI needs one or two, tests with many tasks a few more.
const MAX_IDLE: usize = 16;

/// How to reach a daemon.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `None`: TLS is not wanted.
    pub tls: Option<TlsOptions>,
    /// Headers for every request (`HttpHeaders` of the config file).
    pub headers: Vec<(String, String)>,
    /// A fixed API version; without it the newest that both know is negotiated at the first call.
    pub version: Option<ApiVersion>,
    /// The `User-Agent`; empty means this library's name.
    pub user_agent: String,
}

/// A daemon, reached over any transport. Cheap to clone; clones share idle connections and the negotiated version.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    authority: HeaderValue,
    user_agent: HeaderValue,
    headers: Vec<(HeaderName, HeaderValue)>,
    tls: Option<Arc<rustls::ClientConfig>>,
    idle: Mutex<Vec<SendRequest<Body>>>,
    version: OnceLock<ApiVersion>,
    ping: OnceLock<Ping>,
}

/// What `/_ping` tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ping {
    pub api_version: Option<ApiVersion>,
    pub os_type: String,
    pub experimental: bool,
    /// `2` means BuildKit.
    pub builder_version: String,
    pub swarm: String,
    /// The `Server` header, e.g. `Docker/28.5.2 (linux)`.
    pub server: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.shared.endpoint)
    }
}

impl Client {
    /// A client for the daemon at `endpoint`. Nothing is connected yet.
    ///
    /// # Errors
    /// TLS files that cannot be used, or headers that are not valid.
    pub fn new(endpoint: Endpoint, options: Options) -> Result<Client> {
        let host = endpoint.to_string();
        let tls = match (&endpoint, &options.tls) {
            (Endpoint::Tcp { tls: true, .. }, Some(tls)) => Some(tls.config(&host)?),
            (Endpoint::Tcp { tls: true, .. }, None) => {
                let reason = "TLS without a CA certificate; give --tlsverify and --tlscacert".to_owned();
                return Err(Error::Host { host, reason });
            }
            _ => None,
        };
        let bad = |what: &str| Error::Host {
            host: host.clone(),
            reason: format!("{what} is not a valid header"),
        };
        let agent = match options.user_agent.as_str() {
            "" => concat!("iechor-client/", env!("CARGO_PKG_VERSION"), " (linux)"),
            agent => agent,
        };
        let mut headers = Vec::new();
        for (name, value) in &options.headers {
            let name_ok = HeaderName::try_from(name.as_str()).map_err(|_| bad(name))?;
            headers.push((name_ok, HeaderValue::try_from(value.as_str()).map_err(|_| bad(name))?));
        }
        let version = OnceLock::new();
        if let Some(fixed) = options.version {
            let _ = version.set(fixed);
        }
        Ok(Client {
            shared: Arc::new(Shared {
                authority: HeaderValue::try_from(endpoint.authority()).map_err(|_| bad("the host name"))?,
                user_agent: HeaderValue::try_from(agent).map_err(|_| bad("the user agent"))?,
                headers,
                tls,
                idle: Mutex::new(Vec::new()),
                version,
                ping: OnceLock::new(),
                endpoint,
            }),
        })
    }

    /// A client for a unix socket with default options: what tests want.
    ///
    /// # Errors
    /// None in practice; the signature is [`Client::new`]'s.
    pub fn unix(path: impl Into<std::path::PathBuf>) -> Result<Client> {
        Client::new(Endpoint::Unix(path.into()), Options::default())
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// The version calls are made with; negotiated at the first use.
    ///
    /// # Errors
    /// The daemon cannot be reached, or shares no version with this client.
    pub async fn version(&self) -> Result<ApiVersion> {
        if let Some(version) = self.shared.version.get() {
            return Ok(*version);
        }
        let ping = self.ping().await?;
        // A daemon that names no version is older than the header, or a proxy ate it: speak what every one understands.
        let version = ping.api_version.map_or(OLDEST, |theirs| theirs.min(NEWEST));
        if version < OLDEST {
            return Err(Error::Version {
                daemon_min: "?".to_owned(),
                daemon_max: version.to_string(),
                client_min: OLDEST.to_string(),
                client_max: NEWEST.to_string(),
            });
        }
        Ok(*self.shared.version.get_or_init(|| version))
    }

    /// Asks the daemon who it is. Remembered: the second call costs nothing.
    ///
    /// # Errors
    /// The daemon cannot be reached or answers with an error.
    pub async fn ping(&self) -> Result<Ping> {
        if let Some(ping) = self.shared.ping.get() {
            return Ok(ping.clone());
        }
        let ping = match self.ping_with(Method::HEAD).await {
            // Some proxies refuse HEAD.
            Err(Error::Api { .. }) => self.ping_with(Method::GET).await?,
            other => other?,
        };
        Ok(self.shared.ping.get_or_init(|| ping).clone())
    }

    async fn ping_with(&self, method: Method) -> Result<Ping> {
        let call = Call::new(method, "/_ping").unversioned();
        let (parts, _) = self.exchange(call).await?;
        let text = |name: &str| {
            parts
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        Ok(Ping {
            api_version: text("api-version").parse().ok(),
            os_type: text("ostype"),
            experimental: text("docker-experimental") == "true",
            builder_version: text("builder-version"),
            swarm: text("swarm"),
            server: text("server"),
        })
    }

    /// A bare connection to the daemon, with nothing sent: for those who speak HTTP themselves.
    ///
    /// # Errors
    /// The daemon cannot be reached.
    pub async fn dial(&self) -> Result<Box<dyn transport::Stream>> {
        transport::dial(&self.shared.endpoint, self.shared.tls.as_ref()).await
    }

    /// Makes a call and reads its answer as JSON.
    ///
    /// # Errors
    /// As [`Error`] tells: not reached, refused, broken, or not understood.
    pub async fn fetch<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let doing = call.doing();
        let bytes = self.fetch_bytes(call).await?;
        agent_api::json::from_slice(&bytes).map_err(|error| Error::Answer {
            doing,
            reason: error.to_string(),
        })
    }

    /// Makes a call and returns its answer as it came.
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn fetch_bytes(&self, call: Call) -> Result<Bytes> {
        Ok(self.exchange(call).await?.1)
    }

    /// Makes a call of which only the success matters. Returns the status, because some successes differ (204, 304).
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn send(&self, call: Call) -> Result<StatusCode> {
        Ok(self.exchange(call).await?.0.status)
    }

    /// Makes a call and collects the answer, then keeps the connection for the next one.
    pub(crate) async fn exchange(&self, call: Call) -> Result<(http::response::Parts, Bytes)> {
        let doing = call.doing();
        let (response, sender) = self.start(call).await?;
        let (parts, body) = response.into_parts();
        let bytes = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|source| Error::Broken {
                host: self.host(),
                doing,
                source,
            })?
            .to_bytes();
        self.keep(sender);
        Ok((parts, bytes))
    }

    /// Makes a call and returns the body as it arrives. Dropping the stream closes the connection.
    ///
    /// # Errors
    /// As [`Client::fetch`]; the stream's items fail when the connection breaks.
    pub async fn open(&self, call: Call) -> Result<Download> {
        let doing = call.doing();
        let (response, sender) = self.start(call).await?;
        let (parts, body) = response.into_parts();
        Ok(Download {
            parts,
            body,
            doing,
            host: self.host(),
            _sender: sender,
        })
    }

    /// Makes a call that turns the connection into a raw one (`101`).
    ///
    /// # Errors
    /// As [`Client::fetch`].
    pub async fn hijack(&self, call: Call) -> Result<Hijacked> {
        let doing = call.doing();
        let call = call.header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
        let (response, _sender) = self.start(call).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let reason = format!("expected 101, got {}", response.status());
            return Err(Error::Answer { doing, reason });
        }
        let multiplexed = match response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes) {
            Some(b"application/vnd.docker.multiplexed-stream") => Some(true),
            // Before API 1.42 both kinds are called raw.
            Some(b"application/vnd.docker.raw-stream") if self.version().await? >= ApiVersion::new(1, 42) => {
                Some(false)
            }
            _ => None,
        };
        let upgraded = hyper::upgrade::on(response).await.map_err(|source| Error::Broken {
            host: self.host(),
            doing,
            source: Box::new(source),
        })?;
        Ok(Hijacked::new(upgraded, multiplexed))
    }

    /// Sends a request and reads the head of the answer; a status that is an error becomes one.
    async fn start(&self, call: Call) -> Result<(Response<Incoming>, SendRequest<Body>)> {
        let doing = call.doing();
        let mut request = self.request(call).await?;
        tracing::debug!(method = %request.method(), target = %request.uri(), "call");
        let broken = |source: hyper::Error| Error::Broken {
            host: self.host(),
            doing: doing.clone(),
            source: Box::new(source),
        };
        let again = repeatable(&request);
        let (response, sender) = loop {
            let (mut sender, fresh) = self.connection().await?;
            match sender.try_send_request(request).await {
                Ok(response) => break (response, sender),
                // An idle connection that the daemon closed meanwhile. hyper hands a request back that was not sent; one
                // that may have been is only repeated when that changes nothing.
                Err(mut failed) => match (failed.take_message(), fresh) {
                    (Some(unsent), false) => request = unsent,
                    (None, false) => match &again {
                        Some(head) => request = copy(head),
                        None => return Err(broken(failed.into_error())),
                    },
                    _ => return Err(broken(failed.into_error())),
                },
            }
        };
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok((response, sender));
        }
        let head = status.canonical_reason().unwrap_or("error");
        let body = Limited::new(response.into_body(), MAX_ERROR).collect().await;
        let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
        self.keep(sender);
        Err(Error::Api {
            status,
            message: error_text(&bytes).unwrap_or_else(|| format!("{head} for {doing}")),
        })
    }

    async fn request(&self, call: Call) -> Result<Request<Body>> {
        // Negotiation makes a call of its own: the box ends the recursion.
        let prefix = if call.versioned {
            format!("/v{}", Box::pin(self.version()).await?)
        } else {
            String::new()
        };
        let mut target = prefix + &call.path;
        if !call.query.is_empty() {
            target.push('?');
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(&call.query);
            target.push_str(&query.finish());
        }
        let mut request = Request::builder()
            .method(call.method)
            .uri(&target)
            .header(HOST, &self.shared.authority)
            .header(USER_AGENT, &self.shared.user_agent);
        for (name, value) in &self.shared.headers {
            request = request.header(name, value);
        }
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let body = call.body.unwrap_or_else(empty);
        request.body(body).map_err(|_| Error::Name(call.path))
    }

    /// An idle connection, or a new one (`true`).
    async fn connection(&self) -> Result<(SendRequest<Body>, bool)> {
        loop {
            let Some(sender) = self.idle().pop() else { break };
            if sender.is_ready() {
                return Ok((sender, false));
            }
        }
        let stream = transport::dial(&self.shared.endpoint, self.shared.tls.as_ref()).await?;
        let doing = || "opening it".to_owned();
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| Error::Broken {
                host: self.host(),
                doing: doing(),
                source: Box::new(source),
            })?;
        // Ends by itself when the daemon hangs up, or when the last sender is dropped.
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        Ok((sender, true))
    }

    fn keep(&self, sender: SendRequest<Body>) {
        let mut idle = self.idle();
        if !sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(sender);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SendRequest<Body>>> {
        self.shared
            .idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn host(&self) -> String {
        self.shared.endpoint.to_string()
    }
}

/// The sentence inside an error body: JSON as the API has it, or plain text from something in between.
fn error_text(bytes: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Reply {
        message: String,
    }
    let text = match serde_json::from_slice::<Reply>(bytes) {
        Ok(reply) => reply.message,
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    };
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

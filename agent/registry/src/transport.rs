//! One HTTP exchange, redirects followed: the connection pool, the choice between HTTPS and HTTP, and the rule of what
//! may be shown to whom.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, PROXY_AUTHORIZATION, USER_AGENT};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use url::Url;

use crate::config::ClientConfig;
use crate::connect::{ConnectError, Connector};
use crate::dial::io_words;
use crate::error::{Error, Result};
use crate::redirect::{Plain, host_and_port, next_hop, request_name, same_origin, without_query};

/// A registry needs one, a content network behind it perhaps one more.
const MAX_REDIRECTS: usize = 10;
/// Idle connections are kept this long.
const IDLE: Duration = Duration::from_secs(30);
/// That a host speaks plain HTTP is believed for this long, so that one that turns to HTTPS is noticed.
const PLAIN_BELIEVED: Duration = Duration::from_secs(60);
/// Frames that a server may send: each costs a pass through the HTTP/2 machinery, and the default is 16 KiB.
const H2_FRAME: u32 = 256 << 10;
/// How often an HTTP/2 connection in use is asked whether it lives.
const H2_PING: Duration = Duration::from_secs(10);
/// Window per HTTP/2 stream and connection: bandwidth × delay of 1 Gbit/s over 60 ms.
const H2_STREAM_WINDOW: u32 = 8 << 20;
const H2_CONNECTION_WINDOW: u32 = 16 << 20;

/// What to ask.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    /// Only ever sent to the origin of `url`.
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) body: Bytes,
    pub(crate) plain: Plain,
}

impl Call {
    pub(crate) fn new(method: Method, url: Url) -> Call {
        Call {
            method,
            url,
            headers: HeaderMap::new(),
            authorization: None,
            body: Bytes::new(),
            plain: Plain::default(),
        }
    }

    /// `Get "https://…"`, as Go's client names a request. Query parameters may hold signatures and are left out.
    pub(crate) fn name(&self) -> String {
        request_name(&self.method, &self.url)
    }
}

/// The answer, and where it came from after redirects.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) url: Url,
}

pub(crate) struct Transport {
    client: Client<Connector, Full<Bytes>>,
    connector: Connector,
    user_agent: HeaderValue,
    silence: Duration,
    connect_timeout: Duration,
    schemes: Mutex<HashMap<String, (Scheme, Instant)>>,
}

/// How a host is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Https,
    Http,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scheme::Https => "https",
            Scheme::Http => "http",
        }
    }
}

impl Transport {
    pub(crate) fn new(config: &ClientConfig) -> Result<Transport> {
        let user_agent = HeaderValue::from_str(&config.user_agent).map_err(|_| Error::Config {
            setting: format!("user agent {:?}", config.user_agent),
            why: "it has characters that no HTTP header may have".to_owned(),
        })?;
        let connector = Connector::new(config)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.max_downloads.max(4))
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            // Without it a dead connection stays in the pool, and every new stream on it stalls as well.
            .http2_keep_alive_interval(H2_PING)
            .http2_keep_alive_timeout(config.stall_timeout)
            .http2_max_frame_size(H2_FRAME)
            .http2_initial_stream_window_size(H2_STREAM_WINDOW)
            .http2_initial_connection_window_size(H2_CONNECTION_WINDOW)
            .build(connector.clone());
        Ok(Transport {
            client,
            connector,
            user_agent,
            silence: config.stall_timeout,
            connect_timeout: config.connect_timeout,
            schemes: Mutex::default(),
        })
    }

    /// Longest silence that is borne.
    pub(crate) fn silence(&self) -> Duration {
        self.silence
    }

    /// How to speak to a registry: HTTPS, unless it may be insecure and does not speak TLS. Found out once per host.
    pub(crate) async fn scheme(&self, host: &str, port: Option<u16>) -> Result<Scheme> {
        if !self.connector.insecure().allows(host, port.unwrap_or(443)) {
            return Ok(Scheme::Https);
        }
        let key = format!("{host} {}", port.map_or(String::new(), |port| port.to_string()));
        let known = self
            .schemes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .copied();
        match known {
            Some((Scheme::Https, _)) => return Ok(Scheme::Https),
            Some((Scheme::Http, seen)) if seen.elapsed() < PLAIN_BELIEVED => return Ok(Scheme::Http),
            _ => {}
        }
        let (scheme, certain) = match self.connector.connect(true, host, port.unwrap_or(443)).await {
            Ok(_) => (Scheme::Https, true),
            Err(error) if error.is_plain() => (Scheme::Http, true),
            // It speaks TLS, but not with us. That must be told, and no password go there unencrypted.
            Err(ConnectError::Tls(_) | ConnectError::Certificate(_) | ConnectError::Certificates(_)) => {
                (Scheme::Https, false)
            }
            // Nobody there: the request itself shall say so; and on its own port plain HTTP may still answer.
            Err(_) => (Scheme::Http, false),
        };
        if certain {
            self.schemes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(key, (scheme, Instant::now()));
        }
        Ok(scheme)
    }

    /// Forget what [`Transport::scheme`] found out, because it did not work.
    pub(crate) fn forget_scheme(&self, host: &str, port: Option<u16>) {
        let key = format!("{host} {}", port.map_or(String::new(), |port| port.to_string()));
        self.schemes.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Send `call` and follow redirects. Credentials stay with the origin that they were meant for.
    pub(crate) async fn send(&self, mut call: Call) -> Result<Answer> {
        for _ in 0..MAX_REDIRECTS {
            let response = self.exchange(&call).await?;
            let location = match (response.status().as_u16(), response.headers().get(LOCATION)) {
                (301 | 302 | 303 | 307 | 308, Some(location)) => location,
                _ => {
                    return Ok(Answer {
                        response,
                        url: call.url,
                    });
                }
            };
            let request = call.name();
            let failed = |why: String| Error::Protocol {
                request: request.clone(),
                why,
            };
            let location = location
                .to_str()
                .map_err(|_| failed("the redirect's address is unreadable".to_owned()))?;
            let next = next_hop(&call.url, location, self.connector.insecure(), call.plain).map_err(&failed)?;
            if !same_origin(&call.url, &next) {
                call.authorization = None;
            }
            if call.method == Method::POST {
                // A token request carries secrets in its body.
                return Err(failed("a redirected POST is not followed".to_owned()));
            }
            tracing::debug!(from = %request_name(&call.method, &call.url), to = %without_query(&next), "redirected");
            call.url = next;
        }
        Err(Error::Protocol {
            request: call.name(),
            why: format!("stopped after {MAX_REDIRECTS} redirects"),
        })
    }

    /// Whether `target` may be asked on the word of `from`, by the rule for redirects.
    pub(crate) fn may_lead(&self, from: &Url, target: &str) -> Result<Url, String> {
        next_hop(from, target, self.connector.insecure(), Plain::Stays)
    }

    async fn exchange(&self, call: &Call) -> Result<Response<Incoming>> {
        let request = self.request(call)?;
        let limit = self.silence + self.connect_timeout;
        match timeout(limit, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(client_error(call.name(), &error)),
            Err(_) => Err(Error::Stalled {
                request: call.name(),
                waited: limit,
            }),
        }
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>> {
        let bad_address = |_| Error::Protocol {
            request: call.name(),
            why: "invalid address".to_owned(),
        };
        let uri: Uri = call.url.as_str().parse().map_err(bad_address)?;
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.headers_mut() = call.headers.clone();
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, self.user_agent.clone());
        if let Some(authorization) = &call.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if call.url.scheme() == "http" {
            let (host, port) = host_and_port(&call.url);
            let to_proxy = self.connector.proxy_authorization(&host, port);
            if let Some(value) = to_proxy.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(PROXY_AUTHORIZATION, value);
            }
        }
        *request.uri_mut() = uri;
        Ok(request)
    }

    /// Read a whole small body.
    pub(crate) async fn read(&self, mut answer: Answer, method: &Method, what: &str, limit: u64) -> Result<Bytes> {
        let request = request_name(method, &answer.url);
        let too_large = || Error::TooLarge {
            what: what.to_owned(),
            limit,
        };
        let body = answer.response.body_mut();
        if hyper::body::Body::size_hint(body).lower() > limit {
            return Err(too_large());
        }
        let mut all = Vec::new();
        // A body that drips is cut off as well, by a limit on the whole.
        let whole = async {
            while let Some(frame) = timeout(self.silence, body.frame()).await.transpose() {
                let frame = frame.map_err(|_| Error::Stalled {
                    request: request.clone(),
                    waited: self.silence,
                })?;
                let frame = frame.map_err(|error| body_error(request.clone(), &error))?;
                if let Some(data) = frame.data_ref() {
                    if (all.len() + data.len()) as u64 > limit {
                        return Err(too_large());
                    }
                    all.extend_from_slice(data);
                }
            }
            Ok(())
        };
        match timeout(self.silence * 2, whole).await {
            Ok(result) => result.map(|()| Bytes::from(all)),
            Err(_) => Err(Error::Stalled {
                request,
                waited: self.silence * 2,
            }),
        }
    }
}

fn client_error(request: String, error: &legacy::Error) -> Error {
    let mut source: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(this) = source {
        if let Some(why) = this.downcast_ref::<ConnectError>() {
            return Error::Unreachable {
                request,
                why: why.clone(),
            };
        }
        if let Some(error) = this.downcast_ref::<hyper::Error>() {
            return body_error(request, error);
        }
        source = this.source();
    }
    Error::Interrupted {
        request,
        why: error.to_string(),
    }
}

/// A failure on an open connection.
pub(crate) fn body_error(request: String, error: &hyper::Error) -> Error {
    if error.is_parse() {
        return Error::Protocol {
            request,
            why: format!("malformed HTTP response: {error}"),
        };
    }
    if error.is_incomplete_message() {
        return Error::Interrupted {
            request,
            why: "unexpected EOF".to_owned(),
        };
    }
    let mut source = error.source();
    while let Some(this) = source {
        if let Some(error) = this.downcast_ref::<io::Error>() {
            return Error::Interrupted {
                request,
                why: format!("read tcp: {}", io_words(error)),
            };
        }
        source = this.source();
    }
    Error::Interrupted {
        request,
        why: error.to_string(),
    }
}

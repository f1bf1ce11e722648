//! Who we are to a registry: credentials, answers to its challenges, and the tokens it gave.
//!
//! ```text
//! request ──401──► challenge ─┬─ Basic  → user and password, to this registry only
//!                             └─ Bearer → token from the realm (GET with Basic, or POST with an identity token)
//! answer kept per registry, repository and credentials until it expires or is refused
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::answer;
use crate::challenge::Challenge;
use crate::error::{Error, Result};
use crate::reference::DOCKER_IO;
use crate::transport::{Call, Transport};

/// A token answer is a few kilobytes at most.
const MAX_TOKEN: u64 = 1 << 20;
/// The token specification's validity where the server names none; also the least that we believe.
const TOKEN_VALIDITY: Duration = Duration::from_secs(60);
/// Taken off a token's validity, for the way and for clocks that differ.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
/// Answers kept at most; beyond it the expired ones, then all, are forgotten.
const MAX_KEPT: usize = 1024;

/// What a user has for a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or personal access token.
    pub password: String,
    /// An OAuth refresh token from an earlier login, used in place of the password.
    pub identity_token: Option<String>,
    /// A ready token for the registry itself.
    pub registry_token: Option<String>,
    /// The registry these belong to, where it is known. They are not shown to any other.
    pub server: Option<String>,
}

/// An `X-Registry-Auth` header that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid registry credentials: {0}")]
pub struct BadCredentials(&'static str);

#[derive(Deserialize, Default)]
#[serde(default)]
struct Wire {
    username: String,
    password: String,
    auth: String,
    serveraddress: String,
    identitytoken: String,
    registrytoken: String,
}

impl Credentials {
    /// User and password.
    pub fn basic(username: impl Into<String>, password: impl Into<String>) -> Credentials {
        Credentials {
            username: username.into(),
            password: password.into(),
            ..Credentials::default()
        }
    }

    /// Read the value of Docker's `X-Registry-Auth` header: JSON in base64url. `None` when it holds nothing.
    ///
    /// # Errors
    /// When it is no base64 or no JSON. Docker's daemon ignores that; whether to do so is the caller's matter.
    pub fn from_header(value: &str) -> Result<Option<Credentials>, BadCredentials> {
        if value.is_empty() {
            return Ok(None);
        }
        let json = URL_SAFE
            .decode(value)
            .or_else(|_| URL_SAFE_NO_PAD.decode(value))
            .or_else(|_| STANDARD.decode(value));
        let json = json.map_err(|_| BadCredentials("not base64url"))?;
        let wire: Wire = serde_json::from_slice(&json).map_err(|_| BadCredentials("not JSON of an auth config"))?;
        let (mut username, mut password) = (wire.username, wire.password);
        if username.is_empty() && !wire.auth.is_empty() {
            (username, password) = Credentials::read_pair(&wire.auth)?;
        }
        let some = |text: String| (!text.is_empty()).then_some(text);
        let credentials = Credentials {
            username,
            password,
            identity_token: some(wire.identitytoken),
            registry_token: some(wire.registrytoken),
            server: some(wire.serveraddress),
        };
        Ok((!credentials.is_empty()).then_some(credentials))
    }

    /// Read `user:password` in base64, as configuration files hold it.
    ///
    /// # Errors
    /// When it is no base64, or has no colon.
    pub fn read_pair(text: &str) -> Result<(String, String), BadCredentials> {
        let pair = STANDARD.decode(text).ok().and_then(|pair| String::from_utf8(pair).ok());
        let pair = pair.ok_or(BadCredentials("its auth field is not base64"))?;
        let (user, secret) = pair
            .split_once(':')
            .ok_or(BadCredentials("its auth field is not user:password"))?;
        Ok((user.to_owned(), secret.trim_end_matches('\0').to_owned()))
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_none() && self.registry_token.is_none()
    }

    /// Whether they may be shown to `registry`: they name it, or no registry at all.
    pub fn belong_to(&self, registry: &str) -> bool {
        let Some(server) = &self.server else { return true };
        let host = server.split_once("://").map_or(server.as_str(), |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default();
        let same_name = |name: &str| match name {
            // All the names that Docker's own registry has had.
            "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DOCKER_IO.to_owned(),
            name => name.trim_end_matches(":443").to_ascii_lowercase(),
        };
        same_name(host) == same_name(registry)
    }

    /// Tells credentials apart in a cache that holds no secrets.
    fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let optional = [&self.identity_token, &self.registry_token].map(|text| text.as_deref().unwrap_or_default());
        for part in [self.username.as_str(), &self.password, optional[0], optional[1]] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn basic_header(&self) -> Option<HeaderValue> {
        let pair = STANDARD.encode(format!("{}:{}", self.username, self.password));
        secret(format!("Basic {pair}"))
    }
}

impl fmt::Debug for Credentials {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// A header value that is kept out of logs and of HTTP/2's compression tables.
fn secret(value: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whom an answer was made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    registry: String,
    repository: String,
    who: [u8; 32],
}

impl Key {
    pub(crate) fn new(registry: &str, repository: &str, credentials: Option<&Credentials>) -> Key {
        let who = credentials.map_or([0; 32], Credentials::fingerprint);
        Key {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            who,
        }
    }
}

/// Answers challenges and remembers the answers.
#[derive(Default)]
pub(crate) struct Authenticator {
    kept: Mutex<HashMap<Key, (HeaderValue, Option<Instant>)>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
}

impl Authenticator {
    /// The answer that was good the last time.
    pub(crate) fn kept(&self, key: &Key) -> Option<HeaderValue> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (header, until) = kept.get(key)?;
        until.is_none_or(|until| Instant::now() < until).then(|| header.clone())
    }

    /// It is good no more.
    pub(crate) fn forget(&self, key: &Key) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn keep(&self, key: Key, header: HeaderValue, until: Option<Instant>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            let now = Instant::now();
            kept.retain(|_, (_, until)| until.is_some_and(|until| now < until));
            if kept.len() >= MAX_KEPT {
                kept.clear();
            }
        }
        kept.insert(key, (header, until));
    }

    /// Answer one of `challenges` of the server at `url`.
    pub(crate) async fn answer(
        &self,
        transport: &Transport,
        key: Key,
        call: &Call,
        challenges: &[Challenge],
        credentials: Option<&Credentials>,
        scope: Option<&str>,
    ) -> Result<HeaderValue> {
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(challenge) = find("bearer") {
            let (token, validity) = fetch_token(transport, call, challenge, credentials, scope).await?;
            let header = secret(format!("Bearer {token}")).ok_or_else(|| Error::Protocol {
                request: call.name(),
                why: "the token server's token has characters that no token may have".to_owned(),
            })?;
            self.keep(key, header.clone(), Some(Instant::now() + validity));
            return Ok(header);
        }
        if find("basic").is_some() {
            let known = credentials.filter(|credentials| !credentials.username.is_empty());
            let header = known.and_then(Credentials::basic_header);
            let header = header.ok_or_else(|| Error::NoCredentials { request: call.name() })?;
            self.keep(key, header.clone(), None);
            return Ok(header);
        }
        let offered: Vec<&str> = challenges.iter().map(|challenge| challenge.scheme.as_str()).collect();
        let why = match offered.as_slice() {
            [] => "it asks for credentials without saying how".to_owned(),
            some => format!(
                "it asks for unsupported authentication ({})",
                answer::clean(&some.join(", "))
            ),
        };
        Err(Error::Protocol {
            request: call.name(),
            why,
        })
    }
}

/// Get a token for `scope` from the realm that the registry named.
async fn fetch_token(
    transport: &Transport,
    call: &Call,
    challenge: &Challenge,
    credentials: Option<&Credentials>,
    scope: Option<&str>,
) -> Result<(String, Duration)> {
    let failed = |why: String| Error::Protocol {
        request: call.name(),
        why,
    };
    let realm = challenge
        .get("realm")
        .ok_or_else(|| failed("its Bearer challenge names no realm".to_owned()))?;
    // An absolute address by its grammar; a relative one would let the registry pose as its own realm unseen.
    Url::parse(realm).map_err(|error| failed(format!("its token server's address is invalid: {error}")))?;
    let realm = transport
        .may_lead(&call.url, realm)
        .map_err(|why| failed(format!("its token server: {why}")))?;
    let scope = challenge.get("scope").or(scope).unwrap_or_default();
    let token_call = match credentials.and_then(|credentials| credentials.identity_token.as_deref()) {
        Some(refresh) => exchange_identity(realm, challenge, scope, refresh),
        None => ask_for_token(realm, challenge, scope, credentials),
    };
    let method = token_call.method.clone();
    let name = token_call.name();
    let reply = transport.send(token_call).await?;
    let status = reply.response.status();
    if !status.is_success() {
        return Err(answer::error(transport, reply, &method, &answer::Subject::Token).await);
    }
    let body = transport
        .read(reply, &method, "the token server's answer", MAX_TOKEN)
        .await?;
    let broken = |why: &str| Error::Protocol {
        request: name.clone(),
        why: why.to_owned(),
    };
    let read: TokenAnswer =
        serde_json::from_slice(&body).map_err(|_| broken("the token server's answer is no JSON"))?;
    let token = [read.token, read.access_token]
        .into_iter()
        .flatten()
        .find(|token| !token.is_empty());
    let token = token.ok_or_else(|| broken("authorization server did not include a token in the response"))?;
    let validity = read.expires_in.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
    let validity = validity.map_or(TOKEN_VALIDITY, |seconds| Duration::from_secs_f64(seconds.min(86_400.0)));
    Ok((token, validity.max(TOKEN_VALIDITY) - TOKEN_MARGIN))
}

/// `GET realm?service=…&scope=…`, with user and password where there are some.
fn ask_for_token(mut realm: Url, challenge: &Challenge, scope: &str, credentials: Option<&Credentials>) -> Call {
    let known = credentials.filter(|credentials| !credentials.username.is_empty());
    {
        let mut query = realm.query_pairs_mut();
        if let Some(credentials) = known {
            query.append_pair("account", &credentials.username);
        }
        for scope in scope.split_whitespace() {
            query.append_pair("scope", scope);
        }
        if let Some(service) = challenge.get("service") {
            query.append_pair("service", service);
        }
    }
    let mut call = Call::new(Method::GET, realm);
    call.authorization = known.and_then(Credentials::basic_header);
    call
}

/// `POST realm` with a refresh token, the OAuth 2 way.
fn exchange_identity(realm: Url, challenge: &Challenge, scope: &str, refresh: &str) -> Call {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    form.append_pair("client_id", "iechor");
    form.append_pair("service", challenge.get("service").unwrap_or_default());
    form.append_pair("scope", scope);
    form.append_pair("refresh_token", refresh);
    let mut call = Call::new(Method::POST, realm);
    call.headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    call.body = form.finish().into();
    call
}

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;

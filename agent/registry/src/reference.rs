//! Image names: `[registry/]repository[:tag][@digest]`, normalised exactly as Docker does.
//!
//! ```text
//! busybox                        → docker.io/library/busybox        (short, "familiar" name)
//! someone/tool:2                 → docker.io/someone/tool:2
//! localhost/tool                 → localhost/tool                   (the first part is a host when it is "localhost",
//! registry.example:5000/a/b@sha… → the same                           or has a dot, a colon or an upper-case letter)
//! ```
//!
//! The grammar is a hand-written matcher and not a regular expression, because it is small, linear, and the daemon needs
//! no regex engine for anything else.

use std::fmt;

use crate::digest::{Digest, DigestError};

/// The registry that short names mean, as Docker has it.
pub const DOCKER_IO: &str = "docker.io";
/// An old name of [`DOCKER_IO`], still found in scripts.
const INDEX_DOCKER_IO: &str = "index.docker.io";
/// Where `docker.io` keeps names without a slash.
const LIBRARY: &str = "library";
/// Longest repository, in bytes, without the registry. Docker's limit.
const MAX_REPOSITORY: usize = 255;
/// Longest tag, in bytes.
const MAX_TAG: usize = 128;
/// The tag that is meant when there is neither tag nor digest.
pub const LATEST: &str = "latest";

/// How short names are completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Registry of names that have none.
    pub registry: String,
    /// First part of names without a slash at that registry (`library` at `docker.io`).
    pub namespace: Option<String>,
}

impl Defaults {
    /// Short names mean `registry`; at `docker.io`, names without a slash belong to `library`.
    pub fn new(registry: impl Into<String>) -> Defaults {
        let registry = match registry.into() {
            name if name == INDEX_DOCKER_IO => DOCKER_IO.to_owned(),
            name => name,
        };
        let namespace = (registry == DOCKER_IO).then(|| LIBRARY.to_owned());
        Defaults { registry, namespace }
    }

    /// Whether these defaults can complete names at all; to be asked once, where the setting is read.
    ///
    /// # Errors
    /// When the registry is no host, or the namespace no path.
    pub fn check(&self) -> Result<(), ReferenceError> {
        let namespace = self.namespace.as_deref().is_none_or(is_repository);
        if is_registry(&self.registry) && namespace {
            Ok(())
        } else {
            Err(ReferenceError::Format)
        }
    }

    /// The namespace of names without a slash at `registry`.
    fn namespace_of<'a>(&'a self, registry: &str) -> Option<&'a str> {
        if registry == DOCKER_IO {
            // Hub itself serves nothing at the top level, whatever the default registry is.
            return Some(LIBRARY);
        }
        if registry == self.registry {
            self.namespace.as_deref()
        } else {
            None
        }
    }
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults::new(DOCKER_IO)
    }
}

/// Why a text is no image reference. Display gives Docker's words, which scripts match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The grammar is not met.
    #[error("invalid reference format")]
    Format,
    /// Upper-case letters in the repository.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// A repository longer than 255 bytes.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// 64 hexadecimal digits: that would be taken for an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    LooksLikeId(String),
    /// A tag that is no tag.
    #[error("invalid tag format")]
    Tag,
    /// A digest that is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// A complete, normalised image name.
///
/// Two references are equal when they mean the same thing: `busybox` and `docker.io/library/busybox` are.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: Box<str>,
    repository: Box<str>,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
    /// How many bytes of `registry/repository` the familiar form leaves out; known where the defaults are: at parse.
    hidden: usize,
}

impl Reference {
    /// Parse and normalise what a user typed.
    ///
    /// # Errors
    /// In Docker's words, see [`ReferenceError`].
    pub fn parse(text: &str, defaults: &Defaults) -> Result<Reference, ReferenceError> {
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::LooksLikeId(text.to_owned()));
        }
        let (registry, rest) = split_registry(text, defaults);
        let first_colon = rest.find(':').unwrap_or(rest.len());
        if rest[..first_colon].to_lowercase() != rest[..first_colon] {
            return Err(ReferenceError::Uppercase(rest[..first_colon].to_owned()));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest.as_str(), None),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let well_formed = is_registry(&registry) && is_repository(repository) && tag.is_none_or(is_tag);
        if !well_formed || !digest.is_none_or(looks_like_digest) {
            return Err(ReferenceError::Format);
        }
        if repository.len() > MAX_REPOSITORY {
            return Err(ReferenceError::TooLong);
        }
        let digest = digest.map(Digest::parse).transpose()?;
        let hidden = hidden_prefix(&registry, repository, defaults);
        Ok(Reference {
            registry: registry.into(),
            repository: repository.into(),
            tag: tag.map(Into::into),
            digest,
            hidden,
        })
    }

    /// Host and, where given, port: `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path at the registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, when one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when one was given. It wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `docker.io/library/busybox`: without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `docker.io/library/busybox:1`: everything that is known.
    pub fn canonical(&self) -> String {
        self.to_string()
    }

    /// `busybox`: the shortest name that means the same, without tag and digest.
    pub fn familiar_name(&self) -> String {
        self.name().split_off(self.hidden)
    }

    /// `busybox:1`: the shortest text that means the same.
    pub fn familiar(&self) -> String {
        self.to_string().split_off(self.hidden)
    }

    /// Whether neither tag nor digest is given.
    pub fn is_name_only(&self) -> bool {
        self.tag.is_none() && self.digest.is_none()
    }

    /// The same with the tag `latest`, unless there is a tag or a digest.
    #[must_use]
    pub fn or_latest(mut self) -> Reference {
        if self.is_name_only() {
            self.tag = Some(LATEST.into());
        }
        self
    }

    /// The same name with `tag`, and without a digest.
    ///
    /// # Errors
    /// When `tag` is no tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        Ok(Reference {
            tag: Some(tag.into()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same name with `digest`, and without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same name with what Docker's `tag` query parameter holds: a tag or a digest.
    ///
    /// # Errors
    /// When it is neither.
    pub fn with_tag_or_digest(&self, text: &str) -> Result<Reference, ReferenceError> {
        match Digest::parse(text) {
            Ok(digest) => Ok(self.with_digest(digest)),
            Err(_) => self.with_tag(text),
        }
    }

    /// What is asked of the registry: the digest if there is one, else the tag, else `latest`.
    pub(crate) fn selector(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => LATEST,
        }
    }
}

impl fmt::Display for Reference {
    /// The canonical form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Registry and the rest, with both defaults filled in.
fn split_registry(text: &str, defaults: &Defaults) -> (String, String) {
    let (registry, rest) = match text.split_once('/') {
        Some((first, rest)) if first == INDEX_DOCKER_IO => (DOCKER_IO, rest),
        Some((first, rest)) if is_host_like(first) || first == defaults.registry => (first, rest),
        _ => (defaults.registry.as_str(), text),
    };
    match defaults.namespace_of(registry) {
        Some(namespace) if !rest.contains('/') => (registry.to_owned(), format!("{namespace}/{rest}")),
        _ => (registry.to_owned(), rest.to_owned()),
    }
}

/// Whether the first part of a name is taken for a host. Upper case is allowed in hosts only, so it decides too.
fn is_host_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first
}

/// How much of `registry/repository` can be left out so that parsing it again gives the same.
fn hidden_prefix(registry: &str, repository: &str, defaults: &Defaults) -> usize {
    if registry != defaults.registry {
        return 0;
    }
    let mut hidden = registry.len() + 1;
    let mut rest = repository;
    if let Some(namespace) = defaults.namespace_of(registry) {
        match rest.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('/')) {
            Some(short) if !short.contains('/') => {
                hidden += namespace.len() + 1;
                rest = short;
            }
            _ => {}
        }
    }
    // `docker.io/a.b/c` must not become `a.b/c`, nor a name of 64 hexadecimal digits an id.
    let reads_as_host = rest
        .split_once('/')
        .is_some_and(|(first, _)| is_host_like(first) || first == defaults.registry);
    let reads_as_id = rest.len() == 64 && rest.bytes().all(|b| b.is_ascii_hexdigit());
    if reads_as_host || reads_as_id { 0 } else { hidden }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
pub(crate) fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, port)) => {
                let valid = !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
                return valid && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    port.is_none_or(is_port) && host.split('.').all(is_host_label)
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Path components of lower-case letters and digits, joined within by `.`, `_`, `__` or any number of `-`.
fn is_repository(text: &str) -> bool {
    text.split('/').all(is_path_component)
}

fn is_path_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().copied().is_some_and(word) || !bytes.last().copied().is_some_and(word) {
        return false;
    }
    bytes
        .split(|&b| word(b))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

/// The shape that a reference allows behind `@`; whether it is a digest that we know is asked after that.
fn looks_like_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    algorithm.split(['+', '.', '-', '_']).all(word) && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;

//! Where a registry's images are looked for: its mirrors in order, then the registry itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use crate::auth::Credentials;
use crate::config::{Mirror, mirror_url};
use crate::error::{Error, Result};
use crate::redirect::host_and_port;
use crate::reference::{DOCKER_IO, Reference};
use crate::transport::Scheme;

/// The host behind the name `docker.io`.
const DOCKER_IO_HOST: &str = "registry-1.docker.io";
/// Where `docker.io` is searched.
const DOCKER_IO_INDEX: &str = "index.docker.io";
/// A mirror that failed is left alone for this long.
const MIRROR_PAUSE: Duration = Duration::from_secs(30);

/// One place to ask.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Without brackets.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// Given by the configuration; otherwise it is found out.
    pub(crate) scheme: Option<Scheme>,
    /// From the root to where repositories begin: `/v2`.
    path: String,
    /// A mirror, with credentials of its own.
    pub(crate) mirror: bool,
    credentials: Option<Credentials>,
}

impl Endpoint {
    fn registry(name: &str) -> Result<Endpoint> {
        Endpoint::at(if name == DOCKER_IO { DOCKER_IO_HOST } else { name }, "/v2")
    }

    /// Where a registry is searched; paths begin at the root.
    pub(crate) fn index(name: &str) -> Result<Endpoint> {
        Endpoint::at(if name == DOCKER_IO { DOCKER_IO_INDEX } else { name }, "")
    }

    fn at(authority: &str, path: &str) -> Result<Endpoint> {
        let wrong = |why: &str| Error::Config {
            setting: format!("registry host {authority:?}"),
            why: why.to_owned(),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|&port: &u16| port != 0);
                (
                    host,
                    Some(port.ok_or_else(|| wrong("its port is not between 1 and 65535"))?),
                )
            }
            _ => (authority, None),
        };
        // The reference grammar lets through what is no address, such as "[:::::]".
        let written = Url::parse(&format!("https://{authority}/")).map_err(|error| wrong(&error.to_string()))?;
        let _ = host;
        let (host, _) = host_and_port(&written);
        Ok(Endpoint {
            host,
            port,
            scheme: None,
            path: path.to_owned(),
            mirror: false,
            credentials: None,
        })
    }

    fn mirror(mirror: &Mirror) -> Result<Endpoint> {
        let url = mirror_url(mirror)?;
        let path = url.path().trim_end_matches('/');
        let stands_for_root = path == "/v2" || path.starts_with("/v2/");
        Ok(Endpoint {
            host: host_and_port(&url).0,
            port: url.port(),
            scheme: Some(if url.scheme() == "http" {
                Scheme::Http
            } else {
                Scheme::Https
            }),
            path: if stands_for_root {
                path.to_owned()
            } else {
                format!("{path}/v2")
            },
            mirror: true,
            credentials: mirror.credentials.clone(),
        })
    }

    /// The credentials to show here: a mirror's own, or the user's when they belong to this registry.
    pub(crate) fn credentials<'a>(
        &'a self,
        reference: &Reference,
        users: Option<&'a Credentials>,
    ) -> Option<&'a Credentials> {
        if self.mirror {
            return self.credentials.as_ref();
        }
        let users = users.filter(|credentials| !credentials.is_empty());
        users.filter(|credentials| {
            let theirs = credentials.belong_to(reference.registry());
            if !theirs {
                tracing::warn!(
                    registry = reference.registry(),
                    "credentials of another registry are not shown to it"
                );
            }
            theirs
        })
    }

    /// Host and port, for messages and as a key.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        }
    }

    /// The address of `tail` below a repository, or of the root when both are empty.
    pub(crate) fn url(&self, scheme: Scheme, repository: &str, tail: &str) -> Result<Url> {
        let path = match repository {
            "" => format!("{}/", self.path),
            repository => format!("{}/{repository}/{tail}", self.path),
        };
        let text = format!("{}://{}{path}", scheme.as_str(), self.authority());
        Url::parse(&text).map_err(|error| Error::Protocol {
            request: text,
            why: error.to_string(),
        })
    }
}

/// All places, and which mirrors are to be left alone for now.
pub(crate) struct Endpoints {
    mirrors: HashMap<String, Vec<Arc<Endpoint>>>,
    resting: Mutex<HashMap<String, Instant>>,
}

impl Endpoints {
    pub(crate) fn new(mirrors: &[Mirror]) -> Result<Endpoints> {
        let mut by_registry: HashMap<String, Vec<Arc<Endpoint>>> = HashMap::new();
        for mirror in mirrors {
            let of = by_registry.entry(mirror.registry.to_ascii_lowercase()).or_default();
            of.push(Arc::new(Endpoint::mirror(mirror)?));
        }
        Ok(Endpoints {
            mirrors: by_registry,
            resting: Mutex::default(),
        })
    }

    /// Where to look for `reference`, in order. The registry itself comes last and is always there.
    pub(crate) fn of(&self, reference: &Reference) -> Result<Vec<Arc<Endpoint>>> {
        let own = self.mirrors.get(&reference.registry().to_ascii_lowercase());
        let mirrors = own
            .or_else(|| self.mirrors.get("*"))
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut all: Vec<Arc<Endpoint>> = mirrors.iter().filter(|mirror| !self.rests(mirror)).cloned().collect();
        all.push(Arc::new(Endpoint::registry(reference.registry())?));
        Ok(all)
    }

    /// Leave a mirror alone for a while. A registry itself never rests: there is nothing else.
    pub(crate) fn rest(&self, endpoint: &Endpoint) {
        if endpoint.mirror {
            let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
            resting.insert(endpoint.authority(), Instant::now() + MIRROR_PAUSE);
        }
    }

    fn rests(&self, endpoint: &Endpoint) -> bool {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting
            .get(&endpoint.authority())
            .is_some_and(|until| Instant::now() < *until)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reference::Defaults;

    fn parse(text: &str) -> Reference {
        Reference::parse(text, &Defaults::default()).unwrap()
    }

    #[test]
    fn addresses_are_built_from_names() {
        for (name, url) in [
            ("busybox", "https://registry-1.docker.io/v2/library/busybox/manifests/1"),
            ("r.example:5000/a/b", "https://r.example:5000/v2/a/b/manifests/1"),
            ("[::1]:5000/a", "https://[::1]:5000/v2/a/manifests/1"),
            ("[2001:db8::1]/a", "https://[2001:db8::1]/v2/a/manifests/1"),
            ("localhost/a", "https://localhost/v2/a/manifests/1"),
        ] {
            let reference = parse(name);
            let endpoint = Endpoint::registry(reference.registry()).unwrap();
            assert_eq!(
                endpoint
                    .url(Scheme::Https, reference.repository(), "manifests/1")
                    .unwrap()
                    .as_str(),
                url
            );
        }
        for name in ["r.example:0/a", "r.example:65536/a", "[:::::]/a", "1.2.3.4.5:1/a"] {
            assert!(Endpoint::registry(parse(name).registry()).is_err(), "{name}");
        }
    }

    #[test]
    fn mirrors_come_first_and_rest_after_a_failure() {
        let mirror = |registry: &str, url: &str| Mirror {
            registry: registry.into(),
            url: url.into(),
            credentials: None,
        };
        let endpoints = Endpoints::new(&[
            mirror("docker.io", "https://a.example/cache/"),
            mirror("docker.io", "http://b.example:5000/v2/hub"),
            mirror("*", "https://all.example"),
        ]);
        let endpoints = endpoints.unwrap();
        let urls = |name: &str| -> Vec<String> {
            let all = endpoints.of(&parse(name)).unwrap();
            all.iter()
                .map(|e| e.url(e.scheme.unwrap_or(Scheme::Https), "x", "y").unwrap().to_string())
                .collect()
        };
        let hub = [
            "https://a.example/cache/v2/x/y",
            "http://b.example:5000/v2/hub/x/y",
            "https://registry-1.docker.io/v2/x/y",
        ];
        assert_eq!(urls("busybox"), hub);
        assert_eq!(
            urls("r.example/x"),
            ["https://all.example/v2/x/y", "https://r.example/v2/x/y"]
        );
        for endpoint in endpoints.of(&parse("busybox")).unwrap() {
            endpoints.rest(&endpoint);
        }
        assert_eq!(urls("busybox"), hub[2..]);
    }

    #[test]
    fn credentials_stay_with_their_registry() {
        let mine = Credentials {
            server: Some("https://r.example:5000/v2/".into()),
            ..Credentials::basic("u", "p")
        };
        let (right, wrong) = (parse("r.example:5000/a"), parse("evil.example/a"));
        let endpoint = |reference: &Reference| Endpoint::registry(reference.registry()).unwrap();
        assert!(endpoint(&right).credentials(&right, Some(&mine)).is_some());
        assert!(endpoint(&wrong).credentials(&wrong, Some(&mine)).is_none());
        let of_mirror = Credentials::basic("m", "q");
        let mirror = Mirror {
            registry: "*".into(),
            url: "https://m.example".into(),
            credentials: Some(of_mirror.clone()),
        };
        let mirror = Endpoint::mirror(&mirror).unwrap();
        assert_eq!(mirror.credentials(&right, Some(&mine)), Some(&of_mirror));
    }
}

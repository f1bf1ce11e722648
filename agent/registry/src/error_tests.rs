#![allow(clippy::unwrap_used)]
use super::*;
use crate::reference::{Defaults, Reference};

/// Each variant with Docker's words for it, its kind, and whether it may pass.
#[test]
fn every_error_has_its_words_and_its_kind() {
    let digest = Digest::of(b"x");
    let request = || "Get \"https://r.example/v2/x/manifests/1\"".to_owned();
    let dial = |why: ConnectError| Error::Unreachable {
        request: request(),
        why,
    };
    let reference = || "x:1".to_owned();
    let status = |status, reason| Error::Status {
        request: request(),
        status,
        reason,
        retry_after: None,
    };
    let refused = |status| Error::Refused {
        status,
        code: "unsupported".into(),
        message: "no".into(),
    };
    let wait = Duration::from_millis(1500);
    let table: Vec<(Error, String, Kind, bool)> = vec![
        (
            Reference::parse("X", &Defaults::default()).unwrap_err().into(),
            "invalid reference format: repository name (library/X) must be lowercase".into(),
            Kind::InvalidReference,
            false,
        ),
        (
            Error::Config {
                setting: "proxy \"x\"".into(),
                why: "it has no host".into(),
            },
            "invalid registry setting proxy \"x\": it has no host".into(),
            Kind::InvalidReference,
            false,
        ),
        (
            Error::ManifestUnknown {
                reference: reference(),
                message: "manifest unknown".into(),
            },
            "manifest for x:1 not found: manifest unknown: manifest unknown".into(),
            Kind::NotFound,
            false,
        ),
        (
            Error::RepositoryUnknown {
                name: "x".into(),
                message: "m".into(),
            },
            "repository x not found: name unknown: m".into(),
            Kind::NotFound,
            false,
        ),
        (
            Error::BlobUnknown {
                name: "x".into(),
                digest: digest.clone(),
            },
            format!("blob unknown: {digest} of x is not in the registry; the image is incomplete there"),
            Kind::NotFound,
            false,
        ),
        (
            Error::Denied {
                name: "x".into(),
                message: "m".into(),
            },
            "pull access denied for x, repository does not exist or may require 'docker login': denied: m".into(),
            Kind::Denied,
            false,
        ),
        (
            Error::Unauthorized { message: "m".into() },
            "unauthorized: m".into(),
            Kind::Unauthorized,
            false,
        ),
        (
            Error::NoCredentials { request: request() },
            format!("{}: no basic auth credentials", request()),
            Kind::Unauthorized,
            false,
        ),
        (
            Error::TooManyRequests {
                message: "m".into(),
                retry_after: None,
            },
            "toomanyrequests: m".into(),
            Kind::TooManyRequests,
            true,
        ),
        (refused(405), "unsupported: no".into(), Kind::Unsupported, false),
        (refused(401), "unsupported: no".into(), Kind::Unauthorized, false),
        (refused(503), "unsupported: no".into(), Kind::Unavailable, true),
        (
            status(500, "Internal Server Error"),
            format!(
                "{}: received unexpected HTTP status: 500 Internal Server Error",
                request()
            ),
            Kind::Unavailable,
            true,
        ),
        (
            status(404, "Not Found"),
            format!("{}: received unexpected HTTP status: 404 Not Found", request()),
            Kind::NotFound,
            false,
        ),
        (
            dial(ConnectError::Dial {
                address: "127.0.0.1:5000".parse().unwrap(),
                why: "connection refused".into(),
            }),
            format!("{}: dial tcp 127.0.0.1:5000: connect: connection refused", request()),
            Kind::Unavailable,
            false,
        ),
        (
            dial(ConnectError::NoSuchHost {
                host: "r.example".into(),
            }),
            format!("{}: dial tcp: lookup r.example: no such host", request()),
            Kind::Unavailable,
            false,
        ),
        (
            dial(ConnectError::Timeout {
                host: "r.example:443".into(),
            }),
            format!("{}: dial tcp r.example:443: i/o timeout", request()),
            Kind::Unavailable,
            false,
        ),
        (
            dial(ConnectError::NotTls),
            format!("{}: http: server gave HTTP response to HTTPS client", request()),
            Kind::Unavailable,
            false,
        ),
        (
            dial(ConnectError::Certificate(
                "certificate signed by unknown authority".into(),
            )),
            format!(
                "{}: tls: failed to verify certificate: x509: certificate signed by unknown authority",
                request()
            ),
            Kind::Unavailable,
            false,
        ),
        (
            dial(ConnectError::Proxy("407 Proxy Authentication Required".into())),
            format!("{}: proxyconnect tcp: 407 Proxy Authentication Required", request()),
            Kind::Unavailable,
            false,
        ),
        (
            Error::Interrupted {
                request: request(),
                why: "unexpected EOF".into(),
            },
            format!("{}: unexpected EOF", request()),
            Kind::Unavailable,
            true,
        ),
        (
            Error::Stalled {
                request: request(),
                waited: wait,
            },
            format!("{}: nothing received for 1.5 s", request()),
            Kind::Unavailable,
            true,
        ),
        (
            Error::Protocol {
                request: request(),
                why: "w".into(),
            },
            format!("{}: w", request()),
            Kind::Corrupt,
            false,
        ),
        (
            Error::Manifest {
                reference: reference(),
                why: ManifestError::Schema1,
            },
            "cannot use x:1: manifest schema 1 is not supported: push the image again with a current tool (OCI or \
             schema 2)"
                .into(),
            Kind::Unsupported,
            false,
        ),
        (
            Error::Manifest {
                reference: reference(),
                why: ManifestError::Json {
                    what: "manifest",
                    why: "w".into(),
                },
            },
            "cannot use x:1: the manifest is not valid JSON of its kind: w".into(),
            Kind::Corrupt,
            false,
        ),
        (
            Error::NoPlatform {
                wanted: Platform::new("linux", "arm", None),
                available: Vec::new(),
            },
            "no matching manifest for linux/arm/v7 in the manifest list entries (available: none)".into(),
            Kind::NotFound,
            false,
        ),
        (
            Error::BadDigest {
                what: "filesystem layer",
                expected: digest.clone(),
                actual: Digest::of(b"y"),
            },
            format!(
                "filesystem layer verification failed for digest {digest}: the registry sent {}",
                Digest::of(b"y")
            ),
            Kind::Corrupt,
            false,
        ),
        (
            Error::BadSize {
                what: "image config",
                digest: digest.clone(),
                expected: 1,
                actual: 2,
            },
            format!("image config {digest} has the wrong size: expected 1 bytes, the registry has 2"),
            Kind::Corrupt,
            false,
        ),
        (
            Error::TooLarge {
                what: "the manifest of x".into(),
                limit: 4096,
            },
            "the manifest of x is larger than the limit of 4096 bytes".into(),
            Kind::Corrupt,
            false,
        ),
    ];
    for (error, words, kind, passing) in table {
        assert_eq!(error.to_string(), words);
        assert_eq!(error.kind(), kind, "{words}");
        assert_eq!(error.is_passing(), passing, "{words}");
    }
}

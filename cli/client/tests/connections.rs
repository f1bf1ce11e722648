#![allow(clippy::unwrap_used)]
//! Connections: kept, replaced when they went stale, secured by TLS on both sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cli_client::{Client, Endpoint, Options, TlsOptions};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\nContent-Length: 2\r\n\r\n[]";

/// Answers `limit` requests on one connection, then hangs up.
async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, limit: usize) {
    let mut stream = BufReader::new(stream);
    for _ in 0..limit {
        let mut first = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if first.is_empty() {
                first.clone_from(&line);
            }
            if line == "\r\n" {
                break;
            }
        }
        let reply = if first.starts_with("HEAD") {
            ANSWER.trim_end_matches("[]")
        } else {
            ANSWER
        };
        stream.write_all(reply.as_bytes()).await.unwrap();
    }
}

/// A daemon that hangs up after so many answers per connection; the counter is its connections.
fn serve(limit: usize) -> (tempfile::TempDir, Client, Arc<AtomicUsize>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(answer(stream, limit));
        }
    });
    (folder, Client::unix(path).unwrap(), count)
}

#[tokio::test]
async fn one_connection_serves_many_calls() {
    let (_folder, client, connections) = serve(usize::MAX);
    for _ in 0..20 {
        client.networks(&Default::default()).await.unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_went_stale_is_replaced() {
    let (_folder, client, connections) = serve(2);
    for _ in 0..6 {
        client.networks(&Default::default()).await.unwrap();
        // The daemon hangs up meanwhile.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // One ping and six calls, two answers a connection.
    assert_eq!(connections.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn nobody_there_is_told_by_address() {
    let error = Client::unix("/does/not/exist.sock").unwrap().info().await.unwrap_err();
    assert!(error.is_connect());
    assert!(error.to_string().contains("unix:///does/not/exist.sock"), "{error}");
}

#[tokio::test]
async fn names_cannot_reach_other_routes() {
    let (_folder, client, connections) = serve(usize::MAX);
    for name in ["", "..", "../info", "a/../../b", "a//b"] {
        assert!(client.inspect_container(name).await.is_err(), "{name}");
        assert!(client.inspect_image(name).await.is_err(), "{name}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

struct Party {
    cert: rcgen::Certificate,
    key: rcgen::KeyPair,
}

fn issue(authority: &rcgen::Issuer<'_, rcgen::KeyPair>, name: &str) -> Party {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, authority)
        .unwrap();
    Party { cert, key }
}

#[tokio::test]
async fn tls_checks_both_sides() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).unwrap();
    let authority = rcgen::Issuer::new(params, key);
    let (server, user) = (issue(&authority, "localhost"), issue(&authority, "user"));

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![server.cert.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server.key.serialize_der())),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    answer(stream, usize::MAX).await;
                }
            });
        }
    });

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let good = TlsOptions {
        ca: file("ca.pem", ca.pem()),
        cert: file("cert.pem", user.cert.pem()),
        key: file("key.pem", user.key.serialize_pem()),
        verify: true,
    };
    let call = async |tls: TlsOptions, host: &str| {
        let endpoint = Endpoint::parse(&format!("tcp://{host}:{port}"), true).unwrap();
        let options = Options {
            tls: Some(tls),
            ..Options::default()
        };
        Client::new(endpoint, options)?
            .networks(&Default::default())
            .await
            .map(drop)
    };
    call(good.clone(), "localhost").await.unwrap();
    // Encrypted, but whoever answers is believed.
    call(
        TlsOptions {
            ca: None,
            verify: false,
            ..good.clone()
        },
        "localhost",
    )
    .await
    .unwrap();
    // Another name than the certificate has.
    call(good.clone(), "127.0.0.1").await.unwrap_err();
    // No certificate of our own.
    call(
        TlsOptions {
            cert: None,
            key: None,
            ..good.clone()
        },
        "localhost",
    )
    .await
    .unwrap_err();
    // An authority that did not sign the daemon's.
    let other = issue(&authority, "x");
    let stranger = file("other.pem", other.cert.pem());
    call(
        TlsOptions {
            ca: stranger,
            ..good.clone()
        },
        "localhost",
    )
    .await
    .unwrap_err();
    // Half of a pair, and a file that is no certificate.
    call(
        TlsOptions {
            key: None,
            ..good.clone()
        },
        "localhost",
    )
    .await
    .unwrap_err();
    call(
        TlsOptions {
            ca: file("empty.pem", String::new()),
            ..good
        },
        "localhost",
    )
    .await
    .unwrap_err();
}

#[tokio::test]
async fn the_reason_of_a_refused_upload_is_heard() {
    use tokio::io::AsyncReadExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let count = stream.read(&mut head).await.unwrap();
            if head[..count].starts_with(b"HEAD") {
                stream
                    .write_all(ANSWER.trim_end_matches("[]").as_bytes())
                    .await
                    .unwrap();
                continue;
            }
            // Answers before the upload is read, and hangs up with most of it unread.
            let body = r#"{"message":"not an archive"}"#;
            let answer = format!(
                "HTTP/1.1 400 Bad\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let client = Client::unix(path).unwrap();
    for _ in 0..20 {
        let piece = bytes::Bytes::from(vec![7; 256 << 10]);
        let upload = futures_util::stream::iter((0..200).map(move |_| Ok(piece.clone())));
        let error = client.load_images(upload, true, None).await.err().unwrap();
        assert_eq!(error.message(), "not an archive");
    }
}

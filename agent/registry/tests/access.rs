//! Who is shown what: challenges, tokens, credentials, redirects, TLS, proxies.

#![allow(clippy::unwrap_used)]

mod fake;

use std::sync::Arc;

use agent_registry::{
    Client, ClientConfig, ConnectError, Credentials, Defaults, Error, Kind, Platform, Proxies, Reference,
};
use base64::Engine as _;
use fake::{Fake, Image, Reply, Request, client, proxy_to, quick};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio_rustls::TlsAcceptor;

fn amd64() -> Platform {
    Platform::parse("linux/amd64").unwrap()
}

fn basic(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
    )
}

async fn pull(client: &Client, reference: &Reference, credentials: Option<&Credentials>) -> Result<(), Error> {
    let found = client.resolve(reference, &amd64(), credentials).await?;
    for layer in &found.layers {
        let mut stream = client.blob(reference, layer, credentials);
        while let Some(bytes) = stream.next().await {
            bytes?;
        }
    }
    Ok(())
}

/// A registry with a token server of its own at `/token`, for those whom `admit` lets in.
async fn with_tokens(image: Image, admit: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Fake {
    Fake::start(move |request| {
        if request.path.starts_with("/token") {
            return admit(request)
                .unwrap_or_else(|| Reply::json(401, &json!({"details": "incorrect username or password"})));
        }
        if request.header("authorization") == Some("Bearer good") {
            return image.serve(request);
        }
        let host = request.header("host").unwrap();
        let challenge =
            format!("Bearer realm=\"http://{host}/token\",service=\"the service\",scope=\"repository:a/b:pull\"");
        Reply::error(401, "UNAUTHORIZED", "authentication required").header("WWW-Authenticate", challenge)
    })
    .await
}

#[tokio::test]
async fn an_anonymous_token_is_fetched_once_and_used_for_all() {
    let fake = with_tokens(Image::new(&[1000, 2000, 3000]), |_| {
        Some(Reply::json(200, &json!({"token": "good", "expires_in": 300})))
    })
    .await;
    let client = client();
    pull(&client, &fake.reference("a/b:multi"), None).await.unwrap();
    pull(&client, &fake.reference("a/b:1"), None).await.unwrap();
    let tokens: Vec<Request> = fake
        .requests()
        .into_iter()
        .filter(|request| request.path.starts_with("/token"))
        .collect();
    assert_eq!(tokens.len(), 1);
    assert_eq!(
        tokens[0].path,
        "/token?scope=repository%3Aa%2Fb%3Apull&service=the+service"
    );
    assert_eq!(tokens[0].header("authorization"), None);
    // Another user does not get what this one was given.
    let other = Credentials::basic("user", "secret");
    pull(&client, &fake.reference("a/b:1"), Some(&other)).await.unwrap();
    assert_eq!(
        fake.requests()
            .iter()
            .filter(|request| request.path.starts_with("/token"))
            .count(),
        2
    );
}

#[tokio::test]
async fn user_and_password_get_a_token_and_never_go_to_the_registry_itself() {
    let fake = with_tokens(Image::new(&[1000]), |request| {
        (request.header("authorization") == Some(&basic("user", "secret")))
            .then(|| Reply::json(200, &json!({"access_token": "good"})))
    })
    .await;
    pull(
        &client(),
        &fake.reference("a/b:1"),
        Some(&Credentials::basic("user", "secret")),
    )
    .await
    .unwrap();
    for request in fake.requests() {
        let shown = request.header("authorization").unwrap_or_default();
        assert_eq!(
            shown.starts_with("Basic"),
            request.path.starts_with("/token?account=user&"),
            "{}",
            request.path
        );
    }
    let error = pull(
        &client(),
        &fake.reference("a/b:1"),
        Some(&Credentials::basic("user", "wrong")),
    )
    .await;
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "unauthorized: incorrect username or password");
    assert_eq!(error.kind(), Kind::Unauthorized);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_the_oauth_way() {
    let fake = with_tokens(Image::new(&[1000]), |request| {
        let right = request.method == "POST"
            && request.header("content-type") == Some("application/x-www-form-urlencoded")
            && request.body.contains("grant_type=refresh_token")
            && request.body.contains("refresh_token=id%2Btoken")
            && request.body.contains("scope=repository%3Aa%2Fb%3Apull");
        right.then(|| Reply::json(200, &json!({"access_token": "good", "expires_in": 60})))
    })
    .await;
    let identity = Credentials {
        identity_token: Some("id+token".into()),
        ..Credentials::default()
    };
    pull(&client(), &fake.reference("a/b:1"), Some(&identity))
        .await
        .unwrap();
    let ready = Credentials {
        registry_token: Some("good".into()),
        ..Credentials::default()
    };
    let before = fake.requests().len();
    pull(&client(), &fake.reference("a/b:1"), Some(&ready)).await.unwrap();
    assert!(
        fake.requests()[before..]
            .iter()
            .all(|request| !request.path.starts_with("/token"))
    );
    let wrong = Credentials {
        registry_token: Some("bad".into()),
        ..Credentials::default()
    };
    let error = pull(&client(), &fake.reference("a/b:1"), Some(&wrong))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "unauthorized: authentication required");
}

#[tokio::test]
async fn a_token_that_went_stale_is_replaced() {
    let image = Image::new(&[1000]);
    let fake = Fake::start(move |request| {
        let tokens = request.path.starts_with("/token");
        if tokens {
            return Reply::json(200, &json!({"token": format!("t{}", request.nth)}));
        }
        // The first token is good for the manifest only.
        let is_blob = request.path.contains("/blobs/");
        match request.header("authorization") {
            Some("Bearer t1") => image.serve(request),
            Some("Bearer t0") if !is_blob => image.serve(request),
            _ => Reply::new(401, "").header(
                "WWW-Authenticate",
                format!("Bearer realm=\"http://{}/token\"", request.header("host").unwrap()),
            ),
        }
    })
    .await;
    pull(&client(), &fake.reference("a/b:1"), None).await.unwrap();
}

#[tokio::test]
async fn broken_token_servers_are_named_and_not_trusted() {
    for (realm, token, words) in [
        (
            "SELF",
            json!({}),
            "authorization server did not include a token in the response",
        ),
        ("SELF", json!("garbage"), "the token server's answer is no JSON"),
        (
            "SELF",
            json!({"token": "a\r\nX-Evil: 1"}),
            "characters that no token may have",
        ),
        ("/token", json!({}), "its token server's address is invalid"),
        (
            "http://evil.example/token",
            json!({}),
            "refused to follow it to plain HTTP",
        ),
        ("file:///etc/passwd", json!({}), "unsupported kind"),
    ] {
        let fake = Fake::start(move |request| {
            if request.path.starts_with("/token") {
                return Reply::json(200, &token);
            }
            let own = format!("http://{}/token", request.header("host").unwrap());
            let realm = if realm == "SELF" { &own } else { realm };
            Reply::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
        })
        .await;
        let error = pull(&client(), &fake.reference("a/b:1"), Some(&Credentials::basic("u", "p")))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{realm}: {error}");
    }
    for (challenge, words) in [
        ("Bearer service=\"x\"", "names no realm"),
        (
            "Negotiate abc=, Digest realm=\"x\"",
            "unsupported authentication (negotiate, digest)",
        ),
        ("", "unauthorized: authentication required"),
    ] {
        let fake = Fake::start(move |_| Reply::new(401, "").header("WWW-Authenticate", challenge)).await;
        let error = pull(&client(), &fake.reference("a/b:1"), None).await.unwrap_err();
        assert!(error.to_string().contains(words), "{challenge}: {error}");
    }
}

#[tokio::test]
async fn basic_credentials_are_asked_for_and_checked() {
    let image = Image::new(&[1000]);
    let fake = Fake::start(move |request| match request.header("authorization") {
        Some(shown) if shown == basic("user", "s:cret") => image.serve(request),
        _ => Reply::error(401, "UNAUTHORIZED", "authentication required")
            .header("WWW-Authenticate", "Basic realm=\"Registry, with a comma\""),
    })
    .await;
    let (client, reference) = (client(), fake.reference("a/b:1"));
    let good = Credentials::basic("user", "s:cret");
    pull(&client, &reference, Some(&good)).await.unwrap();
    assert_eq!(
        fake.requests()
            .iter()
            .filter(|request| request.header("authorization").is_none())
            .count(),
        1
    );
    client.login(&reference, &good).await.unwrap();
    let error = pull(&client, &reference, None).await.unwrap_err();
    let get = format!("Get \"http://{}/v2/a/b/manifests/1\"", fake.address);
    assert_eq!(error.to_string(), format!("{get}: no basic auth credentials"));
    let before = fake.requests().len();
    let wrong = Credentials::basic("user", "wrong");
    for error in [
        pull(&client, &reference, Some(&wrong)).await,
        client.login(&reference, &wrong).await,
    ] {
        let error = error.unwrap_err();
        assert_eq!(error.to_string(), "unauthorized: authentication required");
        assert_eq!(error.kind(), Kind::Unauthorized);
    }
    assert!(fake.requests().len() - before <= 4, "a wrong password is shown once");
    // Credentials that name another registry are not shown.
    let elsewhere = Credentials {
        server: Some("https://other.example/v1/".into()),
        ..good
    };
    let before = fake.requests().len();
    assert!(matches!(
        pull(&client, &reference, Some(&elsewhere)).await,
        Err(Error::NoCredentials { .. })
    ));
    assert!(
        fake.requests()[before..]
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

#[tokio::test]
async fn a_private_or_absent_repository_is_told_as_docker_does() {
    let fake = Fake::start(|request| {
        if request.path.starts_with("/token") {
            return Reply::json(200, &json!({"token": "powerless"}));
        }
        let realm = format!("http://{}/token", request.header("host").unwrap());
        let error = if request.header("authorization").is_some() {
            ",error=\"insufficient_scope\""
        } else {
            ""
        };
        Reply::error(401, "UNAUTHORIZED", "authentication required")
            .header("WWW-Authenticate", format!("Bearer realm=\"{realm}\"{error}"))
    })
    .await;
    let error = pull(&client(), &fake.reference("a/b:1"), None).await.unwrap_err();
    let words = format!(
        "pull access denied for {}/a/b, repository does not exist or may require 'docker login': denied: requested \
         access to the resource is denied",
        fake.address
    );
    assert_eq!(error.to_string(), words);
    assert_eq!(error.kind(), Kind::Denied);
}

#[tokio::test]
async fn a_redirect_to_another_host_takes_no_credentials_along() {
    let image = Image::new(&[50_000]);
    let served = image.clone();
    let network = Fake::start(move |request| {
        let mut inner = request.clone();
        inner.path = request
            .path
            .replace("/store/", "/v2/a/b/blobs/")
            .split('?')
            .next()
            .unwrap()
            .to_owned();
        served.serve(&inner)
    })
    .await;
    let store = network.url();
    let fake = Fake::start(move |request| {
        if request.header("authorization") != Some(&basic("user", "secret")) {
            return Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        match request.path.strip_prefix("/v2/a/b/blobs/") {
            Some(digest) => Reply::new(307, "").header("Location", format!("{store}/store/{digest}?signature=1")),
            None if request.path.ends_with("/moved") => Reply::new(301, "").header("Location", "/v2/a/b/manifests/1"),
            None => image.serve(request),
        }
    })
    .await;
    pull(
        &client(),
        &fake.reference("a/b:moved"),
        Some(&Credentials::basic("user", "secret")),
    )
    .await
    .unwrap();
    let asked = network.requests();
    assert_eq!(asked.len(), 2, "config and layer");
    assert!(asked.iter().all(|request| request.header("authorization").is_none()));
    assert!(asked.iter().all(|request| request.path.ends_with("?signature=1")));
}

#[tokio::test]
async fn a_content_network_that_asks_for_credentials_gets_none() {
    let image = Image::new(&[50_000]);
    let network = Fake::start(|request| {
        let realm = format!("http://{}/token", request.header("host").unwrap());
        // Both ways of asking; the second one would have the password sent to a realm of its choice.
        let asks = format!("Basic realm=\"give me your password\", Bearer realm=\"{realm}\"");
        Reply::new(401, "").header("WWW-Authenticate", asks)
    })
    .await;
    let store = network.url();
    let fake = Fake::start(move |request| match request.path.contains("/blobs/") {
        true => Reply::new(302, "").header("Location", format!("{store}/x")),
        false => image.serve(request),
    })
    .await;
    let error = pull(
        &client(),
        &fake.reference("a/b:1"),
        Some(&Credentials::basic("user", "secret")),
    )
    .await;
    assert!(matches!(error, Err(Error::Unauthorized { .. })), "{error:?}");
    assert!(
        network
            .requests()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
}

struct Authority {
    acceptor: TlsAcceptor,
    pem: String,
}

/// A certificate for these names, signed by itself.
fn authority(names: &[&str], protocols: &[&[u8]]) -> Authority {
    let made =
        rcgen::generate_simple_self_signed(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Authority {
        acceptor: TlsAcceptor::from(Arc::new(config)),
        pem: made.cert.pem(),
    }
}

fn through(proxy: std::net::SocketAddr) -> Proxies {
    Proxies {
        https: Some(format!("http://u:p@{proxy}")),
        http: Some(format!("http://{proxy}")),
        no_proxy: String::new(),
    }
}

#[tokio::test]
async fn tls_on_loopback_needs_no_certificate_that_can_be_verified() {
    let image = Image::new(&[1000]);
    let fake = Fake::start_tls(authority(&["whatever"], &[]).acceptor, move |request| {
        image.serve(request)
    })
    .await;
    pull(&client(), &fake.reference("a/b:1"), None).await.unwrap();
    let localhost = format!("localhost:{}/a/b:1", fake.address.port());
    pull(
        &client(),
        &Reference::parse(&localhost, &Defaults::default()).unwrap(),
        None,
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn elsewhere_the_certificate_must_be_right_and_a_proxy_leads_there() {
    let image = Image::new(&[1000]);
    let tls = authority(&["registry.example"], &[]);
    let fake = Fake::start_tls(tls.acceptor, move |request| image.serve(request)).await;
    let (proxy, heads, _task) = proxy_to(fake.address).await;
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("registry.example:8443");
    std::fs::create_dir(&own).unwrap();
    let config = ClientConfig {
        proxies: through(proxy),
        certificates: vec![folder.path().to_owned()],
        ..quick()
    };
    let reference = |text: &str| Reference::parse(text, &Defaults::default()).unwrap();
    let right = reference("registry.example:8443/a/b:1");

    let error = pull(&Client::new(config.clone()).unwrap(), &right, None)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Get \"https://registry.example:8443/v2/a/b/manifests/1\": tls: failed to verify certificate: x509: \
         certificate signed by unknown authority"
    );
    std::fs::write(own.join("ca.crt"), &tls.pem).unwrap();
    pull(&Client::new(config.clone()).unwrap(), &right, None).await.unwrap();
    let head = heads.lock().unwrap().last().unwrap().clone();
    assert!(head.starts_with("CONNECT registry.example:8443 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic dTpw\r\n"), "{head}");

    // The authority is trusted for that registry only, and only for the names in its certificates.
    let error = pull(
        &Client::new(config.clone()).unwrap(),
        &reference("other.example/a/b:1"),
        None,
    )
    .await
    .unwrap_err();
    assert!(
        matches!(
            &error,
            Error::Unreachable {
                why: ConnectError::Certificate(_),
                ..
            }
        ),
        "{error}"
    );
    std::fs::rename(&own, folder.path().join("other.example:8443")).unwrap();
    let error = pull(
        &Client::new(config.clone()).unwrap(),
        &reference("other.example:8443/a/b:1"),
        None,
    )
    .await;
    assert!(matches!(
        error.unwrap_err(),
        Error::Unreachable {
            why: ConnectError::Certificate(_),
            ..
        }
    ));

    // Unless it is listed as insecure.
    let insecure = ClientConfig {
        insecure: vec!["other.example:8443".into()],
        certificates: Vec::new(),
        ..config
    };
    pull(
        &Client::new(insecure).unwrap(),
        &reference("other.example:8443/a/b:1"),
        None,
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_registry_that_wants_a_certificate_gets_the_one_from_its_folder() {
    let server = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let ours = rcgen::generate_simple_self_signed(vec!["client.example".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ours.cert.der().clone()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server.cert.der().clone()], key)
        .unwrap();
    let image = Image::new(&[1000]);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let fake = Fake::start_tls(acceptor, move |request| image.serve(request)).await;
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join(fake.address.to_string());
    std::fs::create_dir(&own).unwrap();
    let with = || {
        let config = ClientConfig {
            certificates: vec![folder.path().to_owned()],
            ..quick()
        };
        Client::new(config).unwrap()
    };
    assert!(pull(&with(), &fake.reference("a/b:1"), None).await.is_err());
    std::fs::write(own.join("me.cert"), ours.cert.pem()).unwrap();
    let error = pull(&with(), &fake.reference("a/b:1"), None).await.unwrap_err();
    assert!(
        error.to_string().contains("me.key"),
        "a certificate without its key is told: {error}"
    );
    std::fs::write(own.join("me.key"), ours.signing_key.serialize_pem()).unwrap();
    pull(&with(), &fake.reference("a/b:1"), None).await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_in_its_words() {
    for (answer, words) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "407 Proxy Authentication Required",
        ),
        ("HTTP/1.0 502 Bad Gateway\r\nX: y\r\n\r\n", "502 Bad Gateway"),
        ("garbage\r\n\r\n", "the proxy gave no proper answer"),
        ("", "the proxy gave no proper answer"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let client = Client::new(ClientConfig {
            proxies: through(address),
            ..quick()
        })
        .unwrap();
        let reference = Reference::parse("registry.example/a/b:1", &Defaults::default()).unwrap();
        let error = pull(&client, &reference, None).await.unwrap_err().to_string();
        assert!(
            error.contains(&format!("proxyconnect tcp: {address}: {words}")),
            "{error}"
        );
        server.abort();
    }
}

#[tokio::test]
async fn plain_http_elsewhere_only_when_it_is_listed() {
    let image = Image::new(&[1000]);
    let fake = Fake::start(move |request| {
        // A request through a proxy names the whole address; a tunnel's does not.
        let path = request
            .path
            .strip_prefix("http://plain.example:5000")
            .unwrap_or(&request.path)
            .to_owned();
        image.serve(&Request {
            path,
            ..request.clone()
        })
    })
    .await;
    let (tunnel, _, _task) = proxy_to(fake.address).await;
    let proxies = Proxies {
        http: Some(format!("http://{}", fake.address)),
        ..through(tunnel)
    };
    let reference = Reference::parse("plain.example:5000/a/b:1", &Defaults::default()).unwrap();
    let strict = Client::new(ClientConfig {
        proxies: proxies.clone(),
        ..quick()
    })
    .unwrap();
    let error = pull(&strict, &reference, None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Get \"https://plain.example:5000/v2/a/b/manifests/1\": http: server gave HTTP response to HTTPS client"
    );
    assert!(fake.requests().is_empty());
    let listed = ClientConfig {
        proxies,
        insecure: vec!["plain.example:5000".into()],
        ..quick()
    };
    pull(&Client::new(listed).unwrap(), &reference, None).await.unwrap();
}

#[tokio::test]
async fn http2_is_spoken_where_it_is_offered() {
    use http_body_util::Full;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let image = Image::new(&[3_000_000, 1000]);
    let tls = authority(&["localhost"], &[b"h2"]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (image, acceptor) = (image.clone(), tls.acceptor.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let asked = Request {
                        method: request.method().to_string(),
                        path: request.uri().path().to_owned(),
                        headers: Default::default(),
                        body: String::new(),
                        nth: 0,
                    };
                    let reply = image.serve(&asked);
                    let version = request.version();
                    async move {
                        assert_eq!(version, hyper::Version::HTTP_2);
                        let Some(fake::Step::Send(body)) = reply.steps.into_iter().next() else {
                            panic!()
                        };
                        let mut response = hyper::Response::builder().status(reply.status);
                        for (name, value) in reply.headers {
                            response = response.header(name, value);
                        }
                        Ok::<_, std::convert::Infallible>(response.body(Full::new(bytes::Bytes::from(body))).unwrap())
                    }
                });
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    let reference = Reference::parse(&format!("localhost:{}/a/b:1", address.port()), &Defaults::default()).unwrap();
    pull(&client(), &reference, None).await.unwrap();
    server.abort();
}

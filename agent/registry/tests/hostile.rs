//! Registries that break, stall, lie or try to lead us somewhere.

#![allow(clippy::unwrap_used)]

mod fake;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use agent_registry::{BlobEvent, Client, ClientConfig, Digest, Error, Kind, Mirror, Platform, Resolved};
use fake::{Fake, Image, OCI_MANIFEST, Reply, Request, Step, client, quick, range_start};

fn amd64() -> Platform {
    Platform::parse("linux/amd64").unwrap()
}

/// The image's own answer, except for the first layer's blob: that is up to `trick`, which gets the right content.
async fn tricky(image: &Image, trick: impl Fn(&Request, &[u8]) -> Reply + Send + Sync + 'static) -> Fake {
    let (image, path) = (image.clone(), image.blob_path(0));
    Fake::start(move |request| match request.path == path {
        true => trick(request, &image.layers[0]),
        false => image.serve(request),
    })
    .await
}

async fn resolve(client: &Client, fake: &Fake) -> Resolved {
    client.resolve(&fake.reference("a/b:1"), &amd64(), None).await.unwrap()
}

/// A client that bears so many milliseconds of silence, and so many failures. Only for silence that is meant: on a busy
/// machine a test's own server may need long for an answer.
fn impatient(silence: u64, attempts: u32) -> Client {
    let stall_timeout = Duration::from_millis(silence);
    Client::new(ClientConfig {
        stall_timeout,
        attempts,
        ..quick()
    })
    .unwrap()
}

/// What arrives of the first layer, and how it ends.
async fn download(client: &Client, fake: &Fake) -> (Vec<u8>, Result<(), Error>) {
    let found = resolve(client, fake).await;
    let mut stream = client.blob(&fake.reference("a/b:1"), &found.layers[0], None);
    let mut all = Vec::new();
    while let Some(item) = stream.next().await {
        match item {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(error) => {
                assert!(stream.next().await.is_none(), "an error is the end");
                return (all, Err(error));
            }
        }
    }
    (all, Ok(()))
}

fn blob_requests(fake: &Fake, image: &Image) -> Vec<Option<usize>> {
    let path = image.blob_path(0);
    fake.requests()
        .iter()
        .filter(|request| request.path == path)
        .map(range_start)
        .collect()
}

/// A right head and the first part of the right body, then something else.
fn cut(request: &Request, content: &[u8], length: usize, then: Step) -> Reply {
    let reply = fake::ranged(request, content);
    let start = range_start(request).unwrap_or(0);
    let end = (start + length).min(content.len());
    Reply {
        steps: vec![Step::Send(content[start..end].to_vec()), then],
        ..reply
    }
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let image = Image::new(&[100_000]);
    let fake = tricky(&image, |request, content| cut(request, content, 30_000, Step::Hangup)).await;
    let found = resolve(&client(), &fake).await;
    let events: std::sync::Arc<Mutex<Vec<BlobEvent>>> = Default::default();
    let log = events.clone();
    let stream = client().blob(&fake.reference("a/b:1"), &found.layers[0], None);
    let mut stream = stream.observed(move |event| log.lock().unwrap().push(event));
    let mut all = Vec::new();
    while let Some(bytes) = stream.next().await {
        all.extend_from_slice(&bytes.unwrap());
    }
    assert!(all == image.layers[0]);
    assert_eq!(
        blob_requests(&fake, &image),
        [None, Some(30_000), Some(60_000), Some(90_000)]
    );
    let events = events.lock().unwrap();
    assert_eq!(events.last(), Some(&BlobEvent::Verified));
    let retries: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            BlobEvent::Retrying { why, .. } => Some(why.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(retries.len(), 3);
    assert!(retries[0].ends_with(": unexpected EOF"), "{}", retries[0]);
}

#[tokio::test]
async fn a_server_that_knows_no_range_is_read_from_the_start_again() {
    let image = Image::new(&[100_000]);
    let fake = tricky(&image, |request, content| match request.nth {
        0 => cut(request, content, 70_000, Step::Hangup),
        _ => Reply::new(200, content),
    })
    .await;
    let (all, end) = download(&client(), &fake).await;
    end.unwrap();
    assert!(all == image.layers[0]);
}

#[tokio::test]
async fn a_stalled_download_is_taken_up_again() {
    let image = Image::new(&[100_000]);
    let fake = tricky(&image, |request, content| match request.nth {
        0 => cut(request, content, 50_000, Step::Stall),
        _ => fake::ranged(request, content),
    })
    .await;
    let (all, end) = download(&impatient(300, 4), &fake).await;
    end.unwrap();
    assert!(all == image.layers[0]);
    assert_eq!(blob_requests(&fake, &image), [None, Some(50_000)]);
}

#[tokio::test]
async fn patience_has_an_end() {
    let image = Image::new(&[100_000]);
    // One byte each time, and then nothing: progress, but not enough to be forgiven.
    let fake = tricky(&image, |request, content| cut(request, content, 1, Step::Hangup)).await;
    let (all, end) = download(&client(), &fake).await;
    let error = end.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    assert_eq!(all.len(), 4);
    let fake = tricky(&image, |request, content| cut(request, content, 0, Step::Stall)).await;
    let quick = impatient(100, 3);
    let start = Instant::now();
    let (_, end) = download(&quick, &fake).await;
    let error = end.unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(blob_requests(&fake, &image).len(), 3);
}

#[tokio::test]
async fn a_dripping_download_is_cut_off() {
    let image = Image::new(&[100_000]);
    let fake = tricky(&image, |request, content| {
        let start = range_start(request).unwrap_or(0);
        let drops = content[start..start + 1000].iter();
        let steps = drops.flat_map(|byte| [Step::Send(vec![*byte]), Step::Pause(Duration::from_millis(20))]);
        Reply {
            steps: steps.collect(),
            ..fake::ranged(request, content)
        }
    })
    .await;
    let quick = impatient(100, 3);
    let start = Instant::now();
    let error = download(&quick, &fake).await.1.unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_registry_that_restarts_during_a_download_is_waited_for() {
    let image = Image::new(&[300_000]);
    let first = tricky(&image, |request, content| cut(request, content, 100_000, Step::Hangup)).await;
    let (address, reference) = (first.address, first.reference("a/b:1"));
    let patient = Client::new(ClientConfig {
        backoff: Duration::from_millis(80),
        ..quick()
    })
    .unwrap();
    let found = resolve(&patient, &first).await;
    let mut stream = patient.blob(&reference, &found.layers[0], None);
    let mut all = Vec::new();
    while all.len() < 100_000 {
        all.extend_from_slice(&stream.next().await.unwrap().unwrap());
    }
    drop(first);
    let served = image.clone();
    let again = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Fake::start_at(address, move |request| served.serve(request)).await
    });
    while let Some(bytes) = stream.next().await {
        all.extend_from_slice(&bytes.unwrap());
    }
    assert!(all == image.layers[0]);
    assert_eq!(blob_requests(&again.await.unwrap(), &image), [Some(100_000)]);
}

#[tokio::test]
async fn wrong_content_is_never_handed_out_as_complete() {
    let image = Image::new(&[100_000]);
    let fake = tricky(&image, |_, content| {
        let mut wrong = content.to_vec();
        wrong[99_999] ^= 1;
        Reply::new(200, wrong)
    })
    .await;
    let (all, end) = download(&client(), &fake).await;
    assert!(all.len() < 100_000, "the last bytes come only when all is right");
    let error = end.unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    let words = format!(
        "filesystem layer verification failed for digest {}",
        Digest::of(&image.layers[0])
    );
    assert!(error.to_string().starts_with(&words), "{error}");
    // Unless the reader checks it anyway.
    let found = resolve(&client(), &fake).await;
    let mut stream = client()
        .blob(&fake.reference("a/b:1"), &found.layers[0], None)
        .without_digest_check();
    let mut length = 0;
    while let Some(bytes) = stream.next().await {
        length += bytes.unwrap().len();
    }
    assert_eq!(length, 100_000);
}

#[tokio::test]
async fn lies_about_the_size_are_found() {
    let image = Image::new(&[100_000]);
    let chunked = |parts: Vec<Vec<u8>>| {
        let mut steps = Vec::new();
        for part in parts {
            steps.push(Step::Send(format!("{:x}\r\n", part.len()).into_bytes()));
            steps.push(Step::Send(part));
            steps.push(Step::Send(b"\r\n".to_vec()));
        }
        steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
        let mut reply = Reply::new(200, "").steps(steps);
        reply.headers = vec![("Transfer-Encoding".into(), "chunked".into())];
        reply
    };
    type Trick = Box<dyn Fn(&Request, &[u8]) -> Reply + Send + Sync>;
    let tricks: Vec<(&str, Trick)> = vec![
        (
            "announces less",
            Box::new(|_, content| Reply::new(200, &content[..99_999])),
        ),
        (
            "announces more",
            Box::new(|_, content| Reply::new(200, [content, b"x"].concat())),
        ),
        (
            "sends more",
            Box::new(move |_, content| chunked(vec![content.to_vec(), b"more".to_vec()])),
        ),
        (
            "sends more at once",
            Box::new(move |_, content| chunked(vec![[content, b"more"].concat()])),
        ),
        (
            "sends without end",
            Box::new(|_, _| {
                let mut reply = Reply::new(200, "").steps(vec![Step::Endless]);
                reply.headers = vec![("Transfer-Encoding".into(), "chunked".into())];
                reply
            }),
        ),
        (
            "another total",
            Box::new(|request, content| match request.nth {
                0 => cut(request, content, 10, Step::Hangup),
                _ => fake::ranged(request, content).header("Content-Range", "bytes 10-99999/100001"),
            }),
        ),
    ];
    for (what, trick) in tricks {
        let fake = tricky(&image, trick).await;
        let (_, end) = download(&client(), &fake).await;
        let error = end.err().unwrap_or_else(|| panic!("{what}"));
        assert!(
            matches!(error, Error::BadSize { expected: 100_000, .. }),
            "{what}: {error}"
        );
    }
    // A chunked answer of the right size is a right answer; a short one is taken for broken.
    let fake = tricky(&image, move |_, content| chunked(vec![content.to_vec()])).await;
    assert!(download(&client(), &fake).await.1.is_ok());
    let fake = tricky(&image, move |_, content| chunked(vec![content[..10].to_vec()])).await;
    let error = download(&client(), &fake).await.1.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
}

#[tokio::test]
async fn wrong_answers_to_a_range_request_are_refused() {
    let image = Image::new(&[100_000]);
    for range in ["bytes 5-99999/100000", "bytes */100000", "garbage"] {
        let fake = tricky(&image, move |request, content| match request.nth {
            0 => cut(request, content, 10, Step::Hangup),
            _ => fake::ranged(request, content).header("Content-Range", range),
        })
        .await;
        let error = download(&client(), &fake).await.1.unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{range}: {error}");
    }
    let fake = tricky(&image, |request, content| match request.nth {
        0 => cut(request, content, 10, Step::Hangup),
        _ => Reply::new(416, ""),
    })
    .await;
    let error = download(&client(), &fake).await.1.unwrap_err();
    assert!(matches!(error, Error::Status { status: 416, .. }), "{error}");
}

#[tokio::test]
async fn manifests_have_an_end_and_are_what_their_digest_says() {
    let image = Image::new(&[10]);
    let manifest = image.manifest.clone();
    let fake = Fake::start(move |request| match request.path.rsplit('/').next().unwrap() {
        "endless" => {
            let mut reply = Reply::new(200, "").steps(vec![Step::Endless]);
            reply.headers = vec![("Transfer-Encoding".into(), "chunked".into())];
            reply
        }
        "announced" => Reply::new(200, "").header("Content-Length", "99999999999"),
        "dripping" => {
            let drops = (0..100).flat_map(|_| [Step::Send(b" ".to_vec()), Step::Pause(Duration::from_millis(100))]);
            Reply::new(200, "")
                .header("Content-Length", "1000")
                .steps(drops.collect())
        }
        "lying" => Reply::new(200, manifest.clone()).header("Docker-Content-Digest", Digest::of(b"x").to_string()),
        // Asked for by digest.
        _ => Reply::new(200, manifest.clone()).header("Content-Type", OCI_MANIFEST),
    })
    .await;
    let error = |name: String| {
        let (client, reference) = (impatient(1000, 1), fake.reference(&name));
        async move { client.resolve(&reference, &amd64(), None).await.unwrap_err() }
    };
    for tag in ["endless", "announced"] {
        let found = error(format!("a/b:{tag}")).await;
        assert!(matches!(found, Error::TooLarge { .. }), "{tag}: {found}");
    }
    assert!(matches!(error("a/b:dripping".into()).await, Error::Stalled { .. }));
    assert!(matches!(error("a/b:lying".into()).await, Error::BadDigest { .. }));
    let found = error(format!("a/b@{}", Digest::of(b"other"))).await;
    assert!(
        found.to_string().starts_with("manifest verification failed for digest"),
        "{found}"
    );
}

#[tokio::test]
async fn passing_failures_pass_and_others_are_told_at_once() {
    let image = Image::new(&[10]);
    for status in [500, 502, 503, 504, 429] {
        let served = image.clone();
        let fake = Fake::start(move |request| match request.nth {
            0 | 1 => Reply::new(status, "no"),
            _ => served.serve(request),
        })
        .await;
        client()
            .resolve(&fake.reference("a/b:1"), &amd64(), None)
            .await
            .unwrap();
    }
    let served = image.clone();
    let fake = Fake::start(move |request| match request.nth {
        0 => Reply::new(503, "").header("Retry-After", "1"),
        _ => served.serve(request),
    })
    .await;
    let start = Instant::now();
    client().digest(&fake.reference("a/b:1"), None).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After is kept to");
    for (reply, count, words) in [
        (
            Reply::new(500, "x"),
            4,
            "received unexpected HTTP status: 500 Internal Server Error",
        ),
        (
            Reply::error(429, "TOOMANYREQUESTS", "slow\u{7} down").header("Retry-After", "3600"),
            1,
            "toomanyrequests: slow  down",
        ),
        (
            Reply::error(403, "DENIED", "requested access to the resource is denied"),
            1,
            "pull access denied for 127.0.0.1",
        ),
        (Reply::new(403, "<html>"), 1, "pull access denied for"),
        (Reply::new(418, "{\"x\":"), 1, "received unexpected HTTP status: 418"),
        (
            Reply::error(400, "NAME_INVALID", "bad name"),
            1,
            "name invalid: bad name",
        ),
        (
            Reply::new(404, "<html>"),
            1,
            "not found: manifest unknown: manifest unknown",
        ),
    ] {
        let reply = Mutex::new(Some(reply));
        let stored = reply.lock().unwrap().take().unwrap();
        let (status, headers) = (stored.status, stored.headers);
        let Some(Step::Send(body)) = stored.steps.into_iter().next() else {
            panic!()
        };
        let fake = Fake::start(move |_| {
            let mut reply = Reply::new(status, body.clone());
            reply.headers = headers.clone();
            reply
        })
        .await;
        let error = client()
            .resolve(&fake.reference("a/b:1"), &amd64(), None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(fake.requests().len(), count, "{error}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_at_once_in_the_known_words() {
    // Bound and closed again: nobody listens there now.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let reference = agent_registry::Reference::parse(&format!("{address}/x"), &Default::default()).unwrap();
    let start = Instant::now();
    let error = client().resolve(&reference, &amd64(), None).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Get \"http://{address}/v2/x/manifests/latest\": dial tcp {address}: connect: connection refused")
    );
    assert!(start.elapsed() < Duration::from_secs(1));
    let unknown = agent_registry::Reference::parse("no-such-host.invalid/x", &Default::default()).unwrap();
    let error = client().resolve(&unknown, &amd64(), None).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("lookup no-such-host.invalid"), "{error}");
}

#[tokio::test]
async fn redirects_end_somewhere_allowed() {
    for (location, words) in [
        ("/v2/a/b/manifests/1", "stopped after 10 redirects"),
        (
            "http://plain.example/x",
            "refused to follow it to plain HTTP at plain.example:80",
        ),
        (
            "http://169.254.169.254/latest/meta-data",
            "refused to follow it to plain HTTP",
        ),
        ("file:///etc/passwd", "unsupported kind \"file\""),
        ("http://[broken", "invalid address"),
    ] {
        let fake = Fake::start(move |_| Reply::new(307, "").header("Location", location)).await;
        let error = client()
            .resolve(&fake.reference("a/b:1"), &amd64(), None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{location}: {error}");
    }
}

#[tokio::test]
async fn garbage_instead_of_http_is_a_clean_error() {
    for garbage in [
        "garbage\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(garbage.as_bytes()).await;
            }
        });
        let reference = agent_registry::Reference::parse(&format!("{address}/x"), &Default::default()).unwrap();
        let error = client().resolve(&reference, &amd64(), None).await.unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. } | Error::Interrupted { .. }),
            "{garbage:?}: {error:?}"
        );
        server.abort();
    }
}

#[tokio::test]
async fn mirrors_are_asked_first_and_trusted_with_nothing() {
    let image = Image::new(&[1000, 2000]);
    let served = image.clone();
    let registry = Fake::start(move |request| served.serve(request)).await;
    let served = image.clone();
    let good = Fake::start(move |request| served.serve(request)).await;
    let (served, path) = (image.clone(), image.blob_path(0));
    // Has the manifest, but the wrong bytes of one layer, and hangs up in another.
    let bad = Fake::start(move |request| match request.path == path {
        true => Reply::new(404, ""),
        false if request.path.contains("/blobs/") && request.nth == 0 => {
            let reply = served.serve(request);
            Reply {
                steps: vec![Step::Hangup],
                ..reply
            }
        }
        false => served.serve(request),
    })
    .await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let with = |urls: &[String]| {
        let name = registry.address.to_string();
        let mirror = |url: &String| Mirror {
            registry: name.clone(),
            url: url.clone(),
            credentials: None,
        };
        Client::new(ClientConfig {
            mirrors: urls.iter().map(mirror).collect(),
            ..quick()
        })
        .unwrap()
    };
    let user = agent_registry::Credentials::basic("user", "secret");
    let pull = |client: Client| {
        let (reference, user) = (registry.reference("a/b:1"), user.clone());
        async move {
            let found = client.resolve(&reference, &amd64(), Some(&user)).await.unwrap();
            for layer in &found.layers {
                let mut stream = client.blob(&reference, layer, Some(&user));
                while let Some(bytes) = stream.next().await {
                    bytes.unwrap();
                }
            }
        }
    };
    pull(with(&[good.url()])).await;
    assert!(registry.requests().is_empty(), "the mirror had it all");
    assert!(
        good.requests()
            .iter()
            .all(|request| request.header("authorization").is_none())
    );
    let before = good.requests().len();
    pull(with(&[format!("http://{gone}"), good.url()])).await;
    assert!(registry.requests().is_empty() && good.requests().len() > before);
    pull(with(&[bad.url()])).await;
    let asked = registry.lines();
    assert!(asked.contains(&format!("GET {}", image.blob_path(0))), "{asked:?}");
    // A mirror without the image is no reason to fail, and the registry's word counts.
    let error = with(&[good.url()])
        .resolve(&registry.reference("a/b:9"), &amd64(), None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ManifestUnknown { .. }), "{error}");
}

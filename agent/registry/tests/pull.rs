//! Pulling as it should go: documents, platforms, names, limits, progress.

#![allow(clippy::unwrap_used)]

mod fake;

use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_registry::{Client, ClientConfig, Digest, Error, Kind, LayerState, ManifestError, Platform, PullPlan};
use fake::{Fake, Image, LAYER, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Reply, Step, client, descriptor, quick};
use serde_json::{Value, json};

fn amd64() -> Platform {
    Platform::parse("linux/amd64").unwrap()
}

/// Serves `documents` by tag and by digest, besides the image.
fn serving(image: Image, documents: Vec<(&'static str, Vec<u8>, &'static str)>) -> impl Fn(&fake::Request) -> Reply {
    move |request| {
        let selector = request.path.strip_prefix("/v2/a/b/manifests/").unwrap_or_default();
        let found = documents
            .iter()
            .find(|(tag, bytes, _)| *tag == selector || Digest::of(bytes).as_str() == selector);
        match found {
            Some((_, bytes, media_type)) => Reply::new(200, bytes.clone()).header("Content-Type", *media_type),
            None => image.serve(request),
        }
    }
}

#[tokio::test]
async fn an_image_arrives_whole_by_tag_by_index_and_by_digest() {
    let image = Image::new(&[100_000, 3, 500_000]);
    let served = image.clone();
    let fake = Fake::start(move |request| served.serve(request)).await;
    let client = client();
    let by_digest = format!("a/b:ignored@{}", Digest::of(&image.manifest));
    for (name, is_index) in [("a/b:1", false), ("a/b:multi", true), (by_digest.as_str(), false)] {
        let reference = fake.reference(name);
        let found = client.resolve(&reference, &amd64(), None).await.unwrap();
        assert_eq!(found.manifest, image.manifest);
        assert_eq!(found.config, image.config);
        assert_eq!(found.config_digest, Digest::of(&image.config));
        assert_eq!(found.index.is_some(), is_index);
        let named = if is_index { &image.index } else { &image.manifest };
        assert_eq!(found.digest, Digest::of(named));
        assert_eq!(client.digest(&reference, None).await.unwrap(), found.digest);
        assert_eq!(found.layers.len(), 3);
        for (layer, content) in found.layers.iter().zip(&image.layers) {
            let mut stream = client.blob(&reference, layer, None);
            let mut all = Vec::new();
            while let Some(bytes) = stream.next().await {
                all.extend_from_slice(&bytes.unwrap());
            }
            assert_eq!(all, *content);
            assert!(stream.next().await.is_none());
        }
    }
    // Everything over kept-alive connections, and the greeting in TLS that found out that there is none.
    assert!(
        fake.open.load(Ordering::SeqCst) <= 3,
        "{} connections",
        fake.open.load(Ordering::SeqCst)
    );
}

#[tokio::test]
async fn the_image_for_the_platform_is_chosen() {
    let (arm, amd) = (Image::for_platform(&[10], "arm64"), Image::for_platform(&[20], "amd64"));
    let entry = |image: &Image, platform: Value| {
        let mut entry = descriptor(OCI_MANIFEST, &image.manifest);
        entry["platform"] = platform;
        entry
    };
    let attestation = entry(&Image::new(&[1]), json!({"os": "unknown", "architecture": "unknown"}));
    let index = json!({"schemaVersion": 2, "manifests": [
        attestation,
        entry(&arm, json!({"os": "linux", "architecture": "arm64", "variant": "v8"})),
        entry(&amd, json!({"os": "linux", "architecture": "amd64"})),
    ]});
    let index = index.to_string().into_bytes();
    let nested = json!({"schemaVersion": 2, "manifests": [{"mediaType": OCI_INDEX, "digest": Digest::of(&index),
        "size": index.len(), "platform": {"os": "linux", "architecture": "amd64"}}]});
    let unnamed = json!({"schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST, &arm.manifest), descriptor(OCI_MANIFEST, &amd.manifest)]});
    let documents = vec![
        ("arm", arm.manifest.clone(), OCI_MANIFEST),
        ("amd", amd.manifest.clone(), OCI_MANIFEST),
        ("all", index, OCI_INDEX),
        ("nested", nested.to_string().into_bytes(), OCI_INDEX),
        ("unnamed", unnamed.to_string().into_bytes(), OCI_INDEX),
    ];
    let both = Image {
        layers: [arm.layers.clone(), vec![arm.config.clone()]].concat(),
        ..amd.clone()
    };
    let fake = Fake::start(serving(both, documents)).await;
    let client = client();
    for (tag, platform, expected) in [
        ("all", "linux/amd64", &amd),
        ("all", "linux/arm64", &arm),
        ("all", "linux/arm64/v9", &arm),
        ("nested", "linux/amd64", &amd),
        ("unnamed", "linux/amd64", &amd),
        ("unnamed", "linux/arm64", &arm),
    ] {
        let platform = Platform::parse(platform).unwrap();
        let found = client
            .resolve(&fake.reference(&format!("a/b:{tag}")), &platform, None)
            .await
            .unwrap();
        assert_eq!(found.manifest, expected.manifest, "{tag} {platform}");
        assert!(platform.rank(&found.platform).is_some());
    }
    let error = client
        .resolve(
            &fake.reference("a/b:all"),
            &Platform::parse("linux/s390x").unwrap(),
            None,
        )
        .await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(
        error.to_string(),
        "no matching manifest for linux/s390x in the manifest list entries (available: linux/arm64, linux/amd64)"
    );
}

#[tokio::test]
async fn what_is_no_image_is_refused_with_its_reason() {
    let image = Image::new(&[10]);
    let config = descriptor(OCI_CONFIG, &image.config);
    let manifest = |config: &Value, layer: &str| json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [descriptor(layer, &image.layers[0])]});
    let mut too_big = config.clone();
    too_big["size"] = json!(1u64 << 40);
    let chart = descriptor("application/vnd.cncf.helm.config.v1+json", b"{}");
    let documents = vec![
        ("chart", manifest(&chart, LAYER), "cannot use 127.0.0.1"),
        (
            "foreign",
            manifest(&config, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            "foreign layer",
        ),
        (
            "strange",
            manifest(&config, "application/x-strange"),
            "unsupported media type",
        ),
        (
            "old",
            json!({"schemaVersion": 1, "fsLayers": []}),
            "schema 1 is not supported",
        ),
        (
            "both",
            json!({"schemaVersion": 2, "config": config, "manifests": []}),
            "read in two ways",
        ),
        ("html", json!("<html>"), "not valid JSON"),
        ("huge-config", manifest(&too_big, LAYER), "larger than the limit"),
        ("empty", json!({}), "unsupported manifest media type"),
    ];
    let served = documents
        .iter()
        .map(|(tag, value, _)| (*tag, value.to_string().into_bytes(), "application/json"));
    let fake = Fake::start(serving(image.clone(), served.collect())).await;
    let client = client();
    for (tag, _, words) in &documents {
        let error = client
            .resolve(&fake.reference(&format!("a/b:{tag}")), &amd64(), None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{tag}: {error}");
        assert!(
            matches!(error.kind(), Kind::Unsupported | Kind::Corrupt),
            "{tag}: {error:?}"
        );
    }
    let error = client
        .resolve(&fake.reference("a/b:none"), &amd64(), None)
        .await
        .unwrap_err();
    let name = format!("{}/a/b:none", fake.address);
    assert_eq!(
        error.to_string(),
        format!("manifest for {name} not found: manifest unknown: manifest unknown")
    );
    let error = client
        .resolve(&fake.reference("other"), &amd64(), None)
        .await
        .unwrap_err();
    assert!(matches!(&error, Error::RepositoryUnknown { .. }), "{error}");
    assert!(matches!(
        client.resolve(&fake.reference("a/b:old"), &amd64(), None).await,
        Err(Error::Manifest {
            why: ManifestError::Schema1,
            ..
        })
    ));
}

#[tokio::test]
async fn a_registry_without_head_or_digest_header_still_tells_the_digest() {
    let image = Image::new(&[10]);
    let manifest = image.manifest.clone();
    let fake = Fake::start(move |request| match request.method.as_str() {
        "HEAD" => Reply::new(405, ""),
        _ => Reply::new(200, manifest.clone()).header("Content-Type", OCI_MANIFEST),
    })
    .await;
    assert_eq!(
        client().digest(&fake.reference("a/b:1"), None).await.unwrap(),
        Digest::of(&image.manifest)
    );
}

#[tokio::test]
async fn only_so_many_downloads_run_at_once_and_the_board_shows_them() {
    let image = Image::new(
        &[40_000; 1]
            .repeat(6)
            .iter()
            .enumerate()
            .map(|(i, n)| n + i)
            .collect::<Vec<_>>(),
    );
    let served = image.clone();
    let fake = Fake::start(move |request| {
        let reply = served.serve(request);
        if request.path.contains("/blobs/") {
            let mut steps = vec![Step::Pause(Duration::from_millis(30))];
            steps.extend(reply.steps);
            return Reply { steps, ..reply };
        }
        reply
    })
    .await;
    let client = Client::new(ClientConfig {
        max_downloads: 2,
        ..quick()
    })
    .unwrap();
    let reference = fake.reference("a/b:1");
    let found = client.resolve(&reference, &amd64(), None).await.unwrap();
    let plan = PullPlan::new(&client, &reference, found, None);
    assert_eq!(plan.board().snapshot(), vec![LayerState::Known; 6]);
    let mut changes = plan.board().changes();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..plan.layers().len() {
        let mut stream = plan.open(index);
        tasks.spawn(async move { while stream.next().await.transpose().unwrap().is_some() {} });
    }
    tokio::time::timeout(Duration::from_secs(5), changes.changed())
        .await
        .unwrap()
        .unwrap();
    let mut waited = false;
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
        waited |= plan.board().snapshot().contains(&LayerState::Waiting);
    }
    assert!(waited);
    assert_eq!(plan.board().snapshot(), vec![LayerState::Downloaded; 6]);
    assert_eq!(fake.busiest.load(Ordering::SeqCst), 2);
    plan.board().set(0, LayerState::Extracting(5));
    plan.board().set(0, LayerState::Downloading(7));
    plan.board().set(99, LayerState::Complete);
    assert_eq!(plan.board().snapshot()[0], LayerState::Extracting(5));
}

#[tokio::test]
async fn dropping_a_download_closes_it_and_lets_the_next_one_in() {
    let image = Image::new(&[100_000, 200]);
    let (served, path) = (image.clone(), image.blob_path(0));
    let fake = Fake::start(move |request| {
        let reply = served.serve(request);
        if request.path == path {
            let Some(Step::Send(bytes)) = reply.steps.first() else {
                panic!()
            };
            let first = bytes[..1000].to_vec();
            return Reply {
                steps: vec![Step::Send(first), Step::Stall],
                ..reply
            };
        }
        reply
    })
    .await;
    let client = Client::new(ClientConfig {
        max_downloads: 1,
        stall_timeout: Duration::from_secs(60),
        ..quick()
    })
    .unwrap();
    let reference = fake.reference("a/b:1");
    let found = client.resolve(&reference, &amd64(), None).await.unwrap();
    let mut first = client.blob(&reference, &found.layers[0], None);
    assert_eq!(first.next().await.unwrap().unwrap().len(), 1000);
    let mut second = client.blob(&reference, &found.layers[1], None);
    let waiting = tokio::time::timeout(Duration::from_millis(100), second.next()).await;
    assert!(waiting.is_err(), "the only place is taken");
    drop(first);
    assert_eq!(second.next().await.unwrap().unwrap(), image.layers[1]);
    for _ in 0..100 {
        // What stays is the second one's connection, idle.
        if fake.open.load(Ordering::SeqCst) <= 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the connection of the dropped download is still open");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_can_read_a_download() {
    let image = Image::new(&[1_000_000]);
    let served = image.clone();
    let fake = Fake::start(move |request| served.serve(request)).await;
    let client = client();
    let reference = fake.reference("a/b:1");
    let found = client.resolve(&reference, &amd64(), None).await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    let open = || client.blob(&reference, &found.layers[0], None).into_reader(&runtime);
    let (mut whole, mut chunked) = (open(), open());
    let content = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        whole.read_to_end(&mut all).unwrap();
        let mut parts = Vec::new();
        while let Some(bytes) = chunked.chunk().unwrap() {
            parts.extend_from_slice(&bytes);
        }
        assert_eq!(all, parts);
        all
    });
    assert_eq!(content.await.unwrap(), image.layers[0]);
    let missing = agent_registry::LayerDesc {
        digest: Digest::of(b"missing"),
        ..found.layers[0].clone()
    };
    let mut reader = client.blob(&reference, &missing, None).into_reader(&runtime);
    let error = tokio::task::spawn_blocking(move || reader.read(&mut [0; 10]).unwrap_err())
        .await
        .unwrap();
    let inner = error.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert!(matches!(inner, Error::BlobUnknown { .. }), "{inner}");
}

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let fake =
        Fake::start(|request| match request.path.as_str() {
            "/v2/a/b/tags/list?n=1000" => Reply::json(200, &json!({"name": "a/b", "tags": ["1", "2", "no tag\n"]}))
                .header("Link", "</v2/a/b/tags/list?last=2&n=1000>; rel=\"next\""),
            "/v2/a/b/tags/list?n=1000&last=2" => Reply::json(200, &json!({"tags": ["3"]}))
                .header("Link", "</v2/a/b/tags/list?last=3&n=1000>; rel=\"next\""),
            // A registry that always names one more page.
            "/v2/a/b/tags/list?n=1000&last=3" => Reply::json(200, &json!({"tags": ["3"]}))
                .header("Link", "</v2/a/b/tags/list?last=3&n=1000>; rel=\"next\""),
            "/v2/empty/tags/list?n=1000" => Reply::json(200, &json!({"tags": null})),
            _ => Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry"),
        })
        .await;
    assert_eq!(
        client().tags(&fake.reference("a/b"), None).await.unwrap(),
        ["1", "2", "3", "3"]
    );
    assert!(client().tags(&fake.reference("empty"), None).await.unwrap().is_empty());
    let error = client().tags(&fake.reference("none"), None).await.unwrap_err();
    assert!(matches!(error, Error::RepositoryUnknown { .. }), "{error}");
}

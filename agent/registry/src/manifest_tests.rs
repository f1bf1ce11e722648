#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn descriptor(media_type: &str) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": Digest::of(b"x"), "size": 1})
}

fn image_of(layer: &str) -> serde_json::Value {
    json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": descriptor(media::OCI_CONFIG), "layers": [descriptor(layer)]})
}

fn read(value: &serde_json::Value) -> Result<(String, Document), ManifestError> {
    parse(None, value.to_string().as_bytes())
}

#[test]
fn both_families_of_documents_are_read() {
    for media_type in [media::OCI_MANIFEST, media::DOCKER_MANIFEST] {
        let mut value = image_of("application/vnd.oci.image.layer.v1.tar+gzip");
        value["mediaType"] = json!(media_type);
        let (found, document) = parse(Some(media_type), value.to_string().as_bytes()).unwrap();
        assert_eq!(found, media_type);
        assert!(matches!(document, Document::Image { layers, .. } if layers.len() == 1));
    }
    for media_type in [media::OCI_INDEX, media::DOCKER_LIST] {
        let value = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": media::OCI_MANIFEST, "digest": Digest::of(b"a"), "size": 5, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
            {"mediaType": media::OCI_MANIFEST, "digest": Digest::of(b"b"), "size": 6},
        ]});
        let (found, document) = parse(Some(media_type), value.to_string().as_bytes()).unwrap();
        assert_eq!(found, media_type);
        let Document::Index(entries) = document else { panic!() };
        assert_eq!(entries[0].platform.as_ref().unwrap().to_string(), "linux/arm64");
        assert!(entries[1].platform.is_none());
    }
    // No type anywhere: told by the fields, as the OCI specification allows.
    assert_eq!(
        read(&json!({"manifests": null, "config": descriptor(""), "layers": null}))
            .unwrap()
            .0,
        media::OCI_MANIFEST
    );
}

#[test]
fn documents_that_are_no_image_are_refused_for_their_own_reason() {
    let layer = "application/vnd.oci.image.layer.v1.tar";
    let with = |key: &str, value: serde_json::Value| {
        let mut image = image_of(layer);
        image[key] = value;
        read(&image).unwrap_err()
    };
    assert!(matches!(with("manifests", json!([])), ManifestError::Ambiguous(_)));
    assert!(matches!(
        with("mediaType", json!(media::OCI_INDEX)),
        ManifestError::Ambiguous(_)
    ));
    assert!(matches!(
        with("mediaType", json!("application/pdf")),
        ManifestError::MediaType(_)
    ));
    assert!(matches!(with("schemaVersion", json!(1)), ManifestError::Schema1));
    assert!(matches!(with("config", json!(null)), ManifestError::Artifact(_)));
    assert!(matches!(
        with("config", descriptor("application/vnd.cncf.helm.config.v1+json")),
        ManifestError::Artifact(kind) if kind.contains("helm")
    ));
    assert!(matches!(
        with("layers", json!([{"digest": "sha256:1", "size": 1}])),
        ManifestError::Descriptor { .. }
    ));
    assert!(matches!(
        with("layers", json!([{"digest": Digest::of(b""), "size": -1}])),
        ManifestError::Descriptor { .. }
    ));
    assert!(matches!(with("layers", json!("x")), ManifestError::Json { .. }));
    let sent_as_index = parse(Some(media::OCI_INDEX), image_of(layer).to_string().as_bytes());
    assert!(matches!(sent_as_index.unwrap_err(), ManifestError::Ambiguous(_)));
    for (content_type, text) in [
        (Some(media::DOCKER_SCHEMA1_SIGNED), "{}"),
        (None, r#"{"schemaVersion":1,"name":"x","fsLayers":[]}"#),
        (Some("application/json"), r#"{"fsLayers":[],"history":[]}"#),
    ] {
        assert_eq!(
            parse(content_type, text.as_bytes()).unwrap_err(),
            ManifestError::Schema1
        );
    }
    for text in ["", "null", "[]", "3", "<html>", "{\"layers\":", "\u{feff}{}"] {
        assert!(
            matches!(parse(None, text.as_bytes()), Err(ManifestError::Json { .. })),
            "{text}"
        );
    }
    assert!(matches!(parse(None, b"{}"), Err(ManifestError::MediaType(_))));
    let deep = "[".repeat(100_000);
    assert!(matches!(
        parse(None, format!("{{\"layers\":{deep}").as_bytes()),
        Err(ManifestError::Json { .. })
    ));
}

#[test]
fn layers_are_told_apart_by_type() {
    for (media_type, expected) in [
        ("application/vnd.oci.image.layer.v1.tar", Some(Compression::None)),
        ("application/vnd.oci.image.layer.v1.tar+gzip", Some(Compression::Gzip)),
        ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Compression::Zstd)),
        ("application/vnd.docker.image.rootfs.diff.tar", Some(Compression::None)),
        (
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            Some(Compression::Gzip),
        ),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", None),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", None),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", None),
        ("", None),
    ] {
        let (_, document) = read(&image_of(media_type)).unwrap();
        let Document::Image { layers: raw, .. } = document else {
            panic!()
        };
        let config = ImageConfig {
            platform: None,
            diff_ids: vec![Digest::of(b"tar")],
        };
        let result = layers(raw, &config);
        assert_eq!(
            result.as_ref().ok().map(|layers| layers[0].compression),
            expected,
            "{media_type}"
        );
        if media_type.contains("foreign") || media_type.contains("nondistributable") {
            assert!(matches!(result, Err(ManifestError::ForeignLayer { .. })));
        }
    }
}

#[test]
fn config_and_manifest_must_fit() {
    let config =
        parse_config(br#"{"os":"linux","architecture":"arm","variant":"v6","rootfs":{"type":"layers","diff_ids":[]}}"#);
    let config = config.unwrap();
    assert_eq!(config.platform.as_ref().unwrap().to_string(), "linux/arm/v6");
    let (_, document) = read(&image_of("application/vnd.oci.image.layer.v1.tar")).unwrap();
    let Document::Image { layers: raw, .. } = document else {
        panic!()
    };
    assert_eq!(
        layers(raw, &config).unwrap_err(),
        ManifestError::LayerCount { layers: 1, diff_ids: 0 }
    );
    assert!(parse_config(br#"{"rootfs":{"diff_ids":["sha256:no"]}}"#).is_err());
    assert!(parse_config(b"{}").unwrap().platform.is_none());
    assert!(parse_config(b"garbage").is_err());
}

#[test]
fn embedded_data_counts_only_when_it_is_right() {
    let encoded = base64::engine::general_purpose::STANDARD.encode(b"x");
    for (data, size, used) in [
        (encoded.as_str(), 1, true),
        (encoded.as_str(), 2, false),
        ("eQ==", 1, false),
        ("%", 1, false),
    ] {
        let raw = RawDescriptor {
            media_type: String::new(),
            digest: Digest::of(b"x").to_string(),
            size,
            platform: None,
            data: Some(data.to_owned()),
        };
        assert_eq!(raw.check("test").unwrap().data.is_some(), used, "{data} {size}");
    }
}

proptest! {
    #[test]
    fn hostile_documents_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(None, &bytes);
        let _ = parse_config(&bytes);
    }

    #[test]
    fn nearly_right_documents_never_panic(
        keys in prop::collection::vec("schemaVersion|mediaType|config|layers|manifests|fsLayers|history|artifactType", 0..6),
        values in prop::collection::vec(
            r#"1|2|-1|null|"x"|\[\]|\{\}|\[\{"digest":"sha256:0","size":1\}\]|99999999999999999999|1e999"#, 6),
        content_type in prop::option::of("application/vnd.oci.image.(index|manifest).v1\\+json|text/plain"),
    ) {
        let fields: Vec<String> = keys.iter().zip(&values).map(|(k, v)| format!("\"{k}\":{v}")).collect();
        let _ = parse(content_type.as_deref(), format!("{{{}}}", fields.join(",")).as_bytes());
    }
}

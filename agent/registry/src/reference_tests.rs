#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Reference, ReferenceError> {
    Reference::parse(text, &Defaults::default())
}

fn hex64() -> String {
    "0123456789abcdef".repeat(4)
}

#[test]
fn names_are_completed_and_shortened_as_docker_does() {
    let digest = format!("sha256:{}", hex64());
    let long = |name: &str| format!("{name}@{digest}");
    for (typed, canonical, familiar) in [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("library/busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("docker.io/busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
        (
            "index.docker.io/library/busybox",
            "docker.io/library/busybox",
            "busybox",
        ),
        ("someone/tool", "docker.io/someone/tool", "someone/tool"),
        ("a/b/c/d:x", "docker.io/a/b/c/d:x", "a/b/c/d:x"),
        ("library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/tool", "localhost/tool", "localhost/tool"),
        (
            "localhost:5000/tool:1",
            "localhost:5000/tool:1",
            "localhost:5000/tool:1",
        ),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"),
        ("[::1]:5000/tool", "[::1]:5000/tool", "[::1]:5000/tool"),
        ("[2001:db8::1]/tool:1", "[2001:db8::1]/tool:1", "[2001:db8::1]/tool:1"),
        (
            "registry.example/tool",
            "registry.example/tool",
            "registry.example/tool",
        ),
        ("HOST/tool", "HOST/tool", "HOST/tool"),
        ("host/tool", "docker.io/host/tool", "host/tool"),
        ("tool:V1.2_3-x", "docker.io/library/tool:V1.2_3-x", "tool:V1.2_3-x"),
        ("a__b/c---d/e.f_g", "docker.io/a__b/c---d/e.f_g", "a__b/c---d/e.f_g"),
        ("docker.io/a.b/c", "docker.io/a.b/c", "docker.io/a.b/c"),
    ] {
        let reference = parse(typed).unwrap();
        assert_eq!(reference.canonical(), canonical, "{typed}");
        assert_eq!(reference.familiar(), familiar, "{typed}");
        let with_digest = parse(&long(typed)).unwrap();
        assert_eq!(with_digest.canonical(), long(canonical));
        assert_eq!(with_digest.familiar(), long(familiar));
        assert_eq!(with_digest.selector(), digest);
        assert_eq!(reference.or_latest().canonical().split_once('@'), None);
    }
}

#[test]
fn wrong_names_are_refused_in_dockers_words() {
    let hex = hex64();
    let long_ok = "a".repeat(255 - "library/".len());
    assert!(parse(&long_ok).is_ok());
    for (typed, words) in [
        ("", "invalid reference format"),
        (" ", "invalid reference format"),
        ("busybox ", "invalid reference format"),
        ("bus ybox", "invalid reference format"),
        ("-busybox", "invalid reference format"),
        ("busybox-", "invalid reference format"),
        (".busybox", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a._b", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("/busybox", "invalid reference format"),
        ("busybox/", "invalid reference format"),
        ("busybox:", "invalid reference format"),
        ("busybox:a:b", "invalid reference format"),
        ("busybox:-a", "invalid reference format"),
        ("busybox:.a", "invalid reference format"),
        ("busybox:ä", "invalid reference format"),
        ("busybox@", "invalid reference format"),
        ("busybox@sha256", "invalid reference format"),
        ("busybox@sha256:abc", "invalid reference format"),
        ("@sha256:abc", "invalid reference format"),
        ("host:port/tool", "invalid reference format"),
        ("host:/tool", "invalid reference format"),
        ("ho st.x/tool", "invalid reference format"),
        ("-host.x/tool", "invalid reference format"),
        ("host-.x/tool", "invalid reference format"),
        ("host..x/tool", "invalid reference format"),
        ("[::1/tool", "invalid reference format"),
        ("[]/tool.x", "invalid reference format"),
        ("[::1]5000/tool", "invalid reference format"),
        ("[fe80::1%eth0]/tool", "invalid reference format"),
        ("https://registry.example/tool", "invalid reference format"),
        ("localhost:5000", "invalid reference format: x"),
        ("../../etc/passwd", "invalid reference format"),
        ("a/../b", "invalid reference format"),
        ("a.b_c/d", "invalid reference format"),
        ("a\nb", "invalid reference format"),
        ("a\0b", "invalid reference format"),
        (
            "Busybox",
            "invalid reference format: repository name (library/Busybox) must be lowercase",
        ),
        (
            "Busybox:Tag",
            "invalid reference format: repository name (library/Busybox) must be lowercase",
        ),
        (
            "some/Tool",
            "invalid reference format: repository name (some/Tool) must be lowercase",
        ),
        (
            "localhost:5000/Tool:1",
            "invalid reference format: repository name (Tool) must be lowercase",
        ),
        (
            "docker.io/Tool",
            "invalid reference format: repository name (library/Tool) must be lowercase",
        ),
    ] {
        if typed == "localhost:5000" {
            // No slash: that is the tag 5000 of the image "localhost".
            assert_eq!(parse(typed).unwrap().canonical(), "docker.io/library/localhost:5000");
            continue;
        }
        assert_eq!(parse(typed).unwrap_err().to_string(), words, "{typed:?}");
    }
    for (typed, words) in [
        (
            format!("{long_ok}x"),
            "repository name must not be more than 255 characters".to_owned(),
        ),
        (format!("a:{}", "t".repeat(129)), "invalid reference format".to_owned()),
        (
            hex.clone(),
            format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"),
        ),
        (
            format!("a@sha256:{}", &hex[1..]),
            "invalid checksum digest length".to_owned(),
        ),
        (
            format!("a@sha256:{}", hex.to_uppercase()),
            "invalid checksum digest format".to_owned(),
        ),
        (
            format!("a@md5:{}", &hex[..32]),
            "unsupported digest algorithm".to_owned(),
        ),
        (
            format!("a@sha256:{hex}@sha256:{hex}"),
            "invalid reference format".to_owned(),
        ),
        (
            format!("a@SHA256:{hex}"),
            "invalid reference format: repository name (library/a@SHA256) must be lowercase".to_owned(),
        ),
    ] {
        assert_eq!(parse(&typed).unwrap_err().to_string(), words, "{typed:?}");
    }
}

#[test]
fn the_default_registry_is_a_setting() {
    let own = Defaults::new("registry.example:5000");
    let short = Reference::parse("ubuntu:24.04", &own).unwrap();
    assert_eq!(short.canonical(), "registry.example:5000/ubuntu:24.04");
    assert_eq!(short.familiar(), "ubuntu:24.04");
    let hub = Reference::parse("docker.io/ubuntu", &own).unwrap();
    assert_eq!(hub.canonical(), "docker.io/library/ubuntu");
    assert_eq!(hub.familiar(), "docker.io/library/ubuntu");
    assert_eq!(own.check(), Ok(()));
    for wrong in ["", "https://r.example", "r.example/path", "a b"] {
        assert!(Defaults::new(wrong).check().is_err(), "{wrong}");
    }
    // A registry named by a bare word, as a container network may have one.
    let bare = Defaults::new("bare");
    for name in ["a", "bare/a", "bare/bare/a"] {
        let reference = Reference::parse(name, &bare).unwrap();
        assert_eq!(reference.registry(), "bare", "{name}");
        assert_eq!(Reference::parse(&reference.familiar(), &bare).unwrap(), reference);
    }
    let grouped = Defaults {
        registry: "registry.example".into(),
        namespace: Some("team".into()),
    };
    let short = Reference::parse("ubuntu", &grouped).unwrap();
    assert_eq!(
        (short.canonical().as_str(), short.familiar().as_str()),
        ("registry.example/team/ubuntu", "ubuntu")
    );
}

#[test]
fn tags_and_digests_are_exchanged() {
    let base = parse("busybox:1").unwrap();
    assert_eq!(base.with_tag("2").unwrap().familiar(), "busybox:2");
    assert_eq!(base.with_tag("").unwrap_err().to_string(), "invalid tag format");
    assert_eq!(base.with_tag("a/b").unwrap_err().to_string(), "invalid tag format");
    let digest = format!("sha256:{}", hex64());
    assert_eq!(
        base.with_tag_or_digest(&digest).unwrap().familiar(),
        format!("busybox@{digest}")
    );
    assert_eq!(base.with_tag_or_digest("3").unwrap().familiar(), "busybox:3");
    assert_eq!(base.with_tag_or_digest("sha256:abc").unwrap_err(), ReferenceError::Tag);
}

/// The grammar as published, to compare the hand-written matcher with.
const REPOSITORY: &str = "[a-z0-9]{1,3}(([._]|__|-{1,3})[a-z0-9]{1,2}){0,2}";

proptest! {
    #[test]
    fn whatever_the_grammar_makes_is_accepted(
        host in prop::option::of("([a-zA-Z0-9]{1,3}\\.[a-z]{2}|localhost|[a-z]{2}:[0-9]{1,5}|\\[[0-9a-f]{1,3}:[0-9a-f:]{1,6}\\](:[0-9]{2})?)"),
        path in prop::collection::vec(REPOSITORY, 1..4),
        tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}"),
        digest in prop::option::of("sha256:[0-9a-f]{64}"),
    ) {
        let host = host.as_ref().map_or(String::new(), |host| format!("{host}/"));
        let tag_part = tag.as_ref().map_or(String::new(), |tag| format!(":{tag}"));
        let digest_part = digest.as_ref().map_or(String::new(), |digest| format!("@{digest}"));
        // A first part like `a.b_c` is taken for a host for its dot, and is none for its underscore.
        prop_assume!(!host.is_empty() || path.len() == 1 || !path[0].contains('.'));
        let text = format!("{host}{}{tag_part}{digest_part}", path.join("/"));
        let reference = parse(&text).unwrap();
        prop_assert_eq!(reference.tag(), tag.as_deref());
        prop_assert_eq!(reference.digest().map(Digest::as_str), digest.as_deref());
        prop_assert_eq!(parse(&reference.familiar()).unwrap(), reference.clone());
        prop_assert_eq!(parse(&reference.canonical()).unwrap(), reference);
    }

    #[test]
    fn any_text_is_refused_or_survives_a_round_trip(text in "\\PC{0,40}|[a-zA-Z0-9:/@._\\[\\]-]{0,80}", registry in "docker[.]io|r[.]example:1|localhost|bare") {
        let defaults = Defaults::new(registry);
        if let Ok(reference) = Reference::parse(&text, &defaults) {
            prop_assert_eq!(&Reference::parse(&reference.familiar(), &defaults).unwrap(), &reference);
            prop_assert_eq!(&Reference::parse(&reference.canonical(), &defaults).unwrap(), &reference);
            // What ends in a URL path must not be able to leave it.
            prop_assert!(!reference.repository().contains("..") && !reference.repository().starts_with('/'));
            prop_assert!(reference.canonical().is_ascii());
        }
    }
}

#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

#[test]
fn the_auth_header_of_docker_is_read_in_all_its_forms() {
    let encode = |json: &str| URL_SAFE.encode(json);
    let read = |json: &str| Credentials::from_header(&encode(json)).unwrap();
    let user = Credentials::basic("u", "p");
    assert_eq!(read(r#"{"username":"u","password":"p"}"#), Some(user.clone()));
    // "u:p"
    assert_eq!(read(r#"{"auth":"dTpw"}"#), Some(user.clone()));
    assert_eq!(
        read(r#"{"username":"u","password":"p","serveraddress":"https://index.docker.io/v1/","email":"x"}"#),
        Some(Credentials {
            server: Some("https://index.docker.io/v1/".into()),
            ..user.clone()
        })
    );
    assert_eq!(
        read(r#"{"identitytoken":"t"}"#).unwrap().identity_token.as_deref(),
        Some("t")
    );
    assert_eq!(
        read(r#"{"registrytoken":"t"}"#).unwrap().registry_token.as_deref(),
        Some("t")
    );
    assert_eq!(read("{}"), None);
    assert_eq!(Credentials::from_header("").unwrap(), None);
    let unpadded = URL_SAFE_NO_PAD.encode(r#"{"username":"u","password":"p"}"#);
    assert_eq!(Credentials::from_header(&unpadded).unwrap(), Some(user));
    for wrong in [
        "%",
        &encode("no json"),
        &encode(r#"{"auth":"%"}"#),
        &encode(r#"{"auth":"dXA="}"#),
    ] {
        assert!(Credentials::from_header(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn credentials_know_where_they_belong() {
    let of = |server: &str| Credentials {
        server: Some(server.into()),
        ..Credentials::basic("u", "p")
    };
    for (server, registry, theirs) in [
        ("https://index.docker.io/v1/", "docker.io", true),
        ("docker.io", "docker.io", true),
        ("registry-1.docker.io", "docker.io", true),
        ("https://r.example", "r.example", true),
        ("R.Example:443", "r.example", true),
        ("r.example:5000", "r.example:5000", true),
        ("https://r.example:5000/v2/", "r.example:5000", true),
        ("r.example", "r.example:5000", false),
        ("r.example", "x.r.example", false),
        ("r.example", "r.example.evil", false),
        ("https://index.docker.io/v1/", "r.example", false),
    ] {
        assert_eq!(of(server).belong_to(registry), theirs, "{server} at {registry}");
    }
    assert!(Credentials::basic("u", "p").belong_to("anything"));
}

#[test]
fn secrets_do_not_show() {
    let all = Credentials {
        identity_token: Some("hidden".into()),
        registry_token: Some("hidden".into()),
        ..Credentials::basic("u", "hidden")
    };
    assert!(!format!("{all:?}").contains("hidden"));
    assert!(!format!("{:?}", all.basic_header().unwrap()).contains(&STANDARD.encode("u:hidden")));
    assert_ne!(all.fingerprint(), Credentials::basic("u", "hidden").fingerprint());
    assert_ne!(
        Credentials::basic("ab", "c").fingerprint(),
        Credentials::basic("a", "bc").fingerprint()
    );
}

#[test]
fn kept_answers_expire_and_do_not_pile_up() {
    let authenticator = Authenticator::default();
    let key = |n: usize| Key::new("r.example", &format!("repository{n}"), None);
    let header = HeaderValue::from_static("Bearer x");
    authenticator.keep(key(0), header.clone(), Some(Instant::now()));
    assert!(authenticator.kept(&key(0)).is_none());
    authenticator.keep(key(1), header.clone(), Some(Instant::now() + TOKEN_VALIDITY));
    assert_eq!(authenticator.kept(&key(1)), Some(header.clone()));
    authenticator.forget(&key(1));
    assert!(authenticator.kept(&key(1)).is_none());
    for n in 0..3 * MAX_KEPT {
        authenticator.keep(key(n), header.clone(), None);
    }
    assert!(authenticator.kept.lock().unwrap().len() <= MAX_KEPT);
}

proptest! {
    #[test]
    fn any_header_is_read_without_harm(value in "[A-Za-z0-9_=+/-]{0,80}", json in "\\PC{0,60}") {
        let _ = Credentials::from_header(&value);
        let _ = Credentials::from_header(&URL_SAFE.encode(json));
    }
}

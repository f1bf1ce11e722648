#![allow(clippy::unwrap_used)]
use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::reference::Defaults;

fn headers(challenge: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !challenge.is_empty() {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_str(challenge).unwrap());
    }
    headers
}

#[test]
fn answers_become_dockers_words() {
    let reference = Reference::parse("someone/tool", &Defaults::default()).unwrap();
    let digest = Digest::of(b"x");
    let (manifest, blob) = (Subject::Manifest(&reference), Subject::Blob(&reference, &digest));
    let denied = "pull access denied for someone/tool, repository does not exist or may require 'docker login': denied";
    let unknown = "manifest for someone/tool:latest not found: manifest unknown";
    for (status, challenge, body, subject, words) in [
        (
            404,
            "",
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such"}]}"#,
            &manifest,
            format!("{unknown}: no such"),
        ),
        (404, "", "", &manifest, format!("{unknown}: manifest unknown")),
        (
            404,
            "",
            r#"{"errors":[]}"#,
            &manifest,
            format!("{unknown}: manifest unknown"),
        ),
        (
            404,
            "",
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"x"}]}"#,
            &manifest,
            "repository someone/tool not found: name unknown: x".into(),
        ),
        (
            401,
            r#"Bearer realm="r",error="insufficient_scope""#,
            "",
            &manifest,
            format!("{denied}: requested access to the resource is denied"),
        ),
        (
            403,
            r#"Bearer realm="r",error="insufficient_scope",error_description="no""#,
            "{}",
            &manifest,
            format!("{denied}: no"),
        ),
        (
            401,
            r#"Bearer realm="r",error="invalid_token""#,
            "",
            &manifest,
            "unauthorized: authentication required".into(),
        ),
        (
            401,
            "",
            "<html>",
            &manifest,
            "unauthorized: authentication required".into(),
        ),
        (
            401,
            "",
            r#"{"details":"wrong password"}"#,
            &Subject::Token,
            "unauthorized: wrong password".into(),
        ),
        (
            400,
            "",
            r#"{"error":"invalid_grant","error_description":"expired"}"#,
            &Subject::Token,
            "unauthorized: expired".into(),
        ),
        (
            403,
            "",
            r#"{"details":"not you"}"#,
            &manifest,
            format!("{denied}: not you"),
        ),
        (
            403,
            "",
            "",
            &Subject::Token,
            "denied: requested access to the resource is denied".into(),
        ),
        (
            429,
            "",
            r#"{"message":"slow"}"#,
            &manifest,
            "toomanyrequests: slow".into(),
        ),
        (
            429,
            "",
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#,
            &manifest,
            "toomanyrequests: You have reached your pull rate limit.".into(),
        ),
        (
            404,
            "",
            "",
            &blob,
            format!("blob unknown: {digest} of someone/tool is not in the registry; the image is incomplete there"),
        ),
        (
            400,
            "",
            r#"{"errors":[{"code":"MANIFEST_INVALID","message":""}]}"#,
            &manifest,
            "manifest invalid: unknown error".into(),
        ),
        (
            500,
            "",
            "oops",
            &manifest,
            "Get \"https://r\": received unexpected HTTP status: 500 Internal Server Error".into(),
        ),
        (
            599,
            "",
            "",
            &manifest,
            "Get \"https://r\": received unexpected HTTP status: 599 (no reason given)".into(),
        ),
        (
            403,
            "",
            r#"{"errors":[{"code":"DENIED","message":"a\u001b[31m\nb"}]}"#,
            &manifest,
            format!("{denied}: a [31m b"),
        ),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let error = understand(
            status,
            &headers(challenge),
            body.as_bytes(),
            "Get \"https://r\"".into(),
            subject,
        );
        assert_eq!(error.to_string(), words);
    }
}

#[test]
fn texts_of_strangers_are_tamed() {
    assert_eq!(clean("  a\u{0}b\r\nc\u{1b}[0m "), "a b  c [0m");
    let long = clean(&"ä".repeat(5000));
    assert_eq!(long.chars().count(), MAX_MESSAGE + 1);
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_470);
    for (text, seconds) in [
        ("5", Some(5)),
        (" 0 ", Some(0)),
        ("999999999999", Some(86_400)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", Some(10)),
        ("Wed, 21 Oct 2014 07:28:00 GMT", None),
        ("Tue, 21 Oct 2014 07:28:00 GMT", Some(0)),
        ("-5", None),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(retry_after(text, now).map(|wait| wait.as_secs()), seconds, "{text}");
    }
}

proptest! {
    #[test]
    fn any_answer_becomes_an_error_without_control_characters(
        status in 400u16..600,
        challenge in "[ -~]{0,80}",
        body in prop::collection::vec(any::<u8>(), 0..200),
        code in "[A-Z_]{0,12}",
        message in "\\PC{0,20}[\\x00-\\x1f]{0,3}",
    ) {
        let reference = Reference::parse("someone/tool", &Defaults::default()).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let coded = serde_json::json!({"errors": [{"code": code, "message": message}]}).to_string();
        for body in [body.as_slice(), coded.as_bytes()] {
            let error = understand(status, &headers(&challenge), body, "Get".into(), &Subject::Manifest(&reference));
            prop_assert!(!error.to_string().chars().any(char::is_control));
        }
    }
}

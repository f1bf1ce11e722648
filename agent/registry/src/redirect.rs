//! Where one answer may lead to the next: the rule for redirects and for token servers.

use http::Method;
use url::Url;

use crate::config::{Insecure, is_loopback};

/// `Get "https://…"`.
pub(crate) fn request_name(method: &Method, url: &Url) -> String {
    let verb = method.as_str();
    let verb = format!("{}{}", &verb[..1], verb[1..].to_ascii_lowercase());
    format!("{verb} \"{}\"", without_query(url))
}

pub(crate) fn without_query(url: &Url) -> &str {
    &url[..url::Position::AfterPath]
}

/// Host without brackets, and the port, written or not.
pub(crate) fn host_and_port(url: &Url) -> (String, u16) {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    (host, url.port_or_known_default().unwrap_or(443))
}

pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && host_and_port(a) == host_and_port(b)
}

/// Where plain HTTP may lead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Plain {
    /// Back to the same host: for registries.
    #[default]
    Stays,
    /// To any other host as well: for files of the web, where plain HTTP was what the user asked for.
    Leads,
}

/// Where a redirect (or the realm of a token server) may lead.
///
/// - Only HTTP and HTTPS. Plain HTTP only from plain HTTP as `plain` has it, or to a host that may be insecure.
/// - The loopback rule is for what the user named: a server elsewhere cannot send us to this machine's own ports.
pub(crate) fn next_hop(from: &Url, location: &str, insecure: &Insecure, plain: Plain) -> Result<Url, String> {
    let mut next = from
        .join(location)
        .map_err(|error| format!("redirected to an invalid address: {error}"))?;
    next.set_fragment(None);
    if !matches!(next.scheme(), "http" | "https") || next.host_str().is_none_or(str::is_empty) {
        return Err(format!(
            "redirected to an address of the unsupported kind {:?}",
            next.scheme()
        ));
    }
    // User and password in an address would be sent by some clients; ours has no use for them.
    let _ = next.set_username("");
    let _ = next.set_password(None);
    let ((host, port), (from_host, from_port)) = (host_and_port(&next), host_and_port(from));
    if is_loopback(&host) && !is_loopback(&from_host) && !insecure.lists(&host, port) {
        return Err(format!("refused to follow it to this machine ({host}:{port})"));
    }
    let stays = plain == Plain::Leads || (&host, port) == (&from_host, from_port);
    let may = from.scheme() == "http" && stays;
    if next.scheme() == "http" && !may && !insecure.allows(&host, port) {
        return Err(format!(
            "refused to follow it to plain HTTP at {host}:{port}; if that is meant, add it to the insecure registries"
        ));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn redirects_lead_only_where_they_may() {
        let insecure = Insecure::new(&["plain.example".to_owned()]).unwrap();
        for (from, location, expected) in [
            (
                "https://r.example/v2/a",
                "https://cdn.example/x?sig=1",
                Some("https://cdn.example/x?sig=1"),
            ),
            (
                "https://r.example/v2/a",
                "/elsewhere",
                Some("https://r.example/elsewhere"),
            ),
            (
                "https://r.example/v2/a",
                "//cdn.example/x",
                Some("https://cdn.example/x"),
            ),
            (
                "https://r.example/v2/a",
                "https://u:p@cdn.example/x#f",
                Some("https://cdn.example/x"),
            ),
            ("https://r.example/v2/a", "http://r.example/x", None),
            ("https://r.example/v2/a", "http://cdn.example/x", None),
            (
                "https://r.example/v2/a",
                "http://plain.example/x",
                Some("http://plain.example/x"),
            ),
            (
                "http://plain.example/v2/a",
                "http://plain.example/x",
                Some("http://plain.example/x"),
            ),
            ("http://plain.example/v2/a", "http://other.example/x", None),
            (
                "http://plain.example/v2/a",
                "https://other.example/x",
                Some("https://other.example/x"),
            ),
            (
                "http://127.0.0.1:5000/v2/a",
                "http://127.0.0.1:9000/x",
                Some("http://127.0.0.1:9000/x"),
            ),
            (
                "http://127.0.0.1:5000/v2/a",
                "http://localhost:9000/x",
                Some("http://localhost:9000/x"),
            ),
            (
                "http://127.0.0.1:5000/v2/a",
                "https://cdn.example/x",
                Some("https://cdn.example/x"),
            ),
            ("https://r.example/v2/a", "http://127.0.0.1:22/x", None),
            ("https://r.example/v2/a", "https://localhost/x", None),
            ("https://r.example/v2/a", "http://[::1]:80/x", None),
            ("https://r.example/v2/a", "http://169.254.169.254/latest", None),
            ("https://r.example/v2/a", "file:///etc/passwd", None),
            ("https://r.example/v2/a", "gopher://r.example/", None),
            ("https://r.example/v2/a", "https://", None),
        ] {
            let next = next_hop(&Url::parse(from).unwrap(), location, &insecure, Plain::Stays);
            assert_eq!(
                next.as_ref().ok().map(Url::as_str),
                expected,
                "{from} → {location}: {next:?}"
            );
        }
    }

    #[test]
    fn files_of_the_web_may_be_on_other_plain_hosts() {
        let insecure = Insecure::default();
        let next = |from: &str, location| next_hop(&Url::parse(from).unwrap(), location, &insecure, Plain::Leads);
        assert!(next("http://a.example/", "http://b.example/").is_ok());
        assert!(next("http://a.example/", "https://b.example/").is_ok());
        for location in ["http://127.0.0.1/", "https://[::1]/", "ftp://b.example/"] {
            assert!(next("http://a.example/", location).is_err(), "{location}");
        }
        assert!(next("https://a.example/", "http://b.example/").is_err());
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| same_origin(&Url::parse(a).unwrap(), &Url::parse(b).unwrap());
        assert!(same("https://r.example/a", "https://R.example:443/b"));
        assert!(!same("https://r.example/a", "http://r.example/a"));
        assert!(!same("https://r.example/a", "https://r.example:8443/a"));
        assert!(!same("https://r.example/a", "https://x.r.example/a"));
    }

    #[test]
    fn requests_are_named_without_signatures() {
        let url = Url::parse("https://cdn.example/blob?X-Signature=secret").unwrap();
        assert_eq!(request_name(&Method::GET, &url), "Get \"https://cdn.example/blob\"");
    }
}

//! `--security-opt`: the seccomp profile is read here, because the file lies on this side.

/// What the options say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Security {
    pub options: Vec<String>,
    /// `systempaths=unconfined`: nothing is masked or read-only.
    pub unconfined_paths: bool,
}

/// # Errors
/// An option without a value, or a profile that cannot be read.
pub fn options(texts: &[String]) -> Result<Security, String> {
    let mut found = Security::default();
    for text in texts {
        if text == "systempaths=unconfined" {
            found.unconfined_paths = true;
            continue;
        }
        // `:` is the old separator.
        let (name, value) = match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((name, value)) => (name, value),
            None if text == "no-new-privileges" => {
                found.options.push(text.clone());
                continue;
            }
            None => return Err(format!("invalid --security-opt: {text:?}")),
        };
        match (name, value) {
            ("seccomp", "builtin" | "unconfined") => found.options.push(format!("seccomp={value}")),
            ("seccomp", path) => found.options.push(format!("seccomp={}", profile(path)?)),
            _ => found.options.push(text.clone()),
        }
    }
    Ok(found)
}

/// The profile's JSON without white space.
fn profile(path: &str) -> Result<String, String> {
    let text = std::fs::read(path).map_err(|error| format!("opening seccomp profile ({path}) failed: {error}"))?;
    let profile: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|error| format!("compacting json for seccomp profile ({path}) failed: {error}"))?;
    Ok(profile.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn profiles_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{ \"defaultAction\" :\n \"SCMP_ACT_ALLOW\" }").unwrap();
        let texts: Vec<String> = [
            format!("seccomp={}", file.path().display()).as_str(),
            "seccomp:unconfined",
            "no-new-privileges",
            "apparmor=x",
            "systempaths=unconfined",
        ]
        .map(str::to_owned)
        .to_vec();
        let found = options(&texts).unwrap();
        assert!(found.unconfined_paths);
        assert_eq!(
            found.options,
            [
                r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#,
                "seccomp=unconfined",
                "no-new-privileges",
                "apparmor=x"
            ]
        );
        for bad in ["nope", "seccomp=/does/not/exist"] {
            assert!(options(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}

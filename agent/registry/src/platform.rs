//! Platforms (`linux/arm64/v8`): parsing, normal forms, and which of an index's images runs on one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Operating system, processor architecture and its variant, in Go's names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, `arm`, …
    pub architecture: String,
    /// `v7` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text that is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Wrong number of parts or letters.
    #[error("invalid platform {0:?}: write it as os[/architecture[/variant]], for example linux/arm64")]
    Format(String),
}

impl Platform {
    /// A platform in normal form.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let (architecture, variant) = normal_architecture(architecture, variant.unwrap_or(""));
        let variant = (!variant.is_empty()).then_some(variant);
        Platform {
            os: normal_os(os),
            architecture,
            variant,
        }
    }

    /// What this machine runs.
    pub fn host() -> Platform {
        let architecture = std::env::consts::ARCH;
        Platform::new("linux", architecture, (architecture == "arm").then_some("v7"))
    }

    /// Parse `os/architecture/variant`, `os/architecture`, or one of the two alone, as `--platform` takes it.
    ///
    /// # Errors
    /// When the text has another shape, or names something that is neither an operating system nor an architecture.
    pub fn parse(text: &str) -> Result<Platform, PlatformError> {
        let wrong = || PlatformError::Format(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(word) {
            return Err(wrong());
        }
        let host = Platform::host();
        match parts.as_slice() {
            [only] if KNOWN_OS.contains(&normal_os(only).as_str()) => Ok(Platform {
                os: normal_os(only),
                ..host
            }),
            [only] => {
                let platform = Platform::new(&host.os, only, None);
                if KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    Ok(platform)
                } else {
                    Err(wrong())
                }
            }
            [os, architecture] => Ok(Platform::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Platform::new(os, architecture, Some(variant))),
            _ => Err(wrong()),
        }
    }

    /// How well an image for `other` runs here: 0 is the very thing, greater is a lesser choice, `None` not at all.
    pub fn rank(&self, other: &Platform) -> Option<usize> {
        let other = Platform::new(&other.os, &other.architecture, other.variant.as_deref());
        self.accepted().iter().position(|accepted| *accepted == other)
    }

    /// Everything that runs on this platform, best first.
    fn accepted(&self) -> Vec<Platform> {
        let this = Platform::new(&self.os, &self.architecture, self.variant.as_deref());
        let number = this
            .variant
            .as_deref()
            .and_then(|variant| variant.strip_prefix('v')?.parse::<u8>().ok());
        let at = |architecture: &str, level: u8| Platform::new(&this.os, architecture, Some(&format!("v{level}")));
        let mut accepted = vec![this.clone()];
        // Each level of a processor family runs what was made for the levels below it.
        match (this.architecture.as_str(), number) {
            ("amd64", level) => {
                accepted.extend((1..level.unwrap_or(1).min(9)).rev().map(|level| at("amd64", level)));
                accepted.push(Platform::new(&this.os, "386", None));
            }
            ("arm", level) => accepted.extend((5..level.unwrap_or(7).min(9)).rev().map(|level| at("arm", level))),
            ("arm64", level) => {
                accepted.extend((8..level.unwrap_or(8).min(99)).rev().map(|level| at("arm64", level)));
                accepted.extend((5..=8).rev().map(|level| at("arm", level)));
            }
            _ => {}
        }
        accepted
    }
}

const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "illumos",
    "ios",
    "js",
    "linux",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasip1",
    "windows",
];
const KNOWN_ARCHITECTURES: &[&str] = &[
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
];

fn normal_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "macos" => "darwin".to_owned(),
        os => os.to_owned(),
    }
}

/// One name for each architecture, and no variant where there is only the usual one.
fn normal_architecture(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "" | "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        ("powerpc64le", variant) => ("ppc64le", variant),
        ("loongarch64", variant) => ("loong64", variant),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

impl FromStr for Platform {
    type Err = PlatformError;
    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        Platform::parse(text)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    #[test]
    fn texts_become_normal_forms() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("Linux/AArch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/i686", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("arm64", "linux/arm64"),
            ("linux/powerpc64le", "linux/ppc64le"),
        ] {
            assert_eq!(platform(text).to_string(), normal, "{text}");
        }
        assert_eq!(platform("linux"), Platform::host());
        for text in [
            "",
            "/",
            "linux/",
            "linux//v8",
            "a/b/c/d",
            "linux/a b",
            "bogus",
            "linux/\n",
        ] {
            assert!(Platform::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn variants_are_chosen_like_containers_expect() {
        for (wanted, image, rank) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/386", Some(1)),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/amd64/v3", "linux/amd64/v3", Some(0)),
            ("linux/amd64/v3", "linux/amd64/v2", Some(1)),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64/v3", "linux/amd64/v4", None),
            ("linux/386", "linux/amd64", None),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64/v8", "linux/arm64", Some(0)),
            ("linux/arm64", "linux/arm/v8", Some(1)),
            ("linux/arm64", "linux/arm/v7", Some(2)),
            ("linux/arm64/v9", "linux/arm64", Some(1)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v7", "linux/arm/v5", Some(2)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "linux/arm64", None),
            ("linux/riscv64", "linux/riscv64", Some(0)),
        ] {
            assert_eq!(platform(wanted).rank(&platform(image)), rank, "{image} on {wanted}");
        }
    }
}

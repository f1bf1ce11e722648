//! Platforms as JSON in queries: `{"os":"linux","architecture":"arm","variant":"v7"}`.

use agent_api::image::Platform as WirePlatform;
use agent_api::json;
use agent_engine::image::check_platform;
use agent_engine::view::{Image, Platform};

use crate::error::{ApiError, ApiResult};

/// In dockerd's words.
fn decode(text: &str) -> ApiResult<Platform> {
    let wire: WirePlatform = json::from_slice(text.as_bytes())
        .map_err(|error| ApiError::bad(format!("failed to parse platform: invalid platform {text:?}: {error}")))?;
    let optional = !(wire.variant.is_empty() && wire.os_version.is_empty());
    match (wire.os.is_empty(), wire.architecture.is_empty()) {
        (true, true) if optional => Err(ApiError::bad(
            "optional platform fields provided, but OS and Architecture are missing",
        )),
        (false, false) => Ok(Platform {
            os: wire.os,
            architecture: wire.architecture,
            variant: Some(wire.variant).filter(|variant| !variant.is_empty()),
        }),
        _ => Err(ApiError::bad("both OS and Architecture must be provided")),
    }
}

fn decode_all(texts: &[String]) -> ApiResult<Vec<Platform>> {
    let given = texts.iter().filter(|text| !text.is_empty());
    given.map(|text| decode(text)).collect()
}

/// The platform that is asked for, where there can be one: an image has no more here.
pub fn one(texts: &[String]) -> ApiResult<Option<Platform>> {
    let mut all = decode_all(texts)?;
    if all.len() > 1 {
        return Err(ApiError::bad(
            "multiple platforms are not supported: an image has one platform here",
        ));
    }
    Ok(all.pop())
}

/// The only platforms that can be served are those of the one that an image has.
pub fn check(name: &str, image: &Image, texts: &[String]) -> ApiResult<()> {
    for wanted in decode_all(texts)? {
        check_platform(image, name, &wanted)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn platforms_are_whole_and_one() {
        let read = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            one(&texts).map(|found| found.map(|platform| platform.to_string()))
        };
        let amd64 = r#"{"os":"linux","architecture":"amd64"}"#;
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[""]).unwrap(), None);
        assert_eq!(read(&[amd64]).unwrap().unwrap(), "linux/amd64");
        let arm = r#"{"OS":"linux","architecture":"arm","variant":"v7"}"#;
        assert_eq!(read(&[arm]).unwrap().unwrap(), "linux/arm/v7");
        for wrong in [
            "linux/amd64",
            "[]",
            "{}",
            r#"{"os":"linux"}"#,
            r#"{"variant":"v7"}"#,
            r#"{"os":1}"#,
        ] {
            assert!(read(&[wrong]).is_err(), "{wrong}");
        }
        assert!(read(&[amd64, amd64]).is_err());
    }
}

//! An image of the store as a message.

use agent_engine::image::pods::Pins;
use agent_engine::view::Image;

use cri_api as api;

/// The uid, or the name, that the image's `USER` begins with: `uid[:gid]` or `name[:group]`. Without one it is root.
fn user(user: &str) -> (Option<api::Int64Value>, String) {
    let user = user.split(':').next().unwrap_or_default();
    match (user, user.parse::<u32>()) {
        ("", _) => (Some(api::Int64Value { value: 0 }), String::new()),
        (_, Ok(uid)) => (Some(api::Int64Value { value: uid.into() }), String::new()),
        (name, Err(_)) => (None, name.to_owned()),
    }
}

pub fn shown(pins: &Pins<'_>, image: &Image) -> api::Image {
    let (uid, username) = user(&image.parsed.config.user);
    api::Image {
        // One string for one image wherever the API names it: the digest of its configuration.
        id: image.id.to_string(),
        repo_tags: image.names.clone(),
        repo_digests: image.digests.clone(),
        // A kubelet takes an image without a size for one that is not there.
        size: image.size.max(1),
        uid,
        username,
        spec: Some(api::ImageSpec {
            image: image.id.to_string(),
            ..api::ImageSpec::default()
        }),
        pinned: pins.hold(image),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_or_names() {
        for (text, uid, name) in [
            ("", Some(0), ""),
            ("1002", Some(1002), ""),
            ("1003:1004", Some(1003), ""),
            ("www-data:1004", None, "www-data"),
            (":5", Some(0), ""),
            // No number that a user can have.
            ("4294967296", None, "4294967296"),
        ] {
            let shown = user(text);
            assert_eq!((shown.0.map(|uid| uid.value), shown.1.as_str()), (uid, name), "{text}");
        }
    }
}

//! Tags: text with `{{.Field}}` in it, as Docker's.

use crate::{Origin, Refused};

/// A template of which every field is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    FullId,
    Name,
    ImageId,
    ImageFullId,
    ImageName,
    Command,
    DaemonName,
    Hostname,
}

impl Tag {
    /// # Errors
    /// Anything else between braces: the whole language of templates is not here, and a tag that says something else than
    /// was asked for is worse than none.
    pub fn parse(text: &str) -> Result<Tag, Refused> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let (inside, after) = behind
                .split_once("}}")
                .ok_or_else(|| Refused::invalid(format!("template: log-tag: {text}: unclosed action")))?;
            let name = inside.trim_matches('-').trim();
            let field = match name {
                ".ID" => Field::Id,
                ".FullID" => Field::FullId,
                ".Name" => Field::Name,
                ".ImageID" => Field::ImageId,
                ".ImageFullID" => Field::ImageFullId,
                ".ImageName" => Field::ImageName,
                ".Command" => Field::Command,
                ".DaemonName" => Field::DaemonName,
                ".Hostname" => Field::Hostname,
                other => {
                    return Err(Refused::invalid(format!(
                        "template: log-tag: {{{{{other}}}}} is not supported: fields are .ID, .FullID, .Name, .ImageID, .ImageFullID, .ImageName, .Command, .DaemonName, .Hostname"
                    )));
                }
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Field(field));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Tag(parts))
    }

    /// Docker's default.
    pub fn id() -> Tag {
        Tag(vec![Part::Field(Field::Id)])
    }

    pub fn render(&self, origin: &Origin) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => match field {
                Field::Id => origin.short_id().to_owned(),
                Field::FullId => origin.id.clone(),
                Field::Name => origin.name.clone(),
                Field::ImageId => origin.short_image_id().to_owned(),
                Field::ImageFullId => origin.image_id.clone(),
                Field::ImageName => origin.image.clone(),
                Field::Command => origin.command.clone(),
                Field::DaemonName => origin.daemon.clone(),
                Field::Hostname => origin.hostname.clone(),
            },
        };
        self.0.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_filled_in() {
        let origin = Origin {
            id: "0123456789abcdef".into(),
            name: "web".into(),
            image_id: "sha256:fedcba9876543210".into(),
            ..Origin::default()
        };
        let text = |tag: &str| Tag::parse(tag).unwrap().render(&origin);
        assert_eq!(text("{{.ID}}"), "0123456789ab");
        assert_eq!(text("a/{{ .Name }}/{{.ImageID}}!"), "a/web/fedcba987654!");
        assert_eq!(text(""), "");
        assert!(Tag::parse("{{.Name").is_err());
        assert!(Tag::parse("{{index .ContainerLabels \"x\"}}").is_err());
    }

    proptest! {
        #[test]
        fn no_template_panics(text in "[{}. a-zID]{0,30}") {
            if let Ok(tag) = Tag::parse(&text) {
                tag.render(&Origin::default());
            }
        }
    }
}

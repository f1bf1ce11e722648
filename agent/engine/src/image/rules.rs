//! What removing an image does: pure, so that every combination can be tried.

use std::collections::BTreeSet;

/// What is known of an image when somebody wants it gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Twelve digits, for messages.
    pub short: String,
    /// Canonical names, `…/busybox:1`.
    pub tags: Vec<String>,
    /// Remembered digests, `…/busybox@sha256:…`.
    pub digests: Vec<String>,
    /// Another image was made from it.
    pub has_child: bool,
    /// Short id of a live container of it.
    pub running: Option<String>,
    /// Short id of one that does not run.
    pub stopped: Option<String>,
}

/// How it was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// One of its names or digests, in canonical form; and as the user wrote it.
    Reference {
        canonical: &'a str,
        written: &'a str,
    },
    Id,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Names and digests to take away, in order.
    pub untag: Vec<String>,
    /// The image itself goes.
    pub delete: bool,
}

/// The part of a reference before tag or digest.
fn repository(reference: &str) -> &str {
    match reference.split_once('@') {
        Some((name, _)) => name,
        None => reference.rsplit_once(':').map_or(reference, |(name, _)| name),
    }
}

impl Standing {
    fn references(&self) -> impl Iterator<Item = &String> {
        self.tags.iter().chain(&self.digests)
    }

    fn user(&self) -> Option<&String> {
        self.running.as_ref().or(self.stopped.as_ref())
    }

    /// One reference, or one tag with digests of its own repository only.
    fn has_one_name(&self) -> bool {
        match self.references().count() {
            0 => false,
            1 => true,
            _ if self.tags.len() > 1 => false,
            _ => {
                let repositories: BTreeSet<&str> = self.digests.iter().map(|digest| repository(digest)).collect();
                let own = self.tags.first().or(self.digests.first());
                repositories.len() == 1 && own.is_some_and(|own| repositories.contains(repository(own)))
            }
        }
    }

    /// Why it cannot go, the gravest reason first.
    fn conflict(&self, force: bool, names_count: bool) -> Option<String> {
        let refuse =
            |how: &str, why: String| Some(format!("conflict: unable to delete {} ({how}) - {why}", self.short));
        if self.has_child {
            return refuse("cannot be forced", "image has dependent child images".into());
        }
        if let Some(user) = &self.running {
            return refuse(
                "cannot be forced",
                format!("image is being used by running container {user}"),
            );
        }
        if force {
            return None;
        }
        if names_count && self.references().next().is_some() {
            return refuse("must be forced", "image is referenced in multiple repositories".into());
        }
        if let Some(user) = &self.stopped {
            return refuse(
                "must be forced",
                format!("image is being used by stopped container {user}"),
            );
        }
        None
    }

    /// Docker's decision.
    ///
    /// # Errors
    /// Its words for the conflict; nothing may be done then.
    pub fn removal(&self, asked: Asked<'_>, force: bool) -> Result<Removal, String> {
        let Asked::Reference { canonical, written } = asked else {
            if let Some(conflict) = self.conflict(force, !self.has_one_name()) {
                return Err(conflict);
            }
            return Ok(Removal {
                untag: self.references().cloned().collect(),
                delete: true,
            });
        };
        if let Some(user) = self.user().filter(|_| !force && self.has_one_name()) {
            return Err(format!(
                "conflict: unable to remove repository reference \"{written}\" (must force) - container {user} is using its referenced image {}",
                self.short
            ));
        }
        let of = repository(canonical);
        let tag_left = self.tags.iter().any(|tag| tag != canonical && repository(tag) == of);
        let mut untag = vec![canonical.to_owned()];
        // The last tag of a repository takes the digests of that repository along.
        if !canonical.contains('@') && !tag_left {
            untag.extend(self.digests.iter().filter(|digest| repository(digest) == of).cloned());
        }
        let left = self.references().any(|reference| !untag.contains(reference));
        let bare = Standing {
            tags: Vec::new(),
            digests: Vec::new(),
            ..self.clone()
        };
        Ok(Removal {
            untag,
            // A name was taken away as asked: what keeps the image itself is no error then.
            delete: !left && bare.conflict(force, false).is_none(),
        })
    }

    /// Whether it goes along when its last child goes.
    pub fn goes_with_child(&self) -> bool {
        self.references().next().is_none() && !self.has_child && self.user().is_none()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn standing(tags: &[&str], digests: &[&str]) -> Standing {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Standing {
            short: "0123456789ab".into(),
            tags: own(tags),
            digests: own(digests),
            ..Standing::default()
        }
    }

    fn by_name(name: &str) -> Asked<'_> {
        Asked::Reference {
            canonical: name,
            written: name,
        }
    }

    #[test]
    fn names_go_one_by_one_and_the_last_takes_the_image() {
        let two = standing(&["r/a:1", "r/a:2"], &["r/a@sha256:0"]);
        let removal = two.removal(by_name("r/a:1"), false).unwrap();
        assert_eq!((removal.untag, removal.delete), (vec!["r/a:1".to_owned()], false));
        let one = standing(&["r/a:2"], &["r/a@sha256:0"]);
        let removal = one.removal(by_name("r/a:2"), false).unwrap();
        assert_eq!(removal.untag, ["r/a:2", "r/a@sha256:0"]);
        assert!(removal.delete);
        let elsewhere = standing(&["r/a:2"], &["r/b@sha256:0"]);
        let removal = elsewhere.removal(by_name("r/a:2"), false).unwrap();
        assert_eq!((removal.untag, removal.delete), (vec!["r/a:2".to_owned()], false));
    }

    #[test]
    fn several_repositories_need_force_by_id() {
        let several = standing(&["r/a:1", "r/b:1"], &[]);
        let refused = several.removal(Asked::Id, false).unwrap_err();
        assert_eq!(
            refused,
            "conflict: unable to delete 0123456789ab (must be forced) - image is referenced in multiple repositories"
        );
        assert_eq!(several.removal(Asked::Id, true).unwrap().untag.len(), 2);
        // Two tags of one repository are as bad, one with its digest is not.
        assert!(standing(&["r/a:1", "r/a:2"], &[]).removal(Asked::Id, false).is_err());
        assert!(
            standing(&["r/a:1"], &["r/a@sha256:0"])
                .removal(Asked::Id, false)
                .unwrap()
                .delete
        );
    }

    proptest! {
        #[test]
        fn no_rule_is_ever_broken(
            tags in proptest::collection::btree_set("[ab]/[xy]:[12]", 0..4),
            digests in proptest::collection::btree_set("[ab]/[xy]@sha256:[01]", 0..3),
            has_child: bool, running: bool, stopped: bool, force: bool, pick: prop::sample::Index,
        ) {
            let user = |wanted: bool| wanted.then(|| "container".to_owned());
            let image = Standing {
                short: "id".into(),
                tags: tags.into_iter().collect(),
                digests: digests.into_iter().collect(),
                has_child,
                running: user(running),
                stopped: user(stopped),
            };
            let all: Vec<String> = image.references().cloned().collect();
            let mut asked = vec![Asked::Id];
            if !all.is_empty() {
                asked.push(by_name(&all[pick.index(all.len())]));
            }
            for asked in asked {
                match image.removal(asked, force) {
                    Ok(removal) => {
                        prop_assert!(!(removal.delete && (has_child || running)), "nothing that is needed goes");
                        prop_assert!(!(removal.delete && stopped && !force));
                        prop_assert!(removal.untag.iter().all(|name| all.contains(name)));
                        // An image never goes with a name left.
                        prop_assert!(!removal.delete || removal.untag.len() == all.len());
                        if let Asked::Reference { canonical, .. } = asked {
                            prop_assert_eq!(&removal.untag[0], canonical);
                        } else {
                            prop_assert!(removal.delete);
                        }
                    }
                    Err(text) => {
                        prop_assert!(text.starts_with("conflict: unable to "));
                        prop_assert!(!force || has_child || running, "force overrules the rest: {}", text);
                    }
                }
                // Force never does less.
                if let (Ok(soft), Ok(hard)) = (image.removal(asked, false), image.removal(asked, true)) {
                    prop_assert!(!soft.delete || hard.delete);
                }
            }
        }
    }
}

//! The place of a group in every hierarchy.

use super::{CgroupError, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// An absolute, normal path below the root of the hierarchies: `/iechor/4f2a…`. Never empty, never with `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupPath(String);

impl CgroupPath {
    /// Accepts `a/b`, `/a/b` and `/a//b/`; they are the same group.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`] for the root itself, `.` and `..`, control characters and names above 255 bytes.
    pub fn new(text: &str) -> Result<CgroupPath> {
        let mut path = String::with_capacity(text.len() + 1);
        for name in text.split('/').filter(|name| !name.is_empty()) {
            if matches!(name, "." | "..") || name.len() > 255 || name.chars().any(char::is_control) {
                return Err(CgroupError::Invalid {
                    what: "cgroup path",
                    why: format!("{text:?} has the component {name:?}"),
                });
            }
            path.push('/');
            path.push_str(name);
        }
        if path.is_empty() {
            return Err(CgroupError::Invalid {
                what: "cgroup path",
                why: format!("{text:?} names no group"),
            });
        }
        Ok(CgroupPath(path))
    }

    /// The group `name` below this one.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`] when `name` is not one component.
    pub fn child(&self, name: &str) -> Result<CgroupPath> {
        if name.is_empty() || name.contains('/') {
            return Err(CgroupError::Invalid {
                what: "cgroup name",
                why: format!("{name:?} is not one component"),
            });
        }
        CgroupPath::new(&format!("{}/{name}", self.0))
    }

    /// The group above (`None` for one right below the root) and this one's own name.
    pub fn split(&self) -> (Option<CgroupPath>, &str) {
        match self.0.rsplit_once('/') {
            Some(("", name)) => (None, name),
            Some((parent, name)) => (Some(CgroupPath(parent.to_owned())), name),
            None => (None, &self.0),
        }
    }

    /// With the leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder of this group in the hierarchy mounted at `mount`.
    pub(super) fn under(&self, mount: &Path) -> PathBuf {
        mount.join(&self.0[1..])
    }

    /// The folders from just below `mount` down to this group, outermost first.
    pub(super) fn chain(&self, mount: &Path) -> Vec<PathBuf> {
        let mut folder = mount.to_owned();
        self.0[1..]
            .split('/')
            .map(|name| {
                folder.push(name);
                folder.clone()
            })
            .collect()
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for CgroupPath {
    type Err = CgroupError;
    fn from_str(text: &str) -> Result<CgroupPath> {
        CgroupPath::new(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    proptest::proptest! {
        /// What is a path stays below the root of the hierarchies, and is its own normal form.
        #[test]
        fn any_text_is_a_normal_path_or_refused(text in ".{0,40}|(/|\\.|a|\u{1}){0,12}") {
            if let Ok(path) = CgroupPath::new(&text) {
                let plain = |name: &str| !matches!(name, "" | "." | "..");
                proptest::prop_assert!(path.as_str().strip_prefix('/').unwrap().split('/').all(plain));
                proptest::prop_assert!(path.under(Path::new("/mount")).starts_with("/mount"));
                proptest::prop_assert_eq!(&CgroupPath::new(path.as_str()).unwrap(), &path);
                let (parent, name) = path.split();
                if let Some(parent) = parent {
                    proptest::prop_assert_eq!(&parent.child(name).unwrap(), &path);
                }
            }
            let _ = CgroupPath::new("/a").unwrap().child(&text);
        }
    }
}

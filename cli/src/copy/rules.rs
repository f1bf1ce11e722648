//! What `SRC` and `DST` of a copy mean. Pure, because there are many cases:
//!
//! | source | destination | what happens |
//! | --- | --- | --- |
//! | file | is absent | the file gets that name; an error when the name ends with a slash |
//! | file | is a file | the file replaces it |
//! | file | is a folder | the file is put into it |
//! | folder | is absent | the folder gets that name |
//! | folder | is a file | an error |
//! | folder | is a folder | the folder is put into it |
//! | `folder/.` | is absent | the folder gets that name |
//! | `folder/.` | is a folder | what is in the source is put into it |

use crate::failure::{Failure, Result, fail};

/// One side of a copy, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct End {
    /// Its end means something: `/` and `/.` are kept.
    pub path: String,
    pub exists: bool,
    pub is_dir: bool,
    /// For a source that is not archived under its own name: the name that was asked for.
    pub rebase: Option<String>,
}

/// Where an archive of the source is to be unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub folder: String,
    /// Entries that begin with the first begin with the second instead.
    pub rename: Option<(String, String)>,
}

/// Container and path; no container for a local one.
pub fn split_argument(argument: &str) -> (Option<&str>, &str) {
    if argument.starts_with('/') {
        return (None, argument);
    }
    match argument.split_once(':') {
        // `./name:with-colon` is local.
        Some((container, path)) if !container.is_empty() && !container.starts_with('.') => (Some(container), path),
        _ => (None, argument),
    }
}

/// `filepath.Clean` of Go.
pub fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The last component: `/` of the root, `.` of nothing.
pub fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed {
        "" if path.is_empty() => ".",
        "" => "/",
        _ => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

pub fn says_content(path: &str) -> bool {
    base(path) == "."
}

/// What the end of `original` says is put at the end of `cleaned`.
pub fn keep_end(cleaned: &str, original: &str) -> String {
    let mut path = cleaned.to_owned();
    if !says_content(&path) && says_content(original) {
        if !path.ends_with('/') {
            path.push('/');
        }
        path.push('.');
    }
    if !path.ends_with('/') && original.ends_with('/') {
        path.push('/');
    }
    path
}

/// A path as the folder and the entry of it that is meant.
pub fn split_entry(path: &str) -> (String, String) {
    let mut cleaned = clean(path);
    if says_content(path) {
        cleaned.push_str("/.");
    }
    let entry = base(&cleaned).to_owned();
    let folder = match cleaned.rfind('/') {
        None => ".".to_owned(),
        Some(at) => clean(&cleaned[..=at]),
    };
    (folder, entry)
}

/// What a link is asked for as, where it leads, and what it is called then.
pub fn rebase_name(asked: &str, resolved: &str) -> (String, Option<String>) {
    let resolved = keep_end(resolved, asked);
    let rebase = (base(asked) != base(&resolved)).then(|| base(asked).to_owned());
    (resolved, rebase)
}

/// Decides where the source's archive goes, and under which name.
///
/// # Errors
/// The two do not go together; the words are docker's.
pub fn plan(source: &End, target: &End) -> Result<Plan> {
    if target.exists && target.is_dir {
        return Ok(Plan {
            folder: target.path.clone(),
            rename: None,
        });
    }
    if target.exists && source.is_dir {
        fail!("cannot copy directory");
    }
    if !target.exists && !source.is_dir && (target.path.ends_with('/') || says_content(&target.path)) {
        fail!("no such directory");
    }
    let (folder, entry) = split_entry(&target.path);
    let own = split_entry(&source.path).1;
    Ok(Plan {
        folder,
        rename: Some((source.rebase.clone().unwrap_or(own), entry)),
    })
}

/// Renames an entry (or what a hard link in the archive leads to) as a plan says.
pub fn renamed(name: &[u8], rename: Option<&(String, String)>) -> Vec<u8> {
    let Some((old, new)) = rename else { return name.to_vec() };
    // The root's entries begin with nothing.
    let old = if old == "/" { "" } else { old.as_str() }.as_bytes();
    let at = name.windows(old.len().max(1)).position(|part| part.starts_with(old));
    match at {
        _ if old.is_empty() => [new.as_bytes(), name].concat(),
        None => name.to_vec(),
        Some(at) => [&name[..at], new.as_bytes(), &name[at + old.len()..]].concat(),
    }
}

impl End {
    /// What is at a local path that is to be written to.
    ///
    /// # Errors
    /// The folder in which it is to be made is none.
    pub fn local_target(path: &str) -> Result<End> {
        match std::fs::metadata(path) {
            Ok(found) => Ok(End {
                path: path.to_owned(),
                exists: true,
                is_dir: found.is_dir(),
                rebase: None,
            }),
            Err(_) => {
                // A link to nothing: what it leads to is made.
                let path = match std::fs::read_link(path) {
                    Ok(target) if target.is_absolute() => target.to_string_lossy().into_owned(),
                    Ok(target) => format!("{}/{}", split_entry(path).0, target.to_string_lossy()),
                    Err(_) => path.to_owned(),
                };
                let folder = split_entry(&path).0;
                let above = std::fs::metadata(&folder).map_err(|error| Failure::new(format!("{folder}: {error}")))?;
                if !above.is_dir() {
                    fail!("not a directory");
                }
                Ok(End { path, ..End::default() })
            }
        }
    }

    /// What is at a local path that is to be read.
    ///
    /// # Errors
    /// Nothing is there.
    pub fn local_source(path: &str, follow: bool) -> Result<End> {
        let failed = |error: std::io::Error| Failure::new(format!("{path}: {error}"));
        let real = |path: &str| -> Result<String> {
            let real = std::fs::canonicalize(path).map_err(failed)?;
            Ok(real.to_string_lossy().into_owned())
        };
        let (resolved, rebase) = if follow {
            rebase_name(path, &real(path)?)
        } else {
            // The folder in which it is, followed; the entry itself as it is.
            let (above, entry) = path.split_at(path.trim_end_matches('/').rfind('/').map_or(0, |at| at + 1));
            let above = real(if above.is_empty() { "." } else { above })?;
            let entry = match entry {
                "/" => "",
                entry => entry,
            };
            let whole = format!("{}/{entry}", above.trim_end_matches('/'));
            (whole, None)
        };
        // With a slash at the end, a link is followed.
        let found = std::fs::symlink_metadata(&resolved).map_err(failed)?;
        Ok(End {
            path: resolved,
            exists: true,
            is_dir: found.is_dir(),
            rebase,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arguments_are_told_apart() {
        for (argument, container, path) in [
            ("c:/a", Some("c"), "/a"),
            ("c:a:b", Some("c"), "a:b"),
            ("/c:a", None, "/c:a"),
            ("./c:a", None, "./c:a"),
            ("c", None, "c"),
            ("-", None, "-"),
            (":a", None, ":a"),
        ] {
            assert_eq!(split_argument(argument), (container, path), "{argument}");
        }
    }

    fn end(path: &str, kind: &str) -> End {
        End {
            path: path.to_owned(),
            exists: kind != "absent",
            is_dir: kind == "folder",
            rebase: None,
        }
    }

    #[test]
    fn every_row_of_the_table() {
        for (source, kind, target, there, outcome) in [
            ("/s/f", "file", "/t/new", "absent", Ok(("/t", Some(("f", "new"))))),
            ("/s/f", "file", "/t/new/", "absent", Err("no such directory")),
            ("/s/f", "file", "/t/g", "file", Ok(("/t", Some(("f", "g"))))),
            ("/s/f", "file", "/t/d", "folder", Ok(("/t/d", None))),
            ("/s/d", "folder", "/t/new", "absent", Ok(("/t", Some(("d", "new"))))),
            ("/s/d", "folder", "/t/new/", "absent", Ok(("/t", Some(("d", "new"))))),
            ("/s/d", "folder", "/t/g", "file", Err("cannot copy directory")),
            ("/s/d", "folder", "/t/d", "folder", Ok(("/t/d", None))),
            ("/s/d/.", "folder", "/t/new", "absent", Ok(("/t", Some((".", "new"))))),
            ("/s/d/.", "folder", "/t/d", "folder", Ok(("/t/d", None))),
        ] {
            let planned = plan(&end(source, kind), &end(target, there)).map_err(|failure| failure.message);
            let wanted = outcome.map_err(str::to_owned).map(|(folder, rename)| Plan {
                folder: folder.to_owned(),
                rename: rename.map(|(old, new)| (old.to_owned(), new.to_owned())),
            });
            assert_eq!(planned, wanted, "{source} to {target}");
        }
    }

    #[test]
    fn entries_are_renamed_at_their_beginning() {
        let rename = |old: &str, new: &str| Some((old.to_owned(), new.to_owned()));
        for (name, rule, new) in [
            ("d/x/d", rename("d", "n"), "n/x/d"),
            ("./x", rename(".", "n"), "n/x"),
            ("/bin/", rename("/", "n"), "n/bin/"),
            ("d/", None, "d/"),
        ] {
            assert_eq!(renamed(name.as_bytes(), rule.as_ref()), new.as_bytes(), "{name}");
        }
    }

    #[test]
    fn ends_are_kept() {
        assert_eq!(keep_end("/a/b", "b/."), "/a/b/.");
        assert_eq!(keep_end("/a", "."), "/a/.");
        assert_eq!(keep_end("/", "/"), "/");
        assert_eq!(rebase_name("/l/", "/real"), ("/real/".to_owned(), Some("l".to_owned())));
        assert_eq!(rebase_name("/l/.", "/real"), ("/real/.".to_owned(), None));
        assert_eq!(split_entry("/a/."), ("/a".to_owned(), ".".to_owned()));
        assert_eq!(split_entry("a"), (".".to_owned(), "a".to_owned()));
        assert_eq!(split_entry("/a/b/"), ("/a".to_owned(), "b".to_owned()));
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "[a./:\\PC]{0,20}", name in "\\PC{0,12}") {
            let (folder, entry) = split_entry(&path);
            prop_assert!(!folder.is_empty() && !entry.is_empty());
            let _ = split_argument(&path);
            let _ = renamed(name.as_bytes(), Some(&(entry, "new".to_owned())));
            prop_assert_eq!(clean(&clean(&path)), clean(&path));
        }
    }
}

//! Paths as Docker's archive calls read them.

use nix::fcntl::OFlag;
use runtime_sys::openat2::{Resolve, openat2};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The kernel's own limit is 40 in one walk; ours only ends loops.
const LINKS: usize = 255;

/// Absolute, without empty components, `.` and `..`: taken out of the text, as Go's `filepath.Clean` does.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// As [`clean`], but what the end says is kept: `x/.` and `x/` mean what is in the folder, or what a link leads to.
pub(super) fn absolute(path: &str) -> String {
    let mut cleaned = clean(path);
    if base(path) == "." && !path.is_empty() {
        if !cleaned.ends_with('/') {
            cleaned.push('/');
        }
        cleaned.push('.');
    }
    if path.ends_with('/') && !cleaned.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

/// The last component; `/` of the root, `.` of nothing.
pub(super) fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed {
        "" if path.is_empty() => ".",
        "" => "/",
        _ => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

/// What is before the last component, with the slash, and the component.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |at| at + 1))
}

/// The path with all symbolic links followed; what is not there is taken as it is.
pub(super) fn evaluate(root: BorrowedFd<'_>, path: &str) -> io::Result<String> {
    let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut done: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                done.pop();
                continue;
            }
            _ => {}
        }
        done.push(part);
        let Some(target) = link(root, &format!("/{}", done.join("/")))? else {
            continue;
        };
        links += 1;
        if links > LINKS {
            return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
        }
        if target.starts_with('/') {
            done.clear();
        } else {
            done.pop();
        }
        todo.extend(target.split('/').rev().map(str::to_owned));
    }
    Ok(format!("/{}", done.join("/")))
}

/// Where a symbolic link leads; `None` when `path` is none, or nothing.
fn link(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<String>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let opened = match openat2(root, Path::new(path), flags.bits(), 0, Resolve::IN_ROOT) {
        Ok(opened) => opened,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(e),
    };
    match nix::fcntl::readlinkat(opened.as_fd(), "") {
        Ok(target) => Ok(Some(String::from_utf8_lossy(target.as_bytes()).into_owned())),
        // No link.
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_of_paths_mean_something() {
        for (path, whole, last) in [
            ("a", "/a", "a"),
            ("/a/b/", "/a/b/", "b"),
            ("/a/.", "/a/.", "."),
            ("/a/./", "/a/./", "."),
            ("/", "/", "/"),
            ("/.", "/.", "."),
            (".", "/.", "."),
            ("../../a//b/../c", "/a/c", "c"),
            ("/..", "/", "/"),
        ] {
            assert_eq!(absolute(path), whole, "{path}");
            assert_eq!(base(&absolute(path)), last, "{path}");
        }
        assert_eq!(split("/a/b"), ("/a/", "b"));
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("d/e")).unwrap();
        for (link, target) in [
            ("up", "../../../../d"),
            ("abs", "/d/e"),
            ("d/back", "../abs/x/../.."),
            ("loop", "loop"),
            ("gone", "/no/such/./thing"),
        ] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        let root = std::fs::File::open(dir.path()).unwrap();
        for (path, end) in [
            ("/up", "/d"),
            ("/abs", "/d/e"),
            ("/d/back", "/d"),
            ("/gone", "/no/such/thing"),
            ("/absent/y", "/absent/y"),
        ] {
            assert_eq!(evaluate(root.as_fd(), path).unwrap(), end, "{path}");
        }
        assert!(evaluate(root.as_fd(), "/loop").is_err());
    }

    proptest! {
        #[test]
        fn cleaned_paths_are_clean(path in "[a./\\PC]{0,24}") {
            let cleaned = clean(&path);
            prop_assert!(cleaned.starts_with('/'));
            prop_assert!(cleaned == "/" || !cleaned[1..].split('/').any(|part| matches!(part, "" | "." | "..")));
            prop_assert_eq!(clean(&cleaned), cleaned.clone());
            // What the end adds changes nothing of the way.
            prop_assert_eq!(clean(&absolute(&path)), cleaned);
        }
    }
}

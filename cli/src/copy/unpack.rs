//! A container's tar as local files.
//!
//! The container made it, and may mean harm: it may name files outside of the destination, or make a link first and write
//! through it then. Each name is walked from the destination's descriptor, one component at a time, and no link on the way
//! is followed, whoever made it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, fstatat, futimens, makedev, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use tar::{Archive, Entry, EntryType};

use super::rules::{Plan, renamed};
use crate::failure::{Failure, Result, fail};

/// Unpacks the archive as the plan says.
///
/// # Errors
/// The archive is malformed or leaves its folder; the file system refuses something.
pub fn unpack(plan: &Plan, reader: impl Read) -> Result {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(plan.folder.as_str(), flags, Mode::empty())
        .map_err(|error| Failure::new(format!("{}: {}", plan.folder, error.desc())))?;
    let mut unpacking = Unpacking {
        root: Rc::new(root),
        folders: HashMap::new(),
        times: Vec::new(),
    };
    let mut archive = Archive::new(reader);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = renamed(&entry.path_bytes(), plan.rename.as_ref());
        unpacking.entry(&mut entry, &name, plan)?;
    }
    unpacking.finish();
    Ok(())
}

struct Unpacking {
    root: Rc<OwnedFd>,
    folders: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Folders get mode and time last: making files in them changes both what is allowed and when.
    times: Vec<(Vec<u8>, Mode, TimeSpec)>,
}

/// Open folders kept.
const OPEN_FOLDERS: usize = 64;

impl Unpacking {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>, name: &[u8], plan: &Plan) -> Result {
        let Some(mut names) = parts(name) else {
            fail!("{:?} is outside of {:?}", String::from_utf8_lossy(name), plan.folder);
        };
        let kind = entry.header().entry_type();
        let Some(last) = names.pop() else {
            // The folder itself is there, and stays as it is.
            return Ok(());
        };
        let shown = String::from_utf8_lossy(name).into_owned();
        let failed = |error: Errno| Failure::new(format!("{shown}: {}", error.desc()));
        let mode = Mode::from_bits_truncate(entry.header().mode()? & 0o7777);
        let seconds = i64::try_from(entry.header().mtime()?).unwrap_or_default();
        let time = TimeSpec::new(seconds, 0);
        let folder = self.folder(&names).map_err(failed)?;
        self.make_room(&folder, last, kind, &shown, plan)?;
        let link = entry
            .link_name_bytes()
            .map(std::borrow::Cow::into_owned)
            .unwrap_or_default();
        match kind {
            EntryType::Directory => {
                match mkdirat(&*folder, last, Mode::S_IRWXU) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(failed(error)),
                }
                names.push(last);
                self.times.push((names.join(&b'/'), mode, time));
                return Ok(());
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let made = openat(&*folder, last, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
                let mut file = File::from(made);
                io::copy(entry, &mut file).map_err(|error| Failure::new(format!("{shown}: {error}")))?;
                fchmod(&file, mode).map_err(failed)?;
                return futimens(&file, &time, &time).map_err(failed);
            }
            EntryType::Link => {
                let link = renamed(&link, plan.rename.as_ref());
                let target = parts(&link).and_then(|mut parts| parts.pop().map(|last| (parts, last)));
                let Some((above, target)) = target else {
                    fail!("invalid hardlink {shown:?} -> {:?}", String::from_utf8_lossy(&link));
                };
                let above = self.existing(&above).map_err(failed)?;
                return linkat(&*above, target, &*folder, last, AtFlags::empty()).map_err(failed);
            }
            EntryType::Symlink => symlinkat(link.as_slice(), &*folder, last).map_err(failed)?,
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (major, minor) = (entry.header().device_major()?, entry.header().device_minor()?);
                let device = makedev(major.unwrap_or_default().into(), minor.unwrap_or_default().into());
                let kind = match kind {
                    EntryType::Char => SFlag::S_IFCHR,
                    EntryType::Block => SFlag::S_IFBLK,
                    _ => SFlag::S_IFIFO,
                };
                mknodat(&*folder, last, kind, mode, device).map_err(failed)?;
            }
            other => fail!("{shown}: entries of type {other:?} are not known"),
        }
        utimensat(&*folder, last, &time, &time, UtimensatFlags::NoFollowSymlink).map_err(failed)
    }

    /// Takes away what the entry replaces; a folder and something else do not replace each other.
    fn make_room(&self, folder: &OwnedFd, name: &[u8], kind: EntryType, shown: &str, plan: &Plan) -> Result {
        let Ok(found) = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) else {
            return Ok(());
        };
        let there = found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        match (there, kind == EntryType::Directory) {
            (true, true) => Ok(()),
            (true, false) => fail!(
                "cannot overwrite directory {shown:?} with non-directory {:?}",
                plan.folder
            ),
            (false, true) => fail!(
                "cannot overwrite non-directory {shown:?} with directory {:?}",
                plan.folder
            ),
            (false, false) => unlinkat(folder, name, UnlinkatFlags::NoRemoveDir)
                .map_err(|error| Failure::new(format!("{shown}: {}", error.desc()))),
        }
    }

    /// The folder of these names, made if it is missing.
    fn folder(&mut self, names: &[&[u8]]) -> nix::Result<Rc<OwnedFd>> {
        let key = names.join(&b'/');
        if let Some(folder) = self.folders.get(&key) {
            return Ok(folder.clone());
        }
        let Some((last, above)) = names.split_last() else {
            return Ok(self.root.clone());
        };
        let above = self.folder(above)?;
        let folder = match enter(&above, last) {
            Err(Errno::ENOENT) => {
                mkdirat(&*above, *last, Mode::from_bits_truncate(0o755))?;
                enter(&above, last)?
            }
            folder => folder?,
        };
        if self.folders.len() >= OPEN_FOLDERS {
            self.folders.clear();
        }
        let folder = Rc::new(folder);
        self.folders.insert(key, folder.clone());
        Ok(folder)
    }

    fn existing(&self, names: &[&[u8]]) -> nix::Result<Rc<OwnedFd>> {
        let mut folder = self.root.clone();
        for name in names {
            folder = Rc::new(enter(&folder, name)?);
        }
        Ok(folder)
    }

    fn finish(self) {
        for (name, mode, time) in self.times.iter().rev() {
            let names: Vec<&[u8]> = name.split(|b| *b == b'/').collect();
            // As with the content of a copy that is there already: what cannot be set stays.
            if let Ok(folder) = self.existing(&names) {
                let _ = fchmod(folder.as_fd(), *mode);
                let _ = futimens(folder.as_fd(), time, time);
            }
        }
    }
}

fn enter(above: &OwnedFd, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(above, Path::new(OsStr::from_bytes(name)), flags, Mode::empty())
}

/// A name's components; `None` when it leads out.
fn parts(name: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()?),
            part if part.contains(&0) => return None,
            part => parts.push(part),
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    fn tar_of(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, text) in entries {
            let mut header = tar::Header::new_gnu();
            // The library refuses such names.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_mtime(7);
            let is_file = *kind == EntryType::Regular;
            header.set_size(if is_file { text.len() as u64 } else { 0 });
            if !is_file {
                header.as_mut_bytes()[157..157 + text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_cksum();
            let body = if is_file { text.as_bytes() } else { b"" };
            tar.append(&header, body).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn nothing_is_written_outside() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        for hostile in [
            vec![("../f", EntryType::Regular, "x")],
            vec![("a/../../f", EntryType::Regular, "x")],
            vec![("l", EntryType::Symlink, ".."), ("l/f", EntryType::Regular, "x")],
            vec![("l", EntryType::Symlink, "/"), ("l/tmp/f", EntryType::Regular, "x")],
            vec![("h", EntryType::Link, "../secret")],
            vec![("l", EntryType::Symlink, ".."), ("h", EntryType::Link, "l/secret")],
        ] {
            let _ = fs::remove_dir_all(&out);
            fs::create_dir(&out).unwrap();
            fs::write(dir.path().join("secret"), "s").unwrap();
            let plan = Plan {
                folder: out.to_str().unwrap().to_owned(),
                rename: None,
            };
            let tar = tar_of(&hostile);
            assert!(unpack(&plan, tar.as_slice()).is_err(), "{hostile:?}");
            let names: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            assert_eq!(names.len(), 2, "{hostile:?}: {names:?}");
            assert!(!out.join("h").exists(), "{hostile:?}");
        }
    }

    #[test]
    fn an_absolute_name_begins_at_the_destination() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan {
            folder: dir.path().to_str().unwrap().to_owned(),
            rename: Some(("a".to_owned(), "b".to_owned())),
        };
        let tar = tar_of(&[
            ("/a/", EntryType::Directory, ""),
            ("/a/f", EntryType::Regular, "text"),
            ("/a/h", EntryType::Link, "/a/f"),
        ]);
        unpack(&plan, tar.as_slice()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("b/h")).unwrap(), "text");
    }
}

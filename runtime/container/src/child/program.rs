//! Finding the program and running it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{SFlag, stat};
use nix::unistd::{AccessFlags, access, execve};
use runtime::proto::Step;

use crate::failure::{At, Result, failure};

/// What Docker gives images that set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program ready to run.
pub struct Program {
    path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Looks the program up, as the user who will run it.
    pub fn find(argv: &[OsString], env: &[OsString], home: &OsStr) -> Result<Program> {
        let name = argv
            .first()
            .filter(|name| !name.is_empty())
            .ok_or_else(|| failure(Step::Lookup, "", Errno::ENOENT, "no command specified"))?;
        let path = look_up(name, env)?;
        let mut env: Vec<OsString> = env.to_vec();
        // Docker sets it from the passwd file where it is absent or empty.
        let has_home = env
            .iter()
            .any(|entry| entry.as_bytes().strip_prefix(b"HOME=").is_some_and(|v| !v.is_empty()));
        if !has_home {
            env.retain(|entry| !entry.as_bytes().starts_with(b"HOME="));
            let mut entry = OsString::from("HOME=");
            entry.push(home);
            env.push(entry);
        }
        let all = |items: &[OsString]| -> Result<Vec<CString>> { items.iter().map(|item| c_string(item)).collect() };
        Ok(Program {
            path: c_string(path.as_os_str())?,
            argv: all(argv)?,
            env: all(&env)?,
        })
    }

    /// Becomes the program.
    pub fn run(&self) -> Result<Infallible> {
        execve(&self.path, &self.argv, &self.env).at(Step::Exec, OsStr::from_bytes(self.path.as_bytes()))
    }
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.to_owned().into_vec()).map_err(|_| failure(Step::Plan, text, Errno::EINVAL, "holds a zero byte"))
}

fn look_up(name: &OsStr, env: &[OsString]) -> Result<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        executable(&path).at(Step::Lookup, name)?;
        return Ok(path);
    }
    let path = env
        .iter()
        .rev()
        .find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let mut refused = None;
    for folder in path.unwrap_or(DEFAULT_PATH.as_bytes()).split(|&byte| byte == b':') {
        let folder = if folder.is_empty() {
            Path::new(".")
        } else {
            Path::new(OsStr::from_bytes(folder))
        };
        let candidate = folder.join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => refused = Some(Errno::EACCES),
            Err(_) => {}
        }
    }
    // A file that is there but may not be run is a better answer than "not found".
    match refused {
        Some(errno) => Err(failure(Step::Lookup, name, errno, "")),
        None => Err(failure(
            Step::Lookup,
            name,
            Errno::ENOENT,
            "executable file not found in $PATH",
        )),
    }
}

fn executable(path: &Path) -> nix::Result<()> {
    let about = stat(path)?;
    if SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    // No bit at all stops even those who may override permissions.
    if about.st_mode & 0o111 == 0 {
        return Err(Errno::EACCES);
    }
    access(path, AccessFlags::X_OK)
}

//! Keeps containers from writing to this program (CVE-2019-5736).
//!
//! A process of a container can get hold of the program that made it: as `/proc/PID/exe` of a process that joins, or by
//! having itself run as `#!/proc/self/exe`. Opened for writing once nobody runs it, the program of the host would be
//! theirs. So this program runs from a read-only view of itself that belongs to no mount namespace: through it nothing can
//! be written, and once it is closed nobody can change it. That costs one more `exec`, and no copy.
//!
//! The static program has done it before it comes here (`runtime_sys::entry`); what is here then finds it done, or says why
//! it cannot be.

use std::os::fd::AsFd;

use nix::fcntl::{AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use runtime_sys::mount::{self, attr};

use crate::error::{Context, Result};

/// The verbs that bring this program into the reach of a container.
const VERBS: [&str; 3] = ["create", "run", "exec"];

/// Goes on in the read-only view, from the beginning; returns when we are in it already, or when nothing is started. (A
/// value that is called like a verb costs time and nothing else.)
pub fn protect() -> Result<()> {
    if !std::env::args_os().any(|argument| VERBS.iter().any(|verb| argument == *verb)) {
        return Ok(());
    }
    let what = "cannot protect this program from containers";
    let exe = open("/proc/self/exe", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context(what)?;
    // What cannot be written through the very mount that we run from cannot be written by a container.
    if fstatvfs(&exe).context(what)?.flags().contains(FsFlags::ST_RDONLY) || !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let view = mount::clone_tree_of(exe.as_fd(), false).context(what)?;
    mount::set_attributes(view.as_fd(), attr::RDONLY, 0, 0, false).context(what)?;
    let (mut argv, mut env) = (Vec::new(), Vec::new());
    for argument in std::env::args_os() {
        argv.push(c_string(argument)?);
    }
    for (name, value) in std::env::vars_os() {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        env.push(c_string(entry)?);
    }
    let done = nix::unistd::execveat(&view, c"", &argv, &env, AtFlags::AT_EMPTY_PATH);
    done.map(|never| match never {}).context(what)
}

fn c_string(text: std::ffi::OsString) -> Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::CString::new(text.into_vec()).context("an argument holds a NUL")
}

//! What a shim gives up when it has made its process (docs/adr/0009): from then on it moves bytes, waits, and cleans up.
//!
//! ```text
//! capabilities   signals to any user; for a container, files and groups that the container gave to other users
//! files          for a container: its exit record, log, socket, groups and resource class; for an exec: none (Landlock)
//! system calls   a list; no process, program, namespace, mount, socket or executable memory can be made
//! ```
//!
//! Nothing of it reaches a container: the process exists already, and there is no other.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use runtime::plan::{Head, LogTarget};
use runtime::proto::Step;
use runtime_container::failure::{At, Result};
use runtime_sys::landlock::{Ruleset, access};
use runtime_sys::privilege::{self, Capabilities};
use runtime_sys::seccomp;

use crate::filter;

const DAC_OVERRIDE: u64 = 1 << 1;
const KILL: u64 = 1 << 5;

/// Where files are made anew, replaced and removed.
const RECORDS: u64 = access::READ_FILE
    | access::WRITE_FILE
    | access::READ_DIR
    | access::MAKE_REG
    | access::REMOVE_FILE
    | access::TRUNCATE;

/// Where groups are looked at, emptied and removed.
const GROUPS: u64 = access::READ_FILE | access::READ_DIR | access::REMOVE_DIR;

/// Gives up everything that is not needed for what is left to do: of `container`, or of an exec when there is none.
///
/// # Errors
/// A kernel without Landlock or filters has none of them to offer; everything else is an error.
pub fn give_up(container: Option<&Head>) -> Result<()> {
    let kept = KILL | container.map_or(0, |_| DAC_OVERRIDE);
    capabilities(kept).at(Step::Capabilities, "of the shim")?;
    privilege::no_new_privileges().at(Step::Capabilities, "of the shim")?;
    if let Some(rules) = Ruleset::new().at(Step::Capabilities, "files of the shim")? {
        if let Some(head) = container {
            files(&rules, head)?;
        }
        rules.restrict_self().at(Step::Capabilities, "files of the shim")?;
    }
    match filter::program() {
        Some(program) if seccomp::has_action(filter::ACTION) => seccomp::load(&program, 0, false)
            .map(drop)
            .at(Step::Seccomp, "of the shim"),
        _ => Ok(()),
    }
}

fn capabilities(kept: u64) -> std::io::Result<()> {
    for capability in 0..64 {
        match privilege::drop_bounding(capability) {
            // Past the last one that the kernel knows; or, for whoever has none to give away, no matter.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)) => break,
            other => other?,
        }
    }
    let held = privilege::capabilities()?.permitted & kept;
    privilege::set_capabilities(Capabilities {
        effective: held,
        permitted: held,
        inheritable: 0,
    })?;
    privilege::clear_ambient()
}

fn files(rules: &Ruleset, head: &Head) -> Result<()> {
    let allow = |folder: Option<&Path>, rights: u64| -> Result<()> {
        let Some(folder) = folder else { return Ok(()) };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match nix::fcntl::open(folder, flags, Mode::empty()) {
            Ok(open) => rules.allow(open.as_fd(), rights).at(Step::Capabilities, folder),
            // What is not there now can only come below one that is.
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(errno) => Err(errno).at(Step::Capabilities, folder),
        }
    };
    let log = match &head.log {
        LogTarget::None => None,
        LogTarget::Local { path, .. } | LogTarget::JsonFile { path, .. } => path.parent(),
    };
    allow(head.exit_file.parent(), RECORDS)?;
    allow(log, RECORDS)?;
    allow(head.socket.parent(), access::REMOVE_FILE)?;
    for own in &head.cgroup.own {
        allow(Some(own), access::WRITE_FILE)?;
    }
    // A group is removed from its parent, and those of an update are not there yet.
    let groups = head.cgroup.own.iter().chain(&head.cgroup.late);
    let mut done: Option<&Path> = None;
    for parent in groups.filter_map(|group| group.parent()) {
        if done != Some(parent) {
            allow(Some(parent), GROUPS)?;
        }
        done = Some(parent);
    }
    if let Some(class) = &head.rdt {
        allow(class.folder.parent(), access::REMOVE_DIR)?;
    }
    Ok(())
}

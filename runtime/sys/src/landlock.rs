//! Giving up access to files for good: `landlock(7)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::cvt::{check, check_fd};

/// What may be done to files below a folder: `LANDLOCK_ACCESS_FS_*`.
pub mod access {
    /// Open to write.
    pub const WRITE_FILE: u64 = 1 << 1;
    /// Open to read.
    pub const READ_FILE: u64 = 1 << 2;
    /// List.
    pub const READ_DIR: u64 = 1 << 3;
    /// Remove or rename an empty folder.
    pub const REMOVE_DIR: u64 = 1 << 4;
    /// Remove or rename a file.
    pub const REMOVE_FILE: u64 = 1 << 5;
    /// Make or rename a regular file.
    pub const MAKE_REG: u64 = 1 << 8;
    /// Cut a file off. Since version 3.
    pub const TRUNCATE: u64 = 1 << 14;
}

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

/// Everything that a version of the kernel's interface can refuse: what is not named here is not refused.
fn handled(version: libc::c_long) -> u64 {
    match version {
        1 => (1 << 13) - 1,
        2 => (1 << 14) - 1,
        3 | 4 => (1 << 15) - 1,
        // And device ioctls on what is opened from then on. Newer versions add nothing about files.
        _ => (1 << 16) - 1,
    }
}

/// `struct landlock_ruleset_attr` of the first version; the kernel takes the rest as zeros.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

/// `struct landlock_path_beneath_attr`, which the kernel's header declares packed.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// What a process may still do to files. At first nothing.
#[derive(Debug)]
pub struct Ruleset {
    fd: OwnedFd,
    handled: u64,
}

impl Ruleset {
    /// Begins a set of rules: `landlock_create_ruleset(2)`. `None`: the kernel has no Landlock, or it is switched off.
    ///
    /// # Errors
    /// As `landlock_create_ruleset(2)`.
    pub fn new() -> io::Result<Option<Ruleset>> {
        let none = std::ptr::null::<RulesetAttr>();
        // SAFETY: with the flag the kernel reads nothing and returns a number.
        let version =
            check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, CREATE_RULESET_VERSION) });
        let version = match version {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EPERM)
                ) =>
            {
                return Ok(None);
            }
            other => other?,
        };
        let attributes = RulesetAttr {
            handled_access_fs: handled(version),
        };
        let size = size_of::<RulesetAttr>();
        // SAFETY: the attributes live across the call and the size is theirs; the result is a new descriptor
        // (close-on-exec by definition).
        let fd = unsafe {
            check_fd(libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attributes,
                size,
                0u32,
            ))
        }?;
        Ok(Some(Ruleset {
            fd,
            handled: attributes.handled_access_fs,
        }))
    }

    /// Allows `access` to what is below `folder`, as far as this kernel tells it apart: `landlock_add_rule(2)`.
    ///
    /// # Errors
    /// As `landlock_add_rule(2)`.
    pub fn allow(&self, folder: BorrowedFd<'_>, access: u64) -> io::Result<()> {
        let rule = PathBeneath {
            allowed_access: access & self.handled,
            parent_fd: folder.as_raw_fd(),
        };
        // SAFETY: the rule lives across the call and is of the kernel's layout for this type of rule.
        check(unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.fd.as_raw_fd(),
                RULE_PATH_BENEATH,
                &raw const rule,
                0u32,
            )
        })
        .map(drop)
    }

    /// Puts the rules in force for the calling thread and what it makes: `landlock_restrict_self(2)`. Takes
    /// `no_new_privs` or `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// As `landlock_restrict_self(2)`.
    pub fn restrict_self(self) -> io::Result<()> {
        // SAFETY: takes numbers.
        check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.fd.as_raw_fd(), 0u32) }).map(drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    #[test]
    fn what_is_not_allowed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        fs::write(&outside, "text").unwrap();
        // The rules are a thread's own.
        let tried = std::thread::spawn(move || {
            let rules = Ruleset::new().unwrap()?;
            let rights = access::WRITE_FILE | access::MAKE_REG | access::TRUNCATE;
            rules.allow(File::open(&inside).unwrap().as_fd(), rights).unwrap();
            crate::privilege::no_new_privileges().unwrap();
            rules.restrict_self().unwrap();
            let read = fs::read(&outside).map_err(|error| error.kind());
            let removed = fs::remove_file(&outside).map_err(|error| error.kind());
            Some((fs::write(inside.join("new"), "text").is_ok(), read, removed))
        });
        let refused = io::ErrorKind::PermissionDenied;
        match tried.join().unwrap() {
            Some(tried) => assert_eq!(tried, (true, Err(refused), Err(refused))),
            None => println!("skipped: this kernel has no Landlock"),
        }
    }
}

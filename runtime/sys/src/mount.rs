//! The mount API of Linux 5.2 and later: mounts are made detached, by descriptor, and attached when they are complete.
//! No path of the container is ever handed to the kernel for a mount.

use std::ffi::CStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::cvt::{c_bytes, c_path, check, check_fd};

/// `MOUNT_ATTR_*` of `linux/mount.h`.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-ID bits are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes are ignored.
    pub const NODEV: u64 = 0x4;
    /// Nothing is executed.
    pub const NOEXEC: u64 = 0x8;
    /// Mask of the access time modes.
    pub const ATIME: u64 = 0x70;
    /// Access times are not kept.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always kept.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of folders are not kept.
    pub const NODIRATIME: u64 = 0x80;
    /// Files belong to other users than on disk.
    pub(super) const IDMAP: u64 = 0x10_0000;
    /// Symlinks are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// Longest value that `fsconfig` takes as a string.
const STRING_LIMIT: usize = 255;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_SET_FD: u32 = 5;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSCONFIG_CMD_RECONFIGURE: u32 = 7;
const FSPICK_CLOEXEC: u32 = 1;
const FSPICK_EMPTY_PATH: u32 = 8;

/// A file system that is being configured: `fsopen(2)`.
#[derive(Debug)]
pub struct Filesystem(OwnedFd);

impl Filesystem {
    /// Takes up the file system of a mount, to change its options: `fspick(2)`.
    ///
    /// # Errors
    /// As `fspick(2)`.
    pub fn of_mount(mount: BorrowedFd<'_>) -> io::Result<Filesystem> {
        let flags = FSPICK_CLOEXEC | FSPICK_EMPTY_PATH;
        // SAFETY: the empty string is static; with the flag the mount is the descriptor itself; the result is a new one.
        unsafe { check_fd(libc::syscall(libc::SYS_fspick, mount.as_raw_fd(), c"".as_ptr(), flags)) }.map(Filesystem)
    }

    /// Puts changed options into force: `fsconfig(2)`.
    ///
    /// # Errors
    /// As `fsconfig(2)`.
    pub fn reconfigure(&self) -> io::Result<()> {
        self.config(FSCONFIG_CMD_RECONFIGURE, None, None, 0)
    }

    /// Begins a new instance of a file system.
    ///
    /// # Errors
    /// As `fsopen(2)`; `ENODEV` when the kernel does not know `fstype`.
    pub fn open(fstype: &str) -> io::Result<Filesystem> {
        let name = c_bytes(fstype.as_bytes())?;
        // SAFETY: `name` lives across the call; the result is a new descriptor.
        unsafe { check_fd(libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC)) }.map(Filesystem)
    }

    /// Sets an option without a value.
    ///
    /// # Errors
    /// As `fsconfig(2)`.
    pub fn flag(&self, key: &str) -> io::Result<()> {
        self.config(FSCONFIG_SET_FLAG, Some(&c_bytes(key.as_bytes())?), None, 0)
    }

    /// Sets an option whose value is a path, by a descriptor where its name is too long.
    ///
    /// # Errors
    /// As `fsconfig(2)` and `open(2)`. Kernels before 6.13 take no descriptor for the layers of an overlay.
    pub fn path(&self, key: &str, path: &Path) -> io::Result<()> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() <= STRING_LIMIT {
            return self.string(key, bytes);
        }
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let folder = nix::fcntl::open(path, flags, Mode::empty())?;
        self.file(key, folder.as_fd())
    }

    /// Sets an option. The kernel takes values shorter than 256 bytes.
    ///
    /// # Errors
    /// As `fsconfig(2)`.
    pub fn string(&self, key: &str, value: &[u8]) -> io::Result<()> {
        self.config(
            FSCONFIG_SET_STRING,
            Some(&c_bytes(key.as_bytes())?),
            Some(&c_bytes(value)?),
            0,
        )
    }

    /// Sets an option whose value is an open file (overlayfs' folders since Linux 6.13).
    ///
    /// # Errors
    /// As `fsconfig(2)`.
    pub fn file(&self, key: &str, value: BorrowedFd<'_>) -> io::Result<()> {
        self.config(
            FSCONFIG_SET_FD,
            Some(&c_bytes(key.as_bytes())?),
            None,
            value.as_raw_fd(),
        )
    }

    /// Makes the instance and a detached mount of it with `attributes` ([`attr`]).
    ///
    /// # Errors
    /// As `fsconfig(2)` and `fsmount(2)`.
    pub fn mount(&self, attributes: u64) -> io::Result<OwnedFd> {
        self.config(FSCONFIG_CMD_CREATE, None, None, 0)?;
        // SAFETY: takes a descriptor and numbers; the result is a new descriptor.
        unsafe {
            check_fd(libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes as u32,
            ))
        }
    }

    /// What the kernel has to say about the last failure; often empty.
    pub fn complaint(self) -> String {
        let mut text = [0u8; 512];
        let mut log = std::fs::File::from(self.0);
        let count = log.read(&mut text).unwrap_or(0);
        // Each message begins with its level: "e " for errors.
        let text = String::from_utf8_lossy(text.get(..count).unwrap_or_default()).into_owned();
        text.trim().strip_prefix("e ").map(str::to_owned).unwrap_or_default()
    }

    fn config(&self, command: u32, key: Option<&CStr>, value: Option<&CStr>, aux: i32) -> io::Result<()> {
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: the strings live across the call; which of them may be null follows from the command, and the
        // callers above keep to it.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, aux) }).map(drop)
    }
}

/// A detached copy of the mount at `path`, with what is mounted below it when `recursive`: `open_tree(2)`.
///
/// # Errors
/// As `open_tree(2)`.
pub fn clone_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    open_tree(libc::AT_FDCWD, path, if recursive { AT_RECURSIVE } else { 0 })
}

/// As [`clone_tree`], of what an open file stands for.
///
/// # Errors
/// As `open_tree(2)`.
pub fn clone_tree_of(file: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    open_tree(
        file.as_raw_fd(),
        Path::new(""),
        AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 },
    )
}

fn open_tree(dir: i32, path: &Path, flags: u32) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let flags = flags | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    // SAFETY: `path` lives across the call; the result is a new descriptor.
    unsafe { check_fd(libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags)) }
}

/// Attaches a detached mount at the place that `target` has open: `move_mount(2)`.
///
/// # Errors
/// As `move_mount(2)`.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let empty = c"".as_ptr();
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: the empty string is static; with the two flags both ends are the descriptors themselves.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            empty,
            target.as_raw_fd(),
            empty,
            flags,
        )
    })
    .map(drop)
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes attributes ([`attr`]) and propagation (`MS_PRIVATE`, …; 0 keeps it) of a mount, and of everything below it
/// when `recursive`: `mount_setattr(2)`. All or nothing.
///
/// # Errors
/// As `mount_setattr(2)`.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> io::Result<()> {
    change(
        mount,
        &MountAttr {
            set,
            clear,
            propagation,
            userns_fd: 0,
        },
        recursive,
    )
}

/// Shows the files of a detached mount (and of those below it when `recursive`) as those of the users that `namespace`, a
/// user namespace, has for their owners: `MOUNT_ATTR_IDMAP` of `mount_setattr(2)`.
///
/// # Errors
/// As `mount_setattr(2)`; `EINVAL` when the file system cannot be mapped or is mapped already, `EPERM` for the initial
/// namespace or without rights over the file system.
pub fn map_ids(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    change(
        mount,
        &MountAttr {
            set: attr::IDMAP,
            clear: 0,
            propagation: 0,
            userns_fd: namespace.as_raw_fd() as u64,
        },
        recursive,
    )
}

fn change(mount: BorrowedFd<'_>, attributes: &MountAttr, recursive: bool) -> io::Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let size = size_of::<MountAttr>();
    // SAFETY: the strings and the struct live across the call, and the size is that of the struct.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size,
        )
    })
    .map(drop)
}

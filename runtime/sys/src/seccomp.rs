//! System call filters: `seccomp(2)`, and the descriptor by which a filter asks somebody else (`seccomp_unotify(2)`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use crate::cvt::{check, check_fd};

// <linux/seccomp.h>
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const FLAG_TSYNC: u32 = 1;
const FLAG_NEW_LISTENER: u32 = 1 << 3;
const FLAG_TSYNC_ESRCH: u32 = 1 << 4;
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;
const USER_NOTIF_FLAG_CONTINUE: u32 = 1;

fn invalid() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

/// Loads a program (an array of `struct sock_filter`, 8 bytes each) for the calling thread; with `listen`, returns the
/// descriptor that tells of its notifications, which is closed on exec. The flags for that are added here.
///
/// # Errors
/// `EINVAL` when the program is no such array; `ESRCH` when another thread cannot take it (`TSYNC`); else as `seccomp(2)`,
/// which is `EBUSY` when a filter in force has a listener already.
pub fn load(program: &[u8], flags: u32, listen: bool) -> io::Result<Option<OwnedFd>> {
    let (instructions, rest) = program.as_chunks::<8>();
    // Whether there is a new descriptor to own must be known from `listen` alone.
    if !rest.is_empty() || flags & FLAG_NEW_LISTENER != 0 {
        return Err(invalid());
    }
    let mut filter: Vec<libc::sock_filter> = instructions
        .iter()
        .map(|raw| libc::sock_filter {
            code: u16::from_ne_bytes([raw[0], raw[1]]),
            jt: raw[2],
            jf: raw[3],
            k: u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| invalid())?,
        filter: filter.as_mut_ptr(),
    };
    // A thread that cannot follow is told of by its number, which is no error by the look of it; with this flag it is.
    let flags = match flags & FLAG_TSYNC {
        0 => flags,
        _ => flags | FLAG_TSYNC_ESRCH,
    };
    let load = |flags: u32| {
        // SAFETY: `program` points to `filter`, and both live across the call; the kernel checks the instructions.
        unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) }
    };
    if listen {
        // SAFETY: with NEW_LISTENER, and TSYNC only with TSYNC_ESRCH, success is a new descriptor and nothing else.
        return unsafe { check_fd(load(flags | FLAG_NEW_LISTENER)) }.map(Some);
    }
    check(load(flags)).map(|_| None)
}

/// Whether the kernel has an action (`SECCOMP_RET_*`).
pub fn has_action(action: u32) -> bool {
    // SAFETY: the operation reads the 32 bits behind the pointer, which live across the call.
    unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// Whether the kernel has a flag (`SECCOMP_FILTER_FLAG_*`). No filter is loaded.
pub fn has_flag(flag: u32) -> bool {
    let flags = match flag {
        // Means something with a listener only.
        FLAG_WAIT_KILLABLE_RECV => flag | FLAG_NEW_LISTENER,
        _ => flag,
    };
    let none = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: the kernel looks at the flags first, and a null program is EFAULT.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, none) };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// A call that waits for an answer: `struct seccomp_notif`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Notification {
    /// For the answer.
    pub id: u64,
    /// The caller, as the listener's pid namespace numbers it; 0 when it does not.
    pub pid: u32,
    flags: u32,
    /// Which call.
    pub number: i32,
    /// `AUDIT_ARCH_*`
    pub arch: u32,
    instruction: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is carried out.
    Continue,
    /// It returns this, without being carried out.
    Value(i64),
    /// It fails with this error.
    Error(i32),
}

/// `struct seccomp_notif_resp`
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const fn read_write(number: u32, size: usize) -> u64 {
    (3 << 30) | ((size as u64) << 16) | ((b'!' as u64) << 8) | number as u64
}

/// Waits for a call: `SECCOMP_IOCTL_NOTIF_RECV`.
///
/// # Errors
/// As `ioctl(2)`; `ENOENT` when the caller died meanwhile.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    // The kernel insists on zeros.
    let mut notification = Notification::default();
    let request = read_write(0, size_of::<Notification>());
    // SAFETY: the request's size is that of the structure, which is of the kernel's layout and lives across the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), request as _, &raw mut notification) }.into())?;
    Ok(notification)
}

/// Answers a call: `SECCOMP_IOCTL_NOTIF_SEND`.
///
/// # Errors
/// As `ioctl(2)`; `ENOENT` when the caller no longer waits.
pub fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> io::Result<()> {
    let (value, error, flags) = match answer {
        Answer::Continue => (0, 0, USER_NOTIF_FLAG_CONTINUE),
        Answer::Value(value) => (value, 0, 0),
        Answer::Error(errno) => (0, -errno, 0),
    };
    let response = Response {
        id,
        value,
        error,
        flags,
    };
    let request = read_write(1, size_of::<Response>());
    // SAFETY: the request's size is that of the structure, which is of the kernel's layout and lives across the call.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), request as _, &raw const response) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_the_kernel_has_is_asked_without_loading() {
        assert!(has_action(0x7fff_0000) && !has_action(0x1234_0000));
        assert!(has_flag(FLAG_TSYNC) && !has_flag(1 << 30));
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(status.contains("Seccomp:\t0"), "{status}");
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for (program, flags) in [(&[0u8; 7][..], 0), (&[0u8; 8][..], FLAG_NEW_LISTENER)] {
            let error = load(program, flags, false).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    }

    #[test]
    fn a_thread_that_cannot_follow_is_an_error() {
        // SECCOMP_RET_ALLOW
        let allow: Vec<u8> = [6u16.to_ne_bytes(), [0, 0]]
            .concat()
            .into_iter()
            .chain(0x7fff_0000u32.to_ne_bytes())
            .collect();
        // Another thread has a filter that this one does not have.
        let (loaded, wait) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let program = allow.clone();
        let other = std::thread::spawn(move || {
            crate::privilege::no_new_privileges().unwrap();
            load(&program, 0, false).unwrap();
            loaded.send(()).unwrap();
            let _ = ended.recv();
        });
        wait.recv().unwrap();
        for listen in [false, true] {
            let program = allow.clone();
            let result = std::thread::spawn(move || {
                crate::privilege::no_new_privileges().unwrap();
                load(&program, FLAG_TSYNC, listen).map(drop)
            });
            let error = result.join().unwrap().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "{listen}");
        }
        drop(end);
        other.join().unwrap();
    }
}

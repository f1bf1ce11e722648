//! Message sockets (`AF_UNIX`, `SOCK_SEQPACKET`) that carry descriptors.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::cvt::{c_path, check, check_fd};

/// Most descriptors in one message (the kernel's `SCM_MAX_FD` is 253).
pub const MAX_FDS: usize = 64;

const SOCKET: i32 = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;

/// Two connected sockets, both blocking: `socketpair(2)`.
///
/// # Errors
/// As `socketpair(2)`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors, which the kernel makes for us on success.
    unsafe {
        check(libc::socketpair(libc::AF_UNIX, SOCKET, 0, fds.as_mut_ptr()).into())?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Calls `with` with an address for `path`. Longer ones than an address takes (107 bytes) go through their open folder.
fn with_address<T>(path: &Path, with: impl FnOnce(&libc::sockaddr_un) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() < 108 {
        return with(&address(path)?);
    }
    let (folder, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
    let folder = c_path(folder)?;
    // SAFETY: the path lives across the call; the result is a new descriptor.
    let folder =
        unsafe { check_fd(libc::open(folder.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC).into()) }?;
    with(&address(
        &Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name),
    )?)
}

fn address(path: &Path) -> io::Result<libc::sockaddr_un> {
    let bytes = path.as_os_str().as_bytes();
    let mut address = libc::sockaddr_un {
        sun_family: libc::AF_UNIX as libc::sa_family_t,
        sun_path: [0; 108],
    };
    // One byte stays for the terminating zero.
    if bytes.is_empty() || bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(address)
}

/// A non-blocking socket that listens at `path`, which must not exist: `bind(2)`, `listen(2)`.
///
/// # Errors
/// As those.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; the result is a new descriptor.
    let socket = unsafe { check_fd(libc::socket(libc::AF_UNIX, SOCKET | libc::SOCK_NONBLOCK, 0).into()) }?;
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    with_address(path, |address| {
        // SAFETY: the address lives across the call, and the length is its own.
        check(unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(address).cast(), length) }.into())
    })?;
    // SAFETY: takes numbers.
    check(unsafe { libc::listen(socket.as_raw_fd(), 16) }.into())?;
    Ok(socket)
}

/// The next connection, non-blocking: `accept4(2)`.
///
/// # Errors
/// As `accept4(2)`.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the peer's address is not asked for; the result is a new descriptor.
    unsafe { check_fd(libc::accept4(listener.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags).into()) }
}

/// A non-blocking connection to the listener at `path`: `connect(2)`. Unix sockets connect at once or fail.
///
/// # Errors
/// As `connect(2)`; `ECONNREFUSED` when nobody listens there any more.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers; the result is a new descriptor.
    let socket = unsafe { check_fd(libc::socket(libc::AF_UNIX, SOCKET | libc::SOCK_NONBLOCK, 0).into()) }?;
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    with_address(path, |address| {
        // SAFETY: the address lives across the call, and the length is its own.
        check(unsafe { libc::connect(socket.as_raw_fd(), std::ptr::from_ref(address).cast(), length) }.into())
    })?;
    Ok(socket)
}

/// Room for a control message with [`MAX_FDS`] descriptors, aligned as the kernel's header wants it.
#[repr(C, align(8))]
struct Control([u8; 16 + MAX_FDS * 4]);

/// Sends one message: `sendmsg(2)`, without `SIGPIPE`.
///
/// # Errors
/// As `sendmsg(2)`; `EINVAL` for more than [`MAX_FDS`] descriptors; `EMSGSIZE` for more than the socket's buffer holds.
pub fn send(socket: BorrowedFd<'_>, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut part = libc::iovec {
        iov_base: message.as_ptr().cast_mut().cast(),
        iov_len: message.len(),
    };
    let mut control = Control([0; 16 + MAX_FDS * 4]);
    // SAFETY: an all-zero msghdr is a valid, empty one.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if !fds.is_empty() {
        let payload = (fds.len() * size_of::<i32>()) as u32;
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: pure arithmetic.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as usize;
        // SAFETY: the control buffer is large enough for the header and MAX_FDS descriptors and aligned for them.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(payload) as usize;
            let data = libc::CMSG_DATA(first).cast::<i32>();
            for (index, fd) in fds.iter().enumerate() {
                data.add(index).write_unaligned(fd.as_raw_fd());
            }
        }
    }
    // SAFETY: everything that `header` points to lives across the call. The kernel only reads the message.
    check(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) } as libc::c_long)?;
    Ok(())
}

/// How long the next message is, which stays in the socket; `None` at the end: `recv(2)` with `MSG_PEEK | MSG_TRUNC`.
///
/// # Errors
/// As `recv(2)`.
pub fn next_length(socket: BorrowedFd<'_>) -> io::Result<Option<usize>> {
    let flags = libc::MSG_PEEK | libc::MSG_TRUNC;
    // SAFETY: no room is given and none is used.
    let length = check(unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), 0, flags) } as libc::c_long)?;
    // Nobody here sends empty messages, so that 0 is the end of the stream (or a message to be refused anyway).
    Ok(if length == 0 { None } else { Some(length as usize) })
}

/// Receives one message into `buffer`, and its descriptors (close-on-exec): `recvmsg(2)`. 0 is the end.
///
/// # Errors
/// As `recvmsg(2)`; `EMSGSIZE` when message or descriptors did not fit (whatever did arrive is closed).
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut control = Control([0; 16 + MAX_FDS * 4]);
    // SAFETY: an all-zero msghdr is a valid, empty one.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    // SAFETY: everything that `header` points to lives across the call and may be written.
    let count =
        check(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) } as libc::c_long)?;
    let mut fds = Vec::new();
    // SAFETY: the kernel wrote well-formed control messages of msg_controllen bytes into our buffer; the descriptors in
    // SCM_RIGHTS were made for us.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(message) = next.as_ref() {
            if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
                let bytes = message.cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(message).cast::<i32>();
                for index in 0..bytes / size_of::<i32>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            next = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok((count as usize, fds))
}

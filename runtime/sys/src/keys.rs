//! The kernel's keyrings, for tests of who may see which key: `add_key(2)`, `keyctl(2)`.

use std::io;

use crate::cvt::{c_bytes, check};

/// A key's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(i32);

/// Puts a key of type `user` into the session keyring: `add_key(2)`.
///
/// # Errors
/// As `add_key(2)`; `ENOSYS` on kernels without keys.
pub fn add_to_session(name: &str, payload: &[u8]) -> io::Result<Key> {
    let name = c_bytes(name.as_bytes())?;
    let kind = c"user".as_ptr();
    let ring = libc::KEY_SPEC_SESSION_KEYRING;
    // SAFETY: the strings and the payload live across the call, and the length is the payload's.
    check(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            kind,
            name.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            ring,
        )
    })
    .map(|key| Key(key as i32))
}

/// Looks for a key of type `user` in the session keyring and what it links: `KEYCTL_SEARCH`.
///
/// # Errors
/// As `keyctl_search(3)`; `ENOKEY` when there is none.
pub fn search_session(name: &str) -> io::Result<Key> {
    let name = c_bytes(name.as_bytes())?;
    let kind = c"user".as_ptr();
    let ring = libc::KEY_SPEC_SESSION_KEYRING;
    // SAFETY: the strings live across the call; no destination keyring is named.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SEARCH, ring, kind, name.as_ptr(), 0) })
        .map(|key| Key(key as i32))
}

/// What a key holds, at most 4096 bytes: `KEYCTL_READ`.
///
/// # Errors
/// As `keyctl_read(3)`.
pub fn read(key: Key) -> io::Result<Vec<u8>> {
    let mut payload = vec![0; 4096];
    // SAFETY: the room lives across the call, and the length is its own.
    let length = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_READ,
            key.0,
            payload.as_mut_ptr(),
            payload.len(),
        )
    })?;
    payload.truncate(length as usize);
    Ok(payload)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_until_the_session_keyring_is_left() {
        // Its own thread, for the keyring belongs to the thread.
        std::thread::spawn(|| {
            if crate::privilege::leave_session_keyring().is_err() {
                return;
            }
            add_to_session("runtime-sys-test", b"payload").unwrap();
            let found = search_session("runtime-sys-test").unwrap();
            assert_eq!(read(found).unwrap(), b"payload");
            crate::privilege::leave_session_keyring().unwrap();
            assert!(search_session("runtime-sys-test").is_err());
        })
        .join()
        .unwrap();
    }
}

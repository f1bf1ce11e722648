//! Names of a UTS namespace.

use std::io;

use crate::cvt::check;

/// Sets the NIS domain name: `setdomainname(2)`. Unlike `/proc/sys/kernel/domainname`, which is the host root's alone, it
/// is open to whoever has `CAP_SYS_ADMIN` over the namespace.
///
/// # Errors
/// As `setdomainname(2)`; `EINVAL` above 64 bytes.
pub fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: the kernel reads `len` bytes and no zero byte after them; the text lives across the call.
    check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

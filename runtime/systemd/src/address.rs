//! Where a bus listens: the part of D-Bus addresses that a machine's own bus has.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::SocketAddr;

/// The system bus, when the environment says nothing.
pub const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";

/// The sockets of an address such as `unix:path=/run/bus,guid=…;unix:abstract=x`, in order; transports that we do not
/// speak are left out.
pub fn sockets(address: &str) -> Vec<io::Result<SocketAddr>> {
    address.split(';').filter_map(socket).collect()
}

fn socket(address: &str) -> Option<io::Result<SocketAddr>> {
    address.strip_prefix("unix:")?.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = unescape(value)?;
        match key {
            "path" => Some(SocketAddr::from_pathname(value)),
            "abstract" => Some(SocketAddr::from_abstract_name(value.as_bytes())),
            _ => None,
        }
    })
}

/// `%2c` → `,`
fn unescape(value: &str) -> Option<OsString> {
    let mut bytes = value.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    Some(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::path::Path;

    #[test]
    fn addresses_are_read() {
        let found: Vec<_> =
            sockets("tcp:host=h;unix:guid=1,path=/a%2cb;unix:abstract=x,y=z;unix:tmpdir=/t;unix:path=%zz")
                .into_iter()
                .map(Result::unwrap)
                .collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].as_pathname(), Some(Path::new("/a,b")));
        assert_eq!(found[1].as_abstract_name(), Some(&b"x"[..]));
        assert_eq!(sockets(SYSTEM_BUS).len(), 1);
        assert!(sockets("").is_empty());
    }
}

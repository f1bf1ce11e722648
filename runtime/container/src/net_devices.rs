//! Interfaces of the host's network namespace that become the container's (`linux.netDevices`), with their addresses.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use runtime::plan::NetDevice;
use runtime::proto::{Failure, Step};
use runtime_sys::netlink::{NetlinkSocket, Protocol};

use crate::Host;
use crate::failure::{At, Result, failure};
use crate::namespaces::Detour;

/// Moves the interfaces into `namespace`, gives them their names, addresses there, and brings them up.
pub fn move_in(host: &Host, devices: &[NetDevice], namespace: BorrowedFd<'_>) -> Result<()> {
    let outside = Link::open().at(Step::NetDevice, "netlink")?;
    let mut moved = Vec::new();
    for device in devices {
        let named = |error: io::Error| named(&device.name, &error);
        let index = outside.index_of(&device.name).map_err(named)?;
        let addresses = outside.addresses(index).map_err(named)?;
        outside.hand_over(index, &device.new_name, namespace).map_err(named)?;
        moved.push((device, addresses));
    }
    let mut detour = Detour::default();
    let entered = detour.enter(host, namespace, libc::CLONE_NEWNET as u64);
    let outcome = entered.and_then(|()| {
        let inside = Link::open().at(Step::NetDevice, "netlink")?;
        for (device, addresses) in &moved {
            let named = |error: io::Error| named(&device.new_name, &error);
            let index = inside.index_of(&device.new_name).map_err(named)?;
            inside.set_up(index).map_err(named)?;
            for address in addresses {
                inside.add_address(index, address).map_err(named)?;
            }
        }
        Ok(())
    });
    detour.home()?;
    outcome
}

fn named(name: &str, error: &io::Error) -> Failure {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    failure(Step::NetDevice, name, errno, "")
}

// <linux/rtnetlink.h>, <linux/if_link.h>, <linux/if_addr.h>
const IFLA_NET_NS_FD: u16 = 28;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_PERMANENT: u32 = 0x80;
const HEADER: usize = 16;
const IFINFO: usize = 16;
const IFADDR: usize = 8;

/// An address as the kernel tells it: what `RTM_NEWADDR` takes again.
struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A conversation with rtnetlink, one request at a time.
struct Link(NetlinkSocket);

impl Link {
    fn open() -> io::Result<Link> {
        NetlinkSocket::open(Protocol::Route).map(Link)
    }

    fn index_of(&self, name: &str) -> io::Result<i32> {
        let mut request = Request::new(libc::RTM_GETLINK, libc::NLM_F_ACK, &ifinfo(0, 0, 0));
        request.attribute(libc::IFLA_IFNAME, &c_name(name));
        let mut index = None;
        self.exchange(&request, |kind, body| {
            if kind == libc::RTM_NEWLINK {
                index = body
                    .get(4..8)
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(i32::from_ne_bytes);
            }
        })?;
        index.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// The addresses that somebody has given to the interface, of global scope; the kernel makes the others by itself.
    fn addresses(&self, index: i32) -> io::Result<Vec<Address>> {
        let request = Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; IFADDR]);
        let mut found = Vec::new();
        self.exchange(&request, |kind, body| {
            let Some((header, rest)) = body.split_at_checked(IFADDR) else {
                return;
            };
            let of = i32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
            if kind != libc::RTM_NEWADDR || of != index || header[3] != libc::RT_SCOPE_UNIVERSE {
                return;
            }
            let all = attributes(rest);
            let flags = all.iter().find(|(kind, _)| *kind == IFA_FLAGS);
            let flags = flags
                .and_then(|(_, value)| value.as_slice().try_into().ok())
                .map(u32::from_ne_bytes);
            if flags.unwrap_or(u32::from(header[2])) & IFA_F_PERMANENT == 0 {
                return;
            }
            let kept = |kind: u16| [libc::IFA_ADDRESS, libc::IFA_LOCAL, IFA_BROADCAST].contains(&kind);
            found.push(Address {
                family: header[0],
                prefix: header[1],
                attributes: all.into_iter().filter(|(kind, _)| kept(*kind)).collect(),
            });
        })?;
        Ok(found)
    }

    fn hand_over(&self, index: i32, name: &str, namespace: BorrowedFd<'_>) -> io::Result<()> {
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &ifinfo(index, 0, 0));
        request.attribute(IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        request.attribute(libc::IFLA_IFNAME, &c_name(name));
        self.exchange(&request, |_, _| {})
    }

    fn set_up(&self, index: i32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        let request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &ifinfo(index, up, up));
        self.exchange(&request, |_, _| {})
    }

    fn add_address(&self, index: i32, address: &Address) -> io::Result<()> {
        let mut header = [address.family, address.prefix, 0, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
        header[4..].copy_from_slice(&index.to_ne_bytes());
        let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let mut request = Request::new(libc::RTM_NEWADDR, flags, &header);
        for (kind, value) in &address.attributes {
            request.attribute(*kind, value);
        }
        self.exchange(&request, |_, _| {})
    }

    /// Sends a request and reads all answers to it.
    fn exchange(&self, request: &Request, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.0.send(&request.bytes())?;
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let count = self.0.receive(&mut buffer)?;
            let mut rest = &buffer[..count];
            while let Some((kind, body, next)) = message(rest) {
                match i32::from(kind) {
                    libc::NLMSG_DONE => return Ok(()),
                    libc::NLMSG_ERROR => {
                        let code = body
                            .get(..4)
                            .and_then(|bytes| bytes.try_into().ok())
                            .map_or(0, i32::from_ne_bytes);
                        return match code {
                            0 => Ok(()),
                            code => Err(io::Error::from_raw_os_error(-code)),
                        };
                    }
                    _ => each(kind, body),
                }
                rest = next;
            }
        }
    }
}

/// The first message: its type, its content, what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let header = bytes.get(..HEADER)?;
    let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let kind = u16::from_ne_bytes([header[4], header[5]]);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut out = Vec::new();
    while let Some(header) = bytes.get(..4) {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let Some(value) = bytes.get(4..length) else { break };
        out.push((u16::from_ne_bytes([header[2], header[3]]), value.to_vec()));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    out
}

fn c_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn ifinfo(index: i32, flags: u32, change: u32) -> [u8; IFINFO] {
    let mut out = [0; IFINFO];
    out[4..8].copy_from_slice(&index.to_ne_bytes());
    out[8..12].copy_from_slice(&flags.to_ne_bytes());
    out[12..].copy_from_slice(&change.to_ne_bytes());
    out
}

struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: i32, header: &[u8]) -> Request {
        Request {
            kind,
            flags: (flags | libc::NLM_F_REQUEST) as u16,
            body: header.to_vec(),
        }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.body.extend_from_slice(&((value.len() + 4) as u16).to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.body.len());
        out.extend_from_slice(&((HEADER + self.body.len()) as u32).to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&self.flags.to_ne_bytes());
        // One request at a time: its number says nothing.
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.body);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &ifinfo(7, 1, 1));
        request.attribute(libc::IFLA_IFNAME, &c_name("eth0"));
        request.attribute(IFLA_NET_NS_FD, &5i32.to_ne_bytes());
        let bytes = request.bytes();
        let (kind, body, rest) = message(&bytes).unwrap_or_default();
        assert_eq!((kind, rest.len()), (libc::RTM_NEWLINK, 0));
        assert_eq!(
            attributes(&body[IFINFO..]),
            [
                (libc::IFLA_IFNAME, b"eth0\0".to_vec()),
                (IFLA_NET_NS_FD, 5i32.to_ne_bytes().to_vec())
            ]
        );
    }

    #[test]
    fn damaged_messages_end_the_walk() {
        for bytes in [&[][..], &[1; 15], &[0; 16], &[0xff; 64], &[3, 0, 0, 0]] {
            let _ = (message(bytes), attributes(bytes));
        }
        // A length of zero would be a walk without an end.
        assert!(message(&[0; 32]).is_none());
        assert!(attributes(&[0; 32]).is_empty());
    }
}

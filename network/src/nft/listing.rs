//! What the table's maps hold at this moment, read back from the kernel.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use super::{Element, IP, PUBLISHED_ANY, PUBLISHED_ON, SUBSYSTEM, Table};
use crate::error::Result;
use crate::netlink::{attribute, attributes};
use crate::port::Proto;

const GET_ELEMENTS: u16 = 13; // NFT_MSG_GETSETELEM

impl Table {
    /// All published ports, as `host → target`, in words; `None` when the table or one of its maps is not there.
    ///
    /// # Errors
    /// What the kernel answers otherwise.
    pub fn listing(&mut self) -> Result<Option<BTreeSet<String>>> {
        let mut found = BTreeSet::new();
        for (map, exact) in [(PUBLISHED_ON, true), (PUBLISHED_ANY, false)] {
            let name = self.name.clone();
            let see = |payload: &[u8]| {
                let list = payload.get(4..).unwrap_or_default();
                // NFTA_SET_ELEM_LIST_ELEMENTS, each of them NFTA_LIST_ELEM.
                let elements = attribute(list, 3).map(attributes).into_iter().flatten();
                found.extend(
                    elements
                        .filter_map(|(_, element)| decode(element, exact))
                        .map(|one| words(&one)),
                );
            };
            let asked = self.channel.dump_of(
                SUBSYSTEM << 8 | GET_ELEMENTS,
                &IP,
                |list| {
                    list.text(1, &name);
                    list.text(2, map);
                },
                see,
            );
            match asked {
                Ok(()) => {}
                Err(refusal) if refusal.is(libc::ENOENT) => return Ok(None),
                Err(refusal) => return Err(refusal.because(format!("list map {map} of nftables table {name}"))),
            }
        }
        Ok(Some(found))
    }
}

/// A published port as people read it.
pub fn words(element: &Element) -> String {
    format!("{}/{} to {}", element.host, element.proto, element.target)
}

fn decode(element: &[u8], exact: bool) -> Option<Element> {
    // NFTA_SET_ELEM_KEY and _DATA, each with an NFTA_DATA_VALUE.
    let key = attribute(attribute(element, 1)?, 1)?;
    let data = attribute(attribute(element, 2)?, 1)?;
    let address = |bytes: &[u8]| Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?));
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?));
    let (host, rest) = match exact {
        true => (address(key)?, key.get(4..)?),
        false => (Ipv4Addr::UNSPECIFIED, key),
    };
    let proto = [Proto::Tcp, Proto::Udp, Proto::Sctp]
        .into_iter()
        .find(|proto| Some(&proto.number()) == rest.first())?;
    Some(Element {
        host: SocketAddrV4::new(host, port(rest.get(4..)?)?),
        proto,
        target: SocketAddrV4::new(address(data)?, port(data.get(4..)?)?),
    })
}

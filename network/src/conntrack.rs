//! Forgets tracked connections that the address translation has moved away from.
//!
//! The kernel translates the first packet of a connection and remembers. UDP has no end of connection: a client that
//! keeps sending would reach the container that had the port before, or the host's own socket, for minutes.

use runtime_sys::netlink::Protocol;

use crate::error::Result;
use crate::netlink::{ACK, Channel};

const DELETE: u16 = (1 << 8) | 2; // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
const IP: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];

// enum ctattr_type
const TUPLE_ORIGINAL: u16 = 1;
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1; // CTA_FILTER_ORIG_FLAGS
// enum ctattr_tuple, ctattr_l4proto
const TUPLE_PROTO: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;
// Which parts of a tuple count: CTA_FILTER_F_…
const COUNT_PROTO_NUMBER: u32 = 1 << 3;
const COUNT_DESTINATION_PORT: u32 = 1 << 5;

/// Speaks to the connection tracking of one network namespace.
#[derive(Debug)]
pub struct Conntrack(Channel);

impl Conntrack {
    /// Opens what it needs in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Ok(Self(Channel::open(Protocol::Netfilter)?))
    }

    /// Forgets everything that was sent to this UDP port.
    pub fn forget_udp_port(&mut self, port: u16) -> Result<()> {
        let mut batch = self.0.batch();
        batch.message(DELETE, ACK, &IP, |list| {
            list.nest(TUPLE_ORIGINAL, |tuple| {
                tuple.nest(TUPLE_PROTO, |proto| {
                    proto.put(PROTO_NUMBER, &[libc::IPPROTO_UDP as u8]);
                    proto.put(DESTINATION_PORT, &port.to_be_bytes());
                });
            });
            list.nest(FILTER, |filter| {
                filter.number(FILTER_ORIGINAL, COUNT_PROTO_NUMBER | COUNT_DESTINATION_PORT)
            });
        });
        match self.0.exchange(batch) {
            // Nothing was tracked.
            Err(refusal) if !refusal.is(libc::ENOENT) => Err(refusal.because("forget tracked connections")),
            _ => Ok(()),
        }
    }
}

//! A small netlink encoder and the exchange of requests and answers, for what a start may wait for (`link`) and for
//! nftables and connection tracking.
//!
//! Many messages go out in one send(2), and one message says all that the kernel understands in one: rtnetlink, which
//! serves the rest of this crate (`rtnl`), makes three or four round trips of the veth pair that is one here. See the
//! decision record in docs/adr.
//!
//! The kernel handles a request within send(2), so that all answers are queued when it returns: no runtime is needed.

use std::io;

use runtime_sys::netlink::{NetlinkSocket, Protocol};

use crate::error::{Error, Result};

const HEADER: usize = 16;
/// An attribute whose value is a list of attributes.
const NESTED: u16 = 0x8000;
/// What the low bits of an attribute's type are.
const TYPE_MASK: u16 = 0x3fff;
/// `NLM_F_CAPPED` and `NLM_F_ACK_TLVS`: the request is not repeated in the answer; attributes follow.
const CAPPED: u16 = 0x100;
const ACK_ATTRIBUTES: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG`.
const ERROR_TEXT: u16 = 1;
/// The kernel fills at most 32 KiB of a dump at a time.
const ANSWER_SIZE: usize = 32 * 1024;

pub const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
pub const ACK: u16 = libc::NLM_F_ACK as u16;
pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
pub const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
pub const APPEND: u16 = libc::NLM_F_APPEND as u16;
pub const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
const DUMP: u16 = libc::NLM_F_DUMP as u16;

/// Messages that go to the kernel in one send.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    first: u32,
    next: u32,
    /// Where the last message begins.
    last_start: usize,
    last_acknowledged: Option<u32>,
}

impl Batch {
    /// Adds a message: `header` is the fixed part that the type wants, `fill` appends attributes.
    pub fn message(&mut self, kind: u16, flags: u16, header: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.last_start = start;
        let flags = flags | REQUEST;
        if flags & ACK != 0 {
            self.last_acknowledged = Some(self.next);
        }
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.next.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.next = self.next.wrapping_add(1);
        self.bytes.extend_from_slice(header);
        align(&mut self.bytes);
        fill(&mut Attributes { bytes: &mut self.bytes });
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Has the kernel acknowledge the message that was added last.
    pub fn acknowledge_last(&mut self) {
        if let Some(flags) = self.bytes.get_mut(self.last_start + 6..self.last_start + 8) {
            let with = u16::from_ne_bytes([flags[0], flags[1]]) | ACK;
            flags.copy_from_slice(&with.to_ne_bytes());
            self.last_acknowledged = Some(self.next.wrapping_sub(1));
        }
    }
}

/// The attributes of a message, or of an attribute of one.
#[derive(Debug)]
pub struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    /// An attribute with these bytes as its value.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        let length = (value.len() + 4) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        align(self.bytes);
    }

    /// A number in the order of the machine, as rtnetlink has them.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// A number in the order of the network, as nftables has them.
    pub fn number_be(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A text with the zero byte that ends it.
    pub fn text(&mut self, kind: u16, value: &str) {
        let length = (value.len() + 5) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        align(self.bytes);
    }

    /// An attribute whose value is a list of attributes. The caller keeps it below 64 KiB.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.nest_after(kind, &[], fill);
    }

    /// The same with a fixed part in front of the list.
    pub fn nest_after(&mut self, kind: u16, header: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        self.bytes.extend_from_slice(header);
        fill(&mut Attributes { bytes: self.bytes });
        let length = self.bytes.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "a nested attribute of {length} bytes");
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
    }
}

fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// What comes of a request to the kernel.
pub type Done<T> = std::result::Result<T, Refusal>;

/// Why the kernel refused a batch: the first message that failed.
#[derive(Debug)]
pub struct Refusal {
    /// The errno.
    pub source: io::Error,
    /// The kernel's own sentence, if it gave one.
    pub said: Option<String>,
}

impl Refusal {
    /// Whether it is this errno.
    pub fn is(&self, errno: i32) -> bool {
        self.source.raw_os_error() == Some(errno)
    }

    /// The error for the user: `action` completes "cannot …".
    pub fn because(self, action: impl Into<String>) -> Error {
        Error::Kernel {
            action: action.into(),
            said: self.said,
            source: self.source,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Self {
        Self { source, said: None }
    }
}

/// A socket and the sequence numbers on it.
#[derive(Debug)]
pub struct Channel {
    socket: NetlinkSocket,
    sequence: u32,
    answer: Vec<u8>,
    /// The bytes of the last batch, to be used again.
    spare: Vec<u8>,
}

impl Channel {
    /// Opens a channel in the calling thread's network namespace.
    ///
    /// # Errors
    /// If the socket cannot be had.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let socket = NetlinkSocket::open(protocol).map_err(Error::system("open a netlink socket"))?;
        Ok(Self {
            socket,
            sequence: 1,
            answer: Vec::new(),
            spare: Vec::new(),
        })
    }

    /// An empty batch.
    pub fn batch(&mut self) -> Batch {
        let mut bytes = std::mem::take(&mut self.spare);
        bytes.clear();
        Batch {
            bytes,
            first: self.sequence,
            next: self.sequence,
            last_start: 0,
            last_acknowledged: None,
        }
    }

    /// Sends the batch and reads all answers. At least the last message should ask for an acknowledgement.
    ///
    /// # Errors
    /// The first refusal; what the other messages did depends on the protocol: nftables did nothing then, rtnetlink
    /// did everything else.
    pub fn exchange(&mut self, batch: Batch) -> Done<()> {
        const USUAL: usize = 160 * 1024;
        if batch.bytes.len() > USUAL {
            // The kernel counts its own overhead too.
            self.socket.allow_requests_of(batch.bytes.len() * 2)?;
        }
        self.sequence = batch.next;
        self.answer.resize(ANSWER_SIZE, 0);
        self.socket.send(&batch.bytes)?;
        let mut refusal = None;
        let mut acknowledged = batch.last_acknowledged.is_none();
        while let Some(length) = self.socket.receive_ready(&mut self.answer)? {
            for message in messages(&self.answer[..length]) {
                // Answers to an older request that was given up.
                if message.sequence.wrapping_sub(batch.first) >= batch.next.wrapping_sub(batch.first) {
                    continue;
                }
                if i32::from(message.kind) != libc::NLMSG_ERROR {
                    continue;
                }
                acknowledged |= Some(message.sequence) == batch.last_acknowledged;
                if refusal.is_none() {
                    refusal = message.error();
                }
            }
        }
        self.spare = batch.bytes;
        match refusal {
            Some(refusal) => Err(refusal),
            None if acknowledged => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not acknowledge the request").into()),
        }
    }

    /// Asks for all objects of a kind. `see` gets each one's payload (the fixed part and the attributes).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn dump(&mut self, kind: u16, header: &[u8], see: impl FnMut(&[u8])) -> Done<()> {
        self.dump_of(kind, header, |_| {}, see)
    }

    /// The same, of those that `fill` narrows it down to.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn dump_of(
        &mut self,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
        mut see: impl FnMut(&[u8]),
    ) -> Done<()> {
        let mut batch = self.batch();
        batch.message(kind, DUMP, header, fill);
        self.sequence = batch.next;
        self.answer.resize(ANSWER_SIZE, 0);
        self.socket.send(&batch.bytes)?;
        loop {
            let length = self.socket.receive(&mut self.answer)?;
            for message in messages(&self.answer[..length]) {
                if message.sequence != batch.first {
                    continue;
                }
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => {
                        self.spare = batch.bytes;
                        return Ok(());
                    }
                    libc::NLMSG_ERROR => {
                        if let Some(error) = message.error() {
                            return Err(error);
                        }
                    }
                    _ => see(message.payload),
                }
            }
        }
    }
}

#[derive(Debug)]
struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl Message<'_> {
    /// The refusal in an error message; `None` if it is an acknowledgement.
    fn error(&self) -> Option<Refusal> {
        let code = i32::from_ne_bytes(self.payload.get(..4)?.try_into().ok()?);
        if code == 0 {
            return None;
        }
        let mut said = None;
        if self.flags & CAPPED != 0 && self.flags & ACK_ATTRIBUTES != 0 {
            said = sentence(self.payload.get(4..).unwrap_or_default());
        }
        Some(Refusal {
            source: io::Error::from_raw_os_error(-code),
            said,
        })
    }
}

/// The kernel's own sentence in what follows an error's code: the header of the request, of which a socket with
/// `NETLINK_CAP_ACK` gets nothing more, then attributes.
pub fn sentence(after_code: &[u8]) -> Option<String> {
    let text = attribute(after_code.get(HEADER..)?, ERROR_TEXT)?;
    Some(string(text).into_owned())
}

/// The messages in a datagram.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32_at(bytes, 0)? as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let message = Message {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
            payload: &bytes[HEADER..length],
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a list: type and value.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        if length < 4 || length > bytes.len() {
            return None;
        }
        let value = &bytes[4..length];
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(kind, _)| *kind == wanted)
        .map(|(_, value)| value)
}

/// A number in the order of the machine.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

/// A text without the zero byte at its end.
pub fn string(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn batch() -> Batch {
        Batch {
            bytes: Vec::new(),
            first: 7,
            next: 7,
            last_start: 0,
            last_acknowledged: None,
        }
    }

    #[test]
    fn what_is_encoded_is_found_again() {
        let mut batch = batch();
        batch.message(16, ACK, &[9; 5], |list| {
            list.text(1, "eth0");
            list.nest(2, |inner| {
                inner.number(3, 0x0102_0304);
                inner.nest_after(4, &[1, 2, 3, 4], |peer| peer.put(5, &[6]));
            });
        });
        batch.message(17, 0, &[], |_| {});
        let all: Vec<_> = messages(&batch.bytes).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].sequence, all[0].flags), (16, 7, ACK | REQUEST));
        assert_eq!((all[1].kind, all[1].sequence, all[1].payload.len()), (17, 8, 0));
        let list = &all[0].payload[8..];
        assert_eq!(string(attribute(list, 1).unwrap()), "eth0");
        let inner = attribute(list, 2).unwrap();
        assert_eq!(u32_at(attribute(inner, 3).unwrap(), 0), Some(0x0102_0304));
        assert_eq!(attribute(&attribute(inner, 4).unwrap()[4..], 5), Some(&[6_u8][..]));
        assert_eq!(batch.last_acknowledged, Some(7));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = message.error();
                for (_, value) in attributes(message.payload) {
                    let _ = attributes(value).count();
                    let _ = string(value);
                }
            }
            let _ = attributes(&bytes).count();
        }
    }
}

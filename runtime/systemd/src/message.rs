//! One message: a call that we make, an answer or a signal that we get.

use crate::marshal::{LARGEST, Writer};
use crate::parse::{Parsed, Reader};

/// Bytes in front that say how long the rest is.
pub const FIXED: usize = 16;

const VERSION: u8 = 1;
const CALL: u8 = 1;

// Codes of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody calls us.
    Call,
    /// The answer to a call.
    Return,
    /// The answer to a call that failed.
    Error,
    /// Told to whoever listens.
    Signal,
    /// Of a later version of D-Bus: to be passed over.
    Unknown,
}

/// A method of an object, and what it is given.
#[derive(Debug)]
pub struct Call<'a> {
    /// Whose object, where there is a bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
    /// Types of `body`.
    pub signature: &'a str,
    /// The arguments.
    pub body: Writer,
}

impl Call<'_> {
    /// The whole message.
    ///
    /// # Errors
    /// What cannot be said in D-Bus.
    pub fn encode(self, serial: u32, destination: bool) -> Result<Vec<u8>, &'static str> {
        let body = self.body.finish()?;
        let mut out = Writer::default();
        out.byte(b'l');
        out.byte(CALL);
        // No flags: an answer is wanted, and nobody is asked for a password.
        out.byte(0);
        out.byte(VERSION);
        out.u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        out.u32(serial);
        out.array(8, |out| {
            let mut text = |code: u8, kind: &str, value: &str| {
                out.align(8);
                out.byte(code);
                out.signature(kind);
                if kind == "g" {
                    out.signature(value);
                } else {
                    out.text(value);
                }
            };
            text(PATH, "o", self.path);
            text(INTERFACE, "s", self.interface);
            text(MEMBER, "s", self.member);
            if destination {
                text(DESTINATION, "s", self.destination);
            }
            if !self.signature.is_empty() {
                text(SIGNATURE, "g", self.signature);
            }
        });
        out.align(8);
        let mut bytes = out.finish()?;
        bytes.extend(body);
        Ok(bytes)
    }
}

/// A message that came in.
#[derive(Debug)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The call that this answers.
    pub reply_to: Option<u32>,
    /// A signal's interface.
    pub interface: String,
    /// A signal's name.
    pub member: String,
    /// An error's name.
    pub error: String,
    /// Who sent it: on a bus the name that the bus has given to it.
    pub sender: String,
    /// Types of the body.
    pub signature: String,
    body: Vec<u8>,
    big: bool,
}

/// How long the whole message is, of which these are the first bytes.
///
/// # Errors
/// When this is not how a message begins.
pub fn length(fixed: &[u8; FIXED]) -> Parsed<usize> {
    let big = match fixed[0] {
        b'l' => false,
        b'B' => true,
        _ => return Err("it has no byte order"),
    };
    if fixed[3] != VERSION {
        return Err("it is of another version of D-Bus");
    }
    let number = |at: usize| Reader::new(&fixed[at..at + 4], big).u32().map(|number| number as usize);
    let (body, fields) = (number(4)?, number(12)?);
    if body > LARGEST || fields > LARGEST {
        return Err("it is larger than a message may be");
    }
    let whole = (FIXED + fields).next_multiple_of(8) + body;
    if whole > LARGEST {
        return Err("it is larger than a message may be");
    }
    Ok(whole)
}

impl Message {
    /// From all bytes of one message.
    ///
    /// # Errors
    /// When they are none.
    pub fn parse(bytes: &[u8]) -> Parsed<Message> {
        let fixed: &[u8; FIXED] = bytes.first_chunk().ok_or("it ends too early")?;
        if length(fixed)? != bytes.len() {
            return Err("it is not as long as it says");
        }
        let big = fixed[0] == b'B';
        let mut message = Message {
            kind: match fixed[1] {
                CALL => Kind::Call,
                2 => Kind::Return,
                3 => Kind::Error,
                4 => Kind::Signal,
                0 => return Err("it is of no kind"),
                _ => Kind::Unknown,
            },
            reply_to: None,
            interface: String::new(),
            member: String::new(),
            error: String::new(),
            sender: String::new(),
            signature: String::new(),
            body: Vec::new(),
            big,
        };
        let mut reader = Reader::new(bytes, big);
        reader.skip("yyyyuu")?;
        let fields = reader.u32()? as usize;
        let end = reader.position() + fields;
        while reader.position() < end {
            reader.align(8)?;
            message.field(&mut reader)?;
        }
        if reader.position() != end {
            return Err("its header fields do not end where they should");
        }
        reader.align(8)?;
        message.body = bytes.get(reader.position()..).unwrap_or_default().to_vec();
        Ok(message)
    }

    fn field(&mut self, reader: &mut Reader<'_>) -> Parsed<()> {
        let code = reader.byte()?;
        let kind = reader.signature()?;
        let text = match code {
            INTERFACE => &mut self.interface,
            MEMBER => &mut self.member,
            ERROR_NAME => &mut self.error,
            SENDER => &mut self.sender,
            SIGNATURE if kind == "g" => {
                self.signature = reader.signature()?.to_owned();
                return Ok(());
            }
            REPLY_SERIAL if kind == "u" => {
                self.reply_to = Some(reader.u32()?);
                return Ok(());
            }
            REPLY_SERIAL | SIGNATURE => return Err("a header field is of another type"),
            // The specification wants fields that one does not know to be passed over.
            _ => return reader.skip(kind),
        };
        if kind != "s" {
            return Err("a header field is of another type");
        }
        *text = reader.text()?.to_owned();
        Ok(())
    }

    /// The body, which must have these types.
    ///
    /// # Errors
    /// When it has others.
    pub fn body(&self, signature: &str) -> Parsed<Reader<'_>> {
        if self.signature != signature {
            return Err("it is of another type than this method returns");
        }
        Ok(Reader::new(&self.body, self.big))
    }

    /// What an error says, where it says something.
    pub fn error_text(&self) -> String {
        let text = self
            .signature
            .starts_with('s')
            .then(|| Reader::new(&self.body, self.big));
        let text = text.and_then(|mut reader| reader.text().ok().map(str::to_owned));
        text.unwrap_or_else(|| "no reason given".to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    /// An answer, as systemd makes it.
    fn answer(text: &str) -> Vec<u8> {
        let mut out = Writer::default();
        let mut body = Writer::default();
        body.text(text);
        let body = body.finish().unwrap();
        for byte in [b'l', 2, 1, 1] {
            out.byte(byte);
        }
        out.u32(body.len() as u32);
        out.u32(9);
        out.array(8, |out| {
            out.byte(REPLY_SERIAL);
            out.signature("u");
            out.u32(7);
            out.align(8);
            out.byte(SIGNATURE);
            out.signature("g");
            out.signature("s");
            out.align(8);
            out.byte(200);
            out.signature("v");
            out.signature("as");
            out.array(4, |out| out.text("later"));
            out.align(8);
            out.byte(SENDER);
            out.signature("s");
            out.text(":1.0");
        });
        out.align(8);
        let mut bytes = out.finish().unwrap();
        bytes.extend(body);
        bytes
    }

    #[test]
    fn an_answer_is_read() {
        let bytes = answer("252.38");
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.kind, message.reply_to), (Kind::Return, Some(7)));
        assert_eq!((message.sender.as_str(), message.signature.as_str()), (":1.0", "s"));
        assert_eq!(message.body("s").unwrap().text(), Ok("252.38"));
        assert!(message.body("u").is_err());
        assert_eq!(message.error_text(), "252.38");
    }

    #[test]
    fn a_call_is_what_the_specification_shows() {
        let mut body = Writer::default();
        body.text("a");
        let call = Call {
            destination: "d.e",
            path: "/p",
            interface: "i.f",
            member: "M",
            signature: "s",
            body,
        };
        let bytes = call.encode(3, true).unwrap();
        let fixed: &[u8; FIXED] = bytes.first_chunk().unwrap();
        assert_eq!(length(fixed), Ok(bytes.len()));
        assert_eq!(bytes[..12], [b'l', 1, 0, 1, 6, 0, 0, 0, 3, 0, 0, 0]);
        // The first field, PATH: code, signature "o", length 2, the text, a NUL.
        assert_eq!(bytes[16..27], [1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'p', 0]);
        assert_eq!(bytes[bytes.len() - 6..], [1, 0, 0, 0, b'a', 0]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.interface.as_str(), message.member.as_str()), ("i.f", "M"));
    }

    #[test]
    fn a_text_with_nul_is_not_sent() {
        let mut body = Writer::default();
        body.text("a\0b");
        assert!(body.finish().is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Message::parse(&bytes);
        }

        #[test]
        fn a_damaged_message_is_refused_or_read(at: prop::sample::Index, with: u8, cut: prop::sample::Index) {
            let mut bytes = answer("252.38");
            prop_assert!(Message::parse(&bytes[..cut.index(bytes.len())]).is_err());
            let at = at.index(bytes.len());
            bytes[at] = with;
            if let Ok(message) = Message::parse(&bytes) {
                let _ = message.body("s").map(|mut body| body.text().map(str::len));
                let _ = message.error_text();
            }
        }
    }
}

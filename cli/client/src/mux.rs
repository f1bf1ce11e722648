//! The frames that carry stdout and stderr over one connection: an 8-byte header (stream, three zeros, length
//! big-endian), then the payload.

use std::io;

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    Stdin,
    Stdout,
    Stderr,
    /// The daemon itself reports a failure in words.
    Daemon,
}

/// Takes frames apart as bytes arrive. Payloads are passed on at once, never collected: a header that promises four
/// gigabytes costs no memory.
#[derive(Debug)]
pub struct Frames {
    multiplexed: bool,
    header: [u8; 8],
    have: usize,
    stream: Frame,
    left: u32,
}

impl Frames {
    /// With `multiplexed` false every byte is stdout.
    pub fn new(multiplexed: bool) -> Frames {
        Frames {
            multiplexed,
            header: [0; 8],
            have: 0,
            stream: Frame::Stdout,
            left: 0,
        }
    }

    /// Takes the next bytes and hands each payload piece to `sink`.
    ///
    /// # Errors
    /// `InvalidData` for a header that is none: the connection is not multiplexed, or the peer lies.
    pub fn feed(&mut self, mut bytes: &[u8], mut sink: impl FnMut(Frame, &[u8])) -> io::Result<()> {
        if !self.multiplexed {
            sink(Frame::Stdout, bytes);
            return Ok(());
        }
        while !bytes.is_empty() {
            if self.left > 0 {
                let take = bytes.len().min(self.left as usize);
                sink(self.stream, &bytes[..take]);
                self.left -= take as u32;
                bytes = &bytes[take..];
                continue;
            }
            let take = bytes.len().min(8 - self.have);
            self.header[self.have..self.have + take].copy_from_slice(&bytes[..take]);
            self.have += take;
            bytes = &bytes[take..];
            if self.have == 8 {
                self.have = 0;
                (self.stream, self.left) = header(self.header)?;
            }
        }
        Ok(())
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    /// `UnexpectedEof` in the middle of a frame.
    pub fn end(&self) -> io::Result<()> {
        if self.have == 0 && self.left == 0 {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

fn header(bytes: [u8; 8]) -> io::Result<(Frame, u32)> {
    let [kind, zeros @ .., a, b, c, d] = bytes;
    let stream = match (kind, zeros) {
        (0, [0, 0, 0]) => Frame::Stdin,
        (1, [0, 0, 0]) => Frame::Stdout,
        (2, [0, 0, 0]) => Frame::Stderr,
        (3, [0, 0, 0]) => Frame::Daemon,
        _ => {
            let message = format!("not a stream header: {bytes:02x?}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    };
    Ok((stream, u32::from_be_bytes([a, b, c, d])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    proptest! {
        /// However the bytes are cut, the same payloads come out.
        #[test]
        fn cuts_do_not_matter(
            frames in prop::collection::vec((1u8..4, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            step in 1usize..20,
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|(stream, payload)| frame(*stream, payload)).collect();
            let mut want: [Vec<u8>; 3] = Default::default();
            for (stream, payload) in &frames {
                want[*stream as usize - 1].extend(payload);
            }
            let mut got: [Vec<u8>; 3] = Default::default();
            let mut parser = Frames::new(true);
            for piece in wire.chunks(step) {
                parser.feed(piece, |stream, bytes| match stream {
                    Frame::Stdin => unreachable!(),
                    Frame::Stdout => got[0].extend(bytes),
                    Frame::Stderr => got[1].extend(bytes),
                    Frame::Daemon => got[2].extend(bytes),
                }).unwrap();
            }
            parser.end().unwrap();
            prop_assert_eq!(got, want);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut parser = Frames::new(true);
            let _ = parser.feed(&bytes, |_, _| {});
            let _ = parser.end();
        }
    }

    #[test]
    fn a_cut_frame_is_noticed() {
        let mut parser = Frames::new(true);
        parser.feed(&frame(1, b"abc")[..9], |_, _| {}).unwrap();
        assert!(parser.end().is_err());
        assert!(Frames::new(true).feed(b"plain text", |_, _| {}).is_err());
    }
}

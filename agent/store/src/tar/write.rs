//! Headers for archives that we write: ustar, with PAX records for what does not fit.

use super::BLOCK;

/// One entry to be written.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub flag: u8,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: (i64, u32),
    pub device: (u64, u64),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Header {
    pub fn new(name: &[u8], flag: u8) -> Header {
        Header {
            name: name.to_vec(),
            link: Vec::new(),
            flag,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    /// All blocks of the header, with a PAX header in front where one is needed.
    pub fn encode(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut block = [0u8; BLOCK];
        if self.name.len() <= 100 {
            block[..self.name.len()].copy_from_slice(&self.name);
        } else {
            record(&mut records, b"path", &self.name);
            // Readers without PAX see the end of the name.
            block[..100].copy_from_slice(&self.name[self.name.len() - 100..]);
        }
        if self.link.len() <= 100 {
            block[157..157 + self.link.len()].copy_from_slice(&self.link);
        } else {
            record(&mut records, b"linkpath", &self.link);
            block[157..257].copy_from_slice(&self.link[self.link.len() - 100..]);
        }
        octal(&mut block[100..108], u64::from(self.mode));
        let mut number = |field: &mut [u8], key: &[u8], value: u64| {
            if !octal(field, value) {
                record(&mut records, key, value.to_string().as_bytes());
            }
        };
        number(&mut block[108..116], b"uid", u64::from(self.uid));
        number(&mut block[116..124], b"gid", u64::from(self.gid));
        number(&mut block[124..136], b"size", self.size);
        let (seconds, nanos) = self.mtime;
        if !(seconds >= 0 && octal(&mut block[136..148], seconds as u64) && nanos == 0) {
            record(&mut records, b"mtime", time(seconds, nanos).as_bytes());
        }
        block[156] = self.flag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        // Device numbers beyond seven octal digits exist on no Linux: 12 bits and 20 bits.
        octal(&mut block[329..337], self.device.0);
        octal(&mut block[337..345], self.device.1);
        seal(&mut block);
        for (key, value) in &self.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", key.as_slice()].concat(), value);
        }
        if records.is_empty() {
            return block.to_vec();
        }
        let mut pax = [0u8; BLOCK];
        pax[..12].copy_from_slice(b"PaxHeaders.0");
        octal(&mut pax[100..108], 0o644);
        for field in [108..116, 116..124, 136..148, 329..337, 337..345] {
            octal(&mut pax[field], 0);
        }
        octal(&mut pax[124..136], records.len() as u64);
        pax[156] = b'x';
        pax[257..265].copy_from_slice(b"ustar\x0000");
        seal(&mut pax);
        let padding = (BLOCK - records.len() % BLOCK) % BLOCK;
        records.resize(records.len() + padding, 0);
        [&pax[..], &records, &block].concat()
    }
}

/// Writes octal digits and a NUL; zero and `false` if they do not fit.
fn octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    let fits = value < 1 << (3 * digits);
    let text = format!("{:0digits$o}\0", if fits { value } else { 0 });
    field.copy_from_slice(text.as_bytes());
    fits
}

fn seal(block: &mut [u8; BLOCK]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn time(seconds: i64, nanos: u32) -> String {
    let (sign, seconds, nanos) = match (seconds, nanos) {
        (s, n) if s >= 0 => ("", s.unsigned_abs(), n),
        (s, 0) => ("-", s.unsigned_abs(), 0),
        // -2 s + 0.75 is written -1.25.
        (s, n) => ("-", s.unsigned_abs() - 1, 1_000_000_000 - n),
    };
    let text = format!("{sign}{seconds}.{nanos:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tar::TarReader;

    #[test]
    fn what_is_written_reads_back() {
        let long = "d/".repeat(100) + "f";
        for mtime in [(0, 0), (1_600_000_000, 1), (-2, 750_000_000), (-7, 0), (1 << 40, 500)] {
            for name in ["short", long.as_str()] {
                let header = Header {
                    mode: 0o4755,
                    uid: 3_000_000,
                    gid: u32::MAX - 1,
                    mtime,
                    link: long.clone().into_bytes(),
                    xattrs: vec![(b"user.a".to_vec(), b"=\n\0".to_vec())],
                    ..Header::new(name.as_bytes(), b'2')
                };
                let bytes = [header.encode(), vec![0; 1024]].concat();
                let entry = TarReader::new(bytes.as_slice(), 1 << 20)
                    .next(&mut ())
                    .unwrap()
                    .unwrap();
                assert_eq!(entry.name, header.name);
                assert_eq!(entry.link, header.link);
                assert_eq!(
                    (entry.uid, entry.gid, entry.mode),
                    (header.uid, header.gid, header.mode)
                );
                assert_eq!((entry.mtime, entry.xattrs), (header.mtime, header.xattrs));
            }
        }
        let big = Header {
            size: 1 << 40,
            ..Header::new(b"big", b'0')
        };
        let bytes = big.encode();
        let entry = TarReader::new(bytes.as_slice(), 1 << 50)
            .next(&mut ())
            .unwrap()
            .unwrap();
        assert_eq!(entry.size, 1 << 40);
    }
}

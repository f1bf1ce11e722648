//! Writes tar archives byte by byte, also wrong ones.

/// A tar archive in the making.
#[derive(Default, Clone)]
pub struct Tar(pub Vec<u8>);

/// One header; change what should be odd.
#[derive(Clone)]
pub struct Head {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub flag: u8,
    pub mode: u64,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: u64,
    pub device: (u64, u64),
    pub gnu: bool,
}

pub fn head(name: &str, flag: u8) -> Head {
    Head {
        name: name.as_bytes().to_vec(),
        link: Vec::new(),
        flag,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: 1_600_000_000,
        device: (0, 0),
        gnu: false,
    }
}

impl Head {
    pub fn link(mut self, link: &str) -> Head {
        self.link = link.as_bytes().to_vec();
        self
    }

    pub fn mode(mut self, mode: u64) -> Head {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Head {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub fn device(mut self, major: u64, minor: u64) -> Head {
        self.device = (major, minor);
        self
    }

    pub fn size(mut self, size: u64) -> Head {
        self.size = size;
        self
    }

    pub fn block(&self) -> [u8; 512] {
        let mut block = [0u8; 512];
        let name = &self.name[..self.name.len().min(100)];
        block[..name.len()].copy_from_slice(name);
        let link = &self.link[..self.link.len().min(100)];
        block[157..157 + link.len()].copy_from_slice(link);
        number(&mut block[100..108], self.mode);
        number(&mut block[108..116], self.uid);
        number(&mut block[116..124], self.gid);
        number(&mut block[124..136], self.size);
        number(&mut block[136..148], self.mtime);
        block[156] = self.flag;
        block[257..265].copy_from_slice(if self.gnu { b"ustar  \0" } else { b"ustar\x0000" });
        number(&mut block[329..337], self.device.0);
        number(&mut block[337..345], self.device.1);
        sum(&mut block);
        block
    }
}

pub fn sum(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Octal if it fits, base-256 if not.
fn number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    if value < 1 << (3 * digits) {
        let text = format!("{value:0digits$o}\0");
        field.copy_from_slice(text.as_bytes());
    } else {
        let bytes = value.to_be_bytes();
        field.fill(0);
        let at = field.len() - 8.min(field.len());
        let from = 8 - 8.min(field.len());
        field[at..].copy_from_slice(&bytes[from..]);
        field[0] |= 0x80;
    }
}

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Tar {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn head(self, head: &Head) -> Tar {
        self.raw(&head.block())
    }

    pub fn data(self, data: &[u8]) -> Tar {
        let pad = (512 - data.len() % 512) % 512;
        self.raw(data).raw(&vec![0; pad])
    }

    /// An entry with content; the size is set.
    pub fn entry(self, head: Head, data: &[u8]) -> Tar {
        let head = head.size(data.len() as u64);
        self.head(&head).data(data)
    }

    pub fn file(self, name: &str, data: &[u8]) -> Tar {
        self.entry(head(name, b'0'), data)
    }

    pub fn dir(self, name: &str) -> Tar {
        self.head(&head(name, b'5').mode(0o755))
    }

    pub fn symlink(self, name: &str, to: &str) -> Tar {
        self.head(&head(name, b'2').mode(0o777).link(to))
    }

    pub fn hard_link(self, name: &str, to: &str) -> Tar {
        self.head(&head(name, b'1').link(to))
    }

    /// A PAX header for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let mut data = Vec::new();
        for (key, value) in records {
            data.extend_from_slice(&record(key, value));
        }
        self.entry(head("PaxHeaders/x", b'x'), &data)
    }

    /// A GNU long name (`L`) or link (`K`).
    pub fn long(self, flag: u8, name: &str) -> Tar {
        let mut head = head("././@LongLink", flag);
        head.gnu = true;
        self.entry(head, &[name.as_bytes(), b"\0"].concat())
    }

    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0
    }
}

pub fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

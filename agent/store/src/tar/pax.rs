//! PAX extended headers: `<length> <key>=<value>\n` records.

/// What a PAX header says about the next entry.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    /// Seconds and nanoseconds.
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: PaxSparse,
}

/// The `GNU.sparse.*` records of all three versions.
#[derive(Debug, Default, Clone)]
pub(crate) struct PaxSparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    /// 1.0 and 0.1
    pub real_size: Option<u64>,
    /// 0.0: pairs of records
    pub pairs: Vec<(u64, u64)>,
    /// 0.1: the whole map
    pub map: Option<Vec<(u64, u64)>>,
    pub count: Option<u64>,
}

impl PaxSparse {
    pub fn is_used(&self) -> bool {
        self.major.is_some() || self.map.is_some() || self.count.is_some() || !self.pairs.is_empty()
    }
}

/// Splits the records of an extended header.
pub(crate) fn records(mut data: &[u8]) -> Result<Vec<(&[u8], &[u8])>, &'static str> {
    let mut all = Vec::new();
    while !data.is_empty() {
        let space = data
            .iter()
            .take(12)
            .position(|b| *b == b' ')
            .ok_or("a PAX record without a length")?;
        let length = decimal(&data[..space]).ok_or("a PAX record without a length")?;
        let length = usize::try_from(length).map_err(|_| "a PAX record that is too long")?;
        if length <= space + 1 || length > data.len() {
            return Err("a PAX record longer than its header");
        }
        let (record, rest) = data.split_at(length);
        let record = record[space + 1..]
            .strip_suffix(b"\n")
            .ok_or("a PAX record without an end of line")?;
        let equals = record
            .iter()
            .position(|b| *b == b'=')
            .ok_or("a PAX record without a value")?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return Err("a PAX record with a bad key");
        }
        all.push((key, value));
        data = rest;
    }
    Ok(all)
}

impl Pax {
    /// Reads the header of one entry. An empty value means "as in the header block".
    pub fn parse(data: &[u8]) -> Result<Pax, &'static str> {
        let mut pax = Pax::default();
        let mut offset = None;
        for (key, value) in records(data)? {
            let count = || decimal(value).ok_or("a PAX number that is not one");
            match key {
                b"path" => pax.path = name(value)?,
                b"linkpath" => pax.link = name(value)?,
                b"size" if !value.is_empty() => pax.size = Some(count()?),
                b"uid" if !value.is_empty() => pax.uid = Some(count()?),
                b"gid" if !value.is_empty() => pax.gid = Some(count()?),
                b"mtime" if !value.is_empty() => pax.mtime = Some(time(value).ok_or("a PAX time that is not one")?),
                b"GNU.sparse.major" => pax.sparse.major = Some(count()?),
                b"GNU.sparse.minor" => pax.sparse.minor = Some(count()?),
                b"GNU.sparse.name" => pax.sparse.name = name(value)?,
                b"GNU.sparse.realsize" | b"GNU.sparse.size" => pax.sparse.real_size = Some(count()?),
                b"GNU.sparse.numblocks" => pax.sparse.count = Some(count()?),
                b"GNU.sparse.offset" => offset = Some(count()?),
                b"GNU.sparse.numbytes" => {
                    let at = offset.take().ok_or("a sparse length without an offset")?;
                    pax.sparse.pairs.push((at, count()?));
                }
                b"GNU.sparse.map" => pax.sparse.map = Some(sparse_map(value).ok_or("a sparse map that is not one")?),
                _ => {
                    if let Some(attribute) = key.strip_prefix(b"SCHILY.xattr.").filter(|a| !a.is_empty()) {
                        pax.xattrs.retain(|(known, _)| known != attribute);
                        pax.xattrs.push((attribute.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        if offset.is_some() {
            return Err("a sparse offset without a length");
        }
        Ok(pax)
    }
}

fn name(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err("a name with a zero byte");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn sparse_map(value: &[u8]) -> Option<Vec<(u64, u64)>> {
    if value.is_empty() {
        return Some(Vec::new());
    }
    let numbers: Option<Vec<u64>> = value.split(|b| *b == b',').map(decimal).collect();
    let numbers = numbers?;
    if numbers.len() % 2 != 0 {
        return None;
    }
    Some(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Digits only: no sign, no space.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| {
        digit.is_ascii_digit().then_some(())?;
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// `[-]seconds[.fraction]`; digits beyond nanoseconds are cut off, as Go does.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |b| *b == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanos: u32 = 0;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for at in 0..9 {
            nanos = nanos * 10 + u32::from(fraction.get(at).map_or(0, |d| d - b'0'));
        }
    }
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        // -1.25 is two seconds before the epoch plus 0.75.
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_with_fractions_and_before_the_epoch() {
        assert_eq!(time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(time(b"12.0000000019"), Some((12, 1)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-7"), Some((-7, 0)));
        assert_eq!(time(b"1e5"), None);
        assert_eq!(time(b""), None);
    }

    #[test]
    fn records_must_be_exact() {
        assert_eq!(records(b"9 a=bcde\n").unwrap(), [(&b"a"[..], &b"bcde"[..])]);
        assert_eq!(records(b"8 a=b\nc\n").unwrap(), [(&b"a"[..], &b"b\nc"[..])]);
        for bad in [
            &b"9 a=bcd\n"[..],
            b"11 a=bcde\n",
            b"5 ab\n",
            b"a=b\n",
            b"0 a=b\n",
            b"6 =abc\n",
            b"99999999999 a=b\n",
        ] {
            assert!(records(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}

//! Where the whole records of a file end, which a crash may have left with a part of one.

use super::record::{self, HEAD, Header, MAX_BLOCK, Parsed, TAIL};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Where the last whole record of a `local` file ends. Looks at the end first: after a clean stop nothing else is read.
pub(super) fn whole_records(file: &File, length: u64) -> io::Result<u64> {
    if length == 0 || ends_with_record(file, length)? {
        return Ok(length);
    }
    // Torn: walk from the start, record by record.
    let mut reader = io::BufReader::with_capacity(256 * 1024, file);
    reader.seek(SeekFrom::Start(0))?;
    let mut good = 0;
    let mut record = vec![0; HEAD + MAX_BLOCK + TAIL];
    loop {
        if reader.read_exact(&mut record[..HEAD]).is_err() {
            return Ok(good);
        }
        let Some(header) = Header::decode(&record) else {
            return Ok(good);
        };
        let whole = header.record_length();
        if good + whole as u64 > length
            || reader.read_exact(&mut record[HEAD..whole]).is_err()
            || !matches!(record::parse(&record[..whole]), Parsed::Record(..))
        {
            return Ok(good);
        }
        good += whole as u64;
    }
}

fn ends_with_record(file: &File, length: u64) -> io::Result<bool> {
    let shortest = (HEAD + TAIL) as u64;
    if length < shortest {
        return Ok(false);
    }
    let mut tail = [0; TAIL];
    file.read_exact_at(&mut tail, length - TAIL as u64)?;
    let text = u64::from(u32::from_le_bytes(tail));
    if text > MAX_BLOCK as u64 || text + shortest > length {
        return Ok(false);
    }
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, length - shortest - text)?;
    Ok(Header::decode(&head).is_some_and(|header| header.length as u64 == text))
}

/// Where the last whole line of a `json-file` ends.
pub(super) fn whole_lines(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    let mut block = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - start) as usize];
        file.read_exact_at(block, start)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

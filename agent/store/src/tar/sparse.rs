//! Sparse files: which parts of the file the payload holds.

use super::BLOCK;
use super::header::Block;
use super::pax;
use super::reader::{Raw, TarReader};
use crate::error::{Error, Result};
use std::io::BufRead;

/// Parts of one sparse file. A map is held in memory, and 16 MiB of it are enough for anybody.
const SPARSE_LIMIT: usize = 1 << 20;

/// A part of a file that the archive holds; the rest are holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub offset: u64,
    pub len: u64,
}

/// Checks a map: ascending, not overlapping, inside the file, and just as long as the payload.
pub(crate) fn check(map: &[(u64, u64)], real_size: u64, payload: u64) -> Result<Vec<Segment>, &'static str> {
    let (mut end, mut sum) = (0u64, 0u64);
    let mut segments = Vec::with_capacity(map.len());
    for &(offset, len) in map {
        if offset < end {
            return Err("a sparse map whose parts overlap or are out of order");
        }
        end = offset
            .checked_add(len)
            .filter(|end| *end <= real_size)
            .ok_or("a sparse map beyond the end of the file")?;
        sum += len; // cannot overflow: parts do not overlap and end at most at real_size
        if len > 0 {
            segments.push(Segment { offset, len });
        }
    }
    if sum != payload {
        return Err("a sparse map that does not fit its data");
    }
    Ok(segments)
}

impl<R: BufRead> TarReader<R> {
    /// Old GNU sparse: the map is in the header and in extension blocks, which are not part of the size.
    pub(super) fn gnu_sparse(&mut self, block: &Block, raw: &mut impl Raw) -> Result<(Vec<(u64, u64)>, u64), Bad> {
        let (mut map, mut more, real_size) = block.gnu_sparse().ok_or("its sparse map is not one")?;
        while more {
            let block = self.block(raw)?.ok_or("its sparse map ends early")?;
            let (pairs, next) = block.gnu_sparse_extension().ok_or("its sparse map is not one")?;
            map.extend(pairs);
            more = next;
            if map.len() > SPARSE_LIMIT {
                return Err("its sparse map has too many parts".into());
            }
        }
        Ok((map, real_size))
    }

    pub(super) fn pax_sparse(
        &mut self,
        pax: &pax::PaxSparse,
        raw: &mut impl Raw,
    ) -> Result<(Vec<(u64, u64)>, u64), Bad> {
        let real_size = pax.real_size.ok_or("it is sparse but has no real size")?;
        let map = match (pax.major.unwrap_or(0), pax.minor.unwrap_or(0)) {
            (1, 0) => self.map_in_payload(raw)?,
            (0, _) => match &pax.map {
                Some(map) => map.clone(),
                None => pax.pairs.clone(),
            },
            _ => return Err("its sparse format is not supported".into()),
        };
        if pax.count.is_some_and(|count| count != map.len() as u64) || map.len() > SPARSE_LIMIT {
            return Err("its sparse map has another length than announced".into());
        }
        Ok((map, real_size))
    }

    /// PAX sparse 1.0: the map stands in front of the data as decimal lines, padded to a block.
    fn map_in_payload(&mut self, raw: &mut impl Raw) -> Result<Vec<(u64, u64)>, Bad> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut wanted: Option<usize> = None;
        let mut line: Vec<u8> = Vec::new();
        while wanted.is_none_or(|n| numbers.len() < n) {
            self.left = self
                .left
                .checked_sub(BLOCK as u64)
                .ok_or("its sparse map is longer than its data")?;
            let block = self.block(raw)?.ok_or("its sparse map ends early")?;
            for byte in block.0 {
                if wanted.is_some_and(|n| numbers.len() >= n) {
                    break; // padding
                }
                if byte != b'\n' {
                    line.push(byte);
                    if line.len() > 20 {
                        return Err("its sparse map is not one".into());
                    }
                    continue;
                }
                let number = pax::decimal(&line).ok_or("its sparse map is not one")?;
                line.clear();
                if wanted.is_some() {
                    numbers.push(number);
                } else if number > SPARSE_LIMIT as u64 {
                    return Err("its sparse map has too many parts".into());
                } else {
                    wanted = Some(number as usize * 2);
                }
            }
        }
        Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }
}

/// A refusal that does not know the entry's name yet.
pub(super) enum Bad {
    Reason(&'static str),
    Other(Error),
}

impl From<&'static str> for Bad {
    fn from(reason: &'static str) -> Bad {
        Bad::Reason(reason)
    }
}

impl From<Error> for Bad {
    fn from(error: Error) -> Bad {
        Bad::Other(error)
    }
}

pub(super) fn keep(bad: Bad, refuse: &impl Fn(&str) -> Error) -> Error {
    match bad {
        Bad::Reason(reason) => refuse(reason),
        Bad::Other(error) => error,
    }
}

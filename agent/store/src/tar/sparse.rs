//! Sparse files: which parts of the file the payload holds.

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

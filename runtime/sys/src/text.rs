//! The program's own code and constants in memory: pages that start-up touched and nobody needs for hours.

/// Unmaps the pages of this program's read-only segments; what is needed again comes back from the page cache, sixteen
/// pages at a fault: `dl_iterate_phdr(3)`, `madvise(2)`. The kernel maps that many around each touched page, so that after
/// start-up most of a large program counts as resident though little of it was used.
pub fn release() {
    /// Called for the program itself first; a return value other than 0 ends the walk there.
    unsafe extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, _: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the C library hands over a valid object for the time of the call.
        let info = unsafe { &*info };
        for index in 0..usize::from(info.dlpi_phnum) {
            // SAFETY: the table has that many entries.
            let header = unsafe { &*info.dlpi_phdr.add(index) };
            if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
                continue;
            }
            let (start, end) = (
                info.dlpi_addr + header.p_vaddr,
                info.dlpi_addr + header.p_vaddr + header.p_memsz,
            );
            // Whole pages only, so that no neighbour is touched.
            let (start, end) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
            if start < end {
                // SAFETY: a segment that is never written (no PF_W, and programs of this kind have no relocations in
                // their text) is the same in the file: dropping its pages changes nothing that can be read.
                unsafe { libc::madvise(start as *mut libc::c_void, (end - start) as usize, libc::MADV_DONTNEED) };
            }
        }
        1
    }
    // SAFETY: the callback keeps to the contract above and does not panic.
    unsafe { libc::dl_iterate_phdr(Some(visit), std::ptr::null_mut()) };
}

const PAGE: u64 = 4096;

#[cfg(test)]
mod tests {
    #[test]
    fn the_program_goes_on_with_the_same_constants() {
        static WORDS: [u64; 4096] = [0x5a5a_a5a5_0102_0304; 4096];
        let sum = |words: &[u64]| words.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
        let before = sum(std::hint::black_box(&WORDS));
        for _ in 0..3 {
            super::release();
            assert_eq!(sum(std::hint::black_box(&WORDS)), before);
        }
    }
}

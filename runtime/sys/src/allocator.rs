//! The C library's allocator: how much memory it may keep for itself.

/// Allows at most `arenas` heaps beside each other: `mallopt(3)`. By default there may be eight for each CPU, each of
/// which keeps what it once needed. To be called before there are threads.
pub fn limit_arenas(arenas: i32) {
    // SAFETY: sets a number inside the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
}

/// Takes blocks from `bytes` on straight from the kernel, so that they go back to it when they are freed, and lets the top
/// of a heap keep at most as much: `mallopt(3)`.
pub fn return_early(bytes: i32) {
    // SAFETY: sets numbers inside the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, bytes);
        libc::mallopt(libc::M_TRIM_THRESHOLD, bytes);
    };
}

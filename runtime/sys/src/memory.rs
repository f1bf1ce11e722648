//! Memory that is given back when it is not needed: a shim lives as long as its container and mostly sleeps.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A page-aligned buffer outside of the heap; untouched pages cost nothing.
#[derive(Debug)]
pub struct Scratch {
    start: std::ptr::NonNull<u8>,
    length: usize,
}

impl Scratch {
    /// Reserves `length` bytes of zeros: `mmap(2)`.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn new(length: usize) -> io::Result<Scratch> {
        Scratch::map(length, None)
    }

    /// The content of a file, as a private copy. The file must not shrink meanwhile: only for sealed memory files.
    ///
    /// # Errors
    /// As `mmap(2)`; `EPERM` when the file is not sealed against shrinking, `EINVAL` when it is shorter.
    pub fn of_sealed(file: BorrowedFd<'_>, length: usize) -> io::Result<Scratch> {
        // SAFETY: takes numbers.
        let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
        let needed = libc::F_SEAL_SHRINK | libc::F_SEAL_WRITE;
        if seals < 0 || seals & needed != needed {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        // A page past its end would be there, and a signal to whoever touches it.
        let size = nix::sys::stat::fstat(file)?.st_size;
        if usize::try_from(size).is_ok_and(|size| size < length) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Scratch::map(length, Some(file))
    }

    fn map(length: usize, file: Option<BorrowedFd<'_>>) -> io::Result<Scratch> {
        let flags = libc::MAP_PRIVATE | if file.is_some() { 0 } else { libc::MAP_ANONYMOUS };
        let fd = file.map_or(-1, |file| file.as_raw_fd());
        let start = map(length, flags, fd)?;
        Ok(Scratch { start, length })
    }

    /// Gives the memory back; the content becomes zeros (or the file's again): `madvise(2)`.
    pub fn release(&mut self) {
        // SAFETY: the range is our own mapping, and nobody borrows it while we hold it exclusively.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.length, libc::MADV_DONTNEED) };
    }
}

impl std::ops::Deref for Scratch {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: our own mapping of that length, readable for as long as we live.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl std::ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: our own mapping of that length, private and writable, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody can use any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// A mark that one process sets and another, forked after it was made, sees, without a system call that a filter could
/// refuse to either.
#[derive(Debug)]
pub struct Mark(std::ptr::NonNull<std::sync::atomic::AtomicBool>);

impl Mark {
    /// One that is not set: a shared page, `mmap(2)`.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn new() -> io::Result<Mark> {
        let page = map(1, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)?;
        Ok(Mark(page.cast()))
    }

    /// Sets it.
    pub fn set(&self) {
        self.flag().store(true, std::sync::atomic::Ordering::Release);
    }

    /// Whether it has been set.
    pub fn is_set(&self) -> bool {
        self.flag().load(std::sync::atomic::Ordering::Acquire)
    }

    fn flag(&self) -> &std::sync::atomic::AtomicBool {
        // SAFETY: a mapping of our own with at least this byte in it, which began as zero and is unmapped with us alone.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody can use any more; another process' is another.
        unsafe { libc::munmap(self.0.as_ptr().cast(), 1) };
    }
}

/// A new mapping to read and write, at a place of the kernel's choice.
fn map(length: usize, flags: libc::c_int, fd: libc::c_int) -> io::Result<std::ptr::NonNull<u8>> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: where nothing was mapped, nobody's memory changes.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, fd, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    std::ptr::NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at zero"))
}

/// Gives free heap memory back to the kernel: `malloc_trim(3)`.
pub fn trim_heap() {
    // SAFETY: touches only the allocator's own state.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_mark_is_seen_across_a_fork() {
        let mark = Mark::new().unwrap();
        assert!(!mark.is_set());
        // SAFETY: the child does nothing but set the mark and end.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                mark.set();
                crate::clone::exit_now(0)
            }
            nix::unistd::ForkResult::Parent { child } => nix::sys::wait::waitpid(child, None).unwrap(),
        };
        assert!(mark.is_set());
    }

    #[test]
    fn sealed_files_are_mapped_to_their_end_and_others_not_at_all() {
        let mut file = std::fs::File::from(crate::fd::memory_file(c"test").unwrap());
        file.write_all(b"content").unwrap();
        let mapped = |length| Scratch::of_sealed(file.as_fd(), length).map(|mapped| mapped.to_vec());
        assert_eq!(mapped(7).unwrap_err().raw_os_error(), Some(libc::EPERM));
        crate::fd::seal(file.as_fd()).unwrap();
        assert_eq!(mapped(7).unwrap(), b"content");
        assert_eq!(mapped(8192).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}

//! How the kernel treats a process: scheduler, block layer, CPUs, memory nodes, personality.

use std::io;

use crate::cvt::check;

/// `struct sched_attr` of `linux/sched/types.h`, its first version.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedAttr {
    size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// 1 to 99.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// Sets policy and parameters of the calling thread: `sched_setattr(2)`.
///
/// # Errors
/// As `sched_setattr(2)`.
pub fn set_scheduler(mut attributes: SchedAttr) -> io::Result<()> {
    attributes.size = size_of::<SchedAttr>() as u32;
    // SAFETY: the struct lives across the call and says its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// Sets class and level of the calling thread's block IO: `ioprio_set(2)`.
///
/// # Errors
/// As `ioprio_set(2)`.
pub fn set_io_priority(value: u32) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: takes numbers.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// Binds the calling thread to CPUs, by number: `sched_setaffinity(2)`.
///
/// # Errors
/// As `sched_setaffinity(2)`; `EINVAL` when none of them is there, or one is past all that a kernel can have.
pub fn set_affinity(cpus: &[u32]) -> io::Result<()> {
    let mask = bits(cpus)?;
    // SAFETY: the mask lives across the call, and its length is its own.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&*mask), mask.as_ptr()) }).map(drop)
}

/// Sets the memory policy (`MPOL_*`) of the calling thread over nodes by number: `set_mempolicy(2)`.
///
/// # Errors
/// As `set_mempolicy(2)`; `EINVAL` for a node past all that a kernel can have.
pub fn set_memory_policy(mode: u32, nodes: &[u32]) -> io::Result<()> {
    let mask = bits(nodes)?;
    let (pointer, length) = if nodes.is_empty() {
        (std::ptr::null(), 0)
    } else {
        // One more than there are bits: the kernel takes one off.
        (mask.as_ptr(), mask.len() * 64 + 1)
    };
    // SAFETY: the mask lives across the call, and as many bits as said are in it.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, length) }).map(drop)
}

/// More than the kernel's `NR_CPUS` and `MAX_NUMNODES` can be: a mask never grows with a number in somebody's plan.
const MOST: u32 = 1 << 16;

fn bits(numbers: &[u32]) -> io::Result<Vec<u64>> {
    let highest = numbers.iter().max().copied().unwrap_or(0);
    if highest >= MOST {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let words = highest as usize / 64 + 1;
    let mut mask = vec![0u64; words];
    for number in numbers {
        mask[*number as usize / 64] |= 1 << (number % 64);
    }
    Ok(mask)
}

/// Sets the execution domain: `personality(2)`.
///
/// # Errors
/// As `personality(2)`.
pub fn set_personality(persona: u64) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::personality(persona as libc::c_ulong) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::bits;

    #[test]
    fn numbers_become_bits() {
        assert_eq!(bits(&[]).ok(), Some(vec![0]));
        assert_eq!(bits(&[0, 2, 63]).ok(), Some(vec![1 << 63 | 5]));
        assert_eq!(bits(&[64, 1]).ok(), Some(vec![2, 1]));
        assert!(bits(&[3, u32::MAX]).is_err());
    }
}

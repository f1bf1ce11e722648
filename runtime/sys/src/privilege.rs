//! What a process may do: capabilities, identities, limits, `prctl(2)` switches.
//!
//! Identities are changed by the bare system calls: the C library's functions would signal other threads to follow,
//! and the callers have none.

use std::io;

use crate::cvt::check;

/// Capability sets of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// In force.
    pub effective: u64,
    /// Allowed to be put in force.
    pub permitted: u64,
    /// Kept through `exec` of files with inheritable capabilities.
    pub inheritable: u64,
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Sets the capability sets of the calling thread: `capset(2)`.
///
/// # Errors
/// As `capset(2)`.
pub fn set_capabilities(sets: Capabilities) -> io::Result<()> {
    let header = CapHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    // The kernel's ABI has the low and the high halves in two elements.
    let half = |shift: u32| CapData {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 takes a header and two data elements; both live across the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// The capability sets of the calling thread: `capget(2)`.
///
/// # Errors
/// As `capget(2)`.
pub fn capabilities() -> io::Result<Capabilities> {
    let mut header = CapHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let mut data = [CapData::default(); 2];
    // SAFETY: version 3 takes a header and room for two data elements; both live across the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |field: fn(&CapData) -> u32| u64::from(field(&data[0])) | (u64::from(field(&data[1])) << 32);
    Ok(Capabilities {
        effective: join(|d| d.effective),
        permitted: join(|d| d.permitted),
        inheritable: join(|d| d.inheritable),
    })
}

fn prctl(option: i32, a: u64, b: u64) -> io::Result<i32> {
    // SAFETY: used only with options that take numbers.
    check(unsafe { libc::prctl(option, a, b, 0u64, 0u64) }.into()).map(|value| value as i32)
}

/// Takes a capability out of the bounding set: `PR_CAPBSET_DROP`. `EINVAL`: the kernel does not know it.
///
/// # Errors
/// As `prctl(2)`.
pub fn drop_bounding(capability: u32) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, capability.into(), 0).map(drop)
}

/// Whether a capability is in the bounding set; `None`: the kernel does not know it. `PR_CAPBSET_READ`.
pub fn in_bounding(capability: u32) -> Option<bool> {
    prctl(libc::PR_CAPBSET_READ, capability.into(), 0)
        .ok()
        .map(|value| value == 1)
}

/// Puts a capability (permitted and inheritable already) into the ambient set: `PR_CAP_AMBIENT_RAISE`.
///
/// # Errors
/// As `prctl(2)`.
pub fn raise_ambient(capability: u32) -> io::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_RAISE as u64,
        capability.into(),
    )
    .map(drop)
}

/// Empties the ambient set: `PR_CAP_AMBIENT_CLEAR_ALL`.
///
/// # Errors
/// As `prctl(2)`.
pub fn clear_ambient() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).map(drop)
}

/// Keeps the permitted capabilities when the user changes: `PR_SET_KEEPCAPS`.
///
/// # Errors
/// As `prctl(2)`.
pub fn keep_capabilities(keep: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop)
}

/// From now on no `exec` gains privileges: `PR_SET_NO_NEW_PRIVS`.
///
/// # Errors
/// As `prctl(2)`.
pub fn no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Whether others may look into the process (`/proc/PID/{fd,exe,mem}`, ptrace): `PR_SET_DUMPABLE`.
///
/// # Errors
/// As `prctl(2)`.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into(), 0).map(drop)
}

/// Orphans below this process become its children: `PR_SET_CHILD_SUBREAPER`.
///
/// # Errors
/// As `prctl(2)`.
pub fn become_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// Names the process for `ps`, at most 15 bytes: `PR_SET_NAME`.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: the kernel reads at most 16 bytes up to the terminating zero; a name is no reason to fail.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// Sets real, effective and saved group: `setresgid(2)`.
///
/// # Errors
/// As `setresgid(2)`.
pub fn set_group(gid: u32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Sets real, effective and saved user: `setresuid(2)`.
///
/// # Errors
/// As `setresuid(2)`.
pub fn set_user(uid: u32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Sets the additional groups: `setgroups(2)`.
///
/// # Errors
/// As `setgroups(2)`.
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and the count describe the slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Sets a resource limit (`RLIMIT_*`) of the calling process: `prlimit(2)`.
///
/// # Errors
/// As `prlimit(2)`; `EPERM` when the hard limit would rise.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the new limit lives across the call, the old one is not asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null::<u8>(),
        )
    })
    .map(drop)
}

/// The soft and the hard limit of the calling process: `prlimit(2)`.
///
/// # Errors
/// As `prlimit(2)`.
pub fn limit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: no new limit is given, the room for the old one lives across the call.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<u8>(), &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Raises the hard limit of another process to `hard`, if it is lower, and leaves the soft one: `prlimit(2)`. Only for the
/// caller's own unreaped children, whose number cannot have been reused.
///
/// # Errors
/// As `prlimit(2)`.
pub fn raise_limit_of(pid: i32, resource: u32, hard: u64) -> io::Result<()> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` lives across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            std::ptr::null::<u8>(),
            &raw mut limit,
        )
    })?;
    if limit.rlim_max >= hard {
        return Ok(());
    }
    limit.rlim_max = hard;
    // SAFETY: `limit` lives across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            resource,
            &raw const limit,
            std::ptr::null_mut::<u8>(),
        )
    })
    .map(drop)
}

/// Loads a seccomp program that has no listener: [`crate::seccomp::load`].
///
/// # Errors
/// As there.
pub fn load_seccomp(program: &[u8], flags: u32) -> io::Result<()> {
    crate::seccomp::load(program, flags, false).map(drop)
}

/// Begins an empty session keyring, so that the keys of whoever started us are not possessed any more: `keyctl(2)`.
///
/// # Errors
/// As `keyctl(2)`; `ENOSYS` on kernels without keys.
pub fn leave_session_keyring() -> io::Result<()> {
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, anonymous) }).map(drop)
}

/// The process gets `signal` when the thread that made it ends: `PR_SET_PDEATHSIG`. A change of user clears it.
///
/// # Errors
/// As `prctl(2)`.
pub fn signal_at_parents_end(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0).map(drop)
}

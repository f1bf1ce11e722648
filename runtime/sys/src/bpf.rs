//! bpf(2): a program that decides about devices, attached to a v2 control group.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// <linux/bpf.h>
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of groups above and below are asked too; each may refuse.
const BPF_F_ALLOW_MULTI: u32 = 2;
/// The new program takes the place of another in one step. Since Linux 5.6.
const BPF_F_REPLACE: u32 = 4;
/// The kernel's `BPF_CGROUP_MAX_PROGS`.
const PROGRAMS_MAX: usize = 64;

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads; the kernel takes what is left out as zeros.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The same for `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The same for `BPF_PROG_QUERY`.
#[repr(C)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The same for `BPF_PROG_GET_FD_BY_ID`.
#[repr(C)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// bpf(2).
///
/// # Safety
/// `Attributes` is the layout of `command`, and what its addresses point to lives through the call.
unsafe fn bpf<Attributes>(command: libc::c_int, attributes: &mut Attributes) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are exclusively ours for the call and as long as said; the rest is the caller's promise.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<Attributes>() as libc::c_uint,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(done)
    }
}

/// # Safety
/// As for [`bpf`], of a command that answers with a new descriptor.
unsafe fn bpf_fd<Attributes>(command: libc::c_int, attributes: &mut Attributes) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attributes)? };
    let fd = i32::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Loads a device program, a `struct bpf_insn` array.
///
/// # Errors
/// `EINVAL` or `EACCES` when the kernel's verifier refuses it, `EPERM` without `CAP_BPF` or `CAP_SYS_ADMIN`.
pub fn load_device_program(instructions: &[u8]) -> io::Result<OwnedFd> {
    let (count, rest) = (instructions.len() / 8, instructions.len() % 8);
    if count == 0 || rest != 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut attributes = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?,
        insns: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: what the attributes point to lives through the call; the kernel copies `insn_cnt` instructions of eight
    // bytes, which is the length of the slice (it has no alignment requirement), and a NUL-terminated licence.
    unsafe { bpf_fd(BPF_PROG_LOAD, &mut attributes) }
}

/// Puts `program` in charge of the devices of the group whose folder `cgroup` is. It stays as long as the group does.
///
/// # Errors
/// `EBADF` when `cgroup` is not a folder of a v2 hierarchy, `EPERM` without `CAP_NET_ADMIN` and `CAP_BPF` (or
/// `CAP_SYS_ADMIN`), or when a group above has a program that allows none below.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    attach(cgroup, program, None)
}

fn attach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, replaced: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut attributes = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI | if replaced.is_some() { BPF_F_REPLACE } else { 0 },
        replace_bpf_fd: replaced.map_or(0, |program| program.as_raw_fd() as u32),
    };
    // SAFETY: the attributes hold plain numbers; the descriptors are borrowed and so open.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attributes) }.map(drop)
}

fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        ..Attach::default()
    };
    // SAFETY: the attributes hold plain numbers; the descriptors are borrowed and so open.
    unsafe { bpf(BPF_PROG_DETACH, &mut attributes) }.map(drop)
}

/// The device programs attached to the group itself.
///
/// # Errors
/// As for [`attach_device_program`].
pub fn device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; PROGRAMS_MAX];
    let mut attributes = Query {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: PROGRAMS_MAX as u32,
        padding: 0,
    };
    // SAFETY: the kernel writes at most `prog_cnt` ids to `ids`, which has room for them and lives through the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes)? };
    let mut programs = Vec::new();
    for id in ids.iter().take(attributes.prog_cnt as usize) {
        let mut attributes = ById {
            prog_id: *id,
            next_id: 0,
            open_flags: 0,
        };
        // SAFETY: the attributes hold plain numbers.
        match unsafe { bpf_fd(BPF_PROG_GET_FD_BY_ID, &mut attributes) } {
            Ok(program) => programs.push(program),
            // Detached and gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(programs)
}

/// Puts `program` in charge of the group's devices in place of all that are attached to it; `None`: none stays. At no
/// moment is anything allowed that neither the old ones nor the new one allow.
///
/// # Errors
/// As for [`attach_device_program`]. When an old program cannot be taken away, the new one is in force beside it.
pub fn replace_device_programs(cgroup: BorrowedFd<'_>, program: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let old = device_programs(cgroup)?;
    if let Some(program) = program {
        if let [old] = &old[..] {
            match attach(cgroup, program, Some(old.as_fd())) {
                // The kernel is older than the flag, or the old one was not attached with `BPF_F_ALLOW_MULTI`.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                other => return other,
            }
        }
        attach(cgroup, program, None)?;
    }
    old.iter().try_for_each(|old| detach(cgroup, old.as_fd()))
}

//! bpf(2): a program that decides about devices, attached to a v2 control group.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// <linux/bpf.h>
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of groups above and below are asked too; each may refuse.
const BPF_F_ALLOW_MULTI: u32 = 2;

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

/// The same for `BPF_PROG_ATTACH`.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
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
    let attributes = Load {
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
    // SAFETY: `attributes` and what it points to live through the call; the kernel copies `insn_cnt` instructions of
    // eight bytes, which is the length of the slice (it has no alignment requirement), and a NUL-terminated licence.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of::<Load>() as libc::c_uint,
        )
    };
    let fd = i32::try_from(fd)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts `program` in charge of the devices of the group whose folder `cgroup` is. It stays as long as the group does.
///
/// # Errors
/// `EBADF` when `cgroup` is not a folder of a v2 hierarchy, `EPERM` without `CAP_NET_ADMIN` and `CAP_BPF` (or
/// `CAP_SYS_ADMIN`), or when a group above has a program that allows none below.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = Attach {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `attributes` lives through the call and holds plain numbers; both descriptors are borrowed and so open.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attributes,
            size_of::<Attach>() as libc::c_uint,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

//! The system calls of a shim that has made its process.

/// `SECCOMP_RET_ERRNO` with `EPERM`. Not the end of the process: a call that a future C library makes instead of one of
/// these would end every container with it.
pub const REFUSE: u32 = ACTION | libc::EPERM as u32;
/// Without the error's number, as the kernel is asked whether it has it.
pub const ACTION: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;

#[cfg(target_arch = "x86_64")]
const ARCH: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCH: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCH: Option<u32> = None;

/// Allowed whatever their arguments.
const CALLS: &[libc::c_long] = &[
    libc::SYS_epoll_pwait,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_epoll_ctl,
    libc::SYS_close,
    // Streams and log.
    libc::SYS_writev,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_shutdown,
    libc::SYS_accept4,
    libc::SYS_fcntl,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_openat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    // The process and its groups.
    libc::SYS_wait4,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_open,
    // Memory and time.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_futex,
    libc::SYS_getrandom,
    // The end, also by a panic.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Names that only this architecture has besides.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[libc::c_long] = &[
    libc::SYS_epoll_wait,
    libc::SYS_open,
    libc::SYS_rename,
    libc::SYS_unlink,
    libc::SYS_rmdir,
    libc::SYS_stat,
    libc::SYS_lstat,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[libc::c_long] = &[];

// <linux/filter.h>
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_NOT_BELOW: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

// Offsets in `struct seccomp_data`; of an argument, its low half.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 }
}

/// Instructions, each a `struct sock_filter`.
type Code = Vec<[u8; 8]>;

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> [u8; 8] {
    let ([c0, c1], [k0, k1, k2, k3]) = (code.to_ne_bytes(), k.to_ne_bytes());
    [c0, c1, jt, jf, k0, k1, k2, k3]
}

/// The program, an array of `struct sock_filter`; `None` where nobody knows the architecture's number.
pub fn program() -> Option<Vec<u8>> {
    let allow = || vec![instruction(RETURN, 0, 0, ALLOW)];
    let mut calls: Vec<(u32, Code)> = OLD_CALLS
        .iter()
        .chain(CALLS)
        .map(|call| (*call as u32, allow()))
        .collect();
    // No memory becomes executable.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let code = vec![
            instruction(LOAD, 0, 0, argument(2)),
            instruction(JUMP_ANY_BIT, 0, 1, libc::PROT_EXEC as u32),
            instruction(RETURN, 0, 0, REFUSE),
            instruction(RETURN, 0, 0, ALLOW),
        ];
        calls.push((call as u32, code));
    }
    // Of the terminal, only its size.
    let size = vec![
        instruction(LOAD, 0, 0, argument(1)),
        instruction(JUMP_EQUAL, 0, 1, libc::TIOCSWINSZ as u32),
        instruction(RETURN, 0, 0, ALLOW),
        instruction(RETURN, 0, 0, REFUSE),
    ];
    calls.push((libc::SYS_ioctl as u32, size));
    calls.sort_unstable_by_key(|(number, _)| *number);
    let mut program = vec![
        instruction(LOAD, 0, 0, ARCHITECTURE),
        instruction(JUMP_EQUAL, 1, 0, ARCH?),
        instruction(RETURN, 0, 0, REFUSE),
        instruction(LOAD, 0, 0, NUMBER),
    ];
    program.extend(search(&calls));
    Some(program.concat())
}

/// A binary search: the kernel runs the program once for each of its calls when it is loaded (150 µs for a list).
fn search(calls: &[(u32, Code)]) -> Code {
    let (left, right) = calls.split_at(calls.len() / 2);
    if let (4.., Some((first, _))) = (calls.len(), right.first()) {
        let left = search(left);
        // Half of the list at most: far below the 255 instructions that can be skipped.
        let skip = vec![instruction(JUMP_NOT_BELOW, left.len() as u8, 0, *first)];
        return [skip, left, search(right)].concat();
    }
    let mut all = Code::new();
    for (number, code) in calls {
        all.push(instruction(JUMP_EQUAL, 0, code.len() as u8, *number));
        all.extend(code);
    }
    all.push(instruction(RETURN, 0, 0, REFUSE));
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Error, ErrorKind};
    use std::os::unix::net::UnixStream;

    use runtime_sys::{privilege, seccomp};

    #[test]
    fn no_jump_is_longer_than_can_be_told() {
        let calls = super::CALLS.len() + super::OLD_CALLS.len() + 3;
        assert!(4 * calls / 2 < 255, "{calls} calls");
    }

    #[test]
    fn nothing_new_can_be_made() {
        let Some(program) = super::program() else {
            println!("skipped: no filter on this architecture");
            return;
        };
        let kind = |error: Error| error.kind();
        // A filter is a thread's own.
        let tried = std::thread::spawn(move || {
            privilege::no_new_privileges().unwrap();
            seccomp::load(&program, 0, false).unwrap();
            [
                std::process::Command::new("/bin/true").status().map(drop).map_err(kind),
                UnixStream::pair().map(drop).map_err(kind),
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(|errno| kind(errno.into())),
                std::fs::create_dir("/tmp/never").map_err(kind),
                std::fs::metadata("/").map(drop).map_err(kind),
            ]
        });
        let no = || Err(ErrorKind::PermissionDenied);
        assert_eq!(tried.join().unwrap(), [no(), no(), no(), no(), Ok(())]);
    }
}

//! The default profile: Docker's, as of mid-2026, which is what everybody's images are tried with.
//!
//! An allow list; everything else answers `EPERM`. Kept out are calls that reach the kernel outside of namespaces (modules,
//! kexec, clocks, swap, raw I/O), keyrings, io_uring and userfaultfd (a long history of exploits), and new user
//! namespaces; a container with the capability for such a call is allowed the call too.

use super::names::DEFAULT_FLAGS;
use super::profile::{Action, Argument, Compare, Condition, Interfaces, Profile, Rule};
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

const ENOSYS: u16 = 38;
const EPERM: u16 = 1;

const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID` and `NEWNET`.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// `PER_LINUX`, `PER_LINUX32`, `UNAME26`, both of these, and the query.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

mod cap {
    pub const DAC_READ_SEARCH: u64 = 1 << 2;
    pub const SYS_MODULE: u64 = 1 << 16;
    pub const SYS_RAWIO: u64 = 1 << 17;
    pub const SYS_CHROOT: u64 = 1 << 18;
    pub const SYS_PTRACE: u64 = 1 << 19;
    pub const SYS_PACCT: u64 = 1 << 20;
    pub const SYS_ADMIN: u64 = 1 << 21;
    pub const SYS_BOOT: u64 = 1 << 22;
    pub const SYS_NICE: u64 = 1 << 23;
    pub const SYS_TIME: u64 = 1 << 25;
    pub const SYS_TTY_CONFIG: u64 = 1 << 26;
    pub const SYSLOG: u64 = 1 << 34;
    pub const PERFMON: u64 = 1 << 38;
    pub const BPF: u64 = 1 << 39;
}

/// Allowed with a capability.
static WITH_CAPABILITY: [(u64, &[&str]); 14] = [
    (cap::DAC_READ_SEARCH, &["open_by_handle_at"]),
    (
        cap::SYS_ADMIN,
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    (cap::SYS_BOOT, &["reboot"]),
    (cap::SYS_CHROOT, &["chroot"]),
    (cap::SYS_MODULE, &["delete_module", "finit_module", "init_module"]),
    (cap::SYS_PACCT, &["acct"]),
    (
        cap::SYS_PTRACE,
        &[
            "kcmp",
            "pidfd_getfd",
            "process_madvise",
            "process_vm_readv",
            "process_vm_writev",
            "ptrace",
        ],
    ),
    (cap::SYS_RAWIO, &["ioperm", "iopl"]),
    (
        cap::SYS_TIME,
        &["clock_settime", "clock_settime64", "settimeofday", "stime"],
    ),
    (cap::SYS_TTY_CONFIG, &["vhangup"]),
    (
        cap::SYS_NICE,
        &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"],
    ),
    (cap::SYSLOG, &["syslog"]),
    (cap::BPF, &["bpf"]),
    (cap::PERFMON, &["perf_event_open"]),
];

/// Allowed on some machines, by Docker's names of them.
static ON_MACHINES: [(&[&str], &[&str]); 3] = [
    (
        &["arm", "arm64"],
        &[
            "arm_fadvise64_64",
            "arm_sync_file_range",
            "breakpoint",
            "cacheflush",
            "set_tls",
            "sync_file_range2",
        ],
    ),
    (&["amd64", "x32"], &["arch_prctl"]),
    (&["amd64", "x32", "x86"], &["modify_ldt"]),
];

fn rule(names: &[&'static str], action: Action) -> Rule {
    Rule {
        names: names.iter().copied().map(Cow::Borrowed).collect(),
        action,
        arguments: Vec::new(),
        includes: Condition::default(),
        excludes: Condition::default(),
    }
}

fn when(name: &'static str, compare: Compare, value: u64) -> Rule {
    Rule {
        arguments: vec![Argument {
            index: 0,
            compare,
            value,
        }],
        ..rule(&[name], Action::ALLOW)
    }
}

impl Profile {
    /// Docker's default profile.
    pub fn docker() -> Arc<Profile> {
        static PROFILE: OnceLock<Arc<Profile>> = OnceLock::new();
        PROFILE.get_or_init(|| Arc::new(build())).clone()
    }
}

fn build() -> Profile {
    let mut rules = vec![rule(&ALLOWED, Action::ALLOW)];
    // Before 4.8 a traced process could get around its filter.
    let mut tracing = rule(&["process_vm_readv", "process_vm_writev", "ptrace"], Action::ALLOW);
    tracing.includes.kernel = Some((4, 8));
    rules.push(tracing);
    // AF_VSOCK knows no network namespace and reaches the hypervisor; AF_ALG is a large and rarely needed piece of kernel.
    rules.push(when("socket", Compare::Lt, AF_ALG));
    rules.push(when("socket", Compare::Eq, AF_ALG + 1));
    rules.push(when("socket", Compare::Gt, AF_VSOCK));
    rules.extend(PERSONALITIES.map(|value| when("personality", Compare::Eq, value)));
    for (machines, names) in ON_MACHINES {
        let mut on_machines = rule(names, Action::ALLOW);
        on_machines.includes.architectures = machines.iter().copied().map(Cow::Borrowed).collect();
        rules.push(on_machines);
    }
    for (capability, names) in WITH_CAPABILITY {
        let mut with_capability = rule(names, Action::ALLOW);
        with_capability.includes.capabilities = capability;
        rules.push(with_capability);
    }
    let mut clone = when("clone", Compare::MaskedEq(NAMESPACE_FLAGS), 0);
    clone.excludes.capabilities = cap::SYS_ADMIN;
    rules.push(clone);
    // A filter cannot see the flags, which are behind a pointer. C libraries fall back to `clone` on ENOSYS alone.
    let mut clone3 = rule(&["clone3"], Action::errno(ENOSYS));
    clone3.excludes.capabilities = cap::SYS_ADMIN;
    rules.push(clone3);
    Profile::new(Action::errno(EPERM), Interfaces::All, DEFAULT_FLAGS, rules)
}

/// Allowed for everybody.
#[rustfmt::skip]
static ALLOWED: [&str; 361] = [
    "_llseek", "_newselect", "accept", "accept4", "access", "adjtimex", "alarm", "bind", "brk", "cachestat", "capget",
    "capset", "chdir", "chmod", "chown", "chown32", "clock_adjtime", "clock_adjtime64", "clock_getres",
    "clock_getres_time64", "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "close",
    "close_range", "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create", "epoll_create1",
    "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd",
    "eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fadvise64_64",
    "fallocate", "fanotify_mark", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat",
    "fcntl", "fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat",
    "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex", "futex_requeue",
    "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "futimesat", "get_robust_list", "get_thread_area",
    "getcpu", "getcwd", "getdents", "getdents64", "getegid", "getegid32", "geteuid", "geteuid32", "getgid",
    "getgid32", "getgroups", "getgroups32", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid",
    "getpriority", "getrandom", "getresgid", "getresgid32", "getresuid", "getresuid32", "getrlimit", "getrusage",
    "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getuid32", "getxattr", "getxattrat",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel", "io_destroy",
    "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit", "ioctl", "ioprio_get",
    "ioprio_set", "ipc", "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown",
    "lchown32", "lgetxattr", "link", "linkat", "listen", "listmount", "listxattr", "listxattrat", "llistxattr",
    "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise", "map_shadow_stack", "membarrier",
    "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mknod", "mknodat", "mlock", "mlock2", "mlockall",
    "mmap", "mmap2", "mprotect", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
    "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd",
    "msync", "munlock", "munlockall", "munmap", "name_to_handle_at", "nanosleep", "newfstatat", "open", "openat",
    "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free",
    "pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl", "pread64", "preadv", "preadv2", "prlimit64",
    "process_mrelease", "pselect6", "pselect6_time64", "pwrite64", "pwritev", "pwritev2", "read", "readahead",
    "readlink", "readlinkat", "readv", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg",
    "remap_file_pages", "removexattr", "removexattrat", "rename", "renameat", "renameat2", "restart_syscall",
    "riscv_hwprobe", "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
    "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo",
    "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity",
    "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "seccomp", "select", "semctl", "semget",
    "semop", "semtimedop", "semtimedop_time64", "send", "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto",
    "set_robust_list", "set_thread_area", "set_tid_address", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32",
    "setgid", "setgid32", "setgroups", "setgroups32", "setitimer", "setpgid", "setpriority", "setregid", "setregid32",
    "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit", "setsid",
    "setsockopt", "setuid", "setuid32", "setxattr", "setxattrat", "shmat", "shmctl", "shmdt", "shmget", "shutdown",
    "sigaltstack", "signalfd", "signalfd4", "sigprocmask", "sigreturn", "socketcall", "socketpair", "splice", "stat",
    "stat64", "statfs", "statfs64", "statmount", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs",
    "sysinfo", "tee", "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
    "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64",
    "timerfd_settime", "timerfd_settime64", "times", "tkill", "truncate", "truncate64", "ugetrlimit", "umask",
    "uname", "unlink", "unlinkat", "uretprobe", "utime", "utimensat", "utimensat_time64", "utimes", "vfork",
    "vmsplice", "wait4", "waitid", "waitpid", "write", "writev",
];

//! Filters of system calls.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        calls_fail_with_the_error_asked_for,
        calls_kill_the_process,
        calls_are_allowed_by_argument,
        arguments_of_one_rule_must_all_match,
        everything_is_forbidden_but_what_is_allowed,
        unknown_calls_of_a_rule_are_left_out,
        unknown_actions_and_operators_are_refused,
        a_filter_is_in_force_at_exec,
        a_filter_without_no_new_privileges,
        a_filter_for_other_architectures_too,
        flags_of_a_filter,
        a_listener_is_told_of_calls,
        a_notify_rule_without_a_listener_is_refused,
    ]
}

fn allowing(rules: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules})
}

fn calls_fail_with_the_error_asked_for(world: &World) {
    for (number, text) in [
        (1, "Operation not permitted"),
        (38, "Function not implemented"),
        (28, "No space left"),
    ] {
        let mut bundle = world.bundle();
        let rule = json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": number}]);
        bundle.set("/linux/seccomp", allowing(rule)).shell("mkdir /made");
        let out = bundle.run();
        assert!(out.code != 0 && out.err.contains(text), "{out:?}");
    }
    // EPERM, if none is named.
    let mut bundle = world.bundle();
    bundle.set(
        "/linux/seccomp",
        allowing(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}])),
    );
    bundle.shell("mkdir /made");
    assert!(bundle.run().err.contains("Operation not permitted"));
}

fn calls_kill_the_process(world: &World) {
    for action in [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
    ] {
        let mut bundle = world.bundle();
        bundle.set(
            "/linux/seccomp",
            allowing(json!([{"names": ["mkdir", "mkdirat"], "action": action}])),
        );
        bundle.shell("(mkdir /made); echo $?");
        // SIGSYS is 31.
        assert_eq!(bundle.run().out.lines().last(), Some("159"), "{action}");
        assert!(!bundle.rootfs("/made").exists());
    }
}

fn calls_are_allowed_by_argument(world: &World) {
    let mut bundle = world.bundle();
    // personality(8) is ADDR_... PER_LINUX32; 0 is allowed as ever.
    let rule = json!([{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]);
    bundle
        .set("/linux/seccomp", allowing(rule))
        .shell("setarch linux32 true || linux32 true; linux64 true && echo second");
    let out = bundle.run();
    assert!(
        out.err.contains("Operation not permitted") && out.out == "second",
        "{out:?}"
    );
}

fn arguments_of_one_rule_must_all_match(world: &World) {
    let mut bundle = world.bundle();
    // kill(pid, SIGTERM) of nobody but process 4242424, and any signal to it but TERM.
    let rule = json!([{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": [
        {"index": 0, "value": 424_242, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 15, "op": "SCMP_CMP_EQ"}]}]);
    bundle
        .set("/linux/seccomp", allowing(rule))
        .shell("kill -TERM 424242; kill -HUP 424242; kill -TERM 424243");
    let out = bundle.run();
    let lines: Vec<&str> = out.err.lines().collect();
    assert!(lines.len() == 3 && lines[0].contains("No space left"), "{out:?}");
    assert!(
        lines[1].contains("No such process") && lines[2].contains("No such process"),
        "{out:?}"
    );
}

fn everything_is_forbidden_but_what_is_allowed(world: &World) {
    let mut bundle = world.bundle();
    let names = [
        "execve",
        "exit",
        "exit_group",
        "write",
        "writev",
        "read",
        "open",
        "openat",
        "close",
        "brk",
        "mmap",
        "munmap",
        "mprotect",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "readlink",
        "readlinkat",
        "getrandom",
        "fstat",
        "newfstatat",
        "stat",
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "getpid",
        "getppid",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "ioctl",
        "fcntl",
        "futex",
        "prctl",
        "setuid",
        "setgid",
        "capset",
        "capget",
        "setresuid",
        "setresgid",
        "setgroups",
        "close_range",
        "getdents64",
        "chdir",
        "fchdir",
        "getcwd",
        "epoll_create1",
        "epoll_ctl",
        "epoll_pwait",
        "nanosleep",
        "clock_nanosleep",
        "sched_getaffinity",
        "sigaltstack",
        "gettid",
        "tgkill",
        "madvise",
        "dup",
        "dup2",
        "dup3",
        "pipe2",
        "statx",
        "access",
        "faccessat",
        "faccessat2",
        "uname",
        "lseek",
        "recvfrom",
        "recvmsg",
        "sendto",
        "sendmsg",
        "poll",
        "ppoll",
        "setsid",
        "umask",
        "openat2",
        "fchown",
        "clone",
        "clone3",
        "wait4",
        "execveat",
        "tkill",
        "keyctl",
        "unlinkat",
        "fstatfs",
        "shutdown",
        "getrlimit",
        "setrlimit",
        "timer_create",
        "timer_settime",
        "timer_delete",
        "pread64",
        "getpriority",
        "setpriority",
        "pidfd_open",
        "pidfd_send_signal",
        "socket",
        "connect",
        "getsockopt",
        "setsockopt",
        "restart_syscall",
        "sched_yield",
        "eventfd2",
        "mincore",
        "sysinfo",
    ];
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 28, "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": &names[..], "action": "SCMP_ACT_ALLOW"}]});
    bundle.set("/linux/seccomp", profile).shell("echo works; mkdir /made");
    let out = bundle.run();
    assert!(out.out == "works" && out.err.contains("No space left"), "{out:?}");
}

fn unknown_calls_of_a_rule_are_left_out(world: &World) {
    let mut bundle = world.bundle();
    let rule = json!([{"names": ["no_such_call_yet", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]);
    bundle
        .set("/linux/seccomp", allowing(rule))
        .shell("mkdir /made || echo refused");
    assert_eq!(bundle.run().out, "refused");
}

fn unknown_actions_and_operators_are_refused(world: &World) {
    let rules = [
        json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTHING"}]),
        json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_NOTHING"}]}]),
        json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]),
    ];
    for rule in rules {
        let mut bundle = world.bundle();
        bundle.set("/linux/seccomp", allowing(rule.clone())).shell("true");
        assert_ne!(bundle.run().code, 0, "{rule}");
    }
    let mut bundle = world.bundle();
    bundle
        .set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOTHING"]}),
        )
        .shell("true");
    assert_ne!(bundle.run().code, 0);
}

fn a_filter_is_in_force_at_exec(world: &World) {
    let mut bundle = world.bundle();
    bundle.set(
        "/linux/seccomp",
        allowing(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}])),
    );
    let process = bundle.sleeper();
    assert_eq!(process.status("Seccomp"), "2");
    assert_eq!(process.status("Seccomp_filters"), "1");
    let out = bundle.inside("grep Seccomp_filters /proc/self/status; mkdir /made");
    assert!(out.out.ends_with('1') && out.err.contains("not permitted"), "{out:?}");
}

fn a_filter_without_no_new_privileges(world: &World) {
    let mut bundle = world.bundle();
    bundle.set("/process/noNewPrivileges", false);
    bundle.set(
        "/linux/seccomp",
        allowing(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}])),
    );
    let process = bundle.sleeper();
    assert_eq!(
        (process.status("Seccomp"), process.status("NoNewPrivs")),
        ("2".to_owned(), "0".to_owned())
    );
}

fn a_filter_for_other_architectures_too(world: &World) {
    let mut bundle = world.bundle();
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]});
    bundle
        .set("/linux/seccomp", profile)
        .shell("mkdir /made || echo refused");
    assert_eq!(bundle.run().out, "refused");
}

fn flags_of_a_filter(world: &World) {
    for flag in [
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_TSYNC",
    ] {
        let mut bundle = world.bundle();
        let mut profile = allowing(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]));
        profile["flags"] = json!([flag]);
        bundle
            .set("/linux/seccomp", profile)
            .shell("mkdir /made || echo refused");
        assert_eq!(bundle.run().out, "refused", "{flag}");
    }
    let mut bundle = world.bundle();
    let mut profile = allowing(json!([]));
    profile["flags"] = json!(["SECCOMP_FILTER_FLAG_NOTHING"]);
    bundle.set("/linux/seccomp", profile).shell("true");
    assert_ne!(bundle.run().code, 0);
}

fn notifying(path: &str) -> Value {
    let mut profile = allowing(json!([{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]));
    profile["listenerPath"] = json!(path);
    profile["listenerMetadata"] = json!("of the test");
    profile
}

fn a_listener_is_told_of_calls(world: &World) {
    let mut bundle = world.bundle();
    let path = world.short(&format!("{}-notify", bundle.id));
    let listener = UnixListener::bind(&path).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut message = vec![0; 65_536];
        let (count, fds) = runtime_sys::seqpacket::receive(stream.as_fd(), &mut message).unwrap();
        message.truncate(count);
        let _ = stream.read_to_end(&mut message);
        (serde_json::from_slice::<Value>(&message).unwrap(), fds)
    });
    bundle.set("/linux/seccomp", notifying(path.to_str().unwrap()));
    let process = bundle.sleeper();
    let (state, fds) = agent.join().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(fds.len(), 1, "{state}");
    assert_eq!(state["metadata"], "of the test");
    assert_eq!(state["pid"], process.0);
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["state"]["id"], bundle.id.as_str());
    // The call waits for who has the listener's descriptor, and fails when nobody has it any more.
    let mut call = bundle.exec_call(&[], &["mkdir", "/made"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(700));
    let waits = !call.has_ended();
    drop(fds);
    let out = call.finish();
    assert!(out.code != 0, "{out:?}");
    // runc's and crun's exec need a listener of their own, so that it may have been refused before.
    assert!(waits || !out.err.is_empty());
    assert!(!bundle.rootfs("/made").exists());
}

fn a_notify_rule_without_a_listener_is_refused(world: &World) {
    let mut bundle = world.bundle();
    let mut profile = notifying("");
    profile.as_object_mut().unwrap().remove("listenerPath");
    bundle.set("/linux/seccomp", profile).shell("true");
    assert_ne!(bundle.run().code, 0);
    let mut bundle = world.bundle();
    bundle.set("/linux/seccomp", notifying("/no/such/socket")).shell("true");
    assert_ne!(bundle.run().code, 0);
}

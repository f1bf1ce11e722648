//! A `/proc` that is none: the runtime's own writes must not go where the container leads them.

use std::os::unix::fs::symlink;

use harness::{Test, tests};
use serde_json::json;

use crate::bundle::{Bundle, SECRET};
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        a_folder_bound_over_proc_is_refused_or_never_written_to,
        a_tmpfs_over_proc_is_refused_or_never_written_to,
        mounts_inside_of_proc_are_refused,
        a_sysctl_is_not_written_into_a_proc_of_the_rootfs,
        a_sysctl_cannot_leave_proc_sys,
        a_sysctl_of_the_host_is_refused,
        the_score_is_not_written_into_a_proc_of_the_rootfs,
        exec_into_a_container_that_replaced_its_proc,
        exec_into_a_container_whose_proc_leads_to_gadgets,
        a_proc_of_the_host_bound_in_is_no_way_to_its_root,
    ]
}

/// Files of a false `/proc` that a runtime might write to.
const WRITTEN: &[&str] = &[
    "self/oom_score_adj",
    "self/attr/exec",
    "self/attr/apparmor/exec",
    "self/attr/keycreate",
    "self/attr/current",
    "self/uid_map",
    "self/gid_map",
    "self/setgroups",
    "self/timens_offsets",
    "self/loginuid",
    "thread-self/attr/exec",
    "thread-self/attr/apparmor/exec",
    "thread-self/oom_score_adj",
    "1/oom_score_adj",
    "sys/kernel/domainname",
    "sys/net/ipv4/ip_forward",
    "sys/kernel/shmmax",
];

const FALSE: &str = "a false file of the container\n";

fn false_proc(folder: &std::path::Path) {
    for name in WRITTEN {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, FALSE).unwrap();
    }
    std::fs::create_dir_all(folder.join("self/fd")).unwrap();
}

#[track_caller]
fn never_written(folder: &std::path::Path) {
    for name in WRITTEN {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(text == FALSE, "the runtime wrote {text:?} into the container's {name}");
    }
}

/// What makes a runtime write to /proc.
fn demanding(bundle: &mut Bundle) {
    bundle
        .set("/process/oomScoreAdj", 100)
        .set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    bundle.remove("/linux", "maskedPaths").remove("/linux", "readonlyPaths");
}

/// CVE-2025-52881.
fn a_folder_bound_over_proc_is_refused_or_never_written_to(world: &World) {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    false_proc(&volume);
    demanding(&mut bundle);
    bundle.without_mount("/proc").bind(&volume, "/proc").shell("true");
    bundle.run();
    never_written(&volume);
}

/// CVE-2025-52881: a mount on /proc after the real one.
fn a_tmpfs_over_proc_is_refused_or_never_written_to(world: &World) {
    let mut bundle = world.bundle();
    bundle.mount("/proc", "tmpfs", "tmpfs", &["mode=755"]).shell("true");
    let out = bundle.run();
    assert_ne!(
        out.code, 0,
        "a tmpfs covers /proc, so that nothing in it is masked or what it seems"
    );
}

/// CVE-2019-16884, CVE-2025-52881: what lies in /proc is neither replaced nor covered by a bundle's volumes, but for the
/// few files that tools like lxcfs provide.
fn mounts_inside_of_proc_are_refused(world: &World) {
    let targets = [
        "/proc/self/attr",
        "/proc/self/attr/exec",
        "/proc/thread-self/attr",
        "/proc/1/attr",
        "/proc/self/oom_score_adj",
        "/proc/sys",
        "/proc/sys/kernel",
        "/proc/self/fd",
        "/proc/self/exe",
        "/proc/../proc/self/attr",
        "/proc/sysrq-trigger",
    ];
    for target in targets {
        let mut bundle = world.bundle();
        std::fs::write(bundle.volume("file"), FALSE).unwrap();
        let name = target.rsplit('/').next().unwrap();
        let is_file = ["exec", "oom_score_adj", "exe", "sysrq-trigger"].contains(&name);
        let source = bundle.volume(if is_file { "file" } else { "" });
        bundle.bind(&source, target).shell("true");
        let out = bundle.run();
        assert_ne!(out.code, 0, "a volume was mounted on {target}");
    }
}

/// Without a /proc in the configuration, the rootfs' own folder is what a careless runtime writes into.
fn a_sysctl_is_not_written_into_a_proc_of_the_rootfs(world: &World) {
    let mut bundle = world.bundle();
    demanding(&mut bundle);
    bundle.without_mount("/proc").shell("true");
    false_proc(&bundle.rootfs("/proc"));
    bundle.run();
    never_written(&bundle.rootfs("/proc"));
    // And with links to the host in it.
    let path = bundle.rootfs("/proc/sys/net/ipv4/ip_forward");
    std::fs::remove_file(&path).unwrap();
    symlink(bundle.secret(), &path).unwrap();
    bundle.run();
    bundle.host_is_untouched();
}

/// CVE-2022-0811 (`cr8escape`) and its like: names with separators, dots, and values with further settings.
fn a_sysctl_cannot_leave_proc_sys(world: &World) {
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let secret = world.bundle();
    let names = [
        format!("net.../../..{}", secret.secret()),
        format!("net/../../..{}", secret.secret()),
        "net/../kernel/core_pattern".to_owned(),
        "net...kernel.core_pattern".to_owned(),
        "net.ipv4/../../kernel/core_pattern".to_owned(),
        "kernel.shm_rmid_forced/../core_pattern".to_owned(),
        "fs.mqueue/../../kernel/core_pattern".to_owned(),
        "/proc/sys/kernel/core_pattern".to_owned(),
    ];
    for name in names {
        let mut bundle = world.bundle();
        // The same value: if it is written after all, nothing breaks.
        bundle.at("/linux/sysctl")[&name] = json!(before.trim());
        bundle.shell("true");
        let out = bundle.run();
        assert_ne!(out.code, 0, "{name} was taken");
    }
    secret.host_is_untouched();
}

/// What is not of a namespace is the whole machine's.
fn a_sysctl_of_the_host_is_refused(world: &World) {
    for name in [
        "kernel.core_pattern",
        "kernel.modprobe",
        "vm.overcommit_memory",
        "fs.file-max",
        "kernel.sysrq",
    ] {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        // The same value: if it is written after all, nothing breaks.
        let Ok(value) = std::fs::read_to_string(path) else {
            continue;
        };
        let mut bundle = world.bundle();
        bundle.at("/linux/sysctl")[name] = json!(value.trim());
        bundle.shell("true");
        assert_ne!(bundle.run().code, 0, "{name} was set");
    }
    // And one of a namespace that the container has not got for itself.
    let mut bundle = world.bundle();
    bundle.at("/linux/sysctl")["net.ipv4.ip_forward"] = json!("1");
    bundle.without_namespace("network").without_mount("/sys").shell("true");
    assert_ne!(bundle.run().code, 0, "the host's ip_forward was set");
}

fn the_score_is_not_written_into_a_proc_of_the_rootfs(world: &World) {
    let mut bundle = world.bundle();
    bundle.set("/process/oomScoreAdj", 123).without_mount("/proc");
    bundle.remove("/linux", "maskedPaths").remove("/linux", "readonlyPaths");
    false_proc(&bundle.rootfs("/proc"));
    bundle.args(&["sleep", "1000"]);
    if bundle.create().code == 0 {
        bundle.start().ok();
        assert_eq!(bundle.init().oom_score_adj(), 123);
        bundle.exec(&["true"]);
    }
    never_written(&bundle.rootfs("/proc"));
}

/// CVE-2016-9962's and CVE-2025-52881's idea at exec: a container that may mount has put its own files over /proc.
fn exec_into_a_container_that_replaced_its_proc(world: &World) {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    false_proc(&volume);
    bundle.more_capabilities(&["CAP_SYS_ADMIN"]).bind(&volume, "/false");
    bundle.set("/process/oomScoreAdj", 100);
    let process = bundle.sleeper();
    bundle.exec(&["probe", "mount", "/false", "/proc", "", "bind,rec"]).ok();
    let held = process.capabilities("CapBnd");
    let out = bundle.exec_call(&[], &["sh", "-c", "sleep 2"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(700));
    // If it runs at all, it is as confined as the container is.
    for child in harness::kernel::processes() {
        let command = std::fs::read(format!("/proc/{}/cmdline", child.0)).unwrap_or_default();
        let same = std::fs::read_link(format!("/proc/{}/ns/pid", child.0))
            .ok()
            .map(|link| link.to_string_lossy().into_owned());
        if command.starts_with(b"sh\0-c\0sleep 2") && same == Some(process.namespace("pid")) {
            assert_eq!(child.capabilities("CapBnd"), held);
            assert_eq!(child.status("NoNewPrivs"), "1");
            assert_eq!(child.namespace("mnt"), process.namespace("mnt"));
        }
    }
    out.finish();
    never_written(&volume);
}

/// The same with links: what would be written goes to a file that stands for `/proc/sysrq-trigger`.
fn exec_into_a_container_whose_proc_leads_to_gadgets(world: &World) {
    let mut bundle = world.bundle();
    let volume = bundle.volume("");
    let gadget = bundle.volume("gadget");
    std::fs::write(&gadget, FALSE).unwrap();
    for name in WRITTEN {
        let path = volume.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink("/false/gadget", path).unwrap();
    }
    std::fs::create_dir_all(volume.join("self/fd")).unwrap();
    bundle
        .more_capabilities(&["CAP_SYS_ADMIN"])
        .bind(&volume, "/false")
        .set("/process/oomScoreAdj", 100);
    bundle.sleeper();
    bundle.exec(&["probe", "mount", "/false", "/proc", "", "bind,rec"]).ok();
    for _ in 0..3 {
        bundle.exec(&["true"]);
        bundle.exec_with(&["--user", "1000:1000"], &["true"]);
    }
    assert_eq!(
        std::fs::read_to_string(&gadget).unwrap(),
        FALSE,
        "the runtime wrote to what the container chose"
    );
}

/// The host's /proc as a volume shows processes, and whoever lacks CAP_SYS_PTRACE gets no further.
fn a_proc_of_the_host_bound_in_is_no_way_to_its_root(world: &World) {
    let mut bundle = world.bundle();
    bundle.bind("/proc", "/host-proc");
    let own = std::process::id();
    let line = format!(
        "cat /host-proc/{own}/root{0} /host-proc/{own}/cwd/../../../../../..{0} /host-proc/1/root{0}",
        bundle.secret()
    );
    bundle.shell(&line);
    let out = bundle.run();
    assert!(!out.out.contains(SECRET), "the host's root is open through its /proc");
}

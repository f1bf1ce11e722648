//! Security options and their combinations, each by what the kernel says of the process.

use harness::kernel::Process;
use harness::suite::skip;
use harness::tools::Folder;
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        no_new_privileges_in_every_notation,
        seccomp_builtin_and_for_privileged,
        cap_add_all_but_one,
        cap_drop_all_leaves_nothing,
        privileged_exec_has_what_the_container_has_not,
        masked_and_read_only_paths_of_the_request,
        what_is_not_there_is_refused_by_name,
        turning_off_what_is_not_there_is_no_error,
    ]
}

const CHOWN: u64 = 1;

fn no_new_privileges_in_every_notation(world: &World) {
    for (option, wanted) in [
        ("no-new-privileges", "1"),
        ("no-new-privileges:true", "1"),
        ("no-new-privileges=true", "1"),
        ("no-new-privileges:false", "0"),
        ("no-new-privileges=false", "0"),
    ] {
        let ways: [&[&str]; 2] = [&[], &["--privileged"]];
        for more in ways {
            let flags = [&["--security-opt", option], more].concat();
            let (name, process) = world.sleeper(&flags);
            assert_eq!(process.status("NoNewPrivs"), wanted, "{flags:?}");
            let inside = world.inside(&name, "grep ^NoNewPrivs: /proc/self/status | cut -f2");
            assert_eq!(inside, wanted, "exec in {flags:?}");
        }
    }
    let refused = world.run(&["create", "--security-opt", "no-new-privileges=perhaps", "busybox"]);
    assert!(
        refused.code != 0 && refused.err.contains("no-new-privileges"),
        "{}",
        refused.err
    );
}

fn seccomp_builtin_and_for_privileged(world: &World) {
    let (_name, process) = world.sleeper(&["--security-opt", "seccomp=builtin"]);
    assert_eq!(process.status("Seccomp"), "2");
    // Privileged containers have no filter by themselves, and the one that is asked for.
    let folder = Folder::new("seccomp-privileged");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
    std::fs::write(folder.at("profile.json"), profile).unwrap();
    let option = format!("seccomp={}", folder.at("profile.json"));
    let (name, process) = world.sleeper(&["--privileged", "--security-opt", &option]);
    assert_eq!(process.status("Seccomp"), "2");
    assert_eq!(
        world.inside(&name, "mkdir /new 2>/dev/null && echo made || echo refused"),
        "refused"
    );
    std::fs::write(folder.at("profile.json"), r#"{"defaultAction": "SCMP_ACT_PERHAPS"}"#).unwrap();
    let refused = world.run(&["create", "--security-opt", &option, "busybox"]);
    assert!(
        refused.code != 0 && refused.err.contains("SCMP_ACT_PERHAPS"),
        "{}",
        refused.err
    );
}

fn cap_add_all_but_one(world: &World) {
    let (_name, process) = world.sleeper(&["--cap-add", "ALL", "--cap-drop", "CHOWN"]);
    let all = Process::own().capabilities("CapBnd");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(process.capabilities(set), all & !CHOWN, "{set}");
    }
    // All rights are not privileged: the filter and the read-only paths stay.
    assert_eq!(process.status("Seccomp"), "2");
    assert!(process.mount("/proc/sys").is_some_and(|mount| mount.has("ro")));
}

fn cap_drop_all_leaves_nothing(world: &World) {
    let (name, process) = world.sleeper(&["--cap-drop", "all"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(process.capabilities(set), 0, "{set}");
    }
    assert_eq!(
        world.inside(&name, "chown 1 /bin 2>/dev/null || echo refused"),
        "refused"
    );
    let refused = world.run(&["create", "--cap-add", "NONSENSE", "busybox"]);
    assert!(
        refused.code != 0 && refused.err.contains("invalid capability"),
        "{}",
        refused.err
    );
}

fn privileged_exec_has_what_the_container_has_not(world: &World) {
    let (name, process) = world.sleeper(&["--cap-drop", "ALL"]);
    let line = "grep -E '^(CapEff|Seccomp):' /proc/self/status | cut -f2";
    let seen = world.run(&["exec", "--privileged", &name, "sh", "-c", line]).ok();
    let all = Process::own().capabilities("CapBnd");
    assert_eq!(seen.trim(), format!("{all:016x}\n0"));
    assert_eq!(process.capabilities("CapEff"), 0, "the container's own process");
}

fn masked_and_read_only_paths_of_the_request(world: &World) {
    let name = world.name("paths");
    let body = br#"{"Image":"busybox","Cmd":["sleep","1000"],
        "HostConfig":{"MaskedPaths":["/proc/version","/home"],"ReadonlyPaths":["/tmp"]}}"#;
    let json = [("Content-Type", "application/json")];
    let target = format!("/containers/create?name={}", &*name);
    let reply = world.server.send("POST", &target, &json, body);
    assert_eq!(reply.status, 201);
    world.run(&["start", &name]).ok();
    let process = world.process(&name);
    assert!(process.mount("/proc/version").is_some());
    assert_eq!(world.inside(&name, "cat /proc/version | wc -c"), "0");
    assert!(process.mount("/tmp").unwrap().has("ro"));
    assert_eq!(
        world.inside(&name, "touch /tmp/x 2>/dev/null || echo refused"),
        "refused"
    );
    // They are instead of the usual ones.
    assert!(process.mount("/proc/sys").is_none() && process.mount("/proc/kcore").is_none());
    let about = world.inspect(&name);
    let host = &about["HostConfig"];
    assert_eq!(host["MaskedPaths"], serde_json::json!(["/proc/version", "/home"]));
    assert_eq!(host["ReadonlyPaths"], serde_json::json!(["/tmp"]));
}

/// Without AppArmor or SELinux behind it, a profile or a label would protect from nothing.
fn what_is_not_there_is_refused_by_name(world: &World) {
    if world.is_foreign() {
        skip("another engine passes over what the machine has not");
    }
    for option in [
        "apparmor=docker-default",
        "label=type:svirt_apache_t",
        "label=level:s0:c100,c200",
        "writable-cgroups=true",
    ] {
        let refused = world.run(&["create", "--security-opt", option, "busybox"]);
        assert!(
            refused.code != 0 && refused.err.contains(option),
            "{option}: {}",
            refused.err
        );
    }
    let refused = world.run(&["create", "--security-opt", "colour=red", "busybox"]);
    assert!(
        refused.code != 0 && refused.err.contains("invalid --security-opt"),
        "{}",
        refused.err
    );
}

fn turning_off_what_is_not_there_is_no_error(world: &World) {
    let flags = [
        "--security-opt",
        "apparmor=unconfined",
        "--security-opt",
        "label=disable",
    ];
    let (name, process) = world.sleeper(&flags);
    assert_eq!(process.status("Seccomp"), "2", "the rest stays");
    let about = world.inspect(&name);
    let shown = about["HostConfig"]["SecurityOpt"].as_array().expect("a list");
    assert!(shown.contains(&"apparmor=unconfined".into()), "{shown:?}");
}

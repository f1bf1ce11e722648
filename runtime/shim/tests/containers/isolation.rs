//! What a process in a container is and sees.

use crate::rig::{CAPS, device};
use runtime::cgroup::Resources;
use runtime::plan::{Caps, OomScoreAdj, Rlimit, User};

#[tokio::test]
async fn a_container_has_its_own_view() {
    let rig = crate::new_rig!();
    let seen = rig
        .sh(
            "view",
            "echo $$; hostname; ls /proc | grep -c '^[0-9]*$'; ls /; cat /proc/self/cgroup | grep -v ':/$' | wc -l",
        )
        .await;
    let mut lines = seen.lines();
    assert_eq!(lines.next(), Some("1"), "{seen}");
    assert_eq!(lines.next(), Some("box"));
    let processes: u32 = lines.next().unwrap().parse().unwrap();
    assert!(processes <= 4, "sees {processes} processes");
    assert!(seen.contains("bin\ndev\netc"), "{seen}");
    // Every cgroup joined is the root of the cgroup namespace; name=systemd and the like, not joined, show as above it.
    assert!(!seen.contains("view"), "{seen}");
}

#[tokio::test]
async fn nothing_of_the_host_leaks() {
    let rig = crate::new_rig!();
    let seen = rig
        .sh(
            "leaks",
            "ls /proc/self/fd; echo --; cat /proc/self/mountinfo; echo --; ls -l /proc/self/fd",
        )
        .await;
    let (fds, rest) = seen.split_once("--").unwrap();
    // 3 is the folder that ls reads.
    assert_eq!(
        fds.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"],
        "{rest}"
    );
    let (mounts, _) = rest.split_once("--").unwrap();
    for line in mounts.trim().lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        assert!(!fields[3].contains("tmp"), "the host's tree shows: {line}");
    }
    assert_eq!(mounts.matches(" / / ").count(), 1, "{mounts}");
}

#[tokio::test]
async fn capabilities_and_no_new_privileges_are_those_of_the_plan() {
    let rig = crate::new_rig!();
    let script = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tr -d '\\n\\t'";
    let caps = |bnd: u64, eff: u64, prm: u64, inh: u64, amb: u64, nnp: u8| {
        format!(
            "CapInh:{inh:016x}CapPrm:{prm:016x}CapEff:{eff:016x}CapBnd:{bnd:016x}CapAmb:{amb:016x}NoNewPrivs:{nnp}Seccomp:0"
        )
    };
    assert_eq!(rig.sh("caps", script).await, caps(CAPS, CAPS, CAPS, 0, 0, 0));
    let none = rig
        .sh_with("nocaps", script, |plan| {
            plan.process.caps = Caps::default();
            plan.process.no_new_privs = true;
        })
        .await;
    assert_eq!(none, caps(0, 0, 0, 0, 0, 1));
    // As a user other than root, without and with ambient ones.
    let user = User::Ids {
        uid: 33,
        gid: 34,
        groups: vec![34],
    };
    let plain = rig
        .sh_with("user", script, |plan| plan.process.user = user.clone())
        .await;
    assert_eq!(plain, caps(CAPS, 0, 0, 0, 0, 0));
    let one = 1 << 10; // CAP_NET_BIND_SERVICE
    let ambient = rig
        .sh_with("ambient", script, |plan| {
            plan.process.user = user;
            plan.process.caps.inheritable = one;
            plan.process.caps.ambient = one;
        })
        .await;
    assert_eq!(ambient, caps(CAPS, one, one, one, one, 0));
}

#[tokio::test]
async fn a_seccomp_program_is_in_force_with_and_without_no_new_privileges() {
    let rig = crate::new_rig!();
    // uname (63 on x86-64) is refused with EPERM, all else allowed.
    let instruction = |code: u16, jt: u8, jf: u8, k: u32| {
        let mut bytes = code.to_ne_bytes().to_vec();
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
        bytes
    };
    let number = libc::SYS_uname as u32;
    let program = [
        instruction(0x20, 0, 0, 0),
        instruction(0x15, 0, 1, number),
        instruction(0x06, 0, 0, 0x0005_0001),
        instruction(0x06, 0, 0, 0x7fff_0000),
    ]
    .concat();
    for (id, no_new_privs, uid) in [("sec", false, 0), ("secnnp", true, 0), ("secuser", false, 33)] {
        let seen = rig
            .sh_with(id, "grep '^Seccomp:' /proc/self/status; hostname", |plan| {
                plan.process.seccomp = program.clone().into();
                plan.process.no_new_privs = no_new_privs;
                plan.process.user = User::Ids {
                    uid,
                    gid: 0,
                    groups: Vec::new(),
                };
            })
            .await;
        assert!(seen.contains("Seccomp:\t2") && seen.ends_with("\n?\n"), "{id}: {seen}");
    }
}

#[tokio::test]
async fn users_groups_home_umask_and_folder_are_set() {
    let rig = crate::new_rig!();
    let script = "id; echo $HOME; umask; pwd; stat -c %a .";
    let seen = rig
        .sh_with("named", script, |plan| {
            plan.process.user = User::Named {
                user: "web".into(),
                extra_groups: vec!["77".into()],
            };
            plan.process.cwd = "/srv/new/place".into();
            plan.process.umask = Some(0o27);
        })
        .await;
    let want = "uid=33(web) gid=34(web) groups=34(web),29(audio),77\n/var\n0027\n/srv/new/place\n755\n";
    assert_eq!(seen.replace("29(audio),34(web)", "34(web),29(audio)"), want);
    let root = rig.sh("rooted", script).await;
    assert!(
        root.contains("uid=0(root) gid=0(root)") && root.contains("\n/root\n0022\n/\n"),
        "{root}"
    );
}

#[tokio::test]
async fn limits_and_oom_score_are_set_or_refused() {
    let rig = crate::new_rig!();
    let seen = rig
        .sh_with("limits", "ulimit -n; ulimit -c; cat /proc/self/oom_score_adj", |plan| {
            plan.process.rlimits = vec![
                Rlimit {
                    resource: libc::RLIMIT_NOFILE,
                    soft: 111,
                    hard: 222,
                    strict: true,
                },
                Rlimit {
                    resource: libc::RLIMIT_CORE,
                    soft: 0,
                    hard: 0,
                    strict: true,
                },
            ];
            plan.process.oom_score_adj = Some(OomScoreAdj {
                value: 500,
                strict: true,
            });
        })
        .await;
    assert_eq!(seen, "111\n0\n500\n");
    // Beyond what the machine allows: a default is cut, a wish is an error. With CAP_SYS_RESOURCE both would work.
    let beyond = Rlimit {
        resource: libc::RLIMIT_NOFILE,
        soft: 1 << 40,
        hard: 1 << 40,
        strict: false,
    };
    rig.sh_with("lenient", "true", |plan| plan.process.rlimits = vec![beyond.clone()])
        .await;
    let mut plan = rig.plan("strict", &["true"]);
    plan.process.rlimits = vec![Rlimit { strict: true, ..beyond }];
    let error = rig.start(plan).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot set resource limit nofile: operation not permitted"
    );
}

#[tokio::test]
async fn sysctls_hidden_and_readonly_paths_hold() {
    let rig = crate::new_rig!();
    let script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/domainname
        echo 1 > /proc/sys/kernel/domainname || echo readonly
        wc -c < /proc/keys; wc -c < /proc/timer_list
        ls /sys/firmware /proc/acpi 2>/dev/null | grep -v : | wc -w
        touch /sys/firmware/x || echo covered; touch /sys/x || echo sysfs-readonly";
    let seen = rig
        .sh_with("paths", script, |plan| {
            plan.sysctls = vec![("net/ipv4/ip_forward".into(), "1".into())];
            plan.domainname = "nis.example".into();
        })
        .await;
    assert_eq!(seen, "1\nnis.example\nreadonly\n0\n0\n0\ncovered\nsysfs-readonly\n");
    for key in ["../self/oom_score_adj", "kernel/../../../etc/passwd", "no/such/key"] {
        let mut plan = rig.plan("badkey", &["true"]);
        plan.sysctls = vec![(key.into(), "1".into())];
        assert!(
            rig.start(plan)
                .await
                .unwrap_err()
                .to_string()
                .starts_with("cannot set sysctl"),
            "{key}"
        );
    }
}

#[tokio::test]
async fn the_root_can_be_readonly() {
    let rig = crate::new_rig!();
    let seen = rig
        .sh_with(
            "ro",
            "touch /x || echo refused; touch /dev/shm/x && echo tmpfs",
            |plan| plan.readonly_root = true,
        )
        .await;
    assert_eq!(seen, "refused\ntmpfs\n");
    // Nothing was written to the lower layer by anybody.
    assert!(!rig.root.join("x").exists());
}

#[tokio::test]
async fn devices_are_made_and_judged_by_the_cgroup() {
    let rig = crate::new_rig!();
    let script = "stat -c '%F %t:%T %a' /dev/null; echo x > /dev/null && echo ok; head -c 3 /dev/zero | wc -c;
        mknod /dev/mem2 c 1 1 && cat /dev/mem2 >/dev/null || echo refused";
    let seen = rig
        .sh_with("devices", script, |plan| {
            let resources = Resources {
                devices: runtime_devices(),
                ..Resources::default()
            };
            plan.head.cgroup = rig.cgroup("devices", &resources);
            plan.devices.push(device("full", 1, 7));
        })
        .await;
    let want = "character special file 1:3 666\nok\n3\nrefused\n";
    assert_eq!(seen, want);
}

fn runtime_devices() -> Vec<runtime::cgroup::DeviceRule> {
    // As in Docker: nothing but making nodes, and the harmless ones.
    use runtime::cgroup::{Access, DeviceRule, DeviceType};
    let rule = |allow, kind, major, minor, access| DeviceRule {
        allow,
        kind,
        major,
        minor,
        access,
    };
    vec![
        rule(false, DeviceType::All, None, None, Access::ALL),
        rule(true, DeviceType::Char, None, None, Access::MKNOD),
        rule(true, DeviceType::Char, Some(1), Some(3), Access::ALL),
        rule(true, DeviceType::Char, Some(1), Some(5), Access::ALL),
        rule(true, DeviceType::Char, Some(5), None, Access::ALL),
        rule(true, DeviceType::Char, Some(136), None, Access::ALL),
    ]
}

#[tokio::test]
async fn memory_that_is_not_there_is_an_oom() {
    let rig = crate::new_rig!();
    let mut plan = rig.plan("oom", &["dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    let resources = Resources {
        memory: Some(16 << 20),
        memory_swap: Some(16 << 20),
        ..Resources::default()
    };
    plan.head.cgroup = rig.cgroup("oom", &resources);
    let (exit, _, _) = rig.run(plan).await;
    assert_eq!((exit.code, exit.signal, exit.oom), (137, Some(9), true), "{exit:?}");
}

#[tokio::test]
async fn v2_groups_are_joined_by_the_clone() {
    use runtime::plan::{CgroupJoin, CgroupPlan};
    let rig = crate::new_rig!();
    let Some(mount) = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .iter()
        .map(std::path::Path::new)
        .find(|mount| mount.join("cgroup.procs").exists() && mount.join("cgroup.controllers").exists())
    else {
        println!("skipped: no v2 hierarchy");
        return;
    };
    let own = mount.join(format!("iechor-test-clone-{}", std::process::id()));
    let mut plan = rig.plan("v2", &["sh", "-c", "grep ^0:: /proc/self/cgroup; sleep 1000"]);
    plan.head.cgroup = CgroupPlan {
        own: vec![own.clone()],
        join: CgroupJoin::Into { dir: own.clone() },
        ..CgroupPlan::none()
    };
    plan.head.namespaces.new &= !(libc::CLONE_NEWPID as u64); // so that the group has to be killed
    let shim = rig.start(plan).await.unwrap();
    let exec = shim.exec(crate::rig::exec(&["sleep", "1000"]), None).await.unwrap();
    let procs = std::fs::read_to_string(own.join("cgroup.procs")).unwrap();
    for pid in [shim.pid(), exec.pid()] {
        assert!(
            procs.lines().any(|line| line == pid.to_string()),
            "{pid} is not in {procs}"
        );
    }
    assert!(!procs.lines().any(|line| line == shim.shim_pid().to_string()));
    shim.signal(libc::SIGKILL).await.unwrap();
    assert_eq!(shim.wait().await.code, 137);
    shim.release().await;
    assert_eq!(exec.wait().await.code, 137, "what else was in the group");
    assert!(!own.exists());
}

/// Takes back what a test enabled in the root group of v2, which is not ours.
struct Enabled {
    file: std::path::PathBuf,
    before: String,
}

impl Drop for Enabled {
    fn drop(&mut self) {
        for name in std::fs::read_to_string(&self.file)
            .unwrap_or_default()
            .split_whitespace()
        {
            if !self.before.split_whitespace().any(|other| other == name) {
                let _ = std::fs::write(&self.file, format!("-{name}"));
            }
        }
    }
}

#[tokio::test]
async fn where_huge_pages_are_on_v2_beside_v1_a_container_is_in_both() {
    use runtime::plan::CgroupJoin;
    let file = std::path::Path::new("/sys/fs/cgroup/unified/cgroup.subtree_control");
    let Ok(before) = std::fs::read_to_string(file) else {
        println!("skipped: no mixed layout");
        return;
    };
    let _enabled = Enabled {
        file: file.to_owned(),
        before,
    };
    let rig = crate::new_rig!();
    let resources = Resources {
        hugepages: vec![("2MB".into(), 4 << 20)],
        ..Resources::default()
    };
    let (cgroups, parent) = rig.cgroups.as_ref().unwrap();
    let Ok(limited) = cgroups.plan(parent, "both", &resources) else {
        println!("skipped: no huge pages here");
        return;
    };
    let CgroupJoin::Both { dir, .. } = &limited.join else {
        println!("skipped: huge pages are on v1 here");
        return;
    };
    let (dir, own) = (dir.clone(), limited.own.clone());
    let mut plan = rig.plan("both", &["sleep", "1000"]);
    plan.head.cgroup = limited;
    let shim = rig.start(plan).await.unwrap();
    let exec = shim.exec(crate::rig::exec(&["sleep", "1000"]), None).await.unwrap();
    for pid in [shim.pid(), exec.pid()] {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let inside = groups.lines().filter(|line| line.ends_with("/both")).count();
        assert_eq!(inside, own.len(), "{groups}");
    }
    let limit = std::fs::read_to_string(dir.join("hugetlb.2MB.max")).unwrap();
    assert_eq!(limit.trim(), (4 << 20).to_string());
    shim.signal(libc::SIGKILL).await.unwrap();
    shim.wait().await;
    shim.release().await;
    assert!(own.iter().all(|own| !own.exists()), "{own:?} are left");
}

#[tokio::test]
async fn the_shims_protection_is_not_inherited() {
    let rig = crate::new_rig!();
    let own: i32 = std::fs::read_to_string("/proc/self/oom_score_adj")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let seen: i32 = rig
        .sh("score", "cat /proc/self/oom_score_adj")
        .await
        .trim()
        .parse()
        .unwrap();
    assert!(seen == 0 || seen == own, "{seen}");
}

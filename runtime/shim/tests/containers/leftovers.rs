//! What processes of a container keep from whoever made them: nothing beyond their plan.

use crate::rig::{CAPS, bind};
use runtime::plan::User;

#[tokio::test]
async fn a_program_with_the_set_user_bit_still_becomes_its_owner() {
    let rig = crate::new_rig!();
    let folder = rig.folder.path().join("setuid");
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("busybox");
    std::fs::copy(rig.root.join("bin/busybox"), &program).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let user = User::Ids {
        uid: 33,
        gid: 34,
        groups: vec![34],
    };
    for no_new_privs in [false, true] {
        let mut plan = rig.plan(&format!("as{no_new_privs}"), &["/tmp/busybox", "su", "-c", "id -u"]);
        plan.mounts.push(bind(&folder, "/tmp", 0));
        plan.process.user = user.clone();
        plan.process.no_new_privs = no_new_privs;
        let (_, _, said) = rig.run(plan).await;
        // busybox' su insists on being root: without the bit's effect it says so.
        assert_eq!(said.contains("must be suid"), no_new_privs, "{said}");
    }
}

/// Process 1 of `--init` is the shim's own code, but it stands in the container, where a process may be allowed to take
/// it over (`CAP_SYS_PTRACE`).
#[tokio::test]
async fn the_built_in_init_has_no_more_than_its_container() {
    let rig = crate::new_rig!();
    let instruction =
        |code: u16, jt: u8, jf: u8, k: u32| [&code.to_ne_bytes()[..], &[jt, jf], &k.to_ne_bytes()].concat();
    // One system call fails with EPERM, all else is allowed.
    let refuse = |call: libc::c_long| {
        [
            instruction(0x20, 0, 0, 0),
            instruction(0x15, 0, 1, call as u32),
            instruction(0x06, 0, 0, 0x0005_0001),
            instruction(0x06, 0, 0, 0x7fff_0000),
        ]
        .concat()
    };
    let script = "grep -E '^(CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp:)' /proc/1/status | tr -d '\\n\\t'; exit 3";
    // Also where it cannot wait for signals: it still tells the end.
    for (id, call) in [("plain", libc::SYS_uname), ("deaf", libc::SYS_rt_sigtimedwait)] {
        for no_new_privs in [false, true] {
            let mut plan = rig.plan(&format!("{id}{no_new_privs}"), &["sh", "-c", script]);
            plan.init = true;
            plan.process.seccomp = refuse(call).into();
            plan.process.no_new_privs = no_new_privs;
            let (exit, seen, _) = rig.run(plan).await;
            let no_new_privs = u8::from(no_new_privs);
            let want =
                format!("CapPrm:{CAPS:016x}CapEff:{CAPS:016x}CapBnd:{CAPS:016x}NoNewPrivs:{no_new_privs}Seccomp:2");
            assert_eq!((exit.code, seen), (3, want), "{id}");
        }
    }
}

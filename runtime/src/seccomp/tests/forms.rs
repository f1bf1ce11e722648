//! The forms that profiles come in.

use super::*;

#[test]
fn json_profiles_are_read() {
    let text = br#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                    {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}],
        "syscalls": [
            {"names": ["read", "brand_new_call"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}},
            {"name": "mkdir", "action": "SCMP_ACT_ERRNO", "errnoRet": 13, "args": null},
            {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"], "minKernel": "4.8"}},
            {"names": ["kill"], "action": "SCMP_ACT_LOG", "excludes": {"arches": ["amd64"]}},
            {"names": ["dup2"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 1, "value": 255, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]}
        ]}"#;
    let profile = Profile::from_json(text).unwrap();
    let filter = profile.compile(&context(1 << 18)).unwrap();
    assert_eq!(filter.ignored, ["brand_new_call"]);
    assert_eq!(filter.flags, 4);
    let ask = |name, args| answer(&filter, name, Abi::X86_64, args);
    assert_eq!(ask("read", [0; 6]), ALLOW);
    assert_eq!(ask("mkdir", [0; 6]), 0x0005_000d);
    assert_eq!(ask("chroot", [0; 6]), ALLOW);
    assert_eq!(ask("kill", [0; 6]), ENOSYS);
    assert_eq!(ask("dup2", [0, 0xf04, 0, 0, 0, 0]), ENOSYS);
    assert_eq!(ask("dup2", [0, 0x103, 0, 0, 0, 0]), ALLOW);
    assert_eq!(ask("dup2", [0, 0xff00_0003, 0, 0, 0, 0]), ALLOW);
    assert_eq!(answer(&filter, "read", Abi::X86, [0; 6]), ALLOW);
    for (bad, word) in [
        ("{}", "read"),
        (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "default action"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}"#,
            "takes no error number",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_KILL", "errnoRet": 3}]}"#,
            "SCMP_ACT_KILL takes no",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]}"#,
            "names no call",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x"], "archMap": [{"architecture": "SCMP_ARCH_X86"}]}"#,
            "either",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]}"#,
            "Z80",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_X"]}"#,
            "FLAG_X",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}"#,
            "70000",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]}"#,
            "either",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "argument 6",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_FLY"]}}]}"#,
            "CAP_FLY",
        ),
    ] {
        let error = Profile::from_json(bad.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(word), "{bad}: {error}");
    }
}

#[test]
fn oci_profiles_are_the_same() {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "flags": [],
        "syscalls": [{"names": ["read", "clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 4, "op": "SCMP_CMP_LT"}]}]}"#;
    let oci: oci_spec::runtime::LinuxSeccomp = serde_json::from_str(text).unwrap();
    let profile = Profile::try_from(&oci).unwrap();
    assert_eq!(profile, Profile::from_json(text.as_bytes()).unwrap());
    assert_eq!(profile.compile(&context(0)).unwrap().flags, 0);
}

#[test]
fn every_name_of_the_specification_is_known_to_both_readers() {
    for arch in names::architectures() {
        both(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["{arch}"]}}"#
        ));
    }
    for flag in names::flags() {
        both(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["{flag}"]}}"#
        ));
    }
    for op in names::operators() {
        both(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_LOG",
                "args": [{{"index": 1, "value": 7, "valueTwo": 3, "op": "{op}"}}]}}]}}"#
        ));
    }
    for action in names::actions() {
        both(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/s", "listenerMetadata": "m",
                "syscalls": [{{"names": ["read"], "action": "{action}"}}]}}"#
        ));
    }
    for default in ["SCMP_ACT_TRACE", "SCMP_ACT_ERRNO"] {
        both(&format!(r#"{{"defaultAction": "{default}", "defaultErrnoRet": 77}}"#));
    }
    assert_eq!(names::architectures().len(), 23);
    assert_eq!(names::actions().len(), 9);
}

fn both(text: &str) {
    let oci: oci_spec::runtime::LinuxSeccomp = serde_json::from_str(text).unwrap();
    assert_eq!(
        Profile::try_from(&oci).unwrap(),
        Profile::from_json(text.as_bytes()).unwrap(),
        "{text}"
    );
}

#[test]
fn the_kernel_knows_what_we_know() {
    assert_eq!(names::supported_actions(), names::actions());
    assert_eq!(names::supported_flags(), names::flags());
}

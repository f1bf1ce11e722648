//! Fields of the wrong type, and needed ones that are absent.

use serde_json::{Value, json};

use super::draft::Draft;
use super::draw::Draw;

#[derive(Clone, Copy)]
enum Form {
    Text,
    Flag,
    List,
    Object,
    /// Unsigned, of 32 bits.
    U32,
    I64,
    U64,
    I32,
}

/// Fields, with what else their object needs to be one.
const FIELDS: &[(&str, Form)] = &[
    ("/ociVersion", Form::Text),
    ("/hostname", Form::Text),
    ("/domainname", Form::Text),
    ("/root", Form::Object),
    ("/root/path", Form::Text),
    ("/root/readonly", Form::Flag),
    ("/mounts", Form::List),
    ("/mounts/0", Form::Object),
    ("/process", Form::Object),
    ("/process/terminal", Form::Flag),
    ("/process/user", Form::Object),
    ("/process/user/uid", Form::U32),
    ("/process/user/gid", Form::U32),
    ("/process/user/umask", Form::U32),
    ("/process/user/additionalGids", Form::List),
    ("/process/user/additionalGids/0", Form::U32),
    ("/process/args", Form::List),
    ("/process/args/0", Form::Text),
    ("/process/env", Form::List),
    ("/process/env/0", Form::Text),
    ("/process/cwd", Form::Text),
    ("/process/capabilities", Form::Object),
    ("/process/capabilities/bounding", Form::List),
    ("/process/capabilities/ambient/0", Form::Text),
    ("/process/noNewPrivileges", Form::Flag),
    ("/process/oomScoreAdj", Form::I32),
    ("/process/rlimits", Form::List),
    ("/process/rlimits/0", Form::Object),
    ("/process/scheduler", Form::Object),
    ("/process/ioPriority", Form::Object),
    ("/hooks", Form::Object),
    ("/hooks/createRuntime", Form::List),
    ("/hooks/poststop/0", Form::Object),
    ("/annotations", Form::Object),
    ("/linux", Form::Object),
    ("/linux/namespaces", Form::List),
    ("/linux/namespaces/0", Form::Object),
    ("/linux/uidMappings", Form::List),
    ("/linux/gidMappings/0", Form::Object),
    ("/linux/timeOffsets", Form::Object),
    ("/linux/devices", Form::List),
    ("/linux/devices/0", Form::Object),
    ("/linux/cgroupsPath", Form::Text),
    ("/linux/resources", Form::Object),
    ("/linux/resources/memory", Form::Object),
    ("/linux/resources/memory/limit", Form::I64),
    ("/linux/resources/memory/swappiness", Form::U64),
    ("/linux/resources/memory/disableOOMKiller", Form::Flag),
    ("/linux/resources/cpu/shares", Form::U64),
    ("/linux/resources/cpu/quota", Form::I64),
    ("/linux/resources/cpu/cpus", Form::Text),
    ("/linux/resources/pids/limit", Form::I64),
    ("/linux/resources/devices", Form::List),
    ("/linux/resources/devices/0", Form::Object),
    ("/linux/resources/blockIO", Form::Object),
    ("/linux/resources/hugepageLimits", Form::List),
    ("/linux/resources/unified", Form::Object),
    ("/linux/rootfsPropagation", Form::Text),
    ("/linux/maskedPaths", Form::List),
    ("/linux/maskedPaths/0", Form::Text),
    ("/linux/readonlyPaths", Form::List),
    ("/linux/sysctl", Form::Object),
    ("/linux/seccomp", Form::Object),
    ("/linux/personality", Form::Object),
    ("/linux/memoryPolicy", Form::Object),
];

pub fn wrong_type(draft: &mut Draft, draw: &mut Draw) {
    let (pointer, form) = *draw.pick(FIELDS);
    let wrong: Vec<Value> = match form {
        Form::Text => vec![3.into(), true.into(), json!([]), json!(["x"]), json!({})],
        Form::Flag => vec!["true".into(), 1.into(), json!([true]), json!({})],
        Form::List => vec!["x".into(), 3.into(), json!({"0": "x"}), false.into()],
        Form::Object => vec!["x".into(), 3.into(), true.into()],
        Form::U32 => vec![
            "3".into(),
            (-1).into(),
            1.5.into(),
            (1u64 << 32).into(),
            true.into(),
            json!([3]),
        ],
        Form::I32 => vec!["3".into(), 1.5.into(), (1u64 << 40).into(), json!({})],
        Form::I64 => vec!["3".into(), 1.5.into(), u64::MAX.into(), 1e30.into(), json!([])],
        Form::U64 => vec!["3".into(), (-1).into(), 1e30.into(), json!([])],
    };
    let value = draw.pick(&wrong).clone();
    draft.set(pointer, value);
    draft.names = &["line "];
}

/// Not among them: numbers of `process.user`, those of a limit, and `allow` of a device rule. The specification requires
/// them, and every runtime takes zero and a denial where they are absent, as files in the wild expect.
pub fn missing(draft: &mut Draft, draw: &mut Draw) {
    let all: &[(&str, &str)] = &[
        ("", "ociVersion"),
        ("", "root"),
        ("", "linux"),
        ("/root", "path"),
        ("/process", "cwd"),
    ];
    let lists: &[(&str, Value, &str)] = &[
        (
            "/mounts",
            json!({"destination": "/m/z", "type": "tmpfs"}),
            "destination",
        ),
        (
            "/linux/devices",
            json!({"path": "/dev/z", "type": "c", "major": 1, "minor": 3}),
            "path",
        ),
        (
            "/linux/devices",
            json!({"path": "/dev/z", "type": "c", "major": 1, "minor": 3}),
            "type",
        ),
        (
            "/process/rlimits",
            json!({"type": "RLIMIT_CORE", "soft": 1, "hard": 1}),
            "type",
        ),
        ("/hooks/prestart", json!({"path": "/bin/true"}), "path"),
        (
            "/linux/resources/hugepageLimits",
            json!({"pageSize": "2MB", "limit": 1}),
            "pageSize",
        ),
    ];
    match draw.below(2) {
        0 => {
            let (parent, key) = *draw.pick(all);
            draft.config.remove(parent, key);
        }
        _ => {
            let (list, value, key) = draw.pick(lists);
            let mut value = value.clone();
            if let Some(object) = value.as_object_mut() {
                object.remove(*key);
            }
            draft.config.push(list, value);
        }
    }
    draft.names = &[
        "line ",
        "has no ",
        "ociVersion",
        "root.path",
        "pageSize",
        "linux.devices",
    ];
}

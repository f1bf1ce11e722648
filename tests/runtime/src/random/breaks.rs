//! What a configuration may not say: values out of range, names that nobody knows, parts that do not go together.

use serde_json::{Value, json};

use super::draft::{Draft, Stage};
use super::draw::Draw;
use super::types;
use super::values::{ITEMS, VALUES};

/// Breaks a draft, by one thing of many.
pub fn any(draft: &mut Draft, draw: &mut Draw) {
    let make: &[fn(&mut Draft, &mut Draw)] = &[
        types::wrong_type,
        types::wrong_type,
        types::missing,
        value,
        value,
        value,
        listed,
        listed,
        listed,
        together,
        together,
        in_the_kernel,
        hooks,
    ];
    let make = *draw.pick(make);
    make(draft, draw);
}

fn value(draft: &mut Draft, draw: &mut Draw) {
    let (pointer, value, names) = draw.pick(VALUES);
    let value: Value = serde_json::from_str(value).expect("the table is JSON");
    draft.set(pointer, value);
    draft.names = names;
}

fn listed(draft: &mut Draft, draw: &mut Draw) {
    let (list, item, names) = draw.pick(ITEMS);
    let item: Value = serde_json::from_str(item).expect("the table is JSON");
    draft.config.push(list, item);
    draft.names = names;
}

/// Has these namespaces alone, and nothing of what belongs to others.
fn namespaces(draft: &mut Draft, list: Value) {
    draft.set("/linux/namespaces", list);
    for (parent, key) in [
        ("", "hostname"),
        ("", "domainname"),
        ("/linux", "sysctl"),
        ("/linux", "timeOffsets"),
        ("/linux", "uidMappings"),
        ("/linux", "gidMappings"),
    ] {
        draft.config.remove(parent, key);
    }
}

/// Parts that contradict each other.
fn together(draft: &mut Draft, draw: &mut Draw) {
    match draw.below(12) {
        0 => {
            namespaces(draft, json!([{"type": "mount"}]));
            draft.set("/hostname", "name");
            draft.names = &["hostname"];
        }
        1 => {
            namespaces(draft, json!([{"type": "mount"}, {"type": "uts"}, {"type": "uts"}]));
            draft.names = &["uts"];
        }
        2 => {
            namespaces(draft, json!([{"type": "mount"}, {"type": "user"}]));
            draft.names = &["linux.uidMappings"];
        }
        3 => {
            namespaces(draft, json!([{"type": "mount"}]));
            let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
            draft.set("/linux/uidMappings", map.clone());
            draft.set("/linux/gidMappings", map);
            draft.names = &["linux.uidMappings"];
        }
        4 => {
            let map =
                json!([{"containerID": 0, "hostID": 1000, "size": 10}, {"containerID": 5, "hostID": 5000, "size": 10}]);
            draft.config.user_namespace(1000, 10);
            draft.set("/linux/uidMappings", map);
            draft.names = &["linux.uidMappings"];
        }
        5 => {
            namespaces(draft, json!([{"type": "mount"}]));
            draft.set("/linux/timeOffsets", json!({"boottime": {"secs": 1, "nanosecs": 0}}));
            draft.names = &["linux.timeOffsets"];
        }
        6 => {
            namespaces(draft, json!([{"type": "mount"}, {"type": "time"}]));
            let (clock, nanos) = *draw.pick(&[("realtime", 0), ("monotonic", 1_000_000_000u64)]);
            draft.set("/linux/timeOffsets", json!({clock: {"secs": 1, "nanosecs": nanos}}));
            draft.names = &["linux.timeOffsets"];
        }
        7 => {
            let device = json!({"path": "/dev/twice", "type": "c", "major": 1, "minor": 3});
            draft.config.push("/linux/devices", device.clone());
            draft.config.push("/linux/devices", device);
            draft.names = &["/dev/twice"];
        }
        8 => {
            namespaces(draft, json!([{"type": "mount"}]));
            draft.config.at("/linux/sysctl")["net.ipv4.ip_forward"] = "1".into();
            draft.names = &["net.ipv4.ip_forward", "sysctl"];
        }
        9 => {
            namespaces(draft, json!([{"type": "mount"}, {"type": "network"}]));
            draft.config.at("/linux/sysctl")["kernel.msgmax"] = "8192".into();
            draft.names = &["kernel.msgmax", "sysctl"];
        }
        10 => {
            let limit = json!({"type": "RLIMIT_CORE", "soft": 1, "hard": 2});
            draft.config.push("/process/rlimits", limit.clone());
            draft.config.push("/process/rlimits", limit);
            draft.names = &["RLIMIT_CORE"];
        }
        _ => {
            let length = 65 + draw.below(3000);
            namespaces(draft, json!([{"type": "mount"}, {"type": "uts"}]));
            let field = *draw.pick(&["hostname", "domainname"]);
            draft.set(&format!("/{field}"), draw.word("abc", length));
            draft.names = &["hostname", "domainname"];
        }
    }
}

/// Nothing but what every configuration has: for what a step of the start refuses, which others come before.
fn bare(draft: &mut Draft) {
    let place = draft.place.clone();
    draft.config = Draft::new(draft.kind, place).config;
    draft.users = None;
}

/// What nobody sees before the kernel is asked.
fn in_the_kernel(draft: &mut Draft, draw: &mut Draw) {
    match draw.below(7) {
        0 => {
            namespaces(draft, json!([{"type": "mount"}]));
            let path = *draw.pick(&[
                "/proc/self/ns/no-such",
                "/no/such/namespace",
                "/etc/passwd",
                "/proc/self/ns/net",
            ]);
            draft
                .config
                .push("/linux/namespaces", json!({"type": "uts", "path": path}));
            draft.names = &["namespace"];
        }
        1 => {
            draft.config.remove("/process", "rlimits");
            // Above fs.nr_open.
            draft.config.push(
                "/process/rlimits",
                json!({"type": "RLIMIT_NOFILE", "soft": 64, "hard": u64::MAX}),
            );
            draft.names = &["nofile"];
        }
        2 => {
            bare(draft);
            draft.config.user_namespace(100_000, 1000);
            draft.users = Some((vec![(0, 100_000, 1000)], vec![(0, 100_000, 1000)]));
            draft.set("/process/user", json!({"uid": 5000, "gid": 0}));
            draft.names = &["5000"];
        }
        3 => {
            bare(draft);
            draft.config.push("/linux/namespaces", json!({"type": "ipc"}));
            let (name, value) = *draw.pick(&[
                ("kernel.no_such_setting", "1"),
                ("kernel.shmmni", "many"),
                ("fs.mqueue.none", "1"),
            ]);
            draft.set("/linux/sysctl", json!({name: value}));
            draft.names = &["sysctl"];
        }
        4 => {
            draft.set("/linux/resources/cpu", json!({"cpus": "4000"}));
            draft.names = &["cpuset"];
        }
        5 => {
            // The specification of capset(2): nothing inheritable beyond the bounding set.
            draft.set("/process/capabilities", json!({"inheritable": ["CAP_SYS_BOOT"]}));
            draft.names = &["capabilities"];
        }
        _ => {
            namespaces(draft, json!([{"type": "mount"}, {"type": "time"}]));
            draft.set(
                "/linux/timeOffsets",
                json!({"monotonic": {"secs": -1_000_000_000_000i64, "nanosecs": 0}}),
            );
            draft.names = &["time"];
        }
    }
}

fn hooks(draft: &mut Draft, draw: &mut Draw) {
    let kind = *draw.pick(&[
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
    ]);
    let inside = kind == "startContainer";
    let hook = match draw.below(3) {
        0 => json!({"path": "/no/such/hook"}),
        1 if inside => json!({"path": "/etc/passwd"}),
        1 => json!({"path": "/etc"}),
        _ if inside => json!({"path": "/bin/probe", "args": ["probe", "fail"]}),
        _ => json!({"path": "/bin/false"}),
    };
    if matches!(kind, "startContainer" | "poststart") {
        draft.stage = Stage::Start;
    }
    draft.config.push(&format!("/hooks/{kind}"), hook);
    draft.names = &["hook"];
}

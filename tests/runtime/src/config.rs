//! `config.json`, put together and changed piece by piece.

use serde_json::{Value, json};

/// What a container of Docker may do.
pub const DOCKER_CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Docker's masked paths.
pub const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's read-only paths.
pub const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A configuration; [`Config::at`] reaches every field.
#[derive(Debug, Clone)]
pub struct Config(pub Value);

impl Config {
    /// What Docker would ask for, without a seccomp profile: attacks are to meet the runtime's own defences.
    pub fn docker(id: &str, cgroup: &str) -> Config {
        Config(json!({
            "ociVersion": "1.2.0",
            "hostname": "inside",
            "root": {"path": "rootfs", "readonly": false},
            "process": {
                "terminal": false,
                "user": {"uid": 0, "gid": 0},
                "args": ["sh"],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
                "cwd": "/",
                "capabilities": {
                    "bounding": DOCKER_CAPABILITIES,
                    "effective": DOCKER_CAPABILITIES,
                    "permitted": DOCKER_CAPABILITIES,
                },
                "noNewPrivileges": true,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                 "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                 "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                 "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                 "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                 "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                 "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
            ],
            "linux": {
                "cgroupsPath": crate::world::cgroups_path(cgroup, id),
                "namespaces": [
                    {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                    {"type": "cgroup"},
                ],
                "resources": {"devices": [{"allow": false, "access": "rwm"}]},
                "maskedPaths": MASKED,
                "readonlyPaths": READ_ONLY,
            },
        }))
    }

    /// A place by its JSON pointer; what is missing on the way is made.
    #[track_caller]
    pub fn at(&mut self, pointer: &str) -> &mut Value {
        let mut place = &mut self.0;
        for word in pointer.trim_start_matches('/').split('/') {
            place = match place {
                Value::Array(items) => {
                    let index: usize = word.parse().expect("an index");
                    while items.len() <= index {
                        items.push(Value::Null);
                    }
                    &mut items[index]
                }
                other => {
                    if !other.is_object() {
                        *other = json!({});
                    }
                    &mut other[word]
                }
            };
        }
        place
    }

    /// Sets a place by its JSON pointer.
    #[track_caller]
    pub fn set(&mut self, pointer: &str, value: impl Into<Value>) -> &mut Config {
        *self.at(pointer) = value.into();
        self
    }

    /// Adds to a list by its JSON pointer.
    #[track_caller]
    pub fn push(&mut self, pointer: &str, value: impl Into<Value>) -> &mut Config {
        let place = self.at(pointer);
        if place.is_null() {
            *place = json!([]);
        }
        place.as_array_mut().expect("a list").push(value.into());
        self
    }

    pub fn remove(&mut self, parent: &str, key: &str) -> &mut Config {
        if let Some(object) = self.0.pointer_mut(parent).and_then(Value::as_object_mut) {
            object.remove(key);
        }
        self
    }

    pub fn args(&mut self, args: &[&str]) -> &mut Config {
        self.set("/process/args", args)
    }

    /// A shell line as the process.
    pub fn shell(&mut self, line: &str) -> &mut Config {
        self.args(&["sh", "-c", line])
    }

    pub fn env(&mut self, pair: &str) -> &mut Config {
        self.push("/process/env", pair)
    }

    pub fn user(&mut self, uid: u32, gid: u32) -> &mut Config {
        self.set("/process/user", json!({"uid": uid, "gid": gid}))
    }

    /// The bounding, effective and permitted set.
    pub fn capabilities(&mut self, names: &[&str]) -> &mut Config {
        self.set(
            "/process/capabilities",
            json!({"bounding": names, "effective": names, "permitted": names}),
        )
    }

    /// Docker's capabilities and these.
    pub fn more_capabilities(&mut self, names: &[&str]) -> &mut Config {
        let all: Vec<&str> = DOCKER_CAPABILITIES.iter().chain(names).copied().collect();
        self.capabilities(&all)
    }

    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) -> &mut Config {
        let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.push("/mounts", mount)
    }

    pub fn bind(&mut self, source: impl AsRef<std::path::Path>, destination: &str) -> &mut Config {
        let source = source.as_ref().to_str().expect("an UTF-8 path").to_owned();
        self.mount(destination, "bind", &source, &["rbind", "rw"])
    }

    /// Takes the mount at `destination` out.
    pub fn without_mount(&mut self, destination: &str) -> &mut Config {
        let mounts = self.at("/mounts").as_array_mut().expect("mounts");
        mounts.retain(|mount| mount["destination"] != destination);
        self
    }

    /// Whether there is a namespace of this type.
    pub fn without_namespace(&mut self, kind: &str) -> &mut Config {
        let namespaces = self.at("/linux/namespaces").as_array_mut().expect("namespaces");
        namespaces.retain(|namespace| namespace["type"] != kind);
        self
    }

    /// A namespace to join.
    pub fn join_namespace(&mut self, kind: &str, path: &str) -> &mut Config {
        self.without_namespace(kind);
        self.push("/linux/namespaces", json!({"type": kind, "path": path}))
    }

    /// A user namespace in which `size` ids from 0 on are those from `host` on.
    pub fn user_namespace(&mut self, host: u32, size: u32) -> &mut Config {
        let map = json!([{"containerID": 0, "hostID": host, "size": size}]);
        self.without_namespace("user");
        self.push("/linux/namespaces", json!({"type": "user"}))
            .set("/linux/uidMappings", map.clone())
            .set("/linux/gidMappings", map)
    }
}

//! What the suite `random` has found once, each by itself.

use std::os::unix::fs::{MetadataExt, lchown};

use harness::{Test, tests};
use serde_json::json;

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        an_owned_device_keeps_all_bits_of_its_mode,
        a_domain_name_in_a_user_namespace,
        forwarding_of_one_interface_outlives_that_of_all,
        propagation_on_a_shared_mount,
    ]
}

/// A change of owner clears the set-id bits of a file.
fn an_owned_device_keeps_all_bits_of_its_mode(world: &World) {
    let mut bundle = world.bundle();
    let device = json!({"path": "/dev/owned", "type": "c", "major": 1, "minor": 3,
                        "fileMode": 0o6640, "uid": 7, "gid": 8});
    bundle.push("/linux/devices", device);
    let process = bundle.sleeper();
    let about = std::fs::symlink_metadata(process.root("/dev/owned")).unwrap();
    assert_eq!((about.mode() & 0o7777, about.uid(), about.gid()), (0o6640, 7, 8));
}

/// `/proc/sys/kernel/domainname` is closed to root of a user namespace, setdomainname(2) is not.
fn a_domain_name_in_a_user_namespace(world: &World) {
    let mut bundle = world.bundle();
    bundle.user_namespace(100_000, 65_536).set("/domainname", "of.its.own");
    for folder in ["", "dev", "etc", "proc", "sys", "tmp"] {
        lchown(bundle.rootfs(folder), Some(100_000), Some(100_000)).unwrap();
    }
    bundle.args(&["cat", "/proc/sys/kernel/domainname"]);
    assert_eq!(bundle.run().ok(), "of.its.own");
}

/// Linux resets the settings of interfaces when `ip_forward` changes, which a new namespace has from the host.
fn forwarding_of_one_interface_outlives_that_of_all(world: &World) {
    let host = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    let (same, other) = if host.trim() == "0" { ("0", "1") } else { ("1", "0") };
    let mut bundle = world.bundle();
    bundle.set(
        "/linux/sysctl",
        json!({"net.ipv4.conf.lo.forwarding": same, "net.ipv4.ip_forward": other}),
    );
    let (one, all) = ("/proc/sys/net/ipv4/conf/lo/forwarding", "/proc/sys/net/ipv4/ip_forward");
    bundle.args(&["cat", one, all]);
    assert_eq!(bundle.run().ok(), format!("{same}\n{other}"));
}

fn propagation_on_a_shared_mount(world: &World) {
    let mut bundle = world.bundle();
    for (path, word) in [
        ("/mnt", "shared"),
        ("/mnt/unbindable", "unbindable"),
        ("/mnt/private", "private"),
        ("/mnt/shared", "shared"),
    ] {
        bundle.mount(path, "tmpfs", "tmpfs", &[word]);
    }
    let process = bundle.sleeper();
    let spread = |path: &str| process.mount(path).expect("a mount").optional;
    assert!(spread("/mnt").contains("shared:"));
    assert_eq!(spread("/mnt/unbindable"), "unbindable");
    assert_eq!(spread("/mnt/private"), "");
    assert!(spread("/mnt/shared").contains("shared:"));
}

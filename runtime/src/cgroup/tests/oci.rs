//! `linux.resources` as it stands in a configuration.

use crate::cgroup::*;
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

fn parse(value: Value) -> Result<Resources> {
    let oci: LinuxResources = serde_json::from_value(value).unwrap();
    Resources::try_from(&oci)
}

#[test]
fn every_field_arrives() {
    let got = parse(json!({
        "memory": {"limit": 1, "reservation": 2, "swap": 3, "kernelTCP": 4, "swappiness": 5, "disableOOMKiller": true,
            "useHierarchy": true, "checkBeforeUpdate": true, "kernel": 99},
        "cpu": {"shares": 6, "quota": 7, "burst": 8, "period": 9, "realtimeRuntime": 10, "realtimePeriod": 11,
            "cpus": "12", "mems": "13", "idle": 1},
        "pids": {"limit": 14},
        "blockIO": {"weight": 15, "leafWeight": 16,
            "weightDevice": [{"major": 8, "minor": 1, "weight": 17, "leafWeight": 18}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 2, "rate": 19}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 3, "rate": 20}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 21}],
        "network": {"classID": 22, "priorities": [{"name": "eth0", "priority": 23}]},
        "rdma": {"b": {"hcaObjects": 24}, "a": {"hcaHandles": 25}},
        "unified": {"misc.max": "x 26"},
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": -1, "access": "r"}],
    }))
    .unwrap();
    let weight = |minor, weight| WeightDevice {
        major: 8,
        minor,
        weight,
    };
    let rate = |minor, rate| Throttle { major: 8, minor, rate };
    let rdma = |device: &str, handles, objects| RdmaLimit {
        device: device.into(),
        handles,
        objects,
    };
    let expected = Resources {
        memory: Some(1),
        memory_reservation: Some(2),
        memory_swap: Some(3),
        kernel_tcp: Some(4),
        swappiness: Some(5),
        oom_kill_disable: true,
        check_before_update: true,
        cpu_shares: Some(6),
        cpu_quota: Some(7),
        cpu_burst: Some(8),
        cpu_period: Some(9),
        cpu_rt_runtime: Some(10),
        cpu_rt_period: Some(11),
        cpuset_cpus: Some("12".into()),
        cpuset_mems: Some("13".into()),
        cpu_idle: Some(true),
        pids: Some(14),
        blkio_weight: Some(15),
        blkio_leaf_weight: Some(16),
        blkio_weight_device: vec![weight(1, 17)],
        blkio_leaf_weight_device: vec![weight(1, 18)],
        read_bps: vec![rate(2, 19)],
        write_iops: vec![rate(3, 20)],
        hugepages: vec![("2MB".into(), 21)],
        net_class: Some(22),
        net_priorities: vec![InterfacePriority {
            interface: "eth0".into(),
            priority: 23,
        }],
        rdma: vec![rdma("a", Some(25), None), rdma("b", None, Some(24))],
        unified: vec![("misc.max".into(), "x 26".into())],
        devices: vec![DeviceRule::all(false), DeviceRule::parse(true, "c 1:* r").unwrap()],
        ..Resources::default()
    };
    assert_eq!(got, expected);
    // Each field has its controller.
    let controllers = [
        "cpu", "cpuset", "hugetlb", "io", "memory", "misc", "net_cls", "net_prio", "pids", "rdma",
    ];
    assert_eq!(got.controllers(), controllers);
    assert!(Resources::default().controllers().is_empty());
}

#[test]
fn what_cannot_be_is_refused_by_its_field() {
    for (value, field) in [
        (
            json!({"memory": {"useHierarchy": false}}),
            "linux.resources.memory.useHierarchy",
        ),
        (json!({"memory": {"limit": -2}}), "linux.resources.memory.limit"),
        (
            json!({"memory": {"limit": 9, "swap": 8}}),
            "linux.resources.memory.swap",
        ),
        (
            json!({"memory": {"limit": 8, "reservation": 9}}),
            "linux.resources.memory.reservation",
        ),
        (json!({"memory": {"kernelTCP": -5}}), "linux.resources.memory.kernelTCP"),
        (
            json!({"memory": {"swappiness": 101}}),
            "linux.resources.memory.swappiness",
        ),
        (json!({"cpu": {"period": 5}}), "linux.resources.cpu.period"),
        (json!({"cpu": {"quota": 5}}), "linux.resources.cpu.quota"),
        (
            json!({"cpu": {"realtimeRuntime": -5}}),
            "linux.resources.cpu.realtimeRuntime",
        ),
        (json!({"cpu": {"cpus": "x"}}), "linux.resources.cpu.cpus"),
        (json!({"cpu": {"mems": "2-1"}}), "linux.resources.cpu.mems"),
        (json!({"pids": {"limit": -7}}), "linux.resources.pids.limit"),
        (json!({"blockIO": {"weight": 1}}), "linux.resources.blockIO.weight"),
        (
            json!({"blockIO": {"leafWeight": 1}}),
            "linux.resources.blockIO.leafWeight",
        ),
        (
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": -1, "weight": 10}]}}),
            "linux.resources.blockIO.weightDevice.minor",
        ),
        (
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 1, "leafWeight": 1}]}}),
            "linux.resources.blockIO.weightDevice.leafWeight",
        ),
        (
            json!({"blockIO": {"throttleReadIOPSDevice": [{"major": -8, "minor": 1, "rate": 1}]}}),
            "linux.resources.blockIO.throttleReadIOPSDevice",
        ),
        (
            json!({"hugepageLimits": [{"pageSize": "2 MB", "limit": 1}]}),
            "linux.resources.hugepageLimits.pageSize",
        ),
        (
            json!({"network": {"priorities": [{"name": "eth0 9", "priority": 1}]}}),
            "linux.resources.network.priorities",
        ),
        (json!({"rdma": {"a b": {"hcaHandles": 1}}}), "linux.resources.rdma"),
        (json!({"unified": {"cgroup.procs": "1"}}), "linux.resources.unified"),
        (json!({"unified": {"cgroup.kill": "1"}}), "linux.resources.unified"),
        (json!({"unified": {"../x.y": "1"}}), "linux.resources.unified"),
        (
            json!({"devices": [{"allow": true, "type": "p"}]}),
            "linux.resources.devices.type",
        ),
        (
            json!({"devices": [{"allow": true, "type": "c", "major": -2}]}),
            "linux.resources.devices.major",
        ),
    ] {
        let error = parse(value.clone())
            .and_then(|resources| resources.validate())
            .unwrap_err();
        assert!(error.to_string().contains(field), "{value}: {error}");
    }
}

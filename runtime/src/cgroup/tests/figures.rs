//! Statistics of both versions, from the kernel's formats.

use super::trees::{Trees, own};
use crate::cgroup::*;

fn entry(op: &str, value: u64) -> IoEntry {
    IoEntry {
        major: 8,
        minor: 0,
        op: op.into(),
        value,
    }
}

#[test]
fn v1_counts_everything() {
    let trees = Trees::new()
        .v1("cpuacct")
        .v1("cpu")
        .v1("memory")
        .v1("blkio")
        .v1("pids")
        .v1("hugetlb")
        .v1("rdma");
    for (file, text) in [
        ("cpuacct/iechor/c1/cpuacct.usage", "300\n"),
        ("cpuacct/iechor/c1/cpuacct.stat", "user 2\nsystem 1\n"),
        ("cpuacct/iechor/c1/cpuacct.usage_percpu", "100 200 \n"),
        (
            "cpuacct/iechor/c1/cpuacct.usage_all",
            "cpu user system\n0 60 40\n1 150 50\n",
        ),
        (
            "cpu/iechor/c1/cpu.stat",
            "nr_periods 5\nnr_throttled 2\nthrottled_time 7\nnr_bursts 3\nburst_time 11\n",
        ),
        ("memory/iechor/c1/memory.usage_in_bytes", "4096\n"),
        ("memory/iechor/c1/memory.max_usage_in_bytes", "8192\n"),
        ("memory/iechor/c1/memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory/iechor/c1/memory.failcnt", "1\n"),
        ("memory/iechor/c1/memory.memsw.usage_in_bytes", "5000\n"),
        ("memory/iechor/c1/memory.memsw.max_usage_in_bytes", "6000\n"),
        ("memory/iechor/c1/memory.memsw.limit_in_bytes", "7000\n"),
        ("memory/iechor/c1/memory.memsw.failcnt", "4\n"),
        ("memory/iechor/c1/memory.kmem.usage_in_bytes", "10\n"),
        ("memory/iechor/c1/memory.kmem.max_usage_in_bytes", "20\n"),
        ("memory/iechor/c1/memory.kmem.limit_in_bytes", "9223372036854771712\n"),
        ("memory/iechor/c1/memory.kmem.failcnt", "3\n"),
        ("memory/iechor/c1/memory.kmem.tcp.usage_in_bytes", "30\n"),
        ("memory/iechor/c1/memory.kmem.tcp.limit_in_bytes", "40\n"),
        (
            "memory/iechor/c1/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 9\n",
        ),
        ("memory/iechor/c1/memory.stat", "cache 1\nrss 2\n"),
        (
            "memory/iechor/c1/memory.numa_stat",
            "total=5 N0=2 N1=3\nhierarchical_anon=1 N0=1 N1=0\n",
        ),
        ("blkio/iechor/c1/blkio.bfq.io_serviced_recursive", "Total 0\n"),
        (
            "blkio/iechor/c1/blkio.throttle.io_serviced_recursive",
            "8:0 Read 3\n8:0 Total 3\nTotal 3\n",
        ),
        (
            "blkio/iechor/c1/blkio.throttle.io_service_bytes",
            "8:0 Write 512\nTotal 512\n",
        ),
        ("blkio/iechor/c1/blkio.io_queued_recursive", "8:0 Read 1\nTotal 1\n"),
        (
            "blkio/iechor/c1/blkio.io_service_time_recursive",
            "8:0 Read 2\nTotal 2\n",
        ),
        ("blkio/iechor/c1/blkio.io_wait_time_recursive", "8:0 Read 3\nTotal 3\n"),
        ("blkio/iechor/c1/blkio.bfq.io_merged_recursive", "8:0 Read 4\nTotal 4\n"),
        ("blkio/iechor/c1/blkio.sectors_recursive", "8:0 5\n"),
        ("blkio/iechor/c1/blkio.time_recursive", "8:0 6\n"),
        ("pids/iechor/c1/pids.current", "4\n"),
        ("pids/iechor/c1/pids.max", "max\n"),
        ("pids/iechor/c1/pids.peak", "6\n"),
        ("hugetlb/iechor/c1/hugetlb.2MB.usage_in_bytes", "1\n"),
        ("hugetlb/iechor/c1/hugetlb.2MB.max_usage_in_bytes", "2\n"),
        ("hugetlb/iechor/c1/hugetlb.2MB.limit_in_bytes", "3\n"),
        ("hugetlb/iechor/c1/hugetlb.2MB.failcnt", "4\n"),
        ("hugetlb/iechor/c1/hugetlb.2MB.rsvd.usage_in_bytes", "5\n"),
        ("hugetlb/iechor/c1/hugetlb.1GB.usage_in_bytes", "0\n"),
        ("rdma/iechor/c1/rdma.current", "mlx4_0 hca_handle=2 hca_object=20\n"),
        (
            "rdma/iechor/c1/rdma.max",
            "mlx4_0 hca_handle=max hca_object=200\nidle0 hca_handle=1 hca_object=max\n",
        ),
    ] {
        trees.set(file, text);
    }
    let stats = trees.groups().stats(&own()).unwrap();
    let cpu = CpuStats {
        total: 300,
        user: 20_000_000,
        system: 10_000_000,
        per_cpu: vec![100, 200],
        per_cpu_user: vec![60, 150],
        per_cpu_system: vec![40, 50],
        periods: 5,
        throttled_periods: 2,
        throttled: 7,
        bursts: 3,
        burst: 11,
        pressure: None,
    };
    assert_eq!(stats.cpu, cpu);
    let counter = |usage, max_usage, limit, failures| Counter {
        usage,
        max_usage,
        limit,
        failures,
    };
    assert_eq!(
        (stats.memory.usage, stats.memory.limit, stats.memory.failures),
        (4096, None, 1)
    );
    assert_eq!((stats.memory.swap, stats.memory.swap_limit), (904, Some(7000)));
    assert_eq!(stats.memory.with_swap, Some(counter(5000, 6000, Some(7000), 4)));
    assert_eq!(stats.memory.kernel, Some(counter(10, 20, None, 3)));
    assert_eq!(stats.memory.kernel_tcp, Some(counter(30, 0, Some(40), 0)));
    assert_eq!(stats.memory.events.oom_kill, 9);
    assert_eq!(stats.memory.get("rss"), Some(2));
    let rows: Vec<_> = stats
        .memory
        .numa
        .iter()
        .map(|row| (&*row.name, row.total, row.nodes.clone()))
        .collect();
    assert_eq!(
        rows,
        [
            ("total", 5, vec![(0, 2), (1, 3)]),
            ("hierarchical_anon", 1, vec![(0, 1), (1, 0)])
        ]
    );
    let io = IoStats {
        serviced: vec![entry("Read", 3), entry("Total", 3)],
        service_bytes: vec![entry("Write", 512)],
        queued: vec![entry("Read", 1)],
        service_time: vec![entry("Read", 2)],
        wait_time: vec![entry("Read", 3)],
        merged: vec![entry("Read", 4)],
        sectors: vec![entry("", 5)],
        time: vec![entry("", 6)],
        ..IoStats::default()
    };
    assert_eq!(stats.io, io);
    assert_eq!(
        (stats.pids.current, stats.pids.limit, stats.pids.peak),
        (4, None, Some(6))
    );
    let sizes: Vec<_> = stats.huge_pages.iter().map(|pages| &*pages.size).collect();
    assert_eq!(sizes, ["1GB", "2MB"]);
    assert_eq!(stats.huge_pages[1].pages, counter(1, 2, Some(3), 4));
    assert_eq!(stats.huge_pages[1].reserved, Some(counter(5, 0, None, 0)));
    assert_eq!(stats.huge_pages[0].reserved, None);
    let rdma = |device: &str, handles, objects, handles_limit, objects_limit| RdmaStats {
        device: device.into(),
        handles,
        objects,
        handles_limit,
        objects_limit,
    };
    assert_eq!(
        stats.rdma,
        [
            rdma("mlx4_0", 2, 20, None, Some(200)),
            rdma("idle0", 0, 0, Some(1), None)
        ]
    );
}

#[test]
fn v2_counts_everything() {
    let trees = Trees::new().v2("cpu memory io hugetlb pids rdma");
    let pressure = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=7\n";
    for (file, text) in [
        ("cpu.stat", "usage_usec 30\nnr_bursts 3\nburst_usec 4\n"),
        ("cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"),
        ("memory.pressure", pressure),
        ("io.pressure", pressure),
        ("memory.current", "1\n"),
        ("memory.peak", "2\n"),
        ("memory.swap.current", "3\n"),
        ("memory.swap.peak", "4\n"),
        ("memory.swap.max", "5\n"),
        (
            "memory.events",
            "low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n",
        ),
        ("memory.numa_stat", "anon N0=10 N1=20\nfile N0=0 N1=1\n"),
        (
            "io.stat",
            "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7\n9:1\n",
        ),
        ("pids.current", "4\n"),
        ("pids.peak", "9\n"),
        ("hugetlb.2MB.current", "8\n"),
        ("hugetlb.2MB.max", "max\n"),
        ("hugetlb.2MB.events", "max 2\n"),
        ("hugetlb.2MB.rsvd.current", "16\n"),
        ("hugetlb.2MB.rsvd.max", "32\n"),
        ("rdma.current", "mlx4_0 hca_handle=2 hca_object=20\n"),
    ] {
        trees.set(&format!("v2/iechor/c1/{file}"), text);
    }
    let stats = trees.groups().stats(&own()).unwrap();
    assert_eq!((stats.cpu.total, stats.cpu.bursts, stats.cpu.burst), (30_000, 3, 4_000));
    let cpu = stats.cpu.pressure.unwrap();
    assert_eq!((cpu.some.total, cpu.full), (1, None));
    let expected = Pressure {
        some: Stall {
            avg10: 1.5,
            avg60: 0.25,
            avg300: 0.0,
            total: 77,
        },
        full: Some(Stall {
            avg10: 0.5,
            avg60: 0.0,
            avg300: 0.0,
            total: 7,
        }),
    };
    assert_eq!(
        (stats.memory.pressure, stats.io.pressure),
        (Some(expected), Some(expected))
    );
    let memory = &stats.memory;
    assert_eq!(
        (memory.usage, memory.max_usage, memory.swap, memory.max_swap),
        (1, 2, 3, 4)
    );
    assert_eq!((memory.swap_limit, memory.failures), (Some(5), 3));
    let events = MemoryEvents {
        low: 1,
        high: 2,
        max: 3,
        oom: 4,
        oom_kill: 5,
        oom_group_kill: 6,
    };
    assert_eq!(memory.events, events);
    assert_eq!((&*memory.numa[0].name, memory.numa[0].total), ("anon", 30));
    assert_eq!(stats.io.service_bytes, [entry("read", 1), entry("write", 2)]);
    let keys: Vec<_> = stats.io.devices[0]
        .values
        .iter()
        .map(|(key, value)| (&**key, *value))
        .collect();
    assert_eq!(
        keys,
        [
            ("rbytes", 1),
            ("wbytes", 2),
            ("rios", 3),
            ("wios", 4),
            ("dbytes", 5),
            ("dios", 6),
            ("cost.usage", 7)
        ]
    );
    assert_eq!((stats.io.devices[1].major, stats.io.devices[1].values.len()), (9, 0));
    assert_eq!((stats.pids.current, stats.pids.peak), (4, Some(9)));
    let pages = &stats.huge_pages[0];
    assert_eq!((&*pages.size, pages.pages.usage, pages.pages.failures), ("2MB", 8, 2));
    assert_eq!(pages.reserved.unwrap().limit, Some(32));
    assert_eq!((stats.rdma[0].handles, stats.rdma[0].objects_limit), (2, None));
}

#[test]
fn a_mixed_layout_reads_each_where_it_is_held() {
    let trees = Trees::new()
        .v1("freezer")
        .v1("cpu,cpuacct")
        .v1("memory")
        .v2("hugetlb")
        .file("cpu,cpuacct/iechor/c1/cpuacct.usage", "5\n")
        .file("cpu,cpuacct/iechor/c1/cpu.stat", "nr_periods 1\n")
        .file("memory/iechor/c1/memory.usage_in_bytes", "6\n");
    let groups = trees.groups();
    let stats = groups.stats(&own()).unwrap();
    assert_eq!((stats.cpu.total, stats.memory.usage, stats.cpu.pressure), (5, 6, None));
    // With a group on v2 as well, what that counts is there too.
    trees.set("v2/iechor/c1/hugetlb.2MB.current", "7\n");
    trees.set(
        "v2/iechor/c1/memory.pressure",
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=8\n",
    );
    let stats = groups.stats(&own()).unwrap();
    assert_eq!((stats.cpu.total, stats.memory.usage), (5, 6));
    assert_eq!(stats.memory.pressure.unwrap().some.total, 8);
    assert_eq!(stats.huge_pages[0].pages.usage, 7);
}

//! Limits → writes: which hierarchy holds what is asked for, and in what order its files are written.

use super::detect::{Place, Tree};
use super::{CgroupError, CgroupPath, Resources, Result, WeightDevice, v1, v2};
use crate::plan::CgroupWrite;
use std::fs;
use std::path::Path;

impl Resources {
    /// What is asked for: controllers, by their names on v2, each with a field of the configuration that needs it. The
    /// device rules and [`unified`](Resources::unified), whose controllers are not known beforehand, are not among them.
    pub(super) fn asked(&self) -> Vec<(&'static str, &'static str)> {
        fn set<T: Default + PartialEq>(value: Option<T>) -> bool {
            value.is_some_and(|value| value != T::default())
        }
        let weighed = |devices: &[WeightDevice]| devices.iter().any(|device| device.weight != 0);
        let mut out = Vec::new();
        let mut ask = |controller: &'static str, field: &'static str, asked: bool| {
            out.extend(asked.then_some((controller, field)));
        };
        ask("cpu", "linux.resources.cpu.shares", set(self.cpu_shares));
        ask("cpu", "linux.resources.cpu.quota", set(self.cpu_quota));
        ask("cpu", "linux.resources.cpu.period", set(self.cpu_period));
        ask("cpu", "linux.resources.cpu.burst", self.cpu_burst.is_some());
        ask("cpu", "linux.resources.cpu.idle", self.cpu_idle.is_some());
        ask("cpu", "linux.resources.cpu.realtimePeriod", set(self.cpu_rt_period));
        ask("cpu", "linux.resources.cpu.realtimeRuntime", set(self.cpu_rt_runtime));

        ask("memory", "linux.resources.memory.limit", set(self.memory));
        ask("memory", "linux.resources.memory.swap", set(self.memory_swap));
        ask(
            "memory",
            "linux.resources.memory.reservation",
            set(self.memory_reservation),
        );
        ask("memory", "linux.resources.memory.kernelTCP", set(self.kernel_tcp));
        ask("memory", "linux.resources.memory.swappiness", self.swappiness.is_some());
        ask(
            "memory",
            "linux.resources.memory.disableOOMKiller",
            self.oom_kill_disable,
        );
        ask("memory", OOM_GROUP, self.oom_group.is_some());

        ask("pids", "linux.resources.pids.limit", self.pids.is_some());
        ask("cpuset", "linux.resources.cpu.cpus", self.cpuset_cpus.is_some());
        ask("cpuset", "linux.resources.cpu.mems", self.cpuset_mems.is_some());

        let [read_bps, write_bps, read_iops, write_iops] = self.throttles().map(|(_, _, rates)| !rates.is_empty());
        let (weight, leaf) = (
            weighed(&self.blkio_weight_device),
            weighed(&self.blkio_leaf_weight_device),
        );
        ask("io", "linux.resources.blockIO.weight", set(self.blkio_weight));
        ask("io", "linux.resources.blockIO.leafWeight", set(self.blkio_leaf_weight));
        ask("io", "linux.resources.blockIO.weightDevice", weight);
        ask("io", "linux.resources.blockIO.weightDevice.leafWeight", leaf);
        ask("io", "linux.resources.blockIO.throttleReadBpsDevice", read_bps);
        ask("io", "linux.resources.blockIO.throttleWriteBpsDevice", write_bps);
        ask("io", "linux.resources.blockIO.throttleReadIOPSDevice", read_iops);
        ask("io", "linux.resources.blockIO.throttleWriteIOPSDevice", write_iops);

        let rdma = self.rdma.iter().any(|limit| limit.handles.or(limit.objects).is_some());
        let priorities = !self.net_priorities.is_empty();
        ask("hugetlb", "linux.resources.hugepageLimits", !self.hugepages.is_empty());
        ask("net_cls", "linux.resources.network.classID", self.net_class.is_some());
        ask("net_prio", "linux.resources.network.priorities", priorities);
        ask("rdma", "linux.resources.rdma", rdma);
        out
    }

    /// The controllers alone, those of unified files too.
    pub(super) fn controllers(&self) -> Vec<&str> {
        let asked = self.asked().into_iter().map(|(controller, _)| controller);
        let unified = self.unified.iter().filter_map(|(file, _)| controller_of(file));
        let mut all: Vec<&str> = asked.chain(unified).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// It has no field of its own.
pub(super) const OOM_GROUP: &str = "linux.resources.unified[\"memory.oom.group\"]";

/// The controller that a file of v2 belongs to; `None` for one of the core's.
fn controller_of(file: &str) -> Option<&str> {
    // Pressure is counted by the core, whatever the file is called.
    match file.split_once('.')? {
        ("cgroup", _) | (_, "pressure") => None,
        (controller, _) => Some(controller),
    }
}

/// The writes for `resources`, in an order that the kernel accepts for a new group as well as for one that is in use.
pub(super) fn limits(tree: &Tree, path: &CgroupPath, resources: &Resources) -> Result<Vec<CgroupWrite>> {
    let mut out = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for (controller, field) in resources.asked() {
        if done.contains(&controller) {
            continue;
        }
        done.push(controller);
        let place = tree
            .place(controller, path)
            .ok_or_else(|| absent(tree, controller, field))?;
        let mut writes = Writes {
            group: place.folder(),
            out: &mut out,
        };
        match (&place, controller) {
            (Place::V1(_), "cpu") => v1::cpu(&mut writes, resources)?,
            (Place::V1(_), "memory") => v1::memory(&mut writes, resources, tree.v1_swap)?,
            (Place::V1(_), "io") => v1::block_io(&mut writes, resources)?,
            (Place::V1(_), "hugetlb") => huge_pages(&mut writes, resources, "limit_in_bytes"),
            (Place::V1(_), "net_cls") => v1::net_class(&mut writes, resources),
            (Place::V1(_), "net_prio") => v1::net_priorities(&mut writes, resources),
            (Place::V2(_), "cpu") => v2::cpu(&mut writes, resources)?,
            (Place::V2(_), "memory") => v2::memory(&mut writes, resources)?,
            (Place::V2(_), "io") => v2::block_io(&mut writes, resources)?,
            (Place::V2(_), "hugetlb") => huge_pages(&mut writes, resources, "max"),
            // Alike in both.
            (_, "pids") => pids(&mut writes, resources),
            (_, "cpuset") => cpuset(&mut writes, resources),
            (_, "rdma") => rdma(&mut writes, resources),
            _ => return Err(absent(tree, controller, field)),
        }
    }
    unified(tree, path, resources, &mut out)?;
    Ok(out)
}

fn absent(tree: &Tree, controller: &'static str, field: &str) -> CgroupError {
    // v2 marks packets by the path of the group (nftables, eBPF), not by a controller.
    if tree.v1.is_empty() && controller.starts_with("net_") {
        CgroupError::Unsupported {
            what: field.into(),
            place: "on cgroup v2",
        }
    } else {
        CgroupError::NoController {
            what: field.into(),
            controller: if controller == "io" && tree.v2.is_none() {
                "blkio"
            } else {
                controller
            }
            .into(),
        }
    }
}

/// Where writes to the files of one group are gathered.
pub(super) struct Writes<'a> {
    pub group: &'a Path,
    pub out: &'a mut Vec<CgroupWrite>,
}

impl Writes<'_> {
    pub(super) fn put(&mut self, file: &str, value: impl ToString) {
        self.out.push(CgroupWrite {
            path: self.group.join(file),
            value: value.to_string(),
            optional: false,
        });
    }

    /// Whether the kernel gives the group such a file. A group that is not made yet will have what its parent has.
    pub(super) fn has(&self, file: &str) -> bool {
        self.group.join(file).exists() || self.group.parent().is_some_and(|parent| parent.join(file).exists())
    }

    /// # Errors
    /// [`CgroupError::Unsupported`] when the kernel has no such file.
    pub(super) fn need(&self, file: &str, field: &str) -> Result<()> {
        if self.has(file) {
            Ok(())
        } else {
            Err(CgroupError::Unsupported {
                what: field.into(),
                place: "by this kernel",
            })
        }
    }

    /// The first word of a file; `None` when the group is not made yet.
    pub(super) fn now(&self, file: &str) -> Option<String> {
        let text = fs::read_to_string(self.group.join(file)).ok()?;
        text.split_whitespace().next().map(str::to_owned)
    }

    /// The same as a number.
    pub(super) fn number(&self, file: &str) -> Option<i64> {
        self.now(file)?.parse().ok()
    }
}

fn pids(writes: &mut Writes<'_>, resources: &Resources) {
    if let Some(limit) = resources.pids {
        writes.put("pids.max", if limit > 0 { limit.to_string() } else { "max".into() });
    }
}

fn cpuset(writes: &mut Writes<'_>, resources: &Resources) {
    for (file, value) in [
        ("cpuset.cpus", &resources.cpuset_cpus),
        ("cpuset.mems", &resources.cpuset_mems),
    ] {
        if let Some(value) = value {
            writes.put(file, value);
        }
    }
}

/// Pages in use are limited, and those set aside by `mmap` too (since Linux 5.7): without the second limit a process is
/// killed by SIGBUS when it touches what `mmap` promised, with it `mmap` fails.
fn huge_pages(writes: &mut Writes<'_>, resources: &Resources, suffix: &str) {
    for (size, limit) in &resources.hugepages {
        writes.put(&format!("hugetlb.{size}.{suffix}"), limit);
        let reservation = format!("hugetlb.{size}.rsvd.{suffix}");
        if writes.has(&reservation) {
            writes.put(&reservation, limit);
        }
    }
}

fn rdma(writes: &mut Writes<'_>, resources: &Resources) {
    for limit in &resources.rdma {
        let mut line = limit.device.clone();
        for (key, value) in [("hca_handle", limit.handles), ("hca_object", limit.objects)] {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        if line.len() > limit.device.len() {
            writes.put("rdma.max", line);
        }
    }
}

fn unified(tree: &Tree, path: &CgroupPath, resources: &Resources, out: &mut Vec<CgroupWrite>) -> Result<()> {
    for (file, value) in &resources.unified {
        let what = || format!("linux.resources.unified[{file:?}]");
        let Some(group) = tree.v2_group(path) else {
            return Err(CgroupError::Unsupported {
                what: what(),
                place: "on cgroup v1",
            });
        };
        if let Some(controller) = controller_of(file)
            && !tree.v2_controllers.contains(controller)
        {
            let on_v1 = matches!(tree.place(controller, path), Some(Place::V1(_)));
            return Err(if on_v1 {
                CgroupError::Unsupported {
                    what: what(),
                    place: "where its controller is on cgroup v1",
                }
            } else {
                CgroupError::NoController {
                    what: what(),
                    controller: controller.into(),
                }
            });
        }
        let mut writes = Writes { group: &group, out };
        // A file with a line per device takes one line per write.
        let lines: Vec<&str> = value.lines().filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() {
            writes.put(file, "");
        }
        for line in lines {
            writes.put(file, line);
        }
    }
    Ok(())
}

//! The control group and its limits.

use std::path::{Path, PathBuf};

use harness::kernel::own_mounts;
use serde_json::{Value, json};

use super::draft::{Draft, Place, same};
use super::draw::Draw;
use super::seen::Seen;

/// Every hierarchy's mount point.
pub fn hierarchies() -> &'static [PathBuf] {
    static FOUND: std::sync::OnceLock<Vec<PathBuf>> = std::sync::OnceLock::new();
    FOUND.get_or_init(|| {
        let all = own_mounts().into_iter();
        all.filter(|mount| mount.kind == "cgroup" || mount.kind == "cgroup2")
            .map(|mount| mount.target.into())
            .collect()
    })
}

/// Where a case's group may be, below a hierarchy.
pub fn groups(place: &Place) -> [String; 2] {
    [
        format!("{}/{}", place.cgroup.trim_start_matches('/'), place.id),
        // What the runtime chooses, and what is relative to that.
        format!("iechor/{}", place.id),
    ]
}

pub fn path(draft: &mut Draft, draw: &mut Draw) {
    let (cgroup, id) = (draft.place.cgroup.clone(), draft.place.id.clone());
    let [ours, default] = groups(&draft.place);
    let (written, wanted) = match draw.below(6) {
        0 => (None, default),
        1 => (Some(String::new()), default),
        2 => (Some(id.clone()), default),
        3 => (Some(format!("/{cgroup}//{id}/")), ours),
        _ => (Some(format!("{cgroup}/{id}")), ours),
    };
    match written {
        Some(path) => draft.set("/linux/cgroupsPath", path),
        None => drop(draft.config.remove("/linux", "cgroupsPath")),
    }
    draft.check("linux.cgroupsPath", move |seen| {
        let text = seen.proc("cgroup");
        let end = format!(":/{wanted}");
        match text.lines().any(|line| line.ends_with(&end)) {
            true => Ok(()),
            false => Err(format!("{text:?}, not {wanted}")),
        }
    });
}

/// A control file of the container's group, by its name on v1 or v2, and what it has to say there.
fn file(
    draft: &mut Draft,
    what: &str,
    controller: &'static str,
    v1: (&'static str, String),
    v2: Option<(&'static str, String)>,
) {
    draft.check(what, move |seen| {
        let group = group(seen, controller);
        let read = |name: &str| std::fs::read_to_string(group.join(name)).map(|text| text.trim().to_owned());
        match (read(v1.0), &v2) {
            (Ok(text), _) => same(&text, &v1.1),
            (Err(_), Some((name, wanted))) => same(&read(name).map_err(|error| error.to_string())?, wanted),
            (Err(_), None) => Ok(()),
        }
    });
}

fn group(seen: &Seen<'_>, controller: &str) -> PathBuf {
    seen.process.cgroup(controller)
}

pub fn has(name: &str) -> bool {
    hierarchies().iter().any(|mount| mount.join(name).exists())
}

fn is_v1(controller: &str) -> bool {
    own_mounts()
        .iter()
        .any(|mount| mount.kind == "cgroup" && mount.has(controller))
}

pub fn memory(draft: &mut Draft, draw: &mut Draw) {
    let page = 4096u64;
    let limit = draw.between(64 << 20, 1 << 40) as u64;
    let whole = limit / page * page;
    draft.set("/linux/resources/memory/limit", limit);
    file(
        draft,
        "memory.limit",
        "memory",
        ("memory.limit_in_bytes", whole.to_string()),
        Some(("memory.max", whole.to_string())),
    );
    if draw.chance(30) {
        let reservation = draw.between(1 << 20, limit as i64) as u64 / page * page;
        draft.set("/linux/resources/memory/reservation", reservation);
        file(
            draft,
            "memory.reservation",
            "memory",
            ("memory.soft_limit_in_bytes", reservation.to_string()),
            Some(("memory.low", reservation.to_string())),
        );
    }
    if draw.chance(30) && has("memory.memsw.limit_in_bytes") {
        let swap = whole + draw.below(1000) * page;
        // The sum of both, page by page not below the limit.
        let swap = swap.max(limit);
        draft.set("/linux/resources/memory/swap", swap);
        file(
            draft,
            "memory.swap",
            "memory",
            ("memory.memsw.limit_in_bytes", (swap / page * page).to_string()),
            None,
        );
    }
    if draw.chance(20) && is_v1("memory") {
        let swappiness = draw.below(101);
        draft.set("/linux/resources/memory/swappiness", swappiness);
        file(
            draft,
            "memory.swappiness",
            "memory",
            ("memory.swappiness", swappiness.to_string()),
            None,
        );
    }
    if draw.chance(20) {
        // Neither holds anything, both are in files in the wild.
        draft.set("/linux/resources/memory/kernel", limit);
        draft.set("/linux/resources/memory/useHierarchy", true);
    }
}

pub fn cpu(draft: &mut Draft, draw: &mut Draw) {
    if draw.chance(50) {
        let shares = draw.between(2, 262_144);
        draft.set("/linux/resources/cpu/shares", shares);
        file(draft, "cpu.shares", "cpu", ("cpu.shares", shares.to_string()), None);
    }
    if draw.chance(50) {
        let period = draw.between(1000, 1_000_000);
        let quota = draw.between(1000.max(period / 10), period * 4);
        draft.set("/linux/resources/cpu/period", period);
        draft.set("/linux/resources/cpu/quota", quota);
        let both = Some(("cpu.max", format!("{quota} {period}")));
        file(
            draft,
            "cpu.quota",
            "cpu",
            ("cpu.cfs_quota_us", quota.to_string()),
            both.clone(),
        );
        file(
            draft,
            "cpu.period",
            "cpu",
            ("cpu.cfs_period_us", period.to_string()),
            both,
        );
        if draw.chance(30) && has("cpu.cfs_burst_us") {
            let burst = draw.between(0, quota);
            draft.set("/linux/resources/cpu/burst", burst);
            file(draft, "cpu.burst", "cpu", ("cpu.cfs_burst_us", burst.to_string()), None);
        }
    }
    if draw.chance(30) {
        let list = *draw.pick(&["0", "0-0", "0,0", " 0"]);
        draft.set("/linux/resources/cpu/cpus", list);
        file(draft, "cpu.cpus", "cpuset", ("cpuset.cpus", "0".into()), None);
        draft.expect("the CPUs", "0".to_owned(), |seen| {
            seen.process.status("Cpus_allowed_list")
        });
    }
    if draw.chance(20) {
        draft.set("/linux/resources/cpu/mems", "0");
        file(draft, "cpu.mems", "cpuset", ("cpuset.mems", "0".into()), None);
    }
}

pub fn pids(draft: &mut Draft, draw: &mut Draw) {
    let (limit, shown) = match draw.below(4) {
        0 => (-1, "max".to_owned()),
        1 => (0, "max".to_owned()),
        _ => {
            let limit = draw.between(16, 30_000);
            (limit, limit.to_string())
        }
    };
    draft.set("/linux/resources/pids/limit", limit);
    file(
        draft,
        "pids.limit",
        "pids",
        ("pids.max", shown.clone()),
        Some(("pids.max", shown)),
    );
}

pub fn devices(draft: &mut Draft, draw: &mut Draw) {
    let mut rules = vec![json!({"allow": false, "access": "rwm"})];
    for (number, access) in draw.some(&[(10, "rwm"), (229, "rw"), (200, "r"), (137, "w"), (59, "m")], 40) {
        rules.push(json!({"allow": true, "type": "c", "major": 10, "minor": number, "access": access}));
        let wanted = format!("c 10:{number} {access}");
        draft.check("resources.devices", move |seen| {
            // v2 has a program instead of a list.
            match std::fs::read_to_string(group(seen, "devices").join("devices.list")) {
                Ok(text) if !text.lines().any(|line| line == wanted) => Err(format!("{text:?} is without {wanted}")),
                _ => Ok(()),
            }
        });
    }
    draft.set("/linux/resources/devices", rules);
}

/// Limits that hang on the machine.
pub fn rare(draft: &mut Draft, draw: &mut Draw) {
    if !draft.dares() {
        return;
    }
    let all: [(&str, Value); 12] = [
        ("blockIO", json!({"weight": 500})),
        (
            "blockIO",
            json!({"throttleReadBpsDevice": [{"major": 7, "minor": 0, "rate": 1_000_000}]}),
        ),
        ("hugepageLimits", json!([{"pageSize": "2MB", "limit": 4_194_304}])),
        ("hugepageLimits", json!([{"pageSize": "3MB", "limit": 1}])),
        (
            "network",
            json!({"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 3}]}),
        ),
        ("rdma", json!({"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10_000}})),
        ("unified", json!({"memory.high": "1073741824"})),
        ("unified", json!({"no.such.file": "1"})),
        ("memory", json!({"limit": 4096})),
        (
            "memory",
            json!({"limit": 1_073_741_824, "disableOOMKiller": true, "kernelTCP": 1_048_576}),
        ),
        (
            "cpu",
            json!({"realtimeRuntime": 1000, "realtimePeriod": 1_000_000, "idle": 1}),
        ),
        ("cpu", json!({"cpus": "4000", "mems": "300"})),
    ];
    for (name, value) in draw.some(&all, 8) {
        draft.doubt(format!("{name} {value}"));
        draft
            .checks
            .retain(|check| !check.what.starts_with(&format!("{name}.")) && check.what != "the CPUs");
        draft.set(&format!("/linux/resources/{name}"), value);
    }
}

/// What is left of a case's groups.
pub fn left(place: &Place) -> Option<PathBuf> {
    let names = groups(place);
    let all = hierarchies().iter();
    all.flat_map(|mount: &PathBuf| names.iter().map(move |name| Path::join(mount, name)))
        .find(|path| path.exists())
}

//! Namespaces, and what belongs to one: maps of users, clocks, names, kernel parameters.

use harness::kernel::Process;
use serde_json::json;

use super::draft::{Draft, Ranges, same};
use super::draw::Draw;
use super::seen::proc_name;

const KINDS: [(&str, u64); 7] = [
    ("pid", 80),
    ("network", 60),
    ("ipc", 70),
    ("uts", 70),
    ("cgroup", 50),
    ("time", 12),
    ("mount", 92),
];

pub fn kinds(draft: &mut Draft, draw: &mut Draw) {
    draft.namespaces.clear();
    let mut list = Vec::new();
    let with_users = draw.chance(15);
    if with_users {
        list.push(json!({"type": "user"}));
        draft.namespaces.insert("user", true);
    }
    for (kind, percent) in KINDS {
        // Root of a user namespace mounts nothing in a mount namespace of the host's.
        let needed = kind == "mount" && with_users && !draft.dares();
        if draw.chance(percent) || needed {
            list.push(json!({"type": kind}));
            draft.namespaces.insert(kind, true);
        } else if matches!(kind, "network" | "ipc" | "uts") && draw.chance(20) {
            let path = format!("/proc/{}/ns/{}", draft.place.holder, proc_name(kind));
            list.push(json!({"type": kind, "path": path}));
            draft.namespaces.insert(kind, false);
        }
    }
    // Their order says nothing.
    for index in (1..list.len()).rev() {
        list.swap(index, draw.below(index as u64 + 1) as usize);
    }
    draft.set("/linux/namespaces", list);
    if !draft.has("mount") && kernel() < (6, 15) {
        draft.doubt("no mount namespace before Linux 6.15");
    }
    if with_users && !draft.has("mount") {
        draft.doubt("a user namespace without a mount namespace");
    }
    for kind in KINDS.map(|(kind, _)| kind).into_iter().chain(["user"]) {
        let how = draft.namespaces.get(kind).copied();
        let holder = draft.place.holder;
        draft.check(format!("namespace {kind}"), move |seen| {
            let found = seen.namespace(kind);
            let shared = found == "(shared)";
            match how {
                None if shared => Ok(()),
                Some(true) if !shared => Ok(()),
                Some(false) => same(&found, &Process(holder).namespace(proc_name(kind))),
                _ => Err(found),
            }
        });
    }
    if with_users {
        maps(draft, draw);
    }
    if draft.namespaces.get("time") == Some(&true) && draw.chance(70) {
        clocks(draft, draw);
    }
}

/// Major and minor version of the running kernel.
fn kernel() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = text.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn maps(draft: &mut Draft, draw: &mut Draw) {
    let mut map = || -> Ranges {
        let base = 100_000 + draw.below(1000) as u32 * 100_000;
        match draw.below(4) {
            0 => vec![(0, base, 1), (1, base + 5000, 60_000)],
            1 => vec![(500, base + 500, 65_036), (0, base, 500)],
            // Root of the container is root of the host.
            2 if draw.chance(30) => vec![(0, 0, 65_536)],
            _ => vec![(0, base, 65_536)],
        }
    };
    let (users, groups) = (map(), map());
    for (field, file, ranges) in [("uidMappings", "uid_map", &users), ("gidMappings", "gid_map", &groups)] {
        let list: Vec<_> = ranges
            .iter()
            .map(|(inside, outside, count)| json!({"containerID": inside, "hostID": outside, "size": count}))
            .collect();
        draft.set(&format!("/linux/{field}"), list);
        draft.expect(field, ranges.clone(), move |seen| {
            let text = seen.proc(file);
            let line = |line: &str| {
                let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap_or(u32::MAX));
                let mut next = || numbers.next().unwrap_or(u32::MAX);
                (next(), next(), next())
            };
            text.lines().map(line).collect::<Ranges>()
        });
    }
    draft.users = Some((users, groups));
}

fn clocks(draft: &mut Draft, draw: &mut Draw) {
    for (clock, name) in [("monotonic", "monotonic"), ("boottime", "boottime")] {
        let (seconds, nanos) = match draw.below(4) {
            0 => (0, 0),
            1 => (draw.between(1, 1_000_000), 0),
            2 => (-draw.between(0, 5), draw.between(0, 999_999_999)),
            _ => (draw.between(0, 1_000_000), draw.between(0, 999_999_999)),
        };
        draft.set(
            &format!("/linux/timeOffsets/{clock}"),
            json!({"secs": seconds, "nanosecs": nanos}),
        );
        let wanted = vec![name.to_owned(), seconds.to_string(), nanos.to_string()];
        draft.expect(format!("timeOffsets.{clock}"), wanted, move |seen| {
            let text = seen.proc("timens_offsets");
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().map(str::to_owned).collect()
        });
    }
}

const NAME: &str = "abcdefghijklmnopqrstuvwxyz0123456789-.";

pub fn names(draft: &mut Draft, draw: &mut Draw) {
    if !draft.has("uts") {
        return;
    }
    // Names of a namespace that somebody else's root owns.
    if draft.users.is_some() && !draft.namespaces["uts"] {
        if !draft.dares() {
            return;
        }
        draft.doubt("names of a joined namespace in a user namespace");
    }
    for field in ["hostname", "domainname"] {
        if draw.chance(60) {
            let length = if draw.chance(10) { 64 } else { draw.below(20) + 1 };
            let name = draw.word(NAME, length);
            draft.set(&format!("/{field}"), name.as_str());
            draft.expect(field, name, move |seen| seen.said(field));
        }
    }
}

/// Kernel parameters: (name as written, path, namespace, lowest, highest).
const SYSCTLS: &[(&str, &str, &str, i64, i64)] = &[
    ("net.ipv4.ip_forward", "net/ipv4/ip_forward", "network", 0, 1),
    (
        "net/ipv4/ip_unprivileged_port_start",
        "net/ipv4/ip_unprivileged_port_start",
        "network",
        0,
        1024,
    ),
    (
        "net.ipv4.conf.lo.forwarding",
        "net/ipv4/conf/lo/forwarding",
        "network",
        0,
        1,
    ),
    (
        "net.ipv4.tcp_fin_timeout",
        "net/ipv4/tcp_fin_timeout",
        "network",
        10,
        60,
    ),
    ("kernel.msgmax", "kernel/msgmax", "ipc", 1024, 65_536),
    ("kernel.shmmni", "kernel/shmmni", "ipc", 100, 4096),
    ("kernel/shm_rmid_forced", "kernel/shm_rmid_forced", "ipc", 0, 1),
    ("fs.mqueue.msg_max", "fs/mqueue/msg_max", "ipc", 1, 100),
];

pub fn sysctls(draft: &mut Draft, draw: &mut Draw) {
    for (name, path, namespace, low, high) in draw.some(SYSCTLS, 25) {
        if !draft.has(namespace) {
            continue;
        }
        // Who may write those of a joined namespace, or to those of IPC as root of a user namespace, differs.
        if draft.users.is_some() && (namespace == "ipc" || !draft.namespaces[namespace]) {
            if !draft.dares() {
                continue;
            }
            draft.doubt(format!("{name} in a user namespace"));
        }
        let value = draw.between(low, high).to_string();
        draft.config.at("/linux/sysctl")[name] = value.as_str().into();
        if draft
            .config
            .0
            .pointer("/mounts/0/type")
            .is_some_and(|kind| kind == "proc")
        {
            let question = format!("sysctl={path}");
            draft.questions.push(question.clone());
            draft.expect(name, value, move |seen| seen.said(&question));
        }
    }
}

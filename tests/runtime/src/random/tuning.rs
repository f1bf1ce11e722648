//! How the kernel treats the process: scheduler, priorities, personality, memory nodes.

use serde_json::json;

use super::draft::Draft;
use super::draw::Draw;

pub fn scheduler(draft: &mut Draft, draw: &mut Draw) {
    let mut policies = vec![("SCHED_OTHER", "0"), ("SCHED_BATCH", "3"), ("SCHED_IDLE", "5")];
    if draft.dares() {
        policies.extend([("SCHED_FIFO", "1"), ("SCHED_RR", "2")]);
    }
    let (policy, number) = *draw.pick(&policies);
    let mut wanted = json!({"policy": policy});
    if matches!(policy, "SCHED_FIFO" | "SCHED_RR") {
        // A group of v1 has no share of real time unless somebody gives it one.
        draft.doubt("real time");
        let priority = draw.between(1, 99);
        wanted["priority"] = priority.into();
        draft.expect("process.scheduler.priority", priority.to_string(), |seen| seen.stat(40));
    } else if policy != "SCHED_IDLE" {
        // Who has left the host's users behind may not raise it.
        let lowest = if draft.users.is_some() { 0 } else { -20 };
        let nice = draw.between(lowest, 19);
        wanted["nice"] = nice.into();
        draft.expect("process.scheduler.nice", nice.to_string(), |seen| seen.stat(19));
    }
    if draw.chance(20) {
        wanted["flags"] = json!(["SCHED_FLAG_RESET_ON_FORK"]);
    }
    draft.set("/process/scheduler", wanted);
    draft.expect("process.scheduler.policy", number.to_owned(), |seen| seen.stat(41));
}

pub fn io_priority(draft: &mut Draft, draw: &mut Draw) {
    let (class, shown) = *draw.pick(&[
        ("IOPRIO_CLASS_BE", "best-effort: prio "),
        ("IOPRIO_CLASS_IDLE", "idle"),
        ("IOPRIO_CLASS_RT", "realtime: prio "),
    ]);
    if class == "IOPRIO_CLASS_RT" && draft.users.is_some() {
        return;
    }
    let level = draw.below(8);
    let mut wanted = shown.to_owned();
    if shown.ends_with(' ') {
        wanted.push_str(&level.to_string());
    }
    draft.set("/process/ioPriority", json!({"class": class, "priority": level}));
    draft.expect("process.ioPriority", wanted, |seen| {
        let out = std::process::Command::new("ionice")
            .args(["-p", &seen.process.0.to_string()])
            .output();
        out.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
            .unwrap_or_default()
    });
}

pub fn personality(draft: &mut Draft, draw: &mut Draw) {
    let (domain, number) = *draw.pick(&[("LINUX", "00000000"), ("LINUX32", "00000008")]);
    draft.set("/linux/personality", json!({"domain": domain}));
    draft.expect("linux.personality", number.to_owned(), |seen| {
        seen.proc("personality").trim().to_owned()
    });
}

pub fn memory_policy(draft: &mut Draft, draw: &mut Draw) {
    if !std::path::Path::new("/sys/devices/system/node/node0").exists() {
        return;
    }
    let (mode, nodes, shown) = *draw.pick(&[
        ("MPOL_DEFAULT", "", "default"),
        ("MPOL_PREFERRED", "0", "prefer:0"),
        ("MPOL_BIND", "0", "bind:0"),
        ("MPOL_BIND", "0-0", "bind:0"),
        ("MPOL_INTERLEAVE", "0", "interleave:0"),
        ("MPOL_LOCAL", "", "local"),
    ]);
    let mut policy = json!({"mode": mode});
    if !nodes.is_empty() || draw.chance(50) {
        policy["nodes"] = nodes.into();
    }
    let mut shown = shown.to_owned();
    if matches!(mode, "MPOL_BIND" | "MPOL_INTERLEAVE") && draw.chance(30) {
        policy["flags"] = json!(["MPOL_F_STATIC_NODES"]);
        shown = shown.replace(':', "=static:");
    }
    draft.set("/linux/memoryPolicy", policy);
    draft.expect("linux.memoryPolicy", shown, |seen| {
        let text = seen.proc("numa_maps");
        text.split_whitespace().nth(1).unwrap_or_default().to_owned()
    });
}

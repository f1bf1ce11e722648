//! The process: its words, who it is, what it may do.

use serde_json::{Value, json};

use super::draft::Draft;
use super::draw::Draw;

const LETTERS: &str = "abcXYZ019 \t\n\"'\\$`;&|<>*?[]{}()#!~=%üλ漢🦀";

/// Arguments, environment, working directory.
pub fn words(draft: &mut Draft, draw: &mut Draw) {
    let mut env = Vec::new();
    let mut program = "/bin/probe";
    match draw.below(4) {
        0 => {
            program = "probe";
            env.push("PATH=/nowhere:/bin:/etc".to_owned());
        }
        1 => program = "probe",
        2 => env.push("PATH=/nowhere".to_owned()),
        _ => {}
    }
    for number in 0..draw.below(6) {
        let length = draw.below(30);
        env.push(format!("NAME_{number}={}", draw.word(LETTERS, length)));
    }
    if draw.chance(20) {
        env.push("HOME=/given".to_owned());
    }
    if draw.chance(3) {
        env.push(format!("LONG={}", "x".repeat(20_000)));
    }
    draft.words = (0..draw.below(6))
        .map(|_| {
            let length = draw.below(20);
            draw.word(LETTERS, length)
        })
        .collect();
    draft.set("/process/args", json!([program, "see"]));
    if draw.chance(90) || !env.is_empty() {
        draft.set("/process/env", env.clone());
    }
    let folder = draw
        .pick(&["/", "/tmp", "/etc", "/made/deep/down", "/made//x/./y/", "/opt/"])
        .to_owned();
    draft.set("/process/cwd", folder);
    let clean: String = folder
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .map(|part| format!("/{part}"))
        .collect();
    let clean = if clean.is_empty() { "/".to_owned() } else { clean };
    draft.expect("process.cwd", clean, |seen| seen.process.cwd());
    draft.check("process.env", move |seen| {
        let found = seen.process.environment();
        // HOME is added where it is absent, as every runtime does.
        let (own, rest) = found.split_at(env.len().min(found.len()));
        let added = rest.iter().all(|entry| entry.starts_with("HOME=/"));
        let given = env.iter().any(|entry| entry.starts_with("HOME="));
        if own == env && added && rest.len() == usize::from(!given) {
            Ok(())
        } else {
            Err(format!("{found:?}, not {env:?}"))
        }
    });
}

/// The arguments as they are at last, with everything that other parts ask.
pub fn check_arguments(draft: &mut Draft) {
    let wanted: Vec<String> = draft.config.0["process"]["args"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|arg| arg.as_str().map(str::to_owned))
        .collect();
    draft.expect("process.args", wanted, |seen| seen.process.command_line());
}

fn id(draft: &Draft, draw: &mut Draw) -> u32 {
    let highest = if draft.users.is_some() { 60_000 } else { 4_294_967_294 };
    match draw.below(4) {
        0 => 0,
        1 => 1000,
        2 => draw.between(1, 1000) as u32,
        _ => draw.between(1, highest) as u32,
    }
}

pub fn user(draft: &mut Draft, draw: &mut Draw) {
    let uid = if draw.chance(40) { 0 } else { id(draft, draw) };
    let gid = id(draft, draw);
    let groups: Vec<u32> = (0..draw.below(5)).map(|_| id(draft, draw)).collect();
    let mut user = json!({"uid": uid, "gid": gid});
    if !groups.is_empty() || draw.chance(30) {
        user["additionalGids"] = groups.clone().into();
    }
    let umask = draw.chance(50).then(|| draw.below(0o1000));
    if let Some(mask) = umask {
        user["umask"] = mask.into();
    }
    draft.set("/process/user", user);
    draft.expect("process.user.uid", vec![draft.user(uid).to_string(); 4], |seen| {
        seen.words("Uid")
    });
    let own = draft.group(gid).to_string();
    draft.expect("process.user.gid", vec![own.clone(); 4], |seen| seen.words("Gid"));
    let mut wanted: Vec<u32> = groups.iter().map(|gid| draft.group(*gid)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    draft.check("process.user.additionalGids", move |seen| {
        let mut found: Vec<u32> = seen
            .words("Groups")
            .iter()
            .filter_map(|word| word.parse().ok())
            .collect();
        found.sort_unstable();
        found.dedup();
        // Whether the first group is in the list too is the runtime's choice.
        let own: u32 = own.parse().unwrap_or(u32::MAX);
        let without = |list: &[u32]| list.iter().copied().filter(|gid| *gid != own).collect::<Vec<_>>();
        super::draft::same(&without(&found), &without(&wanted))
    });
    // 0022 is what every runtime takes where nothing is said.
    let wanted = format!("{:04o}", umask.unwrap_or(0o022));
    draft.expect("process.user.umask", wanted, |seen| seen.process.status("Umask"));
}

const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn capability_names(mask: u64) -> Vec<String> {
    let set = (0..CAPABILITIES.len()).filter(|bit| mask & 1 << bit != 0);
    set.map(|bit| format!("CAP_{}", CAPABILITIES[bit])).collect()
}

/// What the tests could hand on themselves.
fn available() -> u64 {
    harness::kernel::Process::own().capabilities("CapBnd")
}

pub fn capabilities(draft: &mut Draft, draw: &mut Draw) {
    let all = (1u64 << CAPABILITIES.len()) - 1;
    let mut within = |limit: u64| match draw.below(4) {
        0 => 0,
        1 => limit,
        _ => limit & draw.next() & (draw.next() | draw.next()),
    };
    let bounding = within(all);
    // Linux lets nobody have an inheritable capability that the bounding set lacks (capset(2)).
    let inheritable = within(bounding);
    let permitted = within(all);
    let effective = within(permitted);
    let ambient = within(permitted & inheritable);
    for (set, mask) in [
        ("bounding", bounding),
        ("inheritable", inheritable),
        ("permitted", permitted),
        ("effective", effective),
        ("ambient", ambient),
    ] {
        // An absent set is an empty one.
        if mask != 0 || draw.chance(50) {
            draft.set(&format!("/process/capabilities/{set}"), capability_names(mask));
        }
    }
    let no_new = draw.chance(50);
    draft.set("/process/noNewPrivileges", no_new);
    let wanted = if no_new { "1" } else { "0" }.to_owned();
    draft.expect("process.noNewPrivileges", wanted, |seen| {
        seen.process.status("NoNewPrivs")
    });
    let root = draft.config.0["process"]["user"]["uid"] == 0;
    // capabilities(7), "Transformation of capabilities during execve()", for a program without capabilities of its own.
    let after = match (root, no_new) {
        (true, false) => bounding | inheritable | ambient,
        (true, true) => (bounding | inheritable) & permitted | ambient,
        (false, _) => ambient,
    };
    let here = available();
    for (line, mask) in [
        ("CapBnd", bounding),
        ("CapInh", inheritable),
        ("CapPrm", after),
        ("CapEff", after),
        ("CapAmb", ambient),
    ] {
        draft.expect(
            format!("process.capabilities, {line}"),
            capability_names(mask & here),
            move |seen| capability_names(seen.process.capabilities(line)),
        );
    }
}

/// A limit, its line in `/proc/PID/limits`, and the least that leaves the process alive.
const LIMITS: &[(&str, &str, u64, u64)] = &[
    ("RLIMIT_NOFILE", "Max open files", 64, 500_000),
    ("RLIMIT_CORE", "Max core file size", 0, u64::MAX),
    ("RLIMIT_CPU", "Max cpu time", 1000, u64::MAX),
    ("RLIMIT_DATA", "Max data size", 100 << 20, u64::MAX),
    ("RLIMIT_FSIZE", "Max file size", 1 << 20, u64::MAX),
    ("RLIMIT_LOCKS", "Max file locks", 0, u64::MAX),
    ("RLIMIT_MEMLOCK", "Max locked memory", 0, u64::MAX),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size", 0, u64::MAX),
    ("RLIMIT_NICE", "Max nice priority", 0, 40),
    ("RLIMIT_NPROC", "Max processes", 20_000, u64::MAX),
    ("RLIMIT_RSS", "Max resident set", 0, u64::MAX),
    ("RLIMIT_RTPRIO", "Max realtime priority", 0, 99),
    ("RLIMIT_RTTIME", "Max realtime timeout", 1_000_000, u64::MAX),
    ("RLIMIT_SIGPENDING", "Max pending signals", 1000, u64::MAX),
    ("RLIMIT_STACK", "Max stack size", 8 << 20, u64::MAX),
    ("RLIMIT_AS", "Max address space", 1 << 30, u64::MAX),
];

/// Whether the tests may hand on more than they have: limits above their own, a score below (not so on a machine that is
/// a container itself).
fn may_exceed() -> bool {
    available() & 1 << 24 != 0
}

pub fn limits(draft: &mut Draft, draw: &mut Draw) {
    for (name, line, low, high) in draw.some(LIMITS, 25) {
        let own = harness::kernel::Process::own()
            .limit(line)
            .1
            .parse()
            .unwrap_or(u64::MAX);
        let high = if may_exceed() { high } else { high.min(own) };
        let low = low.min(high);
        let mut number = |low: u64| match draw.below(4) {
            0 => high,
            1 => low,
            // Spread over the magnitudes.
            _ => (low.saturating_add(draw.next() >> draw.below(64))).min(high),
        };
        let soft = number(low);
        let hard = number(soft);
        let limit = json!({"type": name, "soft": soft, "hard": hard});
        draft.config.push("/process/rlimits", limit);
        let shown = |value: u64| match value {
            u64::MAX => "unlimited".to_owned(),
            value => value.to_string(),
        };
        draft.expect(name, (shown(soft), shown(hard)), move |seen| seen.process.limit(line));
    }
}

pub fn score(draft: &mut Draft, draw: &mut Draw) {
    let lowest = match may_exceed() {
        true => -1000,
        false => i64::from(harness::kernel::Process::own().oom_score_adj()),
    };
    let score = (*draw.pick(&[-1000i64, -500, 0, 1, 500, 1000])).max(lowest);
    draft.set("/process/oomScoreAdj", score);
    draft.expect("process.oomScoreAdj", score, |seen| seen.process.oom_score_adj().into());
}

pub fn seccomp(draft: &mut Draft, draw: &mut Draw) {
    // The kernel's ERRNO reaches to 4095; those with a name can be told apart.
    let errno = *draw.pick(&[
        (1u32, "EPERM"),
        (13, "EACCES"),
        (28, "ENOSPC"),
        (38, "ENOSYS"),
        (110, "ETIMEDOUT"),
    ]);
    let mut names = vec!["mkdir", "mkdirat"];
    names.extend(draw.some(&["swapon", "reboot", "a_call_of_the_future", "keyctl"], 40));
    let mut rule = json!({"names": names, "action": "SCMP_ACT_ERRNO"});
    if errno.0 != 1 || draw.chance(50) {
        rule["errnoRet"] = errno.0.into();
    }
    let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    if draw.chance(60) {
        profile["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    }
    if draw.chance(30) {
        let flags: Vec<Value> = draw
            .some(&["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"], 50)
            .into_iter()
            .map(Value::from)
            .collect();
        profile["flags"] = flags.into();
    }
    draft.set("/linux/seccomp", profile);
    draft.expect("linux.seccomp", "2".to_owned(), |seen| seen.process.status("Seccomp"));
    draft.questions.push("mkdir=/nowhere/made".to_owned());
    draft.expect("linux.seccomp errnoRet", errno.1.to_owned(), |seen| {
        seen.said("mkdir=/nowhere/made")
    });
}

//! Whole configurations by chance: what is valid runs as it asks, seen from the kernel; what is broken is refused with
//! one clear error; and after either nothing is left.
//!
//! ```text
//! seed ─► PARTS, each by a chance of its own ─► draft: configuration + checks ─► (broken by one thing) ─► config.json
//!                                                          │                                                │
//!                                        the kernel's view ▼ judged after `start`        create, start, delete
//! ```
//!
//! `IECHOR_RANDOM_CASES` says how many cases there are (10,000). Each has a seed, which the report of a failure names
//! together with the least parts that fail; `IECHOR_RANDOM_SEED=… runtime-tests random` runs it again, alone.

mod breaks;
mod draft;
mod draw;
mod drive;
mod files;
mod hooks;
mod limits;
mod mounts;
mod namespaces;
mod process;
mod seen;
mod texts;
mod tuning;
mod types;
mod values;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::Test;
use harness::suite::skip;

use crate::world::World;
use draft::{Draft, Kind, Place};
use draw::Draw;
use drive::Outcome;

/// What configurations are made of: a name, how often in a hundred cases, and what writes it. Later parts go by what
/// earlier ones have chosen.
const PARTS: &[(&str, u64, fn(&mut Draft, &mut Draw))] = &[
    ("namespaces", 90, namespaces::kinds),
    ("words", 90, process::words),
    ("user", 80, process::user),
    ("capabilities", 80, process::capabilities),
    ("usual-mounts", 85, mounts::usual),
    ("root", 60, mounts::root),
    ("more-mounts", 60, mounts::more),
    ("idmap", 50, mounts::mapped),
    ("names", 60, namespaces::names),
    ("sysctls", 50, namespaces::sysctls),
    ("usual-devices", 100, files::usual),
    ("devices", 40, files::devices),
    ("masked", 50, files::masked),
    ("readonly", 50, files::readonly),
    ("limits", 50, process::limits),
    ("score", 40, process::score),
    ("seccomp", 35, process::seccomp),
    ("scheduler", 25, tuning::scheduler),
    ("io-priority", 15, tuning::io_priority),
    ("personality", 25, tuning::personality),
    ("memory-policy", 20, tuning::memory_policy),
    ("cgroup-path", 70, limits::path),
    ("memory", 35, limits::memory),
    ("cpu", 35, limits::cpu),
    ("pids", 35, limits::pids),
    ("device-rules", 35, limits::devices),
    ("rare-limits", 60, limits::rare),
    ("hooks", 25, hooks::hooks),
    ("annotations", 15, hooks::annotations),
];

/// In so many portions, which run beside each other.
macro_rules! portions {
    ($($number:literal),*) => { [$(Test { name: concat!("portion_", $number), run: portion::<$number> }),*] };
}

pub fn tests() -> Vec<Test<World>> {
    Vec::from(portions![
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19
    ])
}

const PORTIONS: usize = 20;

static RAN: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicUsize = AtomicUsize::new(0);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Where the seeds begin: at the number in `IECHOR_RANDOM_BASE`, else somewhere else each time.
fn first_seed() -> u64 {
    static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *SEED.get_or_init(|| {
        let named = std::env::var("IECHOR_RANDOM_BASE")
            .ok()
            .and_then(|text| text.parse().ok());
        named.unwrap_or_else(rand::random)
    })
}

/// Makes what all cases share.
pub fn start() -> World {
    let world = World::start();
    let probe = world.folder().join("probe");
    std::fs::copy(harness::tools::binary("runtime-probe"), probe).expect("the probe");
    world
}

pub fn finish(world: World) {
    let (ran, refused) = (RAN.load(Ordering::Relaxed), REFUSED.load(Ordering::Relaxed));
    println!(
        "        random: {} cases: {ran} ran, {refused} were refused",
        ran + refused
    );
    world.finish();
}

fn portion<const NUMBER: usize>(world: &World) {
    let again = number("IECHOR_RANDOM_SEED");
    let count = match again {
        Some(_) if NUMBER > 0 => skip("one case is run again"),
        Some(_) => 1,
        None => {
            let all = number("IECHOR_RANDOM_CASES").unwrap_or(10_000) as usize;
            all / PORTIONS + usize::from(NUMBER < all % PORTIONS)
        }
    };
    let holder = Holder::start();
    let mut failures = Vec::new();
    for index in 0..count {
        let seed = again.unwrap_or_else(|| Draw::new(first_seed() ^ (NUMBER * 1_000_000 + index) as u64).next());
        let mut tried = 0;
        let mut run = |without: &[usize]| {
            tried += 1;
            let id = format!("ie{}-{NUMBER:02}-{index:04}-{tried}", world.tag());
            let place = Place {
                folder: world.folder().join(&id),
                id,
                cgroup: world.cgroup().to_owned(),
                holder: holder.0.id() as i32,
            };
            one(world, place, seed, without)
        };
        match run(&[]) {
            Ok(Outcome::Ran) => RAN.fetch_add(1, Ordering::Relaxed),
            Ok(Outcome::Refused) => REFUSED.fetch_add(1, Ordering::Relaxed),
            Err(first) => {
                failures.push(least(seed, first, &mut run));
                0
            }
        };
        if failures.len() >= 5 {
            break;
        }
    }
    let ids = format!("ie{}-{NUMBER:02}-", world.tag());
    let alive = still_alive(&ids);
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(alive.is_empty(), "processes are left: {alive:?}");
}

struct Failed {
    why: String,
    config: String,
}

/// Leaves out one part after the other as long as it fails.
fn least(seed: u64, first: Failed, run: &mut impl FnMut(&[usize]) -> Result<Outcome, Failed>) -> String {
    let mut without = Vec::new();
    let mut last = first;
    for part in 0..PARTS.len() {
        without.push(part);
        match run(&without) {
            Err(failed) => last = failed,
            Ok(_) => drop(without.pop()),
        }
    }
    let kept: Vec<&str> = (0..PARTS.len())
        .filter(|part| !without.contains(part) && taken(seed, *part))
        .map(|part| PARTS[part].0)
        .collect();
    let config: String = last.config.chars().take(4000).collect();
    format!(
        "  IECHOR_RANDOM_SEED={seed:#x}, with {kept:?} alone:\n  {}\n  {config}",
        last.why
    )
}

fn taken(seed: u64, part: usize) -> bool {
    let (name, percent, _) = PARTS[part];
    Draw::of(seed, &format!("whether {name}")).chance(percent)
}

/// Makes and runs the case of a seed, without some of its parts.
fn one(world: &World, place: Place, seed: u64, without: &[usize]) -> Result<Outcome, Failed> {
    let mut draw = Draw::of(seed, "case");
    let kind = match draw.below(100) {
        0..35 => Kind::Valid,
        35..45 => Kind::Daring,
        _ => Kind::Broken,
    };
    let mut draft = Draft::new(kind, place);
    for (index, (name, _, part)) in PARTS.iter().enumerate() {
        if taken(seed, index) && !without.contains(&index) {
            part(&mut draft, &mut Draw::of(seed, name));
        }
    }
    draft.finish();
    process::check_arguments(&mut draft);
    let spoiled = kind == Kind::Broken && draw.chance(15);
    if kind == Kind::Broken && !spoiled {
        breaks::any(&mut draft, &mut draw);
    }
    let text = drive::text(&draft, &mut draw);
    let bytes = match spoiled {
        true => {
            draft.names = &["line "];
            texts::spoil(text.clone(), &mut draw)
        }
        false => text.clone().into_bytes(),
    };
    drive::case(world, &draft, &bytes, &mut draw).map_err(|why| Failed {
        why: format!("{kind:?}: {why}"),
        config: String::from_utf8_lossy(&bytes).into_owned(),
    })
}

/// Processes whose command line or group has `part` in it.
fn still_alive(part: &str) -> Vec<i32> {
    let has = |process: &harness::kernel::Process| {
        ["cmdline", "cgroup"].iter().any(|name| {
            let text = std::fs::read(format!("/proc/{}/{name}", process.0)).unwrap_or_default();
            text.windows(part.len()).any(|window| window == part.as_bytes())
        })
    };
    let all = harness::kernel::processes().into_iter();
    all.filter(|process| process.is_alive() && has(process))
        .map(|process| process.0)
        .collect()
}

/// A process with namespaces of its own, which cases join.
struct Holder(Child);

impl Holder {
    fn start() -> Holder {
        let child = Command::new("unshare")
            .args(["--uts", "--ipc", "--net", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare");
        let holder = Holder(child);
        let process = harness::kernel::Process(holder.0.id() as i32);
        harness::tools::eventually("the holder sleeps", 5, || {
            process.command_line().first().is_some_and(|word| word == "sleep")
        });
        holder
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! Limits as properties of a unit, so that systemd does not undo them when it writes its own idea of the group.
//!
//! They are read off the writes that the cgroupfs driver makes, and not off the limits a second time: so both say the
//! same, whatever the rules for weights, swap and `unified` files are. What systemd has no property for (`io.max`,
//! `cpu.max.burst`, huge pages) it does not touch either.

use super::super::{CgroupError, Result};
use crate::plan::CgroupWrite;
use crate::systemd::{UnitProperty, UnitValue};
use crate::wire::Blob;

/// The kernel's period, and systemd's, when nobody says another.
pub(super) const DEFAULT_PERIOD: u64 = 100_000;
/// systemd's word for "no limit".
pub(super) const INFINITY: u64 = u64::MAX;
/// The weight of a group to which nobody gave one.
const DEFAULT_WEIGHT: u64 = 100;
/// More CPUs than any kernel is built for.
const MOST_CPUS: usize = 65_536;

// systemd's versions, from its NEWS.
const QUOTA_PERIOD: u32 = 242;
const CPU_SETS: u32 = 244;
const CPU_IDLE: u32 = 252;
/// (Older ones reset `memory.oom.group` to 0 at a `daemon-reload`, and nothing can be done about it.)
const OOM_POLICY_OF_SCOPES: u32 = 253;

/// Properties in the order in which they came; the last of a name counts.
#[derive(Debug, Default)]
pub(super) struct Properties(pub Vec<UnitProperty>);

impl Properties {
    pub(super) fn set(&mut self, name: &str, value: impl Into<UnitValue>) {
        self.put(UnitProperty::new(name, value));
    }

    pub(super) fn put(&mut self, property: UnitProperty) {
        self.0.retain(|other| other.name != property.name);
        self.0.push(property);
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|property| property.name == name)
    }
}

/// For whom the properties are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The unified hierarchy.
    pub v2: bool,
    /// systemd's version.
    pub systemd: u32,
    /// A scope that is about to start: some properties are for that moment alone.
    pub new_scope: bool,
}

/// Adds what the writes to a group's files are for systemd.
pub(super) fn of_writes(writes: &[CgroupWrite], target: Target, out: &mut Properties) -> Result<()> {
    let (mut quota, mut period, mut idle) = (None, None, None);
    for write in writes {
        let file = write
            .path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        // The kernel does not mind white space around a value.
        let value = write.value.trim();
        match file {
            "cpu.max" if target.v2 => {
                let mut words = value.split_ascii_whitespace();
                let most = words.next().unwrap_or_default();
                quota = Some(if most == "max" { None } else { Some(number(file, most)?) });
                period = words.next().map(|word| number(file, word)).transpose()?;
            }
            "cpu.weight" if target.v2 => out.set("CPUWeight", number(file, value)?),
            "cpu.idle" if target.v2 => idle = Some(value == "1"),
            "memory.max" if target.v2 => out.set("MemoryMax", bytes(file, value)?),
            "memory.high" if target.v2 => out.set("MemoryHigh", bytes(file, value)?),
            "memory.low" if target.v2 => out.set("MemoryLow", bytes(file, value)?),
            "memory.min" if target.v2 => out.set("MemoryMin", bytes(file, value)?),
            "memory.swap.max" if target.v2 => out.set("MemorySwapMax", bytes(file, value)?),
            "memory.oom.group" if target.v2 && target.new_scope && target.systemd >= OOM_POLICY_OF_SCOPES => {
                out.set("OOMPolicy", if value == "1" { "kill" } else { "continue" });
            }
            // With a number of a device in front it is that device's, which systemd leaves alone.
            "io.weight" if target.v2 && !value.contains(':') => {
                out.set("IOWeight", number(file, whole_weight(value))?);
            }
            "io.bfq.weight" if target.v2 && !value.contains(':') => {
                out.set("IOWeight", weight_of_bfq(number(file, whole_weight(value))?));
            }
            // (On v1 systemd does not manage CPU sets.)
            "cpuset.cpus" if target.v2 && target.systemd >= CPU_SETS => out.set("AllowedCPUs", bits(file, value)?),
            "cpuset.mems" if target.v2 && target.systemd >= CPU_SETS => {
                out.set("AllowedMemoryNodes", bits(file, value)?);
            }
            "pids.max" => out.set("TasksMax", if value == "max" { INFINITY } else { number(file, value)? }),
            "cpu.cfs_quota_us" => quota = Some(value.parse().ok().filter(|quota| *quota > 0)),
            "cpu.cfs_period_us" => period = Some(number(file, value)?),
            "cpu.shares" => out.set("CPUShares", number(file, value)?),
            "memory.limit_in_bytes" => {
                out.set(
                    "MemoryLimit",
                    if value == "-1" { INFINITY } else { number(file, value)? },
                );
            }
            "blkio.weight" | "blkio.bfq.weight" => out.set("BlockIOWeight", number(file, value)?),
            _ => {}
        }
    }
    if let Some(quota) = quota {
        if let Some(period) = period.filter(|_| target.systemd >= QUOTA_PERIOD) {
            out.set("CPUQuotaPeriodUSec", period);
        }
        let share = quota.map_or(INFINITY, |quota| percent(quota, period.unwrap_or(DEFAULT_PERIOD)));
        out.set("CPUQuotaPerSecUSec", share);
    }
    match idle {
        // Zero is "idle". The kernel has no weight for an idle group, so that there is nothing to lose.
        Some(true) if target.systemd >= CPU_IDLE => out.set("CPUWeight", 0u64),
        // A group that is idle no more has the default weight, and so systemd must forget that it was.
        Some(false) if !out.has("CPUWeight") => out.set("CPUWeight", DEFAULT_WEIGHT),
        _ => {}
    }
    Ok(())
}

/// Microseconds of CPU time in a second, rounded up to whole percents: systemd writes a quota down as those.
pub(super) fn percent(quota: u64, period: u64) -> u64 {
    const PERCENT: u128 = 10_000;
    let exact = u128::from(quota) * 1_000_000 / u128::from(period.max(1));
    u64::try_from(exact.div_ceil(PERCENT) * PERCENT).unwrap_or(INFINITY)
}

/// The quota and the period that systemd makes of these: what both writers can agree on.
pub(super) fn agreed(quota: u64, period: u64) -> (u64, u64) {
    // The kernel's shortest quota, for which systemd makes the period longer, up to the kernel's longest.
    const SHORTEST: u64 = 1_000;
    const LONGEST: u64 = 1_000_000;
    let share = percent(quota, period);
    let least = SHORTEST * 1_000_000 / share.max(1);
    let period = period.max(least).clamp(SHORTEST, LONGEST);
    let quota = u128::from(share) * u128::from(period) / 1_000_000;
    (u64::try_from(quota).unwrap_or(INFINITY).max(SHORTEST), period)
}

fn whole_weight(value: &str) -> &str {
    value.strip_prefix("default").map_or(value, str::trim)
}

/// BFQ's weight (1 to 1,000) → the one (1 to 10,000) of which systemd makes it again.
fn weight_of_bfq(weight: u64) -> u64 {
    if weight <= DEFAULT_WEIGHT {
        weight
    } else {
        DEFAULT_WEIGHT + (weight - DEFAULT_WEIGHT) * 11
    }
}

fn invalid<T>(file: &str, value: &str) -> Result<T> {
    Err(CgroupError::Invalid {
        what: "value for a cgroup file",
        why: format!("{value:?} cannot be in {file}"),
    })
}

fn number(file: &str, value: &str) -> Result<u64> {
    value.parse().or_else(|_| invalid(file, value))
}

/// `max`, a number, or one with the kernel's letter behind it.
fn bytes(file: &str, value: &str) -> Result<u64> {
    if value == "max" {
        return Ok(INFINITY);
    }
    let shift = match value.bytes().last() {
        Some(b'k' | b'K') => 10,
        Some(b'm' | b'M') => 20,
        Some(b'g' | b'G') => 30,
        Some(b't' | b'T') => 40,
        _ => return number(file, value),
    };
    let size = number(file, &value[..value.len() - 1])?;
    size.checked_mul(1 << shift).map_or_else(|| invalid(file, value), Ok)
}

/// A list of the kernel's (`0-3,8`, with strides `0-31:2/4`) as systemd's bits, the lowest first.
fn bits(file: &str, list: &str) -> Result<Blob> {
    let mut out = Vec::new();
    let parts = list.split(',').map(str::trim).filter(|part| !part.is_empty());
    for part in parts {
        let (range, stride) = part.split_once(':').unwrap_or((part, "1/1"));
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let bounds = from.parse::<usize>().ok().zip(to.parse::<usize>().ok());
        let stride = stride.split_once('/').and_then(|(used, group)| {
            let stride = used.parse::<usize>().ok().zip(group.parse::<usize>().ok());
            stride.filter(|(used, group)| (1..=*group).contains(used))
        });
        let (Some((from, to)), Some((used, group))) = (bounds, stride) else {
            return invalid(file, list);
        };
        if from > to || to >= MOST_CPUS {
            return invalid(file, list);
        }
        for number in (from..=to).filter(|number| (number - from) % group < used) {
            if out.len() <= number / 8 {
                out.resize(number / 8 + 1, 0u8);
            }
            out[number / 8] |= 1 << (number % 8);
        }
    }
    Ok(Blob(out))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn read(target: Target, writes: &[(&str, &str)]) -> Result<Vec<UnitProperty>> {
        let writes: Vec<_> = writes
            .iter()
            .map(|(file, value)| CgroupWrite {
                path: format!("/cg/{file}").into(),
                value: (*value).to_owned(),
                optional: false,
            })
            .collect();
        let mut out = Properties::default();
        of_writes(&writes, target, &mut out)?;
        Ok(out.0)
    }

    fn v2(systemd: u32) -> Target {
        Target {
            v2: true,
            systemd,
            new_scope: true,
        }
    }

    #[test]
    fn files_of_v2_become_properties() {
        let u = |name: &str, value: u64| UnitProperty::new(name, value);
        let cases: &[(&[(&str, &str)], Vec<UnitProperty>)] = &[
            (&[("memory.max", "1024")], vec![u("MemoryMax", 1024)]),
            (
                &[("memory.max", "max"), ("memory.low", " 2M\n")],
                vec![u("MemoryMax", INFINITY), u("MemoryLow", 2 << 20)],
            ),
            (
                &[("memory.high", "1k"), ("memory.min", "3"), ("memory.swap.max", "0")],
                vec![u("MemoryHigh", 1024), u("MemoryMin", 3), u("MemorySwapMax", 0)],
            ),
            (
                &[("cpu.max", "50000 100000")],
                vec![u("CPUQuotaPeriodUSec", 100_000), u("CPUQuotaPerSecUSec", 500_000)],
            ),
            (&[("cpu.max", "12345")], vec![u("CPUQuotaPerSecUSec", 130_000)]),
            (
                &[("cpu.max", "max 50000")],
                vec![u("CPUQuotaPeriodUSec", 50_000), u("CPUQuotaPerSecUSec", INFINITY)],
            ),
            (&[("cpu.weight", "79")], vec![u("CPUWeight", 79)]),
            (&[("cpu.weight", "79"), ("cpu.idle", "1")], vec![u("CPUWeight", 0)]),
            (&[("cpu.weight", "79"), ("cpu.idle", "0")], vec![u("CPUWeight", 79)]),
            (&[("cpu.idle", "0")], vec![u("CPUWeight", 100)]),
            (&[("pids.max", "5"), ("pids.max", "max")], vec![u("TasksMax", INFINITY)]),
            (
                &[("io.weight", "default 200"), ("io.weight", "8:0 300")],
                vec![u("IOWeight", 200)],
            ),
            (&[("io.bfq.weight", "default 500")], vec![u("IOWeight", 4500)]),
            (
                &[("cpuset.cpus", "0-2,9"), ("cpuset.mems", "0")],
                vec![
                    UnitProperty::new("AllowedCPUs", Blob(vec![7, 2])),
                    UnitProperty::new("AllowedMemoryNodes", Blob(vec![1])),
                ],
            ),
            (
                &[
                    ("io.max", "8:0 rbps=1"),
                    ("hugetlb.2MB.max", "0"),
                    ("cpu.max.burst", "1"),
                ],
                vec![],
            ),
            (
                &[("memory.oom.group", "1")],
                vec![UnitProperty::new("OOMPolicy", "kill")],
            ),
        ];
        for (writes, expected) in cases {
            assert_eq!(&read(v2(257), writes).unwrap(), expected, "{writes:?}");
        }
    }

    #[test]
    fn older_systemds_are_told_what_they_know() {
        for (systemd, file, value, names) in [
            (241, "cpu.max", "1000 10000", vec!["CPUQuotaPerSecUSec"]),
            (243, "cpuset.cpus", "0", vec![]),
            (251, "cpu.idle", "1", vec![]),
            (252, "memory.oom.group", "1", vec![]),
        ] {
            let found = read(v2(systemd), &[(file, value)]).unwrap();
            let found: Vec<_> = found.iter().map(|property| property.name.as_str()).collect();
            assert_eq!(found, names, "{file} for {systemd}");
        }
    }

    #[test]
    fn files_of_v1_become_properties() {
        let target = Target { v2: false, ..v2(252) };
        let u = |name: &str, value: u64| UnitProperty::new(name, value);
        let found = read(
            target,
            &[
                ("cpu.cfs_period_us", "50000"),
                ("cpu.cfs_quota_us", "25000"),
                ("cpu.shares", "512"),
                ("memory.limit_in_bytes", "-1"),
                ("memory.memsw.limit_in_bytes", "-1"),
                ("blkio.weight", "300"),
                ("pids.max", "7"),
                ("cpuset.cpus", "0"),
            ],
        );
        assert_eq!(
            found.unwrap(),
            [
                u("CPUShares", 512),
                u("MemoryLimit", INFINITY),
                u("BlockIOWeight", 300),
                u("TasksMax", 7),
                u("CPUQuotaPeriodUSec", 50_000),
                u("CPUQuotaPerSecUSec", 500_000),
            ]
        );
        assert_eq!(
            read(target, &[("cpu.cfs_quota_us", "-1")]).unwrap(),
            [u("CPUQuotaPerSecUSec", INFINITY)]
        );
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (file, value) in [
            ("memory.max", "much"),
            ("memory.max", "99999999999999T"),
            ("pids.max", "-1"),
            ("cpu.max", ""),
            ("cpu.weight", "x"),
            ("cpuset.cpus", "3-1"),
            ("cpuset.cpus", "0-999999"),
            ("cpuset.cpus", "0-9:0/0"),
            ("io.weight", "default x"),
        ] {
            let error = read(v2(252), &[(file, value)]).unwrap_err().to_string();
            assert!(error.contains(file), "{file} {value:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_was_agreed_stays_so(quota in 1_000u64..100_000_000, period in 1_000u64..=1_000_000) {
            let (once, long) = agreed(quota, period);
            // What systemd writes when it reads the unit again: percents, and the period if it fits.
            let share = percent(once, long);
            let written = u128::from(share) * u128::from(long) / 1_000_000;
            prop_assert_eq!(u128::from(once), written.max(1_000));
            prop_assert_eq!(agreed(once, long), (once, long));
            prop_assert!((1_000..=1_000_000).contains(&long) && long >= period);
            // Never less than what was asked for, and less than a percent more.
            let rate = |quota: u64, period: u64| quota as f64 / period as f64;
            prop_assert!(rate(once, long) + 0.001 >= rate(quota, period));
            prop_assert!(rate(once, long) <= rate(quota, period) + 0.010_001);
        }

        #[test]
        fn lists_become_bits_and_back(set in prop::collection::btree_set(0usize..300, 0..40)) {
            let list: Vec<String> = set.iter().map(usize::to_string).collect();
            let Blob(bits) = bits("cpuset.cpus", &list.join(",")).unwrap();
            let back: std::collections::BTreeSet<usize> =
                (0..bits.len() * 8).filter(|cpu| bits[cpu / 8] >> (cpu % 8) & 1 == 1).collect();
            prop_assert_eq!(&back, &set);
            prop_assert_eq!(bits.last().is_none_or(|last| *last != 0), true);
        }

        #[test]
        fn strides_are_the_kernels(from in 0usize..20, length in 0usize..40, group in 1usize..9, used in 1usize..9) {
            prop_assume!(used <= group);
            let Blob(bits) = bits("cpuset.cpus", &format!("{from}-{}:{used}/{group}", from + length)).unwrap();
            for cpu in 0..80 {
                let set = bits.get(cpu / 8).is_some_and(|byte| byte >> (cpu % 8) & 1 == 1);
                let inside = (from..=from + length).contains(&cpu);
                prop_assert_eq!(set, inside && (cpu - from.min(cpu)) % group < used);
            }
        }
    }
}

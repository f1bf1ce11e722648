//! `events`: statistics in runc's form, and out-of-memory kills.

use std::time::{Duration, Instant};

use runtime::cgroup::{CgroupPath, Cgroups, IoEntry, Stats};
use serde_json::{Value, json};

use crate::args::{Events, Global};
use crate::error::{Error, Result};
use crate::state::{Container, Status};

/// How often the count of kills is looked at.
const LOOK: Duration = Duration::from_millis(100);

pub fn run(global: &Global, args: &Events) -> Result<u8> {
    let container = Container::load(&global.root, &args.id)?;
    let interval = parse_interval(&args.interval)?;
    if container.status() == Status::Stopped {
        return Err(Error::new(format!("container with id {} is not running", args.id)));
    }
    let cgroups = Cgroups::detect()?;
    let path = CgroupPath::new(&container.record.cgroup)?;
    let event = |kind: &str, data: Value| {
        let mut event = json!({"type": kind, "id": args.id});
        if !data.is_null() {
            event["data"] = data;
        }
        println!("{event}");
    };
    if args.stats {
        event("stats", data(&cgroups.stats(&path)?));
        return Ok(0);
    }
    let (mut kills, mut due) = (cgroups.oom_kills(&path)?, Instant::now());
    while container.is_alive() {
        if Instant::now() >= due {
            due += interval;
            event("stats", data(&cgroups.stats(&path)?));
        }
        let now = cgroups.oom_kills(&path).unwrap_or(kills);
        if now > kills {
            event("oom", Value::Null);
        }
        kills = now;
        std::thread::sleep(
            LOOK.min(
                due.saturating_duration_since(Instant::now())
                    .max(Duration::from_millis(1)),
            ),
        );
    }
    Ok(0)
}

/// Go's notation of a duration, one unit: `5s`, `500ms`, `1m`.
fn parse_interval(text: &str) -> Result<Duration> {
    let bad = || Error::new(format!("--interval: {text:?} is not a duration like 5s"));
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| bad())?;
    let length = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        "h" => Duration::from_secs(number.saturating_mul(3600)),
        _ => return Err(bad()),
    };
    if length.is_zero() {
        return Err(Error::new("--interval must be above zero"));
    }
    Ok(length)
}

/// Statistics with the field names of runc's events.
fn data(stats: &Stats) -> Value {
    let unlimited = u64::MAX;
    let entries = |list: &[IoEntry]| -> Vec<Value> {
        list.iter()
            .map(|entry| json!({"major": entry.major, "minor": entry.minor, "op": entry.op, "value": entry.value}))
            .collect()
    };
    let memory = &stats.memory;
    json!({
        "cpu": {
            "usage": {
                "total": stats.cpu.total,
                "percpu": stats.cpu.per_cpu,
                "kernel": stats.cpu.system,
                "user": stats.cpu.user,
            },
            "throttling": {
                "periods": stats.cpu.periods,
                "throttledPeriods": stats.cpu.throttled_periods,
                "throttledTime": stats.cpu.throttled,
            },
        },
        "memory": {
            "cache": memory.get("cache").or(memory.get("file")).unwrap_or(0),
            "usage": {
                "limit": memory.limit.unwrap_or(unlimited),
                "usage": memory.usage,
                "max": memory.max_usage,
                "failcnt": memory.failures,
            },
            "swap": {
                "limit": memory.swap_limit.unwrap_or(unlimited),
                "usage": memory.swap,
                "max": 0,
                "failcnt": 0,
            },
            "raw": memory.stat.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<serde_json::Map<_, _>>(),
        },
        "pids": {"current": stats.pids.current, "limit": stats.pids.limit.unwrap_or(0)},
        "blkio": {
            "ioServiceBytesRecursive": entries(&stats.io.service_bytes),
            "ioServicedRecursive": entries(&stats.io.serviced),
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

#[cfg(test)]
mod tests {
    use super::parse_interval;

    #[test]
    fn intervals_have_units() {
        assert!(parse_interval("5s").is_ok() && parse_interval("250ms").is_ok() && parse_interval("1h").is_ok());
        for text in ["", "5", "s", "0s", "1.5s", "-1s"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_interval_or_refused(text in "[0-9]{0,21}(ms|s|m|h)?|.{0,8}") {
            if let Ok(length) = parse_interval(&text) {
                proptest::prop_assert!(!length.is_zero());
            }
        }
    }
}

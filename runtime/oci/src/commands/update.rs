//! `update`: other limits for a container that exists.

use std::io::Read;

use oci_spec::runtime::LinuxResources;
use runtime::cgroup::{CgroupPath, Cgroups, Resources};

use crate::args::{Global, Update};
use crate::error::{Context, Error, Result};
use crate::state::{Container, Status};

pub fn run(global: &Global, args: &Update) -> Result<u8> {
    let container = Container::load(&global.root, &args.id)?;
    if container.status() == Status::Stopped {
        return Err(Error::new("cannot update a stopped container"));
    }
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        super::rdt(&container, args)?;
    }
    let resources = match &args.resources {
        Some(path) => {
            let json = if path.as_os_str() == "-" {
                let mut json = Vec::new();
                std::io::stdin()
                    .read_to_end(&mut json)
                    .context("cannot read standard input")?;
                json
            } else {
                std::fs::read(path).context(format!("cannot read {}", path.display()))?
            };
            let document: LinuxResources = serde_json::from_slice(&json).context("cannot read the resources")?;
            Resources::try_from(&document)?
        }
        None => of_flags(args)?,
    };
    Cgroups::detect()?.update(&CgroupPath::new(&container.record.cgroup)?, &resources)?;
    Ok(0)
}

fn of_flags(args: &Update) -> Result<Resources> {
    let idle = match args.cpu_idle {
        None => None,
        Some(0) => Some(false),
        Some(1) => Some(true),
        Some(other) => return Err(Error::new(format!("--cpu-idle: {other} is not 0 or 1"))),
    };
    Ok(Resources {
        blkio_weight: args.blkio_weight,
        cpu_period: args.cpu_period,
        cpu_quota: args.cpu_quota,
        cpu_burst: args.cpu_burst,
        cpu_rt_period: args.cpu_rt_period,
        cpu_rt_runtime: args.cpu_rt_runtime,
        cpu_shares: args.cpu_share,
        cpu_idle: idle,
        cpuset_cpus: args.cpuset_cpus.clone(),
        cpuset_mems: args.cpuset_mems.clone(),
        memory: bytes("--memory", args.memory.as_deref())?,
        memory_reservation: bytes("--memory-reservation", args.memory_reservation.as_deref())?,
        memory_swap: bytes("--memory-swap", args.memory_swap.as_deref())?,
        pids: args.pids_limit,
        ..Resources::default()
    })
}

/// Bytes, with `k`, `m`, `g`, `t` for powers of 1,024, or -1.
fn bytes(flag: &str, text: Option<&str>) -> Result<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    let lower = text.to_ascii_lowercase();
    let trimmed = lower.trim_end_matches("ib").trim_end_matches('b');
    let (digits, shift) = match trimmed.chars().last() {
        Some('k') => (&trimmed[..trimmed.len() - 1], 10),
        Some('m') => (&trimmed[..trimmed.len() - 1], 20),
        Some('g') => (&trimmed[..trimmed.len() - 1], 30),
        Some('t') => (&trimmed[..trimmed.len() - 1], 40),
        _ => (trimmed, 0),
    };
    let value = digits
        .parse::<i64>()
        .ok()
        .and_then(|value| value.checked_mul(1 << shift));
    value
        .map(Some)
        .ok_or_else(|| Error::new(format!("{flag}: {text:?} is not a number of bytes")))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        for (text, value) in [
            ("5", 5),
            ("1k", 1024),
            ("2M", 2 << 20),
            ("3GiB", 3 << 30),
            ("-1", -1),
            ("4kb", 4096),
        ] {
            assert_eq!(bytes("--x", Some(text)).ok().flatten(), Some(value), "{text}");
        }
        for text in ["", "k", "x", "1.5g", "99999999999t"] {
            assert!(bytes("--x", Some(text)).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_size_or_refused(text in "-?[0-9]{0,20}[kmgtKMGT]?(i?[bB])?|.{0,8}", number in -(1i64 << 40)..1 << 40) {
            let _ = bytes("--x", Some(&text));
            proptest::prop_assert_eq!(bytes("--x", Some(&number.to_string())).ok().flatten(), Some(number));
        }
    }
}

//! Limits: `--ulimit`, `--cpus`, `--restart`, block devices, `--device`, `--gpus`.

use agent_api::host_config::{DeviceMapping, DeviceRequest, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice};

use super::{csv, size};

/// Names the kernel has a limit for.
const ULIMITS: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `name=soft[:hard]`; -1 is without limit.
///
/// # Errors
/// An unknown name, or numbers that make no limit.
pub fn ulimit(text: &str) -> Result<Ulimit, String> {
    let Some((name, values)) = text.split_once('=') else {
        return Err(format!("invalid ulimit argument: {text}"));
    };
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |part: &str| match part.parse::<i64>() {
        Ok(number) if number >= -1 => Ok(number),
        _ => Err(format!("invalid ulimit value {part:?} in {text}")),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(values)?, number(values)?),
    };
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(Ulimit {
        name: name.to_owned(),
        hard,
        soft,
    })
}

/// `--cpus 1.5` → billionths of a CPU, exactly.
///
/// # Errors
/// Not a decimal number, or finer than a billionth.
pub fn cpus(text: &str) -> Result<i64, String> {
    let wrong = || format!("failed to parse {text} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 9 {
        return Err("value is too precise".to_owned());
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| wrong())?
    };
    let billionths: i64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    whole
        .checked_mul(1_000_000_000)
        .and_then(|n| n.checked_add(billionths))
        .ok_or_else(wrong)
}

/// `no`, `always`, `unless-stopped`, `on-failure[:n]`, `on-unhealthy[:n]`.
///
/// # Errors
/// Another word, or a count where it has no meaning.
pub fn restart(text: &str) -> Result<RestartPolicy, String> {
    if text.is_empty() {
        return Ok(RestartPolicy::default());
    }
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    if !matches!(name, "no" | "always" | "unless-stopped" | "on-failure" | "on-unhealthy") {
        return Err(format!(
            "invalid restart policy {name:?}: use one of no, always, unless-stopped, on-failure[:max-retries], on-unhealthy[:max-retries]"
        ));
    }
    let maximum_retry_count = match count {
        None => 0,
        Some(count) => count
            .parse()
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?,
    };
    if !matches!(name, "on-failure" | "on-unhealthy") && maximum_retry_count != 0 {
        return Err(format!(
            "invalid restart policy: maximum retry count can only be used with on-failure and on-unhealthy, not {name}"
        ));
    }
    Ok(RestartPolicy {
        name: name.to_owned(),
        maximum_retry_count,
    })
}

/// `/dev/x:500`.
///
/// # Errors
/// No device path, or a weight outside of 10 to 1000.
pub fn weight(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device_and(text)?;
    match weight.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => Ok(WeightDevice { path, weight }),
        _ => Err(format!(
            "invalid weight for device: {text}: expected 10 to 1000, or 0 for none"
        )),
    }
}

/// `/dev/x:1mb`.
///
/// # Errors
/// No device path, or no size.
pub fn bytes_per_second(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and(text)?;
    let rate = size::parse(rate).map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]")
    })?;
    Ok(ThrottleDevice {
        path,
        rate: rate as u64,
    })
}

/// `/dev/x:1000`.
///
/// # Errors
/// No device path, or no number.
pub fn operations_per_second(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_and(text)?;
    let rate = rate
        .parse()
        .map_err(|_| format!("invalid rate for device: {text}. The correct format is <device-path>:<number>"))?;
    Ok(ThrottleDevice { path, rate })
}

fn device_and(text: &str) -> Result<(String, &str), String> {
    match text.split_once(':') {
        Some((path, rest)) if path.starts_with("/dev/") => Ok((path.to_owned(), rest)),
        Some((path, _)) if !path.is_empty() => {
            Err(format!("bad format for device path: {text}: it must begin with /dev/"))
        }
        _ => Err(format!("bad format: {text}: expected <device-path>:<value>")),
    }
}

/// What `--device` names: a node, or a device of the container device interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    Node(DeviceMapping),
    Cdi(String),
}

/// `/dev/x[:/dev/y][:rwm]` or `vendor.example/class=name`.
///
/// # Errors
/// Too many parts, or permissions that are none.
pub fn device(text: &str) -> Result<Device, String> {
    if !text.starts_with('/') && text.split_once('/').is_some_and(|(_, rest)| rest.contains('=')) {
        return Ok(Device::Cdi(text.to_owned()));
    }
    let is_mode = |part: &str| !part.is_empty() && part.len() <= 3 && part.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if is_mode(mode) => (*host, *host, *mode),
        [host, container] => (*host, *container, "rwm"),
        [host, container, mode] if is_mode(mode) => (*host, *container, *mode),
        [_, _, mode] => {
            return Err(format!(
                "bad mode specified: {mode}: expected a combination of r, w and m"
            ));
        }
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if host.is_empty() || !container.starts_with('/') {
        return Err(format!(
            "invalid device specification: {text}: expected HOST[:CONTAINER][:rwm]"
        ));
    }
    Ok(Device::Node(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: permissions.to_owned(),
    }))
}

/// `c 1:3 rwm`.
///
/// # Errors
/// Another form.
pub fn device_rule(text: &str) -> Result<String, String> {
    let wrong = || format!("invalid device cgroup format '{text}': expected TYPE MAJOR:MINOR MODE, e.g. 'c 1:3 rwm'");
    let number = |part: &str| part == "*" || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let [kind, numbers, mode] = text.split(' ').collect::<Vec<_>>()[..] else {
        return Err(wrong());
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let valid = matches!(kind, "a" | "b" | "c")
        && number(major)
        && number(minor)
        && (1..=3).contains(&mode.len())
        && mode.chars().all(|c| "rwm".contains(c));
    if valid { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// `all`, a count, or `device=0,capabilities=compute,…`.
///
/// # Errors
/// An unknown key, a key given twice, or a count that is none.
pub fn gpus(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest::default();
    let mut seen = Vec::new();
    let count = |value: &str| match value {
        "all" => Ok(-1),
        value => value
            .parse()
            .map_err(|_| format!("invalid count ({value}): value must be either \"all\" or an integer")),
    };
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        if seen.contains(&key.to_owned()) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key.to_owned());
        let words = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
        match key {
            "driver" => request.driver = value.to_owned(),
            "count" => request.count = count(value)?,
            "device" => request.device_ids = Some(words()),
            "capabilities" => {
                let mut list = words();
                if !list.contains(&"gpu".to_owned()) {
                    list.push("gpu".to_owned());
                }
                request.capabilities = Some(vec![list]);
            }
            "options" => request.options = Some(words().iter().map(|entry| super::pair::split(entry)).collect()),
            _ => return Err(format!("unexpected key '{key}' in '{text}'")),
        }
    }
    if request.count == 0 && request.device_ids.is_none() {
        request.count = 1;
    }
    request.capabilities.get_or_insert_with(|| vec![vec!["gpu".to_owned()]]);
    request.options.get_or_insert_default();
    Ok(request)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ulimits_parse() {
        assert_eq!(
            ulimit("nofile=1:2").unwrap(),
            Ulimit {
                name: "nofile".into(),
                soft: 1,
                hard: 2
            }
        );
        assert_eq!(
            ulimit("core=-1").unwrap(),
            Ulimit {
                name: "core".into(),
                soft: -1,
                hard: -1
            }
        );
        for bad in [
            "nofile",
            "nope=1",
            "nofile=2:1",
            "nofile=x",
            "nofile=",
            "nofile=-1:5",
            "nofile=-2",
            "nofile=1:2:3",
        ] {
            assert!(ulimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cpus_parse_exactly() {
        for (text, want) in [
            ("1", 1_000_000_000),
            ("0.5", 500_000_000),
            (".1", 100_000_000),
            ("1.000000001", 1_000_000_001),
            ("2.", 2_000_000_000),
        ] {
            assert_eq!(cpus(text), Ok(want), "{text}");
        }
        for bad in ["", ".", "-1", "x", "0.0000000001", "99999999999", "1e3"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn restart_policies_parse() {
        assert_eq!(restart("on-failure:3").unwrap().maximum_retry_count, 3);
        assert_eq!(restart("always").unwrap().name, "always");
        assert_eq!(restart("on-unhealthy:2").unwrap().maximum_retry_count, 2);
        for bad in [":1", "on-failure:x", "sometimes", "always:3"] {
            assert!(restart(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn devices_parse() {
        let node = |text: &str| match device(text).unwrap() {
            Device::Node(node) => (node.path_on_host, node.path_in_container, node.cgroup_permissions),
            Device::Cdi(name) => (name, String::new(), String::new()),
        };
        let owned = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(node("/dev/x"), owned("/dev/x", "/dev/x", "rwm"));
        assert_eq!(node("/dev/x:r"), owned("/dev/x", "/dev/x", "r"));
        assert_eq!(node("/dev/x:/dev/y:rw"), owned("/dev/x", "/dev/y", "rw"));
        assert_eq!(node("nvidia.com/gpu=0"), owned("nvidia.com/gpu=0", "", ""));
        for bad in ["", ":", "/dev/x:/y:z", "/a:/b:r:w", "/a:b"] {
            assert!(device(bad).is_err(), "{bad}");
        }
        assert!(device_rule("c *:3 rwm").is_ok());
        for bad in ["", "d 1:3 r", "c 1 r", "c 1:3", "c 1:3 rx", "c 1:3 rwmr"] {
            assert!(device_rule(bad).is_err(), "{bad}");
        }
        assert_eq!(weight("/dev/sda:500").unwrap().weight, 500);
        assert_eq!(bytes_per_second("/dev/sda:1mb").unwrap().rate, 1 << 20);
        assert_eq!(operations_per_second("/dev/sda:7").unwrap().rate, 7);
        for bad in ["", "sda:1", "/dev/sda", "/dev/sda:x"] {
            assert!(weight(bad).is_err() && bytes_per_second(bad).is_err() && operations_per_second(bad).is_err());
        }
    }

    #[test]
    fn gpus_parse() {
        assert_eq!(gpus("all").unwrap().count, -1);
        assert_eq!(gpus("2").unwrap().count, 2);
        let request = gpus("\"device=0,1\",capabilities=compute").unwrap();
        assert_eq!(request.device_ids.unwrap(), ["0", "1"]);
        assert_eq!(request.capabilities.unwrap(), [["compute", "gpu"]]);
        for bad in ["x", "count=1,count=2", "nope=1"] {
            assert!(gpus(bad).is_err(), "{bad}");
        }
    }
}

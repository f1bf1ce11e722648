//! Where a container stands: the `cgroupsPath` of an OCI configuration, as the systemd driver reads it.

use super::super::{CgroupError, CgroupPath, Result};
use std::fmt::Write as _;

/// systemd's UNIT_NAME_MAX, without the NUL.
const LONGEST_NAME: usize = 255;
/// Where root's containers go that name no slice, as in runc.
const DEFAULT_SLICE: &str = "system.slice";
const ROOT_SLICE: &str = "-.slice";

/// The unit of a container, and the control group that systemd makes for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitPlace {
    /// `prefix-name.scope`, or a slice.
    pub name: String,
    /// The slice above it.
    pub slice: String,
    /// The group in every hierarchy.
    pub path: CgroupPath,
}

impl UnitPlace {
    /// Reads `slice:prefix:name`. An empty slice is `system.slice`, and `-` the root; an empty `cgroups_path` is
    /// `:PREFIX:ID` of what is given here. A name that ends in `.slice` is that slice, without the prefix.
    ///
    /// Bytes that no unit's name may have become `\x2b`, as systemd-escape(1) makes them.
    ///
    /// # Errors
    /// [`CgroupError::Invalid`] for what is no such path, and for names of slices that systemd does not take.
    pub fn parse(cgroups_path: &str, prefix: &str, id: &str) -> Result<UnitPlace> {
        let parts: Vec<&str> = match cgroups_path {
            "" => vec!["", prefix, id],
            _ => cgroups_path.split(':').collect(),
        };
        let &[slice, prefix, name] = parts.as_slice() else {
            return invalid(format!("{cgroups_path:?} is not like slice:prefix:name"));
        };
        if name.is_empty() {
            return invalid(format!("{cgroups_path:?} has no name behind the last colon"));
        }
        if name.ends_with(".slice") {
            return UnitPlace::of_slice(slice, name);
        }
        for part in [prefix, name] {
            if part.contains('/') {
                return invalid(format!("{part:?} has a slash in it: it is part of a unit's name"));
            }
        }
        let slice = match slice {
            "" => DEFAULT_SLICE,
            "-" => ROOT_SLICE,
            _ => slice,
        };
        let name = escape(&format!("{prefix}-{name}.scope"));
        if name.len() > LONGEST_NAME {
            return invalid(format!("the unit name {name:?} is longer than {LONGEST_NAME} bytes"));
        }
        let path = CgroupPath::new(&format!("{}/{}", expand(slice)?, folder(&name)?))?;
        Ok(UnitPlace {
            slice: slice.to_owned(),
            name,
            path,
        })
    }

    fn of_slice(above: &str, name: &str) -> Result<UnitPlace> {
        let path = expand(name)?;
        if path.is_empty() {
            return invalid(format!("{name:?} is the root of all slices: no container can be it"));
        }
        // The name of a slice says what it is below; another parent would be a group that systemd does not make.
        let real = match name.rsplit_once('-') {
            Some((parent, _)) => format!("{parent}.slice"),
            None => ROOT_SLICE.to_owned(),
        };
        let fits = above.is_empty() || above == real || above == "-" && real == ROOT_SLICE;
        if !fits {
            return invalid(format!("the slice {name:?} is below {real:?} and not below {above:?}"));
        }
        Ok(UnitPlace {
            name: name.to_owned(),
            slice: real,
            path: CgroupPath::new(&path)?,
        })
    }
}

fn invalid<T>(why: String) -> Result<T> {
    Err(CgroupError::Invalid {
        what: "cgroupsPath for the systemd cgroup driver",
        why,
    })
}

/// `a-b.slice` → `/a.slice/a-b.slice`; the root is empty.
fn expand(slice: &str) -> Result<String> {
    let Some(stem) = slice.strip_suffix(".slice") else {
        return invalid(format!("the slice {slice:?} does not end in .slice"));
    };
    if stem == "-" {
        return Ok(String::new());
    }
    if stem.contains('/') {
        return invalid(format!(
            "the slice {slice:?} has a slash in it; what is below another is written a-b.slice"
        ));
    }
    if stem.split('-').any(str::is_empty) {
        return invalid(format!(
            "the slice {slice:?} begins or ends with a dash, or has two in a row"
        ));
    }
    if slice.len() > LONGEST_NAME || !stem.bytes().all(|byte| byte != b'@' && in_names(byte)) {
        return invalid(format!("{slice:?} is not the name of a slice"));
    }
    let mut path = String::new();
    for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        let name = format!("{}.slice", &stem[..end]);
        let _ = write!(path, "/{}", folder(&name)?);
    }
    Ok(path)
}

/// What unit names are made of.
fn in_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_' | b'.' | b'\\' | b'@')
}

fn escape(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut out, byte| {
        if in_names(byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "\\x{byte:02x}");
        }
        out
    })
}

/// The name of a unit's folder: with an underscore in front where it could be taken for one of the kernel's files
/// (systemd's `cg_escape`). Where versions of systemd differ about that, the group could be looked for in the wrong
/// place: such names are refused.
fn folder(unit: &str) -> Result<String> {
    const CONTROLLERS: [&str; 8] = ["cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids"];
    // Controllers of systemd's own making, of which each version has others.
    const PSEUDO: [&str; 7] = [
        "bpf-firewall",
        "bpf-devices",
        "bpf-foreign",
        "bpf-socket-bind",
        "bpf-restrict-network-interfaces",
        "bpf-bind-network-interface",
        "bpf-restrict-fs",
    ];
    let (first, rest) = unit.split_once('.').unwrap_or((unit, ""));
    // Up to 253 a controller's name had to stand before the last dot, since then before the first.
    if PSEUDO.contains(&first) || CONTROLLERS.contains(&first) && rest.contains('.') {
        return invalid(format!(
            "the unit name {unit:?} begins like a file of a controller, which systemd may or may not escape"
        ));
    }
    let escaped = CONTROLLERS.contains(&first) || first == "cgroup" || unit.starts_with(['_', '.']);
    Ok(if escaped { format!("_{unit}") } else { unit.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn parse(path: &str) -> Result<UnitPlace> {
        UnitPlace::parse(path, "iechor", "id")
    }

    #[test]
    fn paths_are_read() {
        for (given, name, slice, path) in [
            ("", "iechor-id.scope", "system.slice", "/system.slice/iechor-id.scope"),
            (
                ":runc:c1",
                "runc-c1.scope",
                "system.slice",
                "/system.slice/runc-c1.scope",
            ),
            (
                "a-b.slice:cri:c",
                "cri-c.scope",
                "a-b.slice",
                "/a.slice/a-b.slice/cri-c.scope",
            ),
            ("-.slice:p:c", "p-c.scope", "-.slice", "/p-c.scope"),
            ("-:p:c", "p-c.scope", "-.slice", "/p-c.scope"),
            ("m.slice::c", "-c.scope", "m.slice", "/m.slice/-c.scope"),
            (
                "::a+b",
                "-a\\x2bb.scope",
                "system.slice",
                "/system.slice/-a\\x2bb.scope",
            ),
            (
                ":cgroup.x:c",
                "cgroup.x-c.scope",
                "system.slice",
                "/system.slice/_cgroup.x-c.scope",
            ),
            (":_p:c", "_p-c.scope", "system.slice", "/system.slice/__p-c.scope"),
            ("cpu.slice:p:c", "p-c.scope", "cpu.slice", "/_cpu.slice/p-c.scope"),
            (
                "kube.slice:ignored:kube-burst.slice",
                "kube-burst.slice",
                "kube.slice",
                "/kube.slice/kube-burst.slice",
            ),
            ("::a.slice", "a.slice", "-.slice", "/a.slice"),
        ] {
            let found = parse(given).unwrap();
            assert_eq!(
                (found.name.as_str(), found.slice.as_str(), found.path.as_str()),
                (name, slice, path),
                "{given}"
            );
        }
    }

    #[test]
    fn what_is_none_is_refused_by_name() {
        for (given, why) in [
            ("/a/b", "not like slice:prefix:name"),
            ("a:b", "not like slice:prefix:name"),
            ("a.slice:b:c:d", "not like slice:prefix:name"),
            ("a.slice:b:", "no name"),
            ("a:b:c", "does not end in .slice"),
            (".slice:b:c", "begins or ends with a dash"),
            ("a--b.slice:b:c", "two in a row"),
            ("-a.slice:b:c", "begins or ends with a dash"),
            ("a-.slice:b:c", "begins or ends with a dash"),
            ("a/b.slice:b:c", "slash"),
            ("a b.slice:b:c", "not the name of a slice"),
            ("a.slice:b/c:d", "slash"),
            ("a.slice:b:c/d", "slash"),
            (":cpu.x:c", "may or may not"),
            (":bpf:devices", "may or may not"),
            ("pids.x.slice:b:c", "may or may not"),
            ("::-.slice", "root of all slices"),
            ("other.slice::a-b.slice", "below \"a.slice\""),
            (&format!("::{}", "x".repeat(255)), "longer than"),
        ] {
            let error = parse(given).unwrap_err().to_string();
            assert!(error.contains(why), "{given}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_path_ends_in_its_unit_below_each_slice(
            // (None begins like a controller's file: those are refused.)
            parts in prop::collection::vec("[x_][a-z0-9.:_]{0,7}", 1..4),
            prefix in "|[X_][a-zA-Z0-9.+@ _-]{0,8}",
            name in "[a-zA-Z0-9.+_-]{1,20}",
        ) {
            let stem = parts.join("-").replace(':', "");
            prop_assume!(stem.split('-').all(|part| !part.is_empty()) && !name.ends_with(".slice"));
            let place = parse(&format!("{stem}.slice:{prefix}:{name}")).unwrap();
            prop_assert!(place.name.bytes().all(in_names) && place.name.ends_with(".scope"));
            let folders: Vec<&str> = place.path.as_str()[1..].split('/').collect();
            // One folder for each dash and one for the unit, each the whole of the one above plus a part.
            prop_assert_eq!(folders.len(), parts.len() + 1);
            for pair in folders[..folders.len() - 1].windows(2) {
                let above = pair[0].strip_suffix(".slice").unwrap().trim_start_matches('_');
                let below = pair[1].trim_start_matches('_').strip_prefix(above);
                prop_assert!(below.is_some_and(|rest| rest.starts_with('-')));
            }
            let last = folders[folders.len() - 1];
            prop_assert_eq!(last.strip_prefix('_').filter(|_| last != place.name).unwrap_or(last), place.name);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            if let Ok(place) = parse(&text) {
                prop_assert!(place.name.len() <= LONGEST_NAME && place.name.bytes().all(in_names));
                prop_assert!(!place.name.contains('/'));
            }
        }
    }
}

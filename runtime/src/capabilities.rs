//! Capability names and numbers.
//!
//! Docker and OCI write `CAP_NET_ADMIN`; `net_admin` and `NET_ADMIN` are accepted from users.

/// Names without `CAP_`, in the order of their numbers (`<linux/capability.h>`).
const NAMES: [&str; 41] = [
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

/// Every capability that we know by name.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// The number of a capability, by its name in any case, with or without `CAP_`.
///
/// ```
/// assert_eq!(runtime::capabilities::number("cap_net_admin"), Some(12));
/// ```
pub fn number(name: &str) -> Option<u32> {
    let name = match name.get(..4) {
        Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => &name[4..],
        _ => name,
    };
    NAMES
        .iter()
        .position(|known| known.eq_ignore_ascii_case(name))
        .map(|index| index as u32)
}

/// The name of a capability without `CAP_`.
pub fn name(number: u32) -> Option<&'static str> {
    NAMES.get(number as usize).copied()
}

/// Names, with `CAP_`, of the capabilities in a mask.
pub fn names(mask: u64) -> Vec<String> {
    (0..64)
        .filter(|bit| mask & 1 << bit != 0)
        .filter_map(|bit| Some(format!("CAP_{}", name(bit)?)))
        .collect()
}

/// A mask from names.
///
/// # Errors
/// The first name that is not one.
pub fn mask<'a, S: AsRef<str> + 'a + ?Sized>(names: impl IntoIterator<Item = &'a S>) -> Result<u64, &'a str> {
    names.into_iter().try_fold(0, |mask, name| {
        Ok(mask | 1 << number(name.as_ref()).ok_or(name.as_ref())?)
    })
}

/// What Docker gives a container.
pub const DEFAULT: u64 = bits(&[0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31]);

const fn bits(numbers: &[u32]) -> u64 {
    let mut mask = 0;
    let mut index = 0;
    while index < numbers.len() {
        mask |= 1 << numbers[index];
        index += 1;
    }
    mask
}

/// Docker's rule for `--cap-add` and `--cap-drop`: start from the default, or from nothing when everything is dropped and from
/// everything when everything is added; then drop what is named, then add what is named.
///
/// # Errors
/// The first name that is not a capability (nor `ALL`).
pub fn adjust<'a>(add: &'a [String], drop: &'a [String]) -> Result<u64, &'a str> {
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let named = |names: &'a [String]| mask(names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")));
    let (added, dropped) = (named(add)?, named(drop)?);
    Ok(match (all(add), all(drop)) {
        // Docker drops from everything, and what is named in both stays dropped.
        (true, _) => ALL & !dropped,
        (false, true) => added,
        (false, false) => DEFAULT & !dropped | added,
    })
}

/// Capabilities that this process could hand on: its bounding set.
pub fn available() -> u64 {
    static MASK: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *MASK.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
        line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(ALL)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_and_numbers_agree() {
        for bit in 0..NAMES.len() as u32 {
            assert_eq!(number(name(bit).unwrap()), Some(bit));
            assert_eq!(number(&format!("cap_{}", name(bit).unwrap().to_lowercase())), Some(bit));
        }
        assert_eq!((number("CAP_BPF"), number("CHECKPOINT_RESTORE")), (Some(39), Some(40)));
        assert_eq!(number("CAP_"), None);
        assert_eq!(number("ä"), None);
        assert_eq!(names(DEFAULT).len(), 14);
        assert!(names(DEFAULT).contains(&"CAP_SETFCAP".to_owned()));
        assert_eq!(mask(["CHOWN", "nonsense"]), Err("nonsense"));
    }

    #[test]
    fn adding_and_dropping_follow_docker() {
        let adjust = |add: &[&str], drop: &[&str]| {
            let (add, drop) = (strings(add), strings(drop));
            adjust(&add, &drop).map_err(str::to_owned)
        };
        assert_eq!(adjust(&[], &[]), Ok(DEFAULT));
        assert_eq!(adjust(&["all"], &["CHOWN"]), Ok(ALL & !1));
        assert_eq!(adjust(&["CHOWN"], &["ALL"]), Ok(1));
        assert_eq!(
            adjust(&["net_admin"], &["CAP_MKNOD"]),
            Ok(DEFAULT & !(1 << 27) | 1 << 12)
        );
        assert_eq!(adjust(&["X"], &[]), Err("X".to_owned()));
    }
}

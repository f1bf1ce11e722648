//! The formats of the kernel's files, and what is alike on v1 and v2.

use super::{Counter, NumaStats, PidsStats, Pressure, RdmaStats, Stall};
use std::fs;
use std::path::Path;

pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// `max` is unlimited on v2; v1 writes the largest multiple of a page that fits.
pub(super) fn limit(text: &str) -> Option<u64> {
    number(text).filter(|limit| *limit < i64::MAX as u64 - 0xffff)
}

/// Empty when there is no such file.
pub(super) fn optional(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap_or_default()
}

/// Lines `key value`.
pub(super) fn table(text: &str) -> Vec<(String, u64)> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), number(value)?))
        })
        .collect()
}

/// v1's four files of one counter; `None` when it is not counted.
pub(super) fn counter(folder: &Path, prefix: &str) -> Option<Counter> {
    let file = |name: &str| optional(folder, &format!("{prefix}{name}"));
    Some(Counter {
        usage: number(&file("usage_in_bytes"))?,
        max_usage: number(&file("max_usage_in_bytes")).unwrap_or(0),
        limit: limit(&file("limit_in_bytes")),
        failures: number(&file("failcnt")).unwrap_or(0),
    })
}

pub(super) fn pids(folder: &Path) -> PidsStats {
    PidsStats {
        current: number(&optional(folder, "pids.current")).unwrap_or(0),
        limit: limit(&optional(folder, "pids.max")),
        peak: number(&optional(folder, "pids.peak")),
    }
}

/// Memory by nodes, in the file of the same name on both.
pub(super) fn memory_nodes(folder: &Path) -> Vec<NumaStats> {
    numa(&optional(folder, "memory.numa_stat"))
}

/// Rows `anon N0=1 N1=2` (v2) or `anon=3 N0=1 N1=2` (v1).
pub(super) fn numa(text: &str) -> Vec<NumaStats> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(' ')?;
            let nodes: Vec<(u32, u64)> = rest
                .split_whitespace()
                .filter_map(|word| {
                    let (node, value) = word.strip_prefix('N')?.split_once('=')?;
                    Some((node.parse().ok()?, number(value)?))
                })
                .collect();
            let (name, total) = match name.split_once('=') {
                Some((name, total)) => (name, number(total)?),
                None => (name, nodes.iter().fold(0, |all, (_, value)| value.saturating_add(all))),
            };
            Some(NumaStats {
                name: name.to_owned(),
                total,
                nodes,
            })
        })
        .collect()
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with `full`. `None` where the kernel does not
/// count, or was told not to (`psi=0`, `cgroup.pressure`).
pub(super) fn pressure(folder: &Path, file: &str) -> Option<Pressure> {
    let text = optional(folder, file);
    let line = |kind: &str| {
        let words = text
            .lines()
            .find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let mut stall = Stall::default();
        for (key, value) in words.split_whitespace().filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => stall.avg10 = value.parse().ok()?,
                "avg60" => stall.avg60 = value.parse().ok()?,
                "avg300" => stall.avg300 = value.parse().ok()?,
                "total" => stall.total = value.parse().ok()?,
                _ => {}
            }
        }
        Some(stall)
    };
    Some(Pressure {
        some: line("some")?,
        full: line("full"),
    })
}

/// Lines `mlx4_0 hca_handle=2 hca_object=2000`, of what is held and of limits.
pub(super) fn rdma(folder: &Path) -> Vec<RdmaStats> {
    let mut devices: Vec<RdmaStats> = Vec::new();
    for (file, is_limit) in [("rdma.current", false), ("rdma.max", true)] {
        for line in optional(folder, file).lines() {
            let mut words = line.split_whitespace();
            let Some(name) = words.next() else { continue };
            let index = devices
                .iter()
                .position(|entry| entry.device == name)
                .unwrap_or_else(|| {
                    devices.push(RdmaStats {
                        device: name.to_owned(),
                        ..RdmaStats::default()
                    });
                    devices.len() - 1
                });
            let entry = &mut devices[index];
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                match (key, is_limit) {
                    ("hca_handle", false) => entry.handles = number(value).unwrap_or(0),
                    ("hca_object", false) => entry.objects = number(value).unwrap_or(0),
                    ("hca_handle", true) => entry.handles_limit = number(value),
                    ("hca_object", true) => entry.objects_limit = number(value),
                    _ => {}
                }
            }
        }
    }
    devices
}

/// The page sizes of the files `hugetlb.SIZE.SUFFIX`, in the order of their names.
pub(super) fn page_sizes(folder: &Path, suffix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut sizes: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let size = name.to_str()?.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
            let size = size.strip_suffix('.')?;
            (!size.contains('.')).then(|| size.to_owned())
        })
        .collect();
    sizes.sort();
    sizes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    proptest::proptest! {
        /// The kernel's own files are not hostile; those of a kernel to come may still look different.
        #[test]
        fn any_text_is_read_as_far_as_it_is_understood(
            text in r"(anon|N[0-9]|=|[0-9]{1,20}|18446744073709551615|max|some|full|avg10|total|hca_handle|\.| |\n|é){0,40}|.{0,60}",
        ) {
            let _ = (number(&text), limit(&text), table(&text), numa(&text));
            let folder = tempfile::tempdir().unwrap();
            for file in ["pids.current", "pids.max", "cpu.pressure", "rdma.current", "rdma.max", "memory.usage_in_bytes"] {
                fs::write(folder.path().join(file), &text).unwrap();
            }
            let _ = (pids(folder.path()), pressure(folder.path(), "cpu.pressure"), rdma(folder.path()));
            let _ = counter(folder.path(), "memory.");
        }

        #[test]
        fn a_table_is_read_as_it_was_written(rows in proptest::collection::vec(("[a-z_]{1,8}", 0..u64::MAX), 0..6)) {
            let text: String = rows.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
            proptest::prop_assert_eq!(table(&text), rows);
        }
    }
}

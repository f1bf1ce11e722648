//! `--userns-remap`: which users of the host the users of a user namespace are.

use std::path::Path;

use agent_engine::config::{IdMap, IdRange, Remap};
use anyhow::{Context, bail};

/// Users whose ranges are taken where nobody is named: ours, and the one that dockerd makes.
const USUAL: [&str; 2] = ["iechor", "dockremap"];

/// Where none of them has a range: behind what distributions and systemd-nspawn give out (systemd's "UIDs and GIDs"
/// calls it unused), so that no user of the host is in it.
const RANGE: IdRange = IdRange {
    inside: 0,
    outside: 0x7000_0000,
    count: 65_536,
};

/// The files of a host's users.
struct Files<'a> {
    etc: &'a Path,
}

/// The setting; `None` is dockerd's empty one.
pub fn remap(setting: Option<&str>) -> anyhow::Result<Remap> {
    of_files(setting, &Files { etc: Path::new("/etc") })
}

fn of_files(setting: Option<&str>, files: &Files<'_>) -> anyhow::Result<Remap> {
    let setting = setting.filter(|text| !text.is_empty());
    let map = match setting {
        None | Some("default") => files.usual()?,
        Some(told) => files.map(told).with_context(|| format!("--userns-remap {told}"))?,
    };
    Ok(Remap {
        always: setting.is_some(),
        map,
        reserved: files.given()?,
    })
}

impl Files<'_> {
    fn read(&self, name: &str) -> anyhow::Result<String> {
        let path = self.etc.join(name);
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            other => other.with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// All that subuid(5) and subgid(5) give to anybody. Lines that say nothing are nobody's.
    fn given(&self) -> anyhow::Result<Vec<IdRange>> {
        let mut given = Vec::new();
        for file in ["subuid", "subgid"] {
            for line in self.read(file)?.lines() {
                let mut fields = line.trim().split(':').skip(1).map(|field| field.parse::<u32>().ok());
                if let (Some(Some(outside)), Some(Some(count))) = (fields.next(), fields.next()) {
                    given.push(IdRange {
                        inside: 0,
                        outside,
                        count,
                    });
                }
            }
        }
        Ok(given)
    }

    fn usual(&self) -> anyhow::Result<IdMap> {
        for name in USUAL {
            let (users, groups) = (self.ranges("subuid", name, None)?, self.ranges("subgid", name, None)?);
            if !users.is_empty() && !groups.is_empty() {
                return Ok(IdMap { users, groups });
            }
        }
        Ok(IdMap {
            users: vec![RANGE],
            groups: vec![RANGE],
        })
    }

    /// `user[:group]`, each a name or a number.
    fn map(&self, told: &str) -> anyhow::Result<IdMap> {
        let (user, group) = told
            .split_once(':')
            .map_or((told, None), |(user, group)| (user, Some(group)));
        let (user, uid, gid) = self.find("passwd", user)?;
        let (group, gid) = match group {
            Some(group) => {
                let (name, gid, _) = self.find("group", group)?;
                (name, gid)
            }
            // The user's name stands for the group in subgid(5).
            None => (user.clone(), gid),
        };
        let users = self.ranges("subuid", &user, Some(uid))?;
        if users.is_empty() {
            bail!("no subuid ranges found for user \"{user}\"");
        }
        let groups = self.ranges("subgid", &group, Some(gid))?;
        if groups.is_empty() {
            bail!("no subgid ranges found for group \"{group}\"");
        }
        Ok(IdMap { users, groups })
    }

    /// Name, number and the number after it, of a line of passwd or group.
    fn find(&self, file: &str, wanted: &str) -> anyhow::Result<(String, u32, u32)> {
        let text = self.read(file)?;
        let number = wanted.parse::<u32>().ok();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, id, ..] = fields.as_slice() else { continue };
            let Ok(id) = id.parse::<u32>() else { continue };
            if number.map_or(*name == wanted, |number| number == id) {
                let next = fields.get(3).and_then(|gid| gid.parse().ok()).unwrap_or(id);
                return Ok(((*name).to_owned(), id, next));
            }
        }
        bail!("no entry of {wanted:?} in {}", self.etc.join(file).display())
    }

    /// The ranges of subuid(5) or subgid(5), one behind the other as seen from inside.
    fn ranges(&self, file: &str, name: &str, number: Option<u32>) -> anyhow::Result<Vec<IdRange>> {
        let mut ranges = Vec::new();
        let mut inside = 0u32;
        for line in self.read(file)?.lines() {
            let fields: Vec<&str> = line.trim().split(':').collect();
            let [owner, first, count] = fields.as_slice() else {
                continue;
            };
            if *owner != name && (number.is_none() || owner.parse().ok() != number) {
                continue;
            }
            let whole = || format!("{file}: {line}: not a range of numbers");
            let outside: u32 = first.parse().with_context(whole)?;
            let count: u32 = count.parse().with_context(whole)?;
            if count == 0 || outside.checked_add(count).is_none() {
                bail!(whole());
            }
            ranges.push(IdRange { inside, outside, count });
            inside = inside.checked_add(count).with_context(whole)?;
        }
        Ok(ranges)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(files: &[(&str, &str)], setting: Option<&str>) -> Result<Remap, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        of_files(setting, &Files { etc: folder.path() }).map_err(|error| format!("{error:#}"))
    }

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    const USERS: [(&str, &str); 4] = [
        ("passwd", "root:x:0:0::/:/bin/sh\nmax:x:1000:1001::/:/bin/sh\n"),
        ("group", "root:x:0:\nstaff:x:50:\n"),
        ("subuid", "max:100000:65536\nother:1:1\n1000:300000:10\n"),
        ("subgid", "max:200000:65536\n50:400000:65536\n"),
    ];

    #[test]
    fn without_ranges_there_is_a_fixed_one() {
        for setting in [None, Some(""), Some("default")] {
            let found = with(&[], setting).unwrap();
            assert_eq!(found.map.users, [RANGE]);
            assert_eq!(found.always, setting == Some("default"));
        }
        let found = with(
            &[("subuid", "dockremap:7:8\n"), ("subgid", "dockremap:9:8\n")],
            Some("default"),
        )
        .unwrap();
        assert_eq!(
            (found.map.users, found.map.groups),
            (vec![range(0, 7, 8)], vec![range(0, 9, 8)])
        );
    }

    #[test]
    fn users_and_groups_by_name_and_number() {
        for user in ["max", "1000"] {
            let map = with(&USERS, Some(user)).unwrap().map;
            assert_eq!(map.users, [range(0, 100_000, 65_536), range(65_536, 300_000, 10)]);
            assert_eq!(map.groups, [range(0, 200_000, 65_536)]);
        }
        let map = with(&USERS, Some("max:staff")).unwrap().map;
        assert_eq!(map.groups, [range(0, 400_000, 65_536)]);
    }

    #[test]
    fn what_the_host_gives_is_known() {
        let reserved = with(&USERS, None).unwrap().reserved;
        let outside: Vec<u32> = reserved.iter().map(|range| range.outside).collect();
        assert_eq!(outside, [100_000, 1, 300_000, 200_000, 400_000]);
        let broken = [("subuid", "# nothing\nmax:x:1\nmax:7\n")];
        assert!(with(&broken, None).unwrap().reserved.is_empty());
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert!(with(&USERS, Some("nobody")).unwrap_err().contains("nobody"));
        assert!(with(&USERS, Some("max:none")).unwrap_err().contains("none"));
        assert!(
            with(&USERS, Some("root"))
                .unwrap_err()
                .contains("no subuid ranges found for user \"root\"")
        );
        let broken = [("subuid", "iechor:x:1\n"), ("subgid", "")];
        assert!(with(&broken, Some("default")).unwrap_err().contains("iechor:x:1"));
    }
}

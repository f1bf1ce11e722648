//! Users and groups, as the container's own files have them. The rules are Docker's.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use nix::errno::Errno;
use runtime::plan::User;
use runtime::proto::{Failure, Step};

use super::mounts::read_bounded;
use super::root::Root;
use crate::failure::{Result, failure};

/// Who a process runs as.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: OsString,
}

/// Largest passwd or group file that is read: hostile ones must not fill the memory.
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// Largest id that Docker takes.
const LARGEST_ID: u32 = i32::MAX as u32;

/// Looks up who `user` is in the container at `root`.
pub fn resolve(root: &Root, user: &User, need_home: bool) -> Result<Identity> {
    let passwd = || read_bounded(root, Path::new("/etc/passwd"), LARGEST_FILE).unwrap_or_default();
    let group = || read_bounded(root, Path::new("/etc/group"), LARGEST_FILE).unwrap_or_default();
    match user {
        User::Ids { uid, gid, groups } => {
            let home = if need_home { home_of(&passwd(), *uid) } else { None };
            Ok(Identity {
                uid: *uid,
                gid: *gid,
                groups: groups.clone(),
                home: home.unwrap_or_else(|| "/".into()),
            })
        }
        User::Named { user, extra_groups } => named(user, extra_groups, &passwd(), &group()),
    }
}

fn home_of(passwd: &[u8], uid: u32) -> Option<OsString> {
    entries(passwd).find_map(|entry| (parse_id(entry.get(2)?)? == uid).then(|| os(entry.get(5)))?)
}

fn named(spec: &str, extra: &[String], passwd: &[u8], group: &[u8]) -> Result<Identity> {
    let (user_part, group_part) = spec.split_once(':').unwrap_or((spec, ""));
    let number = user_part.parse::<i64>().ok();
    let found = entries(passwd).find(|entry| {
        let id = entry.get(2).and_then(|id| parse_id(id));
        match (user_part, number) {
            ("", _) => id == Some(0),
            (_, Some(number)) => id.is_some_and(|id| i64::from(id) == number),
            (name, None) => entry.first() == Some(&name.as_bytes()) && id.is_some(),
        }
    });
    let mut identity = Identity {
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        home: "/".into(),
    };
    let mut name: Option<&[u8]> = None;
    match (&found, number) {
        (Some(entry), _) => {
            identity.uid = entry.get(2).and_then(|id| parse_id(id)).unwrap_or(0);
            identity.gid = entry.get(3).and_then(|id| parse_id(id)).unwrap_or(0);
            if let Some(home) = os(entry.get(5)).filter(|home| !home.is_empty()) {
                identity.home = home;
            }
            name = entry.first().copied();
        }
        (None, Some(number)) => identity.uid = in_range(number, spec)?,
        (None, None) if user_part.is_empty() => {}
        (None, None) => {
            return Err(unknown(
                spec,
                format!("unable to find user {user_part}: no matching entries in passwd file"),
            ));
        }
    }
    if group_part.is_empty() {
        // The groups of which the user is a member count only where no group was asked for.
        identity.groups = entries(group)
            .filter(|entry| {
                let members = entry.get(3).copied().unwrap_or_default();
                name.is_some_and(|name| members.split(|&byte| byte == b',').any(|member| member == name))
            })
            .filter_map(|entry| parse_id(entry.get(2)?))
            .collect();
    } else {
        identity.gid = find_group(group, group_part, spec)?.ok_or_else(|| {
            unknown(
                spec,
                format!("unable to find group {group_part}: no matching entries in group file"),
            )
        })?;
    }
    // The first group belongs to the list: without it, leaving a group could gain access (CVE-2022-36109).
    identity.groups.insert(0, identity.gid);
    for wanted in extra {
        let gid = find_group(group, wanted, wanted)?.ok_or_else(|| {
            unknown(
                wanted,
                format!("unable to find group {wanted}: no matching entries in group file"),
            )
        })?;
        identity.groups.push(gid);
    }
    let mut seen = Vec::new();
    identity
        .groups
        .retain(|gid| !seen.contains(gid) && (seen.push(*gid), true).1);
    Ok(identity)
}

/// A group by number (which need not exist) or name.
fn find_group(file: &[u8], wanted: &str, spec: &str) -> Result<Option<u32>> {
    if let Ok(number) = wanted.parse::<i64>() {
        return in_range(number, spec).map(Some);
    }
    Ok(entries(file).find_map(|entry| {
        (entry.first() == Some(&wanted.as_bytes())).then(|| entry.get(2).and_then(|id| parse_id(id)))?
    }))
}

fn in_range(number: i64, spec: &str) -> Result<u32> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id <= LARGEST_ID)
        .ok_or_else(|| unknown(spec, format!("uids and gids must be in range 0-{LARGEST_ID}")))
}

fn unknown(subject: &str, message: String) -> Failure {
    failure(Step::User, subject, Errno::UnknownErrno, message)
}

/// The lines of a passwd-like file, split at colons.
fn entries(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(|line| line.split(|&byte| byte == b':').collect())
}

fn parse_id(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn os(field: Option<&&[u8]>) -> Option<OsString> {
    field.map(|bytes| OsString::from_vec(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n# a comment\n\nbroken\nweb:x:33:34:www:/var/www:/bin/false\n\
        1000:x:7:7::/odd:/bin/sh\n";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root\nweb:x:34:\naudio:x:29:web,root\nvideo:x:44:web\n";

    fn look(spec: &str, extra: &[&str]) -> std::result::Result<(u32, u32, Vec<u32>, String), String> {
        let extra: Vec<String> = extra.iter().map(|group| (*group).to_owned()).collect();
        named(spec, &extra, PASSWD, GROUP)
            .map(|found| (found.uid, found.gid, found.groups, found.home.into_string().unwrap()))
            .map_err(|failure| failure.message)
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        let cases: [(&str, &[&str], (u32, u32, &[u32], &str)); 10] = [
            ("", &[], (0, 0, &[0, 10, 29], "/root")),
            ("root", &[], (0, 0, &[0, 10, 29], "/root")),
            ("web", &[], (33, 34, &[34, 29, 44], "/var/www")),
            ("33", &[], (33, 34, &[34, 29, 44], "/var/www")),
            ("web:audio", &[], (33, 29, &[29], "/var/www")),
            ("web:12345", &[], (33, 12345, &[12345], "/var/www")),
            // A number is a number, also where a user is called so.
            ("1000", &[], (1000, 0, &[0], "/")),
            ("4000:5000", &["video", "77"], (4000, 5000, &[5000, 44, 77], "/")),
            ("web", &["audio"], (33, 34, &[34, 29, 44], "/var/www")),
            (":audio", &[], (0, 29, &[29], "/root")),
        ];
        for (spec, extra, (uid, gid, groups, home)) in cases {
            assert_eq!(
                look(spec, extra),
                Ok((uid, gid, groups.to_vec(), home.to_owned())),
                "{spec}"
            );
        }
    }

    #[test]
    fn absent_users_are_refused_in_dockers_words() {
        let cases = [
            ("foo", "unable to find user foo: no matching entries in passwd file"),
            ("web:foo", "unable to find group foo: no matching entries in group file"),
            ("-1", "uids and gids must be in range 0-2147483647"),
            ("4294967296", "uids and gids must be in range 0-2147483647"),
            ("0:2147483648", "uids and gids must be in range 0-2147483647"),
        ];
        for (spec, message) in cases {
            assert_eq!(look(spec, &[]), Err(message.to_owned()), "{spec}");
        }
        assert!(
            look("web", &["nowhere"])
                .unwrap_err()
                .starts_with("unable to find group nowhere")
        );
    }

    proptest::proptest! {
        /// Files of an image, and a user of somebody's choice: an identity in range, or a refusal.
        #[test]
        fn any_files_give_an_identity_or_a_refusal(
            spec in "[a-z0-9:-]{0,6}|.{0,12}",
            extra in proptest::collection::vec("[a-z0-9]{0,3}|.{0,6}", 0..3),
            passwd in r"([a-z]{1,2}|[0-9]{1,11}|:|\n|#| |é){0,40}",
            group in r"([a-z]{1,2}|[0-9]{1,11}|:|\n|,| |é){0,40}",
            noise: Vec<u8>,
        ) {
            for (passwd, group) in [(passwd.as_bytes(), group.as_bytes()), (&noise[..], &noise[..])] {
                let _ = home_of(passwd, 0);
                if let Ok(found) = named(&spec, &extra, passwd, group) {
                    proptest::prop_assert_eq!(found.groups.first(), Some(&found.gid));
                    let mut once = found.groups.clone();
                    once.sort_unstable();
                    once.dedup();
                    proptest::prop_assert_eq!(once.len(), found.groups.len());
                }
            }
        }
    }
}

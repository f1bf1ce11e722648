//! Users of a configuration: of its user namespace, and of mapped mounts.

use super::{Result, invalid};
use crate::plan::{IdMap, IdRange, Namespaces};
use nix::libc;
use oci_spec::runtime::{Linux, LinuxIdMapping};

/// The map of a new user namespace; `None` where there is none, or an existing one is joined.
pub(super) fn own(linux: &Linux, namespaces: &Namespaces) -> Result<Option<IdMap>> {
    let map = both(
        ("linux.uidMappings", linux.uid_mappings()),
        ("linux.gidMappings", linux.gid_mappings()),
    )?;
    let user = libc::CLONE_NEWUSER as u64;
    match (map, namespaces.new & user != 0) {
        (Some(map), true) => Ok(Some(map)),
        (None, true) => invalid(
            "linux.uidMappings",
            "a new user namespace needs maps of users and groups",
        ),
        // Somebody else has mapped the namespace already; what is said here is a note about it.
        (Some(_), false) if namespaces.has(user) => Ok(None),
        (Some(_), false) => invalid("linux.uidMappings", "there is no user namespace to map"),
        (None, false) => Ok(None),
    }
}

/// The map of a mount.
pub(super) fn of_mount(
    field: &str,
    uids: &Option<Vec<LinuxIdMapping>>,
    gids: &Option<Vec<LinuxIdMapping>>,
) -> Result<Option<IdMap>> {
    let (users, groups) = (format!("uidMappings in {field}"), format!("gidMappings in {field}"));
    both((&users, uids), (&groups, gids))
}

type Field<'a> = (&'a str, &'a Option<Vec<LinuxIdMapping>>);

fn both((users, uids): Field<'_>, (groups, gids): Field<'_>) -> Result<Option<IdMap>> {
    let map = IdMap {
        users: ranges(users, uids)?,
        groups: ranges(groups, gids)?,
    };
    match (map.users.is_empty(), map.groups.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(map)),
        (true, false) => invalid(users, "groups are mapped, users are not"),
        (false, true) => invalid(groups, "users are mapped, groups are not"),
    }
}

/// What `user_namespaces(7)` says of a map, which the kernel would answer with a bare EINVAL.
fn ranges(field: &str, list: &Option<Vec<LinuxIdMapping>>) -> Result<Vec<IdRange>> {
    const MOST: usize = 340;
    let mut out: Vec<IdRange> = Vec::new();
    for mapping in list.iter().flatten() {
        let range = IdRange {
            inside: mapping.container_id(),
            outside: mapping.host_id(),
            count: mapping.size(),
        };
        let fits = |first: u32| first.checked_add(range.count).is_some();
        if range.count == 0 || !fits(range.inside) || !fits(range.outside) {
            return invalid(field, format!("{} + {} ids is no range", range.inside, range.count));
        }
        let overlap = |a: (u32, u32), b: (u32, u32)| a.0 < b.0 + b.1 && b.0 < a.0 + a.1;
        let clash = out.iter().any(|other| {
            overlap((range.inside, range.count), (other.inside, other.count))
                || overlap((range.outside, range.count), (other.outside, other.count))
        });
        if clash {
            return invalid(field, format!("the range at {} overlaps with another", range.inside));
        }
        out.push(range);
    }
    if out.len() > MOST {
        return invalid(field, format!("{} ranges, the kernel takes {MOST}", out.len()));
    }
    Ok(out)
}

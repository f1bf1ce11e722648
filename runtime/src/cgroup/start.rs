//! A container's groups at its start: which it has, what is written, how it joins.

use super::detect::{Hierarchy, Place, Tree};
use super::limits::limits;
use super::{CgroupError, CgroupPath, Resources, Result, devices, io_error, v2};
use crate::plan::{CgroupJoin, CgroupPlan, CgroupWrite};
use crate::wire::Blob;
use std::fs;
use std::path::{Path, PathBuf};

/// Whether a container that asks for `resources` has a group on v2.
pub(super) fn needs_v2(tree: &Tree, path: &CgroupPath, resources: &Resources) -> bool {
    let held = |controller: &str| matches!(tree.place(controller, path), Some(Place::V2(_)));
    tree.joins_v2()
        || tree.v2.is_some()
            && (!resources.unified.is_empty()
                || !resources.devices.is_empty() && held("devices")
                || resources.controllers().into_iter().any(held))
}

/// The plan of a container whose parent is prepared.
pub(super) fn plan(tree: &Tree, path: &CgroupPath, resources: &Resources) -> Result<CgroupPlan> {
    let controllers = resources.controllers();
    let joined: Vec<&Hierarchy> = tree.joined(&controllers).collect();
    let v1: Vec<PathBuf> = joined.iter().map(|hierarchy| path.under(&hierarchy.mount)).collect();
    let v2_root = tree.v2.as_deref().filter(|_| needs_v2(tree, path, resources));
    let mut parents: Vec<PathBuf> = joined
        .iter()
        .flat_map(|hierarchy| above(path, &hierarchy.mount))
        .collect();
    let mut parent_writes = Vec::new();
    let mut own = v1.clone();
    if let Some(root) = v2_root {
        let above = above(path, root);
        let wanted = v2::wanted(tree, resources);
        let enable: Vec<String> = wanted.iter().map(|name| format!("+{name}")).collect();
        for parent in above.iter().filter(|_| !enable.is_empty()) {
            parent_writes.push(CgroupWrite {
                path: parent.join("cgroup.subtree_control"),
                value: enable.join(" "),
                optional: false,
            });
        }
        parents.extend(above);
        own.push(path.under(root));
    }
    let mut writes = limits(tree, path, resources)?;
    let cpuset = joined
        .iter()
        .find(|hierarchy| hierarchy.controllers.iter().any(|name| name == "cpuset"));
    if let Some(hierarchy) = cpuset {
        writes.extend(rest_of_cpuset(&path.under(&hierarchy.mount), resources)?);
    }
    let mut program = Blob::default();
    if !resources.devices.is_empty() {
        match tree.place("devices", path) {
            Some(Place::V1(folder)) => writes.extend(
                devices::Policy::of(&resources.devices)?
                    .writes()
                    .into_iter()
                    .map(|(file, value)| CgroupWrite {
                        path: folder.join(file),
                        value,
                        optional: false,
                    }),
            ),
            Some(Place::V2(_)) => program = devices::program(&resources.devices).into(),
            None => {
                return Err(CgroupError::NoController {
                    what: "linux.resources.devices".into(),
                    controller: "devices".into(),
                });
            }
        }
    }
    let late = tree
        .groups(path)
        .into_iter()
        .filter(|folder| !own.contains(folder))
        .collect();
    let files: Vec<PathBuf> = v1.iter().map(|folder| folder.join("tasks")).collect();
    Ok(CgroupPlan {
        parents,
        parent_writes,
        own,
        late,
        writes,
        join: join(files, v2_root.map(|root| path.under(root))),
        devices: program,
        systemd: None,
        oom: tree.place("memory", path).map(|place| oom_file(&place)),
    })
}

/// How a process gets into the groups of v1, by their `tasks` files, and of v2.
pub(super) fn join(files: Vec<PathBuf>, dir: Option<PathBuf>) -> CgroupJoin {
    match (dir, files.is_empty()) {
        (Some(dir), true) => CgroupJoin::Into { dir },
        (Some(dir), false) => CgroupJoin::Both { dir, files },
        (None, false) => CgroupJoin::Tasks { files },
        (None, true) => CgroupJoin::None,
    }
}

/// Where OOM kills are counted.
pub(super) fn oom_file(memory: &Place) -> PathBuf {
    match memory {
        Place::V1(folder) => folder.join("memory.oom_control"),
        Place::V2(folder) => folder.join("memory.events"),
    }
}

/// The groups between the root of a hierarchy and the container's.
fn above(path: &CgroupPath, mount: &Path) -> Vec<PathBuf> {
    let mut chain = path.chain(mount);
    chain.pop();
    chain
}

/// Both files of a cpuset need a value before anybody can join; what is not asked for comes from the parent.
fn rest_of_cpuset(group: &Path, resources: &Resources) -> Result<Vec<CgroupWrite>> {
    let parent = group.parent().unwrap_or(group);
    let mut writes = Vec::new();
    for (name, wanted) in [
        ("cpuset.cpus", &resources.cpuset_cpus),
        ("cpuset.mems", &resources.cpuset_mems),
    ] {
        if wanted.is_none() {
            let file = parent.join(name);
            let value = fs::read_to_string(&file).map_err(|error| io_error("read", &file, error))?;
            writes.push(CgroupWrite {
                path: group.join(name),
                value: value.trim().to_owned(),
                optional: false,
            });
        }
    }
    Ok(writes)
}

//! How much a writable layer may hold: project quotas of the data root's file system.
//!
//! The folders of a layer with a size are in a project of their own, which hands itself down to all that is made in them;
//! the file system counts what a project has, and refuses what would go beyond its limit. The layer's record says which
//! project that is.
//!
//! A number is free when no record has it and the file system knows neither a limit nor a use of it. So nobody gets one
//! that an administrator or another daemon on the same file system uses, nor that of a removed layer whose files are still
//! being deleted. Limits go before the folders do: whatever a crash leaves is a folder without a record, which says itself
//! whose limit is to be taken away.

use crate::error::{Error, Result};
use nix::sys::statfs as fs;
use runtime_sys::quota;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;

/// Far from where administrators, Docker (1), Kubernetes (2^20) and systemd (2^31) begin.
const PROJECTS: Range<u32> = 0x6945_0000..0x6946_0000;

/// The limit of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quota {
    project: u32,
    bytes: u64,
}

impl Quota {
    /// A limit with a number that is free on the file system of the folder `on`; `held` are those of the records.
    pub fn allot(on: &Path, held: &HashMap<String, Quota>, bytes: u64) -> Result<Quota> {
        supported(on)?;
        let folder = open(on)?;
        let held = held.values().map(|quota| quota.project).collect();
        let project = lowest(&held, |project| {
            let usage = quota::usage(folder.as_fd(), project).map_err(Error::io("read a project's quota on", on))?;
            Ok(usage.is_known)
        })?;
        Ok(Quota { project, bytes })
    }

    /// Puts the folders of a layer into the project and sets its limit, where that is not so already.
    pub fn hold(&self, layer: &Path) -> Result<()> {
        supported(layer)?;
        for path in [layer.to_owned(), layer.join("upper"), layer.join("work")] {
            let folder = open(&path)?;
            let failed = |e| Error::io("set the project of", &path)(e);
            if quota::project(folder.as_fd()).map_err(failed)? != Some(self.project) {
                quota::set_project(folder.as_fd(), self.project, true).map_err(failed)?;
            }
        }
        let folder = open(layer)?;
        let failed = |e| Error::io("set the limit of", layer)(e);
        let limit = quota::usage(folder.as_fd(), self.project).map_err(failed)?.limit;
        if limit != self.bytes.next_multiple_of(1024) {
            quota::set_limit(folder.as_fd(), self.project, self.bytes).map_err(failed)?;
        }
        Ok(())
    }

    /// Counts a file that lies elsewhere as one of the layer's.
    pub fn include(&self, file: &Path) -> Result<()> {
        let opened = open(file)?;
        quota::set_project(opened.as_fd(), self.project, false).map_err(Error::io("set the project of", file))
    }

    /// Takes the limit away before the layer goes; `on` is a folder of the same file system.
    pub fn release(&self, on: &Path) {
        let cleared = File::open(on).and_then(|folder| quota::set_limit(folder.as_fd(), self.project, 0));
        if let Err(error) = cleared {
            // Quotas were turned off since: nothing is limited.
            tracing::debug!(project = self.project, %error, "a limit cannot be taken away");
        }
    }
}

/// The lowest number that no record has and the file system does not know.
fn lowest(held: &HashSet<u32>, mut is_known: impl FnMut(u32) -> Result<bool>) -> Result<u32> {
    for project in PROJECTS.filter(|project| !held.contains(project)) {
        if !is_known(project)? {
            return Ok(project);
        }
    }
    Err(Error::NoProjectLeft {
        count: PROJECTS.end - PROJECTS.start,
    })
}

/// What a folder that nobody owns may still have of a layer with a size.
pub(crate) fn release_orphan(path: &Path) {
    let project = File::open(path).and_then(|folder| quota::project(folder.as_fd()));
    if let Ok(Some(project)) = project
        && PROJECTS.contains(&project)
    {
        Quota { project, bytes: 0 }.release(path);
    }
}

/// Whether the file system of the folder `on` holds projects to limits.
pub(crate) fn supported(on: &Path) -> Result<()> {
    let enforced = quota::is_enforced(open(on)?.as_fd());
    if let Ok(true) = enforced {
        return Ok(());
    }
    let filesystem = file_system(on);
    let needs = match filesystem {
        "extfs" => {
            "ext4 needs the features project and quota (tune2fs -O project,quota), the mount option prjquota, and a kernel \
             with the quota format vfsv1 (module quota_v2)"
        }
        "xfs" => "XFS needs the mount option pquota, and a kernel with CONFIG_XFS_QUOTA",
        _ => "it needs ext4 or XFS with project quotas turned on",
    };
    tracing::debug!(?enforced, filesystem, "no project quotas");
    Err(Error::NoQuotas {
        path: on.to_owned(),
        filesystem,
        needs,
    })
}

/// The name of a folder's file system, as `docker info` has it.
pub(crate) fn file_system(on: &Path) -> &'static str {
    let Ok(found) = fs::statfs(on) else {
        return "<unknown>";
    };
    match found.filesystem_type() {
        fs::EXT4_SUPER_MAGIC => "extfs",
        fs::XFS_SUPER_MAGIC => "xfs",
        fs::BTRFS_SUPER_MAGIC => "btrfs",
        fs::TMPFS_MAGIC => "tmpfs",
        fs::OVERLAYFS_SUPER_MAGIC => "overlayfs",
        fs::NFS_SUPER_MAGIC => "nfs",
        // Without constants in nix.
        fs::FsType(0xf2f5_2010) => "f2fs",
        fs::FsType(0x2fc1_2fc1) => "zfs",
        _ => "<unknown>",
    }
}

fn open(folder: &Path) -> Result<File> {
    File::open(folder).map_err(Error::io("open", folder))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn numbers(offsets: &[u32]) -> HashSet<u32> {
        offsets.iter().map(|offset| PROJECTS.start + offset).collect()
    }

    proptest! {
        #[test]
        fn a_number_is_nobodys_and_none_below_it_is_free(
            held in proptest::collection::vec(0u32..40, 0..40),
            known in proptest::collection::vec(0u32..40, 0..40),
        ) {
            let (held, known) = (numbers(&held), numbers(&known));
            let found = lowest(&held, |project| Ok(known.contains(&project))).unwrap();
            prop_assert!(PROJECTS.contains(&found) && !held.contains(&found) && !known.contains(&found));
            prop_assert!((PROJECTS.start..found).all(|below| held.contains(&below) || known.contains(&below)));
        }
    }

    #[test]
    fn when_all_are_used_that_is_said() {
        assert!(matches!(
            lowest(&HashSet::new(), |_| Ok(true)),
            Err(Error::NoProjectLeft { .. })
        ));
        assert!(matches!(
            lowest(&PROJECTS.collect(), |_| Ok(false)),
            Err(Error::NoProjectLeft { .. })
        ));
    }

    #[test]
    fn a_file_system_without_projects_is_named() {
        // It has no disk to count on, on every machine.
        let error = supported(Path::new("/proc")).unwrap_err().to_string();
        assert!(
            error.contains("--storage-opt size") && error.contains("ext4 or XFS"),
            "{error}"
        );
    }
}

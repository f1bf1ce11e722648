//! Folders that look like mounted hierarchies, in any layout. What the kernel would put into a new group is put there by
//! hand.

use crate::cgroup::detect::Tree;
use crate::cgroup::{CgroupPath, Cgroups};
use crate::plan::{CgroupPlan, CgroupWrite};
use std::fs;
use std::path::{Path, PathBuf};

pub struct Trees {
    root: tempfile::TempDir,
    mountinfo: String,
}

impl Trees {
    pub fn new() -> Trees {
        Trees {
            root: tempfile::tempdir().unwrap(),
            mountinfo: String::new(),
        }
    }

    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// A v1 hierarchy of these controllers, at a place of that name.
    pub fn v1(mut self, controllers: &str) -> Trees {
        let place = self.path().join(controllers);
        fs::create_dir(&place).unwrap();
        let line = format!("30 31 0:38 / {} rw - cgroup cgroup rw,{controllers}\n", place.display());
        self.mountinfo.push_str(&line);
        for folder in [place.clone(), place.join("iechor")] {
            let _ = fs::create_dir(&folder);
            for name in controllers.split(',') {
                if name == "cpuset" {
                    fs::write(folder.join("cpuset.cpus"), "0-3\n").unwrap();
                    fs::write(folder.join("cpuset.mems"), "0\n").unwrap();
                }
            }
        }
        self
    }

    /// The unified hierarchy with these controllers, at `v2`.
    pub fn v2(mut self, controllers: &str) -> Trees {
        let place = self.path().join("v2");
        let line = format!("41 31 0:38 / {} rw - cgroup2 cgroup2 rw\n", place.display());
        self.mountinfo.push_str(&line);
        for folder in [place.clone(), place.join("iechor")] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cgroup.controllers"), controllers).unwrap();
            fs::write(folder.join("cgroup.subtree_control"), "").unwrap();
            fs::write(folder.join("cgroup.procs"), "").unwrap();
        }
        self
    }

    /// Writes a file below a hierarchy; the folders are made.
    pub fn file(self, path: &str, text: &str) -> Trees {
        self.set(path, text);
        self
    }

    pub fn set(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn get(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap()
    }

    pub fn groups(&self) -> Cgroups {
        Cgroups::of(Tree::parse(&self.mountinfo).unwrap())
    }

    /// `HIERARCHY/GROUP/FILE=VALUE`, without the place of the trees.
    pub fn lines(&self, writes: &[CgroupWrite]) -> Vec<String> {
        writes
            .iter()
            .map(|write| format!("{}={}", self.short(&write.path), write.value))
            .collect()
    }

    pub fn own(&self, plan: &CgroupPlan) -> Vec<String> {
        plan.own.iter().map(|path| self.short(path)).collect()
    }

    pub fn short(&self, path: &Path) -> String {
        let path: PathBuf = path.strip_prefix(self.path()).unwrap().into();
        path.to_str().unwrap().to_owned()
    }
}

pub fn parent() -> CgroupPath {
    CgroupPath::new("iechor").unwrap()
}

pub fn own() -> CgroupPath {
    parent().child("c1").unwrap()
}

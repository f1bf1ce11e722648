//! Resource classes of Intel's Resource Director Technology, by the kernel's `resctrl` file system.

use std::fs;
use std::io;
use std::path::PathBuf;

use runtime::plan::Rdt;
use runtime::proto::Step;

use crate::failure::{At, Result};

/// Puts a process, and what it will start, into the class; makes the class where it is the container's own.
pub fn join(rdt: &Rdt, pid: i32, id: &str) -> Result<()> {
    let outcome = try_join(rdt, pid, id);
    if outcome.is_err() {
        remove(rdt, id);
    }
    outcome
}

fn try_join(rdt: &Rdt, pid: i32, id: &str) -> Result<()> {
    if rdt.owned {
        made(fs::create_dir(&rdt.folder)).at(Step::Rdt, &rdt.folder)?;
    }
    if !rdt.schemata.is_empty() {
        let file = rdt.folder.join("schemata");
        // One write: the kernel takes all lines or none.
        fs::write(&file, rdt.schemata.join("\n") + "\n").at(Step::Rdt, &file)?;
    }
    let mut folders = vec![rdt.folder.clone()];
    if rdt.monitoring {
        let group = monitoring(rdt, id);
        made(fs::create_dir(&group)).at(Step::Rdt, &group)?;
        folders.push(group);
    }
    for folder in folders {
        let file = folder.join("tasks");
        fs::write(&file, pid.to_string()).at(Step::Rdt, &file)?;
    }
    Ok(())
}

fn made(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn monitoring(rdt: &Rdt, id: &str) -> PathBuf {
    rdt.folder.join("mon_groups").join(id)
}

/// Takes away what was the container's own. What is gone already is fine.
pub fn remove(rdt: &Rdt, id: &str) {
    if rdt.monitoring {
        let _ = fs::remove_dir(monitoring(rdt, id));
    }
    if rdt.owned {
        let _ = fs::remove_dir(&rdt.folder);
    }
}

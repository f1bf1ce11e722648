//! `ps`: the processes of a container, by number or as ps(1) shows them.

use std::process::Command;

use runtime::cgroup::{CgroupPath, Cgroups};

use crate::args::{Global, Ps};
use crate::error::{Context, Error, Result};
use crate::state::Container;

pub fn run(global: &Global, args: &Ps) -> Result<u8> {
    let container = Container::load(&global.root, &args.id)?;
    let path = CgroupPath::new(&container.record.cgroup)?;
    let cgroups = Cgroups::detect()?;
    let pids = match cgroups.exists(&path) {
        true => cgroups.pids(&path)?,
        false => Vec::new(),
    };
    match &*args.format {
        "json" => println!("{}", serde_json::to_string(&pids)?),
        "table" => table(&pids, &args.args)?,
        other => return Err(Error::new(format!("invalid format {other:?}: table or json"))),
    }
    Ok(0)
}

fn table(pids: &[i32], args: &[String]) -> Result<()> {
    let mut command = Command::new("ps");
    match args {
        [] => command.arg("-ef"),
        args => command.args(args),
    };
    let output = command.output().context("cannot run ps")?;
    if !output.status.success() {
        return Err(Error::new(format!(
            "ps: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .ok_or_else(|| Error::new("ps shows no column PID"))?;
    println!("{title}");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|text| text.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            println!("{line}");
        }
    }
    Ok(())
}

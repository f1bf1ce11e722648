//! One file per verb.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
pub mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use crate::args::{Args, Command};
use crate::error::{Error, Result};
use crate::log::Log;

/// Carries a call out. The code is that of this process.
pub fn run(args: Args, log: &Log) -> Result<u8> {
    let global = &args.global;
    if global.version {
        print_version();
        return Ok(0);
    }
    if !matches!(&*global.rootless, "auto" | "true" | "false") {
        return Err(Error::new(format!(
            "--rootless: {:?} is not true, false or auto",
            global.rootless
        )));
    }
    let Some(command) = args.command else {
        return Err(Error::new("no command given; try --help"));
    };
    log.debug(|| format!("{command:?}"));
    match command {
        Command::Create(args) => create::run(global, &args, log),
        Command::Start(args) => start::run(global, &args.id, log),
        Command::Run(args) => run::run(global, &args, log),
        Command::State(args) => state::run(global, &args.id),
        Command::Kill(args) => kill::run(global, &args),
        Command::Delete(args) => delete::run(global, &args, log),
        Command::Exec(args) => exec::run(global, &args, log),
        Command::List(args) => list::run(global, &args),
        Command::Pause(args) => pause::run(global, &args.id, true),
        Command::Resume(args) => pause::run(global, &args.id, false),
        Command::Update(args) => update::run(global, &args),
        Command::Events(args) => events::run(global, &args),
        Command::Ps(args) => ps::run(global, &args),
        Command::Features => features::run(),
        Command::Spec(args) => spec::run(&args),
        Command::Checkpoint(_) => checkpoint::run("checkpoint"),
        Command::Restore(_) => checkpoint::run("restore"),
    }
}

fn print_version() {
    println!("iechor-runtime version {}", env!("CARGO_PKG_VERSION"));
    println!("spec: {}", runtime::spec::VERSION);
}

/// Changes the resource class of a container that has one of its own.
fn rdt(container: &crate::state::Container, args: &crate::args::Update) -> Result<()> {
    use crate::error::Context;
    let plan = container.plan()?;
    let Some(rdt) = plan.head.rdt.as_ref() else {
        return Err(Error::new("the container has no resource class (linux.intelRdt)"));
    };
    for line in [&args.l3_cache_schema, &args.mem_bw_schema].into_iter().flatten() {
        let path = rdt.folder.join("schemata");
        std::fs::write(&path, format!("{line}\n")).context(format!("cannot write {line:?} to {}", path.display()))?;
    }
    Ok(())
}

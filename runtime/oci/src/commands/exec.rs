//! `exec`: a further process in a running container.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;

use runtime::plan::{ConsoleSize, ExecPlan, Plan, Stdin, User};
use runtime::seccomp::Filter;
use runtime::{capabilities, spec};
use runtime_container::{Agent, Entered, Host, Options, report};

use crate::args::{Exec, Global};
use crate::console;
use crate::error::{Context, Error, Result, of_failure};
use crate::foreground;
use crate::launch::{kept, write_pid};
use crate::log::Log;
use crate::state::{Container, Status};

pub fn run(global: &Global, args: &Exec, log: &Log) -> Result<u8> {
    let container = Container::load(&global.root, &args.id)?;
    let init = match container.process() {
        Some(process) => process,
        None => return Err(Error::new("cannot exec in a stopped container")),
    };
    if container.status() == Status::Paused && !args.ignore_paused {
        return Err(Error::new(
            "cannot exec in a paused container (use --ignore-paused to override)",
        ));
    }
    if let Some(cgroup) = args.cgroup.first() {
        return Err(Error::new(format!(
            "--cgroup {cgroup} is not supported by this runtime"
        )));
    }
    let made = container.plan()?;
    let plan = plan(args, &made, log)?;
    let terminal = plan.terminal.is_some();
    if args.detach && terminal && args.console_socket.is_none() {
        return Err(Error::new(
            "a terminal and --detach need --console-socket: nobody stays to be the terminal",
        ));
    }
    if args.console_socket.is_some() && !(terminal && args.detach) {
        return Err(Error::new("--console-socket is for a detached process with a terminal"));
    }
    let host = Host::open().context("cannot start processes here")?;
    if !args.detach {
        foreground::prepare()?;
    }
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let namespaces = &made.head.namespaces;
    let spawned = runtime_container::exec(
        &host,
        &runtime_container::Exec {
            plan: &plan,
            container: Entered {
                init: init.as_fd(),
                pid: container.record.pid,
                namespaces: namespaces.kinds(),
                cgroup: &made.head.cgroup,
            },
            options: Options {
                streams: [Some(stdin.as_fd()), Some(stdout.as_fd()), Some(stderr.as_fd())],
                keep: kept(args.preserve_fds)?,
                ..Options::default()
            },
        },
    )
    .map_err(of_failure)?;
    let agent = plan.process.listener.as_ref().map(|listener| Agent {
        listener,
        pid: spawned.pid,
        status: "running",
        init: container.record.pid,
    });
    let mut report = match report(&spawned.sync, agent.as_ref()) {
        Ok(report) => report,
        Err(failure) => {
            spawned.kill();
            // As runc: what could not be run has no code of its own.
            return Err(of_failure(failure).with_code(255));
        }
    };
    if let Some(path) = &args.pid_file {
        write_pid(path, spawned.pid).inspect_err(|_| spawned.kill())?;
    }
    if let (Some(master), Some(socket)) = (&report.terminal, &args.console_socket) {
        console::hand_over(socket, master).inspect_err(|_| spawned.kill())?;
        report.terminal = None;
    }
    if args.detach {
        return Ok(0);
    }
    let ended = foreground::wait(spawned.pid, &spawned.pidfd, report.terminal)?;
    Ok(u8::try_from(ended.code).unwrap_or(255))
}

/// The process of `--process`, or the container's own with changes.
fn plan(args: &Exec, made: &Plan, log: &Log) -> Result<ExecPlan> {
    let mut plan = match &args.process {
        Some(path) => {
            let json = fs::read(path).context(format!("cannot read {}", path.display()))?;
            let (process, told) = spec::load_process(&json).context(format!("cannot read {}", path.display()))?;
            told.iter().for_each(|line| log.warning(line));
            let filter = Filter {
                program: made.process.seccomp.to_vec(),
                flags: made.process.seccomp_flags,
                ..Filter::default()
            };
            let mut plan = spec::compile_exec(&process, None, Stdin::Null, &filter)?;
            plan.process.tuning.personality = made.process.tuning.personality;
            plan
        }
        None => {
            if args.args.is_empty() {
                return Err(Error::new("process args cannot be empty"));
            }
            let mut process = made.process.clone();
            process.argv = args.args.iter().map(OsString::from).collect();
            ExecPlan {
                process,
                stdin: Stdin::Null,
                terminal: None,
            }
        }
    };
    let process = &mut plan.process;
    process.listener = made.process.listener.clone();
    if let Some(cwd) = &args.cwd {
        process.cwd = cwd.clone();
    }
    for entry in &args.env {
        if entry.find('=').is_none_or(|at| at == 0) {
            return Err(Error::new(format!("--env: {entry:?} is not NAME=VALUE")));
        }
        process.env.push(entry.into());
    }
    if let Some(user) = &args.user {
        process.user = parse_user(user)?;
    }
    if let (User::Ids { groups, .. }, false) = (&mut process.user, args.additional_gids.is_empty()) {
        groups.extend(&args.additional_gids);
    }
    if let Some(label) = &args.process_label {
        process.labels.selinux.clone_from(label);
    }
    if let Some(profile) = &args.apparmor {
        process.labels.apparmor.clone_from(profile);
    }
    process.no_new_privs |= args.no_new_privs;
    let added = capabilities::mask(&args.cap).map_err(|name| Error::new(format!("--cap: {name:?} is not known")))?;
    let added = added & capabilities::available();
    process.caps.bounding |= added;
    process.caps.effective |= added;
    process.caps.permitted |= added;
    if args.tty && plan.terminal.is_none() {
        plan.terminal = Some(ConsoleSize { rows: 0, cols: 0 });
    }
    Ok(plan)
}

fn parse_user(text: &str) -> Result<User> {
    let bad = || Error::new(format!("--user: {text:?} is not UID or UID:GID"));
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    Ok(User::Ids {
        uid: uid.parse().map_err(|_| bad())?,
        gid: gid.parse().map_err(|_| bad())?,
        groups: Vec::new(),
    })
}

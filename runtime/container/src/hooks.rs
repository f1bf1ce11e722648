//! Programs that a configuration wants to be run at points of a container's life (OCI runtime specification, "Hooks").

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runtime::plan::Hook;
use runtime::proto::Step;
use runtime_sys::{fd, pidfd, signals};

use crate::failure::{At, Result, failure};

/// How much of what a failed hook said is handed on, in bytes.
const COMPLAINT: usize = 4096;

/// Runs hooks one after the other, each with `state` on its standard input.
///
/// # Errors
/// The first one that cannot be run, ends with anything but 0, or takes longer than it may; the rest is not run.
pub fn run_all(hooks: &[Hook], state: &str) -> Result<()> {
    hooks.iter().try_for_each(|hook| run(hook, state))
}

/// Runs hooks of which each is run whatever the others do, and returns what went wrong.
pub fn run_each(hooks: &[Hook], state: &str) -> Vec<runtime::proto::Failure> {
    hooks.iter().filter_map(|hook| run(hook, state).err()).collect()
}

fn run(hook: &Hook, state: &str) -> Result<()> {
    let subject = &hook.path;
    // Files in memory instead of pipes: nothing can fill up, nobody has to be read from while the other end waits.
    let input = in_memory(state.as_bytes()).at(Step::Hook, subject)?;
    let mut output = in_memory(b"").at(Step::Hook, subject)?;
    let said = || output.try_clone().map(Stdio::from);
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    command.env_clear();
    for entry in &hook.env {
        use std::os::unix::ffi::OsStrExt;
        let bytes = entry.as_bytes();
        let split = bytes.iter().position(|&byte| byte == b'=').unwrap_or(bytes.len());
        let value = bytes.get(split + 1..).unwrap_or_default();
        command.env(
            std::ffi::OsStr::from_bytes(&bytes[..split]),
            std::ffi::OsStr::from_bytes(value),
        );
    }
    command.stdin(input).stdout(said().at(Step::Hook, subject)?);
    command.stderr(said().at(Step::Hook, subject)?);
    // In a group of its own, so that what it started goes with it when it takes too long.
    command.process_group(0);
    // Whoever runs it may block every signal: a shim does, and a child in its set-up.
    signals::unblock_in(&mut command);
    let child = command.spawn().at(Step::Hook, subject)?;
    let limit = (hook.timeout > 0).then(|| Duration::from_millis(hook.timeout));
    match wait(child, limit).at(Step::Hook, subject)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failure(
            Step::Hook,
            subject,
            Errno::UnknownErrno,
            format!("{status}: {}", complaint(&mut output)),
        )),
        None => Err(failure(
            Step::Hook,
            subject,
            Errno::ETIMEDOUT,
            format!("it was killed after {} ms", hook.timeout),
        )),
    }
}

fn in_memory(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(fd::memory_file(c"iechor-hook")?);
    file.write_all(content)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn complaint(output: &mut File) -> String {
    let mut text = Vec::new();
    let length = output.seek(SeekFrom::End(0)).unwrap_or(0);
    let _ = output.seek(SeekFrom::Start(length.saturating_sub(COMPLAINT as u64)));
    let _ = output.take(COMPLAINT as u64).read_to_end(&mut text);
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// `None` when it took longer than `limit` and was killed.
fn wait(mut child: Child, limit: Option<Duration>) -> io::Result<Option<ExitStatus>> {
    let Some(limit) = limit else {
        return child.wait().map(Some);
    };
    let process = pidfd::open(child.id() as i32)?;
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis().min(i32::MAX as u128) as i32).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if Instant::now() >= deadline => break,
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return child.wait().map(Some),
            Err(errno) => return Err(errno.into()),
        }
    }
    let _ = pidfd::kill(-(child.id() as i32), libc::SIGKILL);
    let _ = child.kill();
    child.wait()?;
    Ok(None)
}

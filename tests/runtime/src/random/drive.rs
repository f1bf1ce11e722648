//! One case on the machine: made, looked at, and gone again.

use std::fs::File;
use std::io::{PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::kernel::Process;
use harness::tools::patience;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runtime_sys::pidfd;

use super::draft::{Check, Draft, Kind, Place, Stage};
use super::draw::Draw;
use super::seen::Seen;
use super::{limits, texts};
use crate::world::World;

/// What became of a case that did as it should.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ran,
    Refused,
}

/// A bundle on the disk; removed when dropped, with the container that may be left.
struct Bundle<'a> {
    world: &'a World,
    place: &'a Place,
}

impl Bundle<'_> {
    fn make<'a>(world: &'a World, draft: &'a Draft, text: &[u8]) -> std::io::Result<Bundle<'a>> {
        let folder = &draft.place.folder;
        let rootfs = folder.join("rootfs");
        let folders = [
            "bin",
            "dev",
            "etc",
            "etc/fixed",
            "home",
            "opt",
            "opt/hidden",
            "opt/fixed",
            "proc",
            "run",
            "sys",
            "target",
            "tmp",
            "m",
            "f",
            "nodes",
        ];
        for name in folders {
            std::fs::create_dir_all(rootfs.join(name))?;
        }
        for (name, text) in [
            (
                "etc/passwd",
                "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
            ),
            ("etc/secret", "hidden\n"),
            ("opt/hidden/file", "hidden\n"),
            ("opt/fixed/file", "fixed\n"),
        ] {
            std::fs::write(rootfs.join(name), text)?;
        }
        std::fs::set_permissions(rootfs.join("tmp"), PermissionsExt::from_mode(0o1777))?;
        symlink("/target", rootfs.join("link"))?;
        std::fs::hard_link(world.folder().join("probe"), rootfs.join("bin/probe"))?;
        std::fs::create_dir_all(folder.join("volume/folder"))?;
        for name in ["folder/marker", "file"] {
            std::fs::write(folder.join("volume").join(name), "of the host\n")?;
        }
        if draft.users.is_some() {
            // The container's folders are its root's.
            let (user, group) = (Some(draft.user(0)), Some(draft.group(0)));
            for name in folders.into_iter().chain([""]) {
                lchown_in(&rootfs, name, user, group)?;
            }
        }
        std::fs::write(folder.join("config.json"), text)?;
        Ok(Bundle {
            world,
            place: &draft.place,
        })
    }

    /// A call of the runtime; its errors go to a file.
    fn call(&self, verb: &str, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.world.runtime);
        command
            .arg("--root")
            .arg(self.world.state_root())
            .arg(verb)
            .args(flags)
            .arg(&self.place.id);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn errors(&self) -> Result<File, String> {
        File::create(self.place.folder.join("errors")).map_err(|error| error.to_string())
    }

    /// Runs a call to its end: whether it worked, and what it said.
    fn run(&self, mut command: Command, what: &str) -> Result<(bool, String), String> {
        let child = command.stderr(self.errors()?).spawn();
        let mut child = child.map_err(|error| format!("{what}: {error}"))?;
        // Its pipes are ours to close.
        drop(command);
        let code = finish(&mut child).map_err(|why| format!("{what} {why}"))?;
        let said = std::fs::read(self.place.folder.join("errors")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        match code {
            Some(0) => Ok((true, said)),
            Some(1 | 126 | 127) => Ok((false, said)),
            other => Err(format!("{what} ended with {other:?}: {said}")),
        }
    }

    /// Nothing of it is anywhere.
    fn left(&self) -> Result<(), String> {
        let state = self.world.state_root().join(&self.place.id);
        if state.exists() {
            return Err(format!("left behind: {}", state.display()));
        }
        if let Some(group) = limits::left(self.place) {
            return Err(format!("left behind: {}", group.display()));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        match mounts.lines().find(|line| line.contains(&self.place.id)) {
            Some(mount) => Err(format!("left behind: {mount}")),
            None => Ok(()),
        }
    }
}

impl Drop for Bundle<'_> {
    fn drop(&mut self) {
        if self.left().is_err() {
            let _ = self.run(self.call("delete", &["--force"]), "delete");
        }
        let _ = std::fs::remove_dir_all(&self.place.folder);
    }
}

fn lchown_in(rootfs: &Path, name: &str, user: Option<u32>, group: Option<u32>) -> std::io::Result<()> {
    lchown(rootfs.join(name), user, group)
}

/// Waits for a call's end; one that hangs is killed.
fn finish(child: &mut Child) -> Result<Option<i32>, String> {
    let process = pidfd::open(child.id() as i32).map_err(|error| error.to_string())?;
    if !readable(&process, patience(30)) {
        let _ = child.kill();
        let _ = child.wait();
        return Err("did not end within 30 s".to_owned());
    }
    Ok(child.wait().map_err(|error| error.to_string())?.code())
}

/// Whether there is something to read (a process: whether it has ended) in time.
fn readable(file: &impl AsFd, time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut watched = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// Reads until `end` comes, or the end of the pipe; that of the pipe is an error if nobody is to close it yet.
fn read(pipe: &mut PipeReader, end: Option<&str>) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        if !readable(pipe, patience(10)) {
            return Err(match end {
                Some(_) => "the process says nothing".to_owned(),
                None => "somebody still holds the container's streams".to_owned(),
            });
        }
        let count = pipe.read(&mut part).map_err(|error| error.to_string())?;
        bytes.extend(&part[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match (end, count) {
            (None, 0) => return Ok(text),
            (Some(_), 0) => return Err(format!("the process ended; it said {text:?}")),
            (Some(end), _) if text.ends_with(end) => return Ok(text),
            _ => {}
        }
    }
}

/// An error is one line that says something.
fn one_error(said: &str, draft: &Draft) -> Result<(), String> {
    let lines: Vec<&str> = said.lines().collect();
    let errors: Vec<&&str> = lines.iter().filter(|line| line.contains(" level=error ")).collect();
    let others = lines
        .iter()
        .any(|line| !line.contains(" level=error ") && !line.contains(" level=warning "));
    let [error] = errors[..] else {
        return Err(format!("refused with {} lines of errors: {said:?}", errors.len()));
    };
    let message = error.split_once(" msg=").map_or("", |(_, message)| message);
    if others || message.len() < 12 || message.contains("panicked") || message.len() > 8000 {
        return Err(format!("not a clear error: {said:?}"));
    }
    if draft.kind == Kind::Broken && !draft.names.iter().any(|name| message.contains(name)) {
        return Err(format!("the error names none of {:?}: {message}", draft.names));
    }
    Ok(())
}

/// Runs a case. The error says what was not as it has to be.
pub fn case(world: &World, draft: &Draft, text: &[u8], draw: &mut Draw) -> Result<Outcome, String> {
    let bundle = Bundle::make(world, draft, text).map_err(|error| format!("the bundle: {error}"))?;
    let refused = |said: &str, stage: Stage| -> Result<Outcome, String> {
        match draft.kind {
            Kind::Valid => return Err(format!("refused: {said}")),
            Kind::Daring if draft.doubts.is_empty() => return Err(format!("refused: {said}")),
            Kind::Broken if draft.stage != stage => return Err(format!("refused by {stage:?}: {said}")),
            _ => {}
        }
        one_error(said, draft)?;
        Ok(Outcome::Refused)
    };
    let (mut output, theirs) = std::io::pipe().map_err(|error| error.to_string())?;
    let (input, ours) = std::io::pipe().map_err(|error| error.to_string())?;
    let pid_file = draft.place.at("pid");
    let mut create = bundle.call("create", &["--bundle", &draft.place.at(""), "--pid-file", &pid_file]);
    create.stdin(input).stdout(theirs);
    let (made, said) = bundle.run(create, "create")?;
    if !made {
        // Its end also says that no process is left which has inherited it.
        let printed = read(&mut output, None)?;
        if !printed.is_empty() {
            return Err(format!("create printed {printed:?}"));
        }
        bundle.left()?;
        return refused(&said, Stage::Create);
    }
    let pid = std::fs::read_to_string(&pid_file).map_err(|error| format!("{pid_file}: {error}"))?;
    let process = Process(pid.parse().map_err(|_| format!("the pid is {pid:?}"))?);
    let handle = pidfd::open(process.0).map_err(|error| format!("process {pid}: {error}"))?;
    let (started, said) = bundle.run(bundle.call("start", &[]), "start")?;
    let outcome = if started {
        let report = read(&mut output, Some("end\n"))?;
        if draft.kind == Kind::Broken {
            return Err(format!("it runs; {:?} was to be refused", draft.names));
        }
        let state = || {
            let out = bundle.call("state", &[]).stdout(Stdio::piped()).output();
            out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned())
                .unwrap_or_default()
        };
        let seen = Seen {
            process,
            report: &report,
            state: &state,
        };
        judge(&draft.checks, &seen)?;
        Outcome::Ran
    } else {
        refused(&said, Stage::Start)?
    };
    end(&bundle, ours, &handle, started, draw)?;
    if !readable(&handle, Duration::ZERO) {
        return Err(format!("process {pid} is alive after delete"));
    }
    read(&mut output, None)?;
    if started {
        let seen = Seen {
            process,
            report: "",
            state: &String::new,
        };
        judge(&draft.afterwards, &seen)?;
    }
    bundle.left()?;
    Ok(outcome)
}

fn judge(checks: &[Check], seen: &Seen<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    for check in checks {
        if let Err(why) = (check.judge)(seen) {
            wrong.push(format!("{}: {why}", check.what));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("\n  "))
    }
}

/// By its own will, by a signal, or by force.
fn end(
    bundle: &Bundle<'_>,
    input: std::io::PipeWriter,
    handle: &impl AsFd,
    started: bool,
    draw: &mut Draw,
) -> Result<(), String> {
    let way = if started { draw.below(3) } else { 2 };
    let force: &[&str] = if way == 2 { &["--force"] } else { &[] };
    if way == 1 {
        let mut kill = Command::new(&bundle.world.runtime);
        kill.arg("--root")
            .arg(bundle.world.state_root())
            .args(["kill", &bundle.place.id, "KILL"]);
        expect_success(bundle.run(kill, "kill")?, "kill")?;
    }
    if way != 2 {
        drop(input);
        if !readable(handle, patience(10)) {
            return Err("the process does not end".to_owned());
        }
    }
    expect_success(bundle.run(bundle.call("delete", force), "delete")?, "delete")
}

fn expect_success((worked, said): (bool, String), what: &str) -> Result<(), String> {
    match worked {
        true => Ok(()),
        false => Err(format!("{what} failed: {said}")),
    }
}

/// The file of a case.
pub fn text(draft: &Draft, draw: &mut Draw) -> String {
    texts::write(&draft.config.0, draw)
}

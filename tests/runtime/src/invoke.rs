//! One call of the runtime, with a time limit.
//!
//! Output goes to files: a container that was created keeps the caller's streams, so that the end of a pipe would
//! never come.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use harness::Output;
use harness::process::note;
use harness::tools::patience;

/// A call that is being put together.
pub struct Invocation {
    command: Command,
    shown: String,
    out: PathBuf,
    err: PathBuf,
    input: Option<Vec<u8>>,
    seconds: u64,
    quiet: bool,
}

impl Invocation {
    /// `outputs` is the path of the two output files, without their endings.
    pub fn new(program: &Path, arguments: &[&str], outputs: &Path) -> Invocation {
        let mut command = Command::new(program);
        command.args(arguments);
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        Invocation {
            command,
            shown: format!("{name} {}", arguments.join(" ")).chars().take(600).collect(),
            out: outputs.with_extension("out"),
            err: outputs.with_extension("err"),
            input: None,
            seconds: 30,
            quiet: false,
        }
    }

    pub fn env(mut self, key: &str, value: &str) -> Invocation {
        self.command.env(key, value);
        self
    }

    /// What is on standard input, which is `/dev/null` otherwise.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Invocation {
        self.input = Some(bytes.into());
        self
    }

    /// Nothing of it comes into the report of a failed test: for what is asked again and again.
    pub fn quiet(mut self) -> Invocation {
        self.quiet = true;
        self
    }

    /// How long it may take.
    pub fn seconds(mut self, seconds: u64) -> Invocation {
        self.seconds = seconds;
        self
    }

    /// Starts it and returns at once.
    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let stdin = match &self.input {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        };
        let file = |path: &Path| File::create(path).expect("a file for output");
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(file(&self.out))
            .stderr(file(&self.err))
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.shown));
        if let (Some(input), Some(mut pipe)) = (self.input.take(), child.stdin.take()) {
            // A program that does not want all of its input is no failure of the test.
            std::thread::spawn(move || drop(pipe.write_all(&input)));
        }
        Running {
            child,
            shown: self.shown,
            out: self.out,
            err: self.err,
            seconds: self.seconds,
            quiet: self.quiet,
        }
    }

    /// Runs it to its end; one that does not end in time is killed, and the test fails.
    #[track_caller]
    pub fn output(self) -> Output {
        self.spawn().finish()
    }
}

/// A call under way; killed when dropped.
pub struct Running {
    child: Child,
    shown: String,
    out: PathBuf,
    err: PathBuf,
    seconds: u64,
    quiet: bool,
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the child's state").is_some()
    }

    /// Standard output so far.
    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    #[track_caller]
    pub fn finish(mut self) -> Output {
        let end = Instant::now() + patience(self.seconds);
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child's state") {
                break status;
            }
            if Instant::now() > end {
                let err = String::from_utf8_lossy(&std::fs::read(&self.err).unwrap_or_default()).into_owned();
                panic!(
                    "`{}` did not end within {} s; it said {:?} {err:?}",
                    self.shown,
                    self.seconds,
                    self.so_far()
                );
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(10));
        };
        let bytes = std::fs::read(&self.out).unwrap_or_default();
        let err = std::fs::read(&self.err).unwrap_or_default();
        let output = Output {
            code: code(status),
            out: String::from_utf8_lossy(&bytes).trim().to_owned(),
            err: String::from_utf8_lossy(&err).trim().to_owned(),
            bytes,
        };
        if self.quiet {
            return output;
        }
        let short = |text: &str| text.chars().take(1500).collect::<String>();
        note(format!(
            "$ {}\n  -> {}  {}  {}",
            self.shown,
            output.code,
            short(&output.out),
            short(&output.err)
        ));
        output
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The exit code; 128 + n for a signal.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

//! Child processes with a time limit and a transcript.
//!
//! Each thread keeps what it ran; the suite prints that when the test of the thread fails, so that tests need
//! no message for every assertion.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::tools::patience;

thread_local! {
    static TRANSCRIPT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Adds a line to the report that is printed if this thread's test fails.
pub fn note(line: String) {
    TRANSCRIPT.with_borrow_mut(|lines| lines.push(line));
}

/// What was noted, and nothing is noted any more.
pub fn take_transcript() -> Vec<String> {
    TRANSCRIPT.with_borrow_mut(std::mem::take)
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; 128 + n for a signal.
    pub code: i32,
    pub bytes: Vec<u8>,
    /// Standard output without the white space around it.
    pub out: String,
    pub err: String,
}

impl Output {
    /// Standard output of a command that must have worked.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == 0, "exit code {}: {}{}", self.code, self.out, self.err);
        self.out
    }

    /// The error text of a command that must have failed with `code`.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert!(
            self.code == code,
            "exit code {}, not {code}: {}{}",
            self.code,
            self.out,
            self.err
        );
        self.err
    }

    /// Lines of standard output.
    pub fn lines(&self) -> Vec<&str> {
        self.out.lines().collect()
    }
}

/// A command to run to its end.
pub struct Run {
    command: Command,
    shown: String,
    input: Option<Vec<u8>>,
    seconds: u64,
}

impl Run {
    pub fn new(program: &Path, arguments: &[&str]) -> Run {
        let mut command = Command::new(program);
        command.args(arguments);
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        Run {
            command,
            shown: format!("{name} {}", arguments.join(" ")),
            input: None,
            seconds: 60,
        }
    }

    pub fn env(mut self, key: &str, value: &str) -> Run {
        self.command.env(key, value);
        self
    }

    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.input = Some(bytes.into());
        self
    }

    pub fn seconds(mut self, seconds: u64) -> Run {
        self.seconds = seconds;
        self
    }

    /// Runs it; a process that does not end in time is killed and the test fails.
    #[track_caller]
    pub fn output(mut self) -> Output {
        let stdin = if self.input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        self.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.shown));
        if let (Some(input), Some(mut pipe)) = (self.input.take(), child.stdin.take()) {
            // A program that does not want all of its input is no failure of the test.
            std::thread::spawn(move || drop(pipe.write_all(&input)));
        }
        let out = reader(child.stdout.take());
        let err = reader(child.stderr.take());
        let end = Instant::now() + patience(self.seconds);
        let mut pause = std::time::Duration::from_millis(1);
        let code = loop {
            if let Some(status) = child.try_wait().expect("the child's state") {
                break exit_code(status);
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                note(format!("$ {}\n  did not end within {} s", self.shown, self.seconds));
                panic!("`{}` did not end within {} s", self.shown, self.seconds);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(std::time::Duration::from_millis(10));
        };
        let bytes = out.join().expect("the reader of stdout");
        let err = err.join().expect("the reader of stderr");
        let output = Output {
            code,
            out: String::from_utf8_lossy(&bytes).trim().to_owned(),
            err: String::from_utf8_lossy(&err).trim().to_owned(),
            bytes,
        };
        note(format!(
            "$ {}\n  -> {}  {}  {}",
            self.shown,
            code,
            short(&output.out),
            short(&output.err)
        ));
        output
    }
}

/// A child that runs beside the test, killed when dropped.
pub struct Background {
    child: std::process::Child,
    out: Option<std::thread::JoinHandle<Vec<u8>>>,
    seen: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Background {
    #[track_caller]
    pub fn start(program: &Path, arguments: &[&str]) -> Background {
        note(format!("$ {} {} &", program.display(), arguments.join(" ")));
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut pipe = child.stdout.take().expect("a piped stdout");
        let shared = seen.clone();
        let out = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                shared.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
            shared.lock().unwrap().clone()
        });
        Background {
            child,
            out: Some(out),
            seen,
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it has written so far.
    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    #[track_caller]
    pub fn expect(&self, text: &str) {
        crate::tools::eventually(&format!("the output has {text:?}"), 20, || self.so_far().contains(text));
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.child
            .stdin
            .as_mut()
            .expect("stdin is open")
            .write_all(bytes)
            .expect("write to the child");
    }

    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// Its exit code and all of its output.
    #[track_caller]
    pub fn finish(mut self, seconds: u64) -> (i32, String) {
        let end = Instant::now() + patience(seconds);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the child's state") {
                break status;
            }
            assert!(
                Instant::now() < end,
                "the process in the background did not end within {seconds} s: {}",
                self.so_far()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let bytes = self.out.take().expect("a reader").join().expect("the reader of stdout");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        note(format!("  (background) -> {} {}", exit_code(status), short(&text)));
        (exit_code(status), text)
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

pub(crate) fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn short(text: &str) -> String {
    const SHOWN: usize = 1500;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

//! A real terminal with a program in it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use nix::pty::{Winsize, openpty};

use crate::process::{exit_code, note};
use crate::tools::patience;

type Screen = Arc<(Mutex<(Vec<u8>, bool)>, Condvar)>;

/// A program whose controlling terminal is ours to type on.
pub struct Terminal {
    child: Child,
    keys: File,
    slave: String,
    screen: Screen,
    /// How much of the output earlier expectations have used up.
    used: usize,
}

impl Terminal {
    #[track_caller]
    pub fn start(program: &Path, arguments: &[&str], rows: u16, columns: u16) -> Terminal {
        note(format!(
            "$ (terminal {rows}x{columns}) {} {}",
            program.display(),
            arguments.join(" ")
        ));
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).expect("a pseudo terminal");
        let slave = nix::unistd::ttyname(&pty.slave).expect("the terminal's name");
        let input = File::from(pty.slave);
        let copy = || input.try_clone().expect("a copy of the terminal");
        // `setsid --ctty` makes it the controlling terminal; by hand that would need unsafe code here.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(program)
            .args(arguments)
            .env("TERM", "xterm")
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .spawn()
            .expect("setsid from util-linux");
        drop(input);
        let keys = File::from(pty.master);
        let screen: Screen = Arc::default();
        watch(keys.try_clone().expect("a copy of the terminal"), screen.clone());
        Terminal {
            child,
            keys,
            slave: slave.to_str().expect("a path").to_owned(),
            screen,
            used: 0,
        }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn send(&mut self, keys: &[u8]) {
        note(format!("  keys {:?}", String::from_utf8_lossy(keys)));
        self.keys.write_all(keys).expect("type on the terminal");
    }

    /// A line with the return key.
    pub fn line(&mut self, text: &str) {
        self.send(format!("{text}\r").as_bytes());
    }

    /// Waits until `text` appears after what earlier expectations matched; returns what came before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + patience(20);
        let (lock, changed) = &*self.screen;
        let mut screen = lock.lock().unwrap();
        loop {
            let fresh = &screen.0[self.used..];
            if let Some(at) = fresh.windows(text.len()).position(|window| window == text.as_bytes()) {
                let before = String::from_utf8_lossy(&fresh[..at]).into_owned();
                self.used += at + text.len();
                return before;
            }
            let left = end.saturating_duration_since(Instant::now());
            let shown = String::from_utf8_lossy(fresh).into_owned();
            assert!(!left.is_zero(), "the terminal never showed {text:?}, but {shown:?}");
            assert!(!screen.1, "the terminal closed before {text:?}; it showed {shown:?}");
            screen = changed.wait_timeout(screen, left).unwrap().0;
        }
    }

    /// Changes the window's size, as a terminal program does when its window is dragged.
    pub fn resize(&self, rows: u16, columns: u16) {
        let status = Command::new("stty")
            .args([
                "-F",
                &self.slave,
                "rows",
                &rows.to_string(),
                "cols",
                &columns.to_string(),
            ])
            .status()
            .expect("stty from coreutils");
        assert!(status.success(), "stty could not resize {}", self.slave);
    }

    /// Whether the terminal is in canonical mode with echo, as a shell expects it back.
    pub fn is_cooked(&self) -> bool {
        let out = Command::new("stty")
            .args(["-F", &self.slave, "-a"])
            .output()
            .expect("stty");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        ["icanon", "echo", "isig", "opost"]
            .iter()
            .all(|flag| text.split_whitespace().any(|word| word == *flag))
    }

    /// Waits for the program's end; its exit code.
    #[track_caller]
    pub fn finish(&mut self) -> i32 {
        let end = Instant::now() + patience(20);
        loop {
            if let Some(status) = self.child.try_wait().expect("the child's state") {
                note(format!("  (terminal) -> {}", exit_code(status)));
                return exit_code(status);
            }
            if Instant::now() > end {
                let shown = self.screen.0.lock().unwrap().0.clone();
                panic!(
                    "the program on the terminal did not end; it showed {:?}",
                    String::from_utf8_lossy(&shown)
                );
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.screen.0.lock().unwrap().0).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch(mut output: File, screen: Screen) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // EIO when the last process has closed the terminal.
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            screen.0.lock().unwrap().0.extend_from_slice(&buffer[..count]);
            screen.1.notify_all();
        }
        screen.0.lock().unwrap().1 = true;
        screen.1.notify_all();
    });
}

//! The other end of `--console-socket`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use harness::process::note;
use harness::tools::{eventually, patience};
use nix::sys::stat::fstat;

/// A socket that waits for a terminal's master.
pub struct ConsoleSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ConsoleSocket {
    pub fn listen(path: &Path) -> ConsoleSocket {
        let listener = UnixListener::bind(path).expect("a console socket");
        listener.set_nonblocking(true).expect("a socket that does not block");
        ConsoleSocket {
            listener,
            path: path.to_path_buf(),
        }
    }

    pub fn path(&self) -> &str {
        self.path.to_str().expect("an UTF-8 path")
    }

    /// The master that the runtime has sent.
    #[track_caller]
    pub fn receive(&self) -> Console {
        self.try_receive().expect("no terminal was sent to the console socket")
    }

    /// As [`ConsoleSocket::receive`]; `None` when nobody connected or nothing was sent.
    #[track_caller]
    pub fn try_receive(&self) -> Option<Console> {
        let (stream, _) = self.listener.accept().ok()?;
        stream.set_nonblocking(false).expect("a socket that blocks");
        let mut name = [0; 4096];
        let (count, mut fds) = runtime_sys::seqpacket::receive(stream.as_fd(), &mut name).ok()?;
        note(format!(
            "  console socket: {:?} with {} descriptor(s)",
            String::from_utf8_lossy(&name[..count]),
            fds.len()
        ));
        assert!(
            fds.len() < 2,
            "{} descriptors came through the console socket",
            fds.len()
        );
        Some(Console::new(File::from(fds.pop()?)))
    }
}

/// A terminal's master, read in the background.
pub struct Console {
    pub master: File,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Console {
    fn new(master: File) -> Console {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut source, sink) = (master.try_clone().expect("a copy of the master"), seen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Console { master, seen }
    }

    /// Whether this is `/dev/ptmx` (5:2), and not something that the container put in its place.
    pub fn is_pty_master(&self) -> bool {
        let device = fstat(&self.master).expect("the master's status").st_rdev;
        (nix::sys::stat::major(device), nix::sys::stat::minor(device)) == (5, 2)
    }

    pub fn type_line(&self, text: &str) {
        let mut master = &self.master;
        master
            .write_all(format!("{text}\n").as_bytes())
            .expect("type on the console");
    }

    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    #[track_caller]
    pub fn expect(&self, text: &str) {
        let end = Instant::now() + patience(10);
        while !self.shown().contains(text) && Instant::now() < end {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let shown = self.shown();
        assert!(shown.contains(text), "the console never showed {text:?}, but {shown:?}");
    }

    /// Waits until output stops coming for a moment.
    pub fn settle(&self) -> String {
        let mut before = usize::MAX;
        eventually("the console is quiet", 10, || {
            std::thread::sleep(std::time::Duration::from_millis(60));
            let now = self.shown().len();
            std::mem::replace(&mut before, now) == now
        });
        self.shown()
    }
}

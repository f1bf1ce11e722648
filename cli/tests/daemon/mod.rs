//! A daemon made of cardboard: it answers what a test tells it to, and remembers what it was asked. So the order of calls
//! and everything that goes wrong on the wire can be tested without an engine.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Without the version prefix.
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// What to answer.
pub enum Reply {
    Json(u16, String),
    /// Status and body as they are, with a length.
    Raw(u16, Vec<u8>),
    /// 101, then the test has the connection.
    Hijack(&'static str, Box<dyn FnOnce(UnixStream) + Send>),
    /// Hang up without an answer.
    HangUp,
}

pub struct Daemon {
    pub folder: tempfile::TempDir,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Daemon {
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Daemon {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("daemon.sock")).expect("a socket");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (answer, seen) = (answer.clone(), seen.clone());
                std::thread::spawn(move || serve(stream, &*answer, &seen));
            }
        });
        Daemon { folder, log }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("daemon.sock")
    }

    /// `METHOD /path` of everything but pings, in order.
    pub fn calls(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }

    pub fn requests(&self) -> Vec<Request> {
        let log = self.log.lock().expect("the log");
        log.iter().filter(|request| request.path != "/_ping").cloned().collect()
    }

    /// Our binary, pointed at this daemon, with a configuration folder of its own.
    pub fn iechor(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iechor"));
        command
            .args(arguments)
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONFIG")
            .env("HOME", self.folder.path())
            .env("IECHOR_CONFIG", self.folder.path())
            .env("IECHOR_HOST", format!("unix://{}", self.socket().display()))
            .stdin(Stdio::null());
        command
    }
}

fn serve(stream: UnixStream, answer: &dyn Fn(&Request) -> Reply, log: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    while let Some(request) = read(&mut reader) {
        let ping = request.path == "/_ping";
        log.lock().expect("the log").push(request.clone());
        let reply = if ping {
            Reply::Raw(200, Vec::new())
        } else {
            answer(&request)
        };
        let (status, kind, body) = match reply {
            Reply::Json(status, text) => (status, "application/json", text.into_bytes()),
            Reply::Raw(status, body) => (status, "text/plain", body),
            Reply::HangUp => return,
            Reply::Hijack(kind, then) => {
                let head = format!(
                    "HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
                );
                if (&stream).write_all(head.as_bytes()).is_ok() {
                    then(stream);
                }
                return;
            }
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nApi-Version: 1.51\r\nOstype: linux\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let body = if request.method == "HEAD" || status == 204 {
            &[][..]
        } else {
            &body
        };
        if (&stream)
            .write_all(head.as_bytes())
            .and_then(|()| (&stream).write_all(body))
            .is_err()
        {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let header = |name: &str| {
        headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    let mut body = Vec::new();
    if let Some(length) = header("content-length") {
        reader.take(length.parse().ok()?).read_to_end(&mut body).ok()?;
    } else if header("transfer-encoding").as_deref() == Some("chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = u64::from_str_radix(size.trim(), 16).ok()?;
            (&mut *reader).take(size).read_to_end(&mut body).ok()?;
            reader.read_line(&mut String::new()).ok()?;
            if size == 0 {
                break;
            }
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let path = match path.strip_prefix("/v1.") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => path,
    };
    Some(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
    })
}

/// One frame of a multiplexed stream.
pub fn frame(stream: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![stream, 0, 0, 0];
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

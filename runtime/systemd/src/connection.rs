//! A connection: who we are, then one call at a time. Every wait ends at a deadline.

use crate::error::{Error, Result};
use crate::message::{self, Call, FIXED, Kind, Message};
use std::io::{self, Read, Write};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

/// How long an answer may take. D-Bus' own libraries wait as long.
pub const CALL_LIMIT: Duration = Duration::from_secs(25);
/// Signals kept until somebody asks: as many jobs can end while one of ours is on its way.
const MOST_SIGNALS: usize = 4096;
/// Longest line of the opening; ours are "OK" with 32 digits.
const LONGEST_LINE: usize = 1024;

/// A socket behind which systemd, or a bus, answers.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    serial: u32,
    /// Calls name their destination.
    pub bus: bool,
    /// Who must have sent a signal on a bus that counts.
    pub peer: String,
    signals: Vec<Message>,
}

/// Until when to wait for what.
#[derive(Debug, Clone)]
pub struct Wait {
    end: Instant,
    limit: Duration,
    during: String,
}

impl Wait {
    /// From now on.
    pub fn new(during: &str, limit: Duration) -> Wait {
        Wait {
            end: Instant::now() + limit,
            limit,
            during: during.to_owned(),
        }
    }

    fn left(&self) -> Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Timeout {
                during: self.during.clone(),
                seconds: self.limit.as_secs(),
            });
        }
        Ok(left)
    }

    /// Puts what is wrong with a message into its place.
    pub fn malformed(&self, why: &'static str) -> Error {
        Error::Malformed {
            during: self.during.clone(),
            why,
        }
    }

    fn lost(&self, source: io::Error) -> Error {
        Error::Lost {
            during: self.during.clone(),
            source,
        }
    }
}

impl Connection {
    /// Connects and says who we are (SASL EXTERNAL: the kernel vouches for our user id).
    pub fn open(address: &SocketAddr, place: &str, bus: bool) -> Result<Connection> {
        let connect = |source| Error::Connect {
            place: place.to_owned(),
            source,
        };
        let stream = UnixStream::connect_addr(address).map_err(connect)?;
        let mut connection = Connection {
            stream,
            serial: 0,
            bus,
            peer: String::new(),
            signals: Vec::new(),
        };
        let wait = Wait::new("the opening of the connection", CALL_LIMIT);
        let uid = nix::unistd::geteuid().to_string();
        let digits: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        // BEGIN at once, as sd-bus does it, and nothing more before the answer: what systemd reads together with BEGIN it
        // leaves lying until something else comes, so that a first call sent right behind it now and then got no answer.
        connection.send(format!("\0AUTH EXTERNAL {digits}\r\nBEGIN\r\n").as_bytes(), &wait)?;
        let answer = connection.line(&wait)?;
        if !answer.starts_with("OK ") {
            return Err(Error::Refused {
                place: place.to_owned(),
                answer,
            });
        }
        Ok(connection)
    }

    fn line(&mut self, wait: &Wait) -> Result<String> {
        let mut line = Vec::new();
        // One at a time: what follows the line belongs to the messages.
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.receive(&mut byte, wait)?;
            line.extend(byte);
            if line.len() > LONGEST_LINE {
                return Err(wait.malformed("a line has no end"));
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn send(&mut self, mut bytes: &[u8], wait: &Wait) -> Result<()> {
        while !bytes.is_empty() {
            let left = wait.left()?;
            self.stream
                .set_write_timeout(Some(left))
                .map_err(|error| wait.lost(error))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(wait.lost(io::ErrorKind::WriteZero.into())),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if passing(&error) => {}
                Err(error) => return Err(wait.lost(error)),
            }
        }
        Ok(())
    }

    fn receive(&mut self, mut into: &mut [u8], wait: &Wait) -> Result<()> {
        while !into.is_empty() {
            let left = wait.left()?;
            self.stream
                .set_read_timeout(Some(left))
                .map_err(|error| wait.lost(error))?;
            match self.stream.read(into) {
                Ok(0) => return Err(wait.lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => into = into.get_mut(count..).unwrap_or_default(),
                Err(error) if passing(&error) => {}
                Err(error) => return Err(wait.lost(error)),
            }
        }
        Ok(())
    }

    fn next(&mut self, wait: &Wait) -> Result<Message> {
        let mut fixed = [0; FIXED];
        self.receive(&mut fixed, wait)?;
        let length = message::length(&fixed).map_err(|why| wait.malformed(why))?;
        let mut bytes = fixed.to_vec();
        // Grows with what arrives and not with what was announced.
        while bytes.len() < length {
            let start = bytes.len();
            bytes.resize(length.min(start + 64 * 1024), 0);
            self.receive(&mut bytes[start..], wait)?;
        }
        Message::parse(&bytes).map_err(|why| wait.malformed(why))
    }

    /// Makes a call and waits for its answer.
    ///
    /// # Errors
    /// [`Error::Call`] when the answer is an error; what happens on the way.
    pub fn call(&mut self, call: Call<'_>, wait: &Wait) -> Result<Message> {
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        let serial = self.serial;
        let bytes = call.encode(serial, self.bus).map_err(|why| Error::Unsendable {
            during: wait.during.clone(),
            why,
        })?;
        self.send(&bytes, wait)?;
        loop {
            let message = self.next(wait)?;
            match message.kind {
                Kind::Return if message.reply_to == Some(serial) => return Ok(message),
                Kind::Error if message.reply_to == Some(serial) => {
                    return Err(Error::Call {
                        during: wait.during.clone(),
                        message: message.error_text(),
                        name: message.error,
                    });
                }
                Kind::Signal => self.keep(message),
                // Answers to calls that were given up; calls by others, whom we serve nothing.
                _ => {}
            }
        }
    }

    fn keep(&mut self, message: Message) {
        // systemd tells its direct clients of everything that happens to any unit.
        let ours = message.member == "JobRemoved" && message.interface == crate::manager::MANAGER;
        // Without a bus there is nobody else (and systemd signs with its well-known name).
        let from_systemd = !self.bus || message.sender == self.peer;
        if ours && from_systemd && self.signals.len() < MOST_SIGNALS {
            self.signals.push(message);
        }
    }

    /// Drops the signals that have come so far.
    pub fn forget_signals(&mut self) {
        self.signals.clear();
    }

    /// The next end of a job, of those that came already or of those to come.
    pub fn job_end(&mut self, wait: &Wait) -> Result<Message> {
        while self.signals.is_empty() {
            let message = self.next(wait)?;
            if message.kind == Kind::Signal {
                self.keep(message);
            }
        }
        Ok(self.signals.remove(0))
    }
}

/// The time is up (which [`Wait::left`] sees), or a signal handler ran.
fn passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

//! The streams of one process: its output to log and clients, their input to it.
//!
//! Nothing is lost and nothing grows: while a client does not take its output, no more is read from the process; while
//! the process does not take its input, no more is read from clients.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use nix::unistd::{read, write};
use runtime::log::{LogWriter, Stream};
use runtime::plan::Stdin;
use runtime::proto::Streams as Interest;
use runtime_sys::epoll::{Epoll, GONE, HALF_CLOSED, READ, WRITE};
use runtime_sys::{fd, pty};
use std::os::fd::AsRawFd;

use crate::client::Client;
use crate::token::Token;

/// What the event loop lends to a pump.
pub struct Context<'a> {
    pub epoll: &'a Epoll,
    pub buffer: &'a mut [u8],
    /// The log, for a container's first process.
    pub log: Option<&'a mut LogWriter>,
}

pub struct Pump {
    process: u32,
    terminal: bool,
    /// Our end of the terminal's other side, so that it is not at its end whenever nobody has it open.
    held_open: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
    input: Option<OwnedFd>,
    /// Input that the process has not taken yet: at most what one read brought.
    pending_input: Vec<u8>,
    /// Clients may type.
    takes_input: bool,
    /// The input ends with the first client (or its input) that ends.
    once: bool,
    /// The input ends when `pending_input` is written.
    input_ends: bool,
    clients: Vec<Client>,
    next_client: u32,
    /// Outputs are not watched: a client has pending output.
    paused: bool,
    /// The process has ended: clients go when they have what is theirs.
    ended: bool,
}

/// Most that is read of an output after its process ended: no pipe holds more (`/proc/sys/fs/pipe-max-size` is 1 MiB),
/// but another process may still write to it.
const MOST_AFTER_END: usize = 2 * 1024 * 1024;

impl Pump {
    pub fn new(process: u32, stdin: &Stdin) -> Pump {
        let once = matches!(stdin, Stdin::Pipe { once: true });
        Pump {
            process,
            takes_input: matches!(stdin, Stdin::Pipe { .. }),
            terminal: false,
            held_open: None,
            outputs: [None, None],
            input: None,
            pending_input: Vec::new(),
            once,
            input_ends: false,
            clients: Vec::new(),
            next_client: 0,
            paused: false,
            ended: false,
        }
    }

    /// Our ends of the process' pipes.
    pub fn set_pipes(
        &mut self,
        input: Option<OwnedFd>,
        outputs: [Option<OwnedFd>; 2],
        epoll: &Epoll,
    ) -> io::Result<()> {
        for end in input.iter().chain(outputs.iter().flatten()) {
            fd::set_nonblocking(end.as_fd(), true)?;
        }
        self.input = input;
        self.outputs = outputs;
        self.watch_outputs(epoll)
    }

    /// The master of the process' terminal.
    pub fn set_terminal(&mut self, master: OwnedFd, epoll: &Epoll) -> io::Result<()> {
        fd::set_nonblocking(master.as_fd(), true)?;
        self.terminal = true;
        self.held_open = Some(pty::peer(master.as_fd())?);
        if self.takes_input {
            self.input = Some(master.try_clone()?);
        }
        self.outputs = [Some(master), None];
        self.watch_outputs(epoll)
    }

    pub fn resize(&self, rows: u16, cols: u16) -> io::Result<()> {
        match &self.outputs[0] {
            Some(master) if self.terminal => pty::resize(master.as_fd(), rows, cols),
            _ => Err(io::Error::from_raw_os_error(libc::ENOTTY)),
        }
    }

    fn watch_outputs(&mut self, epoll: &Epoll) -> io::Result<()> {
        for (output, stream) in self.outputs.iter().zip([1, 2]) {
            if let Some(output) = output {
                epoll.watch(output.as_fd(), Token::Output(self.process, stream).pack(), READ)?;
            }
        }
        Ok(())
    }

    /// Takes a client in.
    pub fn attach(&mut self, socket: OwnedFd, interest: Interest, epoll: &Epoll) -> io::Result<()> {
        let number = self.next_client;
        self.next_client += 1;
        let open = interest.stdin;
        let client = Client {
            number,
            socket,
            interest,
            pending: Vec::new(),
            open,
            gone: false,
        };
        epoll.watch(
            client.socket.as_fd(),
            client.token(self.process),
            client.interest(self.pending_input.is_empty()),
        )?;
        self.clients.push(client);
        Ok(())
    }

    /// Whether nobody waits for output any more.
    pub fn is_idle(&self) -> bool {
        self.clients.is_empty()
    }

    /// An output can be read.
    pub fn output_ready(&mut self, stream: u8, context: &mut Context<'_>) {
        if !self.paused {
            self.read_output(stream, context);
            self.pause_or_resume(context.epoll);
        }
    }

    /// Reads an output once. False: there is nothing (more).
    fn read_output(&mut self, stream: u8, context: &mut Context<'_>) -> usize {
        let Some(slot) = self.outputs.get_mut(usize::from(stream).wrapping_sub(1)) else {
            return 0;
        };
        let Some(output) = slot else { return 0 };
        let count = match read(&*output, context.buffer) {
            Err(Errno::EAGAIN | Errno::EINTR) => return 0,
            Ok(0) | Err(_) => {
                context.epoll.forget(output.as_fd());
                *slot = None;
                if let Some(log) = &mut context.log {
                    let _ = log.finish(log_stream(stream), SystemTime::now());
                }
                return 0;
            }
            Ok(count) => count,
        };
        let bytes = context.buffer.get(..count).unwrap_or_default();
        if let Some(log) = &mut context.log {
            // A full disk costs the log, not the container.
            let _ = log.write(log_stream(stream), SystemTime::now(), bytes);
            runtime_sys::failpoint!("shim-output-logged");
        }
        let header = (!self.terminal).then(|| frame(stream, count));
        for client in &mut self.clients {
            if client.wants(stream) {
                client.send(header.as_ref().map_or(&[], |header| &header[..]), bytes);
                if !client.pending.is_empty() {
                    client.update(self.process, self.pending_input.is_empty(), context.epoll);
                }
            }
        }
        count
    }

    fn pause_or_resume(&mut self, epoll: &Epoll) {
        let blocked = self.clients.iter().any(|client| !client.pending.is_empty());
        if blocked && !self.paused {
            self.outputs
                .iter()
                .flatten()
                .for_each(|output| epoll.forget(output.as_fd()));
        } else if !blocked && self.paused {
            let _ = self.watch_outputs(epoll);
        }
        self.paused = blocked;
    }

    /// Something happened at a client's socket.
    pub fn client_ready(&mut self, number: u32, ready: u32, context: &mut Context<'_>) {
        let Some(index) = self.clients.iter().position(|client| client.number == number) else {
            return;
        };
        let client = &mut self.clients[index];
        if ready & GONE != 0 {
            // Nobody takes the output any more. What it sent before is still to be read.
            client.pending = Vec::new();
            client.gone = true;
            context.epoll.forget(client.socket.as_fd());
        } else if ready & WRITE != 0 {
            client.flush();
            client.update(self.process, self.pending_input.is_empty(), context.epoll);
        }
        if ready & (READ | HALF_CLOSED | GONE) != 0 {
            self.read_client(index, context);
        }
        self.sweep(context.epoll);
        self.pause_or_resume(context.epoll);
    }

    fn read_client(&mut self, index: usize, context: &mut Context<'_>) {
        // A client that is gone raises no further events, so it is read to its end, as far as the process takes it.
        while let Some(client) = self.clients.get_mut(index) {
            if !client.open || !self.pending_input.is_empty() {
                return;
            }
            let gone = client.gone;
            match recv(client.socket.as_raw_fd(), context.buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN | Errno::EINTR) if !gone => return,
                Ok(count) if count > 0 => {
                    let (bytes, _) = context.buffer.split_at(count.min(context.buffer.len()));
                    feed(&mut self.input, &mut self.pending_input, bytes);
                    if !self.pending_input.is_empty() {
                        self.input_blocked(context.epoll);
                    }
                }
                _ => {
                    client.open = false;
                    self.client_input_ended(context.epoll);
                    if let Some(client) = self.clients.get(index).filter(|client| !client.gone) {
                        client.update(self.process, true, context.epoll);
                    }
                    return;
                }
            }
            if !gone {
                return;
            }
        }
    }

    fn client_input_ended(&mut self, epoll: &Epoll) {
        // A terminal's input has no end: what would be typed is for the client to say.
        if self.once && !self.terminal {
            self.input_ends = true;
            self.end_input_if_written(epoll);
        }
    }

    fn end_input_if_written(&mut self, epoll: &Epoll) {
        if self.input_ends
            && self.pending_input.is_empty()
            && let Some(input) = self.input.take()
        {
            epoll.forget(input.as_fd());
        }
    }

    fn input_blocked(&mut self, epoll: &Epoll) {
        if let Some(input) = &self.input {
            let _ = epoll.watch(input.as_fd(), Token::Input(self.process).pack(), WRITE);
        }
        for client in &self.clients {
            client.update(self.process, false, epoll);
        }
    }

    /// The process takes input again.
    pub fn input_ready(&mut self, context: &mut Context<'_>) {
        let pending = std::mem::take(&mut self.pending_input);
        feed(&mut self.input, &mut self.pending_input, &pending);
        if !self.pending_input.is_empty() {
            return;
        }
        if let Some(input) = &self.input {
            context.epoll.forget(input.as_fd());
        }
        self.end_input_if_written(context.epoll);
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            client.update(self.process, true, context.epoll);
            if client.gone {
                self.read_client(index, context);
            }
        }
        self.sweep(context.epoll);
    }

    /// The process has ended: reads what is left, ends the log's lines, and lets clients go when they have everything.
    pub fn end(&mut self, context: &mut Context<'_>) {
        for stream in [1, 2] {
            let mut total = 0;
            while total < MOST_AFTER_END {
                match self.read_output(stream, context) {
                    0 => break,
                    count => total += count,
                }
            }
            if self.outputs[usize::from(stream) - 1].is_some()
                && let Some(log) = &mut context.log
            {
                let _ = log.finish(log_stream(stream), SystemTime::now());
            }
        }
        for end in self.outputs.iter_mut().chain([&mut self.input]) {
            if let Some(end) = end.take() {
                context.epoll.forget(end.as_fd());
            }
        }
        self.held_open = None;
        self.pending_input = Vec::new();
        self.ended = true;
        for client in &mut self.clients {
            client.open = false;
            if !client.gone {
                client.update(self.process, true, context.epoll);
            }
        }
        self.sweep(context.epoll);
    }

    /// Lets clients go with whom there is nothing left to do.
    fn sweep(&mut self, epoll: &Epoll) {
        let ended = self.ended;
        let mut input_lost = false;
        self.clients.retain(|client| {
            let done = if client.gone {
                !client.open
            } else {
                ended && client.pending.is_empty()
            };
            if done && !client.gone {
                epoll.forget(client.socket.as_fd());
            }
            input_lost |= done && client.interest.stdin;
            !done
        });
        if input_lost {
            self.client_input_ended(epoll);
        }
    }
}

/// Writes input to the process; what it does not take stays pending. Input that nobody will read is dropped.
fn feed(input: &mut Option<OwnedFd>, pending: &mut Vec<u8>, mut bytes: &[u8]) {
    while let (Some(end), false) = (&*input, bytes.is_empty()) {
        match write(end, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                pending.extend_from_slice(bytes);
                return;
            }
            // The process has closed it.
            Err(_) => *input = None,
        }
    }
}

/// Docker's frame header: the stream, three zeros, the length in network order.
fn frame(stream: u8, count: usize) -> [u8; 8] {
    let length = (count as u32).to_be_bytes();
    [stream, 0, 0, 0, length[0], length[1], length[2], length[3]]
}

fn log_stream(stream: u8) -> Stream {
    if stream == 2 { Stream::Stderr } else { Stream::Stdout }
}

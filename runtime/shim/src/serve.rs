//! The event loop.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use runtime::log::{LogState, LogWriter};
use runtime::proto::{Event, Failure, INIT, Time, VERSION};
use runtime_container::Host;
use runtime_sys::clone::{Ended, reap};
use runtime_sys::epoll::{Epoll, Event as Ready, READ};
use runtime_sys::memory::{Scratch, trim_heap};
use runtime_sys::{seqpacket, signals};

use crate::Shim;
use crate::connection::{Connection, Incoming, MAX_CONNECTIONS};
use crate::job::Job;
use crate::process::Process;
use crate::pump::Context;
use crate::token::Token;

/// The one buffer, for all streams. Its pages are given back when nothing flows.
const BUFFER: usize = 64 * 1024;

/// After how much quiet memory is given back, in milliseconds.
const QUIET: i32 = 200;

pub struct Server {
    pub shim: Shim,
    pub epoll: Epoll,
    buffer: Scratch,
    connections: Vec<Connection>,
    next_connection: u32,
    pub job: Option<Job>,
    /// This process is a copy, which serves this socket and has nothing to do with what is served here.
    pub newborn: Option<OwnedFd>,
    /// Memory was used since it was given back.
    used: bool,
    /// What the daemons know of the log.
    told: LogState,
}

/// Serves until the container's end is recorded and everybody has what is theirs. In a copy that was made of this process it
/// returns what that one is to serve.
pub fn serve(mut shim: Shim) -> Option<(Host, OwnedFd)> {
    let daemon = shim.daemon.try_clone().ok()?;
    // The connection owns the socket; what stays in its place is the null device.
    if let Ok(null) = shim.host.null.try_clone() {
        shim.daemon = null;
    }
    let (epoll, buffer) = (Epoll::new().ok()?, Scratch::new(BUFFER).ok()?);
    let first = Connection::new(0, daemon, &epoll).ok()?;
    epoll
        .watch(shim.child_events.as_fd(), Token::Children.pack(), READ)
        .ok()?;
    let mut server = Server {
        shim,
        epoll,
        buffer,
        connections: vec![first],
        next_connection: 1,
        job: None,
        newborn: None,
        used: true,
        told: LogState::default(),
    };
    let mut events = [Ready::default(); 16];
    while !server.is_done() {
        let count = server.epoll.wait(&mut events, server.timeout()).ok()?;
        if count == 0 {
            server.idle();
        }
        for event in events.iter().take(count) {
            server.used = true;
            server.handle(Token::unpack(event.token), event.ready);
            if let Some(socket) = server.newborn.take() {
                // The descriptors are dropped, and not told to the epoll instance: that is the other one's too.
                return Some((server.shim.host, socket));
            }
        }
        if let Some(job) = &mut server.job {
            job.record(false);
            job.sweep();
        }
        server.tell_of_log();
    }
    None
}

impl Server {
    fn is_done(&mut self) -> bool {
        let Some(job) = &mut self.job else {
            // Warm, or the start failed: of use only to the daemon at the other end.
            return self.connections.is_empty();
        };
        if job.exit.is_none() {
            return false;
        }
        let told = self.connections.iter().all(Connection::is_flushed);
        if self.connections.is_empty() {
            // Nobody will release us: what a daemon needs to know later is on disk.
            job.record(true);
            if job.next_due().is_some() {
                // The disk is full: a daemon that comes back can still ask us.
                return false;
            }
        }
        let drained = job.is_drained();
        match &mut job.container {
            Some(container) if self.connections.is_empty() => {
                container.let_mounts_go();
                container.remove_cgroups();
                container.stop_listening();
                drained
            }
            Some(container) => container.released && drained,
            // Nothing of an exec is left that somebody would have to be asked about.
            None => told && drained,
        }
    }

    fn timeout(&self) -> i32 {
        let quiet = if self.used { QUIET } else { -1 };
        match self.job.as_ref().and_then(Job::next_due) {
            // Rounded up: waking early would only mean to wait again.
            Some(due) => (due.as_millis() as i32)
                .saturating_add(1)
                .min(if quiet < 0 { i32::MAX } else { quiet }),
            None => quiet,
        }
    }

    fn idle(&mut self) {
        if self.used && self.job.as_ref().and_then(Job::next_due).is_none() {
            self.used = false;
            self.buffer.release();
            if let Some(log) = self.log() {
                log.rest();
            }
            trim_heap();
        }
    }

    fn log(&mut self) -> Option<&mut LogWriter> {
        self.job.as_mut()?.container.as_mut()?.log()
    }

    /// Says what has changed with the log.
    fn tell_of_log(&mut self) {
        let Some(state) = self.log().map(|log| log.state()).filter(|state| *state != self.told) else {
            return;
        };
        self.told = state;
        self.send_all(&log_event(state));
    }

    fn handle(&mut self, token: Token, ready: u32) {
        match token {
            Token::Children => self.children(),
            Token::Listener => self.accept(),
            Token::Connection(number) => self.connection(number, ready),
            Token::Sync(process) => self.started(process),
            Token::Output(process, stream) => self.pump(process, |p, context| p.pump.output_ready(stream, context)),
            Token::Input(process) => self.pump(process, |p, context| p.pump.input_ready(context)),
            Token::Client(process, client) => {
                self.pump(process, |p, context| p.pump.client_ready(client, ready, context));
            }
        }
    }

    fn pump(&mut self, process: u32, work: impl FnOnce(&mut Process, &mut Context<'_>)) {
        if let Some(job) = &mut self.job {
            job.pump(process, &self.epoll, &mut self.buffer, work);
        }
    }

    fn accept(&mut self) {
        let Some(job) = &self.job else { return };
        let listener = job.container.as_ref().and_then(|container| container.listener.as_ref());
        let Some(listener) = listener else { return };
        let Ok(socket) = seqpacket::accept(listener.as_fd()) else {
            return;
        };
        if self.connections.len() >= MAX_CONNECTIONS {
            return; // closed at once
        }
        let number = self.next_connection;
        self.next_connection += 1;
        let Ok(mut connection) = Connection::new(number, socket, &self.epoll) else {
            return;
        };
        let state = Event::State {
            version: VERSION,
            shim: std::process::id() as i32,
            pid: job.first.pid,
            started: job.started.clone(),
            exit: job.exit.clone(),
        };
        let log = log_event(self.told);
        if connection.send(&state, None, &self.epoll) && connection.send(&log, None, &self.epoll) {
            self.connections.push(connection);
        }
    }

    fn connection(&mut self, number: u32, ready: u32) {
        let Some(connection) = self
            .connections
            .iter_mut()
            .find(|connection| connection.number == number)
        else {
            return;
        };
        if ready & runtime_sys::epoll::WRITE != 0 && !connection.flush(&self.epoll) {
            self.drop_connection(number);
            return;
        }
        loop {
            let Some(connection) = self.connections.iter().find(|connection| connection.number == number) else {
                return;
            };
            match connection.receive() {
                Incoming::Nothing => return,
                Incoming::End => {
                    self.drop_connection(number);
                    return;
                }
                Incoming::Request(request, fds) => self.request(number, *request, fds),
            }
            if self.newborn.is_some() {
                return;
            }
        }
    }

    fn drop_connection(&mut self, number: u32) {
        let epoll = &self.epoll;
        self.connections.retain(|connection| {
            let keep = connection.number != number;
            if !keep {
                connection.forget(epoll);
            }
            keep
        });
    }

    pub fn drop_connections(&mut self) {
        for connection in self.connections.drain(..) {
            connection.forget(&self.epoll);
        }
    }

    pub fn send(&mut self, number: u32, event: &Event) {
        send_to(&mut self.connections, number, event, None, &self.epoll);
    }

    /// Where the container is, with its first process.
    pub fn send_place(&mut self, number: u32, tag: u32) {
        let refused = |errno| Event::Done { tag, errno };
        let Some(job) = &self.job else {
            return self.send(number, &refused(libc::ESRCH));
        };
        if job.foreign().is_some() {
            // Only the runtime that made it knows how to enter it: to be asked for here (`Exec`).
            return self.send(number, &refused(libc::ENOTSUP));
        }
        let (event, fd) = match job.place() {
            Ok(place) => (
                Event::Place {
                    tag,
                    place: Box::new(place),
                },
                Some(job.first.pidfd.as_fd()),
            ),
            Err(failure) => (Event::Failed { tag, failure }, None),
        };
        send_to(&mut self.connections, number, &event, fd, &self.epoll);
    }

    fn send_all(&mut self, event: &Event) {
        let epoll = &self.epoll;
        self.connections
            .retain_mut(|connection| connection.send(event, None, epoll));
    }

    /// A child's set-up is over.
    fn started(&mut self, number: u32) {
        let process = self.job.as_mut().and_then(|job| job.process(number));
        let Some(process) = process.filter(|process| process.is_starting()) else {
            return;
        };
        let outcome = process.started(&self.epoll);
        self.set_up(number, outcome);
    }

    /// Tells how a process' set-up came out.
    pub fn set_up(&mut self, number: u32, outcome: Result<(), Failure>) {
        let Some(job) = &mut self.job else { return };
        let Some(process) = job.process(number) else { return };
        let (pid, (connection, tag)) = (process.pid, process.asked_by);
        match (outcome, number) {
            (Ok(()), INIT) => {
                let at = Time::now();
                job.started = Some(at.clone());
                runtime_sys::failpoint!("shim-running");
                self.send_all(&Event::Started { pid, at });
                runtime_sys::failpoint!("shim-start-told");
                // After the news: it takes 0.2 ms, for which nobody has to wait.
                if let Some(job) = &self.job {
                    job.give_up_rights();
                }
                runtime_sys::failpoint!("shim-confined");
            }
            (Ok(()), process) => self.send(connection, &Event::ExecStarted { tag, process, pid }),
            (Err(failure), INIT) => {
                job.abandon();
                self.job = None;
                self.send_all(&Event::Failed { tag: 0, failure });
                // A shim is for one start: its daemon takes another.
                self.drop_connections();
            }
            (Err(failure), number) => {
                if let Some(container) = &mut job.container {
                    container.execs.retain(|exec| exec.number != number);
                }
                self.send(connection, &Event::Failed { tag, failure });
            }
        }
    }

    /// Some children have ended: ours, and orphans of the container that became ours.
    fn children(&mut self) {
        signals::clear_child_events(self.shim.child_events.as_fd());
        while let Ok(Some(ended)) = reap(-1, false) {
            self.reaped(&ended);
        }
    }

    pub fn reaped(&mut self, ended: &Ended) {
        let foreign = self.job.as_ref().is_some_and(|job| job.foreign().is_some());
        if foreign && self.foreign_reaped(ended) {
            return;
        }
        let Some(job) = &mut self.job else { return };
        let Some(process) = job.processes().find(|p| p.pid == ended.pid && !p.ended) else {
            return;
        };
        let (number, connection) = (process.number, process.asked_by.0);
        // From here on its number may become somebody else's.
        process.ended = true;
        // The end of the set-up may not have been seen yet. It is here: what the child had to say is in the socket.
        self.started(number);
        let Some(job) = &mut self.job else { return };
        runtime_sys::failpoint!("shim-exit-seen");
        let exit = job.ended(number, ended, &self.epoll, &mut self.buffer);
        let event = Event::Exited { process: number, exit };
        if number != INIT {
            return self.send(connection, &event);
        }
        self.send_all(&event);
        runtime_sys::failpoint!("shim-exit-told");
        // After the news: the kernel takes its time (0.2 ms on v1).
        if let Some(container) = self.job.as_mut().and_then(|job| job.container.as_mut()) {
            container.remove_cgroups();
        }
        runtime_sys::failpoint!("shim-groups-removed");
    }
}

fn log_event(state: LogState) -> Event {
    Event::Log {
        errno: state.errno,
        rotations: state.rotations,
    }
}

fn send_to(connections: &mut Vec<Connection>, number: u32, event: &Event, fd: Option<BorrowedFd<'_>>, epoll: &Epoll) {
    connections.retain_mut(|connection| connection.number != number || connection.send(event, fd, epoll));
}

//! The event loop.

use std::os::fd::AsFd;

use runtime::proto::{Event, Failure, INIT, Time, VERSION};
use runtime_sys::clone::{Ended, reap};
use runtime_sys::epoll::{Epoll, Event as Ready, READ};
use runtime_sys::memory::{Scratch, trim_heap};
use runtime_sys::{seqpacket, signals};

use crate::Shim;
use crate::connection::{Connection, Incoming, MAX_CONNECTIONS};
use crate::container::Container;
use crate::token::Token;

/// The one buffer, for streams of every process. Its pages are given back when nothing flows.
const BUFFER: usize = 64 * 1024;

/// After how much quiet memory is given back, in milliseconds.
const QUIET: i32 = 200;

pub struct Server {
    pub shim: Shim,
    pub epoll: Epoll,
    buffer: Scratch,
    connections: Vec<Connection>,
    next_connection: u32,
    pub container: Option<Container>,
    /// Memory was used since it was given back.
    used: bool,
}

/// Serves until the container's end is recorded and everybody has what is theirs.
pub fn serve(mut shim: Shim) {
    let Ok(daemon) = shim.daemon.try_clone() else { return };
    // The connection owns the socket; what stays in its place is the null device.
    if let Ok(null) = shim.host.null.try_clone() {
        shim.daemon = null;
    }
    let (Ok(epoll), Ok(buffer)) = (Epoll::new(), Scratch::new(BUFFER)) else {
        return;
    };
    let Ok(first) = Connection::new(0, daemon, &epoll) else {
        return;
    };
    if epoll
        .watch(shim.child_events.as_fd(), Token::Children.pack(), READ)
        .is_err()
    {
        return;
    }
    let mut server = Server {
        shim,
        epoll,
        buffer,
        connections: vec![first],
        next_connection: 1,
        container: None,
        used: true,
    };
    let mut events = [Ready::default(); 16];
    while !server.is_done() {
        let Ok(count) = server.epoll.wait(&mut events, server.timeout()) else {
            return;
        };
        if count == 0 {
            server.idle();
        }
        for event in events.iter().take(count) {
            server.used = true;
            server.handle(Token::unpack(event.token), event.ready);
        }
        if let Some(container) = &mut server.container {
            container.record(false);
            container.sweep();
        }
    }
}

impl Server {
    fn is_done(&mut self) -> bool {
        let Some(container) = &mut self.container else {
            // Warm, or the start failed: of use only to the daemon at the other end.
            return self.connections.is_empty();
        };
        if container.exit.is_none() {
            return false;
        }
        if self.connections.is_empty() {
            // Nobody will release us: what a daemon needs to know later is on disk.
            container.record(true);
            container.let_mounts_go();
            container.remove_cgroups();
            container.stop_listening();
            return container.is_drained();
        }
        container.released && container.is_drained()
    }

    fn timeout(&self) -> i32 {
        let quiet = if self.used { QUIET } else { -1 };
        match self.container.as_ref().and_then(Container::next_due) {
            // Rounded up: waking early would only mean to wait again.
            Some(due) => (due.as_millis() as i32)
                .saturating_add(1)
                .min(if quiet < 0 { i32::MAX } else { quiet }),
            None => quiet,
        }
    }

    fn idle(&mut self) {
        if self.used && self.container.as_ref().and_then(Container::next_due).is_none() {
            self.used = false;
            self.buffer.release();
            trim_heap();
        }
    }

    fn handle(&mut self, token: Token, ready: u32) {
        let (epoll, buffer) = (&self.epoll, &mut *self.buffer);
        match token {
            Token::Children => self.children(),
            Token::Listener => self.accept(),
            Token::Connection(number) => self.connection(number, ready),
            Token::Sync(process) => self.started(process),
            Token::Output(process, stream) => self.with_container(|container, epoll, buffer| {
                container.with_process(process, epoll, buffer, |p, context| {
                    p.pump.output_ready(stream, context)
                });
            }),
            Token::Input(process) => {
                if let Some(container) = &mut self.container {
                    container.with_process(process, epoll, buffer, |p, context| p.pump.input_ready(context));
                }
            }
            Token::Client(process, client) => {
                if let Some(container) = &mut self.container {
                    container.with_process(process, epoll, buffer, |p, context| {
                        p.pump.client_ready(client, ready, context);
                    });
                }
            }
        }
    }

    fn with_container(&mut self, work: impl FnOnce(&mut Container, &Epoll, &mut [u8])) {
        if let Some(container) = &mut self.container {
            work(container, &self.epoll, &mut self.buffer);
        }
    }

    fn accept(&mut self) {
        let Some(container) = &self.container else { return };
        let Some(listener) = &container.listener else { return };
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
            pid: container.init.pid,
            started: container.started.clone(),
            exit: container.exit.clone(),
        };
        if connection.send(&state, &self.epoll) {
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
        let epoll = &self.epoll;
        self.connections
            .retain_mut(|connection| connection.number != number || connection.send(event, epoll));
    }

    fn send_all(&mut self, event: &Event) {
        let epoll = &self.epoll;
        self.connections.retain_mut(|connection| connection.send(event, epoll));
    }

    /// A child's set-up is over.
    fn started(&mut self, number: u32) {
        let Some(process) = self.container.as_mut().and_then(|container| container.process(number)) else {
            return;
        };
        if !process.is_starting() {
            return;
        }
        let outcome = process.started(&self.epoll);
        self.set_up(number, outcome);
    }

    /// Tells how a process' set-up came out.
    pub fn set_up(&mut self, number: u32, outcome: Result<(), Failure>) {
        let Some(process) = self.container.as_mut().and_then(|container| container.process(number)) else {
            return;
        };
        let (pid, (connection, tag)) = (process.pid, process.asked_by);
        match (outcome, number) {
            (Ok(()), INIT) => {
                let at = Time::now();
                if let Some(container) = &mut self.container {
                    container.started = Some(at.clone());
                }
                self.send_all(&Event::Started { pid, at });
            }
            (Ok(()), number) => self.send(
                connection,
                &Event::ExecStarted {
                    tag,
                    process: number,
                    pid,
                },
            ),
            (Err(failure), INIT) => {
                if let Some(mut container) = self.container.take() {
                    container.abandon();
                }
                self.send_all(&Event::Failed { tag: 0, failure });
                // A shim is for one start: its daemon takes another.
                self.drop_connections();
            }
            (Err(failure), number) => {
                if let Some(container) = &mut self.container {
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
        let Some(container) = &mut self.container else { return };
        if container.head.foreign.is_some() && self.foreign_reaped(ended) {
            return;
        }
        let Some(container) = &mut self.container else { return };
        let found = container.processes().find(|p| p.pid == ended.pid);
        let Some(process) = found.filter(|process| !process.ended) else {
            return;
        };
        let number = process.number;
        if process.is_starting() {
            // The end of the set-up has not been seen yet. It is here: what the child had to say is in the socket.
            process.ended = number == INIT;
            self.started(number);
        }
        let Some(container) = &mut self.container else { return };
        if container.process(number).is_none() {
            return;
        }
        let connection = container.process(number).map(|process| process.asked_by.0);
        let status = container.ended(number, ended, &self.epoll, &mut self.buffer);
        let event = Event::Exited {
            process: number,
            exit: status,
        };
        if number == INIT {
            self.send_all(&event);
            // After the news: the kernel takes its time (0.2 ms on v1).
            if let Some(container) = &mut self.container {
                container.remove_cgroups();
            }
        } else if let Some(connection) = connection {
            self.send(connection, &event);
        }
    }
}

//! Work that no start waits for, on a thread of its own: setting the bridge up, lists of interfaces, removing what a
//! crash left behind, forgetting tracked connections.
//!
//! The thread belongs to nobody's runtime, whoever owns the threads that call in here; rtnetlink needs such a place.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};

use crate::conntrack::Conntrack;
use crate::error::{Error, Result, chain};
use crate::rtnl::{Link, Rtnl};

/// A thing to be done some time.
pub enum Chore {
    /// Remove these interfaces.
    Delete(Vec<Link>),
    /// Forget what was tracked for these UDP ports of the host.
    ForgetUdp(Vec<u16>),
    /// Something that somebody waits for after all.
    Asked(Box<dyn FnOnce(&Rtnl) + Send>),
}

/// Where chores go. The thread ends when this is dropped, after what is queued.
#[derive(Debug)]
pub struct Janitor(Sender<Chore>);

impl Janitor {
    /// Starts the thread in the calling thread's network namespace.
    pub fn start() -> Result<Self> {
        let (sender, chores) = channel();
        let (ready, opened) = sync_channel(1);
        std::thread::Builder::new()
            .name("net-janitor".into())
            .spawn(move || {
                let tools = Rtnl::open().and_then(|rtnl| Ok((rtnl, Conntrack::open()?)));
                let _ = match tools {
                    Err(error) => ready.send(Err(error)),
                    Ok((rtnl, conntrack)) => {
                        let _ = ready.send(Ok(()));
                        return work(chores, &rtnl, conntrack);
                    }
                };
            })
            .map_err(Error::system("start the network's janitor thread"))?;
        opened.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(Self(sender))
    }

    /// Has it done.
    pub fn leave(&self, chore: Chore) {
        if self.0.send(chore).is_err() {
            tracing::warn!("the network's janitor is gone; something was left undone");
        }
    }

    /// Has it done, after what is queued, and waits for the outcome.
    pub fn ask<T: Send + 'static>(&self, work: impl FnOnce(&Rtnl) -> Result<T> + Send + 'static) -> Result<T> {
        let (reply, answer) = sync_channel(1);
        let asked = move |rtnl: &Rtnl| drop(reply.send(work(rtnl)));
        // If nobody takes it, the reply's sender is dropped with it.
        let _ = self.0.send(Chore::Asked(Box::new(asked)));
        answer.recv().unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> Error {
    Error::system("reach the network's janitor thread")(io::Error::other("it ended by a panic"))
}

fn work(chores: Receiver<Chore>, rtnl: &Rtnl, mut conntrack: Conntrack) {
    for chore in chores {
        match chore {
            Chore::Delete(links) => links.iter().for_each(|link| delete(rtnl, link)),
            Chore::ForgetUdp(ports) => {
                for port in ports {
                    if let Err(error) = conntrack.forget_udp_port(port) {
                        tracing::warn!(port, error = %chain(&error), "old connections may go to the wrong place");
                    }
                }
            }
            Chore::Asked(work) => work(rtnl),
        }
    }
}

fn delete(rtnl: &Rtnl, link: &Link) {
    match rtnl.delete(link.index) {
        Ok(true) => tracing::info!(interface = link.name, "removed an interface without an owner"),
        // Its namespace died in the meantime.
        Ok(false) => {}
        Err(refusal) => tracing::warn!(interface = link.name, error = %refusal.source, "cannot remove an interface"),
    }
}

//! Work that nobody waits for: removing what a crash left behind, forgetting tracked connections.

use std::sync::mpsc::{Receiver, Sender, channel};

use runtime_sys::netlink::Protocol;

use crate::conntrack::Conntrack;
use crate::error::{Error, Result, chain};
use crate::link::{self, Link};
use crate::netlink::Channel;

/// A thing to be done some time.
#[derive(Debug)]
pub enum Chore {
    /// Remove these interfaces.
    Delete(Vec<Link>),
    /// Forget what was tracked for these UDP ports of the host.
    ForgetUdp(Vec<u16>),
}

/// Where chores go. The thread ends when this is dropped, after what is queued.
#[derive(Debug)]
pub struct Janitor(Sender<Chore>);

impl Janitor {
    /// Starts the thread in the calling thread's network namespace.
    pub fn start() -> Result<Self> {
        let route = Channel::open(Protocol::Route)?;
        let conntrack = Conntrack::open()?;
        let (sender, receiver) = channel();
        std::thread::Builder::new()
            .name("net-janitor".into())
            .spawn(move || work(receiver, route, conntrack))
            .map_err(Error::system("start the network's janitor thread"))?;
        Ok(Self(sender))
    }

    /// Has it done.
    pub fn leave(&self, chore: Chore) {
        if self.0.send(chore).is_err() {
            tracing::warn!("the network's janitor is gone; something was left undone");
        }
    }
}

fn work(chores: Receiver<Chore>, mut route: Channel, mut conntrack: Conntrack) {
    for chore in chores {
        match chore {
            Chore::Delete(links) => {
                for link in links {
                    delete(&mut route, &link);
                }
            }
            Chore::ForgetUdp(ports) => {
                for port in ports {
                    if let Err(error) = conntrack.forget_udp_port(port) {
                        tracing::warn!(port, error = %chain(&error), "old connections may go to the wrong place");
                    }
                }
            }
        }
    }
}

fn delete(route: &mut Channel, link: &Link) {
    let mut batch = route.batch();
    link::delete(&mut batch, link.index);
    match route.exchange(batch) {
        Ok(()) => tracing::info!(interface = link.name, "removed an interface without an owner"),
        // Its namespace died in the meantime.
        Err(refusal) if refusal.is(libc::ENODEV) => {}
        Err(refusal) => tracing::warn!(interface = link.name, error = %refusal.source, "cannot remove an interface"),
    }
}

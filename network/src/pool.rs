//! Namespaces that are ready before they are needed.
//!
//! One thread makes them, because the kernel makes most of it under one lock (RTNL) anyway: two makers would only wait
//! for each other. It first does what somebody waits for, then refills the stock, and that only when nobody was here
//! for a moment: a start that has just taken a namespace shall not share the processor and the lock with the next one's.
//!
//! Everything in stock is held by a descriptor only. If this process dies, the kernel removes it all.

use std::collections::{BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::address::{Cidr, Mac};
use crate::endpoint::{Endpoint, EndpointSpec};
use crate::error::{Error, Kind, Result};
use crate::ipam::{Ipam, Refused};
use crate::namespace::Maker;

/// How long nobody must have taken anything before the stock is refilled: a container's whole life takes some 6 ms.
const QUIET: Duration = Duration::from_millis(20);
/// How long a refill that failed waits for its next try; doubled up to the second one.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(30);

enum Job {
    Endpoint(Ipv4Addr, Mac, SyncSender<Result<Endpoint>>),
    ChangeMac(Endpoint, Mac, SyncSender<Result<Endpoint>>),
    Empty(SyncSender<Result<OwnedFd>>),
}

struct State {
    warm: VecDeque<Endpoint>,
    empty: VecDeque<OwnedFd>,
    jobs: VecDeque<Job>,
    /// Refilling may begin: what is in use already is reserved.
    filling: bool,
    stopped: bool,
    last_taken: Option<Instant>,
    /// So little was left that the stock is refilled without waiting, and until it is full: one disturbance instead of many.
    hurried: bool,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    ipam: Mutex<Ipam>,
    subnet: Cidr,
    bridge: String,
    target: usize,
    target_empty: usize,
}

/// The stock and its maker's thread.
pub struct Pool {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Pool {
    /// Starts the thread in the calling thread's network namespace, where `maker` was made too.
    pub fn start(maker: Maker, ipam: Ipam, subnet: Cidr, bridge: &str, warm: usize, empty: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                warm: VecDeque::with_capacity(warm),
                empty: VecDeque::with_capacity(empty),
                jobs: VecDeque::new(),
                filling: false,
                stopped: false,
                last_taken: None,
                hurried: false,
            }),
            wake: Condvar::new(),
            ipam: Mutex::new(ipam),
            subnet,
            bridge: bridge.into(),
            target: warm,
            target_empty: empty,
        });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("netns-maker".into())
            .spawn(move || {
                let _end = End(&worker);
                worker.run(maker);
            })
            .map_err(Error::system("start the thread that makes network namespaces"))?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Begins to fill the stock.
    pub fn fill(&self) {
        self.shared.lock().filling = true;
        self.shared.wake.notify_one();
    }

    /// An endpoint: out of stock, or made to measure.
    pub fn endpoint(&self, spec: &EndpointSpec) -> Result<Endpoint> {
        match (spec.ip, spec.mac) {
            (None, None) => match self.shared.pop()? {
                Some(endpoint) => Ok(endpoint),
                None => self.make(self.shared.allocate()?, Mac::random()),
            },
            (None, Some(mac)) => self.make(self.shared.allocate()?, mac),
            (Some(ip), mac) => self.at(ip, mac),
        }
    }

    /// An endpoint, if one is in stock.
    pub fn ready(&self) -> Option<Endpoint> {
        self.shared.pop().ok().flatten()
    }

    /// An empty namespace.
    pub fn empty(&self) -> Result<OwnedFd> {
        match self.ready_empty() {
            Some(namespace) => Ok(namespace),
            None => self.shared.ask(Job::Empty),
        }
    }

    /// An empty namespace, if one is in stock.
    pub fn ready_empty(&self) -> Option<OwnedFd> {
        let mut state = self.shared.lock();
        let namespace = state.empty.pop_front();
        state.last_taken = Some(Instant::now());
        drop(state);
        self.shared.wake.notify_one();
        namespace
    }

    /// Notes an address that is in use already.
    pub fn reserve(&self, ip: Ipv4Addr) -> Result<()> {
        self.shared.reserve(ip)
    }

    /// Frees an address.
    pub fn release(&self, ip: Ipv4Addr) -> bool {
        self.shared.ipam().release(ip)
    }

    /// How many are in stock: with an interface, and empty ones.
    pub fn stock(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.warm.len(), state.empty.len())
    }

    /// Interfaces of the endpoints in stock.
    pub fn stock_links(&self) -> BTreeSet<String> {
        let state = self.shared.lock();
        state
            .warm
            .iter()
            .map(|endpoint| endpoint.record.host_if.clone())
            .collect()
    }

    /// Ends the thread and drops the stock. Requests fail from now on.
    pub fn stop(&self) {
        self.shared.lock().stopped = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panic, if any, was logged by the hook; what it held is dropped.
            let _ = thread.join();
        }
        let mut state = self.shared.lock();
        let stock: Vec<_> = state.warm.drain(..).collect();
        state.empty.clear();
        drop(state);
        for endpoint in stock {
            self.shared.ipam().release(endpoint.record.ip);
        }
    }

    fn at(&self, ip: Ipv4Addr, mac: Option<Mac>) -> Result<Endpoint> {
        let shared = &self.shared;
        let ready = {
            let mut state = shared.lock();
            let at = state.warm.iter().position(|endpoint| endpoint.record.ip == ip);
            at.and_then(|at| state.warm.remove(at))
        };
        match (ready, mac) {
            (Some(endpoint), None) => {
                shared.wake.notify_one();
                Ok(endpoint)
            }
            (Some(endpoint), Some(mac)) => shared
                .ask(|reply| Job::ChangeMac(endpoint, mac, reply))
                .inspect_err(|_| {
                    shared.ipam().release(ip);
                }),
            (None, mac) => {
                shared.reserve(ip)?;
                self.make(ip, mac.unwrap_or_else(Mac::random))
            }
        }
    }

    /// Has an endpoint made; `ip` is reserved, and freed again if that fails.
    fn make(&self, ip: Ipv4Addr, mac: Mac) -> Result<Endpoint> {
        self.shared.ask(|reply| Job::Endpoint(ip, mac, reply)).inspect_err(|_| {
            self.shared.ipam().release(ip);
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Marks the pool as stopped when the thread ends, also by a panic: nobody may wait for an answer then.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.stopped = true;
        // With their senders the jobs' waiters are woken.
        state.jobs.clear();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one step, so that a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ipam(&self) -> MutexGuard<'_, Ipam> {
        self.ipam.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop(&self) -> Result<Option<Endpoint>> {
        let mut state = self.lock();
        if state.stopped {
            return Err(self.closed());
        }
        let endpoint = state.warm.pop_front();
        state.last_taken = Some(Instant::now());
        drop(state);
        self.wake.notify_one();
        Ok(endpoint)
    }

    fn ask<T>(&self, job: impl FnOnce(SyncSender<Result<T>>) -> Job) -> Result<T> {
        let (reply, answer) = sync_channel(1);
        {
            let mut state = self.lock();
            if state.stopped {
                return Err(self.closed());
            }
            state.jobs.push_back(job(reply));
        }
        self.wake.notify_one();
        answer.recv().unwrap_or_else(|_| Err(self.closed()))
    }

    fn closed(&self) -> Error {
        Error::Closed {
            bridge: self.bridge.clone(),
        }
    }

    fn allocate(&self) -> Result<Ipv4Addr> {
        if let Some(ip) = self.ipam().allocate() {
            return Ok(ip);
        }
        // In a small subnet the stock may hold what is left; it was not there a moment ago, but may be now.
        let held = self.lock().warm.pop_front();
        match held {
            // The namespace is dropped, its address goes to the new one.
            Some(endpoint) => Ok(endpoint.record.ip),
            None => Err(Error::NoAddress { subnet: self.subnet }),
        }
    }

    fn reserve(&self, ip: Ipv4Addr) -> Result<()> {
        self.ipam().reserve(ip).map_err(|refused| match refused {
            Refused::Outside => Error::AddressOutside {
                address: ip,
                subnet: self.subnet,
            },
            Refused::Special => Error::AddressSpecial {
                address: ip,
                subnet: self.subnet,
            },
            Refused::Taken => Error::AddressTaken { address: ip },
        })
    }

    fn run(&self, mut maker: Maker) {
        let mut retry = RETRY_FIRST;
        let mut not_before: Option<Instant> = None;
        loop {
            match self.next(not_before) {
                Next::Stop => return,
                Next::Job(job) => perform(&mut maker, job),
                Next::Refill { empty } => match self.refill(&mut maker, empty) {
                    Ok(()) => {
                        retry = RETRY_FIRST;
                        not_before = None;
                    }
                    Err(error) => {
                        // A start makes its own then, and says why it cannot. A subnet or a bridge that is full is
                        // nothing to warn of before.
                        if error.kind() != Kind::Exhausted {
                            let error = crate::error::chain(&error);
                            tracing::warn!(bridge = self.bridge, error, "cannot make a namespace for the stock");
                        }
                        not_before = Some(Instant::now() + retry);
                        retry = (retry * 2).min(RETRY_LAST);
                    }
                },
            }
        }
    }

    /// Waits until there is something to do.
    fn next(&self, not_before: Option<Instant>) -> Next {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return Next::Stop;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Next::Job(job);
            }
            let lacks = state.warm.len() < self.target;
            let lacks_empty = state.empty.len() < self.target_empty;
            if !state.filling || !(lacks || lacks_empty) {
                state.hurried = false;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let now = Instant::now();
            let quiet_at = state.last_taken.map(|taken| taken + QUIET);
            // With little left the next one would have to wait for all of its making: better now.
            state.hurried |= lacks && state.warm.len() <= self.target / 4;
            state.hurried |= lacks_empty && state.empty.len() <= self.target_empty / 4;
            let at = if state.hurried {
                not_before
            } else {
                quiet_at.max(not_before)
            };
            match at.filter(|at| *at > now) {
                Some(at) => {
                    let waited = self.wake.wait_timeout(state, at - now);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => return Next::Refill { empty: !lacks },
            }
        }
    }

    fn refill(&self, maker: &mut Maker, empty: bool) -> Result<()> {
        if empty {
            let namespace = maker.empty()?;
            self.lock().empty.push_back(namespace);
            return Ok(());
        }
        let ip = {
            let mut ipam = self.ipam();
            // The stock must not take a small subnet's last addresses from those who ask for one by name.
            if ipam.free() <= self.target {
                return Err(Error::NoAddress { subnet: self.subnet });
            }
            ipam.allocate().ok_or(Error::NoAddress { subnet: self.subnet })?
        };
        match maker.endpoint(ip, Mac::random()) {
            Ok(endpoint) => {
                self.lock().warm.push_back(endpoint);
                Ok(())
            }
            Err(error) => {
                self.ipam().release(ip);
                Err(error)
            }
        }
    }
}

enum Next {
    Stop,
    Job(Job),
    Refill { empty: bool },
}

/// A waiter that went away drops what was made for it.
fn perform(maker: &mut Maker, job: Job) {
    match job {
        Job::Endpoint(ip, mac, reply) => {
            let _ = reply.send(maker.endpoint(ip, mac));
        }
        Job::ChangeMac(mut endpoint, mac, reply) => {
            let changed = maker.change_mac(&mut endpoint, mac);
            let _ = reply.send(changed.map(|()| endpoint));
        }
        Job::Empty(reply) => {
            let _ = reply.send(maker.empty());
        }
    }
}

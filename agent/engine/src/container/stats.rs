//! What a container uses, looked at once a second for as long as somebody wants to know.
//!
//! ```text
//! kernel files ──► one sampling task per watched container ──► watch channel ──► every reader
//! ```
//!
//! Readers share the task: a hundred of them cost as many looks at the kernel as one. A slow reader misses samples and
//! holds nobody up. The counters of the network come from `/proc/PID/net/dev`, which shows the namespace of that process
//! without anybody entering it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use runtime::cgroup::IoEntry;
use runtime::cgroup::Stats;
use tokio::sync::watch;

use super::Container;
use super::validate::{Share, network_share};
use crate::Engine;
use crate::error::{Error, Result};

/// Between two looks; Docker's.
const PERIOD: Duration = Duration::from_secs(1);
/// Nanoseconds of one tick of `/proc/stat`, which counts in `USER_HZ`.
const TICK: u64 = 10_000_000;
/// A container with the right to make interfaces may make thousands; beyond this its table is cut off.
const NET_DEV_BYTES: u64 = 256 * 1024;

/// Everything of one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// `None` while the container does not run: then the rest is empty too.
    pub at: Option<SystemTime>,
    pub cgroup: Stats,
    /// What all CPUs of the machine have done, in nanoseconds, idling included.
    pub system_cpu: u64,
    pub online_cpus: u32,
    /// By interface; empty without a network of its own.
    pub networks: BTreeMap<String, Traffic>,
    /// Bytes of memory of the machine: the limit where no lower one is set.
    pub machine_memory: u64,
    /// 1 or 2: decides about the shape of the answer.
    pub cgroup_version: u32,
}

/// Counters of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// A reader of a container's samples.
#[derive(Debug)]
pub struct Readings(watch::Receiver<Option<Arc<Sample>>>);

impl Readings {
    /// The next sample; `None` when the container is removed, or the daemon ends.
    pub async fn next(&mut self) -> Option<Arc<Sample>> {
        self.0.changed().await.ok()?;
        self.0.borrow_and_update().clone()
    }
}

/// The samples of one container, as long as it has readers.
#[derive(Debug, Default)]
pub(crate) struct Sampling {
    samples: Option<watch::Sender<Option<Arc<Sample>>>>,
}

/// What belongs to the machine and not to a container.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Kept open: read anew for every sample of every container.
    stat: File,
    memory: u64,
}

impl Machine {
    pub fn open() -> Result<Machine> {
        let stat = File::open("/proc/stat").map_err(Error::io("open /proc/stat"))?;
        let info = std::fs::read_to_string("/proc/meminfo").map_err(Error::io("read /proc/meminfo"))?;
        Ok(Machine {
            stat,
            memory: total_memory(&info),
        })
    }

    /// Nanoseconds of all CPUs, and how many are online.
    fn cpu(&self) -> io::Result<(u64, u32)> {
        // The lines of the CPUs come first; interrupts, which make the file long, are not wanted.
        let mut buffer = vec![0; 4096];
        loop {
            let count = self.stat.read_at(&mut buffer, 0)?;
            let text = String::from_utf8_lossy(&buffer[..count]);
            if count < buffer.len() || text.contains("\nintr") {
                return Ok(cpu_time(&text));
            }
            buffer.resize(buffer.len() * 2, 0);
        }
    }
}

fn total_memory(info: &str) -> u64 {
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// Docker's sum: user, nice, system, idle, iowait, irq, softirq; guests are in user time already.
fn cpu_time(stat: &str) -> (u64, u32) {
    let mut ticks = 0u64;
    let mut online = 0;
    for line in stat.lines().take_while(|line| line.starts_with("cpu")) {
        let mut words = line.split_whitespace();
        if words.next() == Some("cpu") {
            let numbers = words.take(7).filter_map(|word| word.parse::<u64>().ok());
            ticks = numbers.fold(0, u64::saturating_add);
        } else {
            online += 1;
        }
    }
    (ticks.saturating_mul(TICK), online)
}

/// The table of proc_pid_net(5) without the loopback.
fn net_dev(text: &str) -> BTreeMap<String, Traffic> {
    let mut found = BTreeMap::new();
    for line in text.lines().skip(2) {
        let Some((name, numbers)) = line.rsplit_once(':') else {
            continue;
        };
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let name = name.trim();
        // Received: bytes, packets, errors, dropped and four more; then the same for what was sent.
        if let ([rx_bytes, rx_packets, rx_errors, rx_dropped], [tx_bytes, tx_packets, tx_errors, tx_dropped]) = (
            numbers.get(..4).unwrap_or_default(),
            numbers.get(8..12).unwrap_or_default(),
        ) && name != "lo"
        {
            let traffic = Traffic {
                rx_bytes: *rx_bytes,
                rx_packets: *rx_packets,
                rx_errors: *rx_errors,
                rx_dropped: *rx_dropped,
                tx_bytes: *tx_bytes,
                tx_packets: *tx_packets,
                tx_errors: *tx_errors,
                tx_dropped: *tx_dropped,
            };
            found.insert(name.to_owned(), traffic);
        }
    }
    found
}

fn traffic_of(pid: i32) -> BTreeMap<String, Traffic> {
    let mut bytes = Vec::new();
    // It may have ended meanwhile.
    let read =
        File::open(format!("/proc/{pid}/net/dev")).and_then(|file| file.take(NET_DEV_BYTES).read_to_end(&mut bytes));
    match read {
        Ok(_) => net_dev(&String::from_utf8_lossy(&bytes)),
        Err(_) => BTreeMap::new(),
    }
}

impl Engine {
    /// One sample, taken now.
    pub async fn sample(&self, container: &Arc<Container>) -> Result<Sample> {
        let (cgroup, pid, own_network) = {
            let inner = container.lock();
            let record = &inner.record;
            let Some(run) = inner.run.as_ref().filter(|_| record.status.phase.is_live()) else {
                return Ok(Sample::default());
            };
            let own = network_share(&record.host).is_ok_and(|share| share != Share::Host);
            (run.cgroup.clone(), record.status.pid, own)
        };
        self.blocking(move |engine| {
            let (system_cpu, online_cpus) = engine.machine.cpu().map_err(Error::io("read /proc/stat"))?;
            Ok(Sample {
                at: Some(SystemTime::now()),
                cgroup: engine.cgroups.usage(&cgroup)?,
                system_cpu,
                online_cpus,
                networks: if own_network { traffic_of(pid) } else { BTreeMap::new() },
                machine_memory: engine.machine.memory,
                cgroup_version: engine.cgroups.version(),
            })
        })
        .await
    }

    /// A sample each second from now on.
    pub fn readings(&self, container: &Arc<Container>) -> Readings {
        let mut sampling = container.sampling();
        if let Some(samples) = &sampling.samples {
            return Readings(samples.subscribe());
        }
        let (samples, receiver) = watch::channel(None);
        sampling.samples = Some(samples.clone());
        drop(sampling);
        let (engine, container) = (self.clone(), container.clone());
        self.tasks.spawn(async move {
            engine.keep_sampling(&container, &samples).await;
        });
        Readings(receiver)
    }

    async fn keep_sampling(&self, container: &Arc<Container>, samples: &watch::Sender<Option<Arc<Sample>>>) {
        let mut changes = container.changes.subscribe();
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => break,
                () = async { changes.wait_for(|change| change.removed).await.map_or((), drop) } => break,
                () = samples.closed() => {
                    let mut sampling = container.sampling();
                    // Somebody may have come just before the lock was ours.
                    if samples.receiver_count() == 0 {
                        sampling.samples = None;
                        return;
                    }
                }
                _ = ticks.tick() => {
                    // A container that ends between the look at its state and that at its files does not run.
                    let sample = self.sample(container).await.unwrap_or_default();
                    samples.send_replace(Some(Arc::new(sample)));
                }
            }
        }
        // With the last sender the readers' streams end.
        container.sampling().samples = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_machines_time_is_summed_as_docker_does() {
        let stat = "cpu  1 2 3 4 5 6 7 100 100 100\ncpu0 1 2 3 4 5 6 7 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5 cpu9\n";
        assert_eq!(cpu_time(stat), (28 * TICK, 2));
        assert_eq!(total_memory("MemTotal:   2048 kB\nMemFree: 1 kB\n"), 2 << 20);
    }

    #[test]
    fn interfaces_are_read_by_column() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n a:b:11 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        let found = net_dev(text);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["a:b", "eth0"]);
        let eth0 = found["eth0"];
        assert_eq!(
            (eth0.rx_bytes, eth0.rx_dropped, eth0.tx_bytes, eth0.tx_dropped),
            (1, 4, 5, 8)
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_far_as_it_is_understood(text in r"(cpu|eth0:|[0-9]{1,21}| |\n|:|é){0,60}") {
            let _ = cpu_time(&text);
            prop_assert!(net_dev(&text).len() <= text.lines().count());
        }
    }
}

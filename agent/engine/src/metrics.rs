//! What a monitoring system may ask for: the engine in numbers, as Prometheus' text (OpenMetrics 1.0). Where dockerd has the
//! number, it has dockerd's name.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::Engine;
use crate::container::state::Phase;

type Labels = Vec<(&'static str, String)>;
type Number = Gauge<u64, AtomicU64>;

impl Engine {
    /// All of it, as it is now. Nothing is counted for this alone, so nobody who does not ask pays for it.
    pub fn metrics(&self) -> String {
        let mut registry = Registry::with_prefix("engine_daemon");
        self.node(&mut registry);
        self.objects(&mut registry);
        process(&mut registry);
        let mut page = String::new();
        // Writing to a text cannot fail.
        let _ = text::encode(&mut page, &registry);
        page
    }

    fn node(&self, registry: &mut Registry) {
        let info = self.info();
        let about = Info::new(vec![
            ("daemon_id", info.id),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("architecture", info.architecture),
            ("kernel", info.kernel),
            ("os", info.os),
            ("os_version", info.os_version),
        ]);
        registry.register("engine", "The daemon and its host", about);
        gauge(registry, "engine_cpus_cpus", "Processors of the host", info.cpus as u64);
        bytes(registry, "engine_memory", "Memory of the host", info.memory);
        gauge(registry, "images", "Images in the store", info.images as u64);
    }

    fn objects(&self, registry: &mut Registry) {
        let states = Family::<Labels, Number>::default();
        // A state that nobody is in is told as well: a graph must not have holes.
        for phase in Phase::ALL {
            states.get_or_create(&vec![("state", phase.as_str().to_owned())]).set(0);
        }
        for container in self.index.all() {
            let label = vec![("state", container.phase().as_str().to_owned())];
            states.get_or_create(&label).inc();
        }
        registry.register("container_states_containers", "Containers by state", states);
        gauge(registry, "volumes", "Volumes", self.volumes.all().len() as u64);
        let under_way = self.operations.load(Ordering::Relaxed);
        gauge(registry, "operations", "Operations under way", under_way);
        let events = Family::<Labels, Counter>::default();
        for ((kind, action), count) in self.journal.counts() {
            let labels = vec![("type", kind.as_str().to_owned()), ("action", action)];
            events.get_or_create(&labels).inc_by(count);
        }
        registry.register("events", "Events since the daemon began", events);
    }
}

/// The daemon's own process, as the kernel counts it.
fn process(registry: &mut Registry) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        let words = line.split_whitespace().next().unwrap_or_default();
        words.parse::<u64>().unwrap_or(0)
    };
    bytes(
        registry,
        "process_resident_memory",
        "Memory of the daemon",
        field("VmRSS:") * 1024,
    );
    gauge(registry, "process_threads", "Threads of the daemon", field("Threads:"));
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    gauge(
        registry,
        "process_open_fds",
        "Files that the daemon holds open",
        files as u64,
    );
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Number::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn bytes(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let gauge = Number::default();
    gauge.set(value);
    registry.register_with_unit(name, help, Unit::Bytes, gauge);
}

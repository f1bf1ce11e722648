//! Measures what a start waits for: `cargo run --release -p network --example pool` (as root).
//!
//! Works in a network namespace of its own; the machine's network is not touched. Times are microseconds.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use network::{Endpoint, EndpointSpec, HostPort, Mac, Network, NetworkConfig, PortRequest, Proto};

const ROUNDS: usize = 60;

fn main() -> network::Result<()> {
    runtime_sys::netns::enter_new().expect("root is needed to make a network namespace");
    let config = NetworkConfig {
        bridge: "pool0".into(),
        table: "pool".into(),
        ..Default::default()
    };
    let warm = config.warm;
    let begin = Instant::now();
    let network = Network::open(config.clone())?;
    println!("open {} us", begin.elapsed().as_micros());
    let begin = Instant::now();
    network.recover(Vec::new())?;
    println!("recover nothing {} us", begin.elapsed().as_micros());
    full(&network, warm);
    println!("stock of {warm} filled after {} us", begin.elapsed().as_micros());

    let mut held = Vec::new();
    measure("pop a warm endpoint, now and then", || {
        full(&network, warm);
        std::thread::sleep(Duration::from_millis(20));
        timed(|| network.bridge_endpoint(EndpointSpec::default()), &mut held)
    });
    let some = held.pop().expect("there were many");
    drop_all(&network, &mut held);
    settle();
    measure("endpoint made to order (a MAC address is asked for)", || {
        timed(
            || {
                network.bridge_endpoint(EndpointSpec {
                    ip: None,
                    mac: Some(Mac::random()),
                })
            },
            &mut held,
        )
    });
    drop_all(&network, &mut held);
    settle();
    measure("pop or wait, every 4 ms, each dropped after", || {
        std::thread::sleep(Duration::from_millis(4));
        let taken = timed(|| network.bridge_endpoint(EndpointSpec::default()), &mut held);
        drop_all(&network, &mut held);
        taken
    });
    settle();
    measure("pop or wait, one after the other, all kept", || {
        timed(|| network.bridge_endpoint(EndpointSpec::default()), &mut held)
    });
    drop_all(&network, &mut held);
    settle();
    measure("empty namespace, every 4 ms", || {
        std::thread::sleep(Duration::from_millis(4));
        let begin = Instant::now();
        network.empty_netns().map(drop).expect("an empty namespace");
        begin.elapsed()
    });

    let port = |n: usize| {
        let host_port = HostPort::Exactly(10_000 + n as u16);
        [PortRequest {
            container_port: 80,
            proto: Proto::Tcp,
            host_ip: None,
            host_port,
        }]
    };
    for before in [0, 2_000] {
        for n in 0..before {
            network.publish(&format!("many{n}"), &some.record, &port(20_000 + n))?;
        }
        let mut n = 0;
        measure(&format!("publish a port, {before} published"), || {
            n += 1;
            let begin = Instant::now();
            network
                .publish(&format!("one{n}"), &some.record, &port(n))
                .expect("a free port");
            begin.elapsed()
        });
        let mut n = 0;
        measure(&format!("unpublish it, {before} published"), || {
            n += 1;
            let begin = Instant::now();
            network.unpublish(&format!("one{n}")).expect("it was published");
            begin.elapsed()
        });
    }
    let known = (0..2_000)
        .map(|n: u32| {
            let owner = format!("many{n}");
            let mut record = some.record.clone();
            if n > 0 {
                record.ip = Ipv4Addr::from_bits(record.ip.to_bits() + 500 + n);
            }
            let published = network.published(&owner);
            (owner, Some(record), published)
        })
        .collect();
    drop(network);
    let begin = Instant::now();
    let network = Network::open(config)?;
    let opened = begin.elapsed().as_micros();
    let recovered = network.recover(known)?;
    let took = begin.elapsed().as_micros();
    println!(
        "open {opened} us, recovery of 2000 owners with a port {took} us, {} problems",
        recovered.problems.len()
    );
    network.purge()
}

fn full(network: &Network, warm: usize) {
    while network.info().warm.0 < warm {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn timed(make: impl FnOnce() -> network::Result<Endpoint>, held: &mut Vec<Endpoint>) -> Duration {
    let begin = Instant::now();
    let endpoint = make().expect("an endpoint");
    let took = begin.elapsed();
    held.push(endpoint);
    took
}

fn drop_all(network: &Network, held: &mut Vec<Endpoint>) {
    for endpoint in held.drain(..) {
        network.release(&endpoint.record);
    }
}

/// The kernel removes namespaces in its own time, under the lock that making them needs.
fn settle() {
    std::thread::sleep(Duration::from_millis(1_500));
}

fn measure(what: &str, mut round: impl FnMut() -> Duration) {
    let mut times: Vec<_> = (0..ROUNDS).map(|_| round().as_nanos() as f64 / 1e3).collect();
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("{what}: p50 {:.1}, p95 {:.1}, max {:.1}", at(50), at(95), at(100));
}

//! From whatever thread a network is opened, used and dropped: no caller's runtime gets in the way of ours.

use tokio::runtime::{Builder, Runtime};

use super::*;

/// Everything that goes through rtnetlink, and the drop.
fn whole_life() {
    let network = open();
    let a = endpoint(&network);
    drop(network);
    let network = Network::open(config()).unwrap();
    let recovered = network.recover(Vec::new()).unwrap();
    assert!(recovered.orphans.contains(&a.record.host_if));
    network.purge().unwrap();
}

fn runtimes() -> [Runtime; 2] {
    [Builder::new_current_thread(), Builder::new_multi_thread()]
        .map(|mut builder| builder.worker_threads(1).build().unwrap())
}

#[test]
fn on_a_blocking_thread_of_a_runtime() {
    world(|world| {
        for runtime in runtimes() {
            runtime.block_on(async {
                tokio::task::spawn_blocking(|| {
                    std::thread::scope(|scope| {
                        scope.spawn(whole_life).join().unwrap();
                        whole_life();
                    });
                })
                .await
                .unwrap();
            });
        }
        assert!(bridge_ports(world).is_empty(), "they worked in this namespace");
    });
}

#[test]
fn in_an_async_task() {
    world(|_| {
        for runtime in runtimes() {
            // The last handle is dropped there too.
            runtime.block_on(async { tokio::spawn(async { whole_life() }).await.unwrap() });
            runtime.block_on(async { whole_life() });
        }
    });
}

#[test]
fn the_caller_may_be_in_another_namespace_later() {
    world(|world| {
        let network = open();
        let orphans = inside(&world.neighbour, || network.recover(Vec::new()).unwrap().orphans);
        assert!(orphans.len() <= 2, "only the stock: {orphans:?}");
        assert!(
            inside(&world.host, || Rtnl::open().unwrap().find("test0"))
                .unwrap()
                .is_some()
        );
        inside(&world.neighbour, || network.purge().unwrap());
        assert!(Rtnl::open().unwrap().find("test0").unwrap().is_none());
    });
}

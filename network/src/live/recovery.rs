//! After a crash, and beside others.

use super::ports::{tcp, udp};
use super::*;
use crate::nft::Table;

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

#[test]
fn after_a_crash_everything_is_as_before_and_orphans_go() {
    world(|world| {
        let network = open();
        let (a, orphan) = (endpoint(&network), endpoint(&network));
        serve_tcp(&a.netns, 80);
        serve_udp(&a.netns, 53, "a");
        let bindings = network
            .publish("a", &a.record, &[tcp(80, 8080), udp(53, 5300)])
            .unwrap();
        network.publish("orphan", &orphan.record, &[tcp(80, 8081)]).unwrap();
        // No close: the process is gone, its descriptors with it.
        drop(network);
        assert!(
            call_tcp(&world.host, LOCALHOST, 8080).is_some(),
            "published ports do not need the daemon"
        );

        let network = Network::open(config()).unwrap();
        assert!(
            call_tcp(&world.host, LOCALHOST, 8080).is_some(),
            "opening disturbs nothing"
        );
        let recovered = network
            .recover(vec![("a".into(), Some(a.record.clone()), bindings)])
            .unwrap();
        assert!(recovered.problems.is_empty(), "{:?}", recovered.problems);
        // Besides those that the kernel is removing already.
        assert!(recovered.orphans.contains(&orphan.record.host_if) && !recovered.orphans.contains(&a.record.host_if));
        assert!(call_tcp(&world.host, LOCALHOST, 8080).is_some());
        assert!(call_udp(&world.neighbour, HOST, 5300).is_some());
        assert!(is_silent(&world.host, LOCALHOST, 8081));
        eventually("the orphan goes", || {
            !bridge_ports(world).contains(&orphan.record.host_if)
        });
        assert!(bridge_ports(world).contains(&a.record.host_if));
        // Address and ports are taken again.
        let taken = network.bridge_endpoint(EndpointSpec {
            ip: Some(a.record.ip),
            mac: None,
        });
        assert_eq!(
            taken.unwrap_err().to_string(),
            format!("Address already in use: {}", a.record.ip)
        );
        assert!(network.publish("b", &a.record, &[tcp(80, 8080)]).is_err());
        assert!(inside(&world.host, || TcpListener::bind("0.0.0.0:8080").is_err()));
        network.unpublish("a").unwrap();
        assert!(is_silent(&world.host, LOCALHOST, 8080));
        network.purge().unwrap();
    });
}

#[test]
fn what_cannot_be_had_back_is_reported() {
    world(|world| {
        let network = open();
        let a = endpoint(&network);
        serve_tcp(&a.netns, 80);
        let bindings = network
            .publish("a", &a.record, &[tcp(80, 8080), tcp(80, 8081)])
            .unwrap();
        drop(network);
        let foreign = inside(&world.host, || TcpListener::bind("127.0.0.1:8080").unwrap());
        let network = Network::open(config()).unwrap();
        let known = vec![
            ("a".to_owned(), Some(a.record.clone()), bindings.clone()),
            ("b".to_owned(), Some(a.record.clone()), bindings),
            ("c".to_owned(), None, Vec::new()),
        ];
        let recovered = network.recover(known).unwrap();
        let problems: Vec<_> = recovered
            .problems
            .iter()
            .map(|one| format!("{}: {}", one.owner, one.error))
            .collect();
        assert_eq!(
            problems,
            [
                "a: failed to bind host port for 0.0.0.0:8080: address already in use".to_owned(),
                format!("b: Address already in use: {}", a.record.ip),
                "b: Bind for 0.0.0.0:8080 failed: port is already allocated".into(),
                "b: Bind for 0.0.0.0:8081 failed: port is already allocated".into(),
            ]
        );
        // It stays published all the same.
        assert!(call_tcp(&world.neighbour, HOST, 8080).is_some());
        drop(foreign);
        network.purge().unwrap();
    });
}

#[test]
fn a_table_that_somebody_removed_is_written_anew() {
    world(|world| {
        let network = open();
        let (a, b) = (endpoint(&network), endpoint(&network));
        serve_tcp(&a.netns, 80);
        serve_tcp(&b.netns, 80);
        network.publish("a", &a.record, &[tcp(80, 8080)]).unwrap();
        let vandal = || {
            Table::new("test-net", "test0", network.info().subnet, true)
                .unwrap()
                .delete()
                .unwrap()
        };
        vandal();
        assert!(is_silent(&world.host, LOCALHOST, 8080));
        network.publish("b", &b.record, &[tcp(80, 8081)]).unwrap();
        assert!(call_tcp(&world.host, LOCALHOST, 8080).is_some() && call_tcp(&world.host, LOCALHOST, 8081).is_some());
        vandal();
        network.unpublish("b").unwrap();
        assert!(call_tcp(&world.host, LOCALHOST, 8080).is_some());
        assert!(is_silent(&world.host, LOCALHOST, 8081));
        network.purge().unwrap();
    });
}

#[test]
fn a_bridge_keeps_its_subnet_and_a_configured_one_wins() {
    world(|world| {
        let network = open_with(NetworkConfig {
            bip: Some("10.5.0.1/24".parse().unwrap()),
            ..config()
        });
        drop(network);
        let network = open();
        assert_eq!(network.info().subnet.to_string(), "10.5.0.0/24");
        drop(network);
        let network = open_with(NetworkConfig {
            bip: Some("10.6.0.1/24".parse().unwrap()),
            mtu: Some(1300),
            ..config()
        });
        assert_eq!(
            (network.info().subnet.to_string(), network.info().mtu),
            ("10.6.0.0/24".into(), 1300)
        );
        let a = endpoint(&network);
        serve_tcp(&world.neighbour, 1000);
        assert_eq!(call_tcp(&a.netns, NEIGHBOUR, 1000), Some(HOST.to_string()));
        network.purge().unwrap();
    });
}

#[test]
fn daemons_live_side_by_side() {
    world(|world| {
        let one = open();
        let other = open_with(NetworkConfig {
            bridge: "test1".into(),
            table: "other-net".into(),
            ..config()
        });
        assert_eq!(other.info().subnet.to_string(), "172.18.0.0/16");
        let (a, b) = (endpoint(&one), endpoint(&other));
        serve_tcp(&a.netns, 80);
        serve_tcp(&b.netns, 80);
        one.publish("a", &a.record, &[tcp(80, 8080)]).unwrap();
        let words = other.publish("b", &b.record, &[tcp(80, 8080)]).unwrap_err().to_string();
        assert_eq!(
            words,
            "failed to bind host port for 0.0.0.0:8080: address already in use"
        );
        other.publish("b", &b.record, &[tcp(80, 8081)]).unwrap();
        assert!(is_silent(&a.netns, b.record.ip, 80), "networks are separate");
        assert!(call_tcp(&a.netns, HOST, 8081).is_some(), "but for what is published");
        // The one's restart leaves the other alone.
        drop(one);
        let one = open();
        eventually("the one's orphan goes", || {
            !bridge_ports(world).contains(&a.record.host_if)
        });
        assert!(bridge_ports(world).contains(&b.record.host_if));
        one.purge().unwrap();
        assert!(call_tcp(&world.host, LOCALHOST, 8081).is_some());
        other.purge().unwrap();
    });
}

#[test]
fn everything_is_gone_after_a_purge() {
    world(|_| {
        let rtnl = Rtnl::open().unwrap();
        let before = rtnl.links().unwrap().len();
        let network = open();
        let a = endpoint(&network);
        network.publish("a", &a.record, &[tcp(80, 8080)]).unwrap();
        network.purge().unwrap();
        network.purge().unwrap();
        drop((network, a));
        eventually("no interface is left", || rtnl.links().unwrap().len() == before);
        let mut table = Table::new("test-net", "test0", "172.17.0.0/16".parse().unwrap(), true).unwrap();
        assert!(table.add(&[]).is_ok(), "no element is no change");
        assert!(!table.exists().unwrap());
    });
}

#[test]
fn a_host_that_drops_forwarded_packets_is_reported() {
    world(|_| {
        let network = open();
        assert!(network.info().warnings.is_empty(), "{:?}", network.info().warnings);
        drop_forwarded("filter", "FORWARD");
        let warnings = network.info().warnings;
        assert!(
            warnings[0].starts_with("chain FORWARD of nftables table ip filter drops forwarded"),
            "{warnings:?}"
        );
        crate::sysctl::write("net/ipv4/ip_forward", "0").unwrap();
        assert!(
            network
                .info()
                .warnings
                .iter()
                .any(|warning| warning.contains("forwarding is disabled"))
        );
        network.purge().unwrap();
    });
}

#[test]
fn the_host_does_not_become_a_router() {
    world(|world| {
        let far = far_neighbour(world);
        serve_tcp(&far, 1000);
        route_over_host(world);
        let network = open();
        let a = endpoint(&network);
        assert_eq!(crate::sysctl::read("net/ipv4/ip_forward").as_deref(), Some("1"));
        assert_eq!(
            call_tcp(&a.netns, FAR, 1000),
            Some(Ipv4Addr::new(198, 51, 100, 1).to_string())
        );
        assert!(is_silent(&world.neighbour, FAR, 1000));
        // Nor after a restart, when forwarding is found turned on.
        drop(network);
        let network = open();
        assert!(is_silent(&world.neighbour, FAR, 1000));
        // One that was a router before stays one.
        network.purge().unwrap();
        assert!(call_tcp(&world.neighbour, FAR, 1000).is_some());
        let network = open();
        assert!(call_tcp(&world.neighbour, FAR, 1000).is_some());
        network.purge().unwrap();
    });
}

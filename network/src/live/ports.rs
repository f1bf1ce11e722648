//! Published ports.

use std::net::IpAddr;

use super::*;
use crate::{EndpointRecord, HostPort, Kind, PortRequest, Proto};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

pub fn tcp(container_port: u16, host_port: u16) -> PortRequest {
    PortRequest {
        container_port,
        proto: Proto::Tcp,
        host_ip: None,
        host_port: HostPort::Exactly(host_port),
    }
}

pub fn udp(container_port: u16, host_port: u16) -> PortRequest {
    PortRequest {
        proto: Proto::Udp,
        ..tcp(container_port, host_port)
    }
}

fn on(address: impl Into<IpAddr>, request: PortRequest) -> PortRequest {
    PortRequest {
        host_ip: Some(address.into()),
        ..request
    }
}

fn refused(network: &Network, owner: &str, record: &EndpointRecord, ports: &[PortRequest]) -> String {
    network.publish(owner, record, ports).unwrap_err().to_string()
}

#[test]
fn a_tcp_port_is_reached_from_everywhere_and_then_from_nowhere() {
    world(|world| {
        let network = open();
        let (a, b) = (endpoint(&network), endpoint(&network));
        serve_tcp(&a.netns, 80);
        network.publish("a", &a.record, &[tcp(80, 8080)]).unwrap();
        let gateway = a.record.gateway;
        // The loopback has no address that a container could answer: it sees the gateway's.
        assert_eq!(call_tcp(&world.host, LOCALHOST, 8080), Some(gateway.to_string()));
        assert_eq!(
            call_tcp(&world.host, Ipv4Addr::new(127, 9, 9, 9), 8080),
            Some(gateway.to_string())
        );
        // Where it has one, the true address is kept.
        assert_eq!(call_tcp(&world.host, HOST, 8080), Some(HOST.to_string()));
        assert_eq!(call_tcp(&world.neighbour, HOST, 8080), Some(NEIGHBOUR.to_string()));
        // Other containers, and the container itself, over any of the host's addresses.
        for from in [&b, &a] {
            assert_eq!(call_tcp(&from.netns, HOST, 8080), Some(gateway.to_string()));
            assert_eq!(call_tcp(&from.netns, gateway, 8080), Some(gateway.to_string()));
        }
        network.unpublish("a").unwrap();
        assert!(is_silent(&world.host, LOCALHOST, 8080));
        assert!(is_silent(&world.neighbour, HOST, 8080));
        assert!(is_silent(&b.netns, HOST, 8080));
        assert_eq!(call_tcp(&b.netns, a.record.ip, 80), Some(b.record.ip.to_string()));
        network.unpublish("a").unwrap();
        network.purge().unwrap();
    });
}

#[test]
fn a_udp_port_is_reached_from_everywhere_and_moves_at_once() {
    world(|world| {
        let network = open();
        let (a, b) = (endpoint(&network), endpoint(&network));
        serve_udp(&a.netns, 53, "a");
        serve_udp(&b.netns, 53, "b");
        // A client that keeps its socket, and began before anything was published.
        let constant = inside(&world.neighbour, || UdpSocket::bind("0.0.0.0:5353").unwrap());
        assert_eq!(ask_udp(&constant, HOST, 5300, SILENCE), None);
        network.publish("a", &a.record, &[udp(53, 5300)]).unwrap();
        assert_eq!(ask_udp(&constant, HOST, 5300, PATIENCE), Some(format!("a {NEIGHBOUR}")));
        let gateway = a.record.gateway;
        assert_eq!(call_udp(&world.host, LOCALHOST, 5300), Some(format!("a {gateway}")));
        assert_eq!(call_udp(&world.host, HOST, 5300), Some(format!("a {HOST}")));
        assert_eq!(call_udp(&b.netns, HOST, 5300), Some(format!("a {gateway}")));
        network.unpublish("a").unwrap();
        network.publish("b", &b.record, &[udp(53, 5300)]).unwrap();
        eventually("the client reaches the new container", || {
            ask_udp(&constant, HOST, 5300, SILENCE) == Some(format!("b {NEIGHBOUR}"))
        });
        network.purge().unwrap();
    });
}

#[test]
fn an_address_limits_where_a_port_is_reached() {
    world(|world| {
        let network = open();
        let (a, b) = (endpoint(&network), endpoint(&network));
        serve_tcp(&a.netns, 80);
        serve_tcp(&b.netns, 81);
        network
            .publish("a", &a.record, &[on(LOCALHOST, tcp(80, 8080))])
            .unwrap();
        network
            .publish("b", &b.record, &[on(HOST, tcp(81, 8080)), on(HOST, udp(81, 8080))])
            .unwrap();
        assert_eq!(
            call_tcp(&world.host, LOCALHOST, 8080),
            Some(a.record.gateway.to_string())
        );
        assert_eq!(call_tcp(&world.neighbour, HOST, 8080), Some(NEIGHBOUR.to_string()));
        assert!(is_silent(&world.host, a.record.gateway, 8080));
        network.unpublish("b").unwrap();
        assert!(is_silent(&world.neighbour, HOST, 8080));
        // A neighbour on the wire that sends packets to our loopback address gets nowhere.
        inside(&world.neighbour, || {
            crate::sysctl::write("net/ipv4/conf/all/route_localnet", "1").unwrap();
            let loopback = Cidr::new(LOCALHOST, 8).unwrap();
            let rtnl = Rtnl::open().unwrap();
            rtnl.delete_address(link::LOOPBACK, loopback).unwrap();
        });
        route_over_host(world);
        assert!(is_silent(&world.neighbour, LOCALHOST, 8080));
        network.purge().unwrap();
    });
}

#[test]
fn conflicts_are_found_before_anything_changes() {
    world(|world| {
        let network = open();
        let (a, b) = (endpoint(&network), endpoint(&network));
        serve_tcp(&b.netns, 81);
        network.publish("a", &a.record, &[tcp(80, 8080)]).unwrap();
        let foreign = inside(&world.host, || TcpListener::bind("0.0.0.0:9000").unwrap());

        let words = "Bind for 0.0.0.0:8080 failed: port is already allocated";
        assert_eq!(
            refused(&network, "b", &b.record, &[tcp(81, 8081), tcp(80, 8080)]),
            words
        );
        assert_eq!(
            refused(&network, "b", &b.record, &[on(LOCALHOST, tcp(80, 8080))]),
            "Bind for 127.0.0.1:8080 failed: port is already allocated"
        );
        assert_eq!(
            refused(&network, "b", &b.record, &[tcp(81, 8081), tcp(80, 9000)]),
            "failed to bind host port for 0.0.0.0:9000: address already in use"
        );
        assert_eq!(
            refused(&network, "b", &b.record, &[on([10, 9, 8, 7], tcp(80, 9001))]),
            "failed to bind host port for 10.9.8.7:9001: cannot assign requested address"
        );
        assert_eq!(
            refused(&network, "a", &a.record, &[tcp(80, 7000)]),
            "the ports of a are published already"
        );
        let twice = refused(&network, "b", &b.record, &[tcp(81, 8081), tcp(82, 8081)]);
        assert_eq!(twice, "Bind for 0.0.0.0:8081 failed: port is already allocated");
        assert!(
            is_silent(&world.host, LOCALHOST, 8081),
            "a refused request publishes nothing"
        );
        assert!(network.published("b").is_empty());

        drop(foreign);
        // The same number for another protocol is another port.
        network
            .publish("b", &b.record, &[tcp(81, 8081), tcp(80, 9000), udp(80, 8080)])
            .unwrap();
        assert!(call_tcp(&world.host, LOCALHOST, 8081).is_some());
        let taken = inside(&world.host, || {
            [
                TcpListener::bind("0.0.0.0:8081").is_err(),
                UdpSocket::bind("127.0.0.1:8080").is_err(),
            ]
        });
        assert_eq!(taken, [true, true], "other programs find the ports in use");
        network.unpublish("b").unwrap();
        inside(&world.host, || TcpListener::bind("0.0.0.0:8081").unwrap());
        network.purge().unwrap();
    });
}

#[test]
fn a_port_is_had_again_behind_closed_connections() {
    world(|world| {
        let network = open();
        let a = endpoint(&network);
        inside(&world.host, || {
            let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
            let client = TcpStream::connect("127.0.0.1:8080").unwrap();
            // The side that closes first keeps the port in TIME_WAIT.
            drop(listener.accept().unwrap());
            drop(listener);
            let mut client = client;
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        });
        network.publish("a", &a.record, &[tcp(80, 8080)]).unwrap();
        serve_tcp(&a.netns, 80);
        assert!(call_tcp(&world.host, LOCALHOST, 8080).is_some());
        assert!(inside(&world.host, || TcpListener::bind("127.0.0.1:8080").is_err()));
        network.purge().unwrap();
    });
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    world(|_| {
        let network = open();
        let a = endpoint(&network);
        let v6: IpAddr = "::1".parse().unwrap();
        for (request, words) in [
            (
                PortRequest {
                    proto: Proto::Sctp,
                    ..tcp(80, 80)
                },
                "cannot publish 80/sctp",
            ),
            (on(v6, tcp(80, 80)), "cannot publish on ::1"),
            (tcp(0, 80), "invalid port in 0/tcp"),
            (tcp(80, 0), "invalid port in 0:80/tcp"),
            (
                PortRequest {
                    host_port: HostPort::OneOf(9, 8),
                    ..tcp(80, 0)
                },
                "invalid port in 9-8:80/tcp",
            ),
        ] {
            let error = network.publish("a", &a.record, &[request]).unwrap_err();
            assert!(error.to_string().starts_with(words), "{error}");
            assert_eq!(error.kind(), Kind::Invalid);
        }
        network.purge().unwrap();
    });
}

#[test]
fn ports_nobody_chose_are_free_ones_of_the_hosts_range() {
    world(|world| {
        inside(&world.host, || {
            crate::sysctl::write("net/ipv4/ip_local_port_range", "40000 40003").unwrap()
        });
        let network = open();
        let a = endpoint(&network);
        let foreign = inside(&world.host, || TcpListener::bind("0.0.0.0:40001").unwrap());
        let any = PortRequest {
            host_port: HostPort::Any,
            ..tcp(80, 0)
        };
        let given = network.publish("a", &a.record, &[any, tcp(81, 40000), any]).unwrap();
        assert_eq!(
            given.iter().map(|one| one.host_port).collect::<Vec<_>>(),
            [40002, 40000, 40003]
        );
        assert_eq!(
            refused(&network, "b", &a.record, &[any]),
            "no free host port between 40000 and 40003 on 0.0.0.0; publish on another port or free one"
        );
        drop(foreign);
        assert_eq!(network.publish("b", &a.record, &[any]).unwrap()[0].host_port, 40001);
        // The same ports are there for UDP.
        let both = [PortRequest {
            proto: Proto::Udp,
            ..any
        }; 2];
        assert_eq!(network.publish("c", &a.record, &both).unwrap().len(), 2);
        network.purge().unwrap();
    });
}

#[test]
fn ranges_are_published_port_by_port_or_one_of_them() {
    world(|world| {
        let network = open();
        let (a, b) = (endpoint(&network), endpoint(&network));
        serve_tcp(&a.netns, 82);
        let all = PortRequest::range(80..=82, Proto::Tcp, None, Some(8000..=8002)).unwrap();
        let given = network.publish("a", &a.record, &all).unwrap();
        assert_eq!(
            given
                .iter()
                .map(|one| (one.host_port, one.container_port))
                .collect::<Vec<_>>(),
            [(8000, 80), (8001, 81), (8002, 82)]
        );
        assert!(call_tcp(&world.host, LOCALHOST, 8002).is_some());
        let one = PortRequest::range(80..=80, Proto::Tcp, None, Some(8001..=8003)).unwrap();
        assert_eq!(network.publish("b", &b.record, &one).unwrap()[0].host_port, 8003);
        assert!(refused(&network, "c", &b.record, &one).contains("between 8001 and 8003"));
        assert!(PortRequest::range(80..=81, Proto::Tcp, None, Some(8000..=8002)).is_err());
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = PortRequest::range(81..=80, Proto::Tcp, None, None);
        assert!(reversed.is_err());
        network.purge().unwrap();
    });
}

//! Namespaces and endpoints.

use super::*;
use crate::{Error, Mac};

#[test]
fn a_container_reaches_gateway_neighbours_and_the_outside() {
    world(|world| {
        let network = open();
        let (a, b) = (endpoint(&network), endpoint(&network));
        assert_ne!(a.record.ip, b.record.ip);
        assert_eq!(a.record.gateway, Ipv4Addr::new(172, 17, 0, 1));

        serve_tcp(&world.host, 1000);
        assert_eq!(
            call_tcp(&a.netns, a.record.gateway, 1000),
            Some(a.record.ip.to_string())
        );
        serve_tcp(&b.netns, 1000);
        assert_eq!(call_tcp(&a.netns, b.record.ip, 1000), Some(a.record.ip.to_string()));
        assert_eq!(
            call_tcp(&world.host, b.record.ip, 1000),
            Some(a.record.gateway.to_string())
        );
        // The neighbour has no route to the containers: it can only answer the host.
        serve_tcp(&world.neighbour, 1000);
        assert_eq!(call_tcp(&a.netns, NEIGHBOUR, 1000), Some(HOST.to_string()));
        network.purge().unwrap();
    });
}

#[test]
fn nothing_unasked_for_comes_in_from_outside() {
    world(|world| {
        let network = open_with(NetworkConfig {
            masquerade: false,
            ..config()
        });
        let a = endpoint(&network);
        serve_tcp(&a.netns, 1000);
        serve_tcp(&world.neighbour, 1000);
        route_over_host(world);
        assert!(is_silent(&world.neighbour, a.record.ip, 1000));
        // Answers come in: the same path the other way round, without masquerading.
        assert_eq!(call_tcp(&a.netns, NEIGHBOUR, 1000), Some(a.record.ip.to_string()));
        network.purge().unwrap();
    });
}

#[test]
fn a_container_cannot_speak_to_the_hosts_loopback() {
    world(|world| {
        let network = open();
        let a = endpoint(&network);
        let listener = inside(&world.host, || TcpListener::bind((Ipv4Addr::LOCALHOST, 1000)).unwrap());
        std::thread::spawn(move || {
            listener
                .incoming()
                .flatten()
                .for_each(|mut client| drop(client.write(b"secret")))
        });
        // A container that owns its namespace can make its kernel send anything, also packets to 127.0.0.1.
        inside(&a.netns, || {
            crate::sysctl::write("net/ipv4/conf/all/route_localnet", "1").unwrap();
            let loopback = Cidr::new(Ipv4Addr::LOCALHOST, 8).unwrap();
            let rtnl = Rtnl::open().unwrap();
            rtnl.delete_address(link::LOOPBACK, loopback).unwrap();
        });
        assert!(is_silent(&a.netns, Ipv4Addr::LOCALHOST, 1000));
        assert_eq!(
            call_tcp(&world.host, Ipv4Addr::LOCALHOST, 1000).as_deref(),
            Some("secret")
        );
        network.purge().unwrap();
    });
}

#[test]
fn inside_all_is_as_a_container_expects_it() {
    world(|_| {
        let network = open_with(NetworkConfig {
            mtu: Some(1400),
            ..config()
        });
        let a = endpoint(&network);
        let empty = network.empty_netns().unwrap();
        let (links, addresses, routes) = inside(&a.netns, || {
            let rtnl = Rtnl::open().unwrap();
            (rtnl.links().unwrap(), rtnl.addresses().unwrap(), rtnl.routes().unwrap())
        });
        let names: Vec<_> = links
            .iter()
            .map(|link| (link.name.as_str(), link.index, link.up))
            .collect();
        assert_eq!(names, [("lo", 1, true), ("eth0", 2, true)]);
        assert_eq!(links[1].mtu, 1400);
        assert_eq!(
            addresses,
            [
                (1, "127.0.0.1/8".parse().unwrap()),
                (2, Cidr::new(a.record.ip, 16).unwrap())
            ]
        );
        assert_eq!(
            routes.iter().map(|route| route.to.to_string()).collect::<Vec<_>>(),
            ["0.0.0.0/0", "172.17.0.0/16"]
        );
        inside(&a.netns, || {
            assert_eq!(
                crate::sysctl::read("net/ipv4/ip_unprivileged_port_start").as_deref(),
                Some("0")
            );
            assert_eq!(
                crate::sysctl::read("net/ipv6/conf/eth0/disable_ipv6").as_deref(),
                Some("1")
            );
        });
        inside(&empty, || {
            let links = Rtnl::open().unwrap().links().unwrap();
            assert_eq!(
                links
                    .iter()
                    .map(|link| (link.name.as_str(), link.up))
                    .collect::<Vec<_>>(),
                [("lo", true)]
            );
        });
        network.purge().unwrap();
    });
}

#[test]
fn an_address_and_a_mac_can_be_asked_for() {
    world(|_| {
        let network = open();
        eventually("the stock is filled", || network.info().warm.0 == 2);
        let mac: Mac = "02:42:00:00:00:07".parse().unwrap();
        let ask = |ip: Option<[u8; 4]>, mac| {
            network.bridge_endpoint(EndpointSpec {
                ip: ip.map(Ipv4Addr::from),
                mac,
            })
        };
        let far = ask(Some([172, 17, 9, 9]), Some(mac)).unwrap();
        assert_eq!((far.record.ip, far.record.mac), (Ipv4Addr::new(172, 17, 9, 9), mac));
        // In stock already, with another hardware address.
        let near = ask(Some([172, 17, 0, 2]), Some(mac)).unwrap();
        assert_eq!(near.record.mac, mac);
        serve_tcp(&near.netns, 1000);
        let other = ask(None, Some("02:42:00:00:00:08".parse().unwrap())).unwrap();
        assert_eq!(
            call_tcp(&other.netns, near.record.ip, 1000),
            Some(other.record.ip.to_string())
        );

        assert!(matches!(
            ask(Some([172, 17, 9, 9]), None),
            Err(Error::AddressTaken { .. })
        ));
        assert!(matches!(
            ask(Some([172, 17, 0, 1]), None),
            Err(Error::AddressSpecial { .. })
        ));
        assert!(matches!(
            ask(Some([172, 17, 255, 255]), None),
            Err(Error::AddressSpecial { .. })
        ));
        assert!(matches!(
            ask(Some([10, 0, 0, 1]), None),
            Err(Error::AddressOutside { .. })
        ));
        network.release(&far.record);
        assert!(ask(Some([172, 17, 9, 9]), None).is_ok());
        network.purge().unwrap();
    });
}

#[test]
fn the_stock_is_bounded_refilled_and_never_waited_for() {
    world(|_| {
        let network = Network::open(config()).unwrap();
        assert!(
            network.ready_endpoint().is_none(),
            "nothing is made before it is known which addresses are taken"
        );
        network.recover(Vec::new()).unwrap();
        for _ in 0..3 {
            eventually("the stock is filled", || network.info().warm == (2, 1));
            let taken: Vec<_> = std::iter::from_fn(|| network.ready_endpoint()).take(20).collect();
            assert!(
                (2..20).contains(&taken.len()),
                "{} endpoints were ready at once",
                taken.len()
            );
            assert!(network.ready_netns().is_some());
            taken.iter().for_each(|endpoint| network.release(&endpoint.record));
        }
        network.purge().unwrap();
        assert!(network.ready_endpoint().is_none() && network.ready_netns().is_none());
    });
}

#[test]
fn a_small_subnet_is_used_to_its_last_address() {
    world(|_| {
        let network = open_with(NetworkConfig {
            bip: Some("10.1.2.1/29".parse().unwrap()),
            warm: 4,
            ..config()
        });
        eventually("something is in stock", || network.info().warm.0 > 0);
        let all: Vec<_> = (0..5).map(|_| endpoint(&network)).collect();
        let refused = network.bridge_endpoint(EndpointSpec::default()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "no available IPv4 addresses on this network's address pool: 10.1.2.0/29"
        );
        network.release(&all[2].record);
        assert_eq!(endpoint(&network).record.ip, all[2].record.ip);
        network.purge().unwrap();
    });
}

#[test]
fn interfaces_and_namespaces_go_away_with_their_container() {
    world(|world| {
        let network = open();
        let many: Vec<_> = (0..6).map(|_| endpoint(&network)).collect();
        let mine: Vec<_> = many.iter().map(|endpoint| endpoint.record.host_if.clone()).collect();
        let ports = bridge_ports(world);
        assert!(mine.iter().all(|name| ports.contains(name)));
        for endpoint in many {
            network.release(&endpoint.record);
        }
        eventually("the kernel removes the interfaces", || {
            !bridge_ports(world).iter().any(|name| mine.contains(name))
        });
        network.close();
        eventually("the stock goes too", || bridge_ports(world).is_empty());
        assert!(matches!(
            network.bridge_endpoint(EndpointSpec::default()),
            Err(Error::Closed { .. })
        ));
        assert!(matches!(network.empty_netns(), Err(Error::Closed { .. })));
        network.purge().unwrap();
    });
}

#[test]
fn many_at_once_get_different_addresses() {
    world(|_| {
        let network = open();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let network = network.clone();
                std::thread::spawn(move || (0..8).map(|_| endpoint(&network)).collect::<Vec<_>>())
            })
            .collect();
        let all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let addresses: std::collections::HashSet<_> = all.iter().map(|endpoint| endpoint.record.ip).collect();
        assert_eq!(addresses.len(), 32);
        serve_tcp(&all[0].netns, 1000);
        assert!(call_tcp(&all[31].netns, all[0].record.ip, 1000).is_some());
        network.purge().unwrap();
    });
}

#[test]
fn the_subnet_avoids_what_the_host_uses() {
    world(|_| {
        let rtnl = Rtnl::open().unwrap();
        let wire = rtnl.find("wire").unwrap().unwrap();
        for address in ["172.17.5.5/24", "172.18.0.0/32"] {
            rtnl.add_address(wire.index, address.parse().unwrap()).unwrap();
        }
        let network = open();
        assert_eq!(network.info().subnet.to_string(), "172.19.0.0/16");
        network.purge().unwrap();
    });
}

#[test]
fn the_mtu_is_that_of_the_way_out() {
    world(|_| {
        let rtnl = Rtnl::open().unwrap();
        let wire = rtnl.find("wire").unwrap().unwrap();
        default_route("wire", NEIGHBOUR);
        for (outside, expected) in [(1400, 1400), (9000, 1500)] {
            rtnl.set_mtu(wire.index, outside).unwrap();
            // The second time the bridge is there already.
            let network = open();
            assert_eq!(network.info().mtu, expected);
            assert_eq!(rtnl.find("test0").unwrap().unwrap().mtu, expected);
        }
        open().purge().unwrap();
    });
}

#[test]
fn the_bridge_and_its_ports_have_no_link_local_address() {
    world(|_| {
        let network = open();
        let a = endpoint(&network);
        for interface in ["test0", &a.record.host_if] {
            let mode = crate::sysctl::read(&format!("net/ipv6/conf/{interface}/addr_gen_mode"));
            // Where there is no IPv6 there is nothing to read.
            assert!(mode.is_none_or(|mode| mode == "1"), "{interface}");
        }
        network.purge().unwrap();
    });
}

#[test]
fn what_cannot_be_a_bridge_is_refused() {
    world(|_| {
        let refused = |config| Network::open(config).map(|_| ()).unwrap_err().to_string();
        assert!(
            refused(NetworkConfig {
                bridge: "wire".into(),
                ..config()
            })
            .contains("is not a bridge")
        );
        for name in ["", "a/b", "..", "sixteen-letters-", "a b", "tschüß"] {
            assert!(
                refused(NetworkConfig {
                    bridge: name.into(),
                    ..config()
                })
                .contains("bridge name"),
                "{name}"
            );
        }
        assert!(
            refused(NetworkConfig {
                table: "0x".into(),
                ..config()
            })
            .contains("table name")
        );
        for bip in [
            "10.0.0.0/24",
            "10.0.0.255/24",
            "10.0.0.1/31",
            "10.0.0.1/32",
            "10.0.0.1/7",
        ] {
            refused(NetworkConfig {
                bip: Some(bip.parse().unwrap()),
                ..config()
            });
        }
        let rtnl = Rtnl::open().unwrap();
        assert!(
            rtnl.find("test0").unwrap().is_none(),
            "nothing is left behind by a refusal"
        );
        // What the kernel itself refuses, in its own words.
        let error = Network::open(NetworkConfig {
            mtu: Some(20),
            ..config()
        })
        .unwrap_err();
        let words = crate::error::chain(&error);
        assert!(
            words.starts_with("cannot create bridge test0 (the kernel says: mtu") && words.contains("Invalid argument"),
            "{words}"
        );
    });
}

//! The rules of publishing, against a model.
#![allow(clippy::unwrap_used)]
use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// A host whose ports 5 and 7 are somebody else's, and which sees that nothing is bound twice or kept for ever.
#[derive(Clone, Default)]
struct Host(Rc<RefCell<HashSet<(Proto, SocketAddrV4)>>>);

struct Holder(Host, (Proto, SocketAddrV4));

impl Host {
    fn hold(&self, proto: Proto, address: SocketAddrV4) -> io::Result<Holder> {
        let mut bound = self.0.borrow_mut();
        let taken = bound
            .iter()
            .any(|(other, at)| *other == proto && at.port() == address.port() && collide(*at.ip(), *address.ip()));
        if taken || matches!(address.port(), 5 | 7) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        bound.insert((proto, address));
        Ok(Holder(self.clone(), (proto, address)))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.0.borrow_mut().remove(&self.1);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8, Vec<PortRequest>),
    Unpublish(u8),
}

fn request() -> impl Strategy<Value = PortRequest> {
    let proto = prop_oneof![Just(Proto::Tcp), Just(Proto::Udp)];
    let ip = prop_oneof![Just(None), (0_u8..3).prop_map(|n| Some(IpAddr::from([10, 0, 0, n])))];
    let ip = prop_oneof![ip, Just(Some(IpAddr::from([0, 0, 0, 0])))];
    let host_port = prop_oneof![
        Just(HostPort::Any),
        (0_u16..12).prop_map(HostPort::Exactly),
        (0_u16..12, 0_u16..12).prop_map(|(a, b)| HostPort::OneOf(a, b)),
    ];
    (0_u16..4, proto, ip, host_port).prop_map(|(container_port, proto, host_ip, host_port)| PortRequest {
        container_port,
        proto,
        host_ip,
        host_port,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u8..5, proptest::collection::vec(request(), 0..4)).prop_map(|(owner, ports)| Step::Publish(owner, ports)),
        (0_u8..5).prop_map(Step::Unpublish),
    ]
}

proptest! {
    /// What is published never collides, is what was asked for, is held exactly as long as it is published; and a
    /// request that could be met is met.
    #[test]
    fn no_port_is_given_twice(steps in proptest::collection::vec(step(), 0..40)) {
        let host = Host::default();
        let mut ports = Ports::new(4..=9);
        let target = Ipv4Addr::new(172, 17, 0, 2);
        for step in steps {
            match step {
                Step::Publish(owner, requests) => {
                    let owner = owner.to_string();
                    let before: Vec<_> = ports.all().map(|held| held.binding).collect();
                    let chosen = ports.choose(&owner, target, &requests, &mut |proto, at| host.hold(proto, at));
                    match chosen {
                        Ok(held) => {
                            prop_assert_eq!(held.len(), requests.len());
                            for (held, request) in held.iter().zip(&requests) {
                                let PortBinding { container_port, proto, host_port, .. } = held.binding;
                                prop_assert_eq!((container_port, proto), (request.container_port, request.proto));
                                let allowed = match request.host_port {
                                    HostPort::Any => 4..=9,
                                    HostPort::Exactly(port) => port..=port,
                                    HostPort::OneOf(first, last) => first..=last,
                                };
                                prop_assert!(allowed.contains(&host_port));
                            }
                            ports.commit(&owner, held);
                        }
                        Err(_) if requests.len() == 1 && check(&requests[0]).is_ok() && ports.of(&owner).is_empty() => {
                            let ip = match requests[0].host_ip {
                                Some(IpAddr::V4(ip)) => ip,
                                _ => Ipv4Addr::UNSPECIFIED,
                            };
                            let (first, last) = match requests[0].host_port {
                                HostPort::Any => (4, 9),
                                HostPort::Exactly(port) => (port, port),
                                HostPort::OneOf(first, last) => (first, last),
                            };
                            for port in first..=last {
                                let used = before.iter().any(|one| {
                                    one.proto == requests[0].proto && one.host_port == port && collide(one.host_ip, ip)
                                });
                                prop_assert!(used || port == 5 || port == 7, "port {} was free", port);
                            }
                        }
                        Err(_) => {}
                    }
                }
                Step::Unpublish(owner) => {
                    ports.remove(&owner.to_string());
                    prop_assert!(ports.of(&owner.to_string()).is_empty());
                }
            }
            let published: HashSet<_> = ports
                .all()
                .map(|held| (held.binding.proto, SocketAddrV4::new(held.binding.host_ip, held.binding.host_port)))
                .collect();
            prop_assert_eq!(published.len(), ports.all().count());
            prop_assert_eq!(&published, &*host.0.borrow());
            prop_assert_eq!(ports.taken.values().map(Vec::len).sum::<usize>(), published.len());
        }
    }
}

#[test]
fn a_freed_port_is_not_given_again_at_once() {
    let host = Host::default();
    let mut ports = Ports::new(10..=20);
    let any = PortRequest {
        container_port: 80,
        proto: Proto::Tcp,
        host_ip: None,
        host_port: HostPort::Any,
    };
    let mut publish = || {
        let target = Ipv4Addr::new(172, 17, 0, 2);
        let held = ports
            .choose("a", target, &[any], &mut |proto, at| host.hold(proto, at))
            .unwrap();
        let port = held[0].binding.host_port;
        ports.commit("a", held);
        ports.remove("a");
        port
    };
    assert_eq!([publish(), publish(), publish()], [10, 11, 12]);
}

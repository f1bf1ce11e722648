//! The default network, no network, the host's, another container's; published ports.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use harness::kernel::Process;
use harness::tools::{eventually, free_port};
use harness::{Test, tests};

use crate::world::{Named, World};

pub fn tests() -> Vec<Test<World>> {
    tests![
        bridge_gives_an_address_and_a_route,
        containers_reach_each_other,
        host_is_reached_through_the_gateway,
        container_reaches_another_host_with_the_hosts_address,
        network_none_has_only_loopback,
        network_host_is_the_hosts,
        network_of_another_container,
        port_is_published_on_every_address,
        port_is_published_on_one_address,
        port_zero_takes_a_free_one,
        port_range_is_published,
        udp_port_is_published,
        publish_all_takes_the_exposed_ports,
        port_in_use_is_refused_and_nothing_left,
        port_is_free_again_after_removal,
        container_reaches_its_own_published_port,
        mac_address_is_set,
        addresses_are_not_given_twice,
        interface_is_gone_with_the_container,
    ]
}

fn address(world: &World, name: &str) -> String {
    let networks = world.inspect(name)["NetworkSettings"]["Networks"].clone();
    networks["bridge"]["IPAddress"].as_str().unwrap_or_default().to_owned()
}

/// A container that answers every TCP connection to port 80 with `text`.
pub(crate) fn server<'a>(world: &'a World, flags: &[&str], text: &str) -> Named<'a> {
    let name = world.name("server");
    let line = format!("while :; do echo {text} | nc -l -p 80 >/dev/null; done");
    world
        .run(&[&["run", "-d", "--name", &*name], flags, &["busybox", "sh", "-c", &line]].concat())
        .ok();
    name
}

/// What a server on `address` says.
pub(crate) fn ask(address: &str) -> Option<String> {
    let address = address.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

pub(crate) fn answers(address: &str, text: &str) {
    eventually(&format!("{address} answers {text}"), 10, || {
        ask(address).as_deref() == Some(text)
    });
}

fn bridge_gives_an_address_and_a_route(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let network = world.inspect(&name)["NetworkSettings"]["Networks"]["bridge"].clone();
    let own = network["IPAddress"].as_str().unwrap();
    let gateway = network["Gateway"].as_str().unwrap();
    if !world.is_foreign() {
        assert_eq!(gateway, world.gateway());
    }
    let shown = world.inside(&name, "ip -4 addr show eth0");
    assert!(
        shown.contains(&format!("inet {own}/{}", network["IPPrefixLen"])),
        "{shown}"
    );
    assert!(shown.contains("UP"), "{shown}");
    assert!(
        world
            .inside(&name, "ip route")
            .contains(&format!("default via {gateway} dev eth0"))
    );
    assert!(world.inside(&name, "ip addr show lo").contains("127.0.0.1"));
    let mac = network["MacAddress"].as_str().unwrap();
    assert!(
        world
            .inside(&name, "cat /sys/class/net/eth0/address")
            .eq_ignore_ascii_case(mac)
    );
    assert!(world.inside(&name, "cat /etc/hosts").contains(own));
}

fn containers_reach_each_other(world: &World) {
    let first = server(world, &[], "first");
    let own = address(world, &first);
    eventually("the other container answers", 10, || {
        world.shell(&[], &format!("nc -w 2 {own} 80 </dev/null || true")) == "first"
    });
}

fn host_is_reached_through_the_gateway(world: &World) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten().take(3) {
            let _ = stream.write_all(b"the host\n");
        }
    });
    let (name, _) = world.sleeper(&[]);
    let gateway = world.gateway_of(&name);
    assert_eq!(
        world.inside(&name, &format!("nc -w 3 {gateway} {port} </dev/null")),
        "the host"
    );
}

/// The outside world: a host beyond this one, made of a namespace and a veth, must see our address, not the
/// container's, because it has no route back.
fn container_reaches_another_host_with_the_hosts_address(world: &World) {
    let outside = Outside::new();
    let listener = outside.listener();
    listener.set_nonblocking(true).unwrap();
    let (name, _) = world.sleeper(&[]);
    let mut client = world.background(&["exec", "-i", &name, "nc", "-w", "5", &outside.far, "7777"]);
    let mut peer = None;
    eventually("the host beyond is reached", 10, || {
        peer = listener.accept().ok();
        peer.is_some()
    });
    let (mut stream, from) = peer.unwrap();
    stream.write_all(b"beyond\n").unwrap();
    drop(stream);
    client.expect("beyond");
    client.close_input();
    assert_eq!(
        from.ip().to_string(),
        outside.near,
        "the address of this host, not the container's"
    );
}

fn network_none_has_only_loopback(world: &World) {
    let (name, process) = world.sleeper(&["--network", "none"]);
    assert_ne!(process.namespace("net"), Process::own().namespace("net"));
    assert_eq!(
        world.inside(
            &name,
            "ls /sys/class/net | grep -vE '^(ifb|sit|tunl|ip6tnl|erspan|gre|dummy|bond|ip_vti|ip6_vti|teql)' "
        ),
        "lo"
    );
    assert!(world.inside(&name, "ip addr show lo").contains("127.0.0.1"));
    assert_eq!(world.inside(&name, "ip route | wc -l"), "0");
}

fn network_host_is_the_hosts(world: &World) {
    let (name, process) = world.sleeper(&["--network", "host"]);
    assert_eq!(process.namespace("net"), Process::own().namespace("net"));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(world.inside(&name, "hostname"), host.trim());
}

fn network_of_another_container(world: &World) {
    let (first, process) = world.sleeper(&[]);
    let (second, other) = world.sleeper(&["--network", &format!("container:{}", &*first)]);
    assert_eq!(process.namespace("net"), other.namespace("net"));
    assert_eq!(world.inside(&second, "hostname"), world.inside(&first, "hostname"));
    assert_eq!(
        world.inside(&second, "cat /etc/hosts"),
        world.inside(&first, "cat /etc/hosts")
    );
}

fn port_is_published_on_every_address(world: &World) {
    let port = free_port();
    let name = server(world, &["-p", &format!("{port}:80")], "published");
    answers(&format!("127.0.0.1:{port}"), "published");
    let gateway = world.gateway_of(&name);
    answers(&format!("{gateway}:{port}"), "published");
    assert!(
        world
            .run(&["port", &name])
            .out
            .contains(&format!("80/tcp -> 0.0.0.0:{port}"))
    );
    assert!(
        world
            .run(&["ps", "--filter", &format!("name={}", &*name)])
            .out
            .contains(&format!("0.0.0.0:{port}->80/tcp"))
    );
}

fn port_is_published_on_one_address(world: &World) {
    let port = free_port();
    let name = server(world, &["-p", &format!("127.0.0.1:{port}:80")], "local");
    answers(&format!("127.0.0.1:{port}"), "local");
    let gateway = world.gateway_of(&name);
    assert_eq!(ask(&format!("{gateway}:{port}")), None, "only on loopback");
}

fn port_zero_takes_a_free_one(world: &World) {
    let name = server(world, &["-p", "80"], "ephemeral");
    let bindings = world.inspect(&name)["NetworkSettings"]["Ports"]["80/tcp"].clone();
    let port: u16 = bindings[0]["HostPort"].as_str().unwrap().parse().unwrap();
    assert!(port >= 1024, "{port}");
    answers(&format!("127.0.0.1:{port}"), "ephemeral");
}

fn port_range_is_published(world: &World) {
    // Three ports in a row, high enough to be free.
    let first = 20000 + rand::random_range(0..2000) * 4;
    let name = server(world, &["-p", &format!("{first}-{}:78-80", first + 2)], "range");
    answers(&format!("127.0.0.1:{}", first + 2), "range");
    let ports = world.inspect(&name)["NetworkSettings"]["Ports"].clone();
    assert_eq!(ports["78/tcp"][0]["HostPort"], first.to_string());
    assert_eq!(ports["79/tcp"][0]["HostPort"], (first + 1).to_string());
}

fn udp_port_is_published(world: &World) {
    let port = free_port();
    let (name, process) = world.sleeper(&["-p", &format!("{port}:53/udp")]);
    // Debian's busybox has no server for datagrams: ours sits in the container's network namespace.
    let inside = in_namespace(Path::new(&format!("/proc/{}/ns/net", process.0)), || {
        UdpSocket::bind("0.0.0.0:53").unwrap()
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        // Not for long: the socket keeps the namespace and its interface alive.
        inside.set_read_timeout(Some(harness::tools::patience(2))).unwrap();
        while let Ok((count, from)) = inside.recv_from(&mut buffer) {
            let _ = inside.send_to(&buffer[..count], from);
        }
    });
    let gateway = world.gateway_of(&name);
    for address in ["127.0.0.1", gateway.as_str()] {
        eventually(&format!("the datagram comes back from {address}"), 10, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((address, port)).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let mut buffer = [0; 16];
            socket.send(b"ping").is_ok() && socket.recv(&mut buffer).is_ok_and(|count| &buffer[..count] == b"ping")
        });
    }
}

fn publish_all_takes_the_exposed_ports(world: &World) {
    let name = server(world, &["-P", "--expose", "80"], "exposed");
    let port = world.inspect(&name)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
        .as_str()
        .unwrap()
        .to_owned();
    answers(&format!("127.0.0.1:{port}"), "exposed");
}

fn port_in_use_is_refused_and_nothing_left(world: &World) {
    let holder = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let name = world.name("refused");
    // The first port is free: it must be given back when the second is refused.
    let free = free_port();
    let error = world
        .run(&[
            "run",
            "-d",
            "--name",
            &name,
            "-p",
            &format!("{free}:81"),
            "-p",
            &format!("{port}:80"),
            "busybox",
            "sleep",
            "9",
        ])
        .fails(125);
    assert!(
        error.contains(&port.to_string()) && error.contains("address already in use"),
        "{error}"
    );
    assert!(matches!(
        world.inspect(&name)["State"]["Status"].as_str(),
        Some("created")
    ));
    TcpListener::bind(("0.0.0.0", free)).expect("the free port is free again");
    // Once the port is free the same container starts.
    drop(holder);
    world.run(&["start", &name]).ok();
}

fn port_is_free_again_after_removal(world: &World) {
    let port = free_port();
    for text in ["one", "two"] {
        let name = server(world, &["-p", &format!("{port}:80")], text);
        answers(&format!("127.0.0.1:{port}"), text);
        world.run(&["rm", "-f", &name]).ok();
    }
    TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
    assert_eq!(ask(&format!("127.0.0.1:{port}")), None);
}

fn container_reaches_its_own_published_port(world: &World) {
    let port = free_port();
    let name = server(world, &["-p", &format!("{port}:80")], "hairpin");
    answers(&format!("127.0.0.1:{port}"), "hairpin");
    let gateway = world.gateway_of(&name);
    eventually("its own port through the host", 10, || {
        world.inside(&name, &format!("nc -w 2 {gateway} {port} </dev/null || true")) == "hairpin"
    });
}

fn mac_address_is_set(world: &World) {
    let (name, _) = world.sleeper(&["--mac-address", "02:42:ac:11:ee:01"]);
    assert_eq!(
        world.inside(&name, "cat /sys/class/net/eth0/address"),
        "02:42:ac:11:ee:01"
    );
}

fn addresses_are_not_given_twice(world: &World) {
    let containers: Vec<_> = (0..5).map(|_| world.sleeper(&[]).0).collect();
    let mut addresses: Vec<String> = containers.iter().map(|name| address(world, name)).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 5, "{addresses:?}");
}

fn interface_is_gone_with_the_container(world: &World) {
    let (name, process) = world.sleeper(&[]);
    let index = std::fs::read_to_string(process.root("/sys/class/net/eth0/iflink"));
    let index = index
        .unwrap_or_else(|_| world.inside(&name, "cat /sys/class/net/eth0/iflink"))
        .trim()
        .to_owned();
    let is_there = || {
        std::fs::read_dir("/sys/class/net")
            .unwrap()
            .flatten()
            .any(|link| std::fs::read_to_string(link.path().join("ifindex")).is_ok_and(|text| text.trim() == index))
    };
    assert!(is_there(), "the host's end of eth0 has number {index}");
    world.run(&["rm", "-f", &name]).ok();
    eventually("the host's end is gone", 10, || !is_there());
}

/// Runs `action` on a thread that has entered a network namespace; a socket made there stays there.
fn in_namespace<R: Send + 'static>(path: &Path, action: impl FnOnce() -> R + Send + 'static) -> R {
    let namespace = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let thread = std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("enter the network namespace");
        action()
    });
    thread.join().expect("the thread in the namespace")
}

/// A host beyond ours: a network namespace joined by a veth, with no route back to any container.
struct Outside {
    tag: String,
    near: String,
    far: String,
}

impl Outside {
    fn new() -> Outside {
        let tag = harness::tools::tag();
        let net = rand::random_range(0..200);
        let outside = Outside {
            near: format!("10.198.{net}.1"),
            far: format!("10.198.{net}.2"),
            tag,
        };
        let link = format!("o{}", outside.tag);
        let far_link = format!("p{}", outside.tag);
        for line in [
            format!("netns add {}", outside.tag),
            format!("link add {link} type veth peer name {far_link} netns {}", outside.tag),
            format!("addr add {}/24 dev {link}", outside.near),
            format!("link set {link} up"),
            format!("-n {} addr add {}/24 dev {far_link}", outside.tag, outside.far),
            format!("-n {} link set {far_link} up", outside.tag),
            format!("-n {} link set lo up", outside.tag),
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            ip(&words).ok();
        }
        outside
    }

    fn listener(&self) -> TcpListener {
        let namespace = Path::new("/run/netns").join(&self.tag);
        let far = self.far.clone();
        in_namespace(&namespace, move || TcpListener::bind((far, 7777)).unwrap())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        ip(&["link", "delete", &format!("o{}", self.tag)]);
        ip(&["netns", "delete", &self.tag]);
    }
}

fn ip(arguments: &[&str]) -> harness::Output {
    harness::process::Run::new("ip".as_ref(), arguments).output()
}

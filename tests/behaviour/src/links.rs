//! `--link`: names and variables for another container of the default network.

use harness::tools::eventually;
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        link_gives_names_and_variables,
        link_follows_a_new_address_and_leaves_the_rest,
        link_is_shown_by_the_names_of_today,
        link_needs_a_container_that_runs,
        link_conflicts_are_refused,
        link_can_be_removed,
    ]
}

fn address(world: &World, name: &str) -> String {
    let about = world.inspect(name);
    let address = &about["NetworkSettings"]["Networks"]["bridge"]["IPAddress"];
    address.as_str().expect("an address").to_owned()
}

fn link_gives_names_and_variables(world: &World) {
    let flags = ["--expose=80", "--expose=53/udp", "--env=COLOUR=red", "--hostname=box"];
    let (target, _) = world.sleeper(&flags);
    let own = address(world, &target);
    let link = format!("--link={}:my-db", &*target);
    let line = "cat /etc/hosts; env; ping -c 1 -w 5 my-db";
    let seen = world.shell(&[&link, "--env=MY_DB_ENV_SECOND=mine"], line);
    assert!(
        seen.lines()
            .any(|line| line == format!("{own}\tmy-db box {}", &*target)),
        "{seen}"
    );
    for wanted in [
        format!("MY_DB_PORT=udp://{own}:53"),
        format!("MY_DB_PORT_53_UDP=udp://{own}:53"),
        format!("MY_DB_PORT_80_TCP=tcp://{own}:80"),
        format!("MY_DB_PORT_80_TCP_ADDR={own}"),
        "MY_DB_PORT_80_TCP_PORT=80".to_owned(),
        "MY_DB_PORT_80_TCP_PROTO=tcp".to_owned(),
        "MY_DB_ENV_COLOUR=red".to_owned(),
        "MY_DB_ENV_SECOND=mine".to_owned(),
    ] {
        assert!(seen.lines().any(|line| line == wanted), "{wanted}: {seen}");
    }
    assert!(
        seen.contains("/my-db\n") && seen.contains("1 packets received"),
        "{seen}"
    );
    assert!(!seen.contains("MY_DB_ENV_PATH"), "{seen}");
}

fn link_follows_a_new_address_and_leaves_the_rest(world: &World) {
    let (target, _) = world.sleeper(&[]);
    let (name, _) = world.sleeper(&[&format!("--link={}:db", &*target)]);
    world.inside(&name, "echo 10.9.8.7 mine >> /etc/hosts");
    let first = address(world, &target);
    let mut others = Vec::new();
    // Somebody else takes what becomes free, sooner or later.
    let second = (0..20).find_map(|_| {
        world.run(&["stop", "-t", "0", &target]).ok();
        others.push(world.sleeper(&[]));
        world.run(&["start", &target]).ok();
        Some(address(world, &target)).filter(|second| *second != first)
    });
    let second = second.expect("another address");
    eventually("the hosts file has the new address", 10, || {
        let hosts = world.inside(&name, "cat /etc/hosts");
        hosts.contains(&format!("{second}\tdb ")) && !hosts.contains(&format!("{first}\tdb "))
    });
    assert!(world.inside(&name, "cat /etc/hosts").contains("10.9.8.7 mine"));
    assert!(world.inside(&name, "env").contains(&format!("DB_NAME=/{}/db", &*name)));
}

fn link_is_shown_by_the_names_of_today(world: &World) {
    let (target, _) = world.sleeper(&[]);
    let (name, _) = world.sleeper(&[&format!("--link={}", &*target)]);
    // The alias is the name that the container had then.
    let alias = target.to_string();
    let shown = |target: &str| serde_json::json!([format!("/{target}:/{}/{alias}", &*name)]);
    assert_eq!(world.inspect(&name)["HostConfig"]["Links"], shown(&target));
    let renamed = format!("{}-new", &*target);
    world.run(&["rename", &target, &renamed]).ok();
    assert_eq!(world.inspect(&name)["HostConfig"]["Links"], shown(&renamed));
    world.run(&["rm", "-f", &renamed]).ok();
    assert!(world.inspect(&name)["HostConfig"]["Links"].is_null());
}

fn link_needs_a_container_that_runs(world: &World) {
    let resting = world.name("resting");
    world.run(&["create", "--name", &resting, "busybox", "true"]).ok();
    let name = world.name("parent");
    let link = format!("--link={}:db", &*resting);
    let refused = world.run(&["run", "--name", &name, &link, "busybox", "true"]);
    assert!(refused.code != 0, "{}", refused.out);
    let words = format!(
        "Cannot link to a non running container: /{} AS /{}/db",
        &*resting, &*name
    );
    assert!(refused.err.contains(&words), "{}", refused.err);
}

fn link_conflicts_are_refused(world: &World) {
    let (target, _) = world.sleeper(&[]);
    let (host, _) = world.sleeper(&["--network=host"]);
    let (link, to_host) = (format!("--link={}:db", &*target), format!("--link={}:db", &*host));
    let joined = format!("--network=container:{}", &*target);
    for (flags, words) in [
        (
            &["--link=no-such-container:db"][..],
            "could not get container for no-such-container",
        ),
        (
            &[link.as_str(), "--network=host"],
            "host type networking can't be used with links",
        ),
        (&[link.as_str(), joined.as_str()], "can't be used with links"),
        (&[link.as_str(), "--network=none"], "can't be used with links"),
        (&[to_host.as_str()], "host type networking can't be used with links"),
    ] {
        let refused = world.run(&[&["create"], flags, &["busybox"]].concat());
        assert!(
            refused.code != 0 && refused.err.contains(words),
            "{flags:?}: {}",
            refused.err
        );
        assert!(!refused.err.contains("Unable to find image"), "{}", refused.err);
    }
}

fn link_can_be_removed(world: &World) {
    let (target, process) = world.sleeper(&[]);
    let (name, _) = world.sleeper(&[&format!("--link={}:db", &*target)]);
    let link = format!("{}/db", &*name);
    world.run(&["rm", "--link", &link]).ok();
    assert!(world.inspect(&name)["HostConfig"]["Links"].is_null());
    assert!(process.is_alive(), "the container itself stays");
    assert_ne!(world.run(&["rm", "--link", &link]).code, 0);
    world.run(&["restart", "-t", "0", &name]).ok();
    assert!(!world.inside(&name, "cat /etc/hosts").contains("\tdb "));
}

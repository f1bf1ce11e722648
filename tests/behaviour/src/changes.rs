//! `update` of what Docker cannot change: published ports at once, environment and mounts from the next start on.
//! Through `iechor update` where that is the client, else by the request itself.

use harness::daemon::Cli;
use harness::tools::{Folder, free_port};
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::networks::{answers, ask, server};
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        ports_change_while_it_runs,
        a_port_that_is_taken_changes_nothing,
        one_of_all_published_ports_goes,
        environment_changes_at_the_next_start,
        mounts_change_at_the_next_start,
        now_restarts_what_runs,
        what_does_not_run_is_changed_at_once,
        a_wrong_change_changes_nothing,
    ]
}

/// What a change says, as flags and as the member of the request.
struct Change<'a>(&'a [&'a str], Value);

/// The message if it is refused.
fn change(world: &World, name: &str, Change(flags, member): Change<'_>) -> Result<(), String> {
    if world.cli == Cli::Iechor {
        let run = world.run(&[&["update"], flags, &[name]].concat());
        return if run.code == 0 { Ok(()) } else { Err(run.err) };
    }
    let answer = world
        .server
        .post(&format!("/containers/{name}/update"), &json!({"Change": member}));
    if answer.status == 200 {
        Ok(())
    } else {
        Err(answer.message())
    }
}

fn publish(world: &World, name: &str, port: u16) -> Result<(), String> {
    let flag = format!("127.0.0.1:{port}:80");
    let binding = json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]});
    change(
        world,
        name,
        Change(&["--publish-add", &flag], json!({"PublishAdd": binding})),
    )
}

fn unpublish(world: &World, name: &str) -> Result<(), String> {
    change(
        world,
        name,
        Change(&["--publish-rm", "80"], json!({"PublishRm": ["80"]})),
    )
}

fn ports_change_while_it_runs(world: &World) {
    let name = server(world, &[], "hello");
    let process = world.process(&name).0;
    let (first, second) = (free_port(), free_port());
    publish(world, &name, first).unwrap();
    answers(&format!("127.0.0.1:{first}"), "hello");
    publish(world, &name, second).unwrap();
    answers(&format!("127.0.0.1:{second}"), "hello");
    answers(&format!("127.0.0.1:{first}"), "hello");
    let told = world.inspect(&name);
    assert_eq!(told["NetworkSettings"]["Ports"]["80/tcp"].as_array().unwrap().len(), 2);
    assert_eq!(
        told["HostConfig"]["PortBindings"]["80/tcp"].as_array().unwrap().len(),
        2
    );

    unpublish(world, &name).unwrap();
    assert_eq!(ask(&format!("127.0.0.1:{first}")), None);
    assert_eq!(ask(&format!("127.0.0.1:{second}")), None);
    assert!(world.inspect(&name)["HostConfig"]["PortBindings"]["80/tcp"].is_null());
    assert_eq!(world.process(&name).0, process, "it was not restarted for that");

    publish(world, &name, second).unwrap();
    world.run(&["restart", "-t", "0", &name]).ok();
    answers(&format!("127.0.0.1:{second}"), "hello");
    world.run(&["rm", "-f", &name]).ok();
    // Free again for others.
    let name = server(world, &["-p", &format!("127.0.0.1:{second}:80")], "other");
    answers(&format!("127.0.0.1:{second}"), "other");
    drop(name);
}

fn a_port_that_is_taken_changes_nothing(world: &World) {
    let port = free_port();
    let own = free_port();
    let first = server(world, &["-p", &format!("127.0.0.1:{port}:80")], "first");
    let second = server(world, &["-p", &format!("127.0.0.1:{own}:80")], "second");
    let error = publish(world, &second, port).unwrap_err();
    assert!(error.contains("port is already allocated"), "{error}");
    answers(&format!("127.0.0.1:{port}"), "first");
    answers(&format!("127.0.0.1:{own}"), "second");
    let told = world.inspect(&second)["HostConfig"]["PortBindings"]["80/tcp"].clone();
    assert_eq!(told, json!([{"HostIp": "127.0.0.1", "HostPort": own.to_string()}]));

    // A port of its own may lead elsewhere in one step.
    let target = format!("127.0.0.1:{own}:81");
    let moved = json!({"PublishRm": ["80/tcp"], "PublishAdd": {"81/tcp": [{"HostIp": "127.0.0.1", "HostPort": own.to_string()}]}});
    let flags = ["--publish-rm", "80/tcp", "--publish-add", &target];
    change(world, &second, Change(&flags, moved)).unwrap();
    let ports = world.inspect(&second)["NetworkSettings"]["Ports"].clone();
    assert_eq!(ports["81/tcp"][0]["HostPort"], own.to_string());
    assert!(!ports["80/tcp"].is_array(), "{ports}");
    drop(first);
}

fn one_of_all_published_ports_goes(world: &World) {
    let name = server(world, &["-P", "--expose", "80", "--expose", "81/udp"], "all");
    let before = world.inspect(&name)["NetworkSettings"]["Ports"].clone();
    assert!(before["80/tcp"].is_array() && before["81/udp"].is_array(), "{before}");
    unpublish(world, &name).unwrap();
    let after = world.inspect(&name)["NetworkSettings"]["Ports"].clone();
    assert!(!after["80/tcp"].is_array(), "{after}");
    world.run(&["restart", "-t", "0", &name]).ok();
    let after = world.inspect(&name)["NetworkSettings"]["Ports"].clone();
    assert!(!after["80/tcp"].is_array() && after["81/udp"].is_array(), "{after}");
}

fn environment_changes_at_the_next_start(world: &World) {
    let (name, process) = world.sleeper(&["-e", "OLD=1", "-e", "KEPT=2"]);
    let flags = ["--env-rm", "OLD", "--env-add", "NEW=three words = 3"];
    let member = json!({"EnvRm": ["OLD"], "EnvAdd": ["NEW=three words = 3"]});
    change(world, &name, Change(&flags, member)).unwrap();
    assert_eq!(world.process(&name).0, process.0);
    let env = world.inside(&name, "env");
    assert!(env.contains("OLD=1") && !env.contains("NEW="), "{env}");
    world.run(&["restart", "-t", "0", &name]).ok();
    let own = std::fs::read_to_string(format!("/proc/{}/environ", world.process(&name).0)).unwrap();
    let own: Vec<&str> = own.split('\0').collect();
    assert!(
        own.contains(&"NEW=three words = 3") && own.contains(&"KEPT=2"),
        "{own:?}"
    );
    assert!(!own.iter().any(|entry| entry.starts_with("OLD=")), "{own:?}");
}

fn mounts_change_at_the_next_start(world: &World) {
    let folder = Folder::new("change");
    std::fs::write(folder.at("file"), "of the host").unwrap();
    let volume = world.name("later");
    let (name, _) = world.sleeper(&["--stop-timeout", "0", "--tmpfs", "/gone"]);
    world.run(&["volume", "create", &volume]).ok();
    let bind = format!("type=bind,src={},dst=/host,readonly", folder.path().display());
    let named = format!("type=volume,src={},dst=/data", &*volume);
    let flags = ["--mount-rm", "/gone", "--mount-add", &bind, "--mount-add", &named];
    let member = json!({"MountRm": ["/gone/"], "MountAdd": [
        {"Type": "bind", "Source": folder.path(), "Target": "/host", "ReadOnly": true},
        {"Type": "volume", "Source": &*volume, "Target": "/data"},
    ]});
    change(world, &name, Change(&flags, member)).unwrap();
    let mounts = || world.inside(&name, "cut -d' ' -f2 /proc/mounts");
    assert!(mounts().contains("/gone") && !mounts().contains("/data"));
    // It is promised already.
    let refused = world.run(&["volume", "rm", &volume]);
    assert!(refused.code != 0 && refused.err.contains("in use"), "{}", refused.err);
    world.run(&["restart", "-t", "0", &name]).ok();
    let now = mounts();
    assert!(!now.contains("/gone") && now.contains("/data"), "{now}");
    assert_eq!(world.inside(&name, "cat /host/file"), "of the host");
    assert_ne!(world.run(&["exec", &name, "touch", "/host/file"]).code, 0);
    world.inside(&name, "echo kept > /data/file");
    let told = world.inspect(&name)["Mounts"].clone();
    assert_eq!(told.as_array().unwrap().len(), 2, "{told}");

    let flags = ["--now", "--mount-rm", "/host"];
    change(world, &name, Change(&flags, json!({"Now": true, "MountRm": ["/host"]}))).unwrap();
    assert_eq!(
        world.inside(&name, "cat /data/file; ls -d /host/* 2>/dev/null || true"),
        "kept"
    );
    world.run(&["rm", "-f", &name]).ok();
    world.run(&["volume", "rm", &volume]).ok();
}

fn now_restarts_what_runs(world: &World) {
    let (name, process) = world.sleeper(&["--stop-timeout", "0"]);
    // Nothing waits for a start: nothing is restarted.
    let port = free_port();
    let flag = format!("127.0.0.1:{port}:80");
    let binding = json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]});
    let member = json!({"Now": true, "PublishAdd": binding});
    change(world, &name, Change(&["--now", "--publish-add", &flag], member)).unwrap();
    assert_eq!(world.process(&name).0, process.0);
    let member = json!({"Now": true, "EnvAdd": ["A=b"]});
    change(world, &name, Change(&["--now", "--env-add", "A=b"], member)).unwrap();
    assert_ne!(world.process(&name).0, process.0);
    assert_eq!(world.inside(&name, "echo $A"), "b");
    assert_eq!(world.inspect(&name)["RestartCount"], 0);
}

fn what_does_not_run_is_changed_at_once(world: &World) {
    let name = world.name("created");
    world.run(&["create", "--name", &name, "busybox", "env"]).ok();
    change(world, &name, Change(&["--env-add", "A=b"], json!({"EnvAdd": ["A=b"]}))).unwrap();
    let env = world.inspect(&name)["Config"]["Env"].clone();
    assert!(env.as_array().unwrap().contains(&json!("A=b")), "{env}");
    let out = world.run(&["start", "-a", &name]).ok();
    assert!(out.contains("A=b"), "{out}");
}

fn a_wrong_change_changes_nothing(world: &World) {
    let (name, _) = world.sleeper(&["-v", "/own"]);
    let before = world.inspect(&name);
    let good = json!({"EnvAdd": ["GOOD=1"]});
    let wrong = [
        (json!({"EnvAdd": ["=x"]}), "invalid environment variable"),
        (json!({"EnvAdd": ["NOVALUE"]}), "without a value"),
        (json!({"EnvRm": ["A=b"]}), "invalid name"),
        (json!({"MountRm": ["/nothing"]}), "nothing is mounted at /nothing"),
        (
            json!({"MountAdd": [{"Type": "tmpfs", "Target": "/own"}]}),
            "Duplicate mount point",
        ),
        (
            json!({"MountAdd": [{"Type": "bind", "Source": "/no/such/folder", "Target": "/x"}]}),
            "does not exist",
        ),
        (json!({"PublishRm": ["80"]}), "not published"),
        (json!({"PublishAdd": {"0": null}}), "invalid port"),
        (
            json!({"PublishAdd": {"80": [{"HostIp": "nowhere", "HostPort": "1"}]}}),
            "invalid host IP",
        ),
    ];
    for (mut member, words) in wrong {
        if member.get("EnvAdd").is_none() {
            member["EnvAdd"] = good["EnvAdd"].clone();
        }
        let path = format!("/containers/{}/update", &*name);
        let answer = world.server.post(&path, &json!({"Memory": 64 << 20, "Change": member}));
        assert!((400..500).contains(&answer.status), "{member}: {}", answer.status);
        let message = answer.message();
        assert!(message.contains(words), "{member}: {message}");
    }
    let after = world.inspect(&name);
    for part in ["Config", "HostConfig", "Mounts"] {
        assert_eq!(before[part], after[part]);
    }
    world.run(&["restart", "-t", "0", &name]).ok();
    assert_eq!(world.inside(&name, "echo $GOOD"), "");
}

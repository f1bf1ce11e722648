//! Volumes: what they are made of, when they are mounted, who keeps them, and when they go.

use harness::image::{Image, Layer};
use harness::tools::{Folder, eventually};
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        create_is_idempotent_and_shows_what_was_said,
        bad_requests_are_refused_by_name,
        list_filters,
        tmpfs_volume_lives_as_long_as_its_users,
        bind_volume_shows_the_folder,
        removing_a_bind_volume_keeps_the_folder,
        mount_flag_makes_a_volume_with_options,
        a_mount_that_fails_is_an_error_and_leaves_nothing,
        mounted_volumes_survive_the_daemon,
        volume_in_use_stays,
        anonymous_volumes_go_with_rm_and_v,
        prune_takes_anonymous_ones_only,
        prune_with_all_and_labels,
        subpath_is_mounted,
        subpath_never_leaves_the_volume,
        subpath_that_is_missing,
        volumes_from_read_only,
        unknown_driver_is_named,
        disk_usage_counts_users_and_bytes,
    ]
}

/// A name for this test's volume; it is removed when the value is dropped.
struct Own<'a> {
    world: &'a World,
    name: String,
}

fn own<'a>(world: &'a World, what: &str) -> Own<'a> {
    Own {
        world,
        name: format!("{what}-{}", harness::tools::tag()),
    }
}

impl std::ops::Deref for Own<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let _ = self
            .world
            .server
            .try_send("DELETE", &format!("/volumes/{}?force=1", self.name), &[], &[]);
    }
}

#[track_caller]
fn inspect(world: &World, name: &str) -> Value {
    world.server.get(&format!("/volumes/{name}")).expect(200).json()
}

/// Where the kernel has a mount of the volume, seen from the host.
fn host_mount(world: &World, name: &str) -> Option<harness::kernel::Mount> {
    let point = inspect(world, name)["Mountpoint"].as_str().unwrap().to_owned();
    harness::kernel::own_mounts()
        .into_iter()
        .find(|mount| mount.target == point)
}

fn encoded(filters: &Value) -> String {
    filters.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn ours(world: &World) {
    if world.is_foreign() {
        harness::suite::skip("looks at the host's mounts, which the other engine does not share");
    }
}

fn create_is_idempotent_and_shows_what_was_said(world: &World) {
    let volume = own(world, "made");
    let out = world
        .run(&["volume", "create", "--label", "a=b", "--label", "c", &volume])
        .ok();
    assert_eq!(out, &*volume);
    let first = inspect(world, &volume);
    assert_eq!(first["Labels"], json!({"a": "b", "c": ""}));
    assert_eq!(
        (first["Driver"].as_str(), first["Scope"].as_str()),
        (Some("local"), Some("local"))
    );
    assert!(first["CreatedAt"].as_str().unwrap().contains('T'));
    // The same name again is the same volume, whatever else is said.
    world.run(&["volume", "create", "--label", "x=y", &volume]).ok();
    assert_eq!(inspect(world, &volume), first);
    let anonymous = world.run(&["volume", "create"]).ok();
    assert_eq!(anonymous.len(), 64);
    let labels = inspect(world, &anonymous)["Labels"].clone();
    assert_eq!(labels, json!({"com.docker.volume.anonymous": ""}));
    assert_eq!(
        world.run(&["volume", "rm", &anonymous, &volume]).ok().lines().count(),
        2
    );
    let error = world.run(&["volume", "rm", &volume]).fails(1);
    assert!(error.contains("no such volume"), "{error}");
    world.run(&["volume", "rm", "-f", &volume]).ok();
    let error = world.run(&["volume", "inspect", &volume]).fails(1);
    assert!(error.contains("no such volume"), "{error}");
}

fn bad_requests_are_refused_by_name(world: &World) {
    let ask = |body: Value| world.server.post("/volumes/create", &body);
    for (body, status, word) in [
        (json!({"Name": "a/b"}), 400, "a/b"),
        (json!({"Name": "x"}), 400, "x"),
        (
            json!({"Name": "bad-option", "DriverOpts": {"colour": "blue"}}),
            400,
            "invalid option: \"colour\"",
        ),
        (
            json!({"Name": "bad-option", "DriverOpts": {"type": "tmpfs"}}),
            400,
            "missing required option: \"device\"",
        ),
        (
            json!({"Name": "bad-option", "DriverOpts": {"device": "tmpfs"}}),
            400,
            "missing required option: \"type\"",
        ),
        (
            json!({"Name": "bad-driver", "Driver": "no-such-driver"}),
            404,
            "plugin \"no-such-driver\" not found",
        ),
    ] {
        let reply = ask(body.clone());
        assert!(
            reply.status == status && reply.message().contains(word),
            "{body}: {} {}",
            reply.status,
            reply.message()
        );
    }
    for name in ["bad-option", "bad-driver"] {
        assert_eq!(world.server.get(&format!("/volumes/{name}")).status, 404);
    }
    let volume = own(world, "taken");
    world.run(&["volume", "create", &volume]).ok();
    let reply = ask(json!({"Name": &*volume, "Driver": "no-such-driver"}));
    assert!(
        reply.status == 409 && reply.message().contains("must be unique"),
        "{}",
        reply.message()
    );
}

fn list_filters(world: &World) {
    let (used, free) = (own(world, "listed-used"), own(world, "listed-free"));
    world.run(&["volume", "create", "--label", "kind=used", &used]).ok();
    world.run(&["volume", "create", "--label", "kind=free", &free]).ok();
    let (_name, _) = world.sleeper(&["-v", &format!("{}:/data", &*used)]);
    let names = |filters: &[&str]| -> Vec<&str> {
        let mut arguments = vec!["volume", "ls", "-q"];
        for filter in filters {
            arguments.extend(["--filter", filter]);
        }
        let out = world.run(&arguments).ok();
        let found: Vec<&str> = out.lines().collect();
        [("used", &used), ("free", &free)]
            .into_iter()
            .filter(|(_, own)| found.contains(&&***own))
            .map(|(word, _)| word)
            .collect()
    };
    assert_eq!(names(&[]), ["used", "free"]);
    assert_eq!(names(&["name=listed-u"]), ["used"]);
    assert_eq!(names(&["dangling=true"]), ["free"]);
    assert_eq!(names(&["dangling=0"]), ["used"]);
    assert_eq!(names(&["label=kind"]), ["used", "free"]);
    assert_eq!(names(&["label=kind=free"]), ["free"]);
    assert_eq!(names(&["driver=local", "label=kind=used"]), ["used"]);
    assert_eq!(names(&["driver=other"]).len(), 0);
    let refused = world
        .server
        .get(&format!("/volumes?filters={}", encoded(&json!({"colour": ["blue"]}))));
    assert_eq!(refused.status, 400);
}

#[track_caller]
fn with_options(world: &World, name: &str, options: &[&str]) {
    let mut arguments = vec!["volume", "create"];
    for option in options {
        arguments.extend(["--opt", option]);
    }
    arguments.push(name);
    world.run(&arguments).ok();
}

fn tmpfs_volume_lives_as_long_as_its_users(world: &World) {
    ours(world);
    let volume = own(world, "tmpfs");
    with_options(
        world,
        &volume,
        &["type=tmpfs", "device=tmpfs", "o=size=1m,uid=1000,noexec"],
    );
    assert_eq!(inspect(world, &volume)["Options"]["o"], "size=1m,uid=1000,noexec");
    assert!(host_mount(world, &volume).is_none(), "nobody uses it yet");
    let spec = format!("{}:/data:nocopy", &*volume);
    let (first, process) = world.sleeper(&["-v", &spec]);
    let mount = process.mount("/data").unwrap();
    assert!(
        mount.kind == "tmpfs" && mount.has("size=1024k") && mount.has("noexec"),
        "{mount:?}"
    );
    assert_eq!(
        world.inside(&first, "stat -c %u /data; echo shared > /data/file"),
        "1000"
    );
    let (second, _) = world.sleeper(&["-v", &spec]);
    assert_eq!(world.inside(&second, "cat /data/file"), "shared", "one tmpfs for both");
    world.run(&["stop", "-t", "0", &first]).ok();
    assert!(host_mount(world, &volume).is_some(), "the second one still has it");
    world.run(&["stop", "-t", "0", &second]).ok();
    eventually("the volume is unmounted", 10, || host_mount(world, &volume).is_none());
    world.run(&["start", &first]).ok();
    assert_eq!(world.inside(&first, "ls /data | wc -l"), "0", "a new tmpfs");
}

fn bind_volume_shows_the_folder(world: &World) {
    ours(world);
    let (folder, volume) = (Folder::new("bound"), own(world, "bound"));
    std::fs::write(folder.at("file"), "from the host").unwrap();
    let device = format!("device={}", folder.path().display());
    with_options(world, &volume, &["type=none", &device, "o=bind,ro"]);
    let spec = format!("{}:/data", &*volume);
    assert_eq!(
        world.shell(
            &["-v", &spec],
            "cat /data/file; touch /data/new 2>/dev/null || echo refused"
        ),
        "from the hostrefused"
    );
    eventually("the volume is unmounted", 10, || host_mount(world, &volume).is_none());
    let absent = own(world, "absent");
    with_options(world, &absent, &["type=none", "device=/no/such/folder", "o=bind"]);
    let error = world
        .run(&["run", "--rm", "-v", &format!("{}:/data", &*absent), "busybox", "true"])
        .fails(125);
    assert!(
        error.contains("/no/such/folder") && error.contains("o such file"),
        "{error}"
    );
}

fn removing_a_bind_volume_keeps_the_folder(world: &World) {
    ours(world);
    let (folder, volume) = (Folder::new("kept"), own(world, "kept"));
    std::fs::write(folder.at("file"), "precious").unwrap();
    let device = format!("device={}", folder.path().display());
    with_options(world, &volume, &["type=none", &device, "o=rbind"]);
    let (name, _) = world.sleeper(&["-v", &format!("{}:/data", &*volume)]);
    // Mounted a second time by somebody else: the mount is there even when the last user has gone.
    let point = inspect(world, &volume)["Mountpoint"].as_str().unwrap().to_owned();
    harness::process::Run::new(
        "mount".as_ref(),
        &["--bind", &folder.path().display().to_string(), &point],
    )
    .output()
    .ok();
    drop(name);
    world.run(&["volume", "rm", &volume]).ok();
    assert!(!std::path::Path::new(&point).exists());
    assert_eq!(std::fs::read_to_string(folder.at("file")).unwrap(), "precious");
}

fn mount_flag_makes_a_volume_with_options(world: &World) {
    ours(world);
    let volume = own(world, "by-flag");
    let spec = format!(
        "type=volume,src={},dst=/data,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,\"volume-opt=o=size=2m,mode=700\"",
        &*volume
    );
    let (name, process) = world.sleeper(&["--mount", &spec]);
    assert!(process.mount("/data").unwrap().has("size=2048k"));
    assert_eq!(world.inside(&name, "stat -c %a /data"), "700");
    assert_eq!(inspect(world, &volume)["Labels"]["a"], "b");
}

fn a_mount_that_fails_is_an_error_and_leaves_nothing(world: &World) {
    ours(world);
    let (good, bad) = (own(world, "good"), own(world, "bad"));
    with_options(world, &good, &["type=tmpfs", "device=tmpfs"]);
    with_options(world, &bad, &["type=tmpfs", "device=tmpfs", "o=colour=blue"]);
    let name = world.name("failing");
    let flags = [format!("{}:/good:nocopy", &*good), format!("{}:/bad:nocopy", &*bad)];
    let error = world
        .run(&[
            "run", "--name", &name, "-v", &flags[0], "-v", &flags[1], "busybox", "true",
        ])
        .fails(125);
    assert!(
        error.contains("error while mounting volume") && error.contains(&*bad),
        "{error}"
    );
    assert!(
        error.contains("colour=blue") && error.contains("nvalid argument"),
        "{error}"
    );
    assert!(host_mount(world, &good).is_none() && host_mount(world, &bad).is_none());
}

fn mounted_volumes_survive_the_daemon(world: &World) {
    ours(world);
    // A daemon of its own: this one is stopped.
    let daemon = harness::Daemon::start(harness::daemon::Options::default());
    daemon.load(&Image::busybox(), "busybox:latest");
    let make = json!({"Name": "scratch", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}});
    daemon.server.post("/volumes/create", &make).expect(201);
    daemon
        .server
        .post(
            "/volumes/create",
            &json!({"Name": "stale", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}),
        )
        .expect(201);
    daemon.sleeper("user", &["-v", "scratch:/data:nocopy"]);
    daemon.sleeper("gone", &["-v", "stale:/data:nocopy"]);
    daemon.docker(&["exec", "user", "touch", "/data/file"]).ok();
    daemon.kill9();
    let pid = daemon_container(&daemon, "gone");
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    daemon.launch();
    let mounted = |name: &str| {
        let point = daemon.server.get(&format!("/volumes/{name}")).json()["Mountpoint"]
            .as_str()
            .unwrap()
            .to_owned();
        harness::kernel::own_mounts().iter().any(|mount| mount.target == point)
    };
    assert!(mounted("scratch"), "its container runs on");
    eventually("what nobody uses is unmounted", 10, || !mounted("stale"));
    assert_eq!(
        daemon
            .docker(&["run", "--rm", "-v", "scratch:/x:nocopy", "busybox", "ls", "/x"])
            .ok(),
        "file"
    );
    assert!(mounted("scratch"));
    daemon.docker(&["rm", "-f", "user"]).ok();
    eventually("the last user unmounts it", 10, || !mounted("scratch"));
    daemon.finish();
}

/// The process of a container while no daemon answers.
fn daemon_container(daemon: &harness::Daemon, name: &str) -> i32 {
    // Both sleep; the one with the later volume is found by its mount.
    let wanted = format!("/volumes/{}/", if name == "gone" { "stale" } else { name });
    let found = daemon.places.processes().into_iter().find(|process| {
        process.command_line().first().is_some_and(|word| word == "sleep")
            && std::fs::read_to_string(format!("/proc/{}/mountinfo", process.0))
                .is_ok_and(|table| table.contains(&wanted) || table.contains("/data"))
            && std::fs::read_to_string(format!("/proc/{}/mountinfo", process.0)).is_ok_and(|table| !table.is_empty())
            && !process.root("/data/file").exists()
    });
    found.expect("the container's process").0
}

fn volume_in_use_stays(world: &World) {
    let volume = own(world, "used");
    let name = world.name("user");
    world
        .run(&[
            "create",
            "--name",
            &name,
            "-v",
            &format!("{}:/data", &*volume),
            "busybox",
            "true",
        ])
        .ok();
    let id = world.inspect(&name)["Id"].as_str().unwrap().to_owned();
    for force in ["", "?force=1"] {
        let reply = world
            .server
            .call("DELETE", &format!("/volumes/{}{force}", &*volume), None);
        assert_eq!(reply.status, 409);
        assert_eq!(
            reply.message(),
            format!("remove {}: volume is in use - [{id}]", &*volume)
        );
    }
}

fn anonymous_volumes_go_with_rm_and_v(world: &World) {
    let named = own(world, "named");
    let name = world.name("both");
    let flag = format!("{}:/named", &*named);
    world
        .run(&[
            "create",
            "--name",
            &name,
            "-v",
            "/anonymous",
            "-v",
            &flag,
            "busybox",
            "true",
        ])
        .ok();
    let mounts = world.inspect(&name)["Mounts"].clone();
    let of = |target: &str| -> String {
        let all = mounts.as_array().unwrap();
        let found = all.iter().find(|mount| mount["Destination"] == target).unwrap();
        found["Name"].as_str().unwrap().to_owned()
    };
    let anonymous = of("/anonymous");
    world.run(&["rm", &name]).ok();
    assert_eq!(
        inspect(world, &anonymous)["Name"],
        anonymous.as_str(),
        "without -v it stays"
    );
    world.run(&["volume", "rm", &anonymous]).ok();
    // `--rm` takes them along.
    let out = world.shell(
        &["-v", "/anonymous", "-v", &flag],
        "grep -o 'volumes/[0-9a-f]*' /proc/self/mountinfo | sort -u | head -n 1",
    );
    if let Some(id) = out.strip_prefix("volumes/") {
        eventually("the anonymous volume goes", 10, || {
            world.server.get(&format!("/volumes/{id}")).status == 404
        });
    }
    inspect(world, &named);
}

#[track_caller]
fn prune(world: &World, filters: &Value) -> Vec<String> {
    let reply = world
        .server
        .post(&format!("/volumes/prune?filters={}", encoded(filters)), &Value::Null);
    let gone = reply.expect(200).json()["VolumesDeleted"].clone();
    let gone = gone.as_array().cloned().unwrap_or_default();
    gone.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn prune_takes_anonymous_ones_only(world: &World) {
    let label = format!("own={}", harness::tools::tag());
    let named = own(world, "pruned");
    world.run(&["volume", "create", "--label", &label, &named]).ok();
    let anonymous = world.run(&["volume", "create", "--label", &label]).ok();
    assert_eq!(prune(world, &json!({"label": [label]})), [anonymous.as_str()]);
    inspect(world, &named);
    let out = world
        .run(&["volume", "prune", "-af", "--filter", &format!("label={label}")])
        .ok();
    assert!(out.contains(&*named) && out.contains("Total reclaimed space"), "{out}");
}

fn prune_with_all_and_labels(world: &World) {
    let label = format!("own={}", harness::tools::tag());
    let (one, two, bound) = (own(world, "one"), own(world, "two"), own(world, "bound"));
    world.run(&["volume", "create", "--label", &label, &one]).ok();
    world
        .run(&["volume", "create", "--label", &label, "--label", "keep", &two])
        .ok();
    let mounted = json!({"Name": &*bound, "Labels": {"own": &label[4..]},
        "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}});
    world.server.post("/volumes/create", &mounted).expect(201);
    world.shell(
        &["-v", &format!("{}:/data", &*one)],
        "head -c 50000 /dev/zero > /data/file",
    );
    let filters = json!({"label": [label], "label!": ["keep"], "all": ["1"]});
    let reply = world
        .server
        .post(&format!("/volumes/prune?filters={}", encoded(&filters)), &Value::Null);
    let report = reply.expect(200).json();
    assert_eq!(report["VolumesDeleted"], json!([&*one]));
    assert_eq!(report["SpaceReclaimed"], 50_000, "{report}");
    inspect(world, &two);
    inspect(world, &bound);
    let reply = world.server.post(
        &format!("/volumes/prune?filters={}", encoded(&json!({"until": ["1h"]}))),
        &Value::Null,
    );
    assert_eq!(reply.status, 400);
}

fn subpath_is_mounted(world: &World) {
    let volume = own(world, "sub");
    world.shell(
        &["-v", &format!("{}:/data", &*volume)],
        "mkdir -p /data/a/b; echo deep > /data/a/b/file",
    );
    let flag = |more: &str| format!("type=volume,src={},dst=/sub,{more}", &*volume);
    assert_eq!(
        world.shell(
            &["--mount", &flag("volume-subpath=a/b")],
            "cat /sub/file; touch /sub/new"
        ),
        "deep"
    );
    assert_eq!(
        world.shell(&["--mount", &flag("volume-subpath=a/b/file")], "cat /sub"),
        "deep"
    );
    assert_eq!(
        world.shell(
            &["--mount", &flag("volume-subpath=a/./b/,readonly")],
            "ls /sub; touch /sub/x 2>/dev/null || echo refused"
        ),
        "file\nnewrefused".replace("new", "new\n")
    );
    // A restart finds it again.
    let (name, _) = world.sleeper(&["--mount", &flag("volume-subpath=a")]);
    world.run(&["restart", "-t", "0", &name]).ok();
    assert_eq!(world.inside(&name, "ls /sub"), "b");
}

fn subpath_never_leaves_the_volume(world: &World) {
    let volume = own(world, "trap");
    let victim = Folder::new("victim");
    std::fs::write(victim.at("secret"), "secret").unwrap();
    let spec = format!("{}:/data", &*volume);
    let lines = format!(
        "mkdir /data/etc; ln -s {} /data/out; ln -s ../../../../../../etc /data/up; ln -s /etc /data/inner",
        victim.path().display()
    );
    world.shell(&["-v", &spec], &lines);
    let try_with = |sub: &str| {
        let flag = format!("type=volume,src={},dst=/sub,volume-subpath={sub}", &*volume);
        world.run(&["run", "--rm", "--mount", &flag, "busybox", "sh", "-c", "ls /sub"])
    };
    for sub in ["out", "out/secret"] {
        let output = try_with(sub);
        assert!(
            output.code != 0 && !output.out.contains("secret"),
            "{sub}: {} {}",
            output.out,
            output.err
        );
    }
    for sub in ["up", "inner"] {
        // Docker refuses these; here the link leads to the volume's own /etc, which is empty.
        let output = try_with(sub);
        assert!(output.out.trim().is_empty(), "{sub}: {}", output.out);
    }
    for sub in ["..", "a/../../x", "/etc"] {
        let output = try_with(sub);
        assert!(
            output.code == 125 && output.err.contains("relative path"),
            "{sub}: {}",
            output.err
        );
    }
    // A container that exchanges the folder for a link all the time never gets another one out.
    let swap = format!(
        "mkdir /data/real; while :; do mkdir /data/flip 2>/dev/null; rmdir /data/flip; ln -s {} /data/flip; rm /data/flip; done",
        victim.path().display()
    );
    let (_swapper, _) = {
        let name = world.name("swapper");
        world
            .run(&["run", "-d", "--name", &name, "-v", &spec, "busybox", "sh", "-c", &swap])
            .ok();
        (name, ())
    };
    for _ in 0..15 {
        let output = try_with("flip");
        assert!(
            !output.out.contains("secret"),
            "the link was followed out of the volume"
        );
    }
}

fn subpath_that_is_missing(world: &World) {
    let volume = own(world, "missing");
    let flag = format!("type=volume,src={},dst=/sub,volume-subpath=not/there", &*volume);
    let output = world.run(&["run", "--rm", "--mount", &flag, "busybox", "true"]);
    // The docker client takes "no such file" for a program that is missing.
    assert!(matches!(output.code, 125 | 127), "{}", output.code);
    assert!(output.err.contains("cannot access path not/there"), "{}", output.err);
}

fn volumes_from_read_only(world: &World) {
    let (first, _) = world.sleeper(&["-v", "/data", "--tmpfs", "/scratch"]);
    world.inside(&first, "echo text > /data/file");
    let line =
        "cat /data/file; touch /data/new 2>/dev/null && echo written; grep -c ' /scratch ' /proc/self/mountinfo; true";
    assert_eq!(world.shell(&["--volumes-from", &first], line), "text\nwritten\n0");
    assert_eq!(
        world.shell(&["--volumes-from", &format!("{}:ro", &*first)], line),
        "text\n0"
    );
    let error = world
        .run(&["create", "--volumes-from", &format!("{}:sideways", &*first), "busybox"])
        .fails(1);
    assert!(error.contains("sideways"), "{error}");
    world
        .run(&["create", "--volumes-from", "no-such-container", "busybox"])
        .fails(1);
    // What comes from another container is not this one's to remove.
    let name = world.name("borrower");
    world
        .run(&["create", "--name", &name, "--volumes-from", &first, "busybox"])
        .ok();
    world.run(&["rm", "-v", &name]).ok();
    assert_eq!(world.inside(&first, "head -n 1 /data/file"), "text");
}

fn unknown_driver_is_named(world: &World) {
    let name = world.name("driver");
    let error = world
        .run(&[
            "create",
            "--name",
            &name,
            "--volume-driver",
            "flocker",
            "-v",
            "x-volume:/x",
            "busybox",
        ])
        .fails(1);
    assert!(error.contains("plugin \"flocker\" not found"), "{error}");
    let flag = "type=volume,src=x-volume,dst=/x,volume-driver=flocker";
    let error = world
        .run(&["create", "--name", &name, "--mount", flag, "busybox"])
        .fails(1);
    assert!(error.contains("plugin \"flocker\" not found"), "{error}");
    assert_eq!(world.server.get("/volumes/x-volume").status, 404);
}

fn disk_usage_counts_users_and_bytes(world: &World) {
    let volume = own(world, "counted");
    let image = Image::busybox().layer(
        Layer::default()
            .folder("data", 0o755)
            .file("data/one", 0o644, &[b'x'; 1000])
            .hardlink("data/two", "data/one", 0o644, (0, 0)),
    );
    let tag = format!("counted:{}", harness::tools::tag());
    world.load(&image, &tag);
    let name = world.name("counter");
    world
        .run(&[
            "run",
            "--name",
            &name,
            "-v",
            &format!("{}:/data", &*volume),
            &tag,
            "sh",
            "-c",
            "head -c 500 /dev/zero > /data/three",
        ])
        .ok();
    let usage = world.server.get("/v1.51/system/df?type=volume").expect(200).json();
    let all = usage["Volumes"].as_array().unwrap().clone();
    let found = all.iter().find(|one| one["Name"] == *volume).unwrap();
    assert_eq!(found["UsageData"]["RefCount"], 1);
    let size = found["UsageData"]["Size"].as_i64().unwrap();
    // Copying up makes two files of the two names of one.
    assert!(size == 1500 || size == 2500, "{size}");
    assert!(usage.get("Images").is_none() || usage["Images"].is_null());
    drop(name);
    world.run(&["rmi", &tag]).ok();
}

//! User namespaces: root in a container is nobody outside, and no file is given to somebody else for it.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::daemon::{Cli, Daemon, Options};
use harness::image::Image;
use harness::kernel::Process;
use harness::suite::skip;
use harness::tools::{Folder, eventually};
use harness::{Test, tests};

use crate::world::World;

/// A daemon that gives every container a user namespace.
pub struct Remapped {
    world: World,
}

impl Deref for Remapped {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Remapped {
    pub fn start() -> Remapped {
        if std::env::var_os("IECHOR_TEST_HOST").is_some() {
            skip("needs a daemon that is told to");
        }
        let mut daemon = Daemon::start(Options {
            arguments: vec!["--userns-remap=default".to_owned()],
            ..Options::default()
        });
        daemon.cli = Cli::Docker;
        daemon.load(&Image::busybox(), "busybox:latest");
        Remapped {
            world: World { daemon },
        }
    }

    pub fn finish(self) {
        self.world.finish();
    }

    /// The folder of a volume on the host.
    fn folder_of(&self, volume: &str) -> PathBuf {
        self.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", volume])
            .ok()
            .trim()
            .into()
    }
}

pub fn tests() -> Vec<Test<Remapped>> {
    tests![
        root_is_nobody_outside,
        files_keep_their_owners_and_layers_stay,
        volume_shows_the_same_owners_to_everybody,
        volume_is_filled_from_the_image,
        bound_folder_stays_the_hosts,
        files_of_the_network_are_roots,
        further_processes_are_in_it,
        output_can_be_opened_by_name,
        users_are_looked_up_in_the_image,
        terminal_works,
        network_is_there_and_ports_are_published,
        network_none_is_its_own,
        parameters_are_set,
        limits_are_real,
        devices_are_the_hosts,
        namespaces_of_another_container_are_shared,
        host_turns_it_off,
        private_turns_it_on,
        conflicts_are_refused_in_dockers_words,
        info_says_so,
        container_outlives_the_daemon,
        setting_can_change_under_a_container,
        copies_speak_of_the_containers_users,
    ]
}

/// The first user outside, by the kernel's own table.
fn first_outside(process: Process) -> u32 {
    let text = std::fs::read_to_string(format!("/proc/{}/uid_map", process.0)).expect("a map");
    let mut words = text.split_whitespace();
    assert_eq!(words.next(), Some("0"), "{text}");
    words.next().and_then(|word| word.parse().ok()).expect("a number")
}

fn owner(path: &Path) -> (u32, u32) {
    let about = std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (about.uid(), about.gid())
}

fn root_is_nobody_outside(world: &Remapped) {
    let (name, process) = world.sleeper(&[]);
    let first = first_outside(process);
    assert!(first >= 65_536, "{first}");
    assert_ne!(process.namespace("user"), Process::own().namespace("user"));
    assert_eq!(process.status("Uid"), vec![first.to_string(); 4].join("\t"));
    assert_eq!(world.inside(&name, "id -u; id -g"), "0\n0");
    assert_eq!(world.inside(&name, "stat -c %u /proc/1"), "0");
}

fn files_keep_their_owners_and_layers_stay(world: &Remapped) {
    let line = "stat -c %u:%g / /bin/busybox /tmp; touch /new; mkdir /dir; chown 7:8 /dir; echo x >> /etc/passwd; \
                stat -c %u:%g /new /dir /etc/passwd; sleep 1000";
    let name = world.name("owners");
    world
        .run(&["run", "-d", "--name", &name, "busybox", "sh", "-c", line])
        .ok();
    eventually("its files are made", 10, || {
        world.run(&["logs", &name]).ok().lines().count() == 6
    });
    assert_eq!(world.run(&["logs", &name]).ok(), "0:0\n0:0\n0:0\n0:0\n7:8\n0:0");
    let upper = layers_with(world, "new");
    let [upper] = upper.as_slice() else { panic!("{upper:?}") };
    for (file, wanted) in [("new", (0, 0)), ("dir", (7, 8)), ("etc/passwd", (0, 0))] {
        assert_eq!(owner(&upper.join(file)), wanted, "{file} on disk");
    }
    // The image is what it was, for a container without.
    let plain = world.shell(
        &["--userns=host"],
        "grep -c ^x$ /etc/passwd; stat -c %u /etc/passwd; ls / | grep -c new; true",
    );
    assert_eq!(plain, "0\n0\n0");
}

/// Layers below the data root that have a file of this name at their top.
fn layers_with(world: &Remapped, file: &str) -> Vec<PathBuf> {
    let root = world.run(&["info", "-f", "{{.DockerRootDir}}"]).ok();
    let mut found = Vec::new();
    let mut folders = vec![(PathBuf::from(root.trim()), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name() == file {
                found.push(folder.clone());
            }
            if depth < 4 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

fn volume_shows_the_same_owners_to_everybody(world: &Remapped) {
    let volume = world.name("volume");
    let mount = format!("{}:/v", &*volume);
    world.shell(
        &["-v", &mount],
        "touch /v/root; touch /v/web; chown 33:34 /v/web; mkdir -m 700 /v/closed",
    );
    let folder = world.folder_of(&volume);
    assert_eq!(owner(&folder.join("root")), (0, 0));
    assert_eq!(owner(&folder.join("web")), (33, 34));
    let line = "stat -c %u:%g /v/root /v/web /v/closed; touch /v/closed/plain /v/plain; stat -c %u /v/closed/plain";
    assert_eq!(
        world.shell(&["--userns=host", "-v", &mount], line),
        "0:0\n33:34\n0:0\n0"
    );
    assert_eq!(
        world.shell(
            &["-v", &mount],
            "stat -c %u /v/plain; rm /v/plain /v/closed/plain; echo yes"
        ),
        "0\nyes"
    );
    let read_only = format!("{mount}:ro");
    assert_eq!(
        world.shell(&["-v", &read_only], "touch /v/x 2>/dev/null || echo no"),
        "no"
    );
    world.run(&["volume", "rm", &volume]).ok();
}

fn volume_is_filled_from_the_image(world: &Remapped) {
    let volume = world.name("filled");
    let mount = format!("{}:/etc", &*volume);
    let seen = world.shell(
        &["-v", &mount],
        "stat -c %u:%g /etc/passwd; echo more >> /etc/passwd && echo yes",
    );
    assert_eq!(seen, "0:0\nyes");
    assert_eq!(owner(&world.folder_of(&volume).join("passwd")), (0, 0));
    world.run(&["volume", "rm", &volume]).ok();
}

fn bound_folder_stays_the_hosts(world: &Remapped) {
    let folder = Folder::new("bound");
    std::fs::write(folder.path().join("file"), "x\n").unwrap();
    let mount = format!("{}:/b", folder.path().display());
    let line = "cat /b/file; stat -c %u /b/file; touch /b/new 2>/dev/null || echo no";
    assert_eq!(world.shell(&["-v", &mount], line), "x\n65534\nno");
    // Given to root of the container, it is root's in there.
    let (_name, process) = world.sleeper(&[]);
    let first = first_outside(process);
    chown(folder.path(), Some(first), Some(first)).unwrap();
    assert_eq!(
        world.shell(&["-v", &mount], "touch /b/new; stat -c %u /b /b/new"),
        "0\n0"
    );
    assert_eq!(owner(&folder.path().join("new")), (first, first));
}

fn files_of_the_network_are_roots(world: &Remapped) {
    let line = "stat -c %u:%g /etc/hosts /etc/resolv.conf /etc/hostname; echo 127.0.0.9 nine >> /etc/hosts; \
                grep -c nine /etc/hosts; touch /dev/shm/x && stat -c %u /dev/shm /dev/shm/x";
    assert_eq!(world.shell(&[], line), "0:0\n0:0\n0:0\n1\n0\n0");
}

fn further_processes_are_in_it(world: &Remapped) {
    let (name, process) = world.sleeper(&[]);
    let line = "readlink /proc/self/ns/user; id -u; touch /by-exec; stat -c %u /by-exec; echo out > /dev/stdout";
    let seen = world.inside(&name, line);
    assert_eq!(seen, format!("{}\n0\n0\nout", process.namespace("user")));
    assert_eq!(world.run(&["exec", "-u", "33:34", &name, "id", "-u"]).ok().trim(), "33");
    assert_eq!(
        world
            .run(&["exec", "--privileged", &name, "readlink", "/proc/self/ns/user"])
            .ok()
            .trim(),
        process.namespace("user")
    );
}

fn output_can_be_opened_by_name(world: &Remapped) {
    let line = "echo one > /dev/stdout; echo two > /proc/self/fd/2; cat /dev/stdin";
    for user in ["0", "33"] {
        let output = world
            .command(&["run", "--rm", "-i", "-u", user, "busybox", "sh", "-c", line])
            .input("three\n")
            .output();
        assert_eq!(
            (output.code, output.out.as_str(), output.err.as_str()),
            (0, "one\nthree", "two"),
            "{user}"
        );
    }
}

fn users_are_looked_up_in_the_image(world: &Remapped) {
    let (_name, process) = world.sleeper(&["--user", "33:34", "--group-add", "55"]);
    let first = first_outside(process);
    assert_eq!(process.status("Uid"), vec![(first + 33).to_string(); 4].join("\t"));
    assert_eq!(process.capabilities("CapEff"), 0);
    assert_eq!(
        world.shell(&["-u", "33:34", "--group-add", "55"], "id -u; id -g; id -G"),
        "33\n34\n34 55"
    );
}

fn terminal_works(world: &Remapped) {
    let mut terminal = world.terminal(&["run", "--rm", "-it", "busybox", "sh"], 30, 100);
    terminal.expect("# ");
    terminal.line("stat -c owner-%u $(tty); stty size; echo to''-tty > /dev/tty");
    terminal.expect("owner-0");
    terminal.expect("30 100");
    terminal.expect("to-tty");
    terminal.line("exit 7");
    assert_eq!(terminal.finish(), 7);
}

/// What a server on `address` says.
fn ask(address: &str) -> Option<String> {
    let address = address.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

fn network_is_there_and_ports_are_published(world: &Remapped) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = world.name("server");
    let publish = format!("127.0.0.1:{port}:80");
    let line = "while :; do echo hello | nc -l -p 80 >/dev/null; done";
    for user in ["0", "33"] {
        world
            .run(&[
                "run", "-d", "--name", &name, "-u", user, "-p", &publish, "busybox", "sh", "-c", line,
            ])
            .ok();
        let address = format!("127.0.0.1:{port}");
        eventually("the published port answers", 10, || {
            ask(&address).as_deref() == Some("hello")
        });
        let gateway = world.gateway_of(&name);
        assert!(world.inside(&name, "ip route").contains(&gateway));
        assert_eq!(world.inside(&name, "ls /sys/class/net"), "eth0\nlo");
        world.run(&["rm", "-f", &name]).ok();
    }
}

fn network_none_is_its_own(world: &Remapped) {
    let flags = ["--network=none", "--cap-add=NET_ADMIN"];
    let line =
        "ls /sys/class/net; ip link set lo mtu 1400 && cat /sys/class/net/lo/mtu; ip addr show lo | grep -c 127.0.0.1";
    assert_eq!(world.shell(&flags, line), "lo\n1400\n1");
    let port = "nc -l -p 80 >/dev/null & echo $!; sleep 0.3; kill -0 $! && echo bound";
    assert!(world.shell(&["--network=none", "-u", "33"], port).ends_with("bound"));
}

fn parameters_are_set(world: &Remapped) {
    let flags = [
        "--sysctl=net.ipv4.ip_default_ttl=77",
        "--sysctl=kernel.shmmni=99",
        "--sysctl=fs.mqueue.msg_max=12",
        "--hostname=box",
        "--domainname=example.org",
        "--oom-score-adj=321",
        "--ulimit=nofile=1000:2000",
    ];
    let line = "cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/kernel/shmmni /proc/sys/fs/mqueue/msg_max; hostname; \
                cat /proc/sys/kernel/domainname /proc/self/oom_score_adj; ulimit -n; ulimit -Hn; \
                echo 1 2>/dev/null > /proc/sys/net/ipv4/ip_forward || echo readonly";
    let seen = world.shell(&flags, line);
    assert_eq!(seen, "77\n99\n12\nbox\nexample.org\n321\n1000\n2000\nreadonly");
}

fn limits_are_real(world: &Remapped) {
    let (name, process) = world.sleeper(&["--memory=64m", "--pids-limit=50"]);
    let limit = process.control("memory", &["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(limit.trim(), (64 << 20).to_string());
    world.run(&["update", "--memory=80m", "--memory-swap=80m", &name]).ok();
    let limit = process.control("memory", &["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(limit.trim(), (80 << 20).to_string());
    world.run(&["pause", &name]).ok();
    world.run(&["unpause", &name]).ok();
    assert_eq!(world.inside(&name, "echo alive"), "alive");
}

fn devices_are_the_hosts(world: &Remapped) {
    let line = "echo x > /dev/null; head -c 4 /dev/zero | od -An -tx1; head -c 4 /dev/other | od -An -tx1; ls -l /dev/other | cut -c1";
    let seen = world.shell(&["--device=/dev/zero:/dev/other"], line);
    assert_eq!(seen, "00 00 00 00\n 00 00 00 00\nc");
    let made = world.run(&["run", "--rm", "busybox", "mknod", "/tmp/null", "c", "1", "3"]);
    assert_ne!(made.code, 0, "no nodes can be made");
}

fn namespaces_of_another_container_are_shared(world: &Remapped) {
    let (name, process) = world.sleeper(&["--ipc=shareable"]);
    let of = |kind: &str| format!("--{kind}=container:{}", &*name);
    for kind in ["pid", "ipc", "network"] {
        let line = "for n in user pid ipc net; do readlink /proc/self/ns/$n; done; touch /x; stat -c %u /x";
        let seen = world.shell(&[&of(kind)], line);
        let seen: Vec<&str> = seen.lines().collect();
        assert_eq!(seen[0], process.namespace("user"), "{kind}");
        let index = ["user", "pid", "ipc", "network"]
            .iter()
            .position(|name| *name == kind)
            .unwrap();
        let file = if kind == "network" { "net" } else { kind };
        assert_eq!(seen[index], process.namespace(file), "{kind}");
        assert_eq!(seen[4], "0");
    }
    world.inside(&name, "echo shared > /dev/shm/word");
    assert_eq!(world.shell(&[&of("ipc")], "cat /dev/shm/word"), "shared");
    let (plain, _) = world.sleeper(&["--userns=host"]);
    let refused = world.run(&[
        "run",
        "--rm",
        &format!("--pid=container:{}", &*plain),
        "busybox",
        "true",
    ]);
    assert!(
        refused.code != 0 && refused.err.contains("no user namespace"),
        "{}",
        refused.err
    );
}

fn host_turns_it_off(world: &Remapped) {
    let (name, process) = world.sleeper(&["--userns=host", "--privileged", "--pid=host"]);
    assert_eq!(process.namespace("user"), Process::own().namespace("user"));
    assert_eq!(process.status("Uid"), ["0"; 4].join("\t"));
    assert_eq!(world.inspect(&name)["HostConfig"]["UsernsMode"], "host");
}

/// A word of ours, which docker's client does not let through.
fn private_turns_it_on(_: &Remapped) {
    let daemon = Daemon::start(Options::default());
    daemon.load(&Image::busybox(), "busybox:latest");
    let run = |userns: &str| {
        daemon
            .iechor(&["run", "--rm", userns, "busybox", "cat", "/proc/self/uid_map"])
            .ok()
    };
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(run("--userns=host")), ["0", "0", "4294967295"]);
    let map = words(run("--userns=private"));
    assert!(map[0] == "0" && map[1] != "0", "{map:?}");
    let options = daemon.docker(&["info", "-f", "{{.SecurityOptions}}"]).ok();
    assert!(!options.contains("name=userns"), "{options}");
    daemon.finish();
}

fn conflicts_are_refused_in_dockers_words(world: &Remapped) {
    for (flags, words) in [
        (
            &["--privileged"][..],
            "privileged mode is incompatible with user namespaces.",
        ),
        (
            &["--network=host"],
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        (
            &["--pid=host"],
            "cannot share the host PID namespace when user namespaces are enabled",
        ),
        (&["--ipc=host"], "IPC namespace when user namespaces are enabled"),
        (&["--cap-add=NET_ADMIN"], "NET_ADMIN"),
    ] {
        let output = world.run(&[&["create"], flags, &["busybox"]].concat());
        assert!(
            output.code != 0 && output.err.contains(words),
            "{flags:?}: {}",
            output.err
        );
        let name = world.name("allowed");
        world
            .run(&[&["create", "--name", &name, "--userns=host"], flags, &["busybox"]].concat())
            .ok();
    }
    let body = br#"{"Image":"busybox","HostConfig":{"UsernsMode":"nonsense"}}"#;
    let reply = world.server.send(
        "POST",
        "/containers/create",
        &[("Content-Type", "application/json")],
        body,
    );
    assert_eq!(reply.status, 400);
}

fn info_says_so(world: &Remapped) {
    let options = world.run(&["info", "-f", "{{.SecurityOptions}}"]).ok();
    assert!(options.contains("name=userns"), "{options}");
}

fn container_outlives_the_daemon(_: &Remapped) {
    let world = Remapped::start();
    let name = world.name("survivor");
    let line = "touch /before; while :; do date > /now; sleep 0.2; done";
    world
        .run(&["run", "-d", "--name", &name, "busybox", "sh", "-c", line])
        .ok();
    let process = world.process(&name);
    world.kill9();
    assert!(process.is_alive());
    world.launch();
    assert_eq!(world.process(&name).0, process.0);
    assert_eq!(world.inside(&name, "stat -c %u /before; id -u"), "0\n0");
    world.run(&["restart", "-t", "0", &name]).ok();
    assert_eq!(world.inside(&name, "stat -c %u /before"), "0");
    assert_ne!(world.process(&name).namespace("user"), Process::own().namespace("user"));
    drop(name);
    world.finish();
}

/// The same container, its layer and its volume, with and without.
fn setting_can_change_under_a_container(_: &Remapped) {
    let folder = Folder::new("remap");
    let file = folder.path().join("daemon.toml");
    let tell = |remap: &str| std::fs::write(&file, format!("userns-remap = \"{remap}\"\n")).unwrap();
    tell("");
    let daemon = Daemon::start(Options {
        arguments: vec!["--config-file".to_owned(), file.display().to_string()],
        ..Options::default()
    });
    daemon.load(&Image::busybox(), "busybox:latest");
    let line = "stat -c %u /f* /data/f*; cut -c 1-11 /proc/self/uid_map; touch /f$(ls / | grep -c ^f) /data/f$(ls /data | wc -l)";
    let name = "both";
    daemon
        .run(&["create", "--name", name, "-v", "/data", "busybox", "sh", "-c", line])
        .ok();
    for (remap, files) in [("", 0), ("default", 1), ("default", 2), ("", 3)] {
        daemon.stop();
        tell(remap);
        daemon.launch();
        let output = daemon.run(&["start", "-a", name]);
        let seen: Vec<&str> = output.out.split_whitespace().collect();
        // Those of root, and where the map begins.
        assert_eq!(seen, vec!["0"; 2 * files + 1], "{remap}: {}", output.err);
        let mapped = daemon.inspect(name)["State"]["ExitCode"] == 0;
        assert!(mapped, "{}", output.err);
    }
    daemon.remove(name);
    daemon.finish();
}

fn copies_speak_of_the_containers_users(world: &Remapped) {
    let folder = Folder::new("users-cp");
    std::fs::create_dir(folder.at("bound")).unwrap();
    std::fs::write(folder.at("f"), "file").unwrap();
    chown(folder.at("f"), Some(7), Some(8)).unwrap();
    let bind = format!("{}:/bound", folder.at("bound"));
    let name = world.name("cp");
    let flags = [
        "create", "--name", &name, "-v", "/vol", "-v", &bind, "busybox", "sleep", "1000",
    ];
    world.run(&flags).ok();
    let at = |path: &str| format!("{}:{path}", &*name);
    // At rest, files have the container's numbers on disk; those of a bound folder cannot be told.
    for place in ["/own", "/vol/own"] {
        world.run(&["cp", &folder.at("f"), &at(place)]).ok();
    }
    let error = world.run(&["cp", &folder.at("f"), &at("/bound/own")]).fails(1);
    assert!(error.contains("the bound folder /bound"), "{error}");
    assert_eq!(std::fs::read_dir(folder.at("bound")).unwrap().count(), 0);
    world.run(&["start", &name]).ok();
    let process = world.process(&name);
    std::fs::set_permissions(folder.at("bound"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    for place in ["/running", "/vol/running", "/bound/running", "/dev/shm/running"] {
        world.run(&["cp", &folder.at("f"), &at(place)]).ok();
    }
    for place in [
        "/own",
        "/vol/own",
        "/running",
        "/vol/running",
        "/bound/running",
        "/dev/shm/running",
    ] {
        let seen = world.inside(&name, &format!("stat -c %u:%g {place}"));
        assert_eq!(seen, "7:8", "{place}");
    }
    let first = first_outside(process);
    assert_eq!(owner(&folder.path().join("bound/running")), (first + 7, first + 8));
    // A folder that is made on the way is the container's root's.
    world.inside(&name, "mkdir -p /made/by && chown 5:6 /made/by && touch /made/by/f");
    world.run(&["cp", &at("/made"), &folder.at("out")]).ok();
    let tar = world.run(&["cp", &at("/made"), "-"]);
    let text = String::from_utf8_lossy(&tar.bytes).into_owned();
    assert!(text.contains("0000005\u{0}0000006"), "the owner in the archive");
    let refused = folder.at("g");
    std::fs::write(&refused, "x").unwrap();
    chown(&refused, Some(4_000_000), None).unwrap();
    let error = world.run(&["cp", &refused, &at("/g")]).fails(1);
    assert!(
        error.contains("have no place in the container's user namespace"),
        "{error}"
    );
    // An image of it has the container's numbers, too.
    let image = format!("users:{}", harness::tools::tag());
    world.run(&["commit", &name, &image]).ok();
    let line = "stat -c %u:%g /own /running /made/by";
    assert_eq!(
        world.run(&["run", "--rm", &image, "sh", "-c", line]).ok(),
        "7:8\n7:8\n5:6"
    );
    assert!(world.run(&["diff", &name]).ok().lines().any(|line| line == "A /own"));
    world.run(&["rmi", &image]).ok();
}

//! User namespaces as the user chooses: ranges that nobody else has, and maps of one's own.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use harness::daemon::Cli;
use harness::kernel::Process;
use harness::suite::skip;
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        auto_ranges_are_apart,
        auto_takes_a_size_and_places,
        auto_ranges_come_back_when_a_container_goes,
        auto_ranges_outlive_the_daemon,
        a_map_of_ones_own,
        files_and_volumes_keep_their_owners,
        a_map_that_another_container_has_is_refused,
        modes_that_are_none_are_refused,
        an_image_has_no_say,
    ]
}

/// How the client asks: docker's lets no mode but `host` through.
fn asked(world: &World, mode: &str) -> String {
    if std::env::var_os("IECHOR_TEST_HOST").is_some() {
        skip("modes of ours");
    }
    match world.daemon.cli {
        Cli::Docker => format!("--annotation=iechor.userns={mode}"),
        Cli::Iechor => format!("--userns={mode}"),
    }
}

/// Inside, outside and count of each line, by the kernel.
fn map(process: Process, file: &str) -> Vec<[u64; 3]> {
    let text = std::fs::read_to_string(format!("/proc/{}/{file}", process.0)).expect("a map");
    let number = |word: Option<&str>| word.and_then(|word| word.parse().ok()).expect("a number");
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        [number(words.next()), number(words.next()), number(words.next())]
    };
    text.lines().map(line).collect()
}

fn auto_ranges_are_apart(world: &World) {
    let mode = asked(world, "auto");
    let made: Vec<_> = (0..4).map(|_| world.sleeper(&[&mode])).collect();
    let mut ranges = Vec::new();
    for (name, process) in &made {
        assert_ne!(process.namespace("user"), Process::own().namespace("user"));
        let lines = map(Process(process.0), "uid_map");
        assert_eq!(lines, map(Process(process.0), "gid_map"));
        let [[0, first, 65_536]] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert!(*first >= 0x7001_0000, "{first}");
        assert_eq!(process.status("Uid"), vec![first.to_string(); 4].join("\t"));
        assert_eq!(world.inspect(name)["HostConfig"]["UsernsMode"], "auto");
        ranges.push(*first);
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        assert!(pair[0] + 65_536 <= pair[1], "{ranges:?}");
    }
}

fn auto_takes_a_size_and_places(world: &World) {
    let mode = asked(world, "auto:size=1000,uidmapping=33:50033:2,gidmapping=999:60999:1");
    let (name, process) = world.sleeper(&[&mode]);
    let users = map(Process(process.0), "uid_map");
    let [[0, first, 33], [33, 50_033, 2], [35, rest, 965]] = users.as_slice() else {
        panic!("{users:?}")
    };
    assert_eq!(first + 35, *rest);
    let groups = map(Process(process.0), "gid_map");
    assert_eq!(groups, [[0, *first, 999], [999, 60_999, 1]]);
    // Who has no place in it, nobody can become.
    assert_eq!(world.run(&["exec", "-u", "33", &name, "id", "-u"]).ok().trim(), "33");
    assert_ne!(world.run(&["exec", "-u", "1000", &name, "true"]).code, 0);
}

fn auto_ranges_come_back_when_a_container_goes(world: &World) {
    // More than half of all there are, so that there is room for one: with a daemon of its own, for those of other tests
    // lie anywhere in between.
    let mode = asked(world, "auto:size=150000000");
    let world = World::start(world.daemon.cli);
    let (first, second) = (world.name("first"), world.name("second"));
    let create = |name: &str| world.run(&["create", "--name", name, &mode, "busybox", "true"]);
    create(&first).ok();
    let refused = create(&second).fails(1);
    assert!(refused.contains("no such range is free"), "{refused}");
    world.run(&["rm", &first]).ok();
    create(&second).ok();
    world.run(&["start", &second]).ok();
    drop((first, second));
    world.finish();
}

fn auto_ranges_outlive_the_daemon(world: &World) {
    let mode = asked(world, "auto");
    let world = World::start(world.daemon.cli);
    let (running, process) = world.sleeper(&[&mode]);
    let resting = world.name("resting");
    let line = "sleep 1000";
    world
        .run(&["create", "--name", &resting, &mode, "busybox", "sh", "-c", line])
        .ok();
    let before = map(process, "uid_map");
    world.kill9();
    world.launch();
    assert_eq!(map(world.process(&running), "uid_map"), before);
    let (new, process) = world.sleeper(&[&mode]);
    let third = map(process, "uid_map");
    world.run(&["start", &resting]).ok();
    let second = map(world.process(&resting), "uid_map");
    world.run(&["restart", "-t", "0", &running]).ok();
    assert_eq!(map(world.process(&running), "uid_map"), before);
    let mut firsts = [before[0][1], second[0][1], third[0][1]];
    firsts.sort_unstable();
    assert!(
        firsts[0] + 65_536 <= firsts[1] && firsts[1] + 65_536 <= firsts[2],
        "{firsts:?}"
    );
    drop((running, resting, new));
    world.finish();
}

fn a_map_of_ones_own(world: &World) {
    let mode = asked(
        world,
        "private:uidmapping=0:300000000:1000,uidmapping=1000:77:1,gidmapping=0:310000000:2000",
    );
    let (name, process) = world.sleeper(&[&mode, "--user=1000:1500"]);
    assert_eq!(process.status("Uid"), ["77"; 4].join("\t"));
    assert_eq!(process.status("Gid"), ["310001500"; 4].join("\t"));
    let process = world.process(&name);
    assert_eq!(map(process, "gid_map"), [[0, 310_000_000, 2000]]);
    assert_eq!(world.inside(&name, "id -u; id -g"), "1000\n1500");
}

/// No file is given to anybody: the same volume and image serve every map.
fn files_and_volumes_keep_their_owners(world: &World) {
    let (one, other) = (
        asked(world, "auto"),
        asked(world, "private:uidmapping=0:320000000:65536"),
    );
    let volume = world.name("own-users");
    let mount = format!("{}:/v", &*volume);
    world.shell(
        &[&one, "-v", &mount],
        "touch /v/root /v/web && chown 33:34 /v/web && stat -c %u:%g / /bin/busybox",
    );
    let folder = world.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]).ok();
    let folder = PathBuf::from(folder.trim());
    for (file, wanted) in [("root", (0, 0)), ("web", (33, 34))] {
        let about = std::fs::metadata(folder.join(file)).unwrap();
        assert_eq!((about.uid(), about.gid()), wanted, "{file}");
    }
    for mode in [&one, &other] {
        let line = "stat -c %u:%g /v/root /v/web /bin/busybox; touch /v/new && rm /v/new && echo yes";
        assert_eq!(
            world.shell(&[mode, "-v", &mount], line),
            "0:0\n33:34\n0:0\nyes",
            "{mode}"
        );
    }
    world.run(&["volume", "rm", &volume]).ok();
}

fn a_map_that_another_container_has_is_refused(world: &World) {
    let (_name, process) = world.sleeper(&[&asked(world, "auto")]);
    let first = map(process, "uid_map")[0][1];
    let mode = asked(world, &format!("private:uidmapping=0:{}:10", first + 7));
    let refused = world.run(&["create", &mode, "busybox"]).fails(1);
    assert!(refused.contains("--userns=auto"), "{refused}");
}

fn modes_that_are_none_are_refused(world: &World) {
    for (mode, words) in [
        ("keep-id", "run by root"),
        ("auto:size=none", "no size"),
        ("auto:colour=red", "unknown option"),
        ("private:uidmapping=5:300000000:5", "user 0 has no place"),
        ("private:uidmapping=0:300000000:5,uidmapping=3:1:1", "in two ranges"),
    ] {
        let refused = world.run(&["create", &asked(world, mode), "busybox"]).fails(1);
        assert!(refused.contains(words), "{mode}: {refused}");
    }
    let mode = asked(world, "auto");
    let (name, _process) = world.sleeper(&[]);
    let joined = format!("--pid=container:{}", &*name);
    for (flag, words) in [
        ("--privileged", "incompatible with user namespaces"),
        ("--network=host", "host's network namespace"),
        (joined.as_str(), "namespace of container"),
    ] {
        let refused = world.run(&["create", &mode, flag, "busybox"]).fails(1);
        assert!(refused.contains(words), "{flag}: {refused}");
    }
    let both = ["create", "--userns=host", "--annotation=iechor.userns=auto", "busybox"];
    let refused = world.run(&both).fails(1);
    assert!(refused.contains("conflicting options"), "{refused}");
}

/// A label of this name, which an image could bring along, means nothing.
fn an_image_has_no_say(world: &World) {
    asked(world, "auto");
    let (_name, process) = world.sleeper(&["--label=iechor.userns=auto"]);
    assert_eq!(process.namespace("user"), Process::own().namespace("user"));
}

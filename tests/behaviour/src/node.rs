//! The node as a whole, each test with a daemon of its own: what lies on the disk, whether records and machine agree, and
//! images that go by themselves.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use harness::Daemon;
use harness::daemon::Options;
use harness::image::{Image, Layer};
use harness::process::Run;
use harness::tools::{Folder, eventually, tag};
use harness::{Test, tests};
use serde_json::{Value, json};

pub struct Nothing;

pub fn tests() -> Vec<Test<Nothing>> {
    tests![
        disk_usage_adds_up_in_every_shape,
        prune_gives_back_what_disk_usage_promised,
        system_prune_takes_what_it_says,
        a_clean_node_has_no_differences,
        orphans_are_found_by_name_and_removed,
        what_is_missing_is_reported_and_left,
        what_can_be_written_again_is,
        a_namespace_that_is_the_hosts_is_reported,
        work_under_way_is_no_difference,
        full_disks_lose_the_longest_unused_image,
        collection_is_off_by_default_and_its_settings_are_checked,
        info_says_what_the_daemon_was_told,
    ]
}

fn start(arguments: &[&str]) -> Daemon {
    let daemon = Daemon::start(Options {
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        ..Options::default()
    });
    daemon.load(&Image::busybox(), "busybox:latest");
    daemon
}

/// busybox with a layer of so many bytes.
fn sized(bytes: usize) -> Image {
    let mark = tag();
    let content: String = mark.chars().cycle().take(bytes).collect();
    Image::busybox().layer(Layer::default().file("own", 0o644, content.as_bytes()))
}

fn root(daemon: &Daemon) -> PathBuf {
    daemon.places.data.join("root")
}

fn host(program: &str, arguments: &[&str]) -> String {
    Run::new(program.as_ref(), arguments).output().ok()
}

fn bytes(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn disk_usage_adds_up_in_every_shape(_: &Nothing) {
    let daemon = start(&[]);
    let (used, unused) = (sized(10_000), sized(20_000));
    daemon.load(&used, "used:1");
    daemon.load(&unused, "unused:1");
    daemon
        .docker(&[
            "run",
            "--name",
            "writer",
            "-v",
            "data:/data",
            "used:1",
            "sh",
            "-c",
            "head -c 3000 /dev/zero > /file; head -c 500 /dev/zero > /data/file",
        ])
        .ok();
    daemon.docker(&["volume", "create", "free"]).ok();
    daemon.sleeper("runner", &[]);
    let old = daemon.server.get("/v1.51/system/df").expect(200).json();
    let row = |kind: &str, key: &str, value: &str| -> Value {
        let list = old[kind].as_array().unwrap().clone();
        let found = list.into_iter().find(|one| one[key].to_string().contains(value));
        found.unwrap_or_else(|| panic!("{value} is not in {kind}"))
    };
    let (one, two, base) = (
        row("Images", "RepoTags", "unused:1"),
        row("Images", "RepoTags", "\"used:1"),
        row("Images", "RepoTags", "busybox"),
    );
    let shared = bytes(&base["Size"]);
    assert_eq!(bytes(&base["SharedSize"]), shared);
    for (image, own, containers) in [(&one, 20_000, 0), (&two, 10_000, 1)] {
        assert_eq!(bytes(&image["Size"]) - bytes(&image["SharedSize"]), own);
        assert_eq!(bytes(&image["SharedSize"]), shared);
        assert_eq!(image["Containers"], containers);
    }
    assert_eq!(bytes(&old["LayersSize"]), shared + 30_000);
    assert_eq!(row("Containers", "Names", "writer")["SizeRw"], 3000);
    assert_eq!(
        row("Volumes", "Name", "data")["UsageData"],
        json!({"RefCount": 1, "Size": 500})
    );
    assert_eq!(
        row("Volumes", "Name", "free")["UsageData"],
        json!({"RefCount": 0, "Size": 0})
    );

    let new = daemon.server.get("/v1.53/system/df").expect(200).json();
    assert!(new.get("LayersSize").is_none() && new.get("Images").is_none(), "{new}");
    let usage = |kind: &str| -> (i64, i64, i64, i64) {
        let one = &new[kind];
        assert!(one.get("Items").is_none(), "only with verbose: {one}");
        (
            bytes(&one["TotalCount"]),
            bytes(&one["ActiveCount"]),
            bytes(&one["TotalSize"]),
            bytes(&one["Reclaimable"]),
        )
    };
    assert_eq!(usage("ImageUsage"), (3, 2, shared + 30_000, 20_000));
    let containers = usage("ContainerUsage");
    assert_eq!((containers.0, containers.1, containers.3), (2, 1, 3000));
    assert_eq!(usage("VolumeUsage"), (2, 1, 500, 0));
    let both = daemon.server.get("/v1.52/system/df?verbose=1").expect(200).json();
    assert_eq!(both["Images"], both["ImageUsage"]["Items"]);
    assert_eq!(both["VolumeUsage"]["Items"].as_array().unwrap().len(), 2);
    let only = daemon.server.get("/v1.53/system/df?type=volume").expect(200).json();
    assert!(only.get("ImageUsage").is_none() && only.get("VolumeUsage").is_some());
    assert_eq!(daemon.server.get("/system/df?type=colour").status, 400);
    for shown in [
        daemon.docker(&["system", "df", "-v"]).ok(),
        daemon.iechor(&["system", "df", "-v"]).ok(),
    ] {
        let line = shown
            .lines()
            .find(|line| line.starts_with("unused"))
            .unwrap_or_default()
            .to_owned();
        assert!(line.contains("20kB"), "{shown}");
    }
    for shown in [
        daemon.docker(&["system", "df"]).ok(),
        daemon.iechor(&["system", "df"]).ok(),
    ] {
        assert!(
            shown
                .lines()
                .any(|line| line.starts_with("Local Volumes") && line.contains("500B")),
            "{shown}"
        );
    }
    daemon.finish();
}

fn prune_gives_back_what_disk_usage_promised(_: &Nothing) {
    let daemon = start(&[]);
    let base = sized(40_000);
    // Two images over one layer of their own, one of them used: the layer stays, and both tops are apart.
    let keep = base.clone().layer(Layer::default().file("keep", 0o644, &[b'k'; 500]));
    let go = base.clone().layer(Layer::default().file("go", 0o644, &[b'g'; 700]));
    daemon.load(&keep, "keep:1");
    daemon.load(&go, "go:1");
    daemon.docker(&["create", "--name", "user", "keep:1", "true"]).ok();
    daemon.docker(&["create", "--name", "user2", "busybox", "true"]).ok();
    let usage = || daemon.server.get("/v1.53/system/df").expect(200).json()["ImageUsage"].clone();
    let promised = bytes(&usage()["Reclaimable"]);
    assert_eq!(promised, 700);
    let filters = "%7B%22dangling%22%3A%5B%22false%22%5D%7D";
    let report = daemon
        .server
        .post(&format!("/images/prune?filters={filters}"), &Value::Null)
        .expect(200)
        .json();
    assert_eq!(bytes(&report["SpaceReclaimed"]), promised, "{report}");
    assert_eq!(bytes(&usage()["Reclaimable"]), 0);
    daemon.finish();
}

fn system_prune_takes_what_it_says(_: &Nothing) {
    let daemon = start(&[]);
    for client in ["docker", "iechor"] {
        let run = |arguments: &[&str]| match client {
            "docker" => daemon.docker(arguments),
            _ => daemon.iechor(arguments),
        };
        daemon.load(&sized(1000), "unused:1");
        daemon.load(&sized(2000), "other:1");
        // The second one of that name leaves the first without any.
        daemon.load(&sized(3000), "other:1");
        run(&[
            "run",
            "--name",
            "stopped",
            "-v",
            "/anonymous",
            "-v",
            "named:/named",
            "busybox",
            "true",
        ])
        .ok();
        let label = ["system", "prune", "-f", "--filter", "label=nobody-has-this"];
        assert!(run(&label).ok().contains("Total reclaimed space: 0B"));
        let out = run(&["system", "prune", "-f"]).ok();
        assert!(
            out.contains("Deleted Containers:") && out.contains("Deleted Images:"),
            "{out}"
        );
        let images = daemon.server.get("/images/json").json();
        assert_eq!(images.as_array().unwrap().len(), 3, "those with names stay: {images}");
        let volumes = || {
            daemon.server.get("/volumes").json()["Volumes"]
                .as_array()
                .unwrap()
                .len()
        };
        assert_eq!(volumes(), 2);
        let out = run(&["system", "prune", "-af", "--volumes"]).ok();
        assert!(
            out.contains("Deleted Volumes:") && out.contains("untagged: unused:1"),
            "{out}"
        );
        assert_eq!(volumes(), 1, "named ones stay");
        assert_eq!(daemon.server.get("/images/json").json(), json!([]));
        run(&["volume", "rm", "named"]).ok();
        daemon.load(&Image::busybox(), "busybox:latest");
    }
    daemon.finish();
}

/// Differences as `side kind name`.
#[track_caller]
fn check(daemon: &Daemon) -> Vec<String> {
    words(&daemon.server.get("/system/check").expect(200).json())
}

fn words(report: &Value) -> Vec<String> {
    let list = report["Differences"].as_array().unwrap();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let mut words: Vec<String> = list
        .iter()
        .map(|one| format!("{} {} {}", text(one, "Side"), text(one, "Kind"), text(one, "Name")))
        .collect();
    words.sort();
    words
}

fn a_clean_node_has_no_differences(_: &Nothing) {
    let daemon = start(&[]);
    daemon.sleeper("web", &["-p", "127.0.0.1::80", "-v", "data:/data"]);
    daemon
        .server
        .post(
            "/volumes/create",
            &json!({"Name": "scratch", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}),
        )
        .expect(201);
    daemon.sleeper(
        "mounted",
        &[
            "-v",
            "scratch:/s:nocopy",
            "--mount",
            "type=image,source=busybox,target=/image",
        ],
    );
    daemon.docker(&["run", "--name", "over", "busybox", "true"]).ok();
    assert_eq!(check(&daemon), Vec::<String>::new());
    assert_eq!(daemon.iechor(&["system", "check"]).ok(), "Records and machine agree.");
    assert_eq!(daemon.iechor(&["system", "check", "--format", "json"]).ok(), "");
    daemon.finish();
}

/// A name that is one of the daemon's own kind and nobody's.
fn stray_id() -> String {
    format!("{:0<64}", "5747ab")
}

fn orphans_are_found_by_name_and_removed(_: &Nothing) {
    let daemon = start(&[]);
    let process = daemon.sleeper("web", &["-p", "127.0.0.1::80"]);
    let id = daemon.inspect("web")["Id"].as_str().unwrap().to_owned();
    let (root, exec, stray) = (root(&daemon), daemon.places.exec.clone(), stray_id());
    let precious = Folder::new("precious");
    std::fs::write(precious.at("file"), "precious").unwrap();
    let folder = |path: &Path| std::fs::create_dir_all(path).unwrap();
    folder(&root.join("layers/stray-layer/tree"));
    folder(&root.join("rw/stray-rw/upper"));
    folder(&root.join("containers").join(&stray));
    folder(&root.join("volumes/stray-volume/_data"));
    let point = root.join("volumes/stray-volume/_data").display().to_string();
    host("mount", &["--bind", &precious.path().display().to_string(), &point]);
    daemon.docker(&["volume", "create", "covered"]).ok();
    let covered = root.join("volumes/covered/_data").display().to_string();
    host("mount", &["-t", "tmpfs", "none", &covered]);
    folder(&exec.join("stage").join(&stray).join("0"));
    let staged = exec.join("stage").join(&stray).join("0").display().to_string();
    host("mount", &["--bind", &precious.path().display().to_string(), &staged]);
    std::fs::write(exec.join("run").join(format!("{stray}.json")), "{}").unwrap();
    // Below the group that the daemon's containers are in.
    let group = process.cgroup("pids").parent().unwrap().join(&stray);
    folder(&group);
    let run: Value = serde_json::from_slice(&std::fs::read(exec.join(format!("run/{id}.json"))).unwrap()).unwrap();
    let interface = format!("{}aaaaaaaaa", &run["endpoint"]["host_if"].as_str().unwrap()[..6]);
    let bridge = run["endpoint"]["bridge"].as_str().unwrap().to_owned();
    host(
        "ip",
        &[
            "link",
            "add",
            &interface,
            "type",
            "veth",
            "peer",
            "name",
            &format!("p{}", &interface[2..]),
        ],
    );
    host("ip", &["link", "set", &interface, "master", &bridge]);
    let element =
        "add element ip TABLE published-any { tcp . 9 : 10.9.9.9 . 9 }".replace("TABLE", &daemon.places.table);
    host("nft", &[&element]);

    let mut wanted = vec![
        "orphan layer-folder layers/stray-layer".to_owned(),
        "orphan writable-layer rw/stray-rw".to_owned(),
        format!("orphan container-folder {stray}"),
        "orphan volume-folder stray-volume".to_owned(),
        "orphan volume-mount covered".to_owned(),
        format!("orphan staged-mount {stray}"),
        format!("orphan run-record {stray}.json"),
        format!("orphan control-group {stray}"),
        format!("orphan interface {interface}"),
        "orphan published-port 0.0.0.0:9/tcp to 10.9.9.9:9".to_owned(),
    ];
    wanted.sort();
    assert_eq!(check(&daemon), wanted);
    assert!(
        group.exists() && root.join("layers/stray-layer").exists(),
        "looking changes nothing"
    );
    let shown = daemon.iechor(&["system", "check"]);
    assert!(
        shown.code == 1 && shown.out.contains(&interface) && shown.out.contains("repairable"),
        "{}",
        shown.out
    );
    let repaired = daemon.iechor(&["system", "check", "--repair"]).ok();
    assert_eq!(
        repaired.lines().filter(|line| line.contains("repaired")).count(),
        wanted.len(),
        "{repaired}"
    );
    eventually("the interface goes", 10, || {
        !Path::new("/sys/class/net").join(&interface).exists()
    });
    assert_eq!(check(&daemon), Vec::<String>::new());
    for gone in [
        root.join("layers/stray-layer"),
        root.join("rw/stray-rw"),
        root.join("containers").join(&stray),
        root.join("volumes/stray-volume"),
        exec.join("stage").join(&stray),
        exec.join("run").join(format!("{stray}.json")),
        group,
    ] {
        assert!(!gone.exists(), "{}", gone.display());
    }
    assert_eq!(std::fs::read_to_string(precious.at("file")).unwrap(), "precious");
    // What was right has not been touched.
    assert!(process.is_alive());
    let port = daemon.docker(&["port", "web"]).ok();
    let elements = harness::leaks::nft_elements(&daemon.places.table).join(" ");
    let number = port.rsplit(':').next().unwrap().trim().to_owned();
    assert!(elements.contains(&number), "{port}: {elements}");
    daemon.finish();
}

fn what_is_missing_is_reported_and_left(_: &Nothing) {
    let daemon = start(&[]);
    let image = sized(1000);
    daemon.load(&image, "broken:1");
    daemon.docker(&["create", "--name", "no-layer", "busybox", "true"]).ok();
    daemon
        .docker(&["create", "--name", "no-folder", "busybox", "true"])
        .ok();
    daemon.docker(&["volume", "create", "no-volume"]).ok();
    daemon
        .server
        .post(
            "/volumes/create",
            &json!({"Name": "scratch", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}),
        )
        .expect(201);
    daemon.sleeper("web", &["-v", "scratch:/s:nocopy"]);
    let id = |name: &str| daemon.inspect(name)["Id"].as_str().unwrap().to_owned();
    let (root, exec) = (root(&daemon), daemon.places.exec.clone());
    let top = daemon.server.get("/images/broken:1/json").json()["GraphDriver"]["Data"]["UpperDir"]
        .as_str()
        .unwrap()
        .to_owned();
    let gone = |path: PathBuf| std::fs::remove_dir_all(path).unwrap();
    gone(Path::new(&top).parent().unwrap().to_owned());
    let chain = Path::new(&top)
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let (no_layer, no_folder, web) = (id("no-layer"), id("no-folder"), id("web"));
    gone(root.join("rw").join(&no_layer));
    gone(root.join("containers").join(&no_folder));
    gone(root.join("volumes/no-volume"));
    host(
        "umount",
        &["-l", &root.join("volumes/scratch/_data").display().to_string()],
    );
    let run: Value = serde_json::from_slice(&std::fs::read(exec.join(format!("run/{web}.json"))).unwrap()).unwrap();
    let interface = run["endpoint"]["host_if"].as_str().unwrap().to_owned();
    host("ip", &["link", "delete", &interface]);
    let mut wanted = vec![
        format!("missing layer-folder sha256:{chain}"),
        format!("missing writable-layer {no_layer}"),
        format!("missing container-folder {no_folder}"),
        "missing volume-folder no-volume".to_owned(),
        "missing volume-mount scratch".to_owned(),
        format!("missing interface {interface}"),
    ];
    wanted.sort();
    assert_eq!(check(&daemon), wanted);
    let report = daemon
        .server
        .post("/system/check?repair=1", &Value::Null)
        .expect(200)
        .json();
    assert_eq!(words(&report), wanted);
    for one in report["Differences"].as_array().unwrap() {
        assert_eq!(
            (&one["Repairable"], &one["Repaired"]),
            (&json!(false), &json!(false)),
            "{one}"
        );
        assert!(!one["Note"].as_str().unwrap().is_empty());
    }
    let about = report["Differences"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["Kind"] == "layer-folder");
    assert!(about.unwrap()["Note"].as_str().unwrap().contains(&image.id()));
    assert_eq!(daemon.iechor(&["system", "check", "--repair"]).code, 1);
    let shown = daemon.iechor(&[
        "system",
        "check",
        "--format",
        "{{.Side}} {{.Kind}} {{.Name}} {{.State}}",
    ]);
    let mut lines: Vec<&str> = shown.lines();
    lines.sort_unstable();
    let expected: Vec<String> = wanted.iter().map(|line| format!("{line} yours to decide")).collect();
    assert_eq!((shown.code, lines), (1, expected.iter().map(String::as_str).collect()));
    // What the notes advise helps.
    daemon.docker(&["rm", "-f", "no-layer", "no-folder", "web"]).ok();
    daemon.docker(&["volume", "rm", "no-volume"]);
    daemon.docker(&["rmi", "broken:1"]).ok();
    assert_eq!(check(&daemon), Vec::<String>::new());
    daemon.finish();
}

fn what_can_be_written_again_is(_: &Nothing) {
    let daemon = start(&[]);
    daemon.sleeper("web", &["-p", "127.0.0.1::80", "-p", "127.0.0.1::81/udp"]);
    let id = daemon.inspect("web")["Id"].as_str().unwrap().to_owned();
    let record = daemon.places.exec.join(format!("run/{id}.json"));
    let (table, before) = (daemon.places.table.clone(), std::fs::read(&record).unwrap());
    let mut elements = harness::leaks::nft_elements(&table);
    elements.sort();
    assert_eq!(elements.len(), 2, "{elements:?}");
    // One port of two.
    let ports = daemon.docker(&["port", "web", "80"]).ok();
    let port = ports.rsplit(':').next().unwrap().trim().to_owned();
    host(
        "nft",
        &[&format!(
            "delete element ip {table} published-on {{ 127.0.0.1 . tcp . {port} }}"
        )],
    );
    std::fs::remove_file(&record).unwrap();
    let found = check(&daemon);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with(&format!("missing published-port 127.0.0.1:{port}/tcp to ")),
        "{found:?}"
    );
    assert_eq!(found[1], format!("missing run-record {id}"));
    daemon.iechor(&["system", "check", "--repair"]).ok();
    let same = || {
        let mut now = harness::leaks::nft_elements(&table);
        now.sort();
        now
    };
    assert_eq!(same(), elements);
    assert_eq!(std::fs::read(&record).unwrap(), before);
    // The whole table.
    host("nft", &[&format!("delete table ip {table}")]);
    assert_eq!(check(&daemon), ["missing nft-table the daemon's table"]);
    daemon.iechor(&["system", "check", "--repair"]).ok();
    assert_eq!(same(), elements);
    assert_eq!(check(&daemon), Vec::<String>::new());
    // A restarted daemon reads what was written.
    daemon.kill9();
    daemon.launch();
    assert_eq!(check(&daemon), Vec::<String>::new());
    daemon.finish();
}

fn a_namespace_that_is_the_hosts_is_reported(_: &Nothing) {
    let daemon = start(&[]);
    daemon.sleeper("web", &[]);
    daemon.sleeper("hostly", &["--network", "host"]);
    let id = |name: &str| daemon.inspect(name)["Id"].as_str().unwrap().to_owned();
    let path = |id: &str| daemon.places.exec.join(format!("run/{id}.json"));
    let (web, hostly) = (id("web"), id("hostly"));
    let read = |id: &str| -> Value { serde_json::from_slice(&std::fs::read(path(id)).unwrap()).unwrap() };
    let (of_web, mut record) = (read(&web), read(&hostly));
    // The daemon is made to believe that it gave this one an interface.
    record["endpoint"] = of_web["endpoint"].clone();
    record["endpoint"]["ip"] = json!(format!("{}.200", daemon.gateway().rsplit_once('.').unwrap().0));
    daemon.stop();
    std::fs::write(path(&hostly), record.to_string()).unwrap();
    daemon.launch();
    assert_eq!(check(&daemon), [format!("missing network-namespace {hostly}")]);
    daemon.finish();
}

fn work_under_way_is_no_difference(_: &Nothing) {
    let daemon = start(&[]);
    std::thread::scope(|scope| {
        let works = |number: usize| {
            let daemon = &daemon;
            move || {
                for round in 0..6 {
                    let image = format!("busy{number}:{round}");
                    daemon.load(&sized(2000 + number * 10 + round), &image);
                    daemon
                        .docker(&["run", "--rm", "-v", "/v", "-p", "127.0.0.1::80", &image, "true"])
                        .ok();
                    daemon.docker(&["rmi", &image]).ok();
                }
            }
        };
        let busy: Vec<_> = (0..3).map(|number| scope.spawn(works(number))).collect();
        while busy.iter().any(|thread| !thread.is_finished()) {
            let report = daemon
                .server
                .post("/system/check?repair=1", &Value::Null)
                .expect(200)
                .json();
            assert_eq!(words(&report), Vec::<String>::new());
        }
        for thread in busy {
            thread.join().unwrap();
        }
    });
    daemon.finish();
}

fn full_disks_lose_the_longest_unused_image(_: &Nothing) {
    let daemon = Daemon::start(Options {
        arguments: [
            "--image-gc-high=60",
            "--image-gc-low=54",
            "--image-gc-min-age=2",
            "--image-gc-interval=1",
            "--image-gc-pin=pin*:1",
        ]
        .map(str::to_owned)
        .into(),
        ..Options::default()
    });
    daemon.stop();
    let disk = root(&daemon).display().to_string();
    host("mount", &["-t", "tmpfs", "-o", "size=100m", "none", &disk]);
    let result = catch_unwind(AssertUnwindSafe(|| {
        daemon.launch();
        let there = |name: &str| daemon.server.get(&format!("/images/{name}/json")).status == 200;
        daemon.load(&sized(15 << 20), "pinned:1");
        daemon.load(&sized(15 << 20), "used:1");
        daemon.docker(&["create", "--name", "user", "used:1", "true"]).ok();
        daemon.load(&sized(15 << 20), "older:1");
        std::thread::sleep(std::time::Duration::from_secs(4));
        for name in ["pinned:1", "used:1", "older:1"] {
            assert!(there(name), "{name} went below the mark");
        }
        daemon.load(&sized(15 << 20), "newer:1");
        eventually("the oldest unused image goes", 15, || !there("older:1"));
        for name in ["pinned:1", "used:1", "newer:1"] {
            assert!(there(name), "{name} went although one was enough");
        }
        // Until the low mark, and no further than what may go.
        daemon.load(&sized(15 << 20), "last:1");
        eventually("the next one goes", 15, || !there("newer:1"));
        std::thread::sleep(std::time::Duration::from_secs(3));
        assert!(there("pinned:1") && there("used:1") && there("last:1"));
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let events = daemon.server.get(&format!("/events?since=0&until={now}")).text();
        assert!(events.contains("\"delete\""), "{events}");
        daemon.docker(&["rm", "user"]).ok();
        daemon.stop();
    }));
    daemon.kill9();
    host("umount", &["-l", &disk]);
    drop(daemon);
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

fn collection_is_off_by_default_and_its_settings_are_checked(_: &Nothing) {
    let program = harness::tools::binary("iechord");
    for (flags, word) in [
        (&["--image-gc-low=10"][..], "--image-gc-high"),
        (&["--image-gc-high=50", "--image-gc-low=60"], "above the low one"),
        (&["--image-gc-high=200"], "percent"),
    ] {
        let output = Run::new(&program, &[flags, &["--validate"]].concat()).output();
        assert!(
            output.code != 0 && output.err.contains(word),
            "{flags:?}: {}",
            output.err
        );
    }
    let folder = Folder::new("settings");
    std::fs::write(
        folder.at("daemon.json"),
        r#"{"image-gc-high": 80, "image-gc-pins": ["a"]}"#,
    )
    .unwrap();
    let output = Run::new(&program, &["--config-file", &folder.at("daemon.json"), "--validate"]).output();
    assert_eq!(output.code, 0, "{}", output.err);
}

fn info_says_what_the_daemon_was_told(_: &Nothing) {
    let daemon = start(&[
        "--insecure-registry=plain.example:5000",
        "--insecure-registry=10.1.0.0/16",
        "--registry-mirror=https://mirror.example",
        "--https-proxy=http://user:secret@proxy.example:3128",
        "--no-proxy=.example,10.0.0.0/8",
        "--label=a=b",
    ]);
    let info = || daemon.server.get("/info").expect(200).json();
    let text = info().to_string();
    assert!(!text.contains("secret"), "{text}");
    let before = info();
    assert_eq!(before["HttpsProxy"], "http://xxxxx:xxxxx@proxy.example:3128");
    assert_eq!(before["NoProxy"], ".example,10.0.0.0/8");
    assert_eq!(before["Labels"], json!(["a=b"]));
    let registries = &before["RegistryConfig"];
    assert_eq!(registries["IndexConfigs"]["plain.example:5000"]["Secure"], false);
    assert_eq!(registries["IndexConfigs"]["docker.io"]["Secure"], true);
    assert!(registries["InsecureRegistryCIDRs"].to_string().contains("10.1.0.0/16"));
    assert!(registries["Mirrors"].to_string().contains("mirror.example"));
    assert_eq!(before["IndexServerAddress"], "https://index.docker.io/v1/");
    assert!(!before["DefaultAddressPools"].as_array().unwrap().is_empty());
    assert_eq!((bytes(&before["Images"]), bytes(&before["Containers"])), (1, 0));
    let listener = daemon.background(&["events"]);
    eventually("the listener counts", 10, || {
        bytes(&info()["NEventsListener"]) == bytes(&before["NEventsListener"]) + 1
    });
    drop(listener);
    daemon.sleeper("one", &[]);
    daemon.docker(&["create", "busybox", "true"]).ok();
    daemon.docker(&["pause", "one"]).ok();
    let after = info();
    let counts = [
        "Containers",
        "ContainersRunning",
        "ContainersPaused",
        "ContainersStopped",
    ]
    .map(|key| bytes(&after[key]));
    assert_eq!(counts, [2, 0, 1, 1]);
    daemon.docker(&["unpause", "one"]).ok();
    for shown in [daemon.docker(&["info"]).ok(), daemon.iechor(&["info"]).ok()] {
        assert!(
            shown.contains("plain.example:5000")
                && shown.contains("Default Address Pools") | shown.contains("Default Address Pool"),
            "{shown}"
        );
    }
    let version = daemon.server.get("/version").expect(200).json();
    assert_eq!(version["Components"][0]["Name"], "Engine");
    assert_eq!(version["Components"][0]["Details"]["ApiVersion"], version["ApiVersion"]);
    assert_eq!(version["KernelVersion"], host("uname", &["-r"]).trim());
    daemon.finish();
}

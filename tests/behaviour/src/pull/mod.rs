//! Pulling from a real registry.

use harness::daemon::{Daemon, Options};
use harness::image::{CHARACTER, Image, Layer, Packing};
use harness::registry::Registry;
use harness::{Test, tests};
use serde_json::json;

mod all_tags;
pub mod faults;

/// A registry and a daemon for which it is the default one.
pub struct Port {
    daemon: Daemon,
    registry: Registry,
}

impl Port {
    pub fn start() -> Port {
        let registry = Registry::start();
        let daemon = Daemon::foreign().unwrap_or_else(|| Daemon::start(Options::default()));
        Port { daemon, registry }
    }

    pub fn finish(self) {
        self.daemon.finish();
    }

    /// The daemon's folders that hold image data, as a list of names: what a failed pull must not change.
    fn folders(&self) -> Vec<String> {
        let mut found = Vec::new();
        for part in ["layers", "blobs", "images", "tmp", "trash", "ingest"] {
            walk(&self.daemon.places.data.join("root").join(part), 3, &mut found);
        }
        found.sort();
        found
    }

    fn image_names(&self) -> Vec<String> {
        let list = self.daemon.server.get("/images/json").expect(200).json();
        let names = list
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|image| image["RepoTags"].as_array().cloned().unwrap_or_default());
        names.filter_map(|name| Some(name.as_str()?.to_owned())).collect()
    }
}

fn walk(folder: &std::path::Path, depth: usize, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), depth - 1, found);
        }
    }
}

pub fn tests() -> Vec<Test<Port>> {
    let mut tests = all_tags::tests();
    tests.extend(tests![
        pull_from_the_registry_and_run,
        short_names_mean_the_default_registry,
        a_mirror_serves_the_hubs_names,
        run_pulls_a_missing_image,
        pull_by_digest,
        pull_takes_the_platform_of_the_machine,
        pull_of_another_platform_is_refused_or_kept_apart,
        pull_takes_docker_and_oci_types_and_every_packing,
        second_pull_is_up_to_date,
        changed_tag_moves,
        shared_layers_are_fetched_once,
        parallel_pulls_of_one_image,
        pull_policy_of_run,
        whiteouts_links_and_owners_are_kept,
        progress_is_told,
    ]);
    tests
}

fn unique(what: &str) -> Image {
    // A layer of its own, so that nothing is there from another test.
    let mark = harness::tools::tag();
    Image::busybox().layer(
        Layer::default()
            .file(&format!("mark-{mark}"), 0o644, what.as_bytes())
            .file("what", 0o644, what.as_bytes()),
    )
}

fn pull_from_the_registry_and_run(port: &Port) {
    let digest = port
        .registry
        .push("tests/plain", "1", &unique("plain"), true, Packing::Gzip);
    let name = format!("{}/tests/plain:1", port.registry.address);
    let out = port.daemon.docker(&["pull", &name]).ok();
    assert!(out.contains(&format!("Digest: {digest}")), "{out}");
    assert!(
        out.contains(&format!("Status: Downloaded newer image for {name}")),
        "{out}"
    );
    assert_eq!(
        port.daemon.docker(&["run", "--rm", &name, "cat", "/what"]).ok(),
        "plain"
    );
    let digests = port
        .daemon
        .docker(&["image", "inspect", "-f", "{{json .RepoDigests}}", &name])
        .ok();
    assert!(
        digests.contains(&format!("{}/tests/plain@{digest}", port.registry.address)),
        "{digests}"
    );
    port.daemon.docker(&["rmi", &name]).ok();
}

fn short_names_mean_the_default_registry(port: &Port) {
    if port.daemon.is_foreign() {
        harness::suite::skip("the other engine's default registry is not ours");
    }
    for repository in ["shorty", "library/shorty"] {
        port.registry
            .push(repository, "latest", &unique("short"), true, Packing::Gzip);
    }
    let address = &port.registry.address;
    let daemon = Daemon::start(Options {
        default_registry: Some(address.clone()),
        ..Options::default()
    });
    daemon.iechor(&["pull", "shorty"]).ok();
    assert_eq!(daemon.iechor(&["run", "--rm", "shorty", "cat", "/what"]).ok(), "short");
    for name in [
        "shorty",
        &format!("{address}/shorty"),
        &format!("{address}/library/shorty"),
    ] {
        let found = daemon.docker(&["images", "-q", name]).ok().lines().count();
        let known = daemon.docker(&["image", "inspect", name]).code == 0;
        assert_eq!(
            found == 1,
            known,
            "{name} is the image's name for one call and not for the other"
        );
    }
    assert_eq!(daemon.docker(&["images", "-q", "shorty"]).ok().lines().count(), 1);
    daemon.iechor(&["rmi", "shorty"]).ok();
    daemon.finish();
}

/// The docker client spells short names out as the hub's; a mirror of the hub serves them all the same.
fn a_mirror_serves_the_hubs_names(port: &Port) {
    if port.daemon.is_foreign() {
        harness::suite::skip("the other engine's mirrors are not ours");
    }
    port.registry.push(
        "library/mirrored",
        "latest",
        &unique("from the mirror"),
        true,
        Packing::Gzip,
    );
    let mirror = format!("http://{}", port.registry.address);
    let daemon = Daemon::start(Options {
        arguments: vec!["--registry-mirror".into(), mirror],
        ..Options::default()
    });
    assert_eq!(
        daemon.docker(&["run", "--rm", "mirrored", "cat", "/what"]).ok(),
        "from the mirror"
    );
    assert!(
        daemon
            .docker(&["images", "--format", "{{.Repository}}"])
            .ok()
            .contains("mirrored")
    );
    daemon.finish();
}

fn run_pulls_a_missing_image(port: &Port) {
    port.registry
        .push("tests/missing", "1", &unique("pulled by run"), true, Packing::Gzip);
    let name = format!("{}/tests/missing:1", port.registry.address);
    let output = port.daemon.docker(&["run", "--rm", &name, "cat", "/what"]);
    assert!(output.err.contains("Unable to find image"), "{}", output.err);
    assert_eq!(output.ok(), "pulled by run");
    port.daemon.docker(&["rmi", &name]).ok();
}

fn pull_by_digest(port: &Port) {
    let digest = port
        .registry
        .push("tests/digest", "1", &unique("by digest"), true, Packing::Gzip);
    let name = format!("{}/tests/digest@{digest}", port.registry.address);
    port.daemon.docker(&["pull", &name]).ok();
    assert_eq!(
        port.daemon.docker(&["run", "--rm", &name, "cat", "/what"]).ok(),
        "by digest"
    );
    port.daemon.docker(&["rmi", &name]).ok();
}

fn index_of_two(port: &Port, repository: &str) -> String {
    let mut other = unique("for arm64");
    other.architecture = "arm64";
    port.registry.push_index(repository, "1", &[other, unique("for amd64")]);
    format!("{}/{repository}:1", port.registry.address)
}

fn pull_takes_the_platform_of_the_machine(port: &Port) {
    let name = index_of_two(port, "tests/platforms");
    assert_eq!(
        port.daemon.docker(&["run", "--rm", &name, "cat", "/what"]).ok(),
        "for amd64"
    );
    port.daemon.docker(&["rmi", &name]).ok();
}

fn pull_of_another_platform_is_refused_or_kept_apart(port: &Port) {
    let name = index_of_two(port, "tests/other-platforms");
    port.daemon.docker(&["pull", "--platform", "linux/arm64", &name]).ok();
    assert_eq!(
        port.daemon
            .docker(&["image", "inspect", "-f", "{{.Architecture}}", &name])
            .ok(),
        "arm64"
    );
    let error = port
        .daemon
        .docker(&["pull", "--platform", "linux/s390x", &name])
        .fails(1);
    assert!(
        error.contains("s390x") || error.contains("no matching manifest"),
        "{error}"
    );
    port.daemon.docker(&["rmi", &name]).ok();
}

fn pull_takes_docker_and_oci_types_and_every_packing(port: &Port) {
    let forms = [
        ("docker-gzip", false, Packing::Gzip),
        ("oci-gzip", true, Packing::Gzip),
        ("oci-plain", true, Packing::Plain),
        ("oci-zstd", true, Packing::Zstd),
    ];
    for (word, oci, packing) in forms {
        port.registry.push("tests/forms", word, &unique(word), oci, packing);
        let name = format!("{}/tests/forms:{word}", port.registry.address);
        port.daemon.docker(&["pull", "-q", &name]).ok();
        assert_eq!(port.daemon.docker(&["run", "--rm", &name, "cat", "/what"]).ok(), word);
        port.daemon.docker(&["rmi", &name]).ok();
    }
}

fn second_pull_is_up_to_date(port: &Port) {
    port.registry
        .push("tests/twice", "1", &unique("twice"), true, Packing::Gzip);
    let name = format!("{}/tests/twice:1", port.registry.address);
    port.daemon.docker(&["pull", &name]).ok();
    let out = port.daemon.docker(&["pull", &name]).ok();
    assert!(
        out.contains(&format!("Status: Image is up to date for {name}")),
        "{out}"
    );
    port.daemon.docker(&["rmi", &name]).ok();
}

fn changed_tag_moves(port: &Port) {
    let name = format!("{}/tests/moving:1", port.registry.address);
    let mut ids = Vec::new();
    for word in ["before", "after"] {
        port.registry
            .push("tests/moving", "1", &unique(word), true, Packing::Gzip);
        port.daemon.docker(&["pull", &name]).ok();
        assert_eq!(port.daemon.docker(&["run", "--rm", &name, "cat", "/what"]).ok(), word);
        ids.push(port.daemon.docker(&["images", "-q", "--no-trunc", &name]).ok());
    }
    assert_ne!(ids[0], ids[1]);
    // The old image stays, without a name.
    let dangling = port
        .daemon
        .docker(&["images", "-q", "--no-trunc", "-f", "dangling=true"])
        .ok();
    assert!(dangling.contains(&ids[0]), "{dangling}");
    port.daemon.docker(&["rmi", &ids[0], &ids[1]]).ok();
}

fn shared_layers_are_fetched_once(port: &Port) {
    let base = unique("base");
    port.registry.push("tests/base", "1", &base, true, Packing::Gzip);
    let top = base.clone().layer(Layer::default().file("top", 0o644, b"top"));
    port.registry.push("tests/top", "1", &top, true, Packing::Gzip);
    let (first, second) = (
        format!("{}/tests/base:1", port.registry.address),
        format!("{}/tests/top:1", port.registry.address),
    );
    port.daemon.docker(&["pull", &first]).ok();
    let out = port.daemon.docker(&["pull", &second]).ok();
    assert_eq!(out.matches("Already exists").count(), 2, "{out}");
    port.daemon.docker(&["rmi", &first]).ok();
    assert_eq!(
        port.daemon.docker(&["run", "--rm", &second, "cat", "/what"]).ok(),
        "base",
        "its layers are shared, not gone"
    );
    port.daemon.docker(&["rmi", &second]).ok();
}

fn parallel_pulls_of_one_image(port: &Port) {
    port.registry
        .push("tests/parallel", "1", &unique("parallel"), true, Packing::Gzip);
    let name = format!("{}/tests/parallel:1", port.registry.address);
    let pulls: Vec<_> = (0..4).map(|_| port.daemon.background(&["pull", &name])).collect();
    for pull in pulls {
        let (code, text) = pull.finish(30);
        assert_eq!(code, 0, "{text}");
    }
    assert_eq!(
        port.daemon.docker(&["run", "--rm", &name, "cat", "/what"]).ok(),
        "parallel"
    );
    port.daemon.docker(&["rmi", &name]).ok();
}

fn pull_policy_of_run(port: &Port) {
    port.registry
        .push("tests/policy", "1", &unique("old"), true, Packing::Gzip);
    let name = format!("{}/tests/policy:1", port.registry.address);
    port.daemon
        .docker(&["run", "--rm", "--pull", "never", &name, "cat", "/what"])
        .fails(125);
    assert_eq!(
        port.daemon
            .docker(&["run", "--rm", "--pull", "always", &name, "cat", "/what"])
            .ok()
            .lines()
            .last(),
        Some("old")
    );
    port.registry
        .push("tests/policy", "1", &unique("new"), true, Packing::Gzip);
    assert_eq!(port.daemon.docker(&["run", "--rm", &name, "cat", "/what"]).ok(), "old");
    assert_eq!(
        port.daemon
            .docker(&["run", "--rm", "--pull", "always", &name, "cat", "/what"])
            .ok()
            .lines()
            .last(),
        Some("new")
    );
    port.daemon.docker(&["rmi", &name]).ok();
}

fn whiteouts_links_and_owners_are_kept(port: &Port) {
    let long = format!("long/{}/{}", "a".repeat(120), "b".repeat(120));
    let below = Layer::default()
        .folder("keep", 0o755)
        .file("keep/one", 0o644, b"one")
        .file("keep/two", 0o644, b"two")
        .folder("hide", 0o755)
        .file("hide/old", 0o644, b"old")
        .file_of("owned", 0o640, (70000, 2_100_000), b"big ids")
        .file("setuid", 0o4755, b"")
        .hardlink("linked", "owned", 0o640, (70000, 2_100_000))
        .file(&long, 0o644, b"long name")
        .device("devices/null", CHARACTER, 1, 3)
        .pax("SCHILY.xattr.user.colour", b"blue")
        .file("coloured", 0o644, b"");
    let above = Layer::default()
        .file("keep/.wh.one", 0o644, b"")
        .folder("hide", 0o700)
        .file("hide/.wh..wh..opq", 0o644, b"")
        .file("hide/new", 0o644, b"new");
    let image = unique("tree").layer(below).layer(above);
    port.registry.push("tests/tree", "1", &image, true, Packing::Gzip);
    let name = format!("{}/tests/tree:1", port.registry.address);
    port.daemon.docker(&["pull", "-q", &name]).ok();
    let line = format!(
        "ls /keep; ls /hide; stat -c '%u %g %a %h' /owned; stat -c %a /setuid /hide; cat '/{long}'; echo; stat -c '%F %t:%T' /devices/null; cat /linked"
    );
    let out = port.daemon.docker(&["run", "--rm", &name, "sh", "-c", &line]).ok();
    assert_eq!(
        out,
        "two\nnew\n70000 2100000 640 2\n4755\n700\nlong name\ncharacter special file 1:3\nbig ids"
    );
    let holder = port.daemon.docker(&["run", "-d", &name, "sleep", "1000"]).ok();
    let root = port.daemon.process(&holder).root("/coloured");
    let colour = harness::process::Run::new(
        "getfattr".as_ref(),
        &["--only-values", "-n", "user.colour", root.to_str().unwrap()],
    );
    if std::path::Path::new("/usr/bin/getfattr").exists() {
        assert_eq!(colour.output().ok(), "blue");
    }
    port.daemon.remove(&holder);
    port.daemon.docker(&["rmi", &name]).ok();
}

fn progress_is_told(port: &Port) {
    port.registry
        .push("tests/progress", "1", &unique("progress"), true, Packing::Gzip);
    let target = format!(
        "/images/create?fromImage={}/tests/progress&tag=1",
        port.registry.address
    );
    let reply = port.daemon.server.call("POST", &target, None).expect(200);
    let text = reply.text();
    let records: Vec<serde_json::Value> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said = |status: &str| {
        records
            .iter()
            .filter(|record| record["status"].as_str().is_some_and(|text| text.starts_with(status)))
            .count()
    };
    assert!(said("Pulling from tests/progress") == 1, "{text}");
    assert!(
        said("Pulling fs layer") >= 1 && said("Pull complete") >= 1 && said("Digest: sha256:") == 1,
        "{text}"
    );
    assert!(
        records.iter().any(|record| record["progressDetail"]["total"].is_i64()
            || record["status"] == "Downloading"
            || record["status"] == "Extracting"),
        "{text}"
    );
    assert_eq!(
        json!(reply.header("content-type").unwrap_or_default()),
        "application/json"
    );
    port.daemon
        .docker(&["rmi", &format!("{}/tests/progress:1", port.registry.address)])
        .ok();
}

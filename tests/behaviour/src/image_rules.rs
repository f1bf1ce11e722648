//! Images by Docker's rules: which ones a list shows, which ones may go and in what words, what pruning gives back, and
//! mounting an image into a container.

use harness::image::{Image, Layer};
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        list_filters_leave_what_they_say,
        list_filters_that_are_wrong_are_refused,
        list_counts_containers_and_shared_bytes,
        list_and_inspect_show_the_manifest,
        inspect_and_history_know_the_platform,
        rmi_by_name_takes_one_name_at_a_time,
        rmi_by_id_needs_force_for_several_names,
        rmi_of_what_a_running_container_uses,
        rmi_of_what_a_stopped_container_uses,
        rmi_of_a_dangling_image_by_prefix,
        rmi_of_what_is_not_there,
        prune_takes_only_what_the_filters_pick,
        prune_spares_what_containers_use,
        prune_gives_back_what_it_says,
        tags_that_mean_something_else_are_refused,
        image_mount_is_read_only,
        image_mount_of_a_subpath,
        image_mount_keeps_the_image,
        image_mount_of_what_is_not_there,
    ]
}

/// An image of this test alone, with a layer of so many bytes of its own; removed with its names when dropped.
struct Own<'a> {
    world: &'a World,
    label: String,
    id: String,
    name: String,
}

fn own<'a>(world: &'a World, what: &str, bytes: usize) -> Own<'a> {
    let tag = harness::tools::tag();
    let (name, label) = (format!("{what}:{tag}"), format!("{what}-{tag}"));
    let content = tag.chars().cycle().take(bytes).collect::<String>();
    let image =
        Image::busybox()
            .with("Labels", json!({"own": label}))
            .layer(
                Layer::default()
                    .folder("own", 0o755)
                    .file("own/file", 0o644, content.as_bytes()),
            );
    world.load(&image, &name);
    Own {
        world,
        label,
        id: image.id(),
        name,
    }
}

impl Own<'_> {
    fn filter(&self) -> String {
        format!("label=own={}", self.label)
    }

    fn is_there(&self) -> bool {
        self.world.server.get(&format!("/images/{}/json", self.id)).status == 200
    }

    fn short(&self) -> &str {
        &self.id[7..19]
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let _ = self
            .world
            .server
            .try_send("DELETE", &format!("/images/{}?force=1", self.id), &[], &[]);
    }
}

fn encoded(filters: &Value) -> String {
    filters.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Ids that a list with these filters shows.
#[track_caller]
fn listed(world: &World, filters: &Value) -> Vec<String> {
    let reply = world.server.get(&format!("/images/json?filters={}", encoded(filters)));
    let rows = reply.expect(200).json();
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| row["Id"].as_str().unwrap().to_owned())
        .collect()
}

/// An image made at this moment, by its configuration.
fn dated<'a>(world: &'a World, created: &str) -> Own<'a> {
    let mut made = own(world, "dated", 10);
    let image = Image::busybox().with("Labels", json!({"own": made.label, "at": created}));
    let mut config: Value = serde_json::from_slice(&image.config_bytes()).unwrap();
    config["created"] = json!(created);
    let bytes = config.to_string().into_bytes();
    let id = harness::image::digest(&bytes);
    let archive = Layer::default()
        .file("config.json", 0o644, &bytes)
        .file("layer.tar", 0o644, &image.layers[0])
        .file(
            "manifest.json",
            0o644,
            json!([{"Config": "config.json", "RepoTags": [made.name], "Layers": ["layer.tar"]}])
                .to_string()
                .as_bytes(),
        )
        .bytes();
    let kind = [("Content-Type", "application/x-tar")];
    world
        .server
        .send("DELETE", &format!("/images/{}?force=1", made.id), &[], &[])
        .expect(200);
    world
        .server
        .send("POST", "/images/load?quiet=1", &kind, &archive)
        .expect(200);
    made.id = id;
    assert!(made.is_there());
    made
}

fn list_filters_leave_what_they_say(world: &World) {
    // The same moment is written in several ways, which sort differently as text.
    let (old, middle, new) = (
        dated(world, "2001-01-01T00:00:00Z"),
        dated(world, "2001-01-01T23:30:00-02:00"),
        dated(world, "2001-01-02T01:31:00.5Z"),
    );
    let ours = |filters: Value| -> Vec<&str> {
        let found = listed(world, &filters);
        [("old", &old), ("middle", &middle), ("new", &new)]
            .into_iter()
            .filter(|(_, image)| found.contains(&image.id))
            .map(|(word, _)| word)
            .collect()
    };
    assert_eq!(ours(json!({"before": [new.name]})), ["old", "middle"]);
    assert_eq!(ours(json!({"since": [middle.name], "before": ["busybox"]})), ["new"]);
    assert_eq!(ours(json!({"since": [old.name], "before": [new.id]})), ["middle"]);
    assert_eq!(ours(json!({"until": ["2001-01-02T00:00:00Z"]})), ["old"]);
    assert_eq!(
        ours(json!({"until": ["24h"], "label": [format!("own={}", new.label)]})),
        ["new"]
    );
    assert_eq!(ours(json!({"reference": ["dated:*"]})), ["old", "middle", "new"]);
    assert_eq!(ours(json!({"reference": [old.name, "dat[f-z]d:*"]})), ["old"]);
    assert_eq!(ours(json!({"reference": ["docker.io/library/d?ted"]})).len(), 3);
    assert_eq!(ours(json!({"dangling": ["true"]})).len(), 0);
    world.run(&["rmi", &middle.name]).ok();
    let untagged = own(world, "untagged", 10);
    world.run(&["tag", "busybox", &untagged.name]).ok();
    let found = listed(world, &json!({"dangling": ["true"]}));
    assert!(found.contains(&untagged.id), "its name went to another image");
    assert!(!listed(world, &json!({"dangling": ["false"]})).contains(&untagged.id));
    world.run(&["rmi", &untagged.name]).ok();
}

fn list_filters_that_are_wrong_are_refused(world: &World) {
    for (filters, word) in [
        (json!({"colour": ["blue"]}), "invalid filter 'colour'"),
        (json!({"dangling": ["perhaps"]}), "dangling"),
        (json!({"reference": ["[a"]}), "pattern"),
        (json!({"until": ["soon"]}), "soon"),
    ] {
        let reply = world.server.get(&format!("/images/json?filters={}", encoded(&filters)));
        assert!(
            reply.status == 400 || world.is_foreign() && reply.status == 500,
            "{filters}"
        );
        assert!(
            world.is_foreign() || reply.message().contains(word),
            "{}",
            reply.message()
        );
    }
    let missing = world.server.get(&format!(
        "/images/json?filters={}",
        encoded(&json!({"before": ["not-here"]}))
    ));
    assert_eq!(missing.status, 404);
}

#[track_caller]
fn row(world: &World, query: &str, id: &str) -> Value {
    let rows = world.server.get(&format!("/images/json?{query}")).expect(200).json();
    let found = rows.as_array().unwrap().iter().find(|row| row["Id"] == id).cloned();
    found.unwrap_or_else(|| panic!("{id} is not listed"))
}

fn list_counts_containers_and_shared_bytes(world: &World) {
    let image = own(world, "counted", 5000);
    assert_eq!(row(world, "", &image.id)["SharedSize"], -1);
    let shown = row(world, "shared-size=1", &image.id);
    let (size, shared) = (shown["Size"].as_i64().unwrap(), shown["SharedSize"].as_i64().unwrap());
    // The lower layer is busybox's, the upper one is its own.
    assert_eq!(size - shared, 5000);
    // The filters say what is shown, not what is shared.
    let filters = encoded(&json!({"label": [format!("own={}", image.label)]}));
    assert_eq!(
        row(world, &format!("shared-size=1&filters={filters}"), &image.id)["SharedSize"],
        shared
    );
    let name = world.name("counted");
    world.run(&["create", "--name", &name, &image.name, "true"]).ok();
    if !world.is_foreign() {
        assert_eq!(row(world, "", &image.id)["Containers"], 1);
    }
}

fn list_and_inspect_show_the_manifest(world: &World) {
    if world.is_foreign() {
        harness::suite::skip("Docker without the containerd store has no manifests to show");
    }
    let image = own(world, "manifest", 100);
    let name = world.name("manifest");
    world.run(&["create", "--name", &name, &image.name, "true"]).ok();
    assert!(row(world, "", &image.id).get("Manifests").is_none());
    let listed = row(world, "manifests=1", &image.id)["Manifests"].clone();
    let inspected = world
        .server
        .get(&format!("/images/{}/json?manifests=1", image.name))
        .expect(200)
        .json();
    assert_eq!(inspected["Manifests"], listed);
    let one = &listed[0];
    assert_eq!(
        (one["Kind"].as_str(), one["Available"].as_bool()),
        (Some("image"), Some(true))
    );
    assert_eq!(one["Descriptor"]["digest"], one["ID"]);
    assert_eq!(one["ImageData"]["Platform"]["architecture"], "amd64");
    assert_eq!(one["ImageData"]["Containers"], json!([world.inspect(&name)["Id"]]));
    let bytes = |value: &Value| value.as_i64().unwrap();
    assert_eq!(
        bytes(&one["Size"]["Total"]),
        bytes(&one["Size"]["Content"]) + bytes(&one["ImageData"]["Size"]["Unpacked"])
    );
    // The manifest is the one that save writes.
    let archive = world
        .server
        .get(&format!("/images/{}/get", image.name))
        .expect(200)
        .body;
    let blob = format!("blobs/sha256/{}", &one["ID"].as_str().unwrap()[7..]);
    let entries = harness::image::entries(&archive);
    let manifest = entries
        .iter()
        .find(|(path, _)| *path == blob)
        .expect("the manifest in the archive");
    assert_eq!(manifest.1.len() as i64, bytes(&one["Descriptor"]["size"]));
    let both = world.server.get(&format!(
        "/images/{}/json?manifests=1&platform={}",
        image.name,
        encoded(&json!({"os": "linux", "architecture": "amd64"}))
    ));
    assert_eq!(both.status, 400, "{}", both.message());
    let tree = world.run(&["image", "ls", "--tree"]).ok();
    assert!(tree.contains(&image.name) && tree.contains("linux/amd64"), "{tree}");
}

fn inspect_and_history_know_the_platform(world: &World) {
    let image = own(world, "platform", 100);
    for verb in ["json", "history"] {
        let ask = |architecture: &str| {
            let platform = encoded(&json!({"os": "linux", "architecture": architecture}));
            world
                .server
                .get(&format!("/images/{}/{verb}?platform={platform}", image.name))
        };
        ask("amd64").expect(200);
        let refused = ask("s390x");
        assert_eq!(refused.status, 404, "{}", refused.message());
        assert!(refused.message().contains("linux/s390x"), "{}", refused.message());
    }
}

/// The answer of a removal through the bare API.
#[track_caller]
fn removal(world: &World, target: &str) -> (u16, Value, String) {
    let reply = world.server.call("DELETE", &format!("/images/{target}"), None);
    (reply.status, reply.json(), reply.message())
}

fn rmi_by_name_takes_one_name_at_a_time(world: &World) {
    let image = own(world, "names", 100);
    let other = format!("other:{}", harness::tools::tag());
    world.run(&["tag", &image.name, &other]).ok();
    let (status, done, _) = removal(world, &image.name);
    assert_eq!((status, done), (200, json!([{"Untagged": image.name}])));
    assert!(image.is_there());
    let (status, done, _) = removal(world, &other);
    let parts = done.as_array().unwrap();
    assert_eq!(status, 200);
    assert_eq!(parts[0], json!({"Untagged": other}));
    assert_eq!(parts[1], json!({"Deleted": image.id}));
    assert_eq!(parts.len(), 3, "its own layer goes, busybox's stays: {parts:?}");
    assert!(!image.is_there());
}

fn rmi_by_id_needs_force_for_several_names(world: &World) {
    let image = own(world, "several", 100);
    let other = format!("elsewhere:{}", harness::tools::tag());
    world.run(&["tag", &image.name, &other]).ok();
    let error = world.run(&["rmi", image.short()]).fails(1);
    let wanted = format!(
        "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
        image.short()
    );
    assert!(error.contains(&wanted), "{error}");
    let out = world.run(&["rmi", "-f", image.short()]).ok();
    for line in [
        format!("Untagged: {}", image.name),
        format!("Untagged: {other}"),
        format!("Deleted: {}", image.id),
    ] {
        assert!(out.contains(&line), "{out}");
    }
    assert!(!image.is_there());
}

fn rmi_of_what_a_running_container_uses(world: &World) {
    let image = own(world, "running", 100);
    let name = world.name("running");
    let id = world
        .run(&["run", "-d", "--name", &name, &image.name, "sleep", "1000"])
        .ok();
    let (status, _, message) = removal(world, &image.name);
    assert_eq!(status, 409);
    assert_eq!(
        message,
        format!(
            "conflict: unable to remove repository reference \"{}\" (must force) - container {} is using its referenced image {}",
            image.name,
            &id[..12],
            image.short()
        )
    );
    let (status, _, message) = removal(world, &format!("{}?force=1", image.id));
    assert_eq!(status, 409);
    assert_eq!(
        message,
        format!(
            "conflict: unable to delete {} (cannot be forced) - image is being used by running container {}",
            image.short(),
            &id[..12]
        )
    );
    // With force the name goes and the image stays for its container.
    let (status, done, _) = removal(world, &format!("{}?force=1", image.name));
    assert_eq!((status, done), (200, json!([{"Untagged": image.name}])));
    assert!(image.is_there());
    assert_eq!(world.inside(&name, "wc -c < /own/file"), "100");
}

fn rmi_of_what_a_stopped_container_uses(world: &World) {
    let image = own(world, "stopped", 100);
    let name = world.name("stopped");
    let id = world
        .run(&["create", "--name", &name, &image.name, "cat", "/own/file"])
        .ok();
    let (status, _, message) = removal(world, &image.id);
    assert_eq!(status, 409);
    assert_eq!(
        message,
        format!(
            "conflict: unable to delete {} (must be forced) - image is being used by stopped container {}",
            image.short(),
            &id[..12]
        )
    );
    assert_eq!(removal(world, &image.name).0, 409);
    let out = world.run(&["rmi", "-f", &image.name]).ok();
    assert!(out.contains(&format!("Deleted: {}", image.id)), "{out}");
    assert!(!image.is_there());
    // The container keeps its layers.
    let out = world.run(&["start", "-a", &name]).ok();
    assert_eq!(out.len(), 100);
}

fn rmi_of_a_dangling_image_by_prefix(world: &World) {
    let image = own(world, "prefix", 100);
    world.run(&["tag", "busybox", &image.name]).ok();
    let (status, done, _) = removal(world, &image.id[7..27]);
    assert_eq!((status, &done[0]), (200, &json!({"Deleted": image.id})));
    world.run(&["rmi", &image.name]).ok();
}

fn rmi_of_what_is_not_there(world: &World) {
    let error = world.run(&["rmi", "no-such-image:1"]).fails(1);
    assert!(error.contains("No such image: no-such-image:1"), "{error}");
    assert_eq!(removal(world, "no-such-image:1?force=1").0, 404);
}

fn prune_takes_only_what_the_filters_pick(world: &World) {
    let (one, two) = (own(world, "pruned", 100), own(world, "kept", 100));
    // Both have names: without "all" none goes.
    world.run(&["image", "prune", "-f", "--filter", &one.filter()]).ok();
    assert!(one.is_there());
    let not = format!("label!=own={}", one.label);
    world
        .run(&["image", "prune", "-af", "--filter", &one.filter(), "--filter", &not])
        .ok();
    assert!(one.is_there());
    let early = [
        "image",
        "prune",
        "-af",
        "--filter",
        &one.filter(),
        "--filter",
        "until=2001-01-01T00:00:00",
    ];
    world.run(&early).ok();
    assert!(one.is_there(), "it was made in 2024");
    let out = world
        .run(&[
            "image",
            "prune",
            "-af",
            "--filter",
            &one.filter(),
            "--filter",
            "until=1h",
        ])
        .ok();
    assert!(
        out.contains(&format!("untagged: {}", one.name)) && out.contains("deleted: sha256:"),
        "{out}"
    );
    assert!(!one.is_there() && two.is_there());
    let refused = world.server.post(
        &format!("/images/prune?filters={}", encoded(&json!({"colour": ["blue"]}))),
        &Value::Null,
    );
    assert_eq!(refused.status, 400);
}

fn prune_spares_what_containers_use(world: &World) {
    let image = own(world, "spared", 100);
    let second = format!("spared-too:{}", harness::tools::tag());
    if !world.is_foreign() {
        // Docker takes one of the names in this case.
        world.run(&["tag", &image.name, &second]).ok();
    }
    let name = world.name("spared");
    world.run(&["create", "--name", &name, &image.name, "true"]).ok();
    let out = world.run(&["image", "prune", "-af", "--filter", &image.filter()]).ok();
    assert!(out.contains("Total reclaimed space: 0B"), "{out}");
    assert!(image.is_there() && !out.contains("untagged"), "{out}");
}

fn prune_gives_back_what_it_says(world: &World) {
    let image = own(world, "exact", 77_777);
    let filters = encoded(&json!({"dangling": ["false"], "label": [format!("own={}", image.label)]}));
    let report = world
        .server
        .post(&format!("/images/prune?filters={filters}"), &Value::Null)
        .expect(200)
        .json();
    // The layer below is busybox's and stays.
    assert_eq!(report["SpaceReclaimed"], 77_777, "{report}");
    assert!(!image.is_there());
}

fn tags_that_mean_something_else_are_refused(world: &World) {
    for (query, word) in [
        ("repo=sha256&tag=1", "ambiguous"),
        ("repo=Upper&tag=1", "lowercase"),
        ("repo=a&tag=bad%20tag", "invalid"),
        ("repo=", "invalid"),
    ] {
        let reply = world.server.post(&format!("/images/busybox/tag?{query}"), &Value::Null);
        let known = reply.message().to_lowercase().contains(word);
        assert!(
            reply.status == 400 && (known || world.is_foreign()),
            "{query}: {}",
            reply.message()
        );
    }
    let digest = format!("repo=a@{}", Image::busybox().id());
    assert_eq!(
        world
            .server
            .post(&format!("/images/busybox/tag?{digest}"), &Value::Null)
            .status,
        400
    );
    assert_eq!(
        world.server.post("/images/not-here/tag?repo=a", &Value::Null).status,
        404
    );
}

fn mount_of(image: &str, more: &str) -> String {
    format!("type=image,source={image},target=/mounted{more}")
}

fn image_mount_is_read_only(world: &World) {
    let image = own(world, "mounted", 50);
    let (name, process) = world.sleeper(&["--mount", &mount_of(&image.name, "")]);
    assert_eq!(
        world.inside(&name, "wc -c < /mounted/own/file; ls /mounted/bin | grep -c '^sh$'"),
        "50\n1"
    );
    let refused = world.run(&["exec", &name, "touch", "/mounted/new"]);
    assert!(refused.err.contains("Read-only file system"), "{}", refused.err);
    assert!(process.mount("/mounted").unwrap().has("ro"));
    let shown = world.inspect(&name)["Mounts"][0].clone();
    assert_eq!(
        (
            shown["Type"].as_str(),
            shown["Destination"].as_str(),
            shown["RW"].as_bool()
        ),
        (Some("image"), Some("/mounted"), Some(false))
    );
    // Nothing of it is mounted on the host while the container runs.
    let places = world.places.exec.display().to_string();
    let host: Vec<_> = harness::kernel::own_mounts()
        .into_iter()
        .filter(|mount| {
            mount.target.contains(&places) && mount.target.contains(world.inspect(&name)["Id"].as_str().unwrap())
        })
        .collect();
    assert!(host.is_empty(), "{host:?}");
}

fn image_mount_of_a_subpath(world: &World) {
    let image = own(world, "sub", 50);
    let file = mount_of(&image.name, ",image-subpath=own/file");
    assert_eq!(world.shell(&["--mount", &file], "wc -c < /mounted"), "50");
    let folder = mount_of(&image.name, ",image-subpath=own");
    assert_eq!(world.shell(&["--mount", &folder], "ls /mounted"), "file");
    let link = Image::busybox().layer(Layer::default().symlink("out", "/../../../../etc").folder("etc", 0o755));
    let name = format!("links:{}", harness::tools::tag());
    world.load(&link, &name);
    // A link in the image leads to its own /etc, where the host's machine-id is not.
    let mount = mount_of(&name, ",image-subpath=out");
    assert_eq!(world.shell(&["--mount", &mount], "ls /mounted | head -n 1"), "group");
    let up = mount_of(&name, ",image-subpath=../etc");
    let error = world
        .run(&["run", "--rm", "--mount", &up, "busybox", "true"])
        .fails(125);
    assert!(error.contains("subpath"), "{error}");
    let absent = mount_of(&name, ",image-subpath=absent");
    let output = world.run(&["run", "--rm", "--mount", &absent, "busybox", "true"]);
    // The docker client takes "no such file" for a program that is missing.
    assert!(
        matches!(output.code, 125 | 127) && output.err.contains("cannot access path absent"),
        "{}",
        output.err
    );
    world.run(&["rmi", "-f", &name]).ok();
}

fn image_mount_keeps_the_image(world: &World) {
    let image = own(world, "kept-by-mount", 50);
    let (name, _) = world.sleeper(&["--mount", &mount_of(&image.name, "")]);
    let error = world.run(&["rmi", &image.name]).fails(1);
    assert!(error.contains("is using its referenced image"), "{error}");
    world.run(&["image", "prune", "-af", "--filter", &image.filter()]).ok();
    assert!(image.is_there());
    world.run(&["restart", "-t", "0", &name]).ok();
    assert_eq!(world.inside(&name, "wc -c < /mounted/own/file"), "50");
    drop(name);
    world.run(&["rmi", &image.name]).ok();
    assert!(!image.is_there());
}

fn image_mount_of_what_is_not_there(world: &World) {
    let error = world
        .run(&["create", "--mount", &mount_of("no-such-image:1", ""), "busybox", "true"])
        .fails(1);
    assert!(error.contains("No such image: no-such-image:1"), "{error}");
}

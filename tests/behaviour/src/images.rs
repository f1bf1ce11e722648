//! Images: list, tag, remove, history, save, load, import, export; and what the daemon says of itself.

use harness::image::{Image, Layer, Packing, entries};
use harness::tools::Folder;
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        images_lists_names_and_sizes,
        image_tag_and_rmi,
        rmi_refuses_an_image_in_use,
        image_history_and_inspect,
        save_then_load_gives_the_same_image,
        load_takes_the_oci_layout,
        load_takes_zstd_layers,
        import_and_export,
        export_has_the_changes,
        info_and_version,
        deep_layers_with_whiteouts,
    ]
}

fn images_lists_names_and_sizes(world: &World) {
    let shown = world.run(&["images", "busybox"]).ok();
    assert!(shown.starts_with("REPOSITORY"), "{shown}");
    assert!(shown.lines().nth(1).unwrap().contains("MB"), "{shown}");
    let listed = world
        .run(&[
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}}",
            "--filter",
            "reference=busybox",
        ])
        .ok();
    assert!(listed.lines().any(|line| line == "busybox:latest"), "{listed}");
    let id = world.run(&["images", "-q", "--no-trunc", "busybox:latest"]).ok();
    assert_eq!(id.lines().next().unwrap(), Image::busybox().id());
}

fn image_tag_and_rmi(world: &World) {
    let tag = format!("example.test:5000/some/name:{}", harness::tools::tag());
    world.run(&["tag", "busybox", &tag]).ok();
    assert_eq!(world.run(&["run", "--rm", &tag, "echo", "tagged"]).ok(), "tagged");
    let out = world.run(&["rmi", &tag]).ok();
    assert_eq!(out, format!("Untagged: {tag}"), "the image has another name and stays");
    world.run(&["image", "inspect", "busybox"]).ok();
    world.run(&["image", "inspect", &tag]).fails(1);
}

fn rmi_refuses_an_image_in_use(world: &World) {
    let image = format!("used:{}", harness::tools::tag());
    world.load(
        &Image::busybox().with("Labels", serde_json::json!({"own": image})),
        &image,
    );
    let name = world.name("user");
    world.run(&["create", "--name", &name, &image, "true"]).ok();
    let error = world.run(&["rmi", &image]).fails(1);
    assert!(error.contains("conflict") && error.contains("is using"), "{error}");
    world.run(&["rm", &name]).ok();
    let out = world.run(&["rmi", &image]).ok();
    assert!(out.contains("Untagged:") && out.contains("Deleted: sha256:"), "{out}");
}

fn image_history_and_inspect(world: &World) {
    let image = format!("layered:{}", harness::tools::tag());
    world.load(&Image::ubuntu(), &image);
    let shown = world.run(&["history", &image]).ok();
    assert_eq!(shown.lines().count(), 4, "a head and three layers: {shown}");
    let inspected = world.run(&["image", "inspect", &image]).ok();
    let parsed: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(parsed[0]["Id"], Image::ubuntu().id());
    assert_eq!(parsed[0]["RootFS"]["Layers"].as_array().unwrap().len(), 3);
    assert_eq!(parsed[0]["Architecture"], "amd64");
    assert_eq!(parsed[0]["Config"]["Cmd"][0], "/bin/bash");
    world.run(&["rmi", &image]).ok();
}

fn save_then_load_gives_the_same_image(world: &World) {
    let folder = Folder::new("save");
    let image = format!("saved:{}", harness::tools::tag());
    // An image of its own: other tests remove theirs while this one is gone.
    let made = Image::ubuntu().with("Labels", serde_json::json!({"own": image}));
    world.load(&made, &image);
    let file = folder.at("image.tar");
    world.run(&["save", "-o", &file, &image]).ok();
    let archive = std::fs::read(&file).unwrap();
    let names = entries(&archive);
    for needed in ["manifest.json", "index.json", "oci-layout"] {
        assert!(
            names.iter().any(|(name, _)| name == needed),
            "{needed} is not in the archive"
        );
    }
    world.run(&["rmi", "-f", &image]).ok();
    world.run(&["image", "inspect", &image]).fails(1);
    let out = world.run(&["load", "-i", &file]).ok();
    assert!(out.contains(&format!("Loaded image: {image}")), "{out}");
    assert_eq!(
        world
            .run(&["run", "--rm", &image, "/bin/bash", "-c", "echo $BASH"])
            .ok(),
        "/bin/bash"
    );
    let id = world.run(&["image", "inspect", "-f", "{{.Id}}", &image]).ok();
    assert_eq!(id, made.id());
    world.run(&["rmi", "-f", &image]).ok();
}

fn load_takes_the_oci_layout(world: &World) {
    plain_layouts_are_ours(world);
    for (packing, word) in [(Packing::Gzip, "gzip"), (Packing::Plain, "plain")] {
        let name = format!("docker.io/library/oci-{word}:{}", harness::tools::tag());
        let image = Image::busybox().with("Labels", serde_json::json!({"packing": word}));
        let out = load_archive(world, &image.oci_archive(&name, packing));
        assert!(out.contains("Loaded image"), "{out}");
        assert_eq!(world.run(&["run", "--rm", &name, "echo", word]).ok(), word);
        world.run(&["rmi", &name]).ok();
    }
}

fn load_takes_zstd_layers(world: &World) {
    plain_layouts_are_ours(world);
    let name = format!("docker.io/library/oci-zstd:{}", harness::tools::tag());
    load_archive(
        world,
        &Image::busybox()
            .with("Labels", serde_json::json!({"z": "1"}))
            .oci_archive(&name, Packing::Zstd),
    );
    assert_eq!(world.run(&["run", "--rm", &name, "echo", "zstd"]).ok(), "zstd");
    world.run(&["rmi", &name]).ok();
}

fn import_and_export(world: &World) {
    let name = format!("imported:{}", harness::tools::tag());
    let layer = Image::busybox().layers[0].clone();
    let out = world
        .command(&["import", "-c", "CMD [\"echo\", \"imported\"]", "-", &name])
        .input(layer)
        .output()
        .ok();
    assert!(out.starts_with("sha256:"), "{out}");
    assert_eq!(world.run(&["run", "--rm", &name]).ok(), "imported");
    world.run(&["rmi", &name]).ok();
}

fn export_has_the_changes(world: &World) {
    let name = world.name("exported");
    world.run(&["run", "--name", &name, "busybox", "sh", "-c", "mkdir -p /new/dir; echo text > /new/dir/file; ln -s file /new/dir/link; chmod 640 /new/dir/file; chown 1000:29 /new/dir/file"]).ok();
    let folder = Folder::new("export");
    let file = folder.at("tree.tar");
    world.run(&["export", "-o", &file, &name]).ok();
    let bytes = std::fs::read(&file).unwrap();
    assert!(
        entries(&bytes)
            .iter()
            .any(|(path, content)| path == "new/dir/file" && content == b"text\n")
    );
    let listing = harness::process::Run::new(
        "tar".as_ref(),
        &["--numeric-owner", "-tvf", &file, "new/dir/file", "new/dir/link"],
    )
    .output()
    .ok();
    assert!(
        listing.contains("-rw-r----- 1000/29") && listing.contains("link -> file"),
        "{listing}"
    );
}

fn info_and_version(world: &World) {
    let shown = world
        .run(&[
            "version",
            "--format",
            "{{.Server.APIVersion}} {{.Server.Os}}/{{.Server.Arch}}",
        ])
        .ok();
    assert!(shown.ends_with("linux/amd64"), "{shown}");
    let info = world.server.get("/info").expect(200).json();
    assert!(info["NCPU"].as_i64().unwrap() >= 1);
    assert!(info["MemTotal"].as_i64().unwrap() > 1 << 28);
    assert_eq!(info["OSType"], "linux");
    assert_eq!(
        info["CgroupVersion"],
        if harness::kernel::is_cgroup_v2() { "2" } else { "1" }
    );
    let (_name, _) = world.sleeper(&[]);
    let shown = world.run(&["info", "--format", "{{.ContainersRunning}}"]).ok();
    assert!(shown.parse::<i64>().unwrap() >= 1);
    world.run(&["info"]).ok();
    world.run(&["version"]).ok();
}

fn deep_layers_with_whiteouts(world: &World) {
    let mut image = Image::busybox();
    for number in 0..40 {
        let layer = Layer::default().folder("deep", 0o755).file(
            &format!("deep/{number}"),
            0o644,
            format!("{number}").as_bytes(),
        );
        image = image.layer(layer);
    }
    let image = image
        .layer(
            Layer::default()
                .file("deep/.wh.7", 0o644, b"")
                .file("deep/late", 0o644, b"late"),
        )
        .layer(Layer::default().folder("gone", 0o755).file("gone/old", 0o644, b""))
        .layer(
            Layer::default()
                .folder("gone", 0o755)
                .file("gone/.wh..wh..opq", 0o644, b"")
                .file("gone/new", 0o644, b""),
        );
    let name = format!("deep:{}", harness::tools::tag());
    world.load(&image, &name);
    let out = world
        .run(&[
            "run",
            "--rm",
            &name,
            "sh",
            "-c",
            "ls /deep | wc -l; ls /deep/7 2>/dev/null; cat /deep/39; ls /gone",
        ])
        .ok();
    assert_eq!(out, "40\n39new");
    world.run(&["rmi", &name]).ok();
}

fn plain_layouts_are_ours(world: &World) {
    if world.is_foreign() {
        harness::suite::skip(
            "Docker without the containerd store loads only archives that have Docker's manifest.json",
        );
    }
}

fn load_archive(world: &World, archive: &[u8]) -> String {
    world.command(&["load"]).input(archive.to_vec()).output().ok()
}

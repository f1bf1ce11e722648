//! One platform of several: what an archive has for it, and an image that goes by it.

use harness::image::{Image, Layer, Packing, digest};
use harness::tools::{Folder, tag};
use harness::{Test, tests};
use serde_json::json;

use crate::world::World;

pub fn everyday() -> Vec<Test<World>> {
    tests![
        an_archive_of_several_platforms_gives_the_one_asked_for,
        an_archive_without_the_platform_is_refused,
        an_image_goes_by_its_platform_alone,
    ]
}

/// An image of no other test's, whose architecture is only said.
fn image(architecture: &'static str) -> Image {
    Image {
        architecture,
        ..Image::busybox().layer(Layer::default().file("what", 0o644, format!("{architecture} {}", tag()).as_bytes()))
    }
}

/// An OCI layout with one name that is an index of these images.
fn archive(name: &str, images: &[Image]) -> Vec<u8> {
    let mut blobs = Vec::new();
    let mut manifests = Vec::new();
    for image in images {
        let (manifest, more) = image.manifest(true, Packing::Gzip);
        manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": manifest.len(),
            "digest": digest(&manifest), "platform": {"os": "linux", "architecture": image.architecture},
        }));
        blobs.push(manifest);
        blobs.extend(more);
    }
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests}).to_string();
    let top = json!({"schemaVersion": 2, "mediaType": kind, "manifests": [{
        "mediaType": kind, "size": index.len(), "digest": digest(index.as_bytes()),
        "annotations": {"io.containerd.image.name": name},
    }]});
    blobs.push(index.into_bytes());
    let mut archive = Layer::default().file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut known = std::collections::BTreeSet::new();
    for blob in &blobs {
        let path = format!("blobs/sha256/{}", &digest(blob)[7..]);
        if known.insert(path.clone()) {
            archive = archive.file(&path, 0o644, blob);
        }
    }
    archive.file("index.json", 0o644, top.to_string().as_bytes()).bytes()
}

fn id(world: &World, name: &str) -> Option<String> {
    let reply = world.server.get(&format!("/images/{name}/json"));
    (reply.status == 200).then(|| reply.json()["Id"].as_str().unwrap().to_owned())
}

fn an_archive_of_several_platforms_gives_the_one_asked_for(world: &World) {
    let name = format!("several:{}", tag());
    let (ours, theirs) = (image("amd64"), image("arm64"));
    let folder = Folder::new("platforms");
    let file = folder.at("several.tar");
    std::fs::write(&file, archive(&name, &[theirs.clone(), ours.clone()])).unwrap();
    for (platform, expected) in [
        ("linux/arm64", &theirs),
        ("linux/arm64/v8", &theirs),
        ("linux/amd64", &ours),
    ] {
        let said = world.run(&["load", "--platform", platform, "-i", &file]).ok();
        assert!(said.contains(&format!("Loaded image: {name}")), "{said}");
        assert_eq!(id(world, &name), Some(expected.id()), "{platform}");
    }
    world.run(&["rmi", &name]).ok();
    world.run(&["rmi", &theirs.id()]).ok();
    // Without one it is the machine's own, as ever, and so it is where the parameter is not known.
    let before = format!(
        "/v1.47/images/load?platform={}",
        encoded(r#"{"os":"linux","architecture":"arm64"}"#)
    );
    let bytes = std::fs::read(&file).unwrap();
    for target in ["/images/load", before.as_str()] {
        let kind = [("Content-Type", "application/x-tar")];
        world.server.send("POST", target, &kind, &bytes).expect(200);
        assert_eq!(id(world, &name), Some(ours.id()), "{target}");
    }
    world.run(&["rmi", &name]).ok();
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn an_archive_without_the_platform_is_refused(world: &World) {
    let name = format!("single:{}", tag());
    let ours = image("amd64");
    let folder = Folder::new("single");
    for (kind, bytes) in [
        ("docker", ours.docker_archive(&name)),
        ("oci", ours.oci_archive(&name, Packing::Gzip)),
        ("index", archive(&name, std::slice::from_ref(&ours))),
    ] {
        let file = folder.at(kind);
        std::fs::write(&file, bytes).unwrap();
        let said = world.run(&["load", "--platform", "linux/s390x", "-i", &file]).fails(1);
        let words = "the image archive has no image for linux/s390x, only for linux/amd64";
        assert!(said.contains(words), "{kind}: {said}");
        assert_eq!(id(world, &name), None, "{kind}");
        world.run(&["load", "--platform", "linux/amd64", "-i", &file]).ok();
        assert_eq!(id(world, &name), Some(ours.id()), "{kind}");
        world.run(&["rmi", &name]).ok();
    }
    let load = |query: &str| {
        let target = format!("/v1.52/images/load?{query}");
        let kind = [("Content-Type", "application/x-tar")];
        world.server.send("POST", &target, &kind, &ours.docker_archive(&name))
    };
    let one = encoded(r#"{"os":"linux","architecture":"amd64"}"#);
    for wrong in [
        format!("platform={one}&platform={one}"),
        "platform=x".into(),
        "platform=%7B%7D".into(),
    ] {
        load(&wrong).expect(400);
    }
    let windows = encoded(r#"{"os":"windows","architecture":"amd64"}"#);
    let said = load(&format!("platform={windows}")).expect(200).text();
    assert!(said.contains("cannot load windows image on linux"), "{said}");
    assert_eq!(id(world, &name), None);
}

fn an_image_goes_by_its_platform_alone(world: &World) {
    let name = format!("going:{}", tag());
    let ours = image("amd64");
    let load = || world.load(&ours, &name);
    load();
    let said = world.run(&["image", "rm", "--platform", "linux/arm64", &name]).fails(1);
    assert!(
        said.contains("was found but does not provide the specified platform (linux/arm64)"),
        "{said}"
    );
    assert!(id(world, &name).is_some());
    // What a delete without a platform refuses, one with it refuses as well.
    let container = world.name("holds");
    world.run(&["create", "--name", &container, &name]).ok();
    let said = world.run(&["image", "rm", "--platform", "linux/amd64", &name]).fails(1);
    assert!(said.contains("must force"), "{said}");
    world.run(&["rm", &container]).ok();
    let said = world.run(&["image", "rm", "--platform", "linux/amd64", &name]).ok();
    assert!(
        said.contains(&format!("Untagged: {name}")) && said.contains(&format!("Deleted: {}", ours.id())),
        "{said}"
    );
    assert_eq!(id(world, &name), None);
    load();
    let delete = |version: &str, query: &str| {
        let target = format!("/{version}/images/{name}?{query}");
        world.server.call("DELETE", &target, None)
    };
    let (amd64, arm64) = (
        r#"{"os":"linux","architecture":"amd64"}"#,
        r#"{"os":"linux","architecture":"arm64"}"#,
    );
    let one = |text: &str| format!("platforms={}", encoded(text));
    for (query, status) in [
        (format!("{}&{}", one(amd64), one(arm64)), 400),
        (one("x"), 400),
        (one(r#"{"os":"linux"}"#), 400),
        (one(arm64), 404),
        (format!("{}&force=1", one(arm64)), 404),
    ] {
        delete("v1.50", &query).expect(status);
        assert!(id(world, &name).is_some(), "{query}");
    }
    delete("v1.50", &one(r#"{"os":"linux","architecture":"x86_64"}"#)).expect(200);
    assert_eq!(id(world, &name), None);
    // Not known there, and so ignored.
    load();
    delete("v1.49", &one(arm64)).expect(200);
    assert_eq!(id(world, &name), None);
}

//! One image store for kubelets and for everybody else.

use std::collections::BTreeSet;

use cri_api::{
    AuthConfig, Image as Shown, ImageFilter, ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListImagesRequest,
    PullImageRequest, RemoveImageRequest, StreamImagesRequest,
};
use harness::image::{Image, Layer, Packing};
use harness::{Test, tests};
use serde_json::json;
use tonic::{Code, Status};

use super::Node;
use crate::registries::Fake;

pub fn tests() -> Vec<Test<Node>> {
    tests![
        a_pulled_image_is_one_for_both_sides,
        an_image_that_is_not_there,
        names_that_are_none_are_refused,
        users_are_shown_as_numbers_or_names,
        lists_are_filtered_and_streamed,
        removal_takes_all_names,
        removals_at_once_do_not_fail,
        what_only_the_kubelet_has_is_not_pinned,
        what_others_name_is_pinned,
        what_a_container_has_stays,
        ownership_outlives_the_daemon,
        the_disk_in_use_rises_and_falls,
        credentials_reach_the_registry,
    ]
}

/// An image that no other test has.
fn unique() -> Image {
    Image::busybox().layer(Layer::default().file("mark", 0o644, harness::tools::tag().as_bytes()))
}

fn spec(image: &str) -> Option<ImageSpec> {
    Some(ImageSpec {
        image: image.to_owned(),
        ..ImageSpec::default()
    })
}

impl Node {
    fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        self.registry.push(repository, tag, image, true, Packing::Gzip);
        self.name(repository, tag)
    }

    #[track_caller]
    fn pull(&self, name: &str) -> String {
        let request = PullImageRequest {
            image: spec(name),
            ..PullImageRequest::default()
        };
        self.ok(self.images().pull_image(request)).image_ref
    }

    #[track_caller]
    fn status(&self, name: &str) -> Option<Shown> {
        let request = ImageStatusRequest {
            image: spec(name),
            verbose: false,
        };
        self.ok(self.images().image_status(request)).image
    }

    #[track_caller]
    fn pinned(&self, name: &str) -> bool {
        self.status(name).expect("the image").pinned
    }

    fn remove(&self, name: &str) -> Result<(), Status> {
        let request = RemoveImageRequest { image: spec(name) };
        self.wait(self.images().remove_image(request)).map(drop)
    }

    fn list(&self, name: &str) -> Vec<Shown> {
        let filter = Some(ImageFilter { image: spec(name) });
        self.ok(self.images().list_images(ListImagesRequest { filter })).images
    }
}

fn a_pulled_image_is_one_for_both_sides(node: &Node) {
    let image = unique();
    let digest = node.registry.push("cri/plain", "1", &image, true, Packing::Gzip);
    let name = node.name("cri/plain", "1");
    let id = node.pull(&name);
    assert_eq!(id, harness::image::digest(&image.config_bytes()));
    let by_digest = format!("{}/cri/plain@{digest}", node.registry.address);
    for asked in [&name, &by_digest, &id, &id["sha256:".len()..].to_owned()] {
        let shown = node.status(asked).expect(asked);
        assert_eq!(shown.id, id, "{asked}");
        assert_eq!(shown.repo_tags, std::slice::from_ref(&name));
        assert_eq!(shown.repo_digests, std::slice::from_ref(&by_digest));
        assert!(shown.size > 0);
    }
    // The same string, and the same image.
    assert_eq!(node.pull(&by_digest), id);
    let inspected = node.daemon.docker(&["image", "inspect", "-f", "{{.Id}}", &name]).ok();
    assert_eq!(inspected.trim(), id);
    assert_eq!(node.daemon.docker(&["run", "--rm", &name, "echo", "here"]).ok(), "here");
    // And the other way round.
    node.daemon.load(&unique(), "loaded-for-pods:1");
    let shown = node.status("loaded-for-pods:1").expect("what was loaded");
    assert_eq!(shown.repo_tags, ["docker.io/library/loaded-for-pods:1"]);
    node.remove(&name).expect("removed");
    node.remove("loaded-for-pods:1").expect("removed");
    assert!(node.daemon.docker(&["image", "inspect", &name]).code != 0);
}

fn an_image_that_is_not_there(node: &Node) {
    let name = node.name("cri/nowhere", "1");
    assert_eq!(node.status(&name), None);
    assert_eq!(node.status(&format!("sha256:{}", "0".repeat(64))), None);
    node.remove(&name).expect("removed already");
    assert!(node.list(&name).is_empty());
    let request = PullImageRequest {
        image: spec(&name),
        ..PullImageRequest::default()
    };
    let (code, message) = node.failed(node.images().pull_image(request));
    assert!(
        code == Code::NotFound && message.contains("cri/nowhere"),
        "{code:?} {message}"
    );
}

fn names_that_are_none_are_refused(node: &Node) {
    for bad in ["", "upper/CASE:1", "a b", "x:y:z"] {
        let status = ImageStatusRequest {
            image: spec(bad),
            verbose: false,
        };
        assert_eq!(
            node.failed(node.images().image_status(status)).0,
            Code::InvalidArgument,
            "{bad}"
        );
        let pull = PullImageRequest {
            image: spec(bad),
            ..PullImageRequest::default()
        };
        assert_eq!(
            node.failed(node.images().pull_image(pull)).0,
            Code::InvalidArgument,
            "{bad}"
        );
        let error = node.remove(bad).expect_err("refused");
        assert_eq!(error.code(), Code::InvalidArgument, "{bad}");
    }
    let nothing = ImageStatusRequest::default();
    assert_eq!(
        node.failed(node.images().image_status(nothing)).0,
        Code::InvalidArgument
    );
}

fn users_are_shown_as_numbers_or_names(node: &Node) {
    for (user, uid, name) in [
        ("", Some(0), ""),
        ("1003:1004", Some(1003), ""),
        ("www-data:1004", None, "www-data"),
    ] {
        let image = unique().with("User", json!(user));
        let name_there = node.push("cri/user", &harness::tools::tag(), &image);
        let id = node.pull(&name_there);
        let shown = node.status(&id).expect("the image");
        assert_eq!(
            (shown.uid.map(|uid| uid.value), shown.username.as_str()),
            (uid, name),
            "{user}"
        );
        node.remove(&id).expect("removed");
    }
}

fn lists_are_filtered_and_streamed(node: &Node) {
    let (one, two) = (
        node.push("cri/list", "1", &unique()),
        node.push("cri/list", "2", &unique()),
    );
    let (first, second) = (node.pull(&one), node.pull(&two));
    let ids = |images: &[Shown]| images.iter().map(|image| image.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&node.list(&one)), std::slice::from_ref(&first));
    assert_eq!(ids(&node.list(&second)), std::slice::from_ref(&second));
    let all = ids(&node.list(""));
    assert_eq!(
        all.iter().collect::<BTreeSet<_>>().len(),
        all.len(),
        "one entry for each image"
    );
    for id in [&first, &second] {
        assert!(all.contains(id));
    }
    let mut images = node.images();
    let streamed = node.wait(async {
        let request = StreamImagesRequest::default();
        let mut stream = images.stream_images(request).await.expect("a stream").into_inner();
        let mut streamed = Vec::new();
        while let Some(batch) = stream.message().await.expect("a whole stream") {
            assert!(!batch.images.is_empty());
            streamed.extend(batch.images);
        }
        streamed
    });
    for id in [&first, &second] {
        assert_eq!(ids(&streamed).iter().filter(|own| *own == id).count(), 1);
    }
    node.remove(&first).expect("removed");
    node.remove(&second).expect("removed");
}

fn removal_takes_all_names(node: &Node) {
    let image = unique();
    let names = [
        node.push("cri/a", "1", &image),
        node.push("cri/a", "2", &image),
        node.push("cri/b", "1", &image),
    ];
    let ids: BTreeSet<String> = names.iter().map(|name| node.pull(name)).collect();
    assert_eq!(ids.len(), 1);
    node.daemon.docker(&["tag", &names[0], "cri-tagged:1"]).ok();
    let id = ids.first().expect("an id");
    let shown = node.status(id).expect("the image");
    assert_eq!((shown.repo_tags.len(), shown.repo_digests.len()), (4, 2));
    node.remove(&names[1]).expect("removed");
    for name in names.iter().chain([id, &"cri-tagged:1".to_owned()]) {
        assert_eq!(node.status(name), None, "{name}");
    }
    node.remove(id).expect("removed already");
}

fn removals_at_once_do_not_fail(node: &Node) {
    for _ in 0..5 {
        let name = node.push("cri/at-once", &harness::tools::tag(), &unique());
        let id = node.pull(&name);
        let mut images = node.images();
        let mut again = node.images();
        let removed = node.wait(async {
            tokio::join!(
                images.remove_image(RemoveImageRequest { image: spec(&id) }),
                again.remove_image(RemoveImageRequest { image: spec(&name) })
            )
        });
        assert!(removed.0.is_ok() && removed.1.is_ok(), "{removed:?}");
        assert_eq!(node.status(&id), None);
    }
}

fn what_only_the_kubelet_has_is_not_pinned(node: &Node) {
    let image = unique();
    let (one, two) = (node.push("cri/own", "1", &image), node.push("cri/own", "2", &image));
    let id = node.pull(&one);
    assert!(!node.pinned(&id));
    node.pull(&two);
    assert!(!node.pinned(&id), "two names, both its own");
    // Pulled again by the kubelet, it stays its own.
    node.pull(&one);
    assert!(!node.pinned(&one));
    node.remove(&id).expect("removed");
}

fn what_others_name_is_pinned(node: &Node) {
    let image = unique();
    let name = node.push("cri/shared", "1", &image);
    // Theirs first: a pull of the same by the kubelet takes nothing from them.
    node.daemon.docker(&["pull", &name]).ok();
    let id = node.pull(&name);
    assert!(node.pinned(&id));
    node.remove(&id).expect("an explicit removal works");

    let take_over: [&dyn Fn(&str); 3] = [
        &|name| drop(node.daemon.docker(&["pull", name]).ok()),
        &|name| {
            drop(
                node.daemon
                    .docker(&["tag", name, &format!("cri-extra:{}", harness::tools::tag())])
                    .ok(),
            )
        },
        &|name| {
            // Under another name and back: the name is theirs now.
            node.daemon.docker(&["tag", name, name]).ok();
        },
    ];
    for (number, take) in take_over.iter().enumerate() {
        let name = node.push("cri/taken", &format!("{number}"), &unique());
        let id = node.pull(&name);
        assert!(!node.pinned(&id));
        take(&name);
        assert!(node.pinned(&id), "way {number}");
        node.remove(&id).expect("removed");
    }
    // Loaded from an archive under the same name.
    let image = unique();
    let name = node.push("cri/archived", "1", &image);
    let id = node.pull(&name);
    assert!(!node.pinned(&id));
    node.daemon.load(&image, &name);
    assert!(node.pinned(&name));
    node.remove(&name).expect("removed");
    // Without any name it is somebody's who works with ids.
    let made = node
        .daemon
        .docker(&["commit", &node.daemon.docker(&["create", "busybox"]).ok()])
        .ok();
    assert!(node.pinned(made.trim()));
}

fn what_a_container_has_stays(node: &Node) {
    let name = node.push("cri/used", "1", &unique());
    let id = node.pull(&name);
    assert!(!node.pinned(&id));
    let container = node.daemon.docker(&["create", &name]).ok();
    assert!(node.pinned(&id));
    let error = node.remove(&id).expect_err("refused");
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains(&container[..12]), "{}", error.message());
    assert!(node.status(&name).is_some(), "no name was taken");
    node.daemon.docker(&["rm", &container]).ok();
    assert!(!node.pinned(&id));
    node.remove(&id).expect("removed");
}

fn ownership_outlives_the_daemon(_: &Node) {
    // A daemon of its own, for this one is killed.
    let node = Node::start();
    let (own, theirs) = (
        node.push("cri/own", "1", &unique()),
        node.push("cri/theirs", "1", &unique()),
    );
    node.pull(&own);
    node.pull(&theirs);
    node.daemon.docker(&["pull", &theirs]).ok();
    node.daemon.kill9();
    node.daemon.launch();
    assert!(!node.pinned(&own));
    assert!(node.pinned(&theirs));
    node.finish();
}

fn the_disk_in_use_rises_and_falls(_: &Node) {
    // Nobody else pulls or removes here.
    let node = Node::start();
    let used = || {
        let info = node.ok(node.images().image_fs_info(ImageFsInfoRequest {}));
        let usage = info.image_filesystems.first().expect("a file system").clone();
        assert!(usage.timestamp > 0);
        let mountpoint = usage.fs_id.expect("where it is").mountpoint;
        assert!(
            node.daemon.places.data.join("root").display().to_string() == mountpoint,
            "{mountpoint}"
        );
        (
            usage.used_bytes.expect("bytes").value,
            usage.inodes_used.expect("inodes").value,
        )
    };
    let before = used();
    let large = Layer::default().file("large", 0o644, &vec![b'x'; 3 << 20]);
    let name = node.push("cri/large", "1", &unique().layer(large));
    node.pull(&name);
    let with = used();
    assert!(
        with.0 >= before.0 + (3 << 20) && with.1 > before.1,
        "{before:?} {with:?}"
    );
    node.remove(&name).expect("removed");
    harness::tools::eventually("the layers are gone", 20, || used() == before);
    node.finish();
}

fn credentials_reach_the_registry(node: &Node) {
    for (auth, known) in [
        (Some(("me", "secret", "")), true),
        (Some(("", "", "bWU6c2VjcmV0")), true),
        (Some(("me", "wrong", "")), false),
        (None, false),
    ] {
        let registry = Fake::start(false);
        let auth = auth.map(|(username, password, pair)| AuthConfig {
            username: username.to_owned(),
            password: password.to_owned(),
            auth: pair.to_owned(),
            ..AuthConfig::default()
        });
        let request = PullImageRequest {
            image: spec(&format!("{}/x:1", registry.address)),
            auth,
            ..PullImageRequest::default()
        };
        let (code, message) = node.failed(node.images().pull_image(request));
        assert_eq!(message.contains("manifest unknown"), known, "{code:?} {message}");
        assert!(!message.contains("secret") && !message.contains("wrong"), "{message}");
    }
}

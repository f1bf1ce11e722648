//! Registries that stall, break and lie, and what a pull from them leaves: nothing.

use harness::image::{FILE, LINK, Layer, Packing};
use harness::registry::{Fault, Liar};
use harness::tools::{Folder, eventually};
use harness::{Test, tests};

use super::{Port, unique};

/// One at a time: each looks at what a failed pull has left.
pub fn tests() -> Vec<Test<Port>> {
    tests![
        absent_image_and_tag,
        wrong_bytes_are_refused,
        garbage_manifest_is_refused,
        broken_registry_is_reported,
        unauthorized_is_reported,
        busy_registry_is_asked_again,
        broken_connection_is_resumed,
        cancelled_pull_leaves_nothing,
        hostile_layers_are_refused,
    ]
}

fn absent_image_and_tag(port: &Port) {
    let before = port.folders();
    port.registry
        .push("tests/present", "1", &unique("present"), true, Packing::Gzip);
    for name in ["tests/present:2", "tests/absent:1"] {
        let error = port
            .daemon
            .docker(&["pull", &format!("{}/{name}", port.registry.address)])
            .fails(1);
        assert!(
            error.contains("manifest unknown") || error.contains("not found") || error.contains("manifest for"),
            "{error}"
        );
    }
    let error = port
        .daemon
        .docker(&["run", "--rm", &format!("{}/tests/absent:1", port.registry.address)])
        .fails(125);
    assert!(error.contains("tests/absent"), "{error}");
    eventually("nothing is left", 5, || {
        port.folders() == before || port.daemon.is_foreign()
    });
}

/// A pull from a registry with this fault: its output, and that nothing is left of it if it failed.
fn pull_from_a_liar(port: &Port, fault: Fault) -> (harness::Output, Vec<String>) {
    let liar = Liar::start(&unique("liar"), fault);
    let (folders, images) = (port.folders(), port.image_names());
    let name = format!("{}/some/image:1", liar.address);
    let output = port.daemon.docker(&["pull", &name]);
    if output.code == 0 {
        assert_eq!(port.daemon.docker(&["run", "--rm", &name, "cat", "/what"]).ok(), "liar");
        port.daemon.docker(&["rmi", &name]).ok();
    } else {
        let retained = || {
            port.folders()
                .into_iter()
                .filter(|path| !folders.contains(path))
                .collect::<Vec<_>>()
        };
        eventually(&format!("nothing is left of the pull: {:?}", retained()), 20, || {
            port.daemon.is_foreign() || retained().is_empty()
        });
        assert!(!port.image_names().contains(&name), "{images:?}");
    }
    (output, liar.requests())
}

fn wrong_bytes_are_refused(port: &Port) {
    let (output, _) = pull_from_a_liar(port, Fault::WrongBytes);
    let error = output.fails(1);
    assert!(
        ["digest", "verification", "checksum", "corrupt", "filesystem layer"]
            .iter()
            .any(|word| error.contains(word)),
        "{error}"
    );
}

fn garbage_manifest_is_refused(port: &Port) {
    let (output, _) = pull_from_a_liar(port, Fault::Garbage);
    let error = output.fails(1);
    assert!(!error.is_empty());
}

fn broken_registry_is_reported(port: &Port) {
    let (output, _) = pull_from_a_liar(port, Fault::Broken);
    let error = output.fails(1);
    assert!(
        error.contains("500") || error.contains("Internal Server Error"),
        "{error}"
    );
}

fn unauthorized_is_reported(port: &Port) {
    let (output, _) = pull_from_a_liar(port, Fault::Unauthorized);
    let error = output.fails(1).to_lowercase();
    assert!(
        error.contains("authentication")
            || error.contains("unauthorized")
            || error.contains("no basic auth")
            || error.contains("denied"),
        "{error}"
    );
}

fn busy_registry_is_asked_again(port: &Port) {
    if port.daemon.is_foreign() {
        harness::suite::skip("Docker gives up on 429 to the first request");
    }
    let (output, requests) = pull_from_a_liar(port, Fault::Busy);
    output.ok();
    assert!(requests.len() > 4, "{requests:?}");
}

fn broken_connection_is_resumed(port: &Port) {
    let (output, requests) = pull_from_a_liar(port, Fault::BreaksHalfway);
    output.ok();
    assert!(
        requests.iter().any(|line| line.contains("Some(")),
        "it asked for the rest only: {requests:?}"
    );
}

fn cancelled_pull_leaves_nothing(port: &Port) {
    let liar = Liar::start(&unique("stalls"), Fault::Stalls);
    let folders = port.folders();
    let name = format!("{}/some/image:1", liar.address);
    let client = port.daemon.background(&["pull", &name]);
    eventually("the layer is asked for", 10, || {
        liar.requests().iter().any(|line| line.contains("/blobs/"))
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    drop(client);
    eventually("nothing is left of the pull", 30, || {
        port.daemon.is_foreign() || port.folders().into_iter().all(|path| folders.contains(&path))
    });
    assert!(!port.image_names().contains(&name));
}

fn hostile_layers_are_refused(port: &Port) {
    let victim = Folder::new("victim");
    let outside = victim.at("planted");
    let traps: Vec<(&str, Layer)> = vec![
        (
            "dot-dot",
            Layer::default().hostile(format!("../../../../../..{outside}").as_bytes(), FILE, b"", b"planted"),
        ),
        (
            "dot-dot inside",
            Layer::default().hostile(
                format!("a/../../../../../../..{outside}").as_bytes(),
                FILE,
                b"",
                b"planted",
            ),
        ),
        (
            "symlink then file",
            Layer::default()
                .symlink("escape", victim.path().to_str().unwrap())
                .file("escape/planted", 0o644, b"planted"),
        ),
        (
            "symlink up then file",
            Layer::default()
                .symlink("up", "../../../../../../../../")
                .file(&format!("up{outside}"), 0o644, b"planted"),
        ),
        (
            "hard link out",
            Layer::default().hostile(b"stolen", LINK, b"../../../../../../../etc/shadow", b""),
        ),
        (
            "whiteout out",
            Layer::default().hostile(b"../../.wh.etc", FILE, b"", b""),
        ),
        ("whiteout of dot-dot", Layer::default().file(".wh...", 0o644, b"")),
    ];
    std::fs::write(victim.at("kept"), "kept").unwrap();
    for (number, (what, layer)) in traps.into_iter().enumerate() {
        let image = unique(what).layer(layer);
        let name = format!("{}/tests/hostile:{number}", port.registry.address);
        port.registry
            .push("tests/hostile", &number.to_string(), &image, true, Packing::Gzip);
        let pulled = port.daemon.docker(&["pull", &name]);
        assert!(
            !victim.path().join("planted").exists(),
            "{what}: a file was planted on the host"
        );
        assert!(
            victim.path().join("kept").exists(),
            "{what}: a file of the host is gone"
        );
        if pulled.code == 0 {
            // Taken as a path inside of the root, then: a container shows nothing of the host.
            let shown = port.daemon.docker(&[
                "run",
                "--rm",
                &name,
                "sh",
                "-c",
                "cat /stolen 2>/dev/null | head -c 100",
            ]);
            assert!(!shown.out.contains("root:"), "{what}: {}", shown.out);
            port.daemon.docker(&["rmi", "-f", &name]).ok();
        } else {
            assert!(!port.image_names().contains(&name), "{what}");
        }
    }
}

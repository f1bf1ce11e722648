//! What a container changed: `diff`, `commit`, and `export` of a running one.

use harness::image::{Image, Layer};
use harness::tools::Folder;
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        diff_shows_what_was_changed,
        diff_of_an_untouched_container_is_empty,
        commit_makes_an_image_of_the_changes,
        committed_images_are_saved_and_loaded,
        commit_applies_every_instruction,
        commit_refuses_what_is_no_instruction,
        commit_pauses_unless_told_not_to,
        commit_leaves_volumes_out,
        commit_of_nothing_adds_no_layer,
        commit_keeps_deletions_and_replaced_folders,
        commit_over_http,
        commit_remembers_what_it_was_made_from,
        export_of_a_running_container,
    ]
}

struct Made<'a>(&'a World, String);

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.0.run(&["rmi", "-f", &self.1]);
    }
}

fn tag(world: &World) -> Made<'_> {
    Made(world, format!("committed:{}", harness::tools::tag()))
}

#[track_caller]
fn config(world: &World, image: &str) -> Value {
    let text = world.run(&["image", "inspect", image]).ok();
    serde_json::from_str::<Value>(&text).unwrap()[0].take()
}

fn diff_shows_what_was_changed(world: &World) {
    let image = format!("diffed:{}", harness::tools::tag());
    let _made = Made(world, image.clone());
    let layer = Layer::default()
        .folder("base", 0o755)
        .file("base/changed", 0o644, b"old")
        .file("base/mode", 0o644, b"old")
        .file("base/deleted", 0o644, b"old")
        .file("base/untouched", 0o644, b"old")
        .folder("base/gone", 0o755)
        .file("base/gone/f", 0o644, b"old")
        .folder("base/replaced", 0o755)
        .file("base/replaced/old", 0o644, b"old")
        .folder("quiet", 0o755)
        .file("quiet/f", 0o644, b"old");
    world.load(&Image::busybox().layer(layer), &image);
    let name = world.name("diff");
    let line = "cd /base; echo new > changed; chmod 600 mode; rm deleted; rm -r gone; rm -r replaced; mkdir replaced; touch replaced/new; mkdir -p /new/deep; echo x > /new/deep/f; cat /quiet/f >/dev/null; touch /base; sleep 1000";
    world
        .run(&["run", "-d", "--name", &name, &image, "sh", "-c", line])
        .ok();
    harness::tools::eventually("all is changed", 20, || {
        world.run(&["exec", &name, "test", "-e", "/new/deep/f"]).code == 0
    });
    let expected = [
        "C /base",
        "C /base/changed",
        "D /base/deleted",
        "D /base/gone",
        "C /base/mode",
        "C /base/replaced",
        "A /base/replaced/new",
        "D /base/replaced/old",
        "A /new",
        "A /new/deep",
        "A /new/deep/f",
    ];
    for state in ["running", "stopped"] {
        let shown = world.run(&["diff", &name]).ok();
        let mut lines: Vec<&str> = shown.lines().collect();
        // Docker's are in no order.
        lines.sort_by_key(|line| &line[2..]);
        assert_eq!(lines, expected, "{state}");
        world.run(&["kill", &name]);
    }
    world.run(&["rm", &name]).ok();
}

fn diff_of_an_untouched_container_is_empty(world: &World) {
    let (name, _) = world.sleeper(&["-v", "/vol"]);
    world.inside(&name, "touch /vol/f; touch /etc/hosts; ls /proc /dev >/dev/null");
    let shown = world.run(&["diff", &name]).ok();
    // As with Docker, the place of a volume that the image does not have is one.
    assert_eq!(shown, "A /vol");
    let (name, _) = world.sleeper(&[]);
    let reply = world.server.get(&format!("/containers/{}/changes", &*name)).expect(200);
    assert_eq!(reply.json(), Value::Null);
    world.run(&["diff", "no-such-container"]).fails(1);
}

fn commit_makes_an_image_of_the_changes(world: &World) {
    let made = tag(world);
    let (name, _) = world.sleeper(&["-e", "OWN=1", "--workdir", "/tmp", "--label", "a=b"]);
    world.inside(
        &name,
        "echo -n changed > /etc/changed; chown 5:6 /etc/changed; rm /etc/group",
    );
    let id = world
        .run(&["commit", "-a", "An Author", "-m", "a message", &name, &made.1])
        .ok();
    assert!(id.starts_with("sha256:"), "{id}");
    let found = config(world, &made.1);
    assert_eq!(found["Id"], id);
    assert_eq!(
        (&found["Author"], &found["Comment"]),
        (&json!("An Author"), &json!("a message"))
    );
    assert_eq!(found["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(found["Config"]["WorkingDir"], "/tmp");
    assert_eq!(found["Config"]["Labels"]["a"], "b");
    assert_eq!(
        found["Config"]["Cmd"],
        json!(["sleep", "1000"]),
        "the container's command"
    );
    let out = world
        .run(&[
            "run",
            "--rm",
            &made.1,
            "sh",
            "-c",
            "stat -c %u:%g /etc/changed; cat /etc/changed; echo $OWN; pwd; ls /etc/group",
        ])
        .out;
    assert_eq!(out.lines().collect::<Vec<_>>(), ["5:6", "changed1", "/tmp"]);
    let history = world
        .run(&[
            "history",
            "--no-trunc",
            "--format",
            "{{.CreatedBy}}|{{.Comment}}",
            &made.1,
        ])
        .ok();
    assert_eq!(history.lines().next().unwrap(), "sleep 1000|a message", "{history}");
    // The container goes on, and its own changes are not those of the image.
    world.inside(&name, "echo later > /etc/changed");
    assert_eq!(
        world.run(&["run", "--rm", &made.1, "cat", "/etc/changed"]).ok(),
        "changed"
    );
    let filter = format!("container={}", &*name);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let until = format!("{}", now.as_secs() + 1);
    let events = world
        .run(&[
            "events",
            "--since",
            "0",
            "--until",
            &until,
            "--filter",
            &filter,
            "--filter",
            "event=commit",
            "--format",
            "{{.Actor.Attributes.comment}} {{.Actor.Attributes.imageID}} {{.Actor.Attributes.imageRef}}",
        ])
        .ok();
    assert_eq!(events, format!("a message {id} {}", made.1));
}

fn committed_images_are_saved_and_loaded(world: &World) {
    let folder = Folder::new("commit-save");
    let made = tag(world);
    let (name, _) = world.sleeper(&[]);
    world.inside(
        &name,
        "mkdir /own; echo -n text > /own/f; ln /own/f /own/g; ln -s f /own/l; mkfifo /own/p; rm /etc/group /etc/passwd",
    );
    let id = world.run(&["commit", &name, &made.1]).ok();
    world.run(&["save", "-o", &folder.at("t"), &made.1]).ok();
    world.run(&["rmi", &made.1]).ok();
    world.run(&["load", "-i", &folder.at("t")]).ok();
    assert_eq!(config(world, &made.1)["Id"], id);
    let out = world
        .run(&[
            "run",
            "--rm",
            &made.1,
            "sh",
            "-c",
            "cat /own/l; stat -c %h /own/g; test -p /own/p && ls /etc/group 2>&1; true",
        ])
        .ok();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0] == "text2" && lines[1].contains("No such file"), "{lines:?}");
}

fn commit_applies_every_instruction(world: &World) {
    let made = tag(world);
    let (name, _) = world.sleeper(&["-e", "A=1"]);
    let mut arguments = vec!["commit"];
    for change in [
        "CMD [\"echo\", \"$A\"]",
        "ENV B=$A-two C=\"with space\"",
        "EXPOSE 80 90/udp",
        "LABEL own=label",
        "ONBUILD RUN x",
        "USER 7",
        "VOLUME /data",
        "WORKDIR /work",
        "HEALTHCHECK --interval=5s CMD true",
        "STOPSIGNAL SIGINT",
        "SHELL [\"/bin/ash\", \"-c\"]",
        "ENTRYPOINT echo entry",
    ] {
        arguments.extend(["-c", change]);
    }
    arguments.extend([&*name, &made.1]);
    world.run(&arguments).ok();
    let found = config(world, &made.1)["Config"].take();
    assert_eq!(found["Cmd"], json!(["echo", "$A"]));
    assert_eq!(found["Entrypoint"], json!(["/bin/ash", "-c", "echo entry"]));
    let env = found["Env"].as_array().unwrap();
    for line in ["A=1", "B=1-two", "C=with space"] {
        assert!(env.contains(&json!(line)), "{line} in {env:?}");
    }
    assert_eq!(found["ExposedPorts"], json!({"80/tcp": {}, "90/udp": {}}));
    assert_eq!(
        (&found["Labels"]["own"], &found["OnBuild"]),
        (&json!("label"), &json!(["RUN x"]))
    );
    assert_eq!((&found["User"], &found["WorkingDir"]), (&json!("7"), &json!("/work")));
    assert_eq!(found["Volumes"], json!({"/data": {}}));
    assert_eq!(found["Healthcheck"]["Test"], json!(["CMD-SHELL", "true"]));
    assert_eq!(found["Healthcheck"]["Interval"], 5_000_000_000u64);
    assert_eq!(
        (&found["StopSignal"], &found["Shell"]),
        (&json!("SIGINT"), &json!(["/bin/ash", "-c"]))
    );
}

fn commit_refuses_what_is_no_instruction(world: &World) {
    let (name, _) = world.sleeper(&[]);
    for (change, words) in [
        ("RUN x", "RUN is not a valid change command"),
        ("FROM x", "FROM is not a valid change command"),
        ("ENV", "requires at least one argument"),
        ("STOPSIGNAL SIGNOTHING", "invalid signal"),
    ] {
        let error = world.run(&["commit", "-c", change, &name]).fails(1);
        assert!(error.contains(words), "{change}: {error}");
    }
    let error = world.run(&["commit", &name, "UPPER:case"]).fails(1);
    assert!(error.contains("must be lowercase"), "{error}");
    let error = world.run(&["commit", "no-such-container"]).fails(1);
    assert!(error.contains("No such container: no-such-container"), "{error}");
    assert_eq!(world.inspect(&name)["State"]["Status"], "running");
}

fn commit_pauses_unless_told_not_to(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let actions = |arguments: &[&str]| {
        let made = tag(world);
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
        world.run(&[&["commit"], arguments, &[&*name, &made.1]].concat()).ok();
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let until = format!("{}", now.as_secs() + 1);
        let filter = format!("container={}", &*name);
        world
            .run(&[
                "events",
                "--since",
                &since,
                "--until",
                &until,
                "--filter",
                &filter,
                "--format",
                "{{.Action}}",
            ])
            .ok()
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(actions(&[]), ["pause", "commit", "unpause"]);
    assert_eq!(actions(&["--pause=false"]), ["commit"]);
    // docker's client has the flag from version 29 on.
    if world.cli == harness::daemon::Cli::Iechor {
        assert_eq!(actions(&["--no-pause"]), ["commit"]);
    }
    assert_eq!(world.inspect(&name)["State"]["Status"], "running");
    // One that is paused stays so.
    world.run(&["pause", &name]).ok();
    assert_eq!(actions(&[]), ["commit"]);
    assert_eq!(world.inspect(&name)["State"]["Status"], "paused");
    world.run(&["unpause", &name]).ok();
}

fn commit_leaves_volumes_out(world: &World) {
    let made = tag(world);
    let (name, _) = world.sleeper(&["-v", "/vol", "--tmpfs", "/mem"]);
    world.inside(&name, "echo x > /vol/f; echo x > /mem/f; echo x > /kept");
    world.run(&["commit", &name, &made.1]).ok();
    let out = world
        .run(&["run", "--rm", &made.1, "sh", "-c", "ls /vol /mem; cat /kept"])
        .ok();
    assert!(!out.contains('f') && out.ends_with('x'), "{out}");
}

fn commit_of_nothing_adds_no_layer(world: &World) {
    let made = tag(world);
    let (name, _) = world.sleeper(&[]);
    world.run(&["commit", "-m", "nothing", &name, &made.1]).ok();
    let found = config(world, &made.1);
    assert_eq!(found["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(world.run(&["run", "--rm", &made.1, "echo", "works"]).ok(), "works");
}

fn commit_keeps_deletions_and_replaced_folders(world: &World) {
    let (one, two) = (tag(world), tag(world));
    let (name, _) = world.sleeper(&[]);
    world.inside(&name, "mkdir /d; touch /d/a /d/b; chmod 700 /d; chmod 711 /");
    world.run(&["commit", &name, &one.1]).ok();
    let again = world.name("again");
    world
        .run(&[
            "run",
            "--name",
            &again,
            &one.1,
            "sh",
            "-c",
            "rm -r /d; mkdir /d; touch /d/c; rm /etc/group",
        ])
        .ok();
    world.run(&["commit", &again, &two.1]).ok();
    let out = world
        .run(&[
            "run",
            "--rm",
            &two.1,
            "sh",
            "-c",
            "ls /d; stat -c %a / /d; ls /etc/group 2>/dev/null; true",
        ])
        .ok();
    assert_eq!(out.lines().collect::<Vec<_>>(), ["c", "711", "755"]);
    let out = world.run(&["run", "--rm", &one.1, "ls", "/d"]).ok();
    assert_eq!(out.lines().collect::<Vec<_>>(), ["a", "b"]);
}

fn commit_over_http(world: &World) {
    let (name, _) = world.sleeper(&["-e", "A=1", "-e", "B=2"]);
    let body = json!({"Cmd": ["own"], "Env": ["A=own"], "Labels": {"x": "y"}});
    let reply = world
        .server
        .post(&format!("/commit?container={}&comment=c&pause=0", &*name), &body)
        .expect(201);
    let id = reply.json()["Id"].as_str().unwrap().to_owned();
    let _made = Made(world, id.clone());
    let found = config(world, &id);
    assert_eq!(found["Config"]["Cmd"], json!(["own"]));
    let env = found["Config"]["Env"].as_array().unwrap();
    assert!(
        env.contains(&json!("A=own")) && env.contains(&json!("B=2")) && !env.contains(&json!("A=1")),
        "{env:?}"
    );
    assert_eq!(world.server.post("/commit?container=no-such", &json!({})).status, 404);
    // An image without a name.
    assert_eq!(found["RepoTags"], json!([]));
}

fn export_of_a_running_container(world: &World) {
    let folder = Folder::new("export-running");
    let (name, _) = world.sleeper(&["-v", "/vol"]);
    world.inside(&name, "echo -n text > /vol/inside; mkdir /own; echo -n text > /own/f; rm /etc/group; (while :; do echo more >> /growing; done) >/dev/null 2>&1 &");
    world.run(&["export", "-o", &folder.at("t"), &name]).ok();
    let archive = std::fs::read(folder.at("t")).unwrap();
    let entries = harness::image::entries(&archive);
    let find = |name: &str| entries.iter().find(|(own, _)| own == name);
    assert_eq!(find("own/f").unwrap().1, b"text");
    assert!(
        find("vol/inside").is_none() && find("etc/group").is_none(),
        "volumes and deletions"
    );
    assert!(find("growing").is_some());
    let filter = format!("container={}", &*name);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let until = format!("{}", now.as_secs() + 1);
    let events = world
        .run(&[
            "events",
            "--since",
            "0",
            "--until",
            &until,
            "--filter",
            &filter,
            "--filter",
            "event=export",
            "--format",
            "{{.Action}}",
        ])
        .ok();
    assert_eq!(events, "export");
}

fn commit_remembers_what_it_was_made_from(world: &World) {
    let (first, second) = (world.name("first"), world.name("second"));
    let make = |name: &str, image: &str, file: &str| {
        world.run(&["run", "--name", name, image, "touch", file]).ok();
    };
    make(&first, "busybox", "/one");
    let base = world.run(&["commit", &first]).ok().trim().to_owned();
    make(&second, &base, "/two");
    let child = tag(world);
    world.run(&["commit", &second, &child.1]).ok();
    assert_eq!(config(world, &child.1)["Parent"], base);
    assert_eq!(config(world, &base)["Parent"], config(world, "busybox")["Id"]);
    world.run(&["rm", &first, &second]).ok();
    // Unnamed, but another image stands on it.
    let dangling = world.run(&["images", "-q", "--no-trunc", "-f", "dangling=true"]).ok();
    assert!(!dangling.contains(&base), "{dangling}");
    let refused = world.run(&["rmi", &base]);
    assert!(
        refused.code != 0 && refused.err.contains("image has dependent child images"),
        "{}",
        refused.err
    );
    // It goes with its last child; what has a name does not.
    world.run(&["rmi", &child.1]).ok();
    assert_ne!(world.run(&["image", "inspect", &base]).code, 0);
    config(world, "busybox");
}

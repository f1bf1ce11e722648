//! Operations and parameters that no client of a command line sends in the tests by topic, each with what came of it. That
//! the answers are what the definition says is seen by the harness, here as everywhere.

use serde_json::{Value, json};

use crate::world::World;

pub fn what_is_not_there_is_said(world: &World) {
    let server = &world.server;
    server.call("HEAD", "/_ping", None).expect(200);
    for query in [
        "",
        "?filters=%7B%22enable%22:%5B%22true%22%5D,%22capability%22:%5B%22volumedriver%22%5D%7D",
    ] {
        assert_eq!(server.get(&format!("/plugins{query}")).expect(200).json(), json!([]));
    }
    for wrong in [
        "%7B%22colour%22:%5B%22x%22%5D%7D",
        "%7B%22enable%22:%5B%22x%22%5D%7D",
        "x",
    ] {
        server.get(&format!("/plugins?filters={wrong}")).expect(400);
    }
    let pruned = server.post("/networks/prune", &Value::Null).expect(200).json();
    assert_eq!(pruned, json!({ "NetworksDeleted": null }));
    let refused = server.call("DELETE", "/networks/bridge", None).expect(403).message();
    assert!(refused.contains("pre-defined network"), "{refused}");
    server.get("/networks/bridge?scope=local").expect(200);
    server.get("/networks/bridge?scope=swarm").expect(404);
    let cache = server.post("/build/prune", &Value::Null).expect(200).json();
    assert_eq!(cache["SpaceReclaimed"], 0);
}

pub fn image_lists_have_digests_and_shared_sizes(world: &World) {
    let row = |query: &str| {
        let list = world.server.get(&format!("/images/json{query}")).expect(200).json();
        let has_name = |row: &&Value| row["RepoTags"].as_array().unwrap().contains(&"busybox:latest".into());
        list.as_array().unwrap().iter().find(has_name).unwrap().clone()
    };
    assert_eq!(row("")["SharedSize"], -1);
    assert!(row("?shared-size=1")["SharedSize"].as_i64().unwrap() >= 0);
    // Docker took the digests out of the answer once, unless they were asked for; they are there always now.
    assert!(row("")["RepoDigests"].is_array() && row("?digests=1")["RepoDigests"].is_array());
}

pub fn terminals_are_resized(world: &World) {
    let server = &world.server;
    let name = world.name("resized");
    let line = "while :; do stty size; sleep 0.1; done";
    world
        .run(&["run", "-dt", "--name", &name, "busybox", "sh", "-c", line])
        .ok();
    server
        .post(&format!("/containers/{}/resize?h=31&w=97", &*name), &Value::Null)
        .expect(200);
    harness::tools::eventually("the container sees its new size", 20, || {
        world.run(&["logs", "--tail", "3", &name]).ok().contains("31 97")
    });
    for wrong in ["h=1", "h=a&w=1", "h=1&w=70000"] {
        server
            .post(&format!("/containers/{}/resize?{wrong}", &*name), &Value::Null)
            .expect(400);
    }
    // What has no terminal has nothing to resize.
    let (plain, _) = world.sleeper(&[]);
    let exec = |container: &str, tty: bool| {
        let exec = json!({ "Cmd": ["sh", "-c", "sleep 100"], "Tty": tty, "AttachStdout": true });
        let made = server
            .post(&format!("/containers/{container}/exec"), &exec)
            .expect(201)
            .json();
        let id = made["Id"].as_str().unwrap().to_owned();
        let start = json!({ "Detach": true, "Tty": tty });
        server.post(&format!("/exec/{id}/start"), &start).expect(200);
        id
    };
    let without = exec(&plain, false);
    for target in [format!("/containers/{}", &*plain), format!("/exec/{without}")] {
        server
            .post(&format!("{target}/resize?h=31&w=97"), &Value::Null)
            .expect(200);
    }
    let id = exec(&name, true);
    let pid = server.get(&format!("/exec/{id}/json")).expect(200).json()["Pid"]
        .as_i64()
        .unwrap();
    server
        .post(&format!("/exec/{id}/resize?h=33&w=55"), &Value::Null)
        .expect(200);
    let terminal = std::fs::File::open(format!("/proc/{pid}/fd/0")).unwrap();
    let output = std::process::Command::new("stty")
        .arg("size")
        .stdin(terminal)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "33 55");
}

pub fn create_and_start_refuse_what_does_not_fit(world: &World) {
    let server = &world.server;
    let body = json!({ "Image": "busybox", "Cmd": ["sleep", "1000"] });
    let other = server
        .post("/containers/create?platform=linux%2Fs390x", &body)
        .expect(404)
        .message();
    assert!(other.contains("platform"), "{other}");
    let name = world.name("made");
    let target = format!("/containers/create?name={}&platform=linux%2Famd64", &*name);
    server.post(&target, &body).expect(201);
    for verb in ["start", "attach"] {
        let target = format!("/containers/{}/{verb}?detachKeys=nonsense&stream=0", &*name);
        server.post(&target, &Value::Null).expect(400);
    }
    assert_eq!(world.inspect(&name)["State"]["Status"], "created");
}

pub fn attach_shows_the_past_alone(world: &World) {
    let name = world.name("past");
    world.run(&["run", "--name", &name, "busybox", "echo", "it was"]).ok();
    let target = format!("/containers/{}/attach?logs=1&stdout=1", &*name);
    let past = world.server.post(&target, &Value::Null).expect(200).body;
    let frames = harness::http::frames(&past);
    assert_eq!(frames, [(1, b"it was\n".to_vec())]);
}

pub fn an_archive_becomes_an_image(world: &World) {
    let server = &world.server;
    let (name, _) = world.sleeper(&[]);
    let files = server.get(&format!("/containers/{}/export", &*name)).expect(200).body;
    let tag = harness::tools::tag();
    let target = format!("/images/create?fromSrc=-&repo=made-{tag}&tag=2&message=by+a+test&changes=ENV+A%3Db");
    let kind = [("Content-Type", "application/x-tar")];
    server.send("POST", &target, &kind, &files).expect(200);
    let image = server.get(&format!("/images/made-{tag}:2/json")).expect(200).json();
    assert_eq!(image["Comment"], "by a test");
    assert_eq!(image["Config"]["Env"], json!(["A=b"]));
    server
        .call("DELETE", &format!("/images/made-{tag}:2"), None)
        .expect(200);
}

pub fn a_file_does_not_take_the_place_of_a_folder(world: &World) {
    let (name, _) = world.sleeper(&[]);
    world.inside(&name, "mkdir /tmp/place && touch /tmp/place/kept");
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    archive.append_data(&mut header, "place", &b"x"[..]).unwrap();
    let bytes = archive.into_inner().unwrap();
    let target = format!("/containers/{}/archive?path=/tmp&noOverwriteDirNonDir=1", &*name);
    let kind = [("Content-Type", "application/x-tar")];
    let reply = world.server.send("PUT", &target, &kind, &bytes);
    assert!(reply.status >= 400, "{}", reply.status);
    assert_eq!(world.inside(&name, "ls /tmp/place"), "kept");
}

#![allow(clippy::unwrap_used)]
//! What `run` does on the wire, and how it ends.

mod daemon;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daemon::{Daemon, Reply, Request, frame};

const MUX: &str = "application/vnd.docker.multiplexed-stream";

/// The ways in which the daemon of a test differs.
#[derive(Clone, Default)]
struct Plan {
    /// The image is there from the beginning.
    has_image: bool,
    pull: Option<&'static str>,
    start: Option<(u16, &'static str)>,
    exit: i64,
}

fn daemon(plan: Plan) -> Daemon {
    let image = Arc::new(AtomicBool::new(plan.has_image));
    Daemon::start(move |request: &Request| match request.line().as_str() {
        "POST /containers/create" if image.load(Ordering::SeqCst) => {
            Reply::Json(201, r#"{"Id":"c0ffee","Warnings":["be careful"]}"#.to_owned())
        }
        "POST /containers/create" => Reply::Json(404, r#"{"message":"No such image: img:latest"}"#.to_owned()),
        "POST /images/create" => {
            image.store(true, Ordering::SeqCst);
            Reply::Json(
                200,
                plan.pull
                    .unwrap_or(r#"{"status":"Pulling from img","id":"latest"}"#)
                    .to_owned(),
            )
        }
        "POST /containers/c0ffee/attach" => Reply::Hijack(MUX, Box::new(echo)),
        "POST /containers/c0ffee/wait" => Reply::Json(200, format!("{{\"StatusCode\":{}}}", plan.exit)),
        "POST /containers/c0ffee/start" => match plan.start {
            Some((status, message)) => Reply::Json(status, format!("{{\"message\":{message:?}}}")),
            None => Reply::Raw(204, Vec::new()),
        },
        other => panic!("unexpected {other}"),
    })
}

/// Greets, then sends back what it reads, and says on stderr when the input has ended.
fn echo(mut stream: UnixStream) {
    let _ = stream.write_all(&frame(1, "hello "));
    let mut input = Vec::new();
    let _ = stream.read_to_end(&mut input);
    let _ = stream.write_all(&frame(1, &String::from_utf8_lossy(&input)));
    let _ = stream.write_all(&frame(2, "bye\n"));
}

fn run(daemon: &Daemon, arguments: &[&str], input: &str) -> Output {
    let mut child = daemon
        .iechor(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_absent_image_is_pulled_and_the_calls_come_in_order() {
    let daemon = daemon(Plan {
        exit: 7,
        ..Plan::default()
    });
    let output = run(&daemon, &["run", "-i", "--rm", "img", "cat"], "typed\n");
    assert_eq!(text(&output.stdout), "hello typed\n");
    assert_eq!(
        text(&output.stderr),
        "Unable to find image 'img:latest' locally\nlatest: Pulling from img\nWARNING: be careful\nbye\n"
    );
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(
        daemon.calls(),
        [
            "POST /containers/create",
            "POST /images/create",
            "POST /containers/create",
            "POST /containers/c0ffee/attach",
            "POST /containers/c0ffee/wait",
            "POST /containers/c0ffee/start",
        ]
    );
    let requests = daemon.requests();
    assert_eq!(requests[1].query, "fromImage=img&tag=latest");
    assert_eq!(requests[3].query, "stream=1&stdin=1&stdout=1&stderr=1");
    assert_eq!(
        (requests[3].header("connection"), requests[3].header("upgrade")),
        (Some("Upgrade"), Some("tcp"))
    );
    assert_eq!(requests[4].query, "condition=removed");
}

#[test]
fn detached_prints_the_id() {
    let daemon = daemon(Plan {
        has_image: true,
        ..Plan::default()
    });
    let output = run(&daemon, &["run", "-d", "img"], "");
    assert_eq!(
        (text(&output.stdout), output.status.code()),
        ("c0ffee\n".to_owned(), Some(0))
    );
    assert_eq!(
        daemon.calls(),
        ["POST /containers/create", "POST /containers/c0ffee/start"]
    );
}

#[test]
fn never_pull_means_never() {
    let daemon = daemon(Plan::default());
    let output = run(&daemon, &["run", "--pull", "never", "img"], "");
    assert!(text(&output.stderr).starts_with("iechor: Error response from daemon: No such image: img:latest\n"));
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(daemon.calls(), ["POST /containers/create"]);
}

#[test]
fn always_pull_means_first() {
    let daemon = daemon(Plan {
        has_image: true,
        ..Plan::default()
    });
    let output = run(&daemon, &["run", "-q", "-d", "--pull=always", "img:2"], "");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(daemon.calls()[..2], ["POST /images/create", "POST /containers/create"]);
}

#[test]
fn a_failed_pull_is_125_and_creates_nothing() {
    let failure = r#"{"status":"Pulling"} {"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}"#;
    let daemon = daemon(Plan {
        pull: Some(failure),
        ..Plan::default()
    });
    let id_file = daemon.folder.path().join("id");
    let output = run(&daemon, &["run", "--cidfile", id_file.to_str().unwrap(), "img"], "");
    assert!(
        text(&output.stderr).contains("iechor: manifest unknown\n"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(daemon.calls(), ["POST /containers/create", "POST /images/create"]);
    assert!(!id_file.exists(), "the file for the id is left behind");
}

#[test]
fn the_words_of_a_failed_start_are_its_exit_code() {
    for (message, code) in [
        ("exec: \"x\": executable file not found in $PATH", 127),
        ("exec: \"/etc\": permission denied", 126),
        ("port is already allocated", 125),
    ] {
        let daemon = daemon(Plan {
            has_image: true,
            start: Some((400, message)),
            ..Plan::default()
        });
        let output = run(&daemon, &["run", "img", "x"], "");
        assert!(text(&output.stderr).contains(message), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{message}");
    }
}

#[test]
fn the_id_file_holds_the_id_and_is_not_overwritten() {
    let daemon = daemon(Plan {
        has_image: true,
        ..Plan::default()
    });
    let id_file = daemon.folder.path().join("id");
    let arguments = ["run", "-d", "--cidfile", id_file.to_str().unwrap(), "img"];
    assert_eq!(run(&daemon, &arguments, "").status.code(), Some(0));
    assert_eq!(std::fs::read_to_string(&id_file).unwrap(), "c0ffee");
    let again = run(&daemon, &arguments, "");
    assert_eq!(again.status.code(), Some(125));
    assert!(
        text(&again.stderr).contains("container ID file found"),
        "{}",
        text(&again.stderr)
    );
    assert_eq!(daemon.calls().len(), 2, "the second run asked the daemon");
}

#[test]
fn a_daemon_that_hangs_up_is_a_clear_failure() {
    let daemon = Daemon::start(|_| Reply::HangUp);
    let output = run(&daemon, &["run", "img"], "");
    assert_eq!(output.status.code(), Some(125));
    assert!(
        text(&output.stderr).contains("broke while POST /containers/create"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn credentials_and_proxies_come_from_the_config_file() {
    let daemon = daemon(Plan::default());
    std::fs::write(
        daemon.folder.path().join("config.json"),
        r#"{"auths":{"reg.example.org":{"auth":"dXNlcjpzZWNyZXQ="}},"HttpHeaders":{"X-Meta":"yes"},
            "proxies":{"default":{"httpProxy":"http://proxy:3128"}}}"#,
    )
    .unwrap();
    let output = run(
        &daemon,
        &["run", "-d", "-e", "http_proxy=mine", "reg.example.org/img:1"],
        "",
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let requests = daemon.requests();
    let auth = requests[1].header("x-registry-auth").unwrap();
    let auth = client::api::auth::AuthConfig::decode(auth).unwrap();
    assert_eq!((auth.username.as_str(), auth.password.as_str()), ("user", "secret"));
    assert_eq!(requests[0].header("x-meta"), Some("yes"));
    assert!(requests[0].header("x-registry-auth").is_none());
    let create: serde_json::Value = serde_json::from_slice(&requests[0].body).unwrap();
    assert_eq!(
        create["Env"],
        serde_json::json!(["http_proxy=mine", "HTTP_PROXY=http://proxy:3128"])
    );
}

#[test]
fn dial_stdio_is_a_pipe_to_the_daemon() {
    let daemon = Daemon::start(|_| Reply::Json(200, "{\"Id\":\"x\"}".to_owned()));
    let output = run(
        &daemon,
        &["system", "dial-stdio"],
        "GET /v1.51/info HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    let answer = text(&output.stdout);
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"Id\":\"x\"}"),
        "{answer}"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn ssh_hosts_go_through_the_far_ends_client() {
    let daemon = Daemon::start(|_| Reply::Json(200, "[]".to_owned()));
    // An `ssh` that stays on this machine: it runs the last argument the way sshd does, with a shell.
    let bin = daemon.folder.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let script = bin.join("ssh");
    std::fs::write(
        &script,
        "#!/bin/sh\necho \"$@\" >\"$0.log\"\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\nexec sh -c \"$*\"\n",
    )
    .unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_iechor"), bin.join("iechor")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let host = format!("ssh://me@far:2222{}", daemon.socket().display());
    let output = daemon
        .iechor(&["-H", &host, "ps", "-q"])
        .env("PATH", path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(daemon.calls(), ["GET /containers/json"]);
    let log = std::fs::read_to_string(bin.join("ssh.log")).unwrap();
    assert!(log.contains("-l me -p 2222 -- far sh -c"), "{log}");
}

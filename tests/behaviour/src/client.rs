//! Our own command line beyond what the docker client has in common with it: hosts, help, completion, formats.

use harness::process::Run;
use harness::tools::{Folder, binary};
use harness::{Output, Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        help_names_every_command,
        each_command_has_help,
        unknown_commands_and_flags_are_refused,
        host_by_flag_and_environment,
        absent_daemon_is_said,
        versions_are_shown,
        completion_is_made,
        completion_knows_the_daemons_names,
        plugins_are_commands,
        the_manual_has_a_page_for_each_command,
        formats_are_templates_or_json,
        tables_are_those_of_the_docker_client,
        bad_values_are_refused_before_anything_happens,
        signals_are_passed_on,
        cidfile_is_written,
        the_api_socket_is_in_the_container,
        dial_stdio_is_a_connection_to_the_daemon,
        docker_reaches_us_through_ssh,
    ]
}

/// `iechor` without any help of the harness.
fn bare(arguments: &[&str]) -> Run {
    Run::new(&binary("iechor"), arguments)
}

fn help_names_every_command(_: &World) {
    let help = bare(&["--help"]).output().ok();
    for command in [
        "run", "create", "start", "stop", "restart", "kill", "exec", "attach", "logs", "ps", "inspect", "wait", "rm",
        "rename", "pull", "images", "tag", "rmi", "save", "load", "import", "export", "history", "events", "info",
        "version",
    ] {
        assert!(
            help.lines().any(|line| line.split_whitespace().next() == Some(command)),
            "{command} is not in the help:\n{help}"
        );
    }
}

fn each_command_has_help(_: &World) {
    for command in [
        "run", "exec", "logs", "ps", "pull", "images", "stop", "rm", "events", "save",
    ] {
        let help = bare(&[command, "--help"]).output().ok();
        assert!(help.contains("Usage") && help.lines().count() > 5, "{command}: {help}");
    }
    let run = bare(&["run", "--help"]).output().ok();
    for flag in [
        "--rm",
        "--detach",
        "--interactive",
        "--tty",
        "--env",
        "--volume",
        "--mount",
        "--tmpfs",
        "--publish",
        "--network",
        "--memory",
        "--cap-add",
    ] {
        assert!(run.contains(flag), "{flag} is not in the help of run");
    }
}

fn unknown_commands_and_flags_are_refused(_: &World) {
    let refused = |output: Output| {
        assert!(output.code != 0 && !output.err.is_empty(), "{}", output.code);
        output
    };
    assert!(
        refused(bare(&["no-such-command"]).output())
            .err
            .contains("no-such-command")
    );
    assert!(
        refused(bare(&["ps", "--no-such-flag"]).output())
            .err
            .contains("--no-such-flag")
    );
    assert_eq!(bare(&["run", "--no-such-flag", "busybox"]).output().code, 125);
    refused(bare(&["run"]).output());
}

fn host_by_flag_and_environment(world: &World) {
    let host = world.host();
    bare(&["-H", host, "ps"]).output().ok();
    bare(&["--host", host, "ps"]).output().ok();
    bare(&["ps"]).env("IECHOR_HOST", host).output().ok();
    bare(&["ps"]).env("DOCKER_HOST", host).output().ok();
    // Ours wins over docker's, and the flag over both.
    bare(&["ps"])
        .env("IECHOR_HOST", host)
        .env("DOCKER_HOST", "unix:///no/such/socket")
        .output()
        .ok();
    bare(&["-H", host, "ps"])
        .env("IECHOR_HOST", "unix:///no/such/socket")
        .output()
        .ok();
}

fn absent_daemon_is_said(_: &World) {
    for arguments in [&["ps"][..], &["version"], &["images"]] {
        let output = bare(&[&["-H", "unix:///no/such/socket"], arguments].concat()).output();
        assert_eq!(output.code, 1);
        assert!(output.err.contains("/no/such/socket"), "{}", output.err);
    }
    assert_eq!(
        bare(&["-H", "unix:///no/such/socket", "run", "busybox"]).output().code,
        125
    );
    let output = bare(&["-H", "carrier-pigeon://x", "ps"]).output();
    assert!(
        output.code != 0 && output.err.contains("carrier-pigeon"),
        "{}",
        output.err
    );
}

fn versions_are_shown(world: &World) {
    assert!(bare(&["--version"]).output().ok().contains(env!("CARGO_PKG_VERSION")));
    let shown = world.iechor(&["version"]).ok();
    assert!(
        shown.contains("Client:") && shown.contains("Server:") && shown.contains("API version:"),
        "{shown}"
    );
}

fn completion_is_made(_: &World) {
    for shell in ["bash", "zsh", "fish"] {
        let script = bare(&["completion", shell]).output().ok();
        assert!(script.contains("iechor") && script.contains("__complete"), "{shell}");
    }
}

/// What bash offers behind a line.
pub fn offered(world: &World, line: &str) -> Vec<String> {
    let iechor = binary("iechor");
    let folder = iechor.parent().unwrap().display();
    // bash takes words apart at colons as well.
    let script = format!(
        "PATH={folder}:$PATH; source <(iechor completion bash); COMP_LINE=$LINE; COMP_POINT=${{#COMP_LINE}}; \
         IFS=' ' read -r -a COMP_WORDS <<<\"${{COMP_LINE//:/ : }}\"; [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=(''); \
         COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _iechor; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let out = Run::new("bash".as_ref(), &["-c", &script])
        .env("LINE", line)
        .env("IECHOR_HOST", world.host())
        .output()
        .ok();
    out.lines().map(str::to_owned).collect()
}

fn completion_knows_the_daemons_names(world: &World) {
    let (running, _) = world.sleeper(&[]);
    let ended = world.name("ended");
    world.run(&["run", "--name", &ended, "busybox", "true"]).ok();
    let has = |line: &str, name: &str| offered(world, line).iter().any(|found| found == name);
    assert!(has("iechor stop ", &running) && !has("iechor stop ", &ended));
    assert!(has("iechor start ", &ended) && !has("iechor start ", &running));
    assert!(has("iechor container rm -f ", &running) && has("iechor rm -f ", &ended));
    assert!(
        !has(&format!("iechor rm {} ", &*ended), &ended),
        "what is named already is not offered again"
    );
    let start = &running[..running.len() - 1];
    assert_eq!(offered(world, &format!("iechor logs {start}")), [running.to_string()]);
    assert!(has("iechor run -it busy", "busybox:latest"));
    assert!(
        has("iechor run -it busybox:la", "latest"),
        "bash has taken the name apart"
    );
    assert!(has("iechor run --network ", "bridge"));
    // What `echo` would take for its own.
    assert!(has("iechor run -e A=b -n --netw", "--network"));
    assert!(has("iechor -H unix:///nowhere vol", "volume"));
    assert!(offered(world, "iechor -H unix:///nowhere logs ").join("").is_empty());
    assert!(has("iechor context use ", "default"));
}

/// A plugin as docker's client knows them: it is asked what it is, gets its words, and the daemon that is meant.
fn plugins_are_commands(world: &World) {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("plugins");
    let metadata = r#"{"SchemaVersion":"0.1.0","Vendor":"test","ShortDescription":"Greets"}"#;
    for (place, name, text) in [
        (
            "config/cli-plugins",
            "iechor-greet",
            format!(
                "#!/bin/sh\nif [ $1 = docker-cli-plugin-metadata ]; then echo '{metadata}'; else echo \"$# $*|$DOCKER_HOST\"; exit 7; fi\n"
            ),
        ),
        (
            "docker/cli-plugins",
            "docker-odd",
            "#!/bin/sh\necho no plugin\n".to_owned(),
        ),
    ] {
        std::fs::create_dir_all(folder.at(place)).unwrap();
        let path = format!("{}/{name}", folder.at(place));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let with = |arguments: &[&str]| {
        bare(arguments)
            .env("IECHOR_CONFIG", &folder.at("config"))
            .env("DOCKER_CONFIG", &folder.at("docker"))
            .env("IECHOR_HOST", world.host())
            .output()
    };
    let said = with(&["greet", "--loud", "you and", "me"]);
    assert_eq!(
        (said.code, &*said.out),
        (7, &*format!("4 greet --loud you and me|{}", world.host()))
    );
    let said = with(&["-H", "unix:///elsewhere", "greet"]);
    assert_eq!(said.out, "1 greet|unix:///elsewhere");
    let help = with(&["--help"]).ok();
    assert!(
        help.contains("greet") && help.contains("Greets") && !help.contains("odd "),
        "{help}"
    );
    let odd = with(&["odd"]);
    assert!(
        odd.code != 0 && odd.err.contains("does not say what it is"),
        "{}",
        odd.err
    );
    assert!(with(&["../greet"]).err.contains("unknown command"));
}

fn the_manual_has_a_page_for_each_command(_: &World) {
    let folder = Folder::new("man");
    bare(&["man", &folder.at("man1")]).output().ok();
    let page = |name: &str| std::fs::read_to_string(folder.at(&format!("man1/{name}.1"))).unwrap();
    assert!(page("iechor").contains("Run and manage containers"));
    for (name, words) in [
        ("iechor-container-run", "\\-\\-publish"),
        ("iechor-image-pull", "\\-\\-platform"),
        ("iechor-system-certs", "\\-\\-days"),
    ] {
        let text = page(name);
        assert!(text.starts_with(".ie") || text.starts_with(".TH"), "{text}");
        assert!(text.contains(words), "{name}: {text}");
    }
}

fn formats_are_templates_or_json(world: &World) {
    let (name, process) = world.sleeper(&["-l", "color=blue"]);
    let shown = |format: &str| world.iechor(&["inspect", "--format", format, &name]).ok();
    assert_eq!(shown("{{.State.Pid}}"), process.0.to_string());
    assert_eq!(shown("{{json .Config.Cmd}}"), "[\"sleep\",\"1000\"]");
    assert_eq!(shown("{{index .Config.Labels \"color\"}}"), "blue");
    assert_eq!(shown("{{if .State.Running}}yes{{else}}no{{end}}"), "yes");
    assert_eq!(shown("{{range .Config.Cmd}}[{{.}}]{{end}}"), "[sleep][1000]");
    assert_eq!(
        shown("{{join .Config.Cmd \",\"}} {{upper .State.Status}}"),
        "sleep,1000 RUNNING"
    );
    assert_eq!(shown("{{len .Config.Cmd}}"), "2");
    let parsed: serde_json::Value = serde_json::from_str(&world.iechor(&["inspect", &name]).ok()).unwrap();
    assert_eq!(parsed[0]["State"]["Pid"], process.0);
    let output = world.iechor(&["inspect", "--format", "{{.State.", &name]);
    assert!(output.code != 0 && !output.err.is_empty());
    let table = world.iechor(&["ps", "--format", "table {{.Names}}\t{{.Status}}"]).ok();
    assert!(table.starts_with("NAMES") && table.contains(&*name), "{table}");
}

/// The same daemon, both clients, the same words.
fn tables_are_those_of_the_docker_client(world: &World) {
    let (name, _) = world.sleeper(&["-p", "127.0.0.1::80"]);
    let filter = format!("name={}", &*name);
    // Ages move while we look, and the width of their column with them.
    let stable = |text: String| -> Vec<Vec<String>> {
        let cells = |line: &str| {
            line.split("  ")
                .map(|cell| cell.trim().to_owned())
                .filter(|cell| !cell.is_empty() && !cell.contains("second"))
                .collect()
        };
        text.lines().map(cells).collect()
    };
    for arguments in [
        &["ps", "--filter", &filter][..],
        &["ps", "-q", "--filter", &filter],
        &["ps", "--no-trunc", "--filter", &filter],
        &["images", "busybox"],
        &["images", "--digests", "busybox"],
        &["history", "busybox"],
        &["port", &name],
        &["volume", "ls", "--filter", "name=nothing-has-this"],
    ] {
        let (ours, theirs) = (world.iechor(arguments), world.docker(arguments));
        assert_eq!(stable(ours.ok()), stable(theirs.ok()), "{arguments:?}");
    }
}

fn bad_values_are_refused_before_anything_happens(world: &World) {
    let before = world
        .server
        .get("/containers/json?all=1")
        .json()
        .as_array()
        .unwrap()
        .len();
    let cases: &[(&[&str], &str)] = &[
        (&["-m", "much"], "much"),
        (&["--cpus", "few"], "few"),
        (&["-p", "99999:80"], "99999"),
        (&["-p", "80:http"], "http"),
        (&["-e", "=x"], "=x"),
        (&["--ulimit", "nofile=x"], "nofile"),
        (&["--restart", "sometimes"], "sometimes"),
        (&["--mount", "type=bind,source=/tmp"], "target"),
        (&["--mount", "colour=blue"], "colour"),
        (&["--stop-timeout", "soon"], "soon"),
        (&["--device", "/dev/null:/dev/x:q"], "q"),
        (&["--env-file", "/no/such/file"], "/no/such/file"),
        (&["--add-host", "no-address"], "no-address"),
        (&["--pull", "perhaps"], "perhaps"),
        (&["--name", "bad/name"], "bad/name"),
    ];
    for (flags, word) in cases {
        let output = world.iechor(&[&["run", "--rm"], *flags, &["busybox", "true"]].concat());
        assert_eq!(output.code, 125, "{flags:?}: {}", output.err);
        assert!(output.err.contains(word), "{flags:?}: {}", output.err);
    }
    // Others work on this daemon beside us; a container of a refused run would have stayed.
    let names = world
        .server
        .get("/containers/json?all=1&filters=%7B%22status%22%3A%5B%22created%22%5D%7D")
        .json();
    assert!(names.as_array().unwrap().len() <= before + 4);
}

fn signals_are_passed_on(world: &World) {
    let name = world.name("signals");
    let line = "trap 'echo got it; exit 12' TERM; echo ready; while :; do sleep 0.05; done";
    let host = world.host().to_owned();
    let client = harness::process::Background::start(
        &binary("iechor"),
        &["-H", &host, "run", "--name", &name, "busybox", "sh", "-c", line],
    );
    client.expect("ready");
    client.signal(nix::sys::signal::Signal::SIGTERM);
    let (code, text) = client.finish(10);
    assert_eq!(code, 12);
    assert!(text.contains("got it"), "{text}");
}

fn cidfile_is_written(world: &World) {
    let folder = Folder::new("cid");
    let file = folder.at("id");
    let name = world.name("cid");
    let id = world
        .iechor(&[
            "run",
            "-d",
            "--cidfile",
            &file,
            "--name",
            &name,
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
    world.iechor(&["run", "--cidfile", &file, "busybox", "true"]).fails(125);
}

fn the_api_socket_is_in_the_container(world: &World) {
    use std::os::unix::fs::MetadataExt;
    let socket = world.host().trim_start_matches("unix://");
    let own = std::fs::metadata(socket).unwrap();
    for verb in ["run", "create"] {
        let name = world.name("socket");
        let words = [verb, "--use-api-socket", "--name", &name, "busybox", "sleep", "1000"];
        if verb == "run" {
            world.iechor(&[&["run", "-d"], &words[1..]].concat()).ok();
        } else {
            world.iechor(&words).ok();
            world.iechor(&["start", &name]).ok();
        }
        let inside = world.process(&name).root("/var/run/docker.sock");
        let found = std::fs::metadata(&inside).unwrap();
        assert_eq!((found.dev(), found.ino()), (own.dev(), own.ino()));
        // Somebody answers there.
        let asked = harness::http::Server::Unix(inside).get("/_ping").expect(200);
        assert_eq!(asked.text(), "OK");
    }
    // With what is logged in here, for root alone; as docker's client does it.
    let folder = Folder::new("logins");
    let auths = r#"{"auths":{"r.example":{"auth":"bWU6c2VjcmV0"}},"psFormat":"x"}"#;
    std::fs::write(folder.path().join("config.json"), auths).unwrap();
    let name = world.name("socket");
    let words = [
        "create",
        "--use-api-socket",
        "--name",
        &name,
        "busybox",
        "sleep",
        "1000",
    ];
    let made = bare(&[&["-H", world.host()], &words[..]].concat())
        .env("IECHOR_CONFIG", folder.path().to_str().unwrap())
        .env("DOCKER_CONFIG", &folder.at("none"))
        .output();
    made.ok();
    world.iechor(&["start", &name]).ok();
    let line = "cat $DOCKER_CONFIG/config.json; stat -c ' %a %u:%g' $DOCKER_CONFIG/config.json";
    assert_eq!(
        world.inside(&name, line),
        r#"{"auths":{"r.example":{"auth":"bWU6c2VjcmV0"}}} 600 0:0"#
    );
    let (plain, process) = world.sleeper(&[]);
    assert!(!process.root("/var/run/docker.sock").exists(), "{}", &*plain);
    let elsewhere = bare(&["-H", "tcp://127.0.0.1:1", "create", "--use-api-socket", "busybox"]).output();
    assert!(
        elsewhere.code != 0 && elsewhere.err.contains("--use-api-socket"),
        "{}",
        elsewhere.err
    );
}

fn dial_stdio_is_a_connection_to_the_daemon(world: &World) {
    let asked = bare(&["-H", world.host(), "system", "dial-stdio"])
        .input("GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .output()
        .ok();
    assert!(
        asked.starts_with("HTTP/1.1 200 OK\r\n") && asked.ends_with("\r\n\r\nOK"),
        "{asked}"
    );
    let nobody = bare(&["-H", "unix:///no/such/socket", "system", "dial-stdio"]).output();
    assert!(
        nobody.code != 0 && nobody.err.contains("/no/such/socket"),
        "{}",
        nobody.err
    );
}

/// What `-H ssh://…` of docker's client runs at the far end is `docker system dial-stdio`: ours does as well.
fn docker_reaches_us_through_ssh(world: &World) {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("ssh");
    // In place of the network: the far end's command is the last of what the client says behind `--`.
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>{log}\nwhile [ $# -gt 0 ] && [ \"$1\" != docker ]; do shift; done\nshift\n\
         exec {ours} -H {host} \"$@\"\n",
        log = folder.at("log"),
        ours = binary("iechor").display(),
        host = world.host(),
    );
    let program = folder.at("ssh");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let (name, _) = world.sleeper(&[]);
    let docker = |words: &[&str]| {
        Run::new(&harness::tools::docker(), words)
            .env("PATH", &path)
            .env("DOCKER_HOST", "ssh://far.example")
            .env("DOCKER_CONFIG", &folder.at("config"))
            .input("typed\n")
            .output()
    };
    let filter = format!("name={}", &*name);
    assert_eq!(
        docker(&["ps", "--filter", &filter, "--format", "{{.Names}}"]).ok(),
        &*name
    );
    // A stream in both directions, with a half-close.
    assert_eq!(docker(&["exec", "-i", &name, "cat"]).ok(), "typed");
    let log = std::fs::read_to_string(folder.at("log")).unwrap();
    assert!(
        log.contains("far.example") && log.contains("docker system dial-stdio"),
        "{log}"
    );
}

//! The program `iechord` itself: its flags and files, sockets, readiness, signals.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::daemon::{Daemon, Options};
use harness::http::Server;
use harness::process::Run;
use harness::tools::{Folder, binary, eventually, patience};
use harness::{Test, tests};
use serde_json::json;

pub struct Nothing;

pub fn tests() -> Vec<Test<Nothing>> {
    tests![
        // The longest first: the others run beside it.
        a_connection_may_rest,
        help_names_dockerds_flags,
        version_is_shown,
        unknown_flags_are_refused,
        socket_has_the_right_mode,
        pidfile_is_written_and_removed,
        stale_socket_and_pidfile_are_replaced,
        ready_is_said_to_systemd,
        socket_activation_takes_the_socket,
        several_hosts_at_once,
        tcp_without_tls_only_on_loopback,
        toml_file_is_read,
        daemon_json_is_read,
        a_key_in_file_and_flag_is_refused,
        broken_files_are_refused_by_name,
        validate_checks_and_starts_nothing,
        unwritable_root_is_said,
        terminate_and_interrupt_end_it,
        sighup_reads_the_file_again,
        metrics_are_served_on_loopback,
        idle_daemon_is_small_and_quiet,
        no_descriptors_and_threads_pile_up,
    ]
}

fn start(arguments: &[&str]) -> Daemon {
    if std::env::var_os("IECHOR_TEST_HOST").is_some() {
        harness::suite::skip("about our own daemon");
    }
    Daemon::start(Options {
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        ..Options::default()
    })
}

fn iechord(arguments: &[&str]) -> Run {
    Run::new(&binary("iechord"), arguments).seconds(10)
}

/// SDKs keep connections between two calls.
fn a_connection_may_rest(_: &Nothing) {
    let daemon = start(&[]);
    let mut connection = std::io::BufReader::new(daemon.server.connect());
    for rest in [0, 33] {
        std::thread::sleep(Duration::from_secs(rest));
        let ping = b"GET /_ping HTTP/1.1\r\nHost: test\r\n\r\n";
        std::io::Write::write_all(connection.get_mut(), ping).unwrap();
        let reply = harness::http::read_reply(&mut connection, false)
            .unwrap_or_else(|error| panic!("after {rest} s of rest: {error}"));
        assert_eq!((reply.status, reply.text().as_str()), (200, "OK"));
    }
    daemon.finish();
}

fn help_names_dockerds_flags(_: &Nothing) {
    let help = iechord(&["--help"]).output().ok();
    for flag in [
        "--host",
        "--data-root",
        "--exec-root",
        "--pidfile",
        "--config-file",
        "--log-level",
        "--exec-opt",
        "--bip",
        "--bridge",
        "--default-address-pool",
        "--dns",
        "--insecure-registry",
        "--registry-mirror",
        "--log-driver",
        "--log-opt",
        "--label",
        "--default-ulimit",
        "--default-shm-size",
        "--cgroup-parent",
        "--tls",
        "--tlscacert",
        "--group",
        "--mtu",
    ] {
        assert!(help.contains(flag), "{flag} is not in the help");
    }
}

fn version_is_shown(_: &Nothing) {
    assert!(
        iechord(&["--version"])
            .output()
            .ok()
            .contains(env!("CARGO_PKG_VERSION"))
    );
}

fn unknown_flags_are_refused(_: &Nothing) {
    let output = iechord(&["--no-such-flag"]).output();
    assert!(
        output.code != 0 && output.err.contains("--no-such-flag"),
        "{}",
        output.err
    );
    for (flag, value) in [
        ("--log-level", "chatty"),
        ("--host", "pigeon://x"),
        ("--bip", "300.1.1.1/8"),
        ("--exec-opt", "native.cgroupdriver=magic"),
    ] {
        let folder = Folder::new("flags");
        let output = iechord(&[
            "--data-root",
            &folder.at("root"),
            "--exec-root",
            &folder.at("exec"),
            flag,
            value,
        ])
        .output();
        assert!(output.code != 0, "{flag} {value} was taken");
        assert!(
            output.err.contains(value.split('=').next_back().unwrap()),
            "{flag} {value}: {}",
            output.err
        );
    }
}

fn socket_has_the_right_mode(_: &Nothing) {
    let daemon = start(&[]);
    let Server::Unix(path) = &daemon.server else {
        unreachable!()
    };
    let meta = std::fs::metadata(path).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o660);
    assert_eq!(meta.uid(), 0);
    // Nobody but root looks into the data.
    for folder in ["", "containers"] {
        let mode = std::fs::metadata(daemon.places.data.join("root").join(folder))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o007, 0, "{folder}: {mode:o}");
    }
    daemon.finish();
}

fn pidfile_is_written_and_removed(_: &Nothing) {
    let daemon = start(&[]);
    let file = daemon.places.exec.join("iechord.pid");
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), daemon.pid().to_string());
    daemon.stop();
    assert!(!file.exists());
    daemon.launch();
    daemon.finish();
}

fn stale_socket_and_pidfile_are_replaced(_: &Nothing) {
    let daemon = start(&[]);
    let Server::Unix(path) = daemon.server.clone() else {
        unreachable!()
    };
    daemon.kill9();
    assert!(path.exists(), "a killed daemon leaves its socket");
    daemon.launch();
    daemon.finish();
}

fn ready_is_said_to_systemd(_: &Nothing) {
    let folder = Folder::new("notify");
    let socket = UnixDatagram::bind(folder.at("notify")).unwrap();
    socket.set_read_timeout(Some(patience(10))).unwrap();
    let daemon = start(&[]);
    daemon.stop();
    let address = folder.at("notify");
    daemon.launch_with(&[("NOTIFY_SOCKET", &address)]);
    let mut buffer = [0; 512];
    let mut said = String::new();
    while !said.contains("READY=1") {
        let count = socket.recv(&mut buffer).expect("READY=1 is sent");
        said.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    daemon.server.get("/_ping").expect(200);
    daemon.finish();
}

/// The socket is there before the daemon, and a request waits in it.
fn socket_activation_takes_the_socket(_: &Nothing) {
    let daemon = start(&[]);
    daemon.stop();
    let Server::Unix(path) = daemon.server.clone() else {
        unreachable!()
    };
    let _ = std::fs::remove_file(&path);
    // systemd-socket-activate's work, by a shell: the descriptor as number 3, the pid in the environment.
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let script = "exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
    let mut arguments = vec![
        "-c".to_owned(),
        script.to_owned(),
        "sh".to_owned(),
        binary("iechord").display().to_string(),
    ];
    arguments.extend(daemon.arguments_with_host("fd://"));
    let mut child = Command::new("/bin/sh")
        .args(&arguments)
        .env("IECHOR_TEST_TAG", &daemon.places.tag)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let answer = daemon.server.try_send("GET", "/_ping", &[], &[]);
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id() as i32),
        nix::sys::signal::Signal::SIGTERM,
    );
    let ended = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() && ended.elapsed() < patience(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(
        answer
            .expect("an answer through the socket that was handed over")
            .status,
        200
    );
    assert!(path.exists(), "the socket is systemd's to remove");
    let _ = std::fs::remove_file(&path);
    daemon.launch();
    daemon.finish();
}

fn several_hosts_at_once(_: &Nothing) {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let daemon = start(&["--host", &format!("tcp://127.0.0.1:{port}"), "--allow-insecure-tcp"]);
    let tcp = Server::Tcp(format!("127.0.0.1:{port}"));
    tcp.get("/_ping").expect(200);
    daemon.server.get("/_ping").expect(200);
    daemon.finish();
}

fn tcp_without_tls_only_on_loopback(_: &Nothing) {
    let folder = Folder::new("tcp");
    let output = iechord(&[
        "--data-root",
        &folder.at("root"),
        "--exec-root",
        &folder.at("exec"),
        "--host",
        "tcp://0.0.0.0:0",
    ])
    .output();
    assert_ne!(output.code, 0);
    assert!(output.err.to_lowercase().contains("tls"), "{}", output.err);
}

fn with_file(name: &str, text: &str) -> (Folder, Daemon) {
    let folder = Folder::new("config");
    std::fs::write(folder.at(name), text).unwrap();
    let daemon = start(&["--config-file", &folder.at(name)]);
    (folder, daemon)
}

fn has_labels(daemon: &Daemon) {
    let info = daemon.server.get("/info").expect(200).json();
    assert_eq!(info["Labels"], serde_json::json!(["place=desk", "colour=blue"]));
}

fn toml_file_is_read(_: &Nothing) {
    let (_folder, daemon) = with_file(
        "daemon.toml",
        "labels = [\"place=desk\", \"colour=blue\"]\ndebug = true\n",
    );
    has_labels(&daemon);
    daemon.finish();
}

fn daemon_json_is_read(_: &Nothing) {
    let text = r#"{"labels": ["place=desk", "colour=blue"], "log-driver": "json-file", "log-opts": {"max-size": "1m"}, "default-shm-size": "32M"}"#;
    let (_folder, daemon) = with_file("daemon.json", text);
    has_labels(&daemon);
    let info = daemon.server.get("/info").expect(200).json();
    assert_eq!(info["LoggingDriver"], "json-file");
    daemon.finish();
}

fn a_key_in_file_and_flag_is_refused(_: &Nothing) {
    let folder = Folder::new("config");
    std::fs::write(
        folder.at("daemon.json"),
        format!(r#"{{"data-root": "{}"}}"#, folder.at("other")),
    )
    .unwrap();
    let output = iechord(&[
        "--config-file",
        &folder.at("daemon.json"),
        "--data-root",
        &folder.at("root"),
        "--exec-root",
        &folder.at("exec"),
    ])
    .output();
    assert!(output.code != 0 && output.err.contains("data-root"), "{}", output.err);
}

fn broken_files_are_refused_by_name(_: &Nothing) {
    let folder = Folder::new("config");
    let cases = [
        ("a.json", "{\"debug\": ", ""),
        ("b.toml", "debug = maybe", ""),
        ("c.json", "{\"no-such-key\": 1}", "no-such-key"),
        ("d.json", "{\"debug\": \"yes\"}", ""),
    ];
    for (name, text, word) in cases {
        std::fs::write(folder.at(name), text).unwrap();
        let output = iechord(&[
            "--config-file",
            &folder.at(name),
            "--data-root",
            &folder.at("root"),
            "--exec-root",
            &folder.at("exec"),
        ])
        .output();
        assert_ne!(output.code, 0, "{name}");
        assert!(
            output.err.contains(name) && output.err.contains(word),
            "{name}: {}",
            output.err
        );
    }
    let output = iechord(&[
        "--config-file",
        &folder.at("absent.toml"),
        "--data-root",
        &folder.at("root"),
    ])
    .output();
    assert!(output.code != 0 && output.err.contains("absent.toml"), "{}", output.err);
}

fn validate_checks_and_starts_nothing(_: &Nothing) {
    let folder = Folder::new("validate");
    std::fs::write(folder.at("good.json"), "{\"debug\": true}").unwrap();
    let output = iechord(&[
        "--validate",
        "--config-file",
        &folder.at("good.json"),
        "--data-root",
        &folder.at("root"),
    ])
    .output();
    assert_eq!(output.code, 0, "{}", output.err);
    assert!(!folder.path().join("root").exists());
    std::fs::write(folder.at("bad.json"), "{\"no-such-key\": true}").unwrap();
    assert_ne!(
        iechord(&["--validate", "--config-file", &folder.at("bad.json")])
            .output()
            .code,
        0
    );
}

fn unwritable_root_is_said(_: &Nothing) {
    let folder = Folder::new("root");
    std::fs::write(folder.at("file"), "").unwrap();
    let root = folder.at("file/below");
    let output = iechord(&[
        "--data-root",
        &root,
        "--exec-root",
        &folder.at("exec"),
        "--host",
        &format!("unix://{}", folder.at("s")),
    ])
    .output();
    assert!(output.code != 0 && output.err.contains(&root), "{}", output.err);
}

fn terminate_and_interrupt_end_it(_: &Nothing) {
    let daemon = start(&[]);
    daemon.stop();
    daemon.launch();
    let pid = nix::unistd::Pid::from_raw(daemon.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    eventually("it ends on SIGINT", 10, || {
        !harness::kernel::Process(pid.as_raw()).is_alive()
    });
    daemon.kill9();
    daemon.launch();
    daemon.finish();
}

fn sighup_reads_the_file_again(_: &Nothing) {
    let (folder, daemon) = with_file("daemon.json", r#"{"labels": ["a=1"], "mtu": 1400}"#);
    let info = || daemon.server.get("/info").expect(200).json();
    assert_eq!((&info()["Labels"], &info()["Debug"]), (&json!(["a=1"]), &json!(false)));
    daemon.load(&harness::image::Image::busybox(), "busybox:latest");
    let sleeper = daemon.sleeper("stays", &[]);
    let write = |text: &str| {
        // In one step: what the last signal asked for may be read only now, and must not be half a file.
        std::fs::write(folder.at("next.json"), text).unwrap();
        std::fs::rename(folder.at("next.json"), folder.at("daemon.json")).unwrap();
        let pid = nix::unistd::Pid::from_raw(daemon.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    };
    let seconds = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let since = seconds();
    write(
        r#"{"labels": ["b=2"], "debug": true, "mtu": 1300, "runtimes": {"other": {"path": "/bin/sh"}},
            "insecure-registries": ["reg.test:5000"], "registry-mirrors": ["https://mirror.test"], "shutdown-timeout": 3}"#,
    );
    eventually("the file is read again", 10, || info()["Labels"] == json!(["b=2"]));
    let now = info();
    assert_eq!(now["Debug"], true);
    assert!(
        now["Runtimes"].as_object().unwrap().contains_key("other"),
        "{}",
        now["Runtimes"]
    );
    eventually("what waits for a restart is said", 5, || {
        let log = daemon.log_tail();
        log.contains("take effect when the daemon is restarted") && log.contains("mtu") && !log.contains("\"labels")
    });
    // The debug log is on: requests are in it.
    eventually("the level of the log has changed", 5, || {
        info();
        daemon.log_tail().contains("DEBUG")
    });
    let filters = "%7B%22type%22%3A%5B%22daemon%22%5D%7D";
    let events = daemon
        .server
        .get(&format!(
            "/events?since={since}&until={}&filters={filters}",
            seconds() + 1
        ))
        .expect(200);
    let event: serde_json::Value = serde_json::from_str(events.text().lines().next().expect("an event")).unwrap();
    assert_eq!(event["Action"], "reload");
    assert_eq!(event["Actor"]["ID"], now["ID"]);
    assert_eq!(
        event["Actor"]["Attributes"]["insecure-registries"],
        r#"["reg.test:5000"]"#
    );
    assert_eq!(event["Actor"]["Attributes"]["shutdown-timeout"], "3");
    // What cannot be used changes nothing.
    for broken in [
        "{",
        r#"{"labels": ["b"]}"#,
        r#"{"no-such-key": 1}"#,
        r#"{"default-runtime": "nowhere"}"#,
    ] {
        let refusals = || daemon.log_tail().matches("is not reloaded").count();
        let before = refusals();
        write(broken);
        eventually("a broken file is said", 5, || refusals() > before);
        assert_eq!(info()["Labels"], json!(["b=2"]), "{broken}");
    }
    assert!(sleeper.is_alive());
    daemon.remove("stays");
    daemon.finish();
}

fn metrics_are_served_on_loopback(_: &Nothing) {
    let folder = Folder::new("metrics");
    let output = iechord(&[
        "--data-root",
        &folder.at("r"),
        "--exec-root",
        &folder.at("e"),
        "--metrics-addr",
        "0.0.0.0:0",
    ])
    .output();
    assert!(
        output.code != 0 && output.err.contains("metrics on 0.0.0.0:0"),
        "{}",
        output.err
    );

    let port = std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let place = format!("127.0.0.1:{port}");
    let daemon = start(&["--metrics-addr", &place]);
    let page = || {
        let reply = Server::Tcp(place.clone()).get("/metrics").expect(200);
        assert!(reply.header("content-type").unwrap().contains("openmetrics-text"));
        reply.text()
    };
    let value = |name: &str| {
        let page = page();
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in\n{page}"));
        line.trim().parse::<u64>().unwrap()
    };
    let state = |state: &str| {
        value(&format!(
            "engine_daemon_container_states_containers{{state=\"{state}\"}} "
        ))
    };
    assert_eq!((state("running"), state("exited"), state("dead")), (0, 0, 0));
    daemon.load(&harness::image::Image::busybox(), "busybox:latest");
    daemon.sleeper("measured", &[]);
    assert_eq!(state("running"), 1);
    assert_eq!(
        value("engine_daemon_events_total{type=\"container\",action=\"start\"} "),
        1
    );
    daemon.run(&["kill", "measured"]).ok();
    eventually("it is counted as ended", 5, || {
        state("exited") == 1 && state("running") == 0
    });
    let rss = daemon_memory(&daemon);
    let told = value("engine_daemon_process_resident_memory_bytes ");
    assert!(
        told.abs_diff(rss) < 16 << 20 && told > 1 << 20,
        "{told} told, {rss} by the kernel"
    );
    assert!(page().trim_end().ends_with("# EOF"));
    // Nothing else is there.
    Server::Tcp(place.clone()).get("/info").expect(404);
    daemon.remove("measured");
    daemon.finish();
}

/// Resident bytes, by the kernel.
fn daemon_memory(daemon: &Daemon) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", daemon.pid())).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn idle_daemon_is_small_and_quiet(_: &Nothing) {
    let daemon = start(&[]);
    std::thread::sleep(Duration::from_secs(1));
    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
        let words: Vec<String> = stat
            .rsplit(") ")
            .next()
            .unwrap()
            .split(' ')
            .map(str::to_owned)
            .collect();
        words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    std::thread::sleep(Duration::from_secs(2));
    // Hundredths of a second of CPU in two seconds of nothing to do.
    assert!(ticks() - before <= 4, "an idle daemon uses the CPU");
    daemon.finish();
}

fn no_descriptors_and_threads_pile_up(_: &Nothing) {
    let daemon = start(&[]);
    daemon.load(&harness::image::Image::busybox(), "busybox:latest");
    let count = |what: &str| {
        std::fs::read_dir(format!("/proc/{}/{what}", daemon.pid()))
            .unwrap()
            .count()
    };
    let lives = |number: usize| {
        for _ in 0..number {
            daemon.docker(&["run", "--rm", "busybox", "true"]).ok();
        }
        let name = harness::tools::tag();
        daemon.sleeper(&name, &[]);
        for _ in 0..number {
            daemon.docker(&["exec", &name, "true"]).ok();
        }
        daemon.remove(&name);
        std::thread::sleep(Duration::from_millis(500));
    };
    lives(8);
    let before = count("fd");
    lives(20);
    let after = count("fd");
    // Idle connections and the stock of warm things breathe a little.
    assert!(after <= before + 8, "{before} descriptors, then {after}");
    assert!(count("task") < 120);
    daemon.finish();
}

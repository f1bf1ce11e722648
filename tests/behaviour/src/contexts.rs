//! Daemons by name, and the certificates that a daemon on TCP is reached with: `context …`, `system certs`.

use std::path::PathBuf;

use harness::daemon::{Daemon, Options};
use harness::process::Run;
use harness::tools::{Folder, binary, free_port};
use harness::{Test, tests};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        contexts_name_daemons,
        contexts_are_changed_and_removed,
        contexts_go_to_docker_and_back,
        hostile_archives_are_no_contexts,
        a_daemon_on_tcp_knows_its_clients,
        certificates_are_not_replaced,
        contexts_in_a_format,
        certificates_last_as_long_as_told,
    ]
}

/// A configuration folder of its own, and a home where nothing is.
struct Desk {
    folder: Folder,
}

impl Desk {
    fn new() -> Desk {
        Desk {
            folder: Folder::new("contexts"),
        }
    }

    fn at(&self, name: &str) -> String {
        self.folder.at(name)
    }

    fn run(&self, program: PathBuf, arguments: &[&str]) -> Run {
        let mut run = Run::new(&program, arguments);
        for (variable, value) in [
            ("HOME", self.at("home")),
            ("IECHOR_CONFIG", self.at("config")),
            ("DOCKER_CONFIG", self.at("docker")),
            ("IECHOR_HOST", String::new()),
            ("DOCKER_HOST", String::new()),
        ] {
            run = run.env(variable, &value);
        }
        run
    }

    fn iechor(&self, arguments: &[&str]) -> Run {
        self.run(binary("iechor"), arguments)
    }

    fn docker(&self, arguments: &[&str]) -> Run {
        self.run(harness::tools::docker(), arguments)
    }

    /// Does it say which daemon it means? A daemon's name is that of no other.
    fn reaches(&self, world: &World, arguments: &[&str]) {
        let words = [arguments, &["info", "--format", "{{.ID}}"]].concat();
        let found = self.iechor(&words).output().ok();
        let info = world.server.get("/info").expect(200).json();
        assert_eq!(found.trim(), info["ID"].as_str().unwrap(), "{words:?}");
    }
}

/// One that nobody listens on at this moment.
fn contexts_name_daemons(world: &World) {
    let desk = Desk::new();
    let endpoint = format!("host={}", world.host());
    let made = desk
        .iechor(&[
            "context",
            "create",
            "box",
            "--description",
            "a box",
            "--docker",
            &endpoint,
        ])
        .output();
    assert_eq!(made.err.trim(), "Successfully created context \"box\"");
    assert_eq!(made.ok().trim(), "box");
    desk.reaches(world, &["--context", "box"]);
    desk.reaches(world, &["-c", "box"]);
    assert_eq!(desk.iechor(&["context", "show"]).output().ok().trim(), "default");
    let used = desk.iechor(&["context", "use", "box"]).output();
    assert_eq!(used.err.trim(), "Current context is now \"box\"");
    desk.reaches(world, &[]);
    assert_eq!(desk.iechor(&["context", "show"]).output().ok().trim(), "box");
    let listed = desk.iechor(&["context", "ls"]).output().ok();
    let row = listed.lines().find(|line| line.starts_with("box *")).expect(&listed);
    assert!(row.contains("a box") && row.contains(world.host()), "{listed}");
    assert_eq!(
        desk.iechor(&["context", "ls", "-q"]).output().lines(),
        ["default", "box"]
    );
    // A host that is named wins over it, and it is said that it does; a context that is named wins over the variable.
    let other = "unix:///no/such/socket";
    assert_eq!(desk.iechor(&["ps"]).env("IECHOR_HOST", other).output().code, 1);
    let warned = desk
        .iechor(&["context", "use", "box"])
        .env("DOCKER_HOST", other)
        .output();
    assert!(
        warned.err.contains("DOCKER_HOST environment variable overrides"),
        "{}",
        warned.err
    );
    desk.iechor(&["-c", "box", "ps"])
        .env("IECHOR_HOST", other)
        .output()
        .ok();
    desk.iechor(&["ps"]).env("IECHOR_CONTEXT", "box").output().ok();
    let both = desk.iechor(&["-c", "box", "-H", other, "ps"]).output();
    assert!(
        both.code != 0 && both.err.contains("cannot specify both"),
        "{}",
        both.err
    );
    let missing = desk.iechor(&["-c", "nowhere", "ps"]).output();
    assert!(
        missing.code != 0 && missing.err.contains("context not found"),
        "{}",
        missing.err
    );
    desk.iechor(&["context", "use", "default"]).output().ok();
    assert_eq!(desk.iechor(&["context", "show"]).output().ok().trim(), "default");
}

fn contexts_are_changed_and_removed(_: &World) {
    let desk = Desk::new();
    let refused = |arguments: &[&str], words: &str| {
        let out = desk.iechor(arguments).output();
        assert!(out.code != 0 && out.err.contains(words), "{arguments:?}: {}", out.err);
    };
    desk.iechor(&["context", "create", "one", "--docker", "host=tcp://h:1"])
        .output()
        .ok();
    refused(&["context", "create", "one"], "already exists");
    refused(&["context", "create", "default"], "reserved context name");
    refused(&["context", "create", "../one"], "is invalid");
    refused(&["context", "create", "two", "--docker", "host=gopher://h"], "gopher");
    refused(
        &["context", "create", "two", "--docker", "host=tcp://h,ca=/no/such/file"],
        "/no/such/file",
    );
    refused(&["context", "create", "two", "--docker", "colour=red"], "colour");
    refused(&["context", "update", "two", "--description", "x"], "context not found");
    desk.iechor(&["context", "update", "one", "--description", "new"])
        .output()
        .ok();
    let shown = desk
        .iechor(&[
            "context",
            "inspect",
            "one",
            "-f",
            "{{.Metadata.Description}} {{.Endpoints.docker.Host}}",
        ])
        .output()
        .ok();
    assert_eq!(shown.trim(), "new tcp://h:1");
    desk.iechor(&["context", "create", "three", "--from", "one"])
        .output()
        .ok();
    desk.iechor(&["context", "use", "three"]).output().ok();
    refused(&["context", "rm", "three"], "is in use");
    refused(&["context", "rm", "default"], "cannot be removed");
    desk.iechor(&["context", "rm", "-f", "three", "one", "missing"])
        .output()
        .ok();
    assert_eq!(desk.iechor(&["context", "show"]).output().ok().trim(), "default");
    assert_eq!(desk.iechor(&["context", "ls", "-q"]).output().lines(), ["default"]);
}

/// docker's own client can use what ours exports, and the other way round.
fn contexts_go_to_docker_and_back(world: &World) {
    let desk = Desk::new();
    let endpoint = format!("host={}", world.host());
    let file = desk.at("box.tar");
    desk.iechor(&["context", "create", "box", "--description", "d", "--docker", &endpoint])
        .output()
        .ok();
    desk.iechor(&["context", "export", "box", &file]).output().ok();
    assert!(
        desk.iechor(&["context", "export", "box", &file]).output().code != 0,
        "it is not overwritten"
    );
    desk.docker(&["context", "import", "taken", &file]).output().ok();
    desk.docker(&["--context", "taken", "ps"]).output().ok();
    let back = desk.at("back.tar");
    desk.docker(&["context", "export", "taken", &back]).output().ok();
    desk.iechor(&["context", "import", "back", &back]).output().ok();
    desk.reaches(world, &["-c", "back"]);
    // By pipes as well.
    let piped = desk.iechor(&["context", "export", "box", "-"]).output();
    assert_eq!(piped.code, 0);
    desk.iechor(&["context", "import", "piped", "-"])
        .input(piped.bytes)
        .output()
        .ok();
    desk.reaches(world, &["-c", "piped"]);
}

fn hostile_archives_are_no_contexts(_: &World) {
    let desk = Desk::new();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(4);
    header.set_mode(0o600);
    header.as_mut_bytes()[..18].copy_from_slice(b"tls/docker/../../x");
    header.set_cksum();
    tar.append(&header, &b"evil"[..]).unwrap();
    for bytes in [
        tar.into_inner().unwrap(),
        b"no tar at all".to_vec(),
        b"PK\x03\x04".to_vec(),
        Vec::new(),
    ] {
        let out = desk.iechor(&["context", "import", "evil", "-"]).input(bytes).output();
        assert!(out.code != 0 && !out.err.is_empty(), "{}", out.err);
    }
    assert_eq!(desk.iechor(&["context", "ls", "-q"]).output().lines(), ["default"]);
}

/// `system certs` makes all of it; who has no certificate of that authority gets no answer.
fn a_daemon_on_tcp_knows_its_clients(_: &World) {
    let desk = Desk::new();
    for folder in ["certs", "others"] {
        let out = desk
            .iechor(&["system", "certs", "--host", "127.0.0.1", &desk.at(folder)])
            .output()
            .ok();
        assert!(out.contains("--tlsverify"), "{out}");
    }
    let file = |folder: &str, name: &str| desk.at(&format!("{folder}/{name}"));
    for key in ["ca-key.pem", "server-key.pem", "key.pem"] {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(
            std::fs::metadata(file("certs", key)).unwrap().mode() & 0o777,
            0o600,
            "{key}"
        );
    }
    let port = free_port();
    let daemon = Daemon::start(Options {
        arguments: vec![
            "--tlsverify".to_owned(),
            format!("--tlscacert={}", file("certs", "ca.pem")),
            format!("--tlscert={}", file("certs", "server-cert.pem")),
            format!("--tlskey={}", file("certs", "server-key.pem")),
            "--host".to_owned(),
            format!("tcp://127.0.0.1:{port}"),
        ],
        ..Options::default()
    });
    let host = format!("tcp://127.0.0.1:{port}");
    let endpoint = |folder: &str, files: &[(&str, &str)]| {
        files.iter().fold(format!("host={host}"), |text, (key, name)| {
            format!("{text},{key}={}", file(folder, name))
        })
    };
    let all = [("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")];
    for (name, folder, files, fine) in [
        ("right", "certs", &all[..], true),
        ("stranger", "others", &all[..], false),
        ("nobody", "certs", &all[..1], false),
    ] {
        desk.iechor(&["context", "create", name, "--docker", &endpoint(folder, files)])
            .output()
            .ok();
        assert_eq!(desk.iechor(&["-c", name, "ps"]).output().code == 0, fine, "{name}");
    }
    // Not with our certificate towards a daemon that we do not know, either.
    let mixed = format!(
        "host={host},ca={},cert={},key={}",
        file("others", "ca.pem"),
        file("certs", "cert.pem"),
        file("certs", "key.pem")
    );
    desk.iechor(&["context", "create", "mixed", "--docker", &mixed])
        .output()
        .ok();
    assert!(desk.iechor(&["-c", "mixed", "ps"]).output().code != 0);
    // The unmodified client, by flags and by the context that ours exports.
    let flags = [
        format!("--tlscacert={}", file("certs", "ca.pem")),
        format!("--tlscert={}", file("certs", "cert.pem")),
        format!("--tlskey={}", file("certs", "key.pem")),
    ];
    let words = ["-H", &host, "--tlsverify", &flags[0], &flags[1], &flags[2], "version"];
    desk.docker(&words).output().ok();
    desk.iechor(&words).output().ok();
    let exported = desk.iechor(&["context", "export", "right", "-"]).output();
    desk.docker(&["context", "import", "right", "-"])
        .input(exported.bytes)
        .output()
        .ok();
    desk.docker(&["--context", "right", "ps"]).output().ok();
    let plain = desk.iechor(&["-H", &host, "ps"]).output();
    assert!(plain.code != 0, "without TLS there is no answer");
    daemon.finish();
}

fn certificates_are_not_replaced(_: &World) {
    let desk = Desk::new();
    let folder = desk.at("certs");
    let make = || desk.iechor(&["system", "certs", &folder]).output();
    let content = |name: &str| std::fs::read(desk.at(&format!("certs/{name}"))).unwrap();
    make().ok();
    let before = (content("ca.pem"), content("server-cert.pem"));
    // A second client of the same authority.
    for name in ["cert.pem", "key.pem"] {
        std::fs::rename(desk.at(&format!("certs/{name}")), desk.at(&format!("certs/old-{name}"))).unwrap();
    }
    make().ok();
    assert_eq!((content("ca.pem"), content("server-cert.pem")), before);
    assert_ne!(content("cert.pem"), content("old-cert.pem"));
    std::fs::remove_file(desk.at("certs/key.pem")).unwrap();
    let out = make();
    assert!(out.code != 0 && out.err.contains("key.pem is not"), "{}", out.err);
    let bad = desk
        .iechor(&["system", "certs", "--host", "a b", &desk.at("bad")])
        .output();
    assert!(bad.code != 0 && bad.err.contains("neither a host name"), "{}", bad.err);
}

fn contexts_in_a_format(_: &World) {
    let desk = Desk::new();
    let words = [
        "context",
        "create",
        "one",
        "--description",
        "first",
        "--docker",
        "host=tcp://h:1",
    ];
    desk.iechor(&words).output().ok();
    desk.iechor(&["context", "use", "one"]).output().ok();
    let shown = |format: &str| desk.iechor(&["context", "ls", "--format", format]).output().ok();
    assert_eq!(
        shown("{{.Name}}|{{.Description}}|{{.DockerEndpoint}}|{{.Current}}")
            .lines()
            .last(),
        Some("one|first|tcp://h:1|true")
    );
    // docker's client says the same of its own.
    let theirs = |words: &[&str]| desk.docker(&[&["context"], words].concat()).output().ok();
    theirs(&["create", "one", "--description", "first", "--docker", "host=tcp://h:1"]);
    theirs(&["use", "one"]);
    for format in ["{{.Name}} {{.DockerEndpoint}} {{.Current}} {{.Error}}", "json"] {
        let last = |text: String| text.lines().last().unwrap().to_owned();
        assert_eq!(
            last(shown(format)),
            last(theirs(&["ls", "--format", format])),
            "{format}"
        );
    }
    let table = shown("table {{.Name}}\t{{.DockerEndpoint}}");
    assert!(table.starts_with("NAME") && table.contains("ENDPOINT"), "{table}");
    assert!(table.lines().any(|line| line.starts_with("one *")), "{table}");
    let bad = desk.iechor(&["context", "ls", "--format", "{{.Colour}}"]).output();
    assert!(bad.code != 0 && bad.err.contains("Colour"), "{}", bad.err);
}

/// The day on which a certificate's time is over: `YYMMDD`, of the second of its two dates (`YYMMDDhhmmssZ`).
fn last_day(file: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let der = Run::new("base64".as_ref(), &["-d"]).input(body).output().bytes;
    let is_date = |bytes: &[u8]| bytes.starts_with(&[0x17, 13]) && bytes[14] == b'Z';
    let dates: Vec<&[u8]> = der.windows(15).filter(|bytes| is_date(bytes)).collect();
    assert_eq!(dates.len(), 2, "{file}");
    String::from_utf8(dates[1][2..8].to_vec()).unwrap()
}

fn in_days(days: u32) -> String {
    let words = ["-u", "-d", &format!("{days} days"), "+%y%m%d"];
    Run::new("date".as_ref(), &words).output().ok()
}

fn certificates_last_as_long_as_told(_: &World) {
    let desk = Desk::new();
    for (flags, folder, days) in [(&["--days", "7"][..], "week", 7), (&[], "usual", 825)] {
        let before = in_days(days);
        let path = desk.at(folder);
        let words = [&["system", "certs"], flags, &[&path]].concat();
        desk.iechor(&words).output().ok();
        // It may be midnight meanwhile.
        let fine = [before, in_days(days)];
        for file in ["ca.pem", "server-cert.pem", "cert.pem"] {
            let last = last_day(&desk.at(&format!("{folder}/{file}")));
            assert!(fine.contains(&last), "{folder}/{file}: {last}, not {fine:?}");
        }
    }
    for wrong in ["0", "-1", "36501", "soon"] {
        let folder = desk.at("wrong");
        let said = desk
            .iechor(&["system", "certs", &format!("--days={wrong}"), &folder])
            .output();
        assert!(said.code != 0 && said.err.contains("--days"), "{wrong}: {}", said.err);
        assert!(!std::path::Path::new(&folder).exists(), "{wrong}");
    }
}

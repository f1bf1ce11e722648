//! Logging in to a registry and searching one, through the daemon.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use harness::tools::Folder;
use harness::{Test, tests};
use serde_json::{Value, json};

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        login_is_checked_by_the_registry,
        login_is_stored_and_forgotten,
        login_takes_a_password_as_a_flag,
        login_uses_a_credential_helper,
        login_to_nobody_says_so,
        search_shows_what_the_registry_has,
        search_filters_and_limits,
        search_of_a_registry_that_has_none,
        credentials_of_a_request_go_to_the_registry,
    ]
}

/// `me:secret` in base64.
const GOOD: &str = "Basic bWU6c2VjcmV0";

/// A registry that knows one user and, perhaps, a search.
pub struct Fake {
    pub address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub fn start(searchable: bool) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("its address").to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = log.clone();
                std::thread::spawn(move || drop(serve(&stream, searchable, &log)));
            }
        });
        Fake { address, requests }
    }

    fn asked(&self, part: &str) -> bool {
        self.requests.lock().unwrap().iter().any(|line| line.contains(part))
    }
}

fn serve(mut stream: &TcpStream, searchable: bool, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut authorization = String::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if line.to_ascii_lowercase().starts_with("authorization:") {
                authorization = line[14..].trim().to_owned();
            }
        }
        log.lock().unwrap().push(format!("{} {authorization}", first.trim()));
        let target = first.split(' ').nth(1).unwrap_or_default();
        let (status, headers, body) = match target {
            "/v2/" if authorization == GOOD => ("200 OK", "", "{}".to_owned()),
            manifest if manifest.starts_with("/v2/") && authorization == GOOD => (
                "404 Not Found",
                "",
                r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#.to_owned(),
            ),
            other if other.starts_with("/v2/") => (
                "401 Unauthorized",
                "WWW-Authenticate: Basic realm=\"test\"\r\n",
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}"#.to_owned(),
            ),
            private if private.starts_with("/v1/search?q=private&") && authorization != GOOD => (
                "401 Unauthorized",
                "WWW-Authenticate: Basic realm=\"test\"\r\n",
                "{}".to_owned(),
            ),
            search if searchable && search.starts_with("/v1/search?") => ("200 OK", "", found().to_string()),
            _ => ("404 Not Found", "", "404 page not found".to_owned()),
        };
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        )?;
    }
}

fn found() -> Value {
    let one = |name: &str, stars: i64, official: bool| {
        json!({"name": name, "description": format!("about\n{name}"), "star_count": stars,
            "is_official": official, "is_automated": true, "unknown": [1]})
    };
    json!({"query": "x", "num_results": 3, "results": [one("busybox", 3000, true), one("a/busybox", 20, false), one("b/busybox", 0, false)]})
}

fn login_is_checked_by_the_registry(world: &World) {
    let registry = Fake::start(false);
    let ask = |password: &str, server: &str| {
        let body = json!({"username": "me", "password": password, "serveraddress": server});
        world.server.post("/auth", &body)
    };
    for server in [registry.address.clone(), format!("http://{}/v1/", registry.address)] {
        let good = ask("secret", &server).expect(200).json();
        assert_eq!(good["Status"], "Login Succeeded", "{good}");
    }
    let bad = ask("wrong", &registry.address);
    assert_eq!(bad.status, 401, "{}", bad.message());
    assert!(
        world.is_foreign() || bad.message().contains("incorrect username or password"),
        "{}",
        bad.message()
    );
    assert!(!bad.message().contains("wrong"), "no secret in an answer");
    assert_eq!(ask("secret", "not a host").status, 400);
    let error = world
        .command(&["login", "-u", "me", "--password-stdin", &registry.address])
        .input("wrong")
        .output();
    assert!(
        error.code != 0 && error.err.contains("incorrect username or password"),
        "{}",
        error.err
    );
}

fn login_is_stored_and_forgotten(world: &World) {
    let registry = Fake::start(false);
    let folder = Folder::new("login");
    std::fs::write(folder.at("config.json"), r#"{"detachKeys":"ctrl-a"}"#).unwrap();
    let with = |arguments: &[&str]| {
        world
            .command(arguments)
            .env("DOCKER_CONFIG", folder.path().to_str().unwrap())
            .env("IECHOR_CONFIG", folder.path().to_str().unwrap())
    };
    let out = with(&["login", "-u", "me", "--password-stdin", &registry.address])
        .input("secret\n")
        .output()
        .ok();
    assert!(out.contains("Login Succeeded"), "{out}");
    let read = || -> Value { serde_json::from_slice(&std::fs::read(folder.at("config.json")).unwrap()).unwrap() };
    assert_eq!(read()["auths"][&registry.address]["auth"], GOOD[6..]);
    assert_eq!(read()["detachKeys"], "ctrl-a");
    let again = with(&["login", &registry.address]).output();
    assert_eq!(again.code, 0, "{}", again.err);
    let said = format!("{}{}", again.out, again.err);
    assert!(said.contains("existing credentials"), "{said}");
    let out = with(&["logout", &registry.address]).output().ok();
    assert!(
        out.contains(&format!("Removing login credentials for {}", registry.address)),
        "{out}"
    );
    assert!(read()["auths"].get(&registry.address).is_none());
    let again = with(&["logout", &registry.address]).output();
    // The docker client says that it removes them, whether or not there are any.
    assert!(
        world.cli == harness::daemon::Cli::Docker || again.out.contains("Not logged in"),
        "{}",
        again.out
    );
    // Nobody is there to ask.
    let error = with(&["login", &registry.address]).output();
    assert!(error.code != 0 && error.err.contains("TTY"), "{}", error.err);
}

fn login_takes_a_password_as_a_flag(world: &World) {
    let registry = Fake::start(false);
    let folder = Folder::new("password");
    let with = |password: &str| {
        let words = ["login", "--username", "me", "--password", password, &registry.address];
        world
            .command(&words)
            .env("DOCKER_CONFIG", folder.path().to_str().unwrap())
            .env("IECHOR_CONFIG", folder.path().to_str().unwrap())
            .output()
    };
    let refused = with("wrong");
    assert!(
        refused.code != 0 && refused.err.contains("incorrect username or password"),
        "{}",
        refused.err
    );
    let taken = with("secret");
    assert!(
        taken.err.contains("--password via the CLI is insecure"),
        "{}",
        taken.err
    );
    assert!(taken.ok().contains("Login Succeeded"));
    let stored: Value = serde_json::from_slice(&std::fs::read(folder.at("config.json")).unwrap()).unwrap();
    assert_eq!(stored["auths"][&registry.address]["auth"], GOOD[6..]);
}

fn login_uses_a_credential_helper(world: &World) {
    let registry = Fake::start(false);
    let folder = Folder::new("helper");
    let script = format!(
        "#!/bin/sh\nverb=$1; input=$(cat); echo \"$verb $input\" >> {log}\ncase $verb in\nlist) echo '{{\"{address}\":\"me\"}}';;\nget) echo '{{\"ServerURL\":\"{address}\",\"Username\":\"me\",\"Secret\":\"secret\"}}';;\nesac\n",
        log = folder.at("log"),
        address = registry.address
    );
    let program = folder.at("docker-credential-testhelper");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(folder.at("config.json"), r#"{"credsStore":"testhelper"}"#).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let with = |arguments: &[&str]| {
        world
            .command(arguments)
            .env("PATH", &path)
            .env("DOCKER_CONFIG", folder.path().to_str().unwrap())
            .env("IECHOR_CONFIG", folder.path().to_str().unwrap())
    };
    with(&["login", "-u", "me", "--password-stdin", &registry.address])
        .input("secret")
        .output()
        .ok();
    with(&["logout", &registry.address]).output().ok();
    let log = std::fs::read_to_string(folder.at("log")).unwrap();
    let stored = log
        .lines()
        .find_map(|line| line.strip_prefix("store "))
        .expect("a store");
    let stored: Value = serde_json::from_str(stored).unwrap();
    assert_eq!(
        stored,
        json!({"ServerURL": registry.address, "Username": "me", "Secret": "secret"})
    );
    assert!(log.contains(&format!("erase {}", registry.address)), "{log}");
    let file = std::fs::read_to_string(folder.at("config.json")).unwrap();
    assert!(!file.contains(&GOOD[6..]) && file.contains("testhelper"), "{file}");
}

fn login_to_nobody_says_so(world: &World) {
    let body = json!({"username": "me", "password": "p", "serveraddress": "127.0.0.1:1"});
    let reply = world.server.post("/auth", &body);
    assert_eq!(reply.status, 500);
    assert!(reply.message().contains("refused"), "{}", reply.message());
}

fn search_shows_what_the_registry_has(world: &World) {
    let registry = Fake::start(true);
    let term = format!("{}/busy box&n=1", registry.address);
    let out = world.run(&["search", "--no-trunc", &term]).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[0].contains("STARS"), "{out}");
    assert_eq!(lines.len(), 4, "{out}");
    assert!(
        lines[1].contains("3000") && lines[1].contains("[OK]") && lines[1].contains("about busybox"),
        "{out}"
    );
    assert!(
        registry.asked("GET /v1/search?q=busy+box%26n%3D1&n=25"),
        "{:?}",
        registry.requests
    );
    let rows = world
        .server
        .get(&format!("/images/search?term={}/x&limit=2", registry.address))
        .expect(200)
        .json();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!(
        rows[0],
        json!({"star_count": 3000, "is_official": true, "name": "busybox", "is_automated": false, "description": "about\nbusybox"})
    );
}

fn search_filters_and_limits(world: &World) {
    let registry = Fake::start(true);
    let term = format!("{}/x", registry.address);
    let names = |filters: &[&str]| -> Vec<String> {
        let mut arguments = vec!["search", "--format", "{{.Name}}"];
        for filter in filters {
            arguments.extend(["--filter", filter]);
        }
        arguments.push(&term);
        world.run(&arguments).ok().lines().map(str::to_owned).collect()
    };
    assert_eq!(names(&["stars=10"]), ["busybox", "a/busybox"]);
    assert_eq!(names(&["is-official=true"]), ["busybox"]);
    assert_eq!(names(&["is-official=false", "stars=1"]), ["a/busybox"]);
    assert_eq!(names(&["is-automated=true"]).len(), 0);
    let few = world
        .run(&["search", "--limit", "2", "--format", "{{.Name}}", &term])
        .ok();
    assert_eq!(few, "busybox\na/busybox");
    assert!(registry.asked("GET /v1/search?q=x&n=2 "), "{:?}", registry.requests);
    let status = |query: &str| world.server.get(&format!("/images/search?term={term}&{query}")).status;
    assert_eq!(status("limit=100"), 200);
    for bad in [
        "limit=101",
        "limit=-1",
        "limit=x",
        "filters=%7B%22stars%22%3A%5B%22x%22%5D%7D",
        "filters=%7B%22colour%22%3A%5B%22x%22%5D%7D",
    ] {
        assert_eq!(status(bad), 400, "{bad}");
    }
    assert_eq!(world.server.get("/images/search").status, 400);
}

fn search_of_a_registry_that_has_none(world: &World) {
    let registry = Fake::start(false);
    let error = world.run(&["search", &format!("{}/x", registry.address)]);
    assert!(error.code != 0, "{}", error.out);
    assert!(
        world.is_foreign() || error.err.contains("has no search API") && error.err.contains(&registry.address),
        "{}",
        error.err
    );
}

/// What `X-Registry-Auth` carries is what a registry hears that wants to know, and nothing is heard without it.
fn credentials_of_a_request_go_to_the_registry(world: &World) {
    // `me` and `secret`, as clients encode them.
    let own = [(
        "X-Registry-Auth",
        "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQifQ==",
    )];
    for (headers, known) in [(&own[..], true), (&[], false)] {
        let registry = Fake::start(true);
        let pull = format!("/images/create?fromImage={}/x&tag=1", registry.address);
        let said = world.server.send("POST", &pull, headers, &[]).message();
        assert_eq!(said.contains("manifest unknown"), known, "{said}");
        let search = format!("/images/search?term={}/private", registry.address);
        let found = world.server.send("GET", &search, headers, &[]);
        assert_eq!(found.status == 200, known, "{}", found.text());
        for asked in ["/v2/x/manifests/1", "/v1/search?q=private&n=25"] {
            assert!(registry.asked(asked), "{asked}: {:?}", registry.requests);
            let with = format!("{asked} HTTP/1.1 {GOOD}");
            assert_eq!(registry.asked(&with), known, "{with}: {:?}", registry.requests);
        }
    }
}

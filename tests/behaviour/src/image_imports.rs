//! `import` of what a web server has.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::image::Image;
use harness::tools::{eventually, tag};
use harness::{Test, tests};
use serde_json::Value;

use crate::world::World;

pub fn everyday() -> Vec<Test<World>> {
    tests![
        an_address_becomes_an_image,
        an_address_with_a_password_shows_it_to_nobody,
        what_no_address_has_is_refused,
        redirects_lead_not_from_elsewhere_to_this_machine,
        a_client_that_leaves_ends_the_download,
    ]
}

/// A web server with busybox' files, until the test program ends.
struct Web {
    address: String,
    /// The endless file was asked for, and whoever asked has gone.
    left: Arc<AtomicBool>,
}

impl Web {
    fn at(host: &str) -> Web {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let left = Arc::new(AtomicBool::new(false));
        let web = Web {
            address,
            left: left.clone(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let left = left.clone();
                std::thread::spawn(move || answer(stream, &left));
            }
        });
        web
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn answer(mut stream: TcpStream, left: &AtomicBool) -> std::io::Result<()> {
    let mut head = Vec::new();
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let layer = Image::busybox().layers[0].clone();
    // `me:secret` in base64.
    let known = head
        .iter()
        .any(|line| line.eq_ignore_ascii_case("authorization: Basic bWU6c2VjcmV0"));
    let mut say = |status: &str, more: &str, length: usize, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n");
        stream.write_all(&[head.as_bytes(), body].concat())
    };
    match path.split_once('?').map_or(path, |(path, _)| path) {
        "/tree.tar" => say("200 OK", "", layer.len(), &layer),
        "/private.tar" if known => say("200 OK", "", layer.len(), &layer),
        "/private.tar" => say("401 Unauthorized", "", 0, b""),
        "/broken.tar" => say("200 OK", "", layer.len(), &layer[..layer.len() / 2]),
        "/page" => say("200 OK", "Content-Type: text/html\r\n", 13, b"<html></html>"),
        "/moved" => say("302 Found", "Location: /tree.tar\r\n", 0, b""),
        "/back" => {
            let to = path.split_once('?').map_or("", |(_, to)| to);
            say("302 Found", &format!("Location: {to}\r\n"), 0, b"")
        }
        "/stalls" => {
            say("200 OK", "", 1 << 40, &vec![b'x'; 4 << 20])?;
            // Until the other side has enough of it.
            std::io::Read::read(&mut stream, &mut [0]).map(drop)
        }
        "/endless.tar" => {
            let told = say("200 OK", "", 1 << 40, &layer);
            let zeros = vec![0; 64 * 1024];
            while told.is_ok() && stream.write_all(&zeros).is_ok() {}
            left.store(true, Ordering::SeqCst);
            Ok(())
        }
        _ => say("404 Not Found", "", 13, b"no such file\n"),
    }
}

fn named() -> String {
    format!("imported:{}", tag())
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn records(text: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(text)
        .into_iter()
        .map(|record| record.unwrap())
        .collect()
}

fn create(world: &World, source: &str, name: &str) -> harness::http::Reply {
    let (repository, tag) = name.split_once(':').unwrap_or((name, ""));
    let target = format!("/images/create?fromSrc={}&repo={repository}&tag={tag}", encoded(source));
    world.server.call("POST", &target, None)
}

fn has(world: &World, name: &str) -> bool {
    world.server.get(&format!("/images/{name}/json")).status == 200
}

fn an_address_becomes_an_image(world: &World) {
    let (web, name) = (Web::at("127.0.0.1"), named());
    let url = web.url("/moved");
    let out = world
        .run(&["import", "-c", "CMD [\"echo\", \"fetched\"]", &url, &name])
        .ok();
    assert!(out.contains(&format!("Downloading from {url}")), "{out}");
    // How far it is belongs on a terminal.
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.len() == 2 && lines[1].contains("sha256:"), "{out}");
    assert_eq!(world.run(&["run", "--rm", &name]).ok(), "fetched");
    let history = world.server.get(&format!("/images/{name}/history")).expect(200).json();
    assert_eq!(history[0]["Comment"], format!("Imported from {url}"));
    world.run(&["rmi", &name]).ok();
    // Without a scheme it is HTTP; what has come is told, to the last byte.
    let reply = create(world, &format!("{}/tree.tar?v=1", web.address), &name).expect(200);
    let said = records(&reply.text());
    assert_eq!(
        said[0]["status"],
        format!("Downloading from {}", web.url("/tree.tar?v=1"))
    );
    let length = Image::busybox().layers[0].len();
    let progress = &said[said.len() - 2];
    assert_eq!(progress["status"], "Importing");
    assert_eq!(
        progress["progressDetail"],
        serde_json::json!({ "current": length, "total": length })
    );
    assert!(said.last().unwrap()["status"].as_str().unwrap().starts_with("sha256:"));
    world.run(&["rmi", &name]).ok();
}

fn an_address_with_a_password_shows_it_to_nobody(world: &World) {
    let (web, name) = (Web::at("127.0.0.1"), named());
    let source = format!("http://me:secret@{}/private.tar", web.address);
    let reply = create(world, &source, &name).expect(200);
    assert!(has(world, &name), "{}", reply.text());
    let history = world.server.get(&format!("/images/{name}/history")).expect(200);
    for text in [reply.text(), history.text()] {
        assert!(
            text.contains(&web.url("/private.tar")) && !text.contains("secret"),
            "{text}"
        );
    }
    world.run(&["rmi", &name]).ok();
    let refused = create(world, &web.url("/private.tar"), &name).expect(401).message();
    assert!(refused.contains("401 Unauthorized"), "{refused}");
}

fn what_no_address_has_is_refused(world: &World) {
    let (web, name) = (Web::at("127.0.0.1"), named());
    let absent = web.url("/absent.tar");
    let words = format!("failed to GET {absent} with status 404 Not Found: no such file");
    let said = world.run(&["import", &absent, &name]).fails(1);
    assert!(said.contains(&words), "{said}");
    assert_eq!(create(world, &absent, &name).expect(404).message(), words);
    for source in [
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "unix:///var/run/docker.sock",
        "http://",
    ] {
        let said = create(world, source, &name).expect(400).message();
        assert!(said.contains("cannot download from this address"), "{said}");
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = create(world, &format!("http://{port}/x"), &name).expect(500).message();
    assert!(said.contains("connection refused"), "{said}");
    // What is wrong with the request itself is said before anybody is asked.
    create(world, &absent, "UPPER:x").expect(400);
    let begin = Instant::now();
    for (path, words) in [
        ("/broken.tar", "unexpected EOF"),
        ("/page", "the archive is refused"),
        ("/stalls", "the archive is refused"),
    ] {
        let said = records(&create(world, &web.url(path), &name).expect(200).text());
        let failure = said.last().unwrap()["error"].as_str().unwrap_or_default().to_owned();
        assert!(failure.contains(words), "{path}: {said:?}");
        let said = world.run(&["import", &web.url(path), &name]).fails(1);
        assert!(said.contains(words), "{path}: {said}");
        assert!(!has(world, &name), "{path}");
    }
    // What is no archive is refused at once, and not when the server's silence is over (30 s each time).
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
}

fn redirects_lead_not_from_elsewhere_to_this_machine(world: &World) {
    let (container, _) = world.sleeper(&[]);
    let gateway = world.gateway_of(&container);
    let (here, elsewhere, name) = (Web::at("127.0.0.1"), Web::at(&gateway), named());
    let source = elsewhere.url(&format!("/back?{}", here.url("/tree.tar")));
    let said = create(world, &source, &name).message();
    assert!(said.contains("refused to follow it to this machine"), "{said}");
    assert!(!has(world, &name));
    // The other way it may.
    let source = here.url(&format!("/back?{}", elsewhere.url("/tree.tar")));
    create(world, &source, &name).expect(200);
    assert!(has(world, &name));
    world.run(&["rmi", &name]).ok();
}

fn a_client_that_leaves_ends_the_download(world: &World) {
    let (web, name) = (Web::at("127.0.0.1"), named());
    let mut client = world.server.connect();
    let source = encoded(&web.url("/endless.tar"));
    let line =
        format!("POST /images/create?fromSrc={source}&repo={name} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    client.write_all(line.as_bytes()).unwrap();
    let mut lines = BufReader::new(client).lines().map(|line| line.unwrap());
    assert!(lines.any(|line| line.contains("Importing")));
    assert!(!web.left.load(Ordering::SeqCst));
    drop(lines);
    eventually("the server is left", 20, || web.left.load(Ordering::SeqCst));
    assert!(!has(world, &name));
}

//! Remote log drivers, against small servers of the test's own.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::daemon::Daemon;
use harness::tools::{Folder, eventually};
use harness::{Test, tests};

use crate::logs::Nothing;

pub fn tests() -> Vec<Test<Nothing>> {
    tests![
        syslog_over_every_transport,
        gelf_over_udp_and_tcp,
        fluentd_with_acknowledgements,
        journald_gets_fields,
        logs_can_be_read_though_they_are_sent_away,
        a_dead_server_blocks_nobody_and_loses_nothing,
        lines_written_while_the_daemon_was_away_are_sent,
        non_blocking_gives_up_the_oldest_lines,
    ]
}

fn daemon() -> Daemon {
    crate::logs::daemon(&[])
}

/// What a server received, in order.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<u8>>>);

impl Received {
    fn add(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn expect(&self, what: &str) -> String {
        eventually(what, 20, || self.text().contains(what));
        self.text()
    }
}

fn serve(mut accept: impl FnMut() -> std::io::Result<Box<dyn Stream>> + Send + 'static) -> Received {
    let received = Received::default();
    let to = received.clone();
    std::thread::spawn(move || {
        while let Ok(mut stream) = accept() {
            let to = to.clone();
            std::thread::spawn(move || {
                let mut block = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut block) {
                    to.add(&block[..count]);
                }
            });
        }
    });
    received
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

fn tcp(listener: TcpListener) -> Received {
    serve(move || Ok(Box::new(listener.accept()?.0)))
}

fn datagrams(mut receive: impl FnMut(&mut [u8]) -> std::io::Result<usize> + Send + 'static) -> Received {
    let received = Received::default();
    let to = received.clone();
    std::thread::spawn(move || {
        let mut block = vec![0; 256 * 1024];
        while let Ok(count) = receive(&mut block) {
            to.add(&block[..count]);
        }
    });
    received
}

fn run(daemon: &Daemon, driver: &str, options: &[&str], line: &str) -> String {
    let name = harness::tools::tag();
    let options: Vec<&str> = options.iter().flat_map(|option| ["--log-opt", option]).collect();
    let arguments = [
        &[
            "run",
            "-d",
            "--name",
            &name,
            "-l",
            "colour=blue",
            "--log-driver",
            driver,
        ],
        &options[..],
        &["busybox", "sh", "-c", line],
    ];
    daemon.docker(&arguments.concat()).ok();
    name
}

fn syslog_over_every_transport(_: &Nothing) {
    let daemon = daemon();
    let folder = Folder::new("syslog");
    let line = "echo hello out; sleep 0.1; echo hello err >&2";

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("syslog-address=tcp://{}", listener.local_addr().unwrap());
    let received = tcp(listener);
    let name = run(
        &daemon,
        "syslog",
        &[
            &address,
            "syslog-facility=local3",
            "syslog-format=rfc5424micro",
            "tag={{.Name}}",
        ],
        line,
    );
    received.expect("hello out");
    let text = received.expect("hello err");
    let lines: Vec<&str> = text.lines().collect();
    // local3 is 19: 19 * 8 + 6 for information, + 3 for errors.
    assert!(
        lines[0].starts_with("<158>1 20") && lines[0].ends_with(" - hello out"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("<155>1 20") && lines[1].contains(&format!(" {name} ")),
        "{text}"
    );

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("syslog-address=udp://{}", socket.local_addr().unwrap());
    let received = datagrams(move |block| socket.recv(block));
    run(
        &daemon,
        "syslog",
        &[&address, "syslog-format=rfc3164", "tag=mine"],
        line,
    );
    let text = received.expect("hello err");
    assert!(
        text.starts_with("<30>") && text.contains(" mine[") && text.contains("]: hello out\n"),
        "{text}"
    );

    let path = folder.at("datagram");
    let socket = UnixDatagram::bind(&path).unwrap();
    let received = datagrams(move |block| socket.recv(block));
    run(&daemon, "syslog", &[&format!("syslog-address=unixgram://{path}")], line);
    assert!(received.expect("hello err").starts_with("<30>"));

    let path = folder.at("stream");
    let listener = UnixListener::bind(&path).unwrap();
    let received = serve(move || Ok(Box::new(listener.accept()?.0)));
    run(&daemon, "syslog", &[&format!("syslog-address=unix://{path}")], line);
    received.expect("hello err");
    daemon.finish();
}

fn gelf_over_udp_and_tcp(_: &Nothing) {
    let daemon = daemon();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("gelf-address=udp://{}", socket.local_addr().unwrap());
    let received = datagrams(move |block| socket.recv(block));
    run(
        &daemon,
        "gelf",
        &[&address, "gelf-compression-type=none", "labels=colour", "tag=x"],
        "echo one; sleep 0.1; echo two >&2",
    );
    received.expect("\"two\"");
    let text = received.text();
    let mut all = serde_json::Deserializer::from_str(&text)
        .into_iter::<serde_json::Value>()
        .map(Result::unwrap);
    let (first, second) = (all.next().unwrap(), all.next().unwrap());
    assert_eq!(
        (&first["version"], &first["short_message"], &first["level"]),
        (&"1.1".into(), &"one".into(), &6.into())
    );
    assert_eq!((&first["_colour"], &first["_tag"]), (&"blue".into(), &"x".into()));
    assert_eq!((&second["short_message"], &second["level"]), (&"two".into(), &3.into()));
    assert!(first["timestamp"].as_f64().unwrap() > 1.7e9);

    // Compressed, and a line that needs several datagrams even so.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = format!("gelf-address=udp://{}", socket.local_addr().unwrap());
    let chunks = Arc::new(Mutex::new(Vec::new()));
    let to = chunks.clone();
    std::thread::spawn(move || {
        let mut block = vec![0; 9000];
        while let Ok(count) = socket.recv(&mut block) {
            to.lock().unwrap().push(block[..count].to_vec());
        }
    });
    run(
        &daemon,
        "gelf",
        &[&address],
        "head -c 9000 /dev/urandom | base64 | tr -d '\\n'; echo",
    );
    let complete = |chunks: &[Vec<u8>]| {
        chunks
            .first()
            .is_some_and(|first| first[..2] == [0x1e, 0x0f] && chunks.len() >= usize::from(first[11]))
    };
    eventually("all chunks are here", 20, || complete(&chunks.lock().unwrap()));
    let joined: Vec<u8> = chunks
        .lock()
        .unwrap()
        .iter()
        .flat_map(|chunk| chunk[12..].to_vec())
        .collect();
    assert_eq!(joined[..2], [0x1f, 0x8b], "gzip");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("gelf-address=tcp://{}", listener.local_addr().unwrap());
    let received = tcp(listener);
    run(&daemon, "gelf", &[&address], "echo one; echo two");
    let text = received.expect("\"two\"");
    assert_eq!(text.matches('\0').count(), 2, "{text}");
    daemon.finish();
}

/// The server answers nothing at first: unacknowledged lines come again.
fn fluentd_with_acknowledgements(_: &Nothing) {
    let daemon = daemon();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("fluentd-address={}", listener.local_addr().unwrap());
    let received = Received::default();
    let to = received.clone();
    std::thread::spawn(move || {
        for attempt in 0.. {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut block = [0; 65536];
            while let Ok(count @ 1..) = stream.read(&mut block) {
                if attempt == 0 {
                    break; // hangs up without an answer
                }
                to.add(&block[..count]);
                // The chunk's name is the last text of the message: 0xb8 is a text of 24 bytes.
                let chunk = &block[count - 24..count];
                let answer = [&[0x81, 0xa3][..], b"ack", &[0xb8], chunk].concat();
                stream.write_all(&answer).unwrap();
            }
        }
    });
    let name = run(
        &daemon,
        "fluentd",
        &[
            &address,
            "fluentd-request-ack=true",
            "fluentd-retry-wait=100ms",
            "tag=docker.{{.Name}}",
            "labels=colour",
            "fluentd-sub-second-precision=true",
        ],
        "echo first line; sleep 0.5; echo second line >&2",
    );
    received.expect("second line");
    let bytes = received.0.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert_eq!(text.matches("first line").count(), 1, "{text}");
    // [tag, [[time, record]…], option]: an array of three, then the tag.
    assert_eq!(bytes[0], 0x93);
    for word in [
        &format!("docker.{name}"),
        &format!("/{name}"),
        "container_id",
        "source",
        "stdout",
        "stderr",
        "colour",
        "blue",
        "chunk",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    // EventTime: an extension of eight bytes of type 0.
    assert!(bytes.windows(2).any(|pair| pair == [0xd7, 0x00]), "{bytes:?}");
    daemon.finish();
}

fn journald_gets_fields(_: &Nothing) {
    let folder = std::path::Path::new("/run/systemd/journal");
    if folder.join("socket").exists() {
        println!("        skipped: this machine has a journald of its own");
        return;
    }
    let made = !folder.exists();
    std::fs::create_dir_all(folder).unwrap();
    let socket = UnixDatagram::bind(folder.join("socket")).unwrap();
    struct Gone(bool);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = std::fs::remove_file("/run/systemd/journal/socket");
            if self.0 {
                let _ = std::fs::remove_dir("/run/systemd/journal");
                let _ = std::fs::remove_dir("/run/systemd");
            }
        }
    }
    let _gone = Gone(made);
    let daemon = daemon();
    let received = datagrams(move |block| socket.recv(block));
    let name = run(
        &daemon,
        "journald",
        &["labels=colour", "tag=t"],
        "echo hello; sleep 0.1; echo oh no >&2",
    );
    received.expect("MESSAGE=hello\n");
    let text = received.expect("MESSAGE=oh no\n");
    for field in [
        &format!("CONTAINER_NAME={name}\n"),
        "CONTAINER_TAG=t\n",
        "COLOUR=blue\n",
        "PRIORITY=6\n",
        "PRIORITY=3\n",
        "IMAGE_NAME=busybox\n",
    ] {
        assert!(text.contains(field), "{field}: {text}");
    }
    daemon.finish();
}

fn logs_can_be_read_though_they_are_sent_away(_: &Nothing) {
    let daemon = daemon();
    let name = run(
        &daemon,
        "gelf",
        &["gelf-address=udp://127.0.0.1:9"],
        "echo one; echo two",
    );
    daemon.docker(&["wait", &name]).ok();
    assert_eq!(daemon.docker(&["logs", &name]).ok(), "one\ntwo");
    assert_eq!(daemon.iechor(&["logs", "-n", "1", &name]).ok(), "two");
    daemon.finish();
}

fn lines(text: &str) -> Vec<u32> {
    let number = |line: &str| {
        line.rsplit("line ")
            .next()
            .and_then(|number| number.trim().parse().ok())
    };
    text.lines().filter_map(number).collect()
}

fn a_dead_server_blocks_nobody_and_loses_nothing(_: &Nothing) {
    let daemon = daemon();
    // A place where nobody listens, yet.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let option = format!("syslog-address=tcp://{address}");
    let started = Instant::now();
    let name = run(
        &daemon,
        "syslog",
        &[&option],
        "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done",
    );
    assert_eq!(daemon.docker(&["wait", &name]).ok(), "0");
    assert!(
        started.elapsed() < harness::tools::patience(10),
        "{:?}",
        started.elapsed()
    );
    let listener = TcpListener::bind(address).unwrap();
    let received = tcp(listener);
    eventually("all lines have come", 40, || lines(&received.text()).len() >= 20000);
    assert_eq!(lines(&received.text()), (0..20000).collect::<Vec<u32>>());
    daemon.finish();
}

fn lines_written_while_the_daemon_was_away_are_sent(_: &Nothing) {
    let daemon = daemon();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("syslog-address=tcp://{}", listener.local_addr().unwrap());
    let received = tcp(listener);
    run(
        &daemon,
        "syslog",
        &[&address],
        "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i+1)); sleep 0.1; done",
    );
    received.expect("line 3\n");
    std::thread::sleep(Duration::from_millis(300));
    daemon.kill9();
    std::thread::sleep(Duration::from_secs(1));
    daemon.launch();
    received.expect("line 39\n");
    let mut seen = lines(&received.text());
    // What was sent within a fifth of a second before the kill may come twice; nothing is missing.
    assert!(seen.len() < 40 + 8, "{seen:?}");
    seen.dedup();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..40).collect::<Vec<u32>>());
    // An orderly stop repeats nothing.
    let before = lines(&received.text()).len();
    daemon.stop();
    daemon.launch();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(lines(&received.text()).len(), before);
    daemon.finish();
}

fn non_blocking_gives_up_the_oldest_lines(_: &Nothing) {
    let daemon = daemon();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let option = format!("syslog-address=tcp://{address}");
    let name = run(
        &daemon,
        "syslog",
        &[&option, "mode=non-blocking", "max-buffer-size=64k"],
        "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done",
    );
    assert_eq!(daemon.docker(&["wait", &name]).ok(), "0");
    eventually("the daemon says so", 20, || {
        daemon.log_tail().contains("max-buffer-size")
    });
    let listener = TcpListener::bind(address).unwrap();
    let received = tcp(listener);
    received.expect("line 19999\n");
    let seen = lines(&received.text());
    assert!(seen.len() > 100 && seen.len() < 10_000, "{}", seen.len());
    assert!(
        seen.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "in one piece, to the end"
    );
    daemon.finish();
}

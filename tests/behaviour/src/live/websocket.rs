//! Attach over WebSocket, frame by frame.

use std::io::{BufRead, BufReader, Read, Write};

use harness::http::Connection;
use harness::tools::eventually;
use harness::{Test, tests};

use super::actions;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        messages_go_both_ways,
        what_was_logged_comes_first,
        the_streams_can_be_chosen,
        large_input_and_output_do_not_lock_up,
        keys_detach,
        a_plain_request_is_refused,
    ]
}

const BINARY: u8 = 2;
const CLOSE: u8 = 8;

struct Socket(BufReader<Connection>);

impl Socket {
    fn open(world: &World, target: &str) -> Socket {
        let mut connection = world.server.connect();
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Socket(reader)
    }

    /// A message, masked as a client must.
    fn send(&mut self, kind: u8, bytes: &[u8]) {
        let mut frame = vec![0x80 | kind];
        match u8::try_from(bytes.len()) {
            Ok(length @ 0..126) => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend_from_slice(&mask);
        frame.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.0.get_mut().write_all(&frame).unwrap();
    }

    fn receive(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.0.read_exact(&mut head).unwrap();
        let length = match head[1] {
            126 => {
                let mut wide = [0; 2];
                self.0.read_exact(&mut wide).unwrap();
                u64::from(u16::from_be_bytes(wide))
            }
            127 => {
                let mut wide = [0; 8];
                self.0.read_exact(&mut wide).unwrap();
                u64::from_be_bytes(wide)
            }
            short => u64::from(short),
        };
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut bytes).unwrap();
        (head[0] & 0x0f, bytes)
    }

    /// Reads messages until these bytes have come.
    fn expect(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let (kind, bytes) = self.receive();
            assert_eq!(kind, BINARY, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        seen
    }

    /// Everything until the other side closes.
    fn rest(&mut self) -> String {
        let mut seen = Vec::new();
        loop {
            match self.receive() {
                (CLOSE, _) => return String::from_utf8_lossy(&seen).into_owned(),
                (_, bytes) => seen.extend_from_slice(&bytes),
            }
        }
    }
}

fn messages_go_both_ways(world: &World) {
    let name = world.name("both");
    world
        .run(&[
            "run",
            "-di",
            "--name",
            &name,
            "busybox",
            "sh",
            "-c",
            "echo err >&2; cat",
        ])
        .ok();
    let mut socket = Socket::open(
        world,
        &format!("/containers/{}/attach/ws?stream=1&stdin=1&stdout=1&stderr=1", &*name),
    );
    socket.send(BINARY, b"hello\n");
    socket.expect("hello\n");
    // Text is as good.
    socket.send(1, b"again\n");
    assert_eq!(socket.expect("again\n"), "again\n");
    world.run(&["kill", &name]).ok();
    assert_eq!(socket.rest(), "");
}

fn what_was_logged_comes_first(world: &World) {
    let name = world.name("logged");
    world
        .run(&["run", "--name", &name, "busybox", "sh", "-c", "echo out; echo err >&2"])
        .ok();
    let target = format!("/containers/{}/attach/ws?logs=1&stdout=1&stderr=1", &*name);
    let text = Socket::open(world, &target).rest();
    assert!(text.contains("out\n") && text.contains("err\n"), "{text:?}");
}

fn the_streams_can_be_chosen(world: &World) {
    let name = world.name("chosen");
    let line = "while read word; do echo out $word; echo err $word >&2; done";
    world
        .run(&["run", "-di", "--name", &name, "busybox", "sh", "-c", line])
        .ok();
    let target = |version: &str| format!("/{version}/containers/{}/attach/ws?stream=1&stdin=1&stderr=1", &*name);
    let mut chosen = Socket::open(world, &target("v1.42"));
    let mut all = Socket::open(world, &target("v1.41"));
    chosen.send(BINARY, b"1\n");
    assert_eq!(chosen.expect("err 1\n"), "err 1\n");
    let seen = all.expect("err 1\n");
    assert!(seen.contains("out 1\n") || all.expect("out 1\n").contains("out 1\n"));
}

fn large_input_and_output_do_not_lock_up(world: &World) {
    let name = world.name("large");
    world.run(&["run", "-di", "--name", &name, "busybox", "cat"]).ok();
    let target = format!("/containers/{}/attach/ws?stream=1&stdin=1&stdout=1", &*name);
    let mut socket = Socket::open(world, &target);
    let block = vec![b'x'; 50_000];
    let mut seen = 0;
    for _ in 0..40 {
        socket.send(BINARY, &block);
        seen += socket.receive().1.len();
    }
    while seen < 40 * block.len() {
        seen += socket.receive().1.len();
    }
    assert_eq!(seen, 40 * block.len());
}

fn keys_detach(world: &World) {
    let name = world.name("keys");
    world.run(&["run", "-dit", "--name", &name, "busybox", "sh"]).ok();
    let target = format!(
        "/containers/{}/attach/ws?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a",
        &*name
    );
    let mut socket = Socket::open(world, &target);
    socket.send(BINARY, b"echo $((40+2))\n");
    socket.expect("42");
    socket.send(BINARY, b"\x01");
    socket.rest();
    assert_eq!(world.inspect(&name)["State"]["Running"], true);
    eventually("it is told", 5, || actions(world, &name).contains(&"detach".to_owned()));
}

fn a_plain_request_is_refused(world: &World) {
    let (name, _) = world.sleeper(&[]);
    let refused = world
        .server
        .get(&format!("/containers/{}/attach/ws?stream=1&stdout=1", &*name))
        .expect(400);
    assert!(refused.message().contains("WebSocket"), "{}", refused.message());
    world
        .server
        .get("/containers/no-such-one/attach/ws?stream=1")
        .expect(404);
}

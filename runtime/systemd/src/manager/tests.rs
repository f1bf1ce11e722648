//! Against a peer that answers what it is told to.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::message::{FIXED, Kind, length};
use proptest::prelude::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

const JOB: &str = "/org/freedesktop/systemd1/job/7";

/// One message of the peer's: kind, what it answers, its error's name, types and body.
fn message(kind: u8, reply_to: u32, error: &str, signature: &str, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut content = Writer::default();
    body(&mut content);
    let content = content.finish().unwrap();
    let mut out = Writer::default();
    [b'l', kind, 0, 1].into_iter().for_each(|byte| out.byte(byte));
    out.u32(content.len() as u32);
    out.u32(1);
    out.array(8, |out| {
        let mut text = |code: u8, value: &str| {
            if !value.is_empty() {
                out.align(8);
                out.byte(code);
                out.signature("s");
                out.text(value);
            }
        };
        text(4, error);
        if kind == 4 {
            text(2, MANAGER);
            text(3, "JobRemoved");
            text(7, SYSTEMD);
        }
        if reply_to != 0 {
            out.align(8);
            out.byte(5);
            out.signature("u");
            out.u32(reply_to);
        }
        if !signature.is_empty() {
            out.align(8);
            out.byte(8);
            out.signature("g");
            out.signature(signature);
        }
    });
    out.align(8);
    [out.finish().unwrap(), content].concat()
}

fn job_started(serial: u32) -> Vec<u8> {
    message(2, serial, "", "o", |body| body.text(JOB))
}

fn job_ended(job: &str, result: &str) -> Vec<u8> {
    message(4, 0, "", "uoss", |body| {
        body.u32(7);
        body.text(job);
        body.text("x.scope");
        body.text(result);
    })
}

fn refused(serial: u32, name: &str) -> Vec<u8> {
    message(3, serial, name, "s", |body| body.text("in its own words"))
}

/// A manager whose peer answers the calls, in order, by `answers`: what it was called, and the serial → bytes. The
/// thread returns the names of the calls.
fn with_peer(
    answers: Vec<Box<dyn Fn(u32) -> Vec<u8> + Send>>,
) -> (Manager, JoinHandle<Vec<String>>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let peer = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        open(&mut reader, &stream);
        let mut calls = Vec::new();
        for answer in answers {
            let mut fixed = [0; FIXED];
            if reader.read_exact(&mut fixed).is_err() {
                break;
            }
            let mut bytes = fixed.to_vec();
            bytes.resize(length(&fixed).unwrap(), 0);
            reader.read_exact(&mut bytes[FIXED..]).unwrap();
            let call = Message::parse(&bytes).unwrap();
            assert_eq!(call.kind, Kind::Call);
            calls.push(call.member);
            let serial = u32::from_le_bytes(fixed[8..12].try_into().unwrap());
            let _ = (&stream).write_all(&answer(serial));
        }
        calls
    });
    let address = SocketAddr::from_pathname(&socket).unwrap();
    let manager = Manager {
        connection: Connection::open(&address, "here", false).unwrap(),
        subscribed: true,
    };
    (manager, peer, folder)
}

fn open(reader: &mut impl BufRead, mut stream: &UnixStream) {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line).unwrap();
    let uid = nix::unistd::geteuid().to_string();
    let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(line, format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes());
    stream.write_all(b"OK 0123456789abcdef\r\n").unwrap();
    line.clear();
    reader.read_until(b'\n', &mut line).unwrap();
    assert_eq!(line, b"BEGIN\r\n");
}

fn unit(name: &str) -> SystemdUnit {
    SystemdUnit {
        name: name.into(),
        slice: "a.slice".into(),
        description: "d".into(),
        properties: vec![UnitProperty::new("Delegate", true)],
    }
}

#[test]
fn a_start_waits_for_its_own_job_also_when_that_ends_before_the_answer() {
    let (mut manager, peer, _folder) = with_peer(vec![
        Box::new(|serial| {
            let other = job_ended("/org/freedesktop/systemd1/job/6", "failed");
            [other, job_ended(JOB, "done"), job_started(serial)].concat()
        }),
        Box::new(|serial| [job_started(serial), job_ended(JOB, "done")].concat()),
    ]);
    manager.start_unit(&unit("x.scope"), &[1]).unwrap();
    manager.start_unit(&unit("x.scope"), &[1]).unwrap();
    assert_eq!(peer.join().unwrap(), ["StartTransientUnit"; 2]);
}

#[test]
fn what_a_failed_unit_left_is_cleared_once() {
    let exists = || Box::new(|serial| refused(serial, UNIT_EXISTS)) as Box<dyn Fn(u32) -> Vec<u8> + Send>;
    let (mut manager, peer, _folder) = with_peer(vec![
        exists(),
        Box::new(|serial| message(2, serial, "", "", |_| {})),
        Box::new(|serial| [job_started(serial), job_ended(JOB, "done")].concat()),
        exists(),
        Box::new(|serial| refused(serial, NO_SUCH_UNIT)),
        exists(),
        exists(),
    ]);
    manager.start_unit(&unit("x.scope"), &[1]).unwrap();
    let error = manager.start_unit(&unit("x.scope"), &[1]).unwrap_err();
    assert!(
        matches!(&error, Error::UnitExists { unit } if unit == "x.scope"),
        "{error}"
    );
    // A slice is shared.
    manager.start_unit(&unit("x.slice"), &[]).unwrap();
    let start = "StartTransientUnit";
    assert_eq!(
        peer.join().unwrap(),
        [start, "ResetFailedUnit", start, start, "ResetFailedUnit", start, start]
    );
}

#[test]
fn a_job_that_fails_and_words_of_refusal_are_told() {
    let (mut manager, peer, _folder) = with_peer(vec![
        Box::new(|serial| [job_started(serial), job_ended(JOB, "dependency")].concat()),
        Box::new(|serial| message(2, serial, "", "", |_| {})),
        Box::new(|serial| refused(serial, "org.freedesktop.DBus.Error.PropertyReadOnly")),
        Box::new(|serial| refused(serial, NO_SUCH_UNIT)),
    ]);
    let error = manager.start_unit(&unit("x.scope"), &[1]).unwrap_err();
    assert!(
        matches!(&error, Error::Job { result, .. } if result == "dependency"),
        "{error}"
    );
    let error = manager
        .set_properties("x.scope", true, &[UnitProperty::new("Nope", 1u64)])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "systemd refused the change of x.scope: in its own words (org.freedesktop.DBus.Error.PropertyReadOnly)"
    );
    manager.stop_unit("x.scope").unwrap();
    assert_eq!(
        peer.join().unwrap(),
        ["StartTransientUnit", "ResetFailedUnit", "SetUnitProperties", "StopUnit"]
    );
}

#[test]
fn an_answer_of_another_type_is_refused() {
    let (mut manager, peer, _folder) =
        with_peer(vec![Box::new(|serial| message(2, serial, "", "u", |body| body.u32(1)))]);
    let error = manager.start_unit(&unit("x.scope"), &[1]).unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    peer.join().unwrap();
}

#[test]
fn a_silent_peer_costs_the_limit_and_no_more() {
    let (mut manager, peer, _folder) = with_peer(vec![Box::new(|_| {
        std::thread::sleep(Duration::from_millis(300));
        Vec::new()
    })]);
    let wait = Wait::new("a question", Duration::from_millis(50));
    let error = manager.ask(&wait, "GetUnit", "", |_| {}).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    peer.join().unwrap();
}

#[test]
fn versions_are_read() {
    for (text, version) in [
        ("252.38-1~deb12u1", Some(252)),
        ("v245.4-1.fc32", Some(245)),
        ("257", Some(257)),
        ("\"219\"", Some(219)),
        ("x", None),
        ("", None),
        ("99999999999", None),
    ] {
        assert_eq!(version_of(text), version, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_a_peer_sends_is_an_error_at_worst(noise: Vec<u8>, real: bool, at: prop::sample::Index) {
        let (mut manager, peer, _folder) = with_peer(vec![Box::new(move |serial| {
            if !real {
                return noise.clone();
            }
            // A right answer with one byte of noise in it.
            let mut bytes = [job_started(serial), job_ended(JOB, "done")].concat();
            let at = at.index(bytes.len());
            bytes[at] = noise.first().copied().unwrap_or(0xff);
            bytes
        })]);
        // The peer hangs up afterwards: nothing here waits for long.
        let _ = manager.start_unit(&unit("x.scope"), &[1]);
        drop(manager);
        peer.join().unwrap();
    }
}

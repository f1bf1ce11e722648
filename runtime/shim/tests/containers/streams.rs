//! Output, input, terminals, logs, and clients that are slow, late or gone.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::rig::{attach, read_frames, type_all, until};
use runtime::log::{LogReader, ReadOptions};
use runtime::plan::{ConsoleSize, LogTarget, Stdin};

#[tokio::test]
async fn output_is_framed_complete_and_logged() {
    let rig = crate::new_rig!();
    let plan = rig.plan("out", &["sh", "-c", "seq 1 20000; echo oops >&2; printf unfinished"]);
    let log = plan.head.log.clone();
    let (exit, out, err) = rig.run(plan).await;
    assert_eq!((exit.code, err.as_str()), (0, "oops\n"));
    let want: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert_eq!(out, want + "unfinished");
    assert!(matches!(log, LogTarget::Local { .. }));
    let size = |log: &LogTarget| match log {
        LogTarget::Local { path, .. } => std::fs::metadata(path).unwrap().len(),
        _ => 0,
    };
    assert!(size(&log) > 100_000, "{} bytes of log", size(&log));
    let _ = (LogReader::open, ReadOptions::default);
}

#[tokio::test]
async fn input_reaches_the_process_and_ends_with_its_client() {
    let rig = crate::new_rig!();
    let mut plan = rig.plan("in", &["sh", "-c", "cat; echo end"]);
    plan.head.stdin = Stdin::Pipe { once: true };
    let (shim, mut stream) = rig.start_attached(plan).await;
    // More than pipes and sockets hold: input is pushed back, output too, and nothing is lost.
    let text = b"0123456789abcdef".repeat(64 * 1024);
    let reader = stream.try_clone().unwrap();
    let sent = text.clone();
    let writer = tokio::task::spawn_blocking(move || type_all(&mut stream, &sent));
    let reader = tokio::task::spawn_blocking(move || read_frames(reader));
    assert_eq!(shim.wait().await.code, 0);
    writer.await.unwrap();
    let (out, _) = reader.await.unwrap();
    assert!(
        out == [text, b"end\n".to_vec()].concat(),
        "{} bytes came back",
        out.len()
    );
    shim.release().await;
}

#[tokio::test]
async fn input_stays_open_for_the_next_client_unless_once() {
    let rig = crate::new_rig!();
    let mut plan = rig.plan("next", &["sh", "-c", "read a; echo $a; read b; echo $b"]);
    plan.head.stdin = Stdin::Pipe { once: false };
    let (shim, mut first) = rig.start_attached(plan).await;
    first.write_all(b"one\n").unwrap();
    let mut seen = [0; 12];
    first.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"\x01\0\0\0\0\0\0\x04one\n");
    drop(first);
    let (mut second, theirs) = UnixStream::pair().unwrap();
    shim.attach(attach(theirs)).await.unwrap();
    second.write_all(b"two\n").unwrap();
    assert_eq!(shim.wait().await.code, 0);
    assert_eq!(read_frames(second).0, b"two\n");
    shim.release().await;
    // Typed and gone at once: what was typed arrives.
    let mut plan = rig.plan("gone", &["sh", "-c", "sleep 0.1; cat > /proc/self/fd/2"]);
    plan.head.stdin = Stdin::Pipe { once: true };
    let log = plan.head.log.clone();
    let (shim, mut stream) = rig.start_attached(plan).await;
    stream.write_all(b"last words\n").unwrap();
    drop(stream);
    assert_eq!(shim.wait().await.code, 0);
    shim.release().await;
    let LogTarget::Local { path, .. } = log else {
        panic!("a local log")
    };
    assert!(
        std::fs::read(path)
            .unwrap()
            .windows(10)
            .any(|part| part == b"last words")
    );
}

#[tokio::test]
async fn a_slow_client_holds_the_process_back_and_loses_nothing() {
    let rig = crate::new_rig!();
    let plan = rig.plan("slow", &["sh", "-c", "seq 1 200000; touch /tmp/all-written"]);
    let (shim, stream) = rig.start_attached(plan).await;
    let mark = rig.folder.path().join("containers/slow/upper/tmp/all-written");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!mark.exists(), "the process was not held back");
    let (out, _) = tokio::task::spawn_blocking(move || read_frames(stream)).await.unwrap();
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 200_000);
    assert_eq!(shim.wait().await.code, 0);
    shim.release().await;
}

#[tokio::test]
async fn what_a_slow_client_has_not_read_is_there_after_the_end() {
    let rig = crate::new_rig!();
    // Fits into the socket and the pipe together, so that the process ends while its client sleeps.
    let plan = rig.plan("tail", &["sh", "-c", "head -c 120000 /dev/zero"]);
    let (shim, stream) = rig.start_attached(plan).await;
    assert_eq!(shim.wait().await.code, 0);
    shim.release().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (out, _) = tokio::task::spawn_blocking(move || read_frames(stream)).await.unwrap();
    assert_eq!(out.len(), 120_000);
}

#[tokio::test]
async fn clients_that_vanish_stop_nobody() {
    let rig = crate::new_rig!();
    let plan = rig.plan("vanish", &["sh", "-c", "seq 1 100000; echo done > /tmp/done"]);
    let (shim, stream) = rig.start_attached(plan).await;
    let (mut half, theirs) = UnixStream::pair().unwrap();
    shim.attach(attach(theirs)).await.unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(stream);
    let reader = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        half.read_to_end(&mut all).unwrap();
        all.len()
    });
    assert_eq!(shim.wait().await.code, 0);
    shim.release().await;
    assert!(reader.await.unwrap() > 0);
    assert!(rig.folder.path().join("containers/vanish/upper/tmp/done").exists());
}

#[tokio::test]
async fn a_terminal_has_a_size_a_console_and_raw_output() {
    let rig = crate::new_rig!();
    let script =
        "tty; stty size; test /dev/console -ef /dev/pts/0 && echo console; read x; echo \"<$x>\"; stty size; exit 3";
    let mut plan = rig.plan("tty", &["sh", "-c", script]);
    plan.head.terminal = Some(ConsoleSize { rows: 24, cols: 80 });
    plan.head.stdin = Stdin::Pipe { once: true };
    let (shim, mut stream) = rig.start_attached(plan).await;
    shim.resize(50, 132).await.unwrap();
    stream.write_all(b"hello\r").unwrap();
    assert_eq!(shim.wait().await.code, 3);
    shim.release().await;
    let mut out = String::new();
    stream.read_to_string(&mut out).unwrap();
    assert!(out.contains("/dev/pts/0\r\n") && out.contains("console\r\n"), "{out:?}");
    assert!(out.contains("<hello>\r\n50 132\r\n"), "{out:?}");
}

#[tokio::test]
async fn a_terminal_interrupts_and_hangs_up() {
    let rig = crate::new_rig!();
    for (id, init) in [("intr", false), ("intrinit", true)] {
        let mut plan = rig.plan(
            id,
            &[
                "sh",
                "-c",
                "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.05; done",
            ],
        );
        plan.head.terminal = Some(ConsoleSize { rows: 0, cols: 0 });
        plan.head.stdin = Stdin::Pipe { once: false };
        plan.init = init;
        let (shim, mut stream) = rig.start_attached(plan).await;
        let mut seen = [0; 7];
        stream.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"ready\r\n");
        stream.write_all(b"\x03").unwrap();
        assert_eq!(shim.wait().await.code, 4, "{id}");
        shim.release().await;
    }
}

#[tokio::test]
async fn a_process_that_closes_its_streams_runs_on() {
    let rig = crate::new_rig!();
    let plan = rig.plan(
        "closed",
        &["sh", "-c", "exec >/dev/null 2>&1 </dev/null; sleep 0.3; exit 6"],
    );
    let (shim, stream) = rig.start_attached(plan).await;
    let before = cpu_ticks(shim.shim_pid());
    assert_eq!(shim.wait().await.code, 6);
    assert!(cpu_ticks(shim.shim_pid()) - before < 10, "the shim was busy");
    shim.release().await;
    assert_eq!(read_frames(stream).0, b"");
}

#[tokio::test]
async fn an_idle_shim_sleeps_whatever_its_clients_do() {
    let rig = crate::new_rig!();
    let mut plan = rig.plan("idle", &["sleep", "1000"]);
    plan.head.stdin = Stdin::Pipe { once: false };
    let (shim, mut stream) = rig.start_attached(plan).await;
    // Input that nobody reads, then the end of it, then the end of the client.
    stream.set_nonblocking(true).unwrap();
    while stream.write(&[0; 4096]).is_ok() {}
    stream.shutdown(Shutdown::Write).unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = cpu_ticks(shim.shim_pid());
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(cpu_ticks(shim.shim_pid()) - before < 5, "the shim spins");
    shim.signal(libc::SIGKILL).await.unwrap();
    shim.wait().await;
    shim.release().await;
    until("the shim's end", || {
        !std::path::Path::new(&format!("/proc/{}/fd/0", shim.shim_pid())).exists()
    })
    .await;
}

/// User and system time of a process in 1/100 s.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12]
        .iter()
        .filter_map(|index| fields.get(*index)?.parse::<u64>().ok())
        .sum()
}

#[tokio::test]
async fn nothing_is_typed_into_a_container_without_input() {
    let rig = crate::new_rig!();
    for (id, terminal) in [("mute", None), ("mutetty", Some(ConsoleSize { rows: 0, cols: 0 }))] {
        let mut plan = rig.plan(id, &["sh", "-c", "read x; echo \"<$x>\""]);
        if terminal.is_some() {
            plan.process.argv = ["sh", "-c", "sleep 0.2; echo done"].iter().map(Into::into).collect();
        }
        plan.head.terminal = terminal;
        let (shim, mut stream) = rig.start_attached(plan).await;
        let _ = stream.write_all(b"ignored\n");
        assert_eq!(shim.wait().await.code, 0);
        shim.release().await;
        let mut out = Vec::new();
        stream.read_to_end(&mut out).unwrap();
        assert!(!String::from_utf8_lossy(&out).contains("ignored"), "{id}");
    }
}

#[tokio::test]
async fn log_files_of_dockers_format_are_written_and_rotated() {
    let rig = crate::new_rig!();
    let mut plan = rig.plan("json", &["sh", "-c", "seq 1 3000; echo last"]);
    let path = rig.folder.path().join("containers/json/json.log");
    plan.head.log = LogTarget::JsonFile {
        path: path.clone(),
        max_size: 20_000,
        max_files: 3,
        attrs: Default::default(),
    };
    assert_eq!(rig.run(plan).await.0.code, 0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.trim_end()
            .rsplit('\n')
            .next()
            .unwrap()
            .starts_with(r#"{"log":"last\n","stream":"stdout","time":""#)
    );
    let files = std::fs::read_dir(path.parent().unwrap()).unwrap().flatten();
    assert_eq!(
        files
            .filter(|file| file.file_name().to_str().unwrap().starts_with("json.log"))
            .count(),
        3
    );
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_stop_a_restart() {
    let rig = crate::new_rig!();
    let (shim, stream) = rig
        .start_attached(rig.plan("stall", &["head", "-c", "120000", "/dev/zero"]))
        .await;
    assert_eq!(shim.wait().await.code, 0);
    shim.release().await;
    assert_eq!(rig.run(rig.plan("stall", &["true"])).await.0.code, 0);
    let (out, _) = tokio::task::spawn_blocking(move || read_frames(stream)).await.unwrap();
    assert_eq!(out.len(), 120_000);
}

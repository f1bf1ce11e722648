//! Streams: logs, exec, attach, files.

use std::sync::Arc;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::*;
use futures_util::{Stream, TryStreamExt};
use tokio::io::AsyncWriteExt;

use crate::checks::{Check, PATIENCE, World, words};

pub fn checks() -> Vec<Check> {
    crate::checks![
        logs_keep_both_sides_apart,
        logs_are_followed_to_the_end,
        exec_has_output_sides_and_code,
        quick_output_is_not_lost,
        exec_takes_input,
        exec_on_a_terminal_has_its_size,
        exec_detached_goes_on,
        a_program_that_is_not_there_is_127,
        attach_sends_and_sees,
        attach_to_what_was_written,
        files_come_out_as_they_are,
    ]
}

/// Standard output and standard error, to the end.
async fn sides(stream: impl Stream<Item = Result<LogOutput, Error>>) -> (String, String) {
    let (mut out, mut wrong) = (Vec::new(), Vec::new());
    let mut stream = std::pin::pin!(stream);
    while let Some(part) = stream.try_next().await.unwrap() {
        match part {
            LogOutput::StdErr { message } => wrong.extend(message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => out.extend(message),
            LogOutput::StdIn { message } => panic!("input came back: {message:?}"),
        }
    }
    (String::from_utf8(out).unwrap(), String::from_utf8(wrong).unwrap())
}

/// Output, errors and exit code of a command inside.
async fn inside(world: &World, id: &str, argv: &[&str]) -> (String, String, i64) {
    let request = CreateExecOptions {
        cmd: Some(words(argv)),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let exec = world.docker.create_exec(id, request).await.unwrap().id;
    let StartExecResults::Attached { output, .. } = world.docker.start_exec(&exec, None).await.unwrap() else {
        panic!("not attached");
    };
    let (out, wrong) = sides(output).await;
    let ended = world.docker.inspect_exec(&exec).await.unwrap();
    (out, wrong, ended.exit_code.expect("the end is known"))
}

async fn logs_keep_both_sides_apart(world: Arc<World>) {
    let cmd = Some(words(&["sh", "-c", "echo wrong >&2; sleep 0.2; echo one; echo two"]));
    let id = world
        .start(ContainerCreateBody {
            cmd,
            ..Default::default()
        })
        .await;
    world.docker.wait_container(&id, None).try_next().await.unwrap();
    let both = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
    assert_eq!(
        sides(world.docker.logs(&id, Some(both))).await,
        ("one\ntwo\n".into(), "wrong\n".into())
    );
    let last = LogsOptionsBuilder::new().stdout(true).tail("1").build();
    assert_eq!(
        sides(world.docker.logs(&id, Some(last))).await,
        ("two\n".into(), String::new())
    );
}

async fn logs_are_followed_to_the_end(world: Arc<World>) {
    let cmd = Some(words(&[
        "sh",
        "-c",
        "echo first; while ! [ -e /go ]; do sleep 0.05; done; echo last",
    ]));
    let id = world
        .start(ContainerCreateBody {
            cmd,
            ..Default::default()
        })
        .await;
    let options = LogsOptionsBuilder::new().stdout(true).follow(true).build();
    let mut stream = Box::pin(world.docker.logs(&id, Some(options)));
    assert_eq!(stream.try_next().await.unwrap().unwrap().to_string(), "first\n");
    assert_eq!(inside(&world, &id, &["touch", "/go"]).await.2, 0);
    assert_eq!(sides(stream).await.0, "last\n");
}

async fn exec_has_output_sides_and_code(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    let ended = inside(&world, &id, &["sh", "-c", "echo out; echo err >&2; exit 5"]).await;
    assert_eq!(ended, ("out\n".into(), "err\n".into(), 5));
}

async fn quick_output_is_not_lost(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    for _ in 0..30 {
        assert_eq!(inside(&world, &id, &["echo", "x"]).await.0, "x\n");
    }
}

async fn exec_takes_input(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    let request = CreateExecOptions {
        cmd: Some(words(&["cat"])),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        ..Default::default()
    };
    let exec = world.docker.create_exec(&id, request).await.unwrap().id;
    let StartExecResults::Attached { output, mut input } = world.docker.start_exec(&exec, None).await.unwrap() else {
        panic!("not attached");
    };
    input.write_all(b"to and fro\n").await.unwrap();
    input.shutdown().await.unwrap();
    assert_eq!(sides(output).await.0, "to and fro\n");
}

async fn exec_on_a_terminal_has_its_size(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    let request = CreateExecOptions {
        cmd: Some(words(&["sh", "-c", "read line; stty size"])),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        tty: Some(true),
        ..Default::default()
    };
    let exec = world.docker.create_exec(&id, request).await.unwrap().id;
    let options = StartExecOptions {
        tty: true,
        ..Default::default()
    };
    let started = world.docker.start_exec(&exec, Some(options)).await.unwrap();
    let StartExecResults::Attached { output, mut input } = started else {
        panic!("not attached");
    };
    // At once: the process may not be there yet.
    world
        .docker
        .resize_exec(&exec, ResizeExecOptionsBuilder::new().h(33).w(99).build())
        .await
        .unwrap();
    input.write_all(b"go\n").await.unwrap();
    let seen = sides(output).await.0;
    assert!(seen.contains("33 99"), "{seen:?}");
}

async fn exec_detached_goes_on(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    let request = CreateExecOptions {
        cmd: Some(words(&["touch", "/done"])),
        ..Default::default()
    };
    let exec = world.docker.create_exec(&id, request).await.unwrap().id;
    let options = StartExecOptions {
        detach: true,
        ..Default::default()
    };
    let started = world.docker.start_exec(&exec, Some(options)).await.unwrap();
    assert!(matches!(started, StartExecResults::Detached));
    let ends = async {
        while world.docker.inspect_exec(&exec).await.unwrap().exit_code.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ends).await.unwrap();
    assert_eq!(inside(&world, &id, &["ls", "/done"]).await.0, "/done\n");
}

async fn a_program_that_is_not_there_is_127(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    let (out, _, code) = inside(&world, &id, &["no-such-program"]).await;
    assert!(code == 127 && out.contains("executable file not found"), "{code} {out}");
}

async fn attach_sends_and_sees(world: Arc<World>) {
    let body = ContainerCreateBody {
        cmd: Some(words(&["sh", "-c", "read line; echo got $line; echo wrong >&2"])),
        open_stdin: Some(true),
        ..Default::default()
    };
    let id = world.start(body).await;
    let options = AttachContainerOptionsBuilder::new()
        .stdin(true)
        .stdout(true)
        .stderr(true)
        .stream(true)
        .build();
    let mut attached = world.docker.attach_container(&id, Some(options)).await.unwrap();
    attached.input.write_all(b"this\n").await.unwrap();
    assert_eq!(sides(attached.output).await, ("got this\n".into(), "wrong\n".into()));
}

async fn attach_to_what_was_written(world: Arc<World>) {
    let cmd = Some(words(&["echo", "before"]));
    let id = world
        .start(ContainerCreateBody {
            cmd,
            ..Default::default()
        })
        .await;
    world.docker.wait_container(&id, None).try_next().await.unwrap();
    let options = AttachContainerOptionsBuilder::new()
        .logs(true)
        .stdout(true)
        .stream(false)
        .build();
    let attached = world.docker.attach_container(&id, Some(options)).await.unwrap();
    assert_eq!(sides(attached.output).await.0, "before\n");
}

async fn files_come_out_as_they_are(world: Arc<World>) {
    let id = world.start(ContainerCreateBody::default()).await;
    assert_eq!(inside(&world, &id, &["sh", "-c", "echo copied > /tmp/file"]).await.2, 0);
    let options = DownloadFromContainerOptionsBuilder::new().path("/tmp/file").build();
    let parts: Vec<_> = world
        .docker
        .download_from_container(&id, Some(options))
        .try_collect()
        .await
        .unwrap();
    let archive = parts.concat();
    // One entry: a head of 512 bytes, and the file behind it.
    assert!(archive.starts_with(b"file\0") && archive[512..].starts_with(b"copied\n"));
    // And in again, as another container's.
    let other = world.start(ContainerCreateBody::default()).await;
    let options = UploadToContainerOptionsBuilder::new().path("/").build();
    world
        .docker
        .upload_to_container(&other, Some(options), bollard::body_full(archive.into()))
        .await
        .unwrap();
    assert_eq!(inside(&world, &other, &["cat", "/file"]).await.0, "copied\n");
}

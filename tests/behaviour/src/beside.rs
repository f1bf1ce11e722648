//! `behaviour --beside NAME COMMAND…`: a private daemon for a test program that nobody here wrote the client of.
//!
//! ```text
//! registry on loopback ─┐
//! iechord ── unix socket, and TCP with mutual TLS ── COMMAND, which finds all of it in its environment
//! ```
//!
//! The command prints its own closing line; what it has left in the kernel or with the daemon is a test of its own,
//! `NAME-left`. The images are of this machine's Debian packages: nothing comes from a registry outside.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, Stdio};

use harness::image::{Image, Packing};
use harness::registry::Registry;
use harness::tools::{Folder, binary, docker, free_port, unpacked};
use harness::{Daemon, Options};

/// Runs `command` beside a daemon; its exit code is ours, or 1 if something was left behind.
pub fn run(name: &str, command: &[String]) -> ExitCode {
    match catch_unwind(AssertUnwindSafe(|| attempt(name, command))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(payload) => {
            for line in harness::process::take_transcript() {
                println!("        {}", line.replace('\n', "\n        "));
            }
            let why = payload.downcast_ref::<String>().map(String::as_str);
            let why = why
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("a panic");
            println!("  FAIL  nothing_is_left_behind: {}", why.replace('\n', " | "));
            println!("suite {name}-left: 0 passed, 1 failed, 0 skipped");
            ExitCode::FAILURE
        }
    }
}

fn attempt(name: &str, command: &[String]) -> bool {
    let folder = Folder::new(name);
    let registry = Registry::start();
    // What there is to pull, under names of two checks that remove it again: each an image that nobody else has.
    for repository in ["library/busybox", "clients/run", "clients/pull"] {
        let image = Image::busybox().with("Labels", serde_json::json!({"of": repository}));
        registry.push(repository, "v1", &image, true, Packing::Gzip);
    }
    let port = free_port();
    let certs = folder.at("certs");
    certificates(&certs);
    let daemon = Daemon::start(Options {
        arguments: [
            // What Docker SDKs take for granted: the Python one gives the output of `containers.run` with this one alone.
            "--log-driver".to_owned(),
            "json-file".to_owned(),
            "--host".to_owned(),
            format!("tcp://127.0.0.1:{port}"),
            "--tlsverify".to_owned(),
            format!("--tlscacert={certs}/ca.pem"),
            format!("--tlscert={certs}/server-cert.pem"),
            format!("--tlskey={certs}/server-key.pem"),
        ]
        .to_vec(),
        ..Options::default()
    });
    daemon.load(&Image::busybox(), "busybox:latest");
    let config = daemon.places.data.join("cli");
    let (program, arguments) = command.split_first().expect("a command");
    // A test program must not outlive one of ours that was killed: its daemon does not either.
    let status = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", program])
        .args(arguments)
        .env("DOCKER_HOST", daemon.host())
        .env("DOCKER_CONFIG", &config)
        .env("IECHOR_TEST_TLS_HOST", format!("tcp://127.0.0.1:{port}"))
        .env("IECHOR_TEST_CERTS", &certs)
        .env("IECHOR_TEST_REGISTRY", &registry.address)
        .env("IECHOR_TEST_FOLDER", folder.path())
        .env("IECHOR_TEST_BUSYBOX", unpacked("busybox/bin/busybox"))
        .env("IECHOR_TEST_DOCKER", docker())
        // Authorities of the machine, which requests would take in place of those that it is told of.
        .env_remove("REQUESTS_CA_BUNDLE")
        .env_remove("CURL_CA_BUNDLE")
        .env_remove("DOCKER_CONTEXT")
        .env_remove("DOCKER_TLS_VERIFY")
        .env_remove("DOCKER_CERT_PATH")
        .stdin(Stdio::null())
        .status()
        .expect("the test program starts");
    if !status.success() {
        println!("        the daemon's log ends with:\n{}", daemon.log_tail());
    }
    daemon.finish();
    println!("suite {name}-left: 1 passed, 0 failed, 0 skipped");
    status.success()
}

/// An authority with a certificate for the daemon and one for its client.
fn certificates(folder: &str) {
    let status = Command::new(binary("iechor"))
        .args(["system", "certs", "--host", "127.0.0.1", folder])
        .stdout(Stdio::null())
        .status()
        .expect("iechor starts");
    assert!(status.success(), "iechor system certs ended with {status}");
}

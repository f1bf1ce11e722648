#![allow(clippy::unwrap_used)]
//! Command lines and the requests they make. Each was compared with what docker's client sends for the same line.

use clap::FromArgMatches;
use serde_json::{Value, json};

use super::*;
use crate::parse::prepare;

fn parse(line: &str) -> std::result::Result<Value, String> {
    let command = prepare(<Options as clap::Args>::augment_args(clap::Command::new("create"))).no_binary_name(true);
    let matches = command
        .try_get_matches_from(line.split(' '))
        .map_err(|error| error.to_string())?;
    let options = Options::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    let request = build(&options, false, Some("/run/x.sock")).map_err(|failure| failure.message)?;
    Ok(serde_json::to_value(request).unwrap())
}

/// Checks that the parts of `want` are in the request.
fn check(line: &str, want: Value) {
    let got = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    fn within(got: &Value, want: &Value, at: &str, line: &str) {
        match want {
            Value::Object(map) => {
                for (key, want) in map {
                    within(&got[key], want, &format!("{at}.{key}"), line);
                }
            }
            want => assert_eq!(got, want, "{line}: {at}"),
        }
    }
    within(&got, &want, "", line);
}

#[test]
fn words_behind_the_image_are_the_command() {
    check(
        "-i img -i --rm -- -x",
        json!({"Image": "img", "Cmd": ["-i", "--rm", "--", "-x"], "OpenStdin": true, "StdinOnce": true}),
    );
    check("-- img -t", json!({"Image": "img", "Cmd": ["-t"], "Tty": false}));
    check("-it=false img", json!({"OpenStdin": true, "Tty": false}));
    check(
        "--rm --rm=0 -t -t img",
        json!({"Tty": true, "HostConfig": {"AutoRemove": false}}),
    );
}

#[test]
fn every_part_of_the_request_is_filled() {
    check(
        "-p 8080:80 -p 127.0.0.1::81/udp --expose 90-91 img",
        json!({
            "ExposedPorts": {"80/tcp": {}, "81/udp": {}, "90/tcp": {}, "91/tcp": {}},
            "HostConfig": {"PortBindings": {
                "80/tcp": [{"HostIp": "", "HostPort": "8080"}], "81/udp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}}
        }),
    );
    check(
        "-v /a:/b:ro -v /anon --tmpfs /t:size=1m --mount type=bind,src=/x,dst=/y img",
        json!({"Volumes": {"/anon": {}}, "HostConfig": {"Binds": ["/a:/b:ro"], "Tmpfs": {"/t": "size=1m"},
            "Mounts": [{"Type": "bind", "Source": "/x", "Target": "/y"}]}}),
    );
    check(
        "-m 64m --memory-swap -1 --cpus 1.5 --pids-limit -1 --oom-score-adj -100 --memory-swappiness -1 img",
        json!({"HostConfig": {"Memory": 67_108_864, "MemorySwap": -1, "NanoCpus": 1_500_000_000, "PidsLimit": -1,
            "OomScoreAdj": -100, "MemorySwappiness": -1}}),
    );
    check(
        "--cap-add net_admin --cap-add ALL --cap-drop CHOWN --cap-drop cap_kill img",
        json!({"HostConfig": {"CapAdd": ["ALL"], "CapDrop": ["CAP_CHOWN", "CAP_KILL"]}}),
    );
    check("--init=false img", json!({"HostConfig": {"Init": false}}));
    check(
        "--health-cmd true --health-interval 5s img",
        json!({"Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000i64}}),
    );
    check("--no-healthcheck img", json!({"Healthcheck": {"Test": ["NONE"]}}));
    check(
        "--security-opt systempaths=unconfined img",
        json!({"HostConfig": {"MaskedPaths": [], "ReadonlyPaths": []}}),
    );
    check(
        "--use-api-socket img",
        json!({"HostConfig": {"Binds": ["/run/x.sock:/var/run/docker.sock"]}}),
    );
    check(
        "--restart on-failure:3 img",
        json!({"HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}}),
    );
}

#[test]
fn the_first_network_is_the_mode() {
    let endpoints = |line: &str| {
        let request = parse(line).unwrap();
        let names: Vec<String> = request["NetworkingConfig"]["EndpointsConfig"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        (request["HostConfig"]["NetworkMode"].as_str().unwrap().to_owned(), names)
    };
    assert_eq!(endpoints("img"), ("default".to_owned(), vec!["default".to_owned()]));
    assert_eq!(endpoints("--network host img"), ("host".to_owned(), vec![]));
    assert_eq!(endpoints("--net container:x img"), ("container:x".to_owned(), vec![]));
    assert_eq!(
        endpoints("--network a --network b img"),
        ("a".to_owned(), vec!["a".to_owned(), "b".to_owned()])
    );
    check(
        "--network a --network-alias x --ip 10.0.0.2 img",
        json!({"NetworkingConfig": {"EndpointsConfig": {"a": {"Aliases": ["x"], "IPAMConfig": {"IPv4Address": "10.0.0.2"}}}}}),
    );
}

#[test]
fn contradictions_are_refused() {
    for (line, words) in [
        ("--rm --restart always img", "--restart and --rm"),
        ("--no-healthcheck --health-cmd x img", "conflicts with --health-*"),
        ("--network host --network b img", "cannot attach both"),
        ("--network a --network a img", "specified multiple times"),
        ("--network name=a,alias=x --network-alias y img", "--network-alias"),
        ("--log-driver none --log-opt a=b img", "invalid logging opts"),
        ("--pid private img", "invalid PID mode"),
        ("--uts container:x img", "invalid UTS mode"),
        ("--memory-swappiness 101 img", "0-100"),
        ("-a stdlog img", "valid streams are"),
        ("--ip 1.2.3 img", "invalid IPv4 address"),
        ("--sysctl x img", "--sysctl"),
        ("--health-retries -1 img", "cannot be negative"),
        ("-p 1-2:3-5 img", "invalid ranges"),
        ("--device /a:/b:q img", "bad mode"),
        ("--nope img", "--nope"),
        ("--memory", "value"),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.contains(words), "{line}: {error}");
    }
}

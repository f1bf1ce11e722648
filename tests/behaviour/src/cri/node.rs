//! What a kubelet asks before anything else.

use cri_api::{
    CgroupDriver, ListPodSandboxRequest, RunPodSandboxRequest, RuntimeConfigRequest, StatusRequest,
    StreamContainersRequest, UpdateRuntimeConfigRequest, VersionRequest,
};
use harness::daemon::{Daemon, Options};
use harness::process::Run;
use harness::tools::{Folder, binary};
use harness::{Test, tests};
use tonic::Code;

use super::Node;

pub fn tests() -> Vec<Test<Node>> {
    tests![
        the_version_is_what_kubelets_compare,
        the_status_has_both_conditions,
        the_cgroup_driver_is_told,
        calls_that_are_not_served_say_so,
        the_socket_is_asked_for,
        the_socket_is_of_one_daemon,
    ]
}

fn the_version_is_what_kubelets_compare(node: &Node) {
    let request = VersionRequest {
        version: "0.1.0".into(),
    };
    let version = node.ok(node.runtime().version(request));
    assert_eq!(version.version, "0.1.0");
    assert_eq!(version.runtime_api_version, "v1");
    assert_eq!(version.runtime_name, "iechor");
    let parts: Vec<u64> = version
        .runtime_version
        .split('.')
        .map(|part| part.parse().expect("a number of a semantic version"))
        .collect();
    assert_eq!(parts.len(), 3);
    let shown = node.daemon.server.get("/version").expect(200).json();
    assert_eq!(shown["Version"], version.runtime_version.as_str());
}

/// No pod can be run yet, and a kubelet is told that.
fn the_status_has_both_conditions(node: &Node) {
    for verbose in [false, true] {
        let answer = node.ok(node.runtime().status(StatusRequest { verbose }));
        let conditions = answer.status.expect("a status").conditions;
        let kinds: Vec<&str> = conditions.iter().map(|one| one.r#type.as_str()).collect();
        assert_eq!(kinds, ["RuntimeReady", "NetworkReady"]);
        for one in &conditions {
            assert!(!one.status && one.message.contains("no pods yet"), "{one:?}");
        }
        assert_eq!(answer.info.contains_key("root"), verbose, "{:?}", answer.info);
    }
}

fn the_cgroup_driver_is_told(node: &Node) {
    let linux = node.ok(node.runtime().runtime_config(RuntimeConfigRequest {})).linux;
    let shown = node.daemon.server.get("/info").expect(200).json();
    let expected = match shown["CgroupDriver"].as_str() {
        Some("systemd") => CgroupDriver::Systemd,
        _ => CgroupDriver::Cgroupfs,
    };
    assert_eq!(linux.expect("for Linux").cgroup_driver(), expected);
}

fn calls_that_are_not_served_say_so(node: &Node) {
    let mut runtime = node.runtime();
    let run = RunPodSandboxRequest::default();
    assert_eq!(node.failed(runtime.run_pod_sandbox(run)).0, Code::Unimplemented);
    let list = ListPodSandboxRequest::default();
    assert_eq!(node.failed(runtime.list_pod_sandbox(list)).0, Code::Unimplemented);
    let update = UpdateRuntimeConfigRequest::default();
    assert_eq!(
        node.failed(runtime.update_runtime_config(update)).0,
        Code::Unimplemented
    );
    let stream = StreamContainersRequest::default();
    assert_eq!(node.failed(runtime.stream_containers(stream)).0, Code::Unimplemented);
}

/// Nobody is served who did not ask for it, and only at a whole path.
fn the_socket_is_asked_for(_: &Node) {
    let daemon = Daemon::start(Options::default());
    let sockets = std::fs::read_dir(&daemon.places.exec).expect("the exec root").flatten();
    let names: Vec<String> = sockets
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!names.iter().any(|name| name.contains("cri")), "{names:?}");
    daemon.finish();
    let output = Run::new(&binary("iechord"), &["--validate", "--cri-socket", "cri.sock"]).output();
    assert!(
        output.code != 0 && output.err.contains("--cri-socket must be an absolute path"),
        "{}",
        output.err
    );
}

/// A second daemon does not take it away from the first.
fn the_socket_is_of_one_daemon(node: &Node) {
    let folder = Folder::new("cri-second");
    let at = |name: &str| folder.at(name);
    let host = format!("unix://{}", at("api.sock"));
    let output = Run::new(
        &binary("iechord"),
        &[
            "--cri-socket",
            &node.socket,
            "--host",
            &host,
            "--data-root",
            &at("root"),
            "--exec-root",
            &at("exec"),
        ],
    )
    .output();
    assert!(output.code != 0 && output.err.contains(&node.socket), "{}", output.err);
    node.ok(node.runtime().version(VersionRequest::default()));
}

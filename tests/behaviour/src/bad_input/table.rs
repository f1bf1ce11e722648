//! The wrong requests, each with the status and the words of its refusal.

use serde_json::{Value, json};

/// One wrong request.
pub struct Wrong {
    pub what: &'static str,
    pub method: &'static str,
    pub target: String,
    pub body: Vec<u8>,
    /// Any of these: where Docker says 500 to a bad argument, saying 400 is no mistake.
    pub status: &'static [u16],
    /// Docker takes the create and refuses the start: that is right too, as long as nobody gets a container that
    /// ignores what was asked for.
    pub late: bool,
    /// Each must be in the message, in any case of letters; alternatives are separated by `|`.
    pub message: Vec<String>,
}

fn wrong(what: &'static str, request: &str, body: impl Into<Body>, status: impl Into<Status>, message: &str) -> Wrong {
    let (method, target) = request.split_once(' ').expect("METHOD target");
    let method = match method {
        "GET" => "GET",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "PUT" => "PUT",
        other => panic!("no method {other}"),
    };
    let message = message
        .split(" & ")
        .filter(|part| !part.is_empty())
        .map(str::to_lowercase)
        .collect();
    Wrong {
        what,
        method,
        target: target.to_owned(),
        body: body.into().0,
        status: status.into().0,
        late: false,
        message,
    }
}

struct Status(&'static [u16]);

impl From<u16> for Status {
    fn from(status: u16) -> Status {
        Status(match status {
            304 => &[304],
            400 => &[400],
            404 => &[404],
            409 => &[409],
            500 => &[500],
            other => panic!("no case expects {other}"),
        })
    }
}

/// A bad argument that Docker answers with 500.
const BAD: Status = Status(&[400, 500]);

struct Body(Vec<u8>);

impl From<Value> for Body {
    fn from(value: Value) -> Body {
        Body(if value.is_null() {
            Vec::new()
        } else {
            value.to_string().into_bytes()
        })
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Body {
        Body(text.as_bytes().to_vec())
    }
}

const NONE: Value = Value::Null;

/// A create body with one more setting in HostConfig.
fn host(key: &str, value: Value) -> Value {
    json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {key: value}})
}

fn config(key: &str, value: Value) -> Value {
    let mut body = json!({"Image": "busybox", "Cmd": ["true"]});
    body[key] = value;
    body
}

/// Wrong creates.
#[rustfmt::skip] // A table is read by its rows.
pub fn creates() -> Vec<Wrong> {
    let mut table = Vec::new();
    let mut add = |what, body: Value, status: u16, message| table.push(wrong(what, "POST /containers/create", body, status, message));
    add("no image", json!({"Cmd": ["true"]}), 400, "");
    add("absent image", json!({"Image": "no-such-image:1"}), 404, "No such image: no-such-image:1");
    add("image name with capitals", json!({"Image": "Busybox"}), 400, "invalid reference format & lowercase");
    add("image name with spaces", json!({"Image": "busy box"}), 400, "invalid reference format");
    add("image by a digest that is none", json!({"Image": "busybox@sha256:abc"}), 400, "invalid reference format|invalid checksum digest");
    add("relative working directory", config("WorkingDir", json!("here")), 400, "working directory & here & absolute");
    add("environment without a name", config("Env", json!(["=x"])), 400, "invalid environment variable");
    add("bad port", config("ExposedPorts", json!({"http/tcp": {}})), 400, "invalid|port");
    add("bad port protocol", config("ExposedPorts", json!({"80/carrier-pigeon": {}})), 400, "proto");
    add("bad stop signal", config("StopSignal", json!("SIGNOTHING")), 400, "invalid signal: SIGNOTHING");
    add("memory below the minimum", host("Memory", json!(1024)), 400, "minimum memory limit");
    add("negative memory", host("Memory", json!(-5)), 400, "memory");
    add("swap below memory", json!({"Image": "busybox", "HostConfig": {"Memory": 67108864, "MemorySwap": 33554432}}), 400, "memoryswap|swap");
    add("reservation above memory", json!({"Image": "busybox", "HostConfig": {"Memory": 67108864, "MemoryReservation": 134217728}}), 400, "reservation");
    add("more CPUs than there are", host("NanoCpus", json!(4_000_000_000_000i64)), 400, "cpus");
    add("CPUs and quota together", json!({"Image": "busybox", "HostConfig": {"NanoCpus": 500000000, "CpuQuota": 50000}}), 400, "cpu");
    add("CPU period out of range", host("CpuPeriod", json!(10)), 400, "cpu & period");
    add("cpuset that is no list", host("CpusetCpus", json!("a-b")), 400, "cpuset");
    add("cpuset that the machine has not", host("CpusetCpus", json!("900")), 400, "cpus");
    add("pids limit of the wrong type", host("PidsLimit", json!("many")), 400, "json|invalid|cannot");
    add("relative bind source", host("Binds", json!(["here/there:/data"])), 400, "volume name|absolute");
    add("relative bind target", host("Binds", json!(["/tmp:data"])), 400, "data & absolute|invalid mount path");
    add("bind to the root", host("Binds", json!(["/tmp:/"])), 400, "destination can't be '/'|root");
    add("bind with an unknown mode", host("Binds", json!(["/tmp:/data:sideways"])), 400, "invalid mode: sideways|sideways");
    add("bind with both ro and rw", host("Binds", json!(["/tmp:/data:ro,rw"])), 400, "mode");
    add("the same target twice", host("Binds", json!(["/tmp:/data", "/var:/data"])), 400, "duplicate mount point: /data");
    add("mount of an unknown type", host("Mounts", json!([{"Type": "floppy", "Target": "/data"}])), 400, "mount type & floppy|unknown");
    add("mount without a target", host("Mounts", json!([{"Type": "tmpfs"}])), 400, "target");
    add("bind mount of an absent source", host("Mounts", json!([{"Type": "bind", "Source": "/no/such/path", "Target": "/data"}])), 400, "bind source path does not exist: /no/such/path");
    add("bind mount without a source", host("Mounts", json!([{"Type": "bind", "Target": "/data"}])), 400, "source");
    add("tmpfs mount with a source", host("Mounts", json!([{"Type": "tmpfs", "Source": "/tmp", "Target": "/data"}])), 400, "source");
    add("volume with a bad name", host("Binds", json!(["../up:/data"])), 400, "volume name|absolute");
    add("tmpfs with a bad option", host("Tmpfs", json!({"/data": "colour=blue"})), 400, "tmpfs|option");
    add("tmpfs on a relative path", host("Tmpfs", json!({"data": ""})), 400, "data & absolute|invalid mount path");
    add("unknown network", json!({"Image": "busybox", "HostConfig": {"NetworkMode": "no-such-network"}}), 404, "network no-such-network not found");
    add("network of itself without a name", host("NetworkMode", json!("container:")), 400, "container");
    add("ports with the host's network is fine, host name is not a port", host("PortBindings", json!({"80/tcp": [{"HostPort": "http"}]})), 400, "port");
    add("host port too large", host("PortBindings", json!({"80/tcp": [{"HostPort": "70000"}]})), 400, "port");
    add("host address that is none", json!({"Image": "busybox", "ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "300.1.1.1", "HostPort": "80"}]}}}), 400, "ip|address");
    add("restart policy that is none", host("RestartPolicy", json!({"Name": "sometimes"})), 400, "restart policy & sometimes|invalid restart policy");
    add("retry count without on-failure", host("RestartPolicy", json!({"Name": "always", "MaximumRetryCount": 3})), 400, "maximum retry count");
    add("auto-remove with a restart policy", json!({"Image": "busybox", "HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "always"}}}), 400, "AutoRemove|conflict & restart");
    add("unknown capability", host("CapAdd", json!(["FLYING"])), 400, "FLYING");
    add("unknown security option", host("SecurityOpt", json!(["magic=1"])), 400, "security-opt|magic");
    add("seccomp profile that is no JSON", host("SecurityOpt", json!(["seccomp={\"defaultAction\":"])), 400, "seccomp");
    add("unknown ulimit", host("Ulimits", json!([{"Name": "speed", "Soft": 1, "Hard": 1}])), 400, "speed|ulimit");
    add("ulimit with soft above hard", host("Ulimits", json!([{"Name": "nofile", "Soft": 20, "Hard": 10}])), 400, "ulimit|rlimit");
    add("absent device", host("Devices", json!([{"PathOnHost": "/dev/no-such-device", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}])), 400, "/dev/no-such-device");
    add("device with bad rights", host("Devices", json!([{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "xyz"}])), 400, "permission|cgroup");
    add("unknown log driver", host("LogConfig", json!({"Type": "pigeon"})), 400, "pigeon");
    add("unknown log option", host("LogConfig", json!({"Type": "json-file", "Config": {"colour": "blue"}})), 400, "log opt & colour|colour");
    add("bad oom score", host("OomScoreAdj", json!(5000)), 400, "oom");
    add("sysctl of the whole machine", host("Sysctls", json!({"kernel.panic": "1"})), 400, "kernel.panic");
    add("network sysctl with the host's network", json!({"Image": "busybox", "HostConfig": {"NetworkMode": "host", "Sysctls": {"net.ipv4.ip_forward": "1"}}}), 400, "net.ipv4.ip_forward");
    add("unknown runtime", host("Runtime", json!("no-such-runtime")), 400, "runtime");
    add("volumes from nobody", host("VolumesFrom", json!(["no-such-container"])), 400, "no-such-container");
    add("negative shm size", host("ShmSize", json!(-1)), 400, "shm");
    add("bad ipc mode", host("IpcMode", json!("everybody")), 400, "ipc");
    add("bad pid mode", host("PidMode", json!("everybody")), 400, "pid");
    add("bad uts mode", host("UTSMode", json!("everybody")), 400, "uts");
    add("extra host without an address", host("ExtraHosts", json!(["name-only"])), 400, "host|extra");
    add("bad dns server", host("Dns", json!(["not-an-address"])), 400, "dns|address");
    add("negative stop timeout is fine, text is not", config("StopTimeout", json!("soon")), 400, "json|invalid|cannot");
    add("body of the wrong type", json!(["a", "list"]), 400, "");
    for request in &mut table {
        request.late = LATE.contains(&request.what);
        if AS_500.contains(&request.what) {
            request.status = BAD.0;
        }
    }
    table
}

/// What Docker notices only when the container starts.
const LATE: &[&str] = &[
    "bad port",
    "bad port protocol",
    "no image",
    "tmpfs with a bad option",
    "unknown network",
    "host address that is none",
    "unknown security option",
    "seccomp profile that is no JSON",
    "unknown ulimit",
    "ulimit with soft above hard",
    "absent device",
    "device with bad rights",
    "sysctl of the whole machine",
    "network sysctl with the host's network",
    "bad dns server",
];

const AS_500: &[&str] = &[
    "relative bind target",
    "bind to the root",
    "bind with an unknown mode",
    "bind with both ro and rw",
    "unknown security option",
];

/// Everything else.
#[rustfmt::skip]
pub fn others(running: &str, stopped: &str, unreachable: &str) -> Vec<Wrong> {
    let filters = |text: &str| format!("filters={}", text.replace('{', "%7B").replace('}', "%7D").replace('"', "%22").replace('[', "%5B").replace(']', "%5D"));
    let mut table = vec![
        wrong("no body", "POST /containers/create", NONE, 400, ""),
        wrong("garbage JSON", "POST /containers/create", "{\"Image\": ", 400, "json|unexpected|EOF"),
        wrong("two objects", "POST /containers/create", "{\"Image\": \"busybox\"}{\"Image\": \"busybox\"}", 400, "json|unexpected|trailing"),
        wrong("bad container name", "POST /containers/create?name=-bad", config("Tty", json!(false)), 400, "invalid container name"),
        wrong("container name with a slash", "POST /containers/create?name=a/b", config("Tty", json!(false)), 400, "invalid container name"),
        wrong("container name of one letter", "POST /containers/create?name=a", config("Tty", json!(false)), 400, "invalid container name"),
        wrong("name in use", &format!("POST /containers/create?name={stopped}"), config("Tty", json!(false)), 409, "is already in use by container"),
        wrong("platform that is not here", "POST /containers/create?platform=plan9/mips", config("Tty", json!(false)), 404, "platform|no such image|architecture|plan9"),
        wrong("inspect of nobody", "GET /containers/nobody/json", NONE, 404, "No such container: nobody"),
        wrong("start of nobody", "POST /containers/nobody/start", NONE, 404, "No such container: nobody"),
        wrong("stop of nobody", "POST /containers/nobody/stop", NONE, 404, "No such container: nobody"),
        wrong("kill of nobody", "POST /containers/nobody/kill", NONE, 404, "No such container: nobody"),
        wrong("removal of nobody", "DELETE /containers/nobody", NONE, 404, "No such container: nobody"),
        wrong("logs of nobody", "GET /containers/nobody/logs?stdout=1", NONE, 404, "No such container: nobody"),
        wrong("wait for nobody", "POST /containers/nobody/wait", NONE, 404, "No such container: nobody"),
        wrong("exec in nobody", "POST /containers/nobody/exec", json!({"Cmd": ["true"]}), 404, "No such container: nobody"),
        wrong("attach to nobody", "POST /containers/nobody/attach?stream=1", NONE, 404, "No such container: nobody"),
        wrong("rename of nobody", "POST /containers/nobody/rename?name=somebody", NONE, 404, "No such container: nobody"),
        wrong("rename to nothing", &format!("POST /containers/{stopped}/rename?name="), NONE, 400, "name|empty"),
        wrong("rename to a bad name", &format!("POST /containers/{stopped}/rename?name=%20"), NONE, 400, "invalid container name|name"),
        wrong("rename to a name in use", &format!("POST /containers/{stopped}/rename?name={running}"), NONE, 409, "already in use"),
        wrong("unknown signal", &format!("POST /containers/{running}/kill?signal=SIGNOTHING"), NONE, 400, "invalid signal: SIGNOTHING"),
        wrong("kill of a stopped one", &format!("POST /containers/{stopped}/kill"), NONE, 409, "is not running"),
        wrong("stop with a bad timeout", &format!("POST /containers/{running}/stop?t=soon"), NONE, BAD, "invalid|soon"),
        wrong("start of a running one", &format!("POST /containers/{running}/start"), NONE, 304, ""),
        wrong("start with a body", &format!("POST /containers/{stopped}/start"), json!({"Binds": ["/:/host"]}), 400, "body|HostConfig|non-empty"),
        wrong("removal of a running one", &format!("DELETE /containers/{running}"), NONE, 409, "container is running"),
        wrong("resize without sizes", &format!("POST /containers/{running}/resize"), NONE, 400, "invalid|h|resize"),
        wrong("resize with text", &format!("POST /containers/{running}/resize?h=a&w=b"), NONE, 400, "invalid|resize"),
        wrong("logs of no stream", &format!("GET /containers/{running}/logs"), NONE, 400, "you must choose at least one stream"),
        wrong("logs since never", &format!("GET /containers/{running}/logs?stdout=1&since=yesterday"), NONE, BAD, "yesterday|invalid|since"),
        wrong("wait for an unknown condition", &format!("POST /containers/{running}/wait?condition=asleep"), NONE, 400, "invalid condition: \"asleep\"|asleep"),
        wrong("exec without a command", &format!("POST /containers/{running}/exec"), json!({"Cmd": []}), 400, "no exec command specified"),
        wrong("exec with garbage", &format!("POST /containers/{running}/exec"), "nonsense", 400, ""),
        wrong("exec in a stopped one", &format!("POST /containers/{stopped}/exec"), json!({"Cmd": ["true"]}), 409, "is not running"),
        wrong("start of an unknown exec", "POST /exec/0123456789abcdef/start", json!({"Detach": true}), 404, "No such exec instance"),
        wrong("inspect of an unknown exec", "GET /exec/0123456789abcdef/json", NONE, 404, "No such exec instance"),
        wrong("resize of an unknown exec", "POST /exec/0123456789abcdef/resize?h=1&w=1", NONE, 404, "No such exec instance"),
        wrong("list with a filter nobody knows", &format!("GET /containers/json?{}", filters("{\"colour\":[\"blue\"]}")), NONE, 400, "invalid filter|colour"),
        wrong("list with a filter that is no JSON", "GET /containers/json?filters=status%3Drunning", NONE, 400, "invalid|filter"),
        wrong("list with a status nobody has", &format!("GET /containers/json?{}", filters("{\"status\":[\"asleep\"]}")), NONE, 400, "asleep|status"),
        wrong("prune with a filter nobody knows", &format!("POST /containers/prune?{}", filters("{\"colour\":[\"blue\"]}")), NONE, 400, "invalid filter|colour"),
        wrong("events until never", "GET /events?until=whenever", NONE, BAD, "whenever|invalid"),
        wrong("image of nobody", "GET /images/no-such-image/json", NONE, 404, "No such image: no-such-image"),
        wrong("history of nobody", "GET /images/no-such-image/history", NONE, 404, "No such image: no-such-image"),
        wrong("removal of no image", "DELETE /images/no-such-image", NONE, 404, "No such image: no-such-image"),
        wrong("removal of an image in use", "DELETE /images/busybox:latest", NONE, 409, "conflict|is using"),
        wrong("tag of nobody", "POST /images/no-such-image/tag?repo=a/b&tag=c", NONE, 404, "No such image: no-such-image"),
        wrong("tag that is none", "POST /images/busybox/tag?repo=a/b&tag=c%20d", NONE, 400, "invalid tag format|invalid reference"),
        wrong("tag with a bad repository", "POST /images/busybox/tag?repo=A/B&tag=c", NONE, 400, "invalid reference format"),
        wrong("save of nobody", "GET /images/no-such-image/get", NONE, 404, "No such image|reference does not exist"),
        wrong("pull of nothing", "POST /images/create", NONE, BAD, ""),
        wrong("pull of a bad name", "POST /images/create?fromImage=UPPER", NONE, 400, "invalid reference format"),
        wrong("load of something else", "POST /images/load", "this is no archive", Status(&[200, 400, 500]), "error|archive|unexpected"),
        wrong("list of images with a filter nobody knows", &format!("GET /images/json?{}", filters("{\"colour\":[\"blue\"]}")), NONE, 400, "invalid filter|colour"),
        wrong("unknown path", "GET /no/such/path", NONE, 404, "page not found"),
        wrong("unknown method", "PUT /containers/json", NONE, 404, "page not found"),
        wrong("version too old", "GET /v1.10/containers/json", NONE, 400, "client version 1.10 is too old. Minimum supported API version is"),
        wrong("version too new", "GET /v9.99/containers/json", NONE, 400, "client version 9.99 is too new. Maximum supported API version is"),
    ];
    // Docker answers 500 to what a registry refuses before the stream begins; so does every client expect.
    table.push(wrong("registry that does not answer", &format!("POST /images/create?fromImage={unreachable}/x&tag=1"), NONE, 500, "connection refused"));
    table
}

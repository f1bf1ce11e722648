//! Containers and execs.

use std::borrow::Cow;

use agent_api::IdResponse;
use agent_api::container::{
    FileChange, Inspect, PruneReport, Summary, Top, UpdateChange, UpdateResponse, WaitResponse,
};
use agent_api::create::{Config, CreateRequest, CreateResponse};
use agent_api::exec::{ExecCreate, ExecInspect, ExecStart};
use agent_api::host_config::HostConfig;
use agent_api::log::LogRecord;
use agent_api::stats::Stats;
use agent_engine::filters::CONTAINER_KEYS;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::operation::{
    Operation, cells, delete, filters, flag, get, head, list, moment, number, one_of, platform, post, put, text,
};
use crate::records::{JSON_LINES, JSON_SEQ, ND_JSON};
use crate::reply::{JSON, MULTIPLEXED, RAW_STREAM};

const TAR: &[&str] = &["application/x-tar"];
const STREAMS: &[&str] = &[RAW_STREAM, MULTIPLEXED];

/// What an update can be asked for: of `HostConfig` what is a limit, and the restart policy; beside it what is ours.
struct Update;

impl JsonSchema for Update {
    fn schema_name() -> Cow<'static, str> {
        "ContainerUpdate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let ours = UpdateChange::json_schema(generator);
        let mut schema = HostConfig::json_schema(generator);
        if let Some(members) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            // They stand behind one another, from the first to the last that Docker has in an update.
            let names: Vec<String> = members.keys().cloned().collect();
            let limits = names.iter().skip_while(|name| *name != "CpuShares");
            let limits: Vec<&String> = limits.take_while(|name| *name != "Mounts").collect();
            let kept = |name: &String| limits.contains(&name) || name == "Init" || name == "RestartPolicy";
            members.retain(|name, _| kept(name));
            members.extend(
                ours.get("properties")
                    .and_then(Value::as_object)
                    .cloned()
                    .unwrap_or_default(),
            );
        }
        schema
    }
}

pub fn operations() -> Vec<Operation> {
    let mut all = life();
    all.extend(inside());
    all.extend(execs());
    all
}

fn life() -> Vec<Operation> {
    vec![
        get("/containers/json", "List containers")
            .takes([flag("all"), number("limit"), flag("size"), filters(&CONTAINER_KEYS)])
            .json::<Vec<Summary>>(200),
        post("/containers/create", "Create a container")
            .takes([text("name"), platform("platform")])
            .needs::<CreateRequest>()
            .json::<CreateResponse>(201),
        post("/containers/prune", "Remove containers that do not run")
            .takes([filters(&["label", "label!", "until"])])
            .json::<PruneReport>(200),
        delete("/containers/{id}", "Remove a container")
            .takes([flag("force"), flag("v"), flag("link")])
            .empty(204),
        get("/containers/{id}/json", "Inspect a container")
            .takes([flag("size")])
            .json::<Inspect>(200),
        post("/containers/{id}/start", "Start a container")
            .takes([text("detachKeys"), text("checkpoint"), text("checkpoint-dir")])
            .empty(204)
            .empty(304),
        post("/containers/{id}/stop", "Stop a container")
            .takes([text("signal"), number("t")])
            .empty(204)
            .empty(304),
        post("/containers/{id}/restart", "Stop and start a container")
            .takes([text("signal"), number("t")])
            .empty(204),
        post("/containers/{id}/kill", "Send a signal to a container's first process")
            .takes([text("signal")])
            .empty(204),
        post("/containers/{id}/rename", "Rename a container")
            .takes([text("name").required()])
            .empty(204),
        post("/containers/{id}/pause", "Freeze a container").empty(204),
        post("/containers/{id}/unpause", "Thaw a container").empty(204),
        post("/containers/{id}/update", "Change limits and restart policy")
            .body::<Update>()
            .json::<UpdateResponse>(200),
        post("/containers/{id}/wait", "Wait for a container")
            .takes([one_of("condition", &["not-running", "next-exit", "removed"])])
            .records::<WaitResponse>(&[JSON]),
        post("/commit", "Make an image of a container's changes")
            .takes([
                text("container").required(),
                text("repo"),
                text("tag"),
                text("author"),
                text("comment"),
                flag("pause"),
                list("changes"),
            ])
            .body::<Config>()
            .json::<IdResponse>(201),
    ]
}

fn inside() -> Vec<Operation> {
    let streams = || {
        [
            flag("logs"),
            flag("stream"),
            flag("stdin"),
            flag("stdout"),
            flag("stderr"),
        ]
    };
    vec![
        post("/containers/{id}/resize", "Resize a container's terminal")
            .takes([cells("h"), cells("w")])
            .empty(200),
        post("/containers/{id}/attach", "Attach to a container")
            .takes([text("detachKeys")])
            .takes(streams())
            .bytes(STREAMS)
            .hijacks(),
        get("/containers/{id}/attach/ws", "Attach to a container by WebSocket")
            .takes([text("detachKeys")])
            .takes(streams())
            .hijacks(),
        get("/containers/{id}/logs", "Read a container's output")
            .takes([
                flag("stdout"),
                flag("stderr"),
                flag("follow"),
                flag("timestamps"),
                flag("details"),
                text("tail"),
                moment("since"),
                moment("until"),
                one_of("format", &["json"]),
            ])
            .records_or_bytes::<LogRecord>(&[JSON_LINES, ND_JSON, JSON_SEQ], STREAMS),
        get("/containers/{id}/stats", "Measure a container")
            .takes([flag("stream"), flag("one-shot")])
            .records::<Stats>(&[JSON]),
        get("/containers/{id}/top", "List a container's processes")
            .takes([text("ps_args")])
            .json::<Top>(200),
        get("/containers/{id}/export", "Read a container's files").bytes(&["application/octet-stream"]),
        get("/containers/{id}/archive", "Read a path of a container")
            .takes([text("path").required()])
            .bytes(TAR),
        head("/containers/{id}/archive", "Look at a path of a container")
            .takes([text("path").required()])
            .empty(200),
        put("/containers/{id}/archive", "Write below a path of a container")
            .takes([
                text("path").required(),
                flag("noOverwriteDirNonDir"),
                flag("copyUIDGID"),
            ])
            .archive()
            .empty(200),
        get("/containers/{id}/changes", "List the paths that a container changed").json::<Option<Vec<FileChange>>>(200),
    ]
}

fn execs() -> Vec<Operation> {
    vec![
        post("/containers/{id}/exec", "Prepare a command in a container")
            .needs::<ExecCreate>()
            .json::<IdResponse>(201),
        post("/exec/{id}/start", "Run a prepared command")
            .body::<ExecStart>()
            .bytes(STREAMS)
            .hijacks(),
        post("/exec/{id}/resize", "Resize a command's terminal")
            .takes([cells("h"), cells("w")])
            .empty(200),
        get("/exec/{id}/json", "Inspect a command").json::<ExecInspect>(200),
    ]
}

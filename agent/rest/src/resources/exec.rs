//! Execs: create, start (which hijacks the connection), resize, inspect.

use agent_api::IdResponse;
use agent_api::exec::{ExecCreate, ExecInspect, ExecStart as WireStart, ProcessConfig};
use agent_engine::Engine;
use agent_engine::container::exec::{ExecPhase, ExecRequest, ExecStart};
use axum::body::Body;
use axum::extract::State;
use http::{Request, StatusCode};

use super::attach::size;
use crate::detach;
use crate::error::{ApiError, ApiResult};
use crate::hijack::{Hijack, Opened, Terms};
use crate::reply;
use crate::request::{self, Query, Target};
use crate::version::ApiVersion;

/// Longest body of an exec start; it has three small members.
const START_BODY: usize = 64 * 1024;

/// Height and width, where the version lets the client say them.
fn console(size: Option<[u32; 2]>, version: ApiVersion) -> ApiResult<Option<[u16; 2]>> {
    let Some(size) = size.filter(|_| version.since(42)) else {
        return Ok(None);
    };
    let mut narrow = [0; 2];
    for (slot, value) in narrow.iter_mut().zip(size) {
        *slot = u16::try_from(value).map_err(|_| ApiError::bad(format!("invalid console size: {value}")))?;
    }
    Ok(Some(narrow))
}

pub async fn create(
    State(engine): State<Engine>,
    version: ApiVersion,
    Target(id): Target,
    request: Request<Body>,
) -> ApiResult {
    let wire: ExecCreate = request::json(request).await?;
    if wire.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::bad("No exec command specified"));
    }
    if !wire.detach_keys.is_empty() {
        detach::parse(&wire.detach_keys)?;
    }
    let request = ExecRequest {
        console: console(wire.console_size, version)?,
        argv: wire.cmd.unwrap_or_default(),
        env: wire.env.unwrap_or_default(),
        user: wire.user,
        working_dir: wire.working_dir,
        tty: wire.tty,
        privileged: wire.privileged,
        stdin: wire.attach_stdin,
        stdout: wire.attach_stdout,
        stderr: wire.attach_stderr,
        detach_keys: wire.detach_keys,
    };
    let id = engine.exec_create(&id, request).await?;
    Ok(reply::json(StatusCode::CREATED, &IdResponse { id }))
}

pub async fn start(
    State(engine): State<Engine>,
    version: ApiVersion,
    Target(id): Target,
    request: Request<Body>,
) -> ApiResult {
    // The body is the request's only until the hijack: what follows it on the connection is stdin.
    let (parts, body) = request.into_parts();
    let bytes = request::bytes(body, START_BODY).await?;
    let mut request = Request::from_parts(parts, Body::from(bytes));
    let wire: WireStart = {
        let body = std::mem::take(request.body_mut());
        let mut copy = Request::new(body);
        *copy.headers_mut() = request.headers().clone();
        request::json(copy).await?
    };
    let exec = engine.exec_inspect(&id)?;
    let tty = exec.request.tty;
    let keys = detach::parse(&exec.request.detach_keys)?;
    let start = ExecStart {
        detach: wire.detach,
        console: console(wire.console_size, version)?.filter(|_| tty),
    };
    let admitted = engine.exec_admit(&id)?;
    if wire.detach {
        admitted.launch(start).await?;
        return Ok(reply::empty(StatusCode::OK));
    }
    // The connection is a stream before anything runs, and what goes wrong from here on is said there, as dockerd does;
    // the client takes 126 or 127 from inspect.
    let open = async move {
        match admitted.launch(start).await {
            Ok(Some(attachment)) => Opened::Attached(attachment),
            Ok(None) => Opened::Nothing,
            Err(error) => Opened::Said(format!("{}\r\n", error.chain())),
        }
    };
    let finished = {
        let (engine, id) = (engine.clone(), id.clone());
        // The client asks for the exit code as soon as the connection closes.
        async move {
            let _ = engine.exec_wait(&id).await;
        }
    };
    let terms = Terms {
        tty,
        version,
        first: None,
        keys,
    };
    let detached = move || engine.note_exec_detach(&id);
    Ok(Hijack::of(request).run(terms, open, finished, detached))
}

pub async fn resize(State(engine): State<Engine>, Target(id): Target, query: Query) -> ApiResult {
    let (rows, columns) = size(&query)?;
    engine.exec_resize(&id, rows, columns).await?;
    Ok(reply::empty(StatusCode::OK))
}

pub async fn inspect(State(engine): State<Engine>, Target(id): Target) -> ApiResult {
    let view = engine.exec_inspect(&id)?;
    let request = view.request;
    let (running, exit_code, pid) = match view.phase {
        ExecPhase::Created => (false, None, 0),
        // As dockerd: from the moment that the client has its stream, with or without a process.
        ExecPhase::Starting => (true, None, 0),
        ExecPhase::Running { pid } => (true, None, pid),
        ExecPhase::Exited { pid, code } => (false, Some(code.into()), pid),
    };
    let mut argv = request.argv.into_iter();
    Ok(reply::ok(&ExecInspect {
        id: view.id,
        running,
        exit_code,
        process_config: ProcessConfig {
            tty: request.tty,
            entrypoint: argv.next().unwrap_or_default(),
            arguments: argv.collect(),
            privileged: Some(request.privileged),
            user: request.user,
        },
        open_stdin: request.stdin,
        open_stderr: request.stderr,
        open_stdout: request.stdout,
        can_remove: false,
        container_id: view.container,
        detach_keys: request.detach_keys,
        pid: pid.into(),
    }))
}

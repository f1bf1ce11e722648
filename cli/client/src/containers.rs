//! `/containers/…`

use agent_api::container::{Change, Inspect, PruneReport, Summary, Top, UpdateResponse, WaitResponse};
use agent_api::create::{CreateRequest, CreateResponse};
use agent_api::host_config::HostConfig;
use agent_api::stats::Stats;
use bytes::Bytes;
use http::StatusCode;

use crate::call::{Call, segment, segments};
use crate::download::Download;
use crate::error::Result;
use crate::filters::Filters;
use crate::hijack::Hijacked;
use crate::http::Client;
use crate::messages::Messages;

/// What to attach to, and how.
#[derive(Debug, Clone, Default)]
pub struct Attach {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Go on with what comes; without it only `logs` are sent.
    pub stream: bool,
    /// Begin with what was logged.
    pub logs: bool,
    pub detach_keys: Option<String>,
}

/// Which log lines.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    pub stdout: bool,
    pub stderr: bool,
    pub follow: bool,
    pub timestamps: bool,
    pub details: bool,
    /// Unix seconds with a fraction.
    pub since: Option<String>,
    pub until: Option<String>,
    /// A number of lines, or `all`.
    pub tail: Option<String>,
}

/// A wait that the daemon has registered: what ends from now on is not missed.
pub struct Waiting(Messages<WaitResponse>);

impl Waiting {
    /// Waits for the end.
    ///
    /// # Errors
    /// The connection broke, or ended without an answer.
    pub async fn finish(mut self) -> Result<WaitResponse> {
        match self.0.next().await? {
            Some(response) => Ok(response),
            None => Err(crate::Error::Answer {
                doing: "wait".to_owned(),
                reason: "it is empty".to_owned(),
            }),
        }
    }
}

fn path(id: &str, action: &str) -> Result<String> {
    // Names are listed with a slash in front, and so may come back with one.
    let name = id.strip_prefix('/').unwrap_or(id);
    Ok(format!("/containers/{}{action}", segment(name)?))
}

/// Each fails as [`crate::Error`] tells.
impl Client {
    pub async fn containers(
        &self,
        all: bool,
        limit: Option<i64>,
        size: bool,
        filters: &Filters,
    ) -> Result<Vec<Summary>> {
        let call = Call::get("/containers/json")
            .flag("all", all)
            .option("limit", limit)
            .flag("size", size);
        self.fetch(call.option("filters", filters.to_query())).await
    }

    pub async fn create_container(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: &CreateRequest,
    ) -> Result<CreateResponse> {
        self.fetch(
            Call::post("/containers/create")
                .option("name", name)
                .option("platform", platform)
                .json(request)?,
        )
        .await
    }

    pub async fn inspect_container(&self, id: &str) -> Result<Inspect> {
        self.fetch(Call::get(path(id, "/json")?)).await
    }

    /// The answer as the daemon wrote it, with what this client's types do not know.
    pub async fn inspect_container_raw(&self, id: &str, size: bool) -> Result<Bytes> {
        self.fetch_bytes(Call::get(path(id, "/json")?).flag("size", size)).await
    }

    pub async fn start_container(&self, id: &str, detach_keys: Option<&str>) -> Result<()> {
        self.send(Call::post(path(id, "/start")?).option("detachKeys", detach_keys))
            .await
            .map(drop)
    }

    /// Whether it ran (`false`: it had stopped before). `timeout` in seconds, -1 waits for ever.
    pub async fn stop_container(&self, id: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<bool> {
        let status = self
            .send(
                Call::post(path(id, "/stop")?)
                    .option("signal", signal)
                    .option("t", timeout),
            )
            .await?;
        Ok(status != StatusCode::NOT_MODIFIED)
    }

    pub async fn restart_container(&self, id: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        self.send(
            Call::post(path(id, "/restart")?)
                .option("signal", signal)
                .option("t", timeout),
        )
        .await
        .map(drop)
    }

    pub async fn kill_container(&self, id: &str, signal: Option<&str>) -> Result<()> {
        self.send(Call::post(path(id, "/kill")?).option("signal", signal))
            .await
            .map(drop)
    }

    pub async fn pause_container(&self, id: &str) -> Result<()> {
        self.send(Call::post(path(id, "/pause")?)).await.map(drop)
    }

    pub async fn unpause_container(&self, id: &str) -> Result<()> {
        self.send(Call::post(path(id, "/unpause")?)).await.map(drop)
    }

    pub async fn rename_container(&self, id: &str, name: &str) -> Result<()> {
        self.send(Call::post(path(id, "/rename")?).query("name", name))
            .await
            .map(drop)
    }

    pub async fn remove_container(&self, id: &str, force: bool, volumes: bool, link: bool) -> Result<()> {
        // A link is `container/alias`: two segments.
        let path = if link {
            format!("/containers/{}", segments(id)?)
        } else {
            path(id, "")?
        };
        self.send(
            Call::delete(path)
                .flag("force", force)
                .flag("v", volumes)
                .flag("link", link),
        )
        .await
        .map(drop)
    }

    /// `condition`: `not-running`, `next-exit` or `removed`. Returns when the daemon has taken note.
    pub async fn wait_container(&self, id: &str, condition: &str) -> Result<Waiting> {
        let call = Call::post(path(id, "/wait")?).option("condition", Some(condition));
        Ok(Waiting(Messages::new(self.open(call).await?)))
    }

    pub async fn attach_container(&self, id: &str, attach: &Attach) -> Result<Hijacked> {
        let call = Call::post(path(id, "/attach")?)
            .option("detachKeys", attach.detach_keys.as_deref())
            .flag("logs", attach.logs)
            .flag("stream", attach.stream)
            .flag("stdin", attach.stdin)
            .flag("stdout", attach.stdout)
            .flag("stderr", attach.stderr);
        self.hijack(call).await
    }

    pub async fn resize_container(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        self.send(Call::post(path(id, "/resize")?).query("h", rows).query("w", columns))
            .await
            .map(drop)
    }

    pub async fn container_logs(&self, id: &str, logs: &Logs) -> Result<Download> {
        let call = Call::get(path(id, "/logs")?)
            .flag("stdout", logs.stdout)
            .flag("stderr", logs.stderr)
            .flag("follow", logs.follow)
            .flag("timestamps", logs.timestamps)
            .flag("details", logs.details)
            .option("since", logs.since.as_deref())
            .option("until", logs.until.as_deref())
            .option("tail", logs.tail.as_deref());
        self.open(call).await
    }

    pub async fn container_top(&self, id: &str, ps_args: Option<&str>) -> Result<Top> {
        self.fetch(Call::get(path(id, "/top")?).option("ps_args", ps_args))
            .await
    }

    /// A sample a second for as long as the container exists, or one that is compared with one before it.
    pub async fn container_stats(&self, id: &str, stream: bool) -> Result<Messages<Stats>> {
        let call = Call::get(path(id, "/stats")?).query("stream", u8::from(stream));
        Ok(Messages::new(self.open(call).await?))
    }

    /// Changes the limits of `change` that are set, and the restart policy if it has a name.
    pub async fn update_container(&self, id: &str, limits: &HostConfig, change: &Change) -> Result<UpdateResponse> {
        #[derive(serde::Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Body<'a> {
            #[serde(flatten)]
            limits: &'a HostConfig,
            #[serde(skip_serializing_if = "Option::is_none")]
            change: Option<&'a Change>,
        }
        let change = Some(change).filter(|change| **change != Change::default());
        let body = Body { limits, change };
        self.fetch(Call::post(path(id, "/update")?).json(&body)?).await
    }

    /// The root filesystem as a tar.
    pub async fn export_container(&self, id: &str) -> Result<Download> {
        self.open(Call::get(path(id, "/export")?)).await
    }

    pub async fn prune_containers(&self, filters: &Filters) -> Result<PruneReport> {
        self.fetch(Call::post("/containers/prune").option("filters", filters.to_query()))
            .await
    }
}

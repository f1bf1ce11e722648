//! `/exec/…`

use agent_api::IdResponse;
use agent_api::exec::{ExecCreate, ExecInspect, ExecStart};

use crate::call::{Call, segment};
use crate::error::Result;
use crate::hijack::Hijacked;
use crate::http::Client;

/// Each fails as [`crate::Error`] tells.
impl Client {
    /// Prepares a process in a running container; its id.
    pub async fn create_exec(&self, container: &str, exec: &ExecCreate) -> Result<String> {
        let call = Call::post(format!("/containers/{}/exec", segment(container)?)).json(exec)?;
        Ok(self.fetch::<IdResponse>(call).await?.id)
    }

    /// Starts it and attaches to it.
    pub async fn start_exec(&self, id: &str, start: &ExecStart) -> Result<Hijacked> {
        self.hijack(Call::post(format!("/exec/{}/start", segment(id)?)).json(start)?)
            .await
    }

    /// Starts it and returns at once.
    pub async fn start_exec_detached(&self, id: &str, start: &ExecStart) -> Result<()> {
        let start = ExecStart {
            detach: true,
            ..start.clone()
        };
        self.send(Call::post(format!("/exec/{}/start", segment(id)?)).json(&start)?)
            .await
            .map(drop)
    }

    pub async fn resize_exec(&self, id: &str, rows: u16, columns: u16) -> Result<()> {
        let call = Call::post(format!("/exec/{}/resize", segment(id)?));
        self.send(call.query("h", rows).query("w", columns)).await.map(drop)
    }

    pub async fn inspect_exec(&self, id: &str) -> Result<ExecInspect> {
        self.fetch(Call::get(format!("/exec/{}/json", segment(id)?))).await
    }
}

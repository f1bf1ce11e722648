//! What a killed shim leaves of another runtime's container: its state, its groups, its bundle.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use runtime::launcher::Shim;

use super::Container;
use crate::Engine;
use crate::ids::ContainerId;

/// How long a runtime may take to forget a container.
const DELETE_LIMIT: Duration = Duration::from_secs(10);

impl Engine {
    /// Lets the runtime called `name` forget a container without a shim, and removes the bundle. What fails is logged: the
    /// next run begins with the same.
    pub(crate) async fn sweep_bundle(&self, id: &ContainerId, name: &str) {
        let bundle = self.places(id).bundle;
        if !bundle.exists() {
            return;
        }
        if let Ok(Some(program)) = self.runtime(name) {
            let deleted = tokio::process::Command::new(&program.path)
                .args(&program.args)
                .arg("--root")
                .arg(bundle.join("state"))
                .args(["delete", "--force", id.as_str()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .status();
            match tokio::time::timeout(DELETE_LIMIT, deleted).await {
                Ok(Ok(status)) if status.success() => {}
                other => tracing::warn!(container = %id, runtime = name, outcome = ?other, "delete"),
            }
        }
        if let Err(error) = remove(&bundle) {
            tracing::warn!(container = %id, %error, "a bundle without a shim stays");
        }
    }

    /// As [`Engine::sweep_bundle`], for every bundle whose shim does not live.
    pub(crate) async fn sweep_bundles(&self, containers: &[Arc<Container>], live: &BTreeMap<String, Shim>) {
        let folder = self.config.exec_root.join("bundle");
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(ContainerId::parse) else {
                continue;
            };
            if live.contains_key(id.as_str()) {
                continue;
            }
            let container = containers.iter().find(|container| container.id == id);
            let runtime = container.map(|container| container.lock().record.host.runtime.clone());
            self.sweep_bundle(&id, runtime.as_deref().unwrap_or_default()).await;
        }
    }
}

/// The root was mounted in the shim's namespace alone: here its folder is empty, or it is left alone with what is in it. A
/// bundle that is not there is removed already.
pub(super) fn remove(bundle: &Path) -> std::io::Result<()> {
    let gone = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    gone(std::fs::remove_dir(bundle.join("rootfs")))?;
    gone(std::fs::remove_dir_all(bundle))
}

//! Putting differences right, where there is one safe way.

use std::collections::BTreeSet;
use std::path::Path;

use super::look::clear_stage;
use super::{Finding, Kind, Outcome, Side, outcome};
use crate::Engine;
use crate::disk;
use crate::error::{Error, Result};
use crate::groups::Group;
use crate::ids::ContainerId;

/// Whether there is one. What is missing and held somebody's data is nobody's to make up.
pub(super) fn is_possible(finding: &Finding) -> bool {
    match (finding.side, finding.kind) {
        (Side::Orphan, _) => true,
        (Side::Missing, Kind::PublishedPort | Kind::NftTable | Kind::RunRecord) => true,
        (
            Side::Missing,
            Kind::LayerFolder
            | Kind::WritableLayer
            | Kind::ContainerFolder
            | Kind::VolumeFolder
            | Kind::VolumeMount
            | Kind::StagedMount
            | Kind::ControlGroup
            | Kind::NetworkNamespace
            | Kind::Interface,
        ) => false,
    }
}

impl Engine {
    /// Repairs what can be; the rest is reported as it is. Blocks.
    pub(super) fn repair(&self, findings: Vec<Finding>) -> Vec<Outcome> {
        let mut table_is_mended = None;
        let mut done = Vec::new();
        for finding in findings {
            if !is_possible(&finding) {
                done.push(outcome(finding, None));
                continue;
            }
            let result = match finding.kind {
                // One writing mends all of it.
                Kind::PublishedPort | Kind::NftTable => match &table_is_mended {
                    Some(()) => Ok(()),
                    None => self
                        .network
                        .mend_table()
                        .map(|()| table_is_mended = Some(()))
                        .map_err(Error::from),
                },
                _ => self.repair_one(&finding),
            };
            if let Err(error) = &result {
                tracing::warn!(
                    kind = finding.kind.as_str(),
                    name = finding.name,
                    error = error.chain(),
                    "not repaired"
                );
            } else {
                tracing::info!(kind = finding.kind.as_str(), name = finding.name, "repaired");
            }
            done.push(outcome(finding, Some(result)));
        }
        done
    }

    fn repair_one(&self, finding: &Finding) -> Result<()> {
        let name = finding.name.as_str();
        match finding.kind {
            Kind::LayerFolder => Ok(self.store.discard_orphan(Path::new(name))?),
            Kind::WritableLayer if name.starts_with("rw/") => Ok(self.store.discard_orphan(Path::new(name))?),
            Kind::WritableLayer => Ok(self.store.snapshots().remove(name)?),
            Kind::ContainerFolder => {
                let folder = self.config.data_root.join("containers").join(name);
                disk::detach_below(&folder)?;
                Ok(self.store.discard(&folder)?)
            }
            Kind::RunRecord if finding.side == Side::Missing => self.write_run_record(name),
            Kind::RunRecord => {
                let file = self.config.exec_root.join("run").join(name);
                disk::remove_file(&file).map_err(Error::io(format!("remove {}", file.display())))
            }
            Kind::VolumeFolder => self.volumes.discard_orphan(name, &self.store),
            Kind::VolumeMount => self.volumes.unmount_if_unheld(name),
            Kind::StagedMount => clear_stage(&self.config.exec_root, name),
            Kind::ControlGroup => {
                let id =
                    ContainerId::parse(name).ok_or_else(|| Error::invalid(format!("{name} is no container's id")))?;
                let parent = runtime::cgroup::CgroupPath::new(&self.config.cgroup_parent)?;
                let group = Group {
                    path: parent.child(name)?.as_str().to_owned(),
                    unit: None,
                };
                self.clear_group(&id, &group)
            }
            Kind::Interface => Ok(self.network.remove_links(&BTreeSet::from([name.to_owned()]))?),
            // Never orphans, or handled by the caller.
            Kind::NetworkNamespace | Kind::PublishedPort | Kind::NftTable => Ok(()),
        }
    }

    fn write_run_record(&self, id: &str) -> Result<()> {
        let container = self.container(id)?;
        let net = container.lock().run.as_ref().map(|run| run.net.clone());
        // It ended in the meantime, and needs none.
        let Some(net) = net else { return Ok(()) };
        let bytes = serde_json::to_vec(&net).map_err(|source| Error::Record {
            what: "run".into(),
            source,
        })?;
        disk::write_atomic(&self.places(&container.id).run_record(), &bytes).map_err(Error::io("write the run record"))
    }
}

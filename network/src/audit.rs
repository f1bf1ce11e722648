//! Whether the kernel has what we know of, and nothing else of ours.

use std::collections::BTreeSet;

use crate::endpoint::EndpointRecord;
use crate::error::Result;
use crate::janitor::Chore;
use crate::network::Network;

/// Differences between what is noted and what the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Our nftables table, or one of its maps, is not there.
    pub table_is_missing: bool,
    /// Published ports that the table does not have, in words.
    pub missing_ports: BTreeSet<String>,
    /// Ports in the table that nobody published.
    pub stray_ports: BTreeSet<String>,
    /// Interfaces of running containers that are gone.
    pub missing_links: BTreeSet<String>,
    /// Interfaces of ours that belong to no container and are not in stock.
    pub stray_links: BTreeSet<String>,
}

impl Network {
    /// Compares. `owned` are the endpoints of what runs. What is being made or removed at this moment may show as a
    /// difference: only what two looks with a pause between them agree on is one.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn audit(&self, owned: &[EndpointRecord]) -> Result<Audit> {
        let mut audit = Audit::default();
        let (noted, listed) = self.ports_noted_and_listed()?;
        match listed {
            None => audit.table_is_missing = true,
            Some(listed) => {
                audit.missing_ports = noted.difference(&listed).cloned().collect();
                audit.stray_ports = listed.difference(&noted).cloned().collect();
            }
        }
        let links = self.own_links()?;
        let used: BTreeSet<String> = owned.iter().map(|endpoint| endpoint.host_if.clone()).collect();
        audit.missing_links = used.difference(&links).cloned().collect();
        // The stock after the links: what was taken in between is in use, and what was added was not listed.
        let stock = self.stock_links();
        audit.stray_links = links
            .into_iter()
            .filter(|link| !used.contains(link) && !stock.contains(link))
            .collect();
        Ok(audit)
    }

    /// Writes the table anew with what is noted.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn mend_table(&self) -> Result<()> {
        self.rebuild_table()
    }

    /// Removes interfaces of ours by name, in the background.
    ///
    /// # Errors
    /// If the interfaces cannot be listed.
    pub fn remove_links(&self, names: &BTreeSet<String>) -> Result<()> {
        let links = self.links_where(|link| names.contains(&link.name))?;
        self.leave(Chore::Delete(links));
        Ok(())
    }
}

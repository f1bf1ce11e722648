//! Which containers there are, by id and by name.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use crate::container::Container;
use crate::error::{Error, Result};
use crate::ids::ContainerId;

#[derive(Default)]
pub struct Index {
    tables: RwLock<Tables>,
}

#[derive(Default)]
struct Tables {
    by_id: BTreeMap<ContainerId, Arc<Container>>,
    /// Names of containers, and of those being created.
    by_name: BTreeMap<String, ContainerId>,
}

/// A name that is taken while its container is being made; given back on drop unless kept.
pub struct NameClaim<'a> {
    index: &'a Index,
    name: String,
    kept: bool,
}

impl NameClaim<'_> {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name stays with the container.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for NameClaim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.index.release_name(&self.name);
        }
    }
}

impl Index {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `name` for `id`, atomically with respect to every other claim.
    pub fn claim(&self, name: &str, id: &ContainerId) -> Result<NameClaim<'_>> {
        let mut tables = self.write();
        if let Some(holder) = tables.by_name.get(name) {
            return Err(Error::NameTaken {
                name: name.to_owned(),
                holder: holder.clone(),
            });
        }
        tables.by_name.insert(name.to_owned(), id.clone());
        Ok(NameClaim {
            index: self,
            name: name.to_owned(),
            kept: false,
        })
    }

    pub fn release_name(&self, name: &str) {
        self.write().by_name.remove(name);
    }

    pub fn insert(&self, container: Arc<Container>) {
        let name = container.name();
        let mut tables = self.write();
        tables.by_name.insert(name, container.id.clone());
        tables.by_id.insert(container.id.clone(), container);
    }

    /// Forgets a container and its name.
    pub fn remove(&self, container: &Container) {
        let name = container.name();
        let mut tables = self.write();
        tables.by_id.remove(&container.id);
        if tables.by_name.get(&name) == Some(&container.id) {
            tables.by_name.remove(&name);
        }
    }

    pub fn all(&self) -> Vec<Arc<Container>> {
        self.read().by_id.values().cloned().collect()
    }

    /// Ids of all containers, and of those being made.
    pub fn ids(&self) -> std::collections::BTreeSet<String> {
        let tables = self.read();
        let ids = tables.by_id.keys().chain(tables.by_name.values());
        ids.map(ToString::to_string).collect()
    }

    pub fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// Full id first, then name, then unique prefix of an id: Docker's order.
    pub fn resolve(&self, target: &str) -> Result<Arc<Container>> {
        let tables = self.read();
        let missing = || Error::NoSuchContainer(target.to_owned());
        if let Some(found) = tables.by_id.get(target) {
            return Ok(found.clone());
        }
        let name = target.strip_prefix('/').unwrap_or(target);
        if let Some(id) = tables.by_name.get(name) {
            return tables.by_id.get(id).cloned().ok_or_else(missing);
        }
        if target.is_empty() {
            return Err(missing());
        }
        let from = tables
            .by_id
            .range::<str, _>((Bound::Included(target), Bound::Unbounded));
        let mut matches = from.take_while(|(id, _)| id.as_str().starts_with(target));
        match (matches.next(), matches.next()) {
            (Some((_, found)), None) => Ok(found.clone()),
            (Some(_), Some(_)) => Err(Error::AmbiguousId(target.to_owned())),
            (None, _) => Err(missing()),
        }
    }
}

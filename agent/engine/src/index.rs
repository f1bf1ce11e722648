//! Which containers there are, by id and by name.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::ids::ContainerId;

/// Containers in the first page of a walk, and in the last ones: a short list takes little, a long one few locks.
const FIRST_PAGE: usize = 16;
const LAST_PAGE: usize = 1024;

#[derive(Default)]
pub struct Index {
    tables: RwLock<Tables>,
}

#[derive(Default)]
struct Tables {
    by_id: BTreeMap<ContainerId, Arc<Container>>,
    /// Names of containers, and of those being created.
    by_name: BTreeMap<String, ContainerId>,
    /// The newest one first.
    by_age: BTreeMap<Age, Arc<Container>>,
}

type Age = (Reverse<SystemTime>, ContainerId);

fn age(container: &Container) -> Age {
    (Reverse(container.created), container.id.clone())
}

/// Sorted as lists are.
fn by_age(containers: impl IntoIterator<Item = Arc<Container>>) -> Vec<Arc<Container>> {
    let sorted: BTreeMap<_, _> = containers
        .into_iter()
        .map(|container| (age(&container), container))
        .collect();
    sorted.into_values().collect()
}

impl Tables {
    fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a ContainerId, &'a Arc<Container>)> {
        let from = self.by_id.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(id, _)| id.as_str().starts_with(prefix))
    }
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
        let (name, age) = (container.name(), age(&container));
        let mut tables = self.write();
        tables.by_name.insert(name, container.id.clone());
        tables.by_age.insert(age, container.clone());
        tables.by_id.insert(container.id.clone(), container);
    }

    /// Forgets a container and its name.
    pub fn remove(&self, container: &Container) {
        let (name, age) = (container.name(), age(container));
        let mut tables = self.write();
        tables.by_id.remove(&container.id);
        tables.by_age.remove(&age);
        if tables.by_name.get(&name) == Some(&container.id) {
            tables.by_name.remove(&name);
        }
    }

    pub fn all(&self) -> Vec<Arc<Container>> {
        self.read().by_id.values().cloned().collect()
    }

    /// All of them, from the newest to the oldest, a page at a time: for who needs a few, or holds a container meanwhile.
    pub fn newest_first(&self) -> impl Iterator<Item = Arc<Container>> {
        let (mut last, mut size) = (None::<Age>, FIRST_PAGE);
        std::iter::from_fn(move || {
            let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let tables = self.read();
            let page = tables.by_age.range((from, Bound::Unbounded)).take(size);
            let page: Vec<_> = page.map(|(age, container)| (age, container.clone())).collect();
            last = Some((*page.last()?.0).clone());
            size = (2 * size).min(LAST_PAGE);
            Some(page.into_iter().map(|(_, container)| container).collect::<Vec<_>>())
        })
        .flatten()
    }

    /// Those whose ids begin so, the newest first.
    pub fn with_prefixes<'a>(&self, prefixes: impl IntoIterator<Item = &'a str>) -> Vec<Arc<Container>> {
        let tables = self.read();
        let begin = |prefix: &'a str| tables.with_prefix(prefix).map(|(_, container)| container.clone());
        by_age(prefixes.into_iter().flat_map(begin))
    }

    /// Those whose names are wanted, the newest first.
    pub fn with_names(&self, wanted: impl Fn(&str) -> bool) -> Vec<Arc<Container>> {
        let tables = self.read();
        let ids = tables.by_name.iter().filter(|(name, _)| wanted(name)).map(|(_, id)| id);
        by_age(ids.filter_map(|id| tables.by_id.get(id)).cloned())
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
        let mut matches = tables.with_prefix(target);
        match (matches.next(), matches.next()) {
            (Some((_, found)), None) => Ok(found.clone()),
            (Some(_), Some(_)) => Err(Error::AmbiguousId(target.to_owned())),
            (None, _) => Err(missing()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::container::Record;
    use proptest::prelude::*;
    use std::time::Duration;

    /// `seed` is most of the id; `second` is when it was made.
    fn container(seed: u64, second: u64) -> Arc<Container> {
        Arc::new(Container::new(Record {
            version: 1,
            id: ContainerId::parse(&format!("{seed:016x}{seed:048x}")).unwrap(),
            name: format!("c{seed}"),
            created: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            image: String::new(),
            chain: Vec::new(),
            config: Default::default(),
            host: Default::default(),
            mounts: Vec::new(),
            status: Default::default(),
            health: None,
            next: None,
            users: None,
        }))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        /// Over several pages, with containers of one moment, and after some were removed.
        #[test]
        fn walks_are_what_sorting_all_would_be(moments in prop::collection::vec(0u64..50, 0..3000), gone in any::<u64>()) {
            let index = Index::default();
            let all: Vec<_> = moments.iter().enumerate().map(|(n, moment)| container(n as u64 * 7919 % 4096, *moment)).collect();
            for one in &all {
                index.insert(one.clone());
            }
            let (gone, mut left): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(n, _)| gone >> (n % 64) & 1 == 1);
            for (_, one) in &gone {
                index.remove(one);
            }
            left.sort_by_key(|(_, one)| (Reverse(one.created), one.id.clone()));
            let ids = |list: Vec<Arc<Container>>| list.iter().map(|one| one.id.clone()).collect::<Vec<_>>();
            let left: Vec<_> = left.into_iter().map(|(_, one)| one).collect();
            prop_assert_eq!(ids(index.newest_first().collect()), ids(left.clone()));
            let begin = |one: &&Arc<Container>| one.id.as_str().starts_with("00000000000003") || one.id.as_str().starts_with("0000000000000");
            prop_assert_eq!(ids(index.with_prefixes(["00000000000003", "0000000000000"])), ids(left.iter().filter(begin).cloned().collect()));
            let named = |one: &&Arc<Container>| one.name().ends_with('1');
            prop_assert_eq!(ids(index.with_names(|name| name.ends_with('1'))), ids(left.iter().filter(named).cloned().collect()));
        }
    }
}

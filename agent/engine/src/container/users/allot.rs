//! Which ids outside belong to which container: ranges for `--userns=auto`, and a record of those that users chose.
//!
//! The containers' records are the only truth on disk: a start of the daemon reads what each one has, and a removal gives it
//! back. Users and groups of an `auto` container have the same numbers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use runtime::plan::{IdMap, IdRange};
use serde::{Deserialize, Serialize};

use super::ask::{Placed, UsersMode};
use crate::error::{Error, Result};

/// Ids outside, the end excluded; 64 bits so that no end overflows.
type Span = Range<u64>;

/// Where ranges come from: as the daemon's usual range, of numbers that distributions and systemd leave alone
/// (systemd's "UIDs and GIDs"), and behind that range.
const POOL: Span = 0x7001_0000..0x8000_0000;

/// A range as a container's record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    inside: u32,
    outside: u32,
    count: u32,
}

/// The map of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allotted {
    users: Vec<Line>,
    groups: Vec<Line>,
    /// First id and count of what no other container may have; nothing for a map that the user chose.
    #[serde(default)]
    own: Option<(u32, u32)>,
}

impl Allotted {
    pub fn map(&self) -> IdMap {
        let ranges = |lines: &[Line]| lines.iter().map(|line| IdRange::from(*line)).collect();
        IdMap {
            users: ranges(&self.users),
            groups: ranges(&self.groups),
        }
    }

    fn own(&self) -> Option<Span> {
        self.own.map(|(first, count)| span(first, count))
    }

    /// All ids outside that it has.
    fn spans(&self) -> Vec<Span> {
        let lines = self.users.iter().chain(&self.groups);
        lines
            .map(|line| span(line.outside, line.count))
            .chain(self.own())
            .collect()
    }
}

impl From<Line> for IdRange {
    fn from(line: Line) -> IdRange {
        IdRange {
            inside: line.inside,
            outside: line.outside,
            count: line.count,
        }
    }
}

impl From<&IdRange> for Line {
    fn from(range: &IdRange) -> Line {
        Line {
            inside: range.inside,
            outside: range.outside,
            count: range.count,
        }
    }
}

fn span(first: u32, count: u32) -> Span {
    u64::from(first)..u64::from(first) + u64::from(count)
}

fn meet(one: &Span, other: &Span) -> bool {
    one.start < other.end && other.start < one.end
}

/// What the containers have.
#[derive(Default)]
pub(crate) struct Allotments {
    held: Mutex<BTreeMap<String, Allotted>>,
}

/// What a container that is being made gets; given back on drop unless kept.
pub(crate) struct Claim<'a> {
    table: &'a Allotments,
    id: String,
    pub given: Option<Allotted>,
    kept: bool,
}

impl Claim<'_> {
    /// It stays with the container.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.table.release(&self.id);
        }
    }
}

impl Allotments {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Allotted>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The map of a container that asks for `mode`; `reserved` are ranges of the host's that nobody is given.
    pub fn claim(&self, id: &str, mode: &UsersMode, reserved: &[IdRange]) -> Result<Claim<'_>> {
        let mut held = self.lock();
        let given = match mode {
            UsersMode::Daemon | UsersMode::Host | UsersMode::Private => None,
            UsersMode::Fixed(placed) => Some(fixed(placed)),
            UsersMode::Auto { size, placed } => {
                let mut taken: Vec<Span> = held.values().flat_map(Allotted::spans).collect();
                taken.extend(reserved.iter().map(|range| span(range.outside, range.count)));
                let placed_spans = fixed(placed).spans();
                taken.extend(placed_spans);
                let first = first_fit(taken, *size).ok_or_else(|| {
                    Error::Conflict(format!(
                        "cannot give a container {size} user ids of its own: no such range is free of {}; \
                         ask for less with --userns=auto:size=N, or remove containers that have one",
                        POOL.end - POOL.start
                    ))
                })?;
                Some(around(placed, first, *size))
            }
        };
        if let Some(given) = &given {
            let chosen: Vec<Span> = match mode {
                UsersMode::Fixed(placed) | UsersMode::Auto { placed, .. } => fixed(placed).spans(),
                _ => Vec::new(),
            };
            for (other, theirs) in held.iter() {
                if let Some(own) = theirs.own()
                    && let Some(one) = chosen.iter().find(|one| meet(one, &own))
                {
                    return Err(Error::Conflict(format!(
                        "the ids {}-{} outside belong to container {other}, which has them by --userns=auto",
                        one.start.max(own.start),
                        one.end.min(own.end) - 1
                    )));
                }
            }
            held.insert(id.to_owned(), given.clone());
        }
        Ok(Claim {
            table: self,
            id: id.to_owned(),
            given,
            kept: false,
        })
    }

    /// What a record says that a container has.
    pub fn remember(&self, id: &str, given: &Allotted) {
        self.lock().insert(id.to_owned(), given.clone());
    }

    pub fn release(&self, id: &str) {
        self.lock().remove(id);
    }
}

fn fixed(placed: &Placed) -> Allotted {
    Allotted {
        users: placed.users.iter().map(Line::from).collect(),
        groups: placed.groups.iter().map(Line::from).collect(),
        own: None,
    }
}

/// The lowest place of the pool where `size` ids are free.
fn first_fit(mut taken: Vec<Span>, size: u32) -> Option<u32> {
    taken.sort_by_key(|span| span.start);
    let size = u64::from(size);
    let mut first = POOL.start;
    for span in taken {
        if span.start >= first + size {
            break;
        }
        first = first.max(span.end);
    }
    (first + size <= POOL.end)
        .then_some(first)
        .and_then(|first| u32::try_from(first).ok())
}

/// The ids from 0 up to `size`: each has its number in the range from `first` on, but for those that were placed by hand.
fn around(placed: &Placed, first: u32, size: u32) -> Allotted {
    let lines = |placed: &[IdRange]| -> Vec<Line> {
        let mut sorted: Vec<&IdRange> = placed.iter().collect();
        sorted.sort_by_key(|range| range.inside);
        let mut lines = Vec::new();
        let mut next = 0;
        let fill = |lines: &mut Vec<Line>, from: u32, to: u32| {
            if from < to {
                lines.push(Line {
                    inside: from,
                    outside: first + from,
                    count: to - from,
                });
            }
        };
        for range in sorted {
            fill(&mut lines, next, range.inside.min(size));
            lines.push(Line::from(range));
            next = range.inside + range.count;
        }
        fill(&mut lines, next, size);
        lines
    };
    Allotted {
        users: lines(&placed.users),
        groups: lines(&placed.groups),
        own: Some((first, size)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn auto(size: u32) -> UsersMode {
        UsersMode::Auto {
            size,
            placed: Placed::default(),
        }
    }

    fn given(table: &Allotments, id: &str, mode: &UsersMode) -> Result<Allotted> {
        let claim = table.claim(id, mode, &[])?;
        let given = claim.given.clone().unwrap();
        claim.keep();
        Ok(given)
    }

    #[test]
    fn a_claim_that_is_not_kept_gives_back() {
        let table = Allotments::default();
        let first = given(&table, "a", &auto(100)).unwrap();
        let dropped = table.claim("b", &auto(100), &[]).unwrap().given.clone();
        let again = given(&table, "c", &auto(100)).unwrap();
        assert_eq!(dropped, Some(again.clone()));
        assert!(!meet(&first.own().unwrap(), &again.own().unwrap()));
    }

    #[test]
    fn reserved_ranges_are_nobodys() {
        let table = Allotments::default();
        let reserved = [IdRange {
            inside: 0,
            outside: 0x7001_0000,
            count: 10,
        }];
        let claim = table.claim("a", &auto(5), &reserved).unwrap();
        assert_eq!(claim.given.as_ref().unwrap().own, Some((0x7001_000a, 5)));
    }

    #[test]
    fn parts_placed_by_hand_are_where_they_were_placed() {
        let table = Allotments::default();
        let mode = UsersMode::parse("auto:size=100,uidmapping=10:1000:5,gidmapping=0:50:1").unwrap();
        let map = given(&table, "a", &mode).unwrap().map();
        let first = 0x7001_0000;
        let users: Vec<_> = [0, 9, 10, 14, 15, 99, 100].map(|id| map.user(id)).into();
        let wanted = [
            Some(first),
            Some(first + 9),
            Some(1000),
            Some(1004),
            Some(first + 15),
            Some(first + 99),
            None,
        ];
        assert_eq!(users, wanted);
        assert_eq!((map.group(0), map.group(1)), (Some(50), Some(first + 1)));
    }

    #[test]
    fn a_chosen_map_may_not_take_what_another_has() {
        let table = Allotments::default();
        let (first, _) = given(&table, "a", &auto(100)).unwrap().own.unwrap();
        for text in [
            format!("private:uidmapping=0:{}:10", first + 95),
            format!("auto:uidmapping=5:{}:1", first + 99),
        ] {
            let error = given(&table, "b", &UsersMode::parse(&text).unwrap()).unwrap_err();
            assert!(error.to_string().contains("belong to container a"), "{error}");
        }
        // Two that are chosen may be the same, and nobody is given what is in one.
        let chosen = UsersMode::parse(&format!("private:uidmapping=0:{}:10", first + 100)).unwrap();
        given(&table, "c", &chosen).unwrap();
        given(&table, "d", &chosen).unwrap();
        assert_eq!(given(&table, "e", &auto(5)).unwrap().own, Some((first + 110, 5)));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_pool_can_be_used_up() {
        let table = Allotments::default();
        let whole = u32::try_from(POOL.end - POOL.start).unwrap();
        assert!(given(&table, "a", &auto(whole + 1)).is_err());
        given(&table, "a", &auto(whole)).unwrap();
        assert!(given(&table, "b", &auto(1)).is_err());
        table.release("a");
        given(&table, "b", &auto(1)).unwrap();
    }

    #[derive(Clone, Debug)]
    enum Step {
        Give(u32),
        Back(usize),
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1u32..70_000_000).prop_map(Step::Give),
            (1u32..70_000).prop_map(Step::Give),
            any::<usize>().prop_map(Step::Back),
            Just(Step::Restart),
        ]
    }

    proptest! {
        /// Whatever is made, removed and found again after a restart: no two have an id in common, all are in the pool,
        /// and one that is refused would really not have fitted.
        #[test]
        fn no_two_have_an_id_in_common(steps in proptest::collection::vec(step(), 1..60)) {
            let mut table = Allotments::default();
            let mut records: Vec<(String, Allotted)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Give(size) => {
                        let id = number.to_string();
                        match given(&table, &id, &auto(size)) {
                            Ok(given) => records.push((id, given)),
                            Err(_) => {
                                let mut spans: Vec<Span> = records.iter().filter_map(|(_, one)| one.own()).collect();
                                spans.sort_by_key(|span| span.start);
                                let mut end = POOL.start;
                                for span in spans {
                                    prop_assert!(span.start - end < u64::from(size));
                                    end = span.end;
                                }
                                prop_assert!(POOL.end - end < u64::from(size));
                            }
                        }
                    }
                    Step::Back(which) if !records.is_empty() => {
                        let (id, _) = records.remove(which % records.len());
                        table.release(&id);
                    }
                    Step::Back(_) => {}
                    Step::Restart => {
                        table = Allotments::default();
                        for (id, record) in &records {
                            let text = serde_json::to_string(record).unwrap();
                            let read: Allotted = serde_json::from_str(&text).unwrap();
                            prop_assert_eq!(&read, record);
                            table.remember(id, &read);
                        }
                    }
                }
                for (index, (_, one)) in records.iter().enumerate() {
                    let own = one.own().unwrap();
                    prop_assert!(POOL.start <= own.start && own.end <= POOL.end);
                    for (_, other) in &records[index + 1..] {
                        prop_assert!(!meet(&own, &other.own().unwrap()));
                    }
                }
            }
        }
    }
}

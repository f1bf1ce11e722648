//! What `--userns` says.
//!
//! ```text
//! ""                                       as the daemon is set up
//! host                                     none
//! private                                  the daemon's map, also where containers usually have none
//! private:uidmapping=IN:OUT:COUNT,…        a map of the user's own
//! auto[:size=N,uidmapping=IN:OUT:COUNT,…]  a range that nobody else has; parts of it placed by hand
//! ```
//!
//! `uidmapping` and `gidmapping` may be repeated. Groups are mapped as users are where only users are given.

use runtime::plan::IdRange;

use crate::error::{Error, Result};

/// Ids of a container that does not say how many it needs: as many as a file system of a distribution uses.
pub(crate) const USUAL_SIZE: u32 = 65_536;

/// Ranges placed by hand. With what goes between them the map must fit into one write of less than a page.
const LINES: usize = 32;

/// A mode, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UsersMode {
    /// The daemon's setting decides.
    Daemon,
    Host,
    /// With the daemon's map.
    Private,
    /// With a map of the user's own.
    Fixed(Placed),
    Auto {
        size: u32,
        placed: Placed,
    },
}

/// Ranges that the user has chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    pub users: Vec<IdRange>,
    pub groups: Vec<IdRange>,
}

impl UsersMode {
    pub fn parse(text: &str) -> Result<UsersMode> {
        let (word, options) = match text.split_once(':') {
            Some((word, options)) => (word, Some(options)),
            None => (text, None),
        };
        match (word, options) {
            ("", None) => Ok(UsersMode::Daemon),
            ("host", None) => Ok(UsersMode::Host),
            ("private", None) => Ok(UsersMode::Private),
            ("private", Some(options)) => {
                let (size, placed) = read(text, options)?;
                if size.is_some() {
                    return Err(wrong(text, "size belongs to auto"));
                }
                for (ranges, what) in [(&placed.users, "user"), (&placed.groups, "group")] {
                    // Somebody has to be root: the program that sets the container up.
                    if !ranges.iter().any(|range| range.inside == 0) {
                        return Err(wrong(text, &format!("{what} 0 has no place in the map")));
                    }
                }
                Ok(UsersMode::Fixed(placed))
            }
            ("auto", options) => {
                let (size, placed) = match options {
                    Some(options) => read(text, options)?,
                    None => (None, Placed::default()),
                };
                Ok(UsersMode::Auto {
                    size: size.unwrap_or(USUAL_SIZE),
                    placed,
                })
            }
            ("keep-id", _) => Err(Error::invalid(
                "invalid user namespace mode: keep-id keeps the id of the user who runs the engine, and this one is run by root; \
                 use auto, or private:uidmapping=… with the ids that are to be kept",
            )),
            _ => Err(Error::invalid(format!("invalid user namespace mode: {text}"))),
        }
    }
}

fn wrong(text: &str, why: &str) -> Error {
    Error::invalid(format!("invalid user namespace mode: {text}: {why}"))
}

/// `size=N,uidmapping=…,gidmapping=…`
fn read(text: &str, options: &str) -> Result<(Option<u32>, Placed)> {
    let mut size = None;
    let mut placed = Placed::default();
    for option in options.split(',') {
        let (key, value) = option
            .split_once('=')
            .ok_or_else(|| wrong(text, &format!("{option:?} is not KEY=VALUE")))?;
        match key {
            "size" => {
                let number = value.parse::<u32>().ok().filter(|size| *size > 0);
                let number = number.ok_or_else(|| wrong(text, &format!("{value:?} is no size")))?;
                if size.replace(number).is_some() {
                    return Err(wrong(text, "size is given twice"));
                }
            }
            "uidmapping" => placed.users.push(range(text, value)?),
            "gidmapping" => placed.groups.push(range(text, value)?),
            other => return Err(wrong(text, &format!("unknown option {other:?}"))),
        }
    }
    if placed.groups.is_empty() {
        placed.groups.clone_from(&placed.users);
    } else if placed.users.is_empty() {
        placed.users.clone_from(&placed.groups);
    }
    for ranges in [&placed.users, &placed.groups] {
        apart(text, ranges)?;
    }
    Ok((size, placed))
}

/// `IN:OUT:COUNT`
fn range(text: &str, value: &str) -> Result<IdRange> {
    let bad = || wrong(text, &format!("{value:?} is not INSIDE:OUTSIDE:COUNT"));
    let numbers: Vec<u32> = value
        .split(':')
        .map(|word| word.parse().ok())
        .collect::<Option<_>>()
        .ok_or_else(bad)?;
    let [inside, outside, count] = numbers.as_slice() else {
        return Err(bad());
    };
    let range = IdRange {
        inside: *inside,
        outside: *outside,
        count: *count,
    };
    // The last number is -1 for the kernel, which is nobody's.
    let ends = |first: u32| first.checked_add(range.count).is_some();
    if range.count == 0 || !ends(range.inside) || !ends(range.outside) {
        return Err(wrong(text, &format!("{value:?} is no range of ids")));
    }
    Ok(range)
}

/// Nobody is two people, on either side.
fn apart(text: &str, ranges: &[IdRange]) -> Result<()> {
    if ranges.len() > LINES {
        return Err(wrong(text, &format!("more than {LINES} ranges")));
    }
    let sides: [fn(&IdRange) -> u32; 2] = [|range| range.inside, |range| range.outside];
    for side in sides {
        let mut sorted: Vec<&IdRange> = ranges.iter().collect();
        sorted.sort_by_key(|range| side(range));
        for pair in sorted.windows(2) {
            if let [one, next] = pair
                && side(one) + one.count > side(next)
            {
                return Err(wrong(text, &format!("the id {} is in two ranges", side(next))));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn id_range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange { inside, outside, count }
    }

    #[test]
    fn modes_are_understood() {
        let parse = |text: &str| UsersMode::parse(text).unwrap();
        assert_eq!(parse(""), UsersMode::Daemon);
        assert_eq!(parse("host"), UsersMode::Host);
        assert_eq!(parse("private"), UsersMode::Private);
        assert_eq!(
            parse("auto"),
            UsersMode::Auto {
                size: USUAL_SIZE,
                placed: Placed::default()
            }
        );
        let placed = Placed {
            users: vec![id_range(5, 1000, 1)],
            groups: vec![id_range(5, 1000, 1)],
        };
        assert_eq!(
            parse("auto:size=100,uidmapping=5:1000:1"),
            UsersMode::Auto { size: 100, placed }
        );
        let fixed = Placed {
            users: vec![id_range(0, 100_000, 10), id_range(10, 5, 1)],
            groups: vec![id_range(0, 200_000, 20)],
        };
        assert_eq!(
            parse("private:uidmapping=0:100000:10,uidmapping=10:5:1,gidmapping=0:200000:20"),
            UsersMode::Fixed(fixed)
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("nonsense", "invalid user namespace mode: nonsense"),
            ("host:x=1", "invalid user namespace mode"),
            ("keep-id", "run by root"),
            ("keep-id:uid=1", "run by root"),
            ("auto:", "KEY=VALUE"),
            ("auto:size=0", "no size"),
            ("auto:size=-1", "no size"),
            ("auto:size=1,size=2", "twice"),
            ("auto:sise=1", "unknown option \"sise\""),
            ("auto:uidmapping=0:1", "INSIDE:OUTSIDE:COUNT"),
            ("auto:uidmapping=0:1:2:3", "INSIDE:OUTSIDE:COUNT"),
            ("auto:uidmapping=0:1:0", "no range"),
            ("auto:uidmapping=0:4294967295:1", "no range"),
            ("private:size=5", "belongs to auto"),
            ("private:uidmapping=1:100000:5", "user 0"),
            ("private:uidmapping=0:1000:5,gidmapping=7:1000:5", "group 0"),
            ("private:uidmapping=0:1000:5,uidmapping=4:5000:5", "the id 4 is in two"),
            (
                "private:uidmapping=0:1000:5,uidmapping=5:1004:5",
                "the id 1004 is in two",
            ),
        ] {
            let error = UsersMode::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        /// Whatever is said, what is taken is a map that the kernel takes.
        #[test]
        fn a_map_that_is_taken_is_one(text in "(auto|private):((size|uidmapping|gidmapping)=[0-9]{1,10}(:[0-9]{1,10}(:[0-9]{1,10})?)?,?){0,4}") {
            if let Ok(UsersMode::Fixed(placed) | UsersMode::Auto { placed, .. }) = UsersMode::parse(&text) {
                for ranges in [placed.users, placed.groups] {
                    for (index, one) in ranges.iter().enumerate() {
                        prop_assert!(one.count > 0);
                        prop_assert!(u64::from(one.outside) + u64::from(one.count) <= u64::from(u32::MAX));
                        for other in &ranges[index + 1..] {
                            let apart = |a: u32, b: u32| a + one.count <= b || b + other.count <= a;
                            prop_assert!(apart(one.inside, other.inside) && apart(one.outside, other.outside));
                        }
                    }
                }
            }
        }

        #[test]
        fn nothing_panics(text in ".{0,60}") {
            let _ = UsersMode::parse(&text);
        }
    }
}

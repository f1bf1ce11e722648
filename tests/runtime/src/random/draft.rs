//! A configuration in the making, together with what must be seen of it.
//!
//! Each part ([`super::PARTS`]) writes a piece of the configuration and, from the specification's words for that piece,
//! the checks that its container has to pass. So the model is written beside what it is the model of, and knows nothing
//! of the runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::seen::Seen;
use crate::config::Config;

/// Where a case has its place on the machine.
#[derive(Clone)]
pub struct Place {
    pub id: String,
    /// The bundle.
    pub folder: PathBuf,
    /// Parent of its control group.
    pub cgroup: String,
    /// A process with namespaces of its own, to be joined.
    pub holder: i32,
}

impl Place {
    /// A path in the bundle, as text.
    pub fn at(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("an UTF-8 path").to_owned()
    }
}

/// What has to come of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It runs, and all checks pass.
    Valid,
    /// It asks for what not every machine gives: it runs, and all checks pass, or it is refused.
    Daring,
    /// It is refused.
    Broken,
}

/// The call that refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    Create,
    Start,
}

type Judge = Box<dyn Fn(&Seen<'_>) -> Result<(), String>>;

/// One thing that must be seen.
pub struct Check {
    pub what: String,
    pub judge: Judge,
}

/// Ids of a user namespace: (inside, outside, count).
pub type Ranges = Vec<(u32, u32, u32)>;

pub struct Draft {
    pub kind: Kind,
    pub place: Place,
    pub config: Config,
    pub checks: Vec<Check>,
    /// Checks once the container is gone.
    pub afterwards: Vec<Check>,
    /// What the machine may lack.
    pub doubts: Vec<String>,
    /// Namespaces that are not the host's: new (true) or joined (false).
    pub namespaces: BTreeMap<&'static str, bool>,
    /// Users and groups of its own user namespace.
    pub users: Option<(Ranges, Ranges)>,
    /// What the process is asked, before its own words.
    pub questions: Vec<String>,
    /// Further words of the process.
    pub words: Vec<String>,
    /// Which call refuses a broken one.
    pub stage: Stage,
    /// One of these is in the error of a broken one.
    pub names: &'static [&'static str],
}

impl Draft {
    pub fn new(kind: Kind, place: Place) -> Draft {
        let config = Config(json!({
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs"},
            "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/probe", "see"]},
            "linux": {
                "cgroupsPath": format!("{}/{}", place.cgroup, place.id),
                "namespaces": [{"type": "mount"}, {"type": "pid"}],
            },
        }));
        Draft {
            kind,
            place,
            config,
            checks: Vec::new(),
            afterwards: Vec::new(),
            doubts: Vec::new(),
            namespaces: BTreeMap::from([("mount", true), ("pid", true)]),
            users: None,
            questions: Vec::new(),
            words: Vec::new(),
            stage: Stage::Create,
            names: &[],
        }
    }

    pub fn set(&mut self, pointer: &str, value: impl Into<Value>) {
        self.config.set(pointer, value);
    }

    pub fn check(&mut self, what: impl Into<String>, judge: impl Fn(&Seen<'_>) -> Result<(), String> + 'static) {
        self.checks.push(Check {
            what: what.into(),
            judge: Box::new(judge),
        });
    }

    /// Something must be equal to what was asked for.
    pub fn expect<T: PartialEq + std::fmt::Debug + 'static>(
        &mut self,
        what: impl Into<String>,
        wanted: T,
        look: impl Fn(&Seen<'_>) -> T + 'static,
    ) {
        self.check(what, move |seen| same(&look(seen), &wanted));
    }

    /// Whether a part may ask for what this machine may not have.
    pub fn dares(&self) -> bool {
        self.kind == Kind::Daring
    }

    pub fn doubt(&mut self, why: impl Into<String>) {
        self.doubts.push(why.into());
    }

    /// Whether the container has a namespace of this kind that is not the host's.
    pub fn has(&self, kind: &str) -> bool {
        self.namespaces.contains_key(kind)
    }

    /// The host's number of a user of the container.
    pub fn user(&self, id: u32) -> u32 {
        self.users.as_ref().map_or(id, |(users, _)| outside(users, id))
    }

    /// The host's number of a group of the container.
    pub fn group(&self, id: u32) -> u32 {
        self.users.as_ref().map_or(id, |(_, groups)| outside(groups, id))
    }

    /// Takes the last word: the arguments, with all questions.
    pub fn finish(&mut self) {
        let args = self.config.at("/process/args");
        if let Some(args) = args.as_array_mut()
            && args.len() >= 2
        {
            args.truncate(2);
            args.extend(self.questions.iter().map(|text| Value::from(text.as_str())));
            args.push("--".into());
            args.extend(self.words.iter().map(|text| Value::from(text.as_str())));
        }
    }
}

fn outside(ranges: &Ranges, id: u32) -> u32 {
    let hit = ranges
        .iter()
        .find(|(inside, _, count)| id >= *inside && id - inside < *count);
    hit.map_or(u32::MAX, |(inside, outside, _)| outside + (id - inside))
}

pub fn same<T: PartialEq + std::fmt::Debug>(seen: &T, wanted: &T) -> Result<(), String> {
    if seen == wanted {
        Ok(())
    } else {
        Err(format!("{seen:?}, not {wanted:?}"))
    }
}

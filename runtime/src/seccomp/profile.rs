//! A profile, whatever form it came in.

use super::arch::Abi;
use super::{Context, SeccompError};
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

/// What happens to a call: the filter's return value, `SECCOMP_RET_*` with its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Action(pub(super) u32);

impl Action {
    /// The call goes on.
    pub const ALLOW: Action = Action(0x7fff_0000);
    /// The call goes on and is logged.
    pub const LOG: Action = Action(0x7ffc_0000);
    /// The process dies of SIGSYS.
    pub const KILL_PROCESS: Action = Action(0x8000_0000);
    /// The thread dies.
    pub const KILL_THREAD: Action = Action(0);
    /// SIGSYS, which may be caught.
    pub const TRAP: Action = Action(0x0003_0000);
    /// Somebody else is asked, through the listener.
    pub const NOTIFY: Action = Action(0x7fc0_0000);

    /// The call fails with this error.
    pub const fn errno(errno: u16) -> Action {
        Action(0x0005_0000 | errno as u32)
    }

    pub(super) const fn trace(message: u16) -> Action {
        Action(0x7ff0_0000 | message as u32)
    }

    /// Whether the call is carried out (perhaps after somebody was told).
    pub(super) fn lets_through(self) -> bool {
        matches!(self.0 & 0xffff_0000, 0x7fff_0000 | 0x7ffc_0000 | 0x7ff0_0000)
    }

    /// Whether this leaves a program less than `other`: the kernel's own order, by which it picks one of several
    /// filters' answers.
    pub(super) fn stricter_than(self, other: Action) -> bool {
        ((self.0 & 0xffff_0000) as i32) < ((other.0 & 0xffff_0000) as i32)
    }

    /// From libseccomp's name and the number that goes with it.
    pub(super) fn from_scmp(name: &str, data: Option<u32>) -> Result<Action, SeccompError> {
        let invalid = |why: String| Err(SeccompError::Invalid(why.into()));
        let takes_data = matches!(name, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
        let data = match data {
            // EPERM where nothing is said; for a tracer it is the message.
            None => 1,
            // Errors end at 4095 (MAX_ERRNO); a message to a tracer is any 16 bits.
            Some(data) => match u16::try_from(data) {
                _ if !takes_data => return invalid(format!("{name} takes no error number, but {data} is given")),
                Ok(data) if data <= 4095 || name == "SCMP_ACT_TRACE" => data,
                _ => return invalid(format!("{data} is not an error number")),
            },
        };
        Ok(match name {
            "SCMP_ACT_ALLOW" => Action::ALLOW,
            "SCMP_ACT_LOG" => Action::LOG,
            "SCMP_ACT_ERRNO" => Action::errno(data),
            "SCMP_ACT_TRACE" => Action::trace(data),
            "SCMP_ACT_TRAP" => Action::TRAP,
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KILL_THREAD,
            "SCMP_ACT_KILL_PROCESS" => Action::KILL_PROCESS,
            "SCMP_ACT_NOTIFY" => Action::NOTIFY,
            _ => return invalid(format!("unknown action {name:?}")),
        })
    }
}

/// A comparison of 64-bit numbers, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// Differs.
    Ne,
    /// Is less.
    Lt,
    /// Is less or the same.
    Le,
    /// Is the same.
    Eq,
    /// Is greater or the same.
    Ge,
    /// Is greater.
    Gt,
    /// Is the same as the value, both in the bits of this mask only.
    MaskedEq(u64),
}

/// A condition on one argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Argument {
    /// 0 to 5.
    pub index: u8,
    /// How it is compared.
    pub compare: Compare,
    /// With what.
    pub value: u64,
}

impl Argument {
    pub(super) fn new(index: u64, op: &str, value: u64, second: u64) -> Result<Argument, SeccompError> {
        let index = u8::try_from(index)
            .ok()
            .filter(|index| *index < 6)
            .ok_or_else(|| SeccompError::Invalid(format!("no call has an argument {index}").into()))?;
        let (compare, value) = match op {
            "SCMP_CMP_NE" => (Compare::Ne, value),
            "SCMP_CMP_LT" => (Compare::Lt, value),
            "SCMP_CMP_LE" => (Compare::Le, value),
            "SCMP_CMP_EQ" => (Compare::Eq, value),
            "SCMP_CMP_GE" => (Compare::Ge, value),
            "SCMP_CMP_GT" => (Compare::Gt, value),
            "SCMP_CMP_MASKED_EQ" => (Compare::MaskedEq(value), second),
            _ => return Err(SeccompError::Invalid(format!("unknown operator {op:?}").into())),
        };
        Ok(Argument { index, compare, value })
    }
}

/// When a rule of a Docker profile applies at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Capability bits.
    pub capabilities: u64,
    /// Docker's names of machines; empty: any.
    pub architectures: Vec<Cow<'static, str>>,
    /// Since this kernel.
    pub kernel: Option<(u32, u32)>,
}

/// What happens to some calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Names of calls.
    pub names: Vec<Cow<'static, str>>,
    /// What happens to them,
    pub action: Action,
    /// if all of these hold,
    pub arguments: Vec<Argument>,
    /// and the container has all of this,
    pub includes: Condition,
    /// and nothing of that.
    pub excludes: Condition,
}

impl Rule {
    fn applies(&self, context: &Context) -> bool {
        let machine = context.native.docker_name();
        let Condition {
            capabilities,
            architectures,
            kernel,
        } = &self.excludes;
        let excluded = architectures.iter().any(|name| name == machine)
            || capabilities & context.capabilities != 0
            || kernel.is_some_and(|version| context.kernel >= version);
        let Condition {
            capabilities,
            architectures,
            kernel,
        } = &self.includes;
        let included = (architectures.is_empty() || architectures.iter().any(|name| name == machine))
            && capabilities & !context.capabilities == 0
            && kernel.is_none_or(|version| context.kernel >= version);
        included && !excluded
    }
}

/// Which interfaces a profile is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interfaces {
    /// Those that are listed, and the native one.
    Listed(Vec<Abi>),
    /// Per machine (Docker's `archMap`); a machine that is not there has its native one alone.
    ByMachine(Vec<(Abi, Vec<Abi>)>),
    /// All that the machine has.
    All,
}

/// A profile.
#[derive(Clone, Debug)]
pub struct Profile {
    pub(super) default: Action,
    pub(super) interfaces: Interfaces,
    pub(super) flags: u32,
    pub(super) rules: Vec<Rule>,
    listener: Option<Listener>,
    /// Of all of the above: a profile is a key of the cache at every start.
    hash: u64,
}

impl PartialEq for Profile {
    fn eq(&self, other: &Profile) -> bool {
        self.hash == other.hash
            && (std::ptr::eq(self, other)
                || self.default == other.default
                    && self.interfaces == other.interfaces
                    && self.flags == other.flags
                    && self.rules == other.rules
                    && self.listener == other.listener)
    }
}

impl Eq for Profile {}

impl Hash for Profile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

/// Where the file descriptor goes that tells of calls with [`Action::NOTIFY`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    /// A stream socket; one connection gets one container's state and descriptor.
    pub path: PathBuf,
    /// What the one behind the socket is told beside, word for word.
    pub metadata: Option<String>,
}

impl Listener {
    /// From `listenerPath` and `listenerMetadata`.
    pub(super) fn new(path: Option<PathBuf>, metadata: Option<String>) -> Result<Option<Listener>, SeccompError> {
        match (path.filter(|path| !path.as_os_str().is_empty()), metadata) {
            (Some(path), metadata) => Ok(Some(Listener { path, metadata })),
            (None, Some(text)) if !text.is_empty() => {
                Err(SeccompError::Invalid("listenerMetadata needs a listenerPath".into()))
            }
            (None, _) => Ok(None),
        }
    }
}

const NOTIFY_BY_DEFAULT: &str = "SCMP_ACT_NOTIFY cannot be the default action: the calls by which the listener is handed \
     over and the program is started would wait for an answer from somebody who does not have the listener yet";

impl Profile {
    pub(super) fn new(default: Action, interfaces: Interfaces, flags: u32, rules: Vec<Rule>) -> Profile {
        let mut hasher = DefaultHasher::new();
        (default, flags, &rules).hash(&mut hasher);
        Profile {
            default,
            interfaces,
            flags,
            rules,
            listener: None,
            hash: hasher.finish(),
        }
    }

    /// With other rules.
    pub(super) fn with_rules(&self, rules: Vec<Rule>) -> Profile {
        let other = Profile::new(self.default, self.interfaces.clone(), self.flags, rules);
        Profile {
            listener: self.listener.clone(),
            ..other
        }
    }

    /// With a listener.
    pub(super) fn listening_at(mut self, listener: Option<Listener>) -> Result<Profile, SeccompError> {
        if self.default == Action::NOTIFY {
            return Err(SeccompError::Invalid(NOTIFY_BY_DEFAULT.into()));
        }
        self.listener = listener;
        Ok(self)
    }

    /// Who is told of calls with [`Action::NOTIFY`]. Without such a call it has no meaning.
    pub fn listener(&self) -> Option<&Listener> {
        self.listener.as_ref()
    }

    /// Rules that apply to a container, in order.
    pub(super) fn rules_for<'a>(&'a self, context: &'a Context) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().filter(move |rule| rule.applies(context))
    }

    /// Interfaces that the filter decides about.
    pub(super) fn interfaces_for(&self, native: Abi) -> Vec<Abi> {
        let listed = match &self.interfaces {
            Interfaces::All => native.companions().to_vec(),
            Interfaces::Listed(listed) => listed.clone(),
            Interfaces::ByMachine(map) => map
                .iter()
                .find(|(machine, _)| *machine == native)
                .map(|(_, list)| list.clone())
                .unwrap_or_default(),
        };
        // The native one is always there, and what the machine does not have never occurs.
        native
            .companions()
            .iter()
            .copied()
            .filter(|abi| *abi == native || listed.contains(abi))
            .collect()
    }

    /// Capabilities that some rule asks about.
    pub(super) fn capabilities(&self) -> u64 {
        self.rules.iter().fold(0, |all, rule| {
            all | rule.includes.capabilities | rule.excludes.capabilities
        })
    }
}

//! A profile, whatever form it came in.

use super::arch::{self, Abi};
use super::{Context, SeccompError};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator};
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

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

    /// The call fails with this error.
    pub const fn errno(errno: u16) -> Action {
        Action(0x0005_0000 | errno as u32)
    }

    const fn trace(message: u16) -> Action {
        Action(0x7ff0_0000 | message as u32)
    }

    /// Whether the call is carried out (perhaps after somebody was told).
    pub(super) fn lets_through(self) -> bool {
        matches!(self.0 & 0xffff_0000, 0x7fff_0000 | 0x7ffc_0000 | 0x7ff0_0000)
    }

    /// From libseccomp's name and the number that goes with it.
    pub(super) fn from_scmp(name: &str, data: Option<u32>) -> Result<Action, SeccompError> {
        let data = match data {
            // EPERM where nothing is said; for a tracer it is the message.
            None => 1,
            Some(data) => u16::try_from(data)
                .ok()
                .filter(|data| *data <= 4095 || name == "SCMP_ACT_TRACE")
                .ok_or_else(|| SeccompError::Invalid(format!("{data} is not an error number").into()))?,
        };
        Ok(match name {
            "SCMP_ACT_ALLOW" => Action::ALLOW,
            "SCMP_ACT_LOG" => Action::LOG,
            "SCMP_ACT_ERRNO" => Action::errno(data),
            "SCMP_ACT_TRACE" => Action::trace(data),
            "SCMP_ACT_TRAP" => Action::TRAP,
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KILL_THREAD,
            "SCMP_ACT_KILL_PROCESS" => Action::KILL_PROCESS,
            "SCMP_ACT_NOTIFY" => return Err(SeccompError::Unsupported("the action SCMP_ACT_NOTIFY".into())),
            _ => return Err(SeccompError::Invalid(format!("unknown action {name:?}").into())),
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
    /// Is the same in the bits of this mask.
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
                    && self.rules == other.rules)
    }
}

impl Eq for Profile {}

impl Hash for Profile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

// <linux/seccomp.h>
const FLAG_TSYNC: u32 = 1;
const FLAG_LOG: u32 = 2;
pub(super) const FLAG_SPEC_ALLOW: u32 = 4;

/// Without a word about flags, runc leaves speculative store bypass alone: the mitigation costs every container, and
/// kernels since 5.16 no longer force it either.
pub(super) const DEFAULT_FLAGS: u32 = FLAG_SPEC_ALLOW;

pub(super) fn flag(name: &str) -> Result<u32, SeccompError> {
    Ok(match name {
        "SECCOMP_FILTER_FLAG_TSYNC" => FLAG_TSYNC,
        "SECCOMP_FILTER_FLAG_LOG" => FLAG_LOG,
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => FLAG_SPEC_ALLOW,
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => {
            return Err(SeccompError::Unsupported(format!("the flag {name}").into()));
        }
        _ => return Err(SeccompError::Invalid(format!("unknown flag {name:?}").into())),
    })
}

impl Profile {
    pub(super) fn new(default: Action, interfaces: Interfaces, flags: u32, rules: Vec<Rule>) -> Profile {
        let mut hasher = DefaultHasher::new();
        (default, flags, &rules).hash(&mut hasher);
        Profile {
            default,
            interfaces,
            flags,
            rules,
            hash: hasher.finish(),
        }
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

impl TryFrom<&LinuxSeccomp> for Profile {
    type Error = SeccompError;

    fn try_from(oci: &LinuxSeccomp) -> Result<Profile, SeccompError> {
        if oci.listener_path().is_some() {
            return Err(SeccompError::Unsupported("linux.seccomp.listenerPath".into()));
        }
        let native = Abi::native().ok_or(SeccompError::Unsupported(Cow::Borrowed(std::env::consts::ARCH)))?;
        let mut interfaces = Vec::new();
        for name in oci.architectures().iter().flatten() {
            let name = name.to_string();
            let known = arch::from_scmp(&name, native);
            interfaces.extend(known.map_err(|()| SeccompError::Invalid(format!("architecture {name}").into()))?);
        }
        let mut flags = if oci.flags().is_some() { 0 } else { DEFAULT_FLAGS };
        for name in oci.flags().iter().flatten() {
            flags |= match name {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync => FLAG_TSYNC,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
                other => flag(&other.to_string())?,
            };
        }
        let action = |action: LinuxSeccompAction, data| Action::from_scmp(&action.to_string(), data);
        let mut rules = Vec::new();
        for call in oci.syscalls().iter().flatten() {
            let arguments = call.args().iter().flatten().map(|arg| {
                let (value, second) = (arg.value(), arg.value_two().unwrap_or(0));
                Argument::new(arg.index() as u64, operator(arg.op()), value, second)
            });
            rules.push(Rule {
                names: call.names().iter().cloned().map(Cow::Owned).collect(),
                action: action(call.action(), call.errno_ret())?,
                arguments: arguments.collect::<Result<_, _>>()?,
                includes: Condition::default(),
                excludes: Condition::default(),
            });
        }
        let default = action(oci.default_action(), oci.default_errno_ret())?;
        Ok(Profile::new(default, Interfaces::Listed(interfaces), flags, rules))
    }
}

fn operator(op: LinuxSeccompOperator) -> &'static str {
    match op {
        LinuxSeccompOperator::ScmpCmpNe => "SCMP_CMP_NE",
        LinuxSeccompOperator::ScmpCmpLt => "SCMP_CMP_LT",
        LinuxSeccompOperator::ScmpCmpLe => "SCMP_CMP_LE",
        LinuxSeccompOperator::ScmpCmpEq => "SCMP_CMP_EQ",
        LinuxSeccompOperator::ScmpCmpGe => "SCMP_CMP_GE",
        LinuxSeccompOperator::ScmpCmpGt => "SCMP_CMP_GT",
        LinuxSeccompOperator::ScmpCmpMaskedEq => "SCMP_CMP_MASKED_EQ",
    }
}

//! OCI's `linux.seccomp`, from the types of `oci-spec`, which know every name of the specification's 1.3.

use super::arch::{self, Abi};
use super::names::{self, DEFAULT_FLAGS};
use super::profile::{Action, Argument, Condition, Interfaces, Listener, Profile, Rule};
use super::{SeccompError, invalid};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};
use std::borrow::Cow;

impl TryFrom<&LinuxSeccomp> for Profile {
    type Error = SeccompError;

    fn try_from(oci: &LinuxSeccomp) -> Result<Profile, SeccompError> {
        let native = Abi::native().ok_or(SeccompError::Unsupported(Cow::Borrowed(std::env::consts::ARCH)))?;
        let mut interfaces = Vec::new();
        for name in oci.architectures().iter().flatten() {
            interfaces.extend(arch::from_scmp(&name.to_string(), native)?);
        }
        let mut flags = if oci.flags().is_some() { 0 } else { DEFAULT_FLAGS };
        for name in oci.flags().iter().flatten() {
            flags |= names::flag(&name.to_string())?;
        }
        let action = |action: LinuxSeccompAction, data| Action::from_scmp(&action.to_string(), data);
        let mut rules = Vec::new();
        for call in oci.syscalls().iter().flatten() {
            if call.names().iter().any(String::is_empty) || call.names().is_empty() {
                return invalid("a rule names no call");
            }
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
        let listener = Listener::new(oci.listener_path().clone(), oci.listener_metadata().clone())?;
        Profile::new(default, Interfaces::Listed(interfaces), flags, rules).listening_at(listener)
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

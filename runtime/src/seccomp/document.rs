//! A profile as the OCI configuration has it: for a runtime that compiles it by itself.
//!
//! What Docker's form has beside OCI's, the conditions on capabilities, machine and kernel, is decided here, for the
//! container at hand.

use super::arch::Abi;
use super::names::DEFAULT_FLAGS;
use super::profile::{Action, Argument, Compare, Profile, Rule};
use super::{Context, SeccompError};
use serde_json::{Map, Value, json};

impl Profile {
    /// `linux.seccomp` for a container.
    ///
    /// # Errors
    /// [`SeccompError::Unsupported`] for an action that needs more than a profile.
    pub fn to_oci(&self, context: &Context) -> Result<Value, SeccompError> {
        let mut out = Map::new();
        let (action, errno) = action(self.default)?;
        out.insert("defaultAction".into(), action.into());
        if let Some(errno) = errno {
            out.insert("defaultErrnoRet".into(), errno.into());
        }
        let interfaces = self.interfaces_for(context.native).into_iter().map(scmp);
        out.insert("architectures".into(), interfaces.collect());
        // A profile that says nothing of flags leaves them to the runtime, as it left them to us.
        if self.flags != DEFAULT_FLAGS {
            out.insert("flags".into(), flags(self.flags));
        }
        let rules = self.rules_for(context).map(rule).collect::<Result<Vec<_>, _>>()?;
        out.insert("syscalls".into(), rules.into());
        Ok(Value::Object(out))
    }
}

fn rule(rule: &Rule) -> Result<Value, SeccompError> {
    let (action, errno) = action(rule.action)?;
    let mut out = Map::new();
    out.insert(
        "names".into(),
        rule.names.iter().map(|name| Value::from(&**name)).collect(),
    );
    out.insert("action".into(), action.into());
    if let Some(errno) = errno {
        out.insert("errnoRet".into(), errno.into());
    }
    if !rule.arguments.is_empty() {
        out.insert("args".into(), rule.arguments.iter().map(argument).collect());
    }
    Ok(Value::Object(out))
}

fn argument(argument: &Argument) -> Value {
    let Argument { index, compare, value } = *argument;
    let plain = |op: &str| json!({"index": index, "value": value, "op": op});
    match compare {
        Compare::Ne => plain("SCMP_CMP_NE"),
        Compare::Lt => plain("SCMP_CMP_LT"),
        Compare::Le => plain("SCMP_CMP_LE"),
        Compare::Eq => plain("SCMP_CMP_EQ"),
        Compare::Ge => plain("SCMP_CMP_GE"),
        Compare::Gt => plain("SCMP_CMP_GT"),
        // The mask comes first there.
        Compare::MaskedEq(mask) => {
            json!({"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"})
        }
    }
}

/// libseccomp's name, and the number that goes with it.
fn action(action: Action) -> Result<(&'static str, Option<u32>), SeccompError> {
    const DATA: u32 = 0xffff;
    Ok(match (action, action.0 & !DATA) {
        (Action::ALLOW, _) => ("SCMP_ACT_ALLOW", None),
        (Action::LOG, _) => ("SCMP_ACT_LOG", None),
        (Action::TRAP, _) => ("SCMP_ACT_TRAP", None),
        (Action::KILL_THREAD, _) => ("SCMP_ACT_KILL_THREAD", None),
        (Action::KILL_PROCESS, _) => ("SCMP_ACT_KILL_PROCESS", None),
        (_, 0x0005_0000) => ("SCMP_ACT_ERRNO", Some(action.0 & DATA)),
        (_, 0x7ff0_0000) => ("SCMP_ACT_TRACE", Some(action.0 & DATA)),
        (_, other) => return Err(SeccompError::Unsupported(format!("the action {other:#x}").into())),
    })
}

fn scmp(abi: Abi) -> Value {
    Value::from(match abi {
        Abi::X86_64 => "SCMP_ARCH_X86_64",
        Abi::X86 => "SCMP_ARCH_X86",
        Abi::X32 => "SCMP_ARCH_X32",
        Abi::Aarch64 => "SCMP_ARCH_AARCH64",
        Abi::Arm => "SCMP_ARCH_ARM",
    })
}

// <linux/seccomp.h>
const FLAGS: [(u32, &str); 3] = [
    (1, "SECCOMP_FILTER_FLAG_TSYNC"),
    (2, "SECCOMP_FILTER_FLAG_LOG"),
    (4, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
];

fn flags(set: u32) -> Value {
    let names = FLAGS.iter().filter(|(bit, _)| set & bit != 0);
    names.map(|(_, name)| Value::from(*name)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use oci_spec::runtime::LinuxSeccomp;

    /// What another runtime is told has the same filter as what we compile ourselves.
    #[test]
    fn the_oci_form_compiles_to_the_same_filter() {
        let own = br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"flags":["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"},
            {"names":["clone"],"action":"SCMP_ACT_ALLOW",
             "args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
            {"names":["ptrace"],"action":"SCMP_ACT_TRACE","errnoRet":7,"includes":{"minKernel":"4.8"}},
            {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;
        let own = Profile::from_json(own).unwrap();
        for capabilities in [0, u64::MAX] {
            let context = Context::of_machine(capabilities).unwrap();
            for profile in [&own, &*Profile::docker()] {
                let oci: LinuxSeccomp = serde_json::from_value(profile.to_oci(&context).unwrap()).unwrap();
                let again = Profile::try_from(&oci).unwrap();
                assert_eq!(again.compile(&context).unwrap(), profile.compile(&context).unwrap());
            }
        }
    }
}

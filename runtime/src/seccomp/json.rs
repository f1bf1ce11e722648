//! Docker's profile files (`--security-opt seccomp=FILE`), which are OCI's form with conditions added.

use super::arch::{self, Abi};
use super::names::DEFAULT_FLAGS;
use super::profile::{Action, Argument, Condition, Interfaces, Listener, Profile, Rule};
use super::{SeccompError, invalid, names, parse_version};
use crate::capabilities;
use serde::Deserialize;
use std::borrow::Cow;
use std::path::PathBuf;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<Machine>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Machine {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call {
    /// The old form, for one call.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Arg>>,
    #[serde(default)]
    includes: Option<Only>,
    #[serde(default)]
    excludes: Option<Only>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u64,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Only {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Profile {
    /// Reads a Docker profile, or an OCI one (which is the same without conditions).
    ///
    /// # Errors
    /// [`SeccompError`] saying what is wrong.
    pub fn from_json(text: &[u8]) -> Result<Profile, SeccompError> {
        let file: File = serde_json::from_slice(text)?;
        let listener = Listener::new(file.listener_path.map(PathBuf::from), file.listener_metadata)?;
        let listed = file.architectures.filter(|list| !list.is_empty());
        let interfaces = match (listed, file.arch_map.filter(|map| !map.is_empty())) {
            (Some(_), Some(_)) => return invalid("use either architectures or archMap, not both"),
            (Some(list), None) => Interfaces::Listed(abis(&list)?),
            (None, Some(map)) => {
                let mut machines = Vec::new();
                for machine in map {
                    let mut list = abis(std::slice::from_ref(&machine.architecture))?;
                    let Some(&key) = list.first() else { continue };
                    list.extend(abis(machine.sub_architectures.as_deref().unwrap_or_default())?);
                    machines.push((key, list));
                }
                Interfaces::ByMachine(machines)
            }
            (None, None) => Interfaces::Listed(Vec::new()),
        };
        let flags = match file.flags {
            None => DEFAULT_FLAGS,
            Some(list) => list
                .iter()
                .try_fold(0, |all, name| Ok::<_, SeccompError>(all | names::flag(name)?))?,
        };
        let rules = file
            .syscalls
            .unwrap_or_default()
            .into_iter()
            .map(rule)
            .collect::<Result<_, _>>()?;
        let default = Action::from_scmp(&file.default_action, file.default_errno_ret)?;
        Profile::new(default, interfaces, flags, rules).listening_at(listener)
    }
}

fn abis(names: &[String]) -> Result<Vec<Abi>, SeccompError> {
    // Only relative to a machine does NATIVE mean something; without a table for it nothing is compiled anyway.
    let native = Abi::native().unwrap_or(Abi::X86_64);
    let mut out = Vec::new();
    for name in names {
        out.extend(arch::from_scmp(name, native)?);
    }
    Ok(out)
}

fn rule(call: Call) -> Result<Rule, SeccompError> {
    let names = match (
        call.name.filter(|name| !name.is_empty()),
        call.names.filter(|names| !names.is_empty()),
    ) {
        (Some(_), Some(_)) => return invalid("use either name or names in a rule, not both"),
        (Some(name), None) => vec![name],
        (None, names) => names.unwrap_or_default(),
    };
    let arguments = call.args.unwrap_or_default().into_iter();
    if names.iter().any(String::is_empty) || names.is_empty() {
        return invalid("a rule names no call");
    }
    Ok(Rule {
        names: names.into_iter().map(Cow::Owned).collect(),
        action: Action::from_scmp(&call.action, call.errno_ret)?,
        arguments: arguments
            .map(|arg| Argument::new(arg.index, &arg.op, arg.value, arg.value_two))
            .collect::<Result<_, _>>()?,
        includes: condition(call.includes)?,
        excludes: condition(call.excludes)?,
    })
}

fn condition(only: Option<Only>) -> Result<Condition, SeccompError> {
    let only = only.unwrap_or_default();
    let mut mask = 0;
    for name in only.caps.unwrap_or_default() {
        let Some(bit) = capabilities::number(&name) else {
            return invalid(format!("unknown capability {name:?}"));
        };
        mask |= 1 << bit;
    }
    let kernel = match only.min_kernel.filter(|version| !version.is_empty()) {
        None => None,
        Some(version) => match parse_version(&version) {
            Some(parsed) => Some(parsed),
            None => return invalid(format!("{version:?} is not a kernel version")),
        },
    };
    Ok(Condition {
        capabilities: mask,
        architectures: only.arches.unwrap_or_default().into_iter().map(Cow::Owned).collect(),
        kernel,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    use proptest::prelude::*;

    fn word() -> impl Strategy<Value = String> {
        prop_oneof![
            ".{0,6}",
            prop::sample::select(vec![
                "SCMP_ACT_ERRNO",
                "SCMP_ACT_ALLOW",
                "SCMP_ARCH_X86_64",
                "SCMP_CMP_MASKED_EQ",
                "clone",
                "5.8",
                "CAP_SYS_ADMIN",
            ])
            .prop_map(str::to_owned),
        ]
    }

    /// Profiles by form, with anything in them.
    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            word().prop_map(serde_json::Value::from),
            any::<u64>().prop_map(serde_json::Value::from),
            any::<bool>().prop_map(serde_json::Value::from),
            Just(serde_json::Value::Null),
        ];
        let key = prop::sample::select(vec![
            "defaultAction",
            "defaultErrnoRet",
            "architectures",
            "archMap",
            "architecture",
            "subArchitectures",
            "flags",
            "syscalls",
            "names",
            "action",
            "errnoRet",
            "args",
            "index",
            "value",
            "valueTwo",
            "op",
            "includes",
            "excludes",
            "caps",
            "arches",
            "minKernel",
            "listenerPath",
            "listenerMetadata",
        ]);
        leaf.prop_recursive(5, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map(key.clone(), inner, 0..8)
                    .prop_map(|map| { map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_profile_or_refused(bytes: Vec<u8>) {
            let _ = Profile::from_json(&bytes);
        }

        #[test]
        fn any_json_is_a_profile_or_refused(value in value(), calls in value()) {
            let _ = Profile::from_json(value.to_string().as_bytes());
            let real = serde_json::json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [calls]});
            let _ = Profile::from_json(real.to_string().as_bytes());
        }
    }
}

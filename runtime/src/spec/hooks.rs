//! Hooks of a configuration, and the state that they are told.

use super::{Result, check_path, invalid};
use crate::plan::{Hook, HookState, RuntimeHooks};
use oci_spec::runtime::{self as oci, Spec};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

pub(super) struct Compiled {
    pub outside: RuntimeHooks,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
}

pub(super) fn compile(spec: &Spec, state: HookState) -> Result<Compiled> {
    let Some(hooks) = spec.hooks() else {
        return Ok(Compiled {
            outside: RuntimeHooks {
                state,
                ..RuntimeHooks::default()
            },
            create_container: Vec::new(),
            start_container: Vec::new(),
        });
    };
    #[allow(deprecated)] // still in files
    let prestart = list("hooks.prestart", hooks.prestart())?;
    Ok(Compiled {
        outside: RuntimeHooks {
            prestart,
            create_runtime: list("hooks.createRuntime", hooks.create_runtime())?,
            poststart: list("hooks.poststart", hooks.poststart())?,
            poststop: list("hooks.poststop", hooks.poststop())?,
            state,
        },
        create_container: list("hooks.createContainer", hooks.create_container())?,
        start_container: list("hooks.startContainer", hooks.start_container())?,
    })
}

fn list(field: &'static str, hooks: &Option<Vec<oci::Hook>>) -> Result<Vec<Hook>> {
    hooks.iter().flatten().map(|wanted| hook(field, wanted)).collect()
}

/// One hook; `field` is what an error calls it.
///
/// # Errors
/// A path that is not absolute, a NUL, a timeout that is none.
pub fn hook(field: &'static str, hook: &oci::Hook) -> Result<Hook> {
    check_path(field, hook.path())?;
    let texts = |list: &Option<Vec<String>>| -> Result<Vec<OsString>> {
        let texts = list.iter().flatten().map(|text| match text.contains('\0') {
            true => invalid(field, format!("{text:?} holds a NUL")),
            false => Ok(OsString::from(text)),
        });
        texts.collect()
    };
    let timeout = match hook.timeout() {
        None => 0,
        Some(seconds @ 1..) => u64::try_from(seconds).unwrap_or(u64::MAX / 1000).saturating_mul(1000),
        Some(seconds) => return invalid(field, format!("a timeout of {seconds} s; it must be above zero")),
    };
    Ok(Hook {
        path: hook.path().clone(),
        args: texts(hook.args())?,
        env: texts(hook.env())?,
        timeout,
    })
}

/// The state without what changes (OCI runtime specification, "State").
pub(super) fn state(spec: &Spec, id: &str, bundle: &Path) -> HookState {
    // In an order of their own, so that plans of one configuration are equal.
    let sorted = spec.annotations().iter().flatten();
    hook_state(
        id,
        bundle,
        &sorted.map(|(key, value)| (key.clone(), value.clone())).collect(),
    )
}

/// What hooks are told of a container that was not made from a configuration.
pub fn hook_state(id: &str, bundle: &Path, annotations: &BTreeMap<String, String>) -> HookState {
    use serde_json::Value;
    let mut object = serde_json::Map::new();
    object.insert("ociVersion".into(), Value::from(super::VERSION));
    object.insert("id".into(), Value::from(id));
    object.insert("bundle".into(), Value::from(bundle.to_string_lossy()));
    if !annotations.is_empty() {
        object.insert("annotations".into(), serde_json::json!(annotations));
    }
    let mut begin = Value::Object(object).to_string();
    begin.pop();
    HookState { begin }
}

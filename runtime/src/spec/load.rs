//! Reading configurations as they are found, some of which the types do not take.

use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads `config.json`.
///
/// # Errors
/// When it is no JSON, or not of a configuration's form.
pub fn load(json: &[u8]) -> serde_json::Result<Spec> {
    read(json, |value| {
        if let Some(process) = value.get_mut("process") {
            mend(process);
        }
    })
}

/// Reads the process of an exec.
///
/// # Errors
/// As [`load`].
pub fn load_process(json: &[u8]) -> serde_json::Result<Process> {
    read(json, mend)
}

/// The quick way; where that fails, once more with what newer or careless files have mended.
fn read<T: DeserializeOwned>(json: &[u8], mend: impl FnOnce(&mut Value)) -> serde_json::Result<T> {
    match serde_json::from_slice(json) {
        Err(error) if error.is_data() => {
            let mut value: Value = serde_json::from_slice(json)?;
            mend(&mut value);
            // The first error names line and column, which the mended tree has lost.
            serde_json::from_value(value).map_err(|_| error)
        }
        other => other,
    }
}

fn mend(process: &mut Value) {
    // Capabilities of newer kernels cannot be given here: left out, as those are that this machine lacks.
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        for names in sets.values_mut().filter_map(Value::as_array_mut) {
            names.retain(|name| name.as_str().is_none_or(is_known));
        }
    }
    // The types name some of these flags differently from the specification.
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
            _ => {}
        }
    }
}

fn is_known(name: &str) -> bool {
    crate::capabilities::number(name).is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_the_types_do_not_take_is_mended() {
        let json = br#"{"ociVersion":"1.2.0","process":{"cwd":"/","user":{"uid":0,"gid":0},"args":["x"],
            "capabilities":{"bounding":["CAP_KILL","CAP_OF_THE_FUTURE"]},
            "scheduler":{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN"]}}}"#;
        let spec = load(json).unwrap();
        let process = spec.process().as_ref().unwrap();
        let caps = process.capabilities().as_ref().unwrap().bounding();
        assert_eq!(caps.as_ref().unwrap().len(), 1);
        assert_eq!(process.scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(), 2);
        assert!(
            load(br#"{"process":{"cwd":3}}"#)
                .unwrap_err()
                .to_string()
                .contains("line 1")
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_configuration_or_refused(bytes: Vec<u8>) {
            let _ = (load(&bytes).is_ok(), load_process(&bytes).is_ok());
        }

        /// One that is damaged somewhere, and compiled when it is still one.
        #[test]
        fn a_damaged_configuration_never_panics(at: proptest::sample::Index, with: u8, length in 0usize..3) {
            let mut json = serde_json::to_vec(&Spec::default()).unwrap();
            let at = at.index(json.len());
            let end = (at + length).min(json.len());
            json.splice(at..end, [with]);
            let _ = load(&json);
        }
    }
}

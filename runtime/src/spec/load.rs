//! Reading configurations as they are found, some of which the types do not take.

use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads `config.json`. With it comes what was passed over, to be told to the user.
///
/// # Errors
/// When it is no JSON, or not of a configuration's form.
pub fn load(json: &[u8]) -> serde_json::Result<(Spec, Vec<String>)> {
    read(json, |value, told| {
        if let Some(process) = value.get_mut("process") {
            mend(process, told);
        }
    })
}

/// Reads the process of an exec.
///
/// # Errors
/// As [`load`].
pub fn load_process(json: &[u8]) -> serde_json::Result<(Process, Vec<String>)> {
    read(json, mend)
}

/// The quick way; where that fails, once more with what newer or careless files have mended.
fn read<T: DeserializeOwned>(
    json: &[u8],
    mend: impl FnOnce(&mut Value, &mut Vec<String>),
) -> serde_json::Result<(T, Vec<String>)> {
    match serde_json::from_slice(json) {
        Err(error) if error.is_data() => {
            let mut value: Value = serde_json::from_slice(json)?;
            let mut told = Vec::new();
            mend(&mut value, &mut told);
            // By way of the text: a second way in, from the tree itself, would be a quarter of a megabyte of code. The first
            // error names line and column as they are in the file.
            let text = value.to_string();
            serde_json::from_str(&text)
                .map(|value| (value, told))
                .map_err(|_| error)
        }
        other => other.map(|value| (value, Vec::new())),
    }
}

fn mend(process: &mut Value, told: &mut Vec<String>) {
    // Capabilities of newer kernels cannot be given here: left out, as those are that this machine lacks.
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        for names in sets.values_mut().filter_map(Value::as_array_mut) {
            names.retain(|name| match name.as_str() {
                Some(unknown) if !is_known(unknown) => {
                    let line = format!("process.capabilities: {unknown} is not known here and left out");
                    if !told.contains(&line) {
                        told.push(line);
                    }
                    false
                }
                _ => true,
            });
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
        let (spec, told) = load(json).unwrap();
        assert!(told.iter().any(|line| line.contains("CAP_OF_THE_FUTURE")));
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
}

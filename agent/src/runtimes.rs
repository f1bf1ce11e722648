//! Other OCI runtimes: from flags and file, and those that are there anyway.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use agent_engine::config::{OWN_RUNTIME, RuntimeProgram};
use anyhow::{Context, bail};
use serde::{Deserialize, Deserializer, Serialize};

use crate::flags::Options;

/// Looked for in `$PATH`, for containers that ask for them by name.
const USUAL: [&str; 3] = ["runc", "crun", "runsc"];

/// `NAME=PATH`, or an entry of the file, which may have arguments too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Runtime {
    name: String,
    path: PathBuf,
    args: Vec<String>,
}

impl FromStr for Runtime {
    type Err = String;

    fn from_str(text: &str) -> Result<Runtime, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok(Runtime {
                name: name.to_owned(),
                path: path.into(),
                args: Vec::new(),
            }),
            _ => Err("expected NAME=PATH".to_owned()),
        }
    }
}

/// dockerd's `{"crun": {"path": "/usr/bin/crun", "runtimeArgs": []}}`.
pub fn of_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Runtime>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        path: PathBuf,
        #[serde(default, rename = "runtimeArgs")]
        args: Vec<String>,
    }
    let table: BTreeMap<String, Entry> = BTreeMap::deserialize(deserializer)?;
    let runtime = |(name, entry): (String, Entry)| Runtime {
        name,
        path: entry.path,
        args: entry.args,
    };
    Ok(Some(table.into_iter().map(runtime).collect()))
}

/// Every runtime that containers may ask for, and the name of the one of those that do not ask.
///
/// # Errors
/// For a name that is ours, given twice, or no name; for a program that is not there; for an unknown default.
pub fn all(options: &Options) -> anyhow::Result<(BTreeMap<String, RuntimeProgram>, String)> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut all = BTreeMap::new();
    for Runtime { name, path, args } in options.runtimes.iter().flatten() {
        if name == OWN_RUNTIME {
            bail!("runtime {name}: the name is that of our own runtime; choose another one");
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            bail!("runtime {name:?}: a name is made of letters, digits, '_', '.' and '-'");
        }
        let found = program(path, &search)
            .with_context(|| format!("runtime {name}: there is no program {}", path.display()))?;
        let program = RuntimeProgram {
            path: found,
            args: args.clone(),
        };
        if all.insert(name.clone(), program).is_some() {
            bail!("runtime {name} is given twice");
        }
    }
    for name in USUAL {
        if let (false, Some(path)) = (all.contains_key(name), program(Path::new(name), &search)) {
            let args = Vec::new();
            all.insert(name.to_owned(), RuntimeProgram { path, args });
        }
    }
    let default = options
        .default_runtime
        .clone()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| OWN_RUNTIME.to_owned());
    if default != OWN_RUNTIME && !all.contains_key(&default) {
        bail!("--default-runtime {default}: no such runtime; name its program with --add-runtime {default}=PATH");
    }
    Ok((all, default))
}

/// A program by its path, or by its name alone.
fn program(path: &Path, search: &OsStr) -> Option<PathBuf> {
    if path.components().count() > 1 {
        return (path.is_absolute() && is_program(path)).then(|| path.to_owned());
    }
    std::env::split_paths(search)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(path))
        .find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn with(runtimes: &[&str], default: Option<&str>) -> Result<(BTreeMap<String, RuntimeProgram>, String), String> {
        let options = Options {
            runtimes: Some(runtimes.iter().map(|text| text.parse().unwrap()).collect()),
            default_runtime: default.map(str::to_owned),
            ..Options::default()
        };
        all(&options).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn configured_ones_are_there() {
        let (all, default) = with(&["a=/bin/sh", "b=sh"], Some("a")).unwrap();
        assert_eq!(default, "a");
        assert_eq!(all["a"].path, Path::new("/bin/sh"));
        assert!(all["b"].path.is_absolute() && all["b"].path.ends_with("sh"));
        assert_eq!(with(&[], None).unwrap().1, "iechor");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (runtimes, default, word) in [
            (&["iechor=/bin/sh"][..], None, "our own"),
            (&["a=/no/such/program"], None, "/no/such/program"),
            (&["a=/etc/passwd"], None, "/etc/passwd"),
            (&["a=./sh"], None, "./sh"),
            (&["a=/bin/sh", "a=/bin/sh"], None, "twice"),
            (&["a b=/bin/sh"], None, "a b"),
            (&[], Some("nowhere"), "--default-runtime nowhere"),
        ] {
            let error = with(runtimes, default).unwrap_err();
            assert!(error.contains(word), "{runtimes:?}: {error}");
        }
        assert!("name".parse::<Runtime>().is_err() && "=path".parse::<Runtime>().is_err());
    }

    #[test]
    fn dockerds_form_is_read() {
        let json =
            r#"{"runtimes":{"crun":{"path":"/usr/bin/crun","runtimeArgs":["--debug"]}},"default-runtime":"crun"}"#;
        let options: Options = serde_json::from_str(json).unwrap();
        let [runtime] = &options.runtimes.unwrap()[..] else {
            panic!("one runtime")
        };
        assert_eq!(
            (&*runtime.name, &runtime.path),
            ("crun", &PathBuf::from("/usr/bin/crun"))
        );
        assert_eq!(runtime.args, ["--debug"]);
        let shim = r#"{"runtimes":{"x":{"runtimeType":"io.containerd.x.v1"}}}"#;
        let error = serde_json::from_str::<Options>(shim).unwrap_err().to_string();
        assert!(error.contains("runtimeType"), "{error}");
    }
}

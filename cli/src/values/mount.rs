//! `--mount type=…,source=…,target=…,…` and the paths of `-v` and `--tmpfs`.

use std::path::Path;

use agent_api::host_config::{BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions};

use super::{csv, size};

/// What `-v` says: a bind or named volume, or an anonymous volume at a path.
#[derive(Debug, PartialEq, Eq)]
pub enum Volume {
    Bind(String),
    Anonymous(String),
}

/// # Errors
/// Nothing is specified, or there are too many parts.
pub fn volume(spec: &str) -> Result<Volume, String> {
    let Some((source, rest)) = spec.split_once(':') else {
        return if spec.is_empty() {
            Err("invalid empty volume spec".to_owned())
        } else {
            Ok(Volume::Anonymous(spec.to_owned()))
        };
    };
    if source.is_empty() {
        return Err(format!("invalid spec: {spec}: empty section between colons"));
    }
    if rest.matches(':').count() > 1 {
        return Err(format!("invalid volume specification: '{spec}': too many colons"));
    }
    // Only a leading dot makes a relative path; anything else without a slash in front is a volume's name.
    match source.starts_with('.') {
        true => Ok(Volume::Bind(format!("{}:{rest}", absolute(source)?))),
        false => Ok(Volume::Bind(spec.to_owned())),
    }
}

/// `path[:options]`.
pub fn tmpfs(spec: &str) -> (String, String) {
    let (path, options) = spec.split_once(':').unwrap_or((spec, ""));
    (path.to_owned(), options.to_owned())
}

/// # Errors
/// A key is not known, a value not understood, or two of them exclude each other.
pub fn mount(spec: &str) -> Result<Mount, String> {
    let mut mount = Mount {
        kind: "volume".to_owned(),
        ..Mount::default()
    };
    let mut unless_bind = Vec::new();
    for field in csv::fields(spec)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.trim().to_lowercase(), Some(value)),
            None => (field.trim().to_lowercase(), None),
        };
        if key.split('-').next() == Some("bind") {
            unless_bind.push(key.clone());
        }
        switch_or_value(&mut mount, &key, value, &field)?;
    }
    check(&mount, &unless_bind)?;
    Ok(mount)
}

fn switch_or_value(mount: &mut Mount, key: &str, value: Option<&str>, field: &str) -> Result<(), String> {
    let wrong = || format!("invalid value for {key}: {}", value.unwrap_or_default());
    match (key, value) {
        ("readonly" | "ro", None | Some("true" | "1")) => mount.read_only = true,
        ("readonly" | "ro", Some("false" | "0")) => mount.read_only = false,
        ("readonly" | "ro", Some("forced")) => {
            mount.read_only = true;
            mount.bind_options.get_or_insert_default().read_only_force_recursive = true;
        }
        ("volume-nocopy", value) => {
            mount.volume_options.get_or_insert_default().no_copy = on(value).ok_or_else(wrong)?
        }
        ("bind-nonrecursive", value) => {
            mount.bind_options.get_or_insert_default().non_recursive = on(value).ok_or_else(wrong)?
        }
        ("bind-create-src", value) => {
            mount.bind_options.get_or_insert_default().create_mountpoint = on(value).ok_or_else(wrong)?
        }
        (_, None) => return Err(format!("invalid field '{field}' must be a key=value pair")),
        (_, Some(value)) => self::value(mount, key, value, field)?,
    }
    Ok(())
}

/// A switch may stand alone.
fn on(value: Option<&str>) -> Option<bool> {
    match value {
        None | Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        Some(_) => None,
    }
}

fn value(mount: &mut Mount, key: &str, value: &str, field: &str) -> Result<(), String> {
    let wrong = || format!("invalid value for {key}: {value}");
    match key {
        "type" => mount.kind = value.to_lowercase(),
        "source" | "src" => {
            // As with -v: a leading dot is a path relative to where the command runs.
            mount.source = if value.starts_with('.') {
                absolute(value)?
            } else {
                value.to_owned()
            };
        }
        "target" | "dst" | "destination" => mount.target = value.to_owned(),
        "consistency" => mount.consistency = value.to_lowercase(),
        "readonly" | "ro" => return Err(wrong()),
        "bind-propagation" => mount.bind_options.get_or_insert_default().propagation = value.to_lowercase(),
        "bind-recursive" => {
            let bind: &mut BindOptions = mount.bind_options.get_or_insert_default();
            match value {
                "enabled" => {}
                "disabled" => bind.non_recursive = true,
                "writable" => bind.read_only_non_recursive = true,
                "readonly" => bind.read_only_force_recursive = true,
                _ => return Err(format!("{} (must be enabled, disabled, writable or readonly)", wrong())),
            }
        }
        "volume-driver" => driver(mount).name = value.to_owned(),
        "volume-subpath" => mount.volume_options.get_or_insert_default().subpath = value.to_owned(),
        "volume-opt" | "volume-label" => {
            let (name, content) = value.split_once('=').unwrap_or((value, ""));
            let entry = (name.to_owned(), content.to_owned());
            if key == "volume-opt" {
                driver(mount).options.get_or_insert_default().extend([entry]);
            } else {
                mount
                    .volume_options
                    .get_or_insert_with(VolumeOptions::default)
                    .labels
                    .get_or_insert_default()
                    .extend([entry]);
            }
        }
        "image-subpath" => mount.image_options.get_or_insert_with(ImageOptions::default).subpath = value.to_owned(),
        "tmpfs-size" => {
            mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default).size_bytes =
                size::parse(value).map_err(|_| wrong())?;
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(value, 8).map_err(|_| wrong())?;
            mount.tmpfs_options.get_or_insert_default().mode = mode;
        }
        _ => return Err(format!("unknown option '{key}' in '{field}'")),
    }
    Ok(())
}

fn driver(mount: &mut Mount) -> &mut DriverConfig {
    mount
        .volume_options
        .get_or_insert_default()
        .driver_config
        .get_or_insert_default()
}

/// What the parts say together.
fn check(mount: &Mount, bind_keys: &[String]) -> Result<(), String> {
    if mount.kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if !matches!(
        mount.kind.as_str(),
        "bind" | "volume" | "tmpfs" | "image" | "cluster" | "npipe"
    ) {
        return Err(format!(
            "invalid mount type {:?}: expected bind, volume, tmpfs or image",
            mount.kind
        ));
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    let mismatch = |options: &str| {
        Err(format!(
            "cannot mix '{options}' options with mount type '{}'",
            mount.kind
        ))
    };
    if mount.volume_options.is_some() && mount.kind != "volume" {
        return mismatch("volume-*");
    }
    if !bind_keys.is_empty() && mount.kind != "bind" {
        return mismatch("bind-*");
    }
    if mount.image_options.is_some() && mount.kind != "image" {
        return mismatch("image-*");
    }
    if mount.tmpfs_options.is_some() && mount.kind != "tmpfs" {
        return mismatch("tmpfs-*");
    }
    if let Some(bind) = &mount.bind_options {
        if bind.read_only_non_recursive && !mount.read_only {
            return Err(
                "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction".to_owned(),
            );
        }
        if bind.read_only_force_recursive && !mount.read_only {
            return Err(
                "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".to_owned(),
            );
        }
        if bind.read_only_force_recursive
            && mount.kind == "bind"
            && bind.propagation != "rprivate"
            && bind_keys.iter().any(|key| key == "bind-recursive")
        {
            return Err(
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

fn absolute(path: &str) -> Result<String, String> {
    let found = std::path::absolute(Path::new(path)).map_err(|error| format!("cannot resolve {path:?}: {error}"))?;
    // `absolute` keeps the `..` parts; the daemon is in no better place to resolve them.
    let mut clean = std::path::PathBuf::new();
    for part in found.components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean
        .into_os_string()
        .into_string()
        .map_err(|_| format!("the path {path:?} is not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn volumes_parse() {
        assert_eq!(volume("/data").unwrap(), Volume::Anonymous("/data".to_owned()));
        assert_eq!(
            volume("name:/data:ro").unwrap(),
            Volume::Bind("name:/data:ro".to_owned())
        );
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            volume("./x:/data").unwrap(),
            Volume::Bind(format!("{}/x:/data", here.display()))
        );
        for bad in ["", ":/data", "a:b:c:d"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
        assert_eq!(tmpfs("/t:size=1m"), ("/t".to_owned(), "size=1m".to_owned()));
    }

    fn json(spec: &str) -> String {
        serde_json::to_string(&mount(spec).unwrap()).unwrap()
    }

    #[test]
    fn mounts_parse() {
        assert_eq!(
            json("type=bind,src=/a,dst=/b,ro"),
            r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true}"#
        );
        assert_eq!(
            json("src=v,target=/b"),
            r#"{"Type":"volume","Source":"v","Target":"/b"}"#
        );
        assert_eq!(
            json(r#"type=volume,dst=/b,volume-driver=d,"volume-opt=o=a,b",volume-label=k=v,volume-nocopy"#),
            r#"{"Type":"volume","Target":"/b","VolumeOptions":{"NoCopy":true,"Labels":{"k":"v"},"DriverConfig":{"Name":"d","Options":{"o":"a,b"}}}}"#
        );
        assert_eq!(
            json("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770"),
            r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1048576,"Mode":1016}}"#
        );
        assert_eq!(
            json("type=bind,src=/a,dst=/b,bind-propagation=rshared,bind-recursive=disabled"),
            r#"{"Type":"bind","Source":"/a","Target":"/b","BindOptions":{"Propagation":"rshared","NonRecursive":true}}"#
        );
        for bad in [
            "",
            "type=bind",
            "type=bind,src=/a",
            "type=x,dst=/b",
            "type=bind,src=/a,dst=/b,nope=1",
            "type=bind,src=/a,dst=/b,volume-nocopy",
            "type=tmpfs,dst=/b,bind-propagation=shared",
            "type=tmpfs,dst=/b,tmpfs-mode=9",
            "type=tmpfs,dst=/b,tmpfs-size=x",
            "type=bind,src=/a,dst=/b,bind-recursive=writable",
            "type=bind,src=/a,dst=/b,ro=maybe",
            "type=bind,\"src=/a,dst=/b",
        ] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(spec in "(type=|bind|src=|dst=|/a|,|\"|ro|=|volume-opt|tmpfs-mode=|7|é){0,12}") {
            let _ = mount(&spec);
            let _ = volume(&spec);
        }
    }
}

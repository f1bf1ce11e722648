//! From `-v`, `--mount`, `--tmpfs` and image volumes to the list of mounts of a container.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::spec::{HostConfig, Mount};
use crate::error::{Error, Result};
use crate::ids::{random_hex, volume_name};

/// One mount of a container, resolved; what inspect shows and what start mounts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountPoint {
    pub kind: MountKind,
    /// Volume name, or an image's id; empty for binds and tmpfs.
    pub name: String,
    /// Folder or file of the host; of an image, the folder of its topmost layer; empty for tmpfs.
    pub source: PathBuf,
    /// Absolute path in the container, without a trailing slash.
    pub target: String,
    /// `local` for volumes.
    pub driver: String,
    /// The options as given (`ro,Z`), for inspect.
    pub mode: String,
    pub writable: bool,
    /// `rprivate`, `rshared`, …; empty for volumes and tmpfs.
    pub propagation: String,
    pub recursive: bool,
    /// How a read-only bind treats mounts below it.
    pub read_only_recursive: RecursiveReadOnly,
    /// Whether an empty new volume takes over what the image has at the target.
    pub copy_up: bool,
    /// Path below the root of the volume or image that is mounted.
    pub subpath: String,
    /// tmpfs: options for the file system and flags, comma separated.
    pub tmpfs_options: String,
    /// It came with the container and goes with `rm -v`.
    pub anonymous: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountKind {
    Bind,
    Volume,
    Tmpfs,
    /// The root of another image, read-only.
    Image,
}

impl MountKind {
    pub fn as_str(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Volume => "volume",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Image => "image",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecursiveReadOnly {
    /// Recursive where the kernel can, Docker's default since API 1.44.
    #[default]
    IfPossible,
    /// Only the top mount.
    No,
    /// An error where the kernel cannot.
    Force,
}

/// A mount before volumes are made: what has to be done at create.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedMount {
    pub point: MountPoint,
    /// A bind whose source is made when absent (`-v` does, `--mount` does not unless told).
    pub create_source: bool,
    pub volume_labels: BTreeMap<String, String>,
    pub volume_driver_options: BTreeMap<String, String>,
}

fn blank(kind: MountKind, target: String) -> MountPoint {
    MountPoint {
        kind,
        name: String::new(),
        source: PathBuf::new(),
        target,
        driver: String::new(),
        mode: String::new(),
        writable: true,
        propagation: String::new(),
        recursive: true,
        read_only_recursive: RecursiveReadOnly::IfPossible,
        copy_up: false,
        subpath: String::new(),
        tmpfs_options: String::new(),
        anonymous: false,
    }
}

/// Cleans a path inside a container: absolute, no `.`/`..` left, not `/`.
pub fn clean_target(path: &str, whole: &str) -> Result<String> {
    if !path.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount config: invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    if path.contains('\0') {
        return Err(Error::invalid(format!(
            "invalid volume specification: '{whole}': path contains a NUL byte"
        )));
    }
    let clean = lexical(path);
    if clean == "/" {
        return Err(Error::invalid(format!(
            "invalid volume specification: '{whole}': destination can't be '/'"
        )));
    }
    Ok(clean)
}

/// Resolves `.` and `..` by text alone, as Go's `path.Clean` does for absolute paths.
pub fn lexical(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().unwrap_or_default()),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    format!("/{}", parts.join("/"))
}

/// Reads `[source:]target[:options]`.
pub fn parse_bind(text: &str) -> Result<PlannedMount> {
    let bad = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [""] => return Err(bad()),
        [target] => (None, *target, ""),
        [target, mode] if target.starts_with('/') && !mode.starts_with('/') && is_mode(mode) => (None, *target, *mode),
        [source, target] => (Some(*source), *target, ""),
        [source, target, mode] => (Some(*source), *target, *mode),
        _ => return Err(bad()),
    };
    if source == Some("") || target.is_empty() || (parts.len() == 3 && mode.is_empty()) {
        return Err(bad());
    }
    let target = clean_target(target, text)?;
    let mut planned = match source {
        Some(path) if path.starts_with('/') => {
            let mut point = blank(MountKind::Bind, target);
            point.source = PathBuf::from(lexical(path));
            point.propagation = "rprivate".into();
            PlannedMount {
                point,
                create_source: true,
                volume_labels: BTreeMap::new(),
                volume_driver_options: BTreeMap::new(),
            }
        }
        source => {
            let mut point = blank(MountKind::Volume, target);
            point.driver = "local".into();
            point.copy_up = true;
            point.anonymous = source.is_none();
            point.name = match source {
                Some(name) => volume_name(name)?,
                None => random_hex(),
            };
            PlannedMount {
                point,
                create_source: false,
                volume_labels: BTreeMap::new(),
                volume_driver_options: BTreeMap::new(),
            }
        }
    };
    apply_mode(&mut planned.point, mode)?;
    Ok(planned)
}

const MODE_WORDS: [&str; 16] = [
    "ro",
    "rw",
    "z",
    "Z",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "private",
    "rprivate",
    "nocopy",
    "cached",
    "delegated",
    "consistent",
    "default",
    "volume-nocopy",
];

fn is_mode(text: &str) -> bool {
    text.split(',').all(|word| MODE_WORDS.contains(&word))
}

fn apply_mode(point: &mut MountPoint, mode: &str) -> Result<()> {
    point.mode = mode.to_owned();
    let mut seen_access = false;
    for word in mode.split(',').filter(|word| !word.is_empty()) {
        let bad = || Error::invalid(format!("invalid mode: {mode}"));
        match word {
            "ro" | "rw" => {
                if seen_access {
                    return Err(bad());
                }
                seen_access = true;
                point.writable = word == "rw";
            }
            // Labels of SELinux, which is not enabled where this runs; Docker passes them over as well then.
            "z" | "Z" => {}
            // Hints for file sharing on other systems; they say nothing on Linux.
            "cached" | "delegated" | "consistent" | "default" => {}
            "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" if point.kind == MountKind::Bind => {
                point.propagation = word.to_owned();
            }
            "nocopy" if point.kind == MountKind::Volume => point.copy_up = false,
            _ => return Err(bad()),
        }
    }
    Ok(())
}

/// Reads the long form.
pub fn parse_mount(mount: &Mount) -> Result<PlannedMount> {
    let refuse = |text: String| Error::invalid(format!("invalid mount config for type \"{}\": {text}", mount.kind));
    let need = |what: &str| refuse(format!("field {what} must not be empty"));
    if mount.target.is_empty() {
        return Err(need("Target"));
    }
    if !mount.target.starts_with('/') {
        return Err(refuse(format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.target
        )));
    }
    let target = lexical(&mount.target);
    if target == "/" {
        return Err(refuse("invalid specification: destination can't be '/'".into()));
    }
    let only = |field: &str, present: bool, kind: &str| {
        if present && mount.kind != kind {
            Err(refuse(format!("field {field} must not be specified")))
        } else {
            Ok(())
        }
    };
    only("BindOptions", mount.bind.is_some(), "bind")?;
    only("VolumeOptions", mount.volume.is_some(), "volume")?;
    only("TmpfsOptions", mount.tmpfs.is_some(), "tmpfs")?;
    only("ImageOptions", mount.image.is_some(), "image")?;
    let mut planned = PlannedMount {
        point: blank(MountKind::Bind, target),
        create_source: false,
        volume_labels: BTreeMap::new(),
        volume_driver_options: BTreeMap::new(),
    };
    let point = &mut planned.point;
    point.writable = !mount.read_only;
    match mount.kind.as_str() {
        "bind" => {
            if mount.source.is_empty() {
                return Err(need("Source"));
            }
            if !mount.source.starts_with('/') {
                return Err(refuse(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.source
                )));
            }
            let options = mount.bind.clone().unwrap_or_default();
            point.source = PathBuf::from(lexical(&mount.source));
            point.propagation = match options.propagation.as_str() {
                "" => "rprivate".into(),
                "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" => options.propagation.clone(),
                other => return Err(refuse(format!("invalid propagation mode: {other}"))),
            };
            point.recursive = !options.non_recursive;
            point.read_only_recursive = match (options.read_only_non_recursive, options.read_only_force_recursive) {
                (true, true) => {
                    return Err(refuse(
                        "ReadOnlyNonRecursive and ReadOnlyForceRecursive cannot both be specified".into(),
                    ));
                }
                (true, false) => RecursiveReadOnly::No,
                (false, true) if point.writable => {
                    return Err(refuse("ReadOnlyForceRecursive needs a read-only mount".into()));
                }
                (false, true) => RecursiveReadOnly::Force,
                (false, false) => RecursiveReadOnly::IfPossible,
            };
            planned.create_source = options.create_mountpoint;
        }
        "volume" => {
            let options = mount.volume.clone().unwrap_or_default();
            known_driver(&options.driver)?;
            point.kind = MountKind::Volume;
            point.driver = "local".into();
            point.copy_up = !options.no_copy;
            point.anonymous = mount.source.is_empty();
            point.name = if mount.source.is_empty() {
                random_hex()
            } else {
                volume_name(&mount.source)?
            };
            if point.anonymous && !options.subpath.is_empty() {
                return Err(refuse("must not set Subpath when using anonymous volumes".into()));
            }
            point.subpath = inner_path(&options.subpath)
                .ok_or_else(|| refuse("subpath must be a relative path within the volume".into()))?;
            planned.volume_labels = options.labels;
            planned.volume_driver_options = options.driver_options;
        }
        "tmpfs" => {
            if !mount.source.is_empty() {
                return Err(refuse("field Source must not be specified".into()));
            }
            point.kind = MountKind::Tmpfs;
            let options = mount.tmpfs.clone().unwrap_or_default();
            let mut words = Vec::new();
            if options.size_bytes < 0 {
                return Err(refuse("negative tmpfs size".into()));
            }
            if options.size_bytes > 0 {
                words.push(format!("size={}", options.size_bytes));
            }
            if options.mode != 0 {
                words.push(format!("mode={:o}", options.mode));
            }
            for option in &options.options {
                match option.as_slice() {
                    [flag] => words.push(flag.clone()),
                    [key, value] => words.push(format!("{key}={value}")),
                    _ => return Err(refuse("invalid tmpfs option: each has one or two members".into())),
                }
            }
            point.tmpfs_options = words.join(",");
            check_tmpfs_options(&point.tmpfs_options)?;
        }
        "image" => {
            if mount.source.is_empty() {
                return Err(need("Source"));
            }
            let options = mount.image.clone().unwrap_or_default();
            point.kind = MountKind::Image;
            // An image never changes, whatever is asked for.
            point.writable = false;
            // The image's id takes its place when the image is looked up.
            point.name.clone_from(&mount.source);
            point.subpath = inner_path(&options.subpath)
                .ok_or_else(|| refuse("subpath must be a relative path within the image".into()))?;
        }
        "cluster" | "npipe" => return Err(Error::unsupported(format!("a mount of type {}", mount.kind))),
        other => return Err(Error::invalid(format!("mount type unknown: \"{other}\""))),
    }
    Ok(planned)
}

/// A path below a volume or image without `.` parts; `None` for one that is absolute or goes up.
fn inner_path(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

/// Whether there is a volume driver of that name.
///
/// # Errors
/// Docker's words for a driver that is not installed.
pub fn known_driver(name: &str) -> Result<()> {
    match name {
        "" | "local" => Ok(()),
        // Not "not found" in a create: clients would take that for the image, and pull it.
        other => Err(Error::invalid(Error::NoSuchVolumeDriver(other.to_owned()).to_string())),
    }
}

/// Options of `--tmpfs`: mount flags, and what tmpfs itself knows.
fn check_tmpfs_options(options: &str) -> Result<()> {
    const FLAGS: [&str; 18] = [
        "ro",
        "rw",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "sync",
        "async",
    ];
    const KEYS: [&str; 6] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks"];
    for word in options.split(',').filter(|word| !word.is_empty()) {
        let known = match word.split_once('=') {
            Some((key, value)) => KEYS.contains(&key) && !value.is_empty(),
            None => FLAGS.contains(&word),
        };
        if !known {
            return Err(Error::invalid(format!("invalid tmpfs option [\"{word}\"]")));
        }
    }
    Ok(())
}

/// All mounts of a request, image volumes included; each target once. What is `inherited` from other containers stands in
/// the place of an image's volume, and behind what the request says itself.
pub fn plan(
    host: &HostConfig,
    inherited: &[MountPoint],
    image_volumes: impl Iterator<Item = String>,
) -> Result<Vec<PlannedMount>> {
    known_driver(&host.volume_driver)?;
    let mut planned: Vec<PlannedMount> = Vec::new();
    let add = |planned: &mut Vec<PlannedMount>, mount: PlannedMount| {
        if planned.iter().any(|other| other.point.target == mount.point.target) {
            return Err(Error::invalid(format!("Duplicate mount point: {}", mount.point.target)));
        }
        planned.push(mount);
        Ok(())
    };
    for bind in &host.binds {
        add(&mut planned, parse_bind(bind)?)?;
    }
    for mount in &host.mounts {
        add(&mut planned, parse_mount(mount)?)?;
    }
    for (target, options) in &host.tmpfs {
        let mut point = blank(MountKind::Tmpfs, clean_target(target, target)?);
        check_tmpfs_options(options)?;
        point.tmpfs_options = options.clone();
        let mount = PlannedMount {
            point,
            create_source: false,
            volume_labels: BTreeMap::new(),
            volume_driver_options: BTreeMap::new(),
        };
        add(&mut planned, mount)?;
    }
    for volume in image_volumes {
        let target = clean_target(&volume, &volume)?;
        let taken = planned.iter().any(|other| other.point.target == target);
        if !taken && !inherited.iter().any(|other| other.target == target) {
            planned.push(parse_bind(&target)?);
        }
    }
    // Parents before what lies in them, whatever the order of the flags.
    planned.sort_by_key(|mount| mount.point.target.matches('/').count());
    Ok(planned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn binds_as_docker_reads_them() {
        let bind = parse_bind("/a/../b:/c/./d/:ro,rshared").unwrap().point;
        assert_eq!(
            (bind.kind, bind.source.to_str().unwrap(), bind.target.as_str()),
            (MountKind::Bind, "/b", "/c/d")
        );
        assert!(!bind.writable);
        assert_eq!(bind.propagation, "rshared");
        let volume = parse_bind("data:/x:nocopy").unwrap().point;
        assert_eq!(
            (volume.kind, volume.name.as_str(), volume.copy_up),
            (MountKind::Volume, "data", false)
        );
        let anonymous = parse_bind("/x:ro").unwrap().point;
        assert!(anonymous.anonymous && !anonymous.writable && anonymous.name.len() == 64);
        for bad in [
            "",
            ":",
            ":/x",
            "/a:",
            "a:b",
            "/a:/",
            "/a:/b:",
            "/a:/b:quick",
            "/a:/b:ro,rw",
            "/a:/b:ro:z",
            "a/b:/c",
            "v:/c:rshared",
            "/a:/b:nocopy",
        ] {
            assert!(parse_bind(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn targets_are_mounted_once_and_parents_first() {
        let host = HostConfig {
            binds: vec!["/a:/x/y/z".into(), "/b:/x".into()],
            ..HostConfig::default()
        };
        let points = plan(&host, &[], ["/x".to_owned(), "/img".into()].into_iter()).unwrap();
        let targets: Vec<_> = points.iter().map(|m| m.point.target.as_str()).collect();
        assert_eq!(targets, ["/x", "/img", "/x/y/z"]);
        let twice = HostConfig {
            binds: vec!["/a:/x".into(), "/b:/x/".into()],
            ..HostConfig::default()
        };
        assert!(plan(&twice, &[], std::iter::empty()).is_err());
    }

    #[test]
    fn paths_inside_stay_inside() {
        for (given, wanted) in [
            ("", Some("")),
            ("a/./b/", Some("a/b")),
            ("a", Some("a")),
            ("/a", None),
            ("a/../b", None),
        ] {
            assert_eq!(inner_path(given).as_deref(), wanted, "{given}");
        }
    }

    proptest! {
        #[test]
        fn hostile_binds_never_panic_nor_leave_relative_targets(text in "[a-z/:.,~\\PC]{0,24}") {
            if let Ok(mount) = parse_bind(&text) {
                prop_assert!(mount.point.target.starts_with('/') && mount.point.target != "/");
                prop_assert!(!mount.point.target.split('/').any(|part| part == ".." || part == "."));
            }
        }
    }
}

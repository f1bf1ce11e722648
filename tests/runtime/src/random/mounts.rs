//! Mounts: the usual ones, and any others over, below and beside them.

use std::collections::BTreeSet;

use nix::sys::statfs::statfs;
use serde_json::{Value, json};

use super::draft::{Draft, same};
use super::draw::Draw;
use super::seen::{Seen, flags_at};

fn mount(draft: &mut Draft, destination: &str, kind: &str, options: &[&str]) {
    draft.config.mount(destination, kind, kind, options);
}

/// What containers have of the kernel's file systems.
pub fn usual(draft: &mut Draft, draw: &mut Draw) {
    // Root of a user namespace gets a new view only of what belongs to it as well.
    let own = |draft: &Draft, kind: &str| draft.users.is_none() || draft.namespaces.get(kind) == Some(&true);
    if draw.chance(90) && own(draft, "pid") {
        mount(draft, "/proc", "proc", &["nosuid", "noexec", "nodev"]);
        sees(draft, "/proc", "proc", &["nosuid", "noexec", "nodev", "relatime"]);
    }
    if draw.chance(80) {
        let mut options = vec!["nosuid", "strictatime", "mode=755", "size=65536k"];
        options.extend(draw.some(&["noexec"], 50));
        draft.config.mount("/dev", "tmpfs", "tmpfs", &options);
        options.truncate(options.len() - usize::from(options.len() > 4));
        sees(draft, "/dev", "tmpfs", &["nosuid"]);
        if draw.chance(60) {
            mount(
                draft,
                "/dev/pts",
                "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            );
            sees(draft, "/dev/pts", "devpts", &["nosuid", "noexec", "relatime"]);
        }
        if draw.chance(40) {
            draft.config.mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", "size=64k"],
            );
            sees(draft, "/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "relatime"]);
            draft.expect("size of /dev/shm", Ok(65_536), |seen| size(seen, "/dev/shm"));
        }
        if draw.chance(40) && own(draft, "ipc") {
            mount(draft, "/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
            sees(
                draft,
                "/dev/mqueue",
                "mqueue",
                &["nosuid", "noexec", "nodev", "relatime"],
            );
        }
    }
    if draw.chance(50) && own(draft, "network") {
        mount(draft, "/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
        sees(draft, "/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro", "relatime"]);
        if draw.chance(25) {
            mount(
                draft,
                "/sys/fs/cgroup",
                "cgroup",
                &["nosuid", "noexec", "nodev", "relatime", "ro"],
            );
            draft.check("/sys/fs/cgroup", |seen| {
                let folder = seen.inside("/sys/fs/cgroup");
                let flags = flags_at(&folder)?;
                let filled = std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
                match flags.contains("ro") && filled {
                    true => Ok(()),
                    false => Err(format!("{flags:?}, filled: {filled}")),
                }
            });
        }
    }
}

/// Which file system is at a path, mounted with which of the flags (access times left out where `wanted` has none).
fn sees(draft: &mut Draft, path: &'static str, kind: &'static str, wanted: &'static [&'static str]) {
    let alone = draft.has("mount");
    draft.check(format!("mounts of {path}"), move |seen| {
        let found = flags_at(&seen.inside(path))?;
        for word in wanted {
            if !found.contains(word) {
                return Err(format!("it is mounted {found:?}, without {word}"));
            }
        }
        match seen.mount(path) {
            Some(mount) if mount.kind == kind => Ok(()),
            None if !alone => Ok(()),
            other => Err(format!("{other:?}, not {kind}")),
        }
    });
}

fn size(seen: &Seen<'_>, path: &str) -> Result<u64, String> {
    let about = statfs(&seen.inside(path)).map_err(|error| error.to_string())?;
    Ok(about.blocks() * about.block_size() as u64)
}

/// (word, what it sets or clears, whether it sets)
const WORDS: &[(&str, &str, bool)] = &[
    ("ro", "ro", true),
    ("rw", "ro", false),
    ("nosuid", "nosuid", true),
    ("suid", "nosuid", false),
    ("nodev", "nodev", true),
    ("dev", "nodev", false),
    ("noexec", "noexec", true),
    ("exec", "noexec", false),
    ("nodiratime", "nodiratime", true),
    ("diratime", "nodiratime", false),
];
const RECURSIVE: &[(&str, &str, bool)] = &[
    ("rro", "ro", true),
    ("rnosuid", "nosuid", true),
    ("rnodev", "nodev", true),
    ("rnoexec", "noexec", true),
];
/// Words without an effect that anybody can see.
const IDLE: &[&str] = &["defaults", "", "async", "silent", "loud", "symfollow", "nolazytime"];

/// One more mount, as it has to look.
struct More {
    destination: String,
    tmpfs: bool,
    set: BTreeSet<&'static str>,
    clear: BTreeSet<&'static str>,
    times: Option<&'static str>,
    propagation: &'static str,
}

impl More {
    fn is_below(&self, other: &str) -> bool {
        self.destination == other || self.destination.starts_with(&format!("{other}/"))
    }

    /// The words, of which later ones override earlier ones.
    fn draw_words(&mut self, draft: &Draft, draw: &mut Draw) -> Vec<String> {
        let mut out = Vec::new();
        for (word, flag, on) in draw.some(WORDS, 25) {
            // In a user namespace nobody takes away what the host's mount has.
            if !on && !self.tmpfs && draft.users.is_some() {
                continue;
            }
            let (to, from) = if on {
                (&mut self.set, &mut self.clear)
            } else {
                (&mut self.clear, &mut self.set)
            };
            to.insert(flag);
            from.remove(flag);
            out.push(word.to_owned());
        }
        if !self.tmpfs && draw.chance(30) {
            for (word, flag, _) in draw.some(RECURSIVE, 40) {
                self.set.insert(flag);
                self.clear.remove(flag);
                out.push(word.to_owned());
            }
        }
        if draw.chance(40) && (self.tmpfs || draft.users.is_none()) {
            let word = *draw.pick(&["noatime", "strictatime", "relatime"]);
            self.times = Some(word);
            out.push(word.to_owned());
        }
        for word in draw.some(IDLE, 8) {
            out.insert(draw.below(out.len() as u64 + 1) as usize, word.to_owned());
        }
        if draw.chance(25) {
            let mut all = vec!["private", "rprivate", "slave", "rslave", "unbindable", "runbindable"];
            if self.tmpfs {
                all.extend(["shared", "rshared"]);
            }
            self.propagation = *draw.pick(&all);
            out.push(self.propagation.to_owned());
        }
        out
    }

    fn check(self, draft: &mut Draft, source: String) {
        let (alone, root_below) = (
            draft.has("mount"),
            draft.config.0["linux"]["rootfsPropagation"]
                .as_str()
                .is_some_and(|word| word.starts_with('r')),
        );
        draft.check(format!("mounts of {}", self.destination), move |seen| {
            let found = flags_at(&seen.inside(&self.destination))?;
            let mut wanted: BTreeSet<&str> = match self.tmpfs {
                true => BTreeSet::from(["relatime"]),
                false => flags_at(std::path::Path::new(&source))?,
            };
            wanted.extend(&self.set);
            for flag in &self.clear {
                wanted.remove(flag);
            }
            if let Some(times) = self.times {
                wanted.remove("noatime");
                wanted.remove("relatime");
                wanted.extend(Some(times).filter(|times| *times != "strictatime"));
            }
            same(&found, &wanted)?;
            if !alone {
                return Ok(());
            }
            let Some(mount) = seen.mount(&self.destination) else {
                return Err("it is no mount".to_owned());
            };
            let kind_fits = (mount.kind == "tmpfs") == self.tmpfs || !self.tmpfs;
            let spread = if root_below {
                ""
            } else {
                self.propagation.trim_start_matches('r')
            };
            let spreads = |word: &str| mount.optional.split(' ').any(|field| field.starts_with(word));
            let fits = match spread {
                "shared" => spreads("shared:"),
                "private" => mount.optional.is_empty(),
                "unbindable" => spreads("unbindable"),
                _ => true,
            };
            if fits && kind_fits {
                Ok(())
            } else {
                Err(format!("{mount:?}, not {}", self.propagation))
            }
        });
    }
}

/// The same place in other words: relative ones are meant from the root, and nothing is above that.
fn spell(path: &str, draw: &mut Draw) -> String {
    match draw.below(8) {
        0 => path.replace('/', "//"),
        1 => format!("{path}/"),
        2 => format!("/nowhere/..{path}"),
        3 => path.trim_start_matches('/').to_owned(),
        4 => format!("/../..{path}"),
        5 => path.replacen('/', "/./", 1),
        _ => path.to_owned(),
    }
}

pub fn more(draft: &mut Draft, draw: &mut Draw) {
    const FOLDERS: &[&str] = &[
        "/m/a",
        "/m/b",
        "/m/a/in",
        "/m/b/x/y",
        "/tmp",
        "/run",
        "/target",
        "/m/a/in/deep",
    ];
    const FILES: &[&str] = &["/f/one", "/f/two", "/etc/bound"];
    let mut all: Vec<More> = Vec::new();
    for _ in 0..draw.below(6) {
        let file = draw.chance(15);
        let tmpfs = !file && draw.chance(55);
        let destination = (*draw.pick(if file { FILES } else { FOLDERS })).to_owned();
        let mut made = More {
            destination,
            tmpfs,
            set: BTreeSet::new(),
            clear: BTreeSet::new(),
            times: None,
            propagation: "",
        };
        // A place in what cannot be written to, or is somebody else's, cannot be made.
        let above = all.iter().rev().find(|other| made.is_below(&other.destination));
        let closed = |other: &More| other.set.contains("ro") || !other.tmpfs && draft.users.is_some();
        if above.is_some_and(|other| other.destination != made.destination && closed(other)) {
            continue;
        }
        let mut options = made.draw_words(draft, draw);
        // A symlink on the way leads where it leads inside the root.
        let written = match made.destination.as_str() {
            "/target" if draw.chance(50) => "/link".to_owned(),
            path => spell(path, draw),
        };
        let mut value = json!({"destination": written});
        let source = draft.place.at(if file { "volume/file" } else { "volume/folder" });
        if tmpfs {
            value["type"] = "tmpfs".into();
            if draw.chance(70) {
                value["source"] = "tmpfs".into();
            }
            tmpfs_data(draft, draw, &made, &mut options);
        } else {
            let relative = draw.chance(30);
            value["source"] = match (relative, file) {
                (true, true) => "volume/file".into(),
                (true, false) => "volume/folder".into(),
                (false, _) => source.as_str().into(),
            };
            let word = *draw.pick(&["bind", "rbind"]);
            options.insert(draw.below(options.len() as u64 + 1) as usize, word.to_owned());
            if draw.chance(70) {
                value["type"] = (*draw.pick(&["bind", "none"])).into();
            }
            let shown = if file {
                made.destination.clone()
            } else {
                format!("{}/marker", made.destination)
            };
            draft.check(format!("content of {shown}"), move |seen| {
                let text = std::fs::read_to_string(seen.inside(&shown)).map_err(|error| error.to_string())?;
                same(&text.as_str(), &"of the host\n")
            });
        }
        if !options.is_empty() || draw.chance(50) {
            value["options"] = options.into();
        }
        draft.config.push("/mounts", value);
        cover(draft, &made.destination, &mut all);
        let seal = More {
            destination: made.destination.clone(),
            set: made.set.clone(),
            clear: BTreeSet::new(),
            ..made
        };
        made.check(draft, source);
        all.push(seal);
    }
}

/// What lies below a new mount is no longer seen.
fn cover(draft: &mut Draft, destination: &str, all: &mut Vec<More>) {
    let hidden: Vec<String> = all
        .iter()
        .filter(|other| other.is_below(destination))
        .map(|other| other.destination.clone())
        .collect();
    all.retain(|other| !other.is_below(destination));
    let new = draft.checks.len()
        - usize::from(draft.checks.last().is_some_and(|check| {
            check
                .what
                .strip_prefix("content of ")
                .is_some_and(|path| path.starts_with(destination))
        }));
    let mut index = 0;
    draft.checks.retain(|check| {
        index += 1;
        let path = ["mounts of ", "content of ", "size of ", "mode of "]
            .iter()
            .find_map(|word| check.what.strip_prefix(word));
        let path = path.map(|path| path.trim_end_matches("/marker"));
        index > new || path.is_none_or(|path| !hidden.iter().any(|hidden| hidden == path))
    });
}

fn tmpfs_data(draft: &mut Draft, draw: &mut Draw, made: &More, options: &mut Vec<String>) {
    let path = made.destination.clone();
    if draw.chance(40) {
        let pages = draw.between(256, 4096) as u64;
        options.push(format!("size={}", pages * 4096));
        let path = path.clone();
        draft.expect(format!("size of {path}"), Ok(pages * 4096), move |seen| {
            size(seen, &path)
        });
    }
    if draw.chance(40) {
        let mode = draw.below(0o2000) | 0o100;
        options.push(format!("mode={mode:o}"));
        let path = path.clone();
        draft.expect(format!("mode of {path}"), Ok(format!("{mode:o}")), move |seen| {
            use std::os::unix::fs::PermissionsExt;
            let about = std::fs::metadata(seen.inside(&path)).map_err(|error| error.to_string())?;
            Ok::<_, String>(format!("{:o}", about.permissions().mode() & 0o7777))
        });
    }
    if draw.chance(20) {
        options.push("nr_inodes=1000".to_owned());
    }
}

/// The root: read-only, and how its mounts spread.
pub fn root(draft: &mut Draft, draw: &mut Draw) {
    let readonly = draw.chance(30);
    if readonly || draw.chance(30) {
        draft.set("/root/readonly", readonly);
    }
    draft.check("root.readonly", move |seen| {
        same(&flags_at(&seen.inside("/"))?.contains("ro"), &readonly)
    });
    if draw.chance(30) {
        let word = *draw.pick(&[
            "private",
            "rprivate",
            "slave",
            "rslave",
            "shared",
            "rshared",
            "unbindable",
            "runbindable",
        ]);
        draft.set("/linux/rootfsPropagation", word);
        if draft.has("mount") {
            draft.check("linux.rootfsPropagation", move |seen| {
                let mount = seen.mount("/").ok_or("no root")?;
                let has = |field: &str| mount.optional.split(' ').any(|word| word.starts_with(field));
                let fits = match word.trim_start_matches('r') {
                    "shared" => has("shared:"),
                    "unbindable" => has("unbindable"),
                    _ => !has("shared:") && !has("unbindable"),
                };
                if fits {
                    Ok(())
                } else {
                    Err(format!("{mount:?}, not {word}"))
                }
            });
        }
    }
}

/// Mounts that show files under other owners.
pub fn mapped(draft: &mut Draft, draw: &mut Draw) {
    if draft.users.is_some() || !draft.dares() {
        return;
    }
    draft.doubt("file systems that can be idmapped");
    let base = draw.between(1000, 100_000) as u32;
    let map: Value = json!([{"containerID": 0, "hostID": base, "size": 1000}]);
    let word = *draw.pick(&["idmap", "ridmap"]);
    let source = draft.place.at("volume/folder");
    draft.config.push(
        "/mounts",
        json!({"destination": "/mapped", "source": source, "options": ["rbind", word],
               "uidMappings": map.clone(), "gidMappings": map}),
    );
    draft.expect("idmap of /mapped", Ok((base, base)), |seen| {
        use std::os::unix::fs::MetadataExt;
        let about = std::fs::metadata(seen.inside("/mapped/marker")).map_err(|error| error.to_string())?;
        Ok::<_, String>((about.uid(), about.gid()))
    });
}

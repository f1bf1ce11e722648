//! A process of the container that lies in wait for the runtime's processes that come into its pid namespace.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::attacks::overwrite_held;
use crate::facts::errno;

fn processes() -> BTreeSet<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Calls `each` for every process, over and over, for so many seconds or until there is a `/stop`. The first line says that it lies in wait.
fn watch(arguments: &[String], mut each: impl FnMut(i32, bool)) {
    let seconds = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(3);
    let end = Instant::now() + Duration::from_secs(seconds);
    let own = std::process::id() as i32;
    let known = processes();
    println!("watching");
    let mut seen = known.clone();
    while Instant::now() < end && !Path::new("/stop").exists() {
        for pid in processes() {
            if pid != own && !known.contains(&pid) {
                each(pid, seen.insert(pid));
            }
        }
    }
}

/// A program of the rootfs, as its path reads inside of the container.
fn is_ours(exe: &Path) -> bool {
    exe.starts_with("/bin")
}

/// `watch-exe SECONDS`: takes hold of the runtime's program through `/proc/PID/exe` and writes to it.
pub fn executables(arguments: &[String]) -> io::Result<()> {
    let mut newcomers = 0;
    let mut refused = BTreeSet::new();
    let mut tried = BTreeSet::new();
    watch(arguments, |pid, new| {
        newcomers += usize::from(new);
        let path = format!("/proc/{pid}/exe");
        // Opened before the link is read: after an exec the link would be another program's.
        match File::open(&path) {
            Ok(held) => {
                let Ok(exe) = std::fs::read_link(&path) else { return };
                if !is_ours(&exe) && tried.insert(pid) {
                    let outcome = overwrite_held(&held, Duration::from_millis(500));
                    println!("held {}: {outcome}", exe.display());
                }
            }
            Err(error) => drop(refused.insert(errno(&error))),
        }
    });
    println!("newcomers: {newcomers}");
    println!("refused: {refused:?}");
    Ok(())
}

/// `spy SECONDS [MARK]`: reads memory, environment, descriptors, root and directory of the runtime's processes.
pub fn spy(arguments: &[String]) -> io::Result<()> {
    let mark = arguments.get(1).cloned().unwrap_or_default();
    let mut newcomers = 0;
    let mut found = BTreeSet::new();
    watch(arguments, |pid, new| {
        newcomers += usize::from(new);
        let at = |name: &str| format!("/proc/{pid}/{name}");
        let exe = || std::fs::read_link(at("exe")).ok();
        if let Some(exe) = exe().filter(|exe| !is_ours(exe)) {
            found.insert(format!("exe {}", exe.display()));
        }
        if let Ok(environment) = std::fs::read(at("environ"))
            && !mark.is_empty()
            && String::from_utf8_lossy(&environment).contains(&mark)
        {
            found.insert("environment of the runtime".to_owned());
        }
        if let Ok(root) = std::fs::read_link(at("root"))
            && root != Path::new("/")
        {
            found.insert(format!("root {}", root.display()));
        }
        // Memory that is open stays the one of before an exec.
        let memory = OpenOptions::new().read(true).write(true).open(at("mem"));
        if memory.is_ok()
            && let Some(exe) = exe().filter(|exe| !is_ours(exe))
        {
            found.insert(format!("memory of {}", exe.display()));
        }
        for entry in std::fs::read_dir(at("fd")).into_iter().flatten().flatten() {
            let number: i32 = entry
                .file_name()
                .to_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            if number > 2 && exe().is_some_and(|exe| !is_ours(&exe)) {
                found.insert(format!("descriptor {number} {}", target.display()));
            }
        }
    });
    for line in found {
        println!("found: {line}");
    }
    println!("newcomers: {newcomers}");
    Ok(())
}

/// `assassin SECONDS SIGNAL`: sends a signal to every process that comes.
pub fn assassin(arguments: &[String]) -> io::Result<()> {
    let name = arguments.get(1).map_or("SIGKILL", String::as_str);
    let signal: nix::sys::signal::Signal = name.parse()?;
    let mut hits = 0;
    watch(arguments, |pid, new| {
        if new && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).is_ok() {
            hits += 1;
        }
    });
    println!("hits: {hits}");
    Ok(())
}

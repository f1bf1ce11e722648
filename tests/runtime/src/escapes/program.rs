//! The runtime's own program, which is executed on behalf of the container and must not be changed by it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harness::{Test, tests};

use crate::bundle::Bundle;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        an_entrypoint_that_is_the_runtime_itself_cannot_overwrite_it,
        a_script_run_by_the_runtime_itself_cannot_overwrite_it,
        a_hostile_loader_cannot_overwrite_the_runtime_at_exec,
        a_process_in_wait_cannot_overwrite_the_runtime_at_exec,
        a_process_in_wait_with_every_capability_cannot_overwrite_the_runtime_at_exec,
        a_neighbour_cannot_open_the_init_of_a_created_container,
        a_neighbour_that_may_trace_cannot_overwrite_the_runtime_of_a_created_container,
    ]
}

/// The bytes of every file beside the runtime's program.
fn programs(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| (entry.path(), std::fs::read(entry.path()).unwrap()))
        .collect()
}

#[track_caller]
fn unchanged(before: &BTreeMap<PathBuf, Vec<u8>>, folder: &Path) {
    for (path, bytes) in programs(folder) {
        assert!(before.get(&path) == Some(&bytes), "{} was overwritten", path.display());
    }
}

/// The dynamic loader that a program asks for: its `PT_INTERP`, if it is a 64-bit ELF file that has one.
fn loader_of(program: &Path) -> Option<String> {
    let bytes = std::fs::read(program).ok()?;
    let number = |at: usize, size: usize| {
        let field = bytes.get(at..at + size)?;
        Some(
            field
                .iter()
                .rev()
                .fold(0usize, |sum, byte| sum << 8 | usize::from(*byte)),
        )
    };
    let (table, entry, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let header = (0..count)
        .map(|index| table + index * entry)
        .find(|at| number(*at, 4) == Some(3))?;
    let (start, length) = (number(header + 8, 8)?, number(header + 32, 8)?);
    let name = bytes.get(start..start + length)?;
    Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
}

/// A dynamic loader that leaves `/proc/self/exe` open and becomes the probe, as position-independent x86-64 code:
/// `open("/proc/self/exe", O_RDONLY); execve("/bin/probe", {"/bin/probe", "inherited", NULL}, NULL); exit()`.
fn hostile_loader() -> Vec<u8> {
    const CODE: &[u8] = b"\x48\x8d\x3d\x29\x00\x00\x00\x31\xf6\x31\xd2\x6a\x02\x58\x0f\x05\x31\xd2\x52\
        \x48\x8d\x05\x30\x00\x00\x00\x50\x48\x8d\x3d\x1d\x00\x00\x00\x57\x48\x89\xe6\x6a\x3b\x58\x0f\x05\
        \x6a\x3c\x58\x0f\x05/proc/self/exe\0/bin/probe\0inherited\0";
    const START: u64 = 64 + 56;
    let length = START + CODE.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |size: usize, value: u64| elf.extend(&value.to_le_bytes()[..size]);
    // The header: a shared object for x86-64, version 1, entry, one program header right after.
    for (size, value) in [(2, 3), (2, 62), (4, 1), (8, START), (8, 64), (8, 0), (4, 0)] {
        put(size, value);
    }
    for (size, value) in [(2, 64), (2, 56), (2, 1), (2, 64), (2, 0), (2, 0)] {
        put(size, value);
    }
    // Everything is loaded, to be read and executed.
    for (size, value) in [
        (4, 1),
        (4, 5),
        (8, 0),
        (8, 0),
        (8, 0),
        (8, length),
        (8, length),
        (8, 4096),
    ] {
        put(size, value);
    }
    elf.extend(CODE);
    elf
}

/// A bundle with a private runtime, in whose rootfs every loader is hostile.
fn hostile(world: &World) -> (Bundle, PathBuf) {
    let mut bundle = world.bundle();
    let folder = bundle.with_own_runtime();
    let mut loaders = vec!["/lib64/ld-linux-x86-64.so.2".to_owned()];
    loaders.extend(loader_of(&bundle.runtime));
    for loader in loaders {
        bundle.put(&loader, "");
        std::fs::write(bundle.rootfs(&loader), hostile_loader()).unwrap();
    }
    (bundle, folder)
}

fn loot(bundle: &Bundle) -> String {
    let loot = std::fs::read_to_string(bundle.rootfs("loot")).unwrap_or_default();
    harness::process::note(format!("  loot: {loot:?}"));
    loot
}

/// The loader does what it is for: it is run in the place of the loader of a program of the container.
#[track_caller]
fn control(bundle: &Bundle) {
    let target = bundle.rootfs("bin/dynamic");
    std::fs::write(&target, hostile_loader()).unwrap();
    std::fs::set_permissions(&target, PermissionsExt::from_mode(0o755)).unwrap();
    let out = bundle.exec(&["/bin/dynamic"]);
    assert!(
        loot(bundle).contains("/bin/dynamic: WRITTEN"),
        "the attack itself does not work: {out:?} {}",
        loot(bundle)
    );
    std::fs::remove_file(bundle.rootfs("loot")).unwrap();
}

/// As `create` and `start`: a `run` that waits would execute the program, which could not be written to meanwhile.
fn in_background(bundle: &Bundle) {
    if bundle.create().code == 0 {
        // It may well fail to execute.
        bundle.start();
        bundle.wait_for("stopped");
    }
}

/// CVE-2019-5736, at run: process 1 is `/proc/self/exe`, which is the runtime when the runtime executes it.
fn an_entrypoint_that_is_the_runtime_itself_cannot_overwrite_it(world: &World) {
    let (mut bundle, folder) = hostile(world);
    let before = programs(&folder);
    bundle.args(&["/proc/self/exe", "--version"]);
    in_background(&bundle);
    assert!(!loot(&bundle).contains("WRITTEN"), "{}", loot(&bundle));
    unchanged(&before, &folder);
}

/// CVE-2019-5736, at run: the image's entrypoint is a script with the interpreter `/proc/self/exe`.
fn a_script_run_by_the_runtime_itself_cannot_overwrite_it(world: &World) {
    let (mut bundle, folder) = hostile(world);
    let before = programs(&folder);
    bundle.put("/entry", "#!/proc/self/exe\n");
    bundle.args(&["/entry"]);
    in_background(&bundle);
    assert!(!loot(&bundle).contains("WRITTEN"), "{}", loot(&bundle));
    unchanged(&before, &folder);
}

/// CVE-2019-5736, at exec: the shell that an administrator asks for is such a script.
fn a_hostile_loader_cannot_overwrite_the_runtime_at_exec(world: &World) {
    let (mut bundle, folder) = hostile(world);
    let before = programs(&folder);
    bundle.sleeper();
    control(&bundle);
    bundle.put("/bin/evil", "#!/proc/self/exe\n");
    for _ in 0..5 {
        for program in ["/bin/evil", "/proc/self/exe"] {
            bundle.exec(&[program]);
            bundle.exec_with(&["--detach"], &[program]);
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(!loot(&bundle).contains("WRITTEN"), "{}", loot(&bundle));
    unchanged(&before, &folder);
}

fn lie_in_wait(world: &World, capabilities: &[&str]) {
    let (mut bundle, folder) = hostile(world);
    let before = programs(&folder);
    bundle
        .more_capabilities(capabilities)
        .args(&["probe", "watch-exe", "60"]);
    bundle.launch();
    bundle.expect("watching");
    bundle.put("/bin/evil", "#!/proc/self/exe\n");
    for round in 0..12 {
        let program = if round % 2 == 0 { "/bin/true" } else { "/bin/evil" };
        let flags: &[&str] = if round % 3 == 0 { &["--detach"] } else { &[] };
        bundle.exec_with(flags, &[program]);
    }
    std::thread::sleep(std::time::Duration::from_millis(600));
    bundle.put("/stop", "");
    bundle.wait_for("stopped");
    let found = bundle.printed();
    harness::process::note(format!("  found: {found}"));
    assert!(!found.contains("WRITTEN"), "{found}");
    assert!(!found.contains("newcomers: 0"), "the attack saw no process: {found}");
    unchanged(&before, &folder);
}

/// CVE-2019-5736, at exec: a process of the container looks for the runtime's one and opens `/proc/PID/exe`.
fn a_process_in_wait_cannot_overwrite_the_runtime_at_exec(world: &World) {
    lie_in_wait(world, &[]);
}

/// The same where the kernel's check whether one may look is no obstacle, so that only a sealed copy protects.
fn a_process_in_wait_with_every_capability_cannot_overwrite_the_runtime_at_exec(world: &World) {
    lie_in_wait(world, &["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"]);
}

/// A container in whose pid namespace another one was created but not started.
fn neighbours(world: &World, capabilities: &[&str]) -> (Bundle, Bundle, PathBuf, String) {
    let mut attacker = world.bundle();
    attacker.more_capabilities(capabilities);
    let process = attacker.sleeper();
    let mut victim = world.bundle();
    let folder = victim.with_own_runtime();
    victim
        .join_namespace("pid", &format!("/proc/{}/ns/pid", process.0))
        .args(&["sleep", "1000"]);
    victim.create().ok();
    // The last of the numbers is the one in the innermost namespace, which is the attacker's.
    let inner = victim
        .init()
        .status("NSpid")
        .split_whitespace()
        .last()
        .unwrap()
        .to_owned();
    (attacker, victim, folder, inner)
}

/// In `created`, process 1 is still the runtime with whatever it holds; nobody of the container's user may look.
fn a_neighbour_cannot_open_the_init_of_a_created_container(world: &World) {
    let (attacker, _victim, _, pid) = neighbours(world, &[]);
    // The numbers of the descriptors may be seen, not what they are.
    let line =
        format!("cd /proc/{pid} && cat environ; ls -l fd | grep -e '->'; readlink exe cwd root; cat maps | head -n 1");
    let out = attacker.inside(&line);
    assert_eq!(out.out, "", "the runtime's process is open to the container");
    assert!(
        out.err.contains("Permission denied"),
        "the attempt was not made: {}",
        out.err
    );
    let out = attacker.exec(&["probe", "write-open", &format!("/proc/{pid}/mem")]);
    assert!(!out.out.contains("opened"), "{}", out.out);
}

/// With CAP_SYS_PTRACE it may look, and still finds no program that could be written to.
fn a_neighbour_that_may_trace_cannot_overwrite_the_runtime_of_a_created_container(world: &World) {
    let (attacker, victim, folder, pid) = neighbours(world, &["CAP_SYS_PTRACE"]);
    let before = programs(&folder);
    let exe = format!("/proc/{pid}/exe");
    let attack = attacker.exec_call(&[], &["probe", "overwrite", &exe, "4"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(500));
    victim.start();
    let out = attack.finish();
    assert!(!out.out.contains("WRITTEN"), "{}", out.out);
    assert!(out.out.contains("overwrite: "), "the attack was not made: {}", out.out);
    unchanged(&before, &folder);
}

//! Terminals: the one that a container is given, and the caller's own.

use std::os::unix::fs::symlink;
use std::path::Path;

use harness::pty::Terminal;
use harness::{Test, tests};
use serde_json::json;

use crate::bundle::{Bundle, SECRET};
use crate::console::Console;
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        a_console_that_is_a_link_to_the_host,
        a_console_that_is_a_link_to_a_gadget,
        a_console_that_is_a_file_or_a_folder_of_a_volume,
        a_ptmx_that_is_a_link_to_the_host,
        a_ptmx_that_is_a_file_of_a_volume,
        a_pts_folder_that_is_a_volume,
        the_terminal_is_of_the_containers_own_devpts,
        the_callers_terminal_takes_no_input_from_the_container,
        the_callers_terminal_takes_no_input_from_a_process_of_exec,
        the_callers_terminal_cannot_be_opened_by_name,
    ]
}

const UP: &str = "../../../../../../../../../../..";

/// A container with a terminal whose `/dev` is a volume that `make` has prepared. What was sent, and the error if it
/// was refused.
fn with_dev(world: &World, make: impl Fn(&Path, &Bundle)) -> Option<Console> {
    let mut bundle = world.bundle();
    let dev = bundle.volume("dev");
    std::fs::create_dir_all(dev.join("pts")).unwrap();
    make(&dev, &bundle);
    bundle
        .without_mount("/dev")
        .without_mount("/dev/shm")
        .without_mount("/dev/mqueue");
    let mount = json!({"destination": "/dev", "type": "bind", "source": dev.to_str(), "options": ["rbind"]});
    bundle.at("/mounts").as_array_mut().unwrap().insert(1, mount);
    attempt(&mut bundle)
}

#[track_caller]
fn attempt(bundle: &mut Bundle) -> Option<Console> {
    let line = format!(
        "cat /proc/self/mountinfo; cat {}; echo written > /dev/console; tty; sleep 0.3; sleep 1000",
        bundle.secret()
    );
    bundle.set("/process/terminal", true).shell(&line);
    let socket = bundle.console_socket();
    let out = bundle.create_with(&["--console-socket", socket.path()]);
    let console = socket.try_receive();
    if let Some(console) = &console {
        assert!(console.is_pty_master(), "what was sent is no terminal");
    }
    if out.code == 0 {
        bundle.start().ok();
        let shown = console.as_ref().expect("a terminal for a container that runs").settle();
        assert!(!shown.contains(SECRET), "{shown}");
        // A line of mountinfo: id, parent, device, root, mount point. Nothing but consoles comes onto a gadget.
        let over = |line: &&str| {
            line.split(' ')
                .nth(4)
                .is_some_and(|at| at.starts_with("/proc/") && !at.starts_with("/proc/sys"))
                && line.contains(" - devpts ")
        };
        assert!(
            !shown.lines().any(|line| over(&line)),
            "the console was put onto a file of /proc: {shown}"
        );
        for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"] {
            let out = bundle.exec(&["probe", "write-open", path]);
            assert!(!out.out.contains("opened"), "{}", out.out);
        }
    }
    bundle.host_is_untouched();
    bundle.delete(&["--force"]);
    console
}

/// CVE-2025-52565: `/dev/console` is bound onto what a link names.
fn a_console_that_is_a_link_to_the_host(world: &World) {
    with_dev(world, |dev, bundle| {
        symlink(bundle.secret(), dev.join("console")).unwrap()
    });
    with_dev(world, |dev, bundle| {
        symlink(format!("{UP}{}", bundle.secret()), dev.join("console")).unwrap()
    });
    with_dev(world, |dev, bundle| {
        symlink(format!("{}/dangling", bundle.victim()), dev.join("console")).unwrap()
    });
}

/// CVE-2025-52565: a writable mount over a file of /proc comes before the masks.
fn a_console_that_is_a_link_to_a_gadget(world: &World) {
    for gadget in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/self/attr/exec",
        "/proc/1/oom_score_adj",
    ] {
        with_dev(world, |dev, _| symlink(gadget, dev.join("console")).unwrap());
    }
}

fn a_console_that_is_a_file_or_a_folder_of_a_volume(world: &World) {
    with_dev(world, |dev, _| std::fs::write(dev.join("console"), "").unwrap());
    with_dev(world, |dev, _| std::fs::create_dir(dev.join("console")).unwrap());
}

/// CVE-2025-52565: the runtime opens `/dev/ptmx` or `/dev/pts/ptmx` of the container to make the terminal.
fn a_ptmx_that_is_a_link_to_the_host(world: &World) {
    with_dev(world, |dev, bundle| symlink(bundle.secret(), dev.join("ptmx")).unwrap());
    with_dev(world, |dev, bundle| {
        symlink(format!("{UP}{}", bundle.secret()), dev.join("ptmx")).unwrap()
    });
    with_dev(world, |dev, _| {
        symlink("/proc/sys/kernel/core_pattern", dev.join("ptmx")).unwrap()
    });
}

fn a_ptmx_that_is_a_file_of_a_volume(world: &World) {
    with_dev(world, |dev, _| std::fs::write(dev.join("ptmx"), "").unwrap());
}

/// Without a devpts of its own a container has at `/dev/pts` what it likes: links to the host's gadgets by number.
fn a_pts_folder_that_is_a_volume(world: &World) {
    let mut bundle = world.bundle();
    let pts = bundle.volume("pts");
    std::fs::create_dir(&pts).unwrap();
    symlink(bundle.secret(), pts.join("ptmx")).unwrap();
    for number in 0..16 {
        symlink("/proc/sysrq-trigger", pts.join(number.to_string())).unwrap();
    }
    bundle.without_mount("/dev/pts").bind(&pts, "/dev/pts");
    attempt(&mut bundle);
}

/// A terminal of the host's devpts would leave the container with a name that is another one's there.
fn the_terminal_is_of_the_containers_own_devpts(world: &World) {
    let mut bundle = world.bundle();
    bundle
        .set("/process/terminal", true)
        .shell("tty; stat -c %d /dev/pts $(tty) | sort -u | wc -l; ls -1 /dev/pts");
    let socket = bundle.console_socket();
    bundle.create_with(&["--console-socket", socket.path()]).ok();
    let console = socket.receive();
    assert!(console.is_pty_master());
    bundle.start().ok();
    console.expect("ptmx");
    let shown = console.settle();
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    assert_eq!(lines, ["/dev/pts/0", "1", "0", "ptmx"], "{shown}");
}

/// Runs a line of the host on a terminal, then reads what is there to be read: `GOT:` and what was typed.
fn on_terminal(bundle: &Bundle, line: &str) -> String {
    let script = format!("{line}; echo; IFS= read -r -t 2 got; echo \"GOT:[$got]\"");
    let mut terminal = Terminal::start(Path::new("bash"), &["-c", &script], 24, 80);
    terminal.expect("GOT:[");
    let got = terminal.expect("]");
    assert!(
        terminal.shown().contains("terminal: "),
        "the attempt was not made: {}",
        terminal.shown()
    );
    assert!(
        !terminal.shown().contains("terminal: taken"),
        "the terminal was taken: {}",
        terminal.shown()
    );
    let _ = bundle;
    got
}

/// CVE-2017-5226 and its kin: TIOCSTI into the shell that the administrator comes back to.
fn the_callers_terminal_takes_no_input_from_the_container(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["probe", "type", "echo typed-by-the-container"]);
    bundle.save();
    let line = format!(
        "{} --root {} run --bundle {} {}",
        bundle.runtime.display(),
        bundle.state_root().display(),
        bundle.folder().display(),
        bundle.id
    );
    let got = on_terminal(&bundle, &line);
    assert!(!got.contains("typed-by-the-container"), "{got}");
}

fn the_callers_terminal_takes_no_input_from_a_process_of_exec(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let line = format!(
        "{} --root {} exec {} probe type 'echo typed-by-the-container'",
        bundle.runtime.display(),
        bundle.state_root().display(),
        bundle.id
    );
    let got = on_terminal(&bundle, &line);
    assert!(!got.contains("typed-by-the-container"), "{got}");
}

/// The controlling terminal would be `/dev/tty`, even without a descriptor of it.
fn the_callers_terminal_cannot_be_opened_by_name(world: &World) {
    let mut bundle = world.bundle();
    bundle.shell("echo written-to-the-terminal > /dev/tty && echo terminal: taken; echo terminal: tried");
    bundle.save();
    let line = format!(
        "{} --root {} run --bundle {} {} </dev/null 2>/dev/null",
        bundle.runtime.display(),
        bundle.state_root().display(),
        bundle.folder().display(),
        bundle.id
    );
    on_terminal(&bundle, &line);
}

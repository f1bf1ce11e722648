//! A real terminal: prompt, resize, detach and attach, exit codes, job control.

use harness::daemon::{Cli, Daemon, Options};
use harness::image::{Image, Packing};
use harness::registry::Registry;
use harness::tools::eventually;
use harness::{Test, tests};

/// A daemon whose default registry is a real one on loopback that has `ubuntu`.
pub struct Desk {
    pub daemon: Daemon,
    /// Serves as long as the suite runs.
    _registry: Option<Registry>,
}

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;
const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;

impl Desk {
    pub fn start(cli: Cli) -> Desk {
        if let Some(mut daemon) = Daemon::foreign() {
            daemon.cli = cli;
            daemon.load(&Image::ubuntu(), "ubuntu:latest");
            return Desk {
                daemon,
                _registry: None,
            };
        }
        let registry = Registry::start();
        for repository in ["ubuntu", "library/ubuntu"] {
            registry.push(repository, "latest", &Image::ubuntu(), true, Packing::Gzip);
        }
        let options = match cli {
            Cli::Iechor => Options {
                default_registry: Some(registry.address.clone()),
                ..Options::default()
            },
            // The docker client spells `ubuntu` out as the hub's, so the registry has to stand in for the hub.
            Cli::Docker => Options {
                arguments: vec!["--registry-mirror".into(), format!("http://{}", registry.address)],
                ..Options::default()
            },
        };
        let mut daemon = Daemon::start(options);
        daemon.cli = cli;
        Desk {
            daemon,
            _registry: Some(registry),
        }
    }

    pub fn finish(self) {
        self.daemon.finish();
    }

    fn name(&self) -> String {
        format!("terminal-{}", harness::tools::tag())
    }
}

pub fn tests() -> Vec<Test<Desk>> {
    tests![
        the_example_word_for_word,
        resize_reaches_the_container,
        detach_keys_and_attach,
        other_detach_keys,
        other_detach_keys_of_start_and_attach,
        an_exec_can_be_left,
        interrupt_reaches_the_container,
        exec_on_a_terminal,
        exec_exit_code_on_a_terminal,
        terminal_is_given_back,
        end_of_input_ends_the_shell,
        initial_size_is_the_windows,
        hangup_of_the_client_leaves_the_container,
        stdin_is_no_terminal_is_refused,
        suspended_client_goes_on,
    ]
}

/// `iechor run -i -t ubuntu /bin/bash`: pulled, created, at the prompt; `exit 3` gives 3 and does not remove it.
fn the_example_word_for_word(desk: &Desk) {
    let mut terminal = desk
        .daemon
        .terminal(&["run", "-i", "-t", "ubuntu", "/bin/bash"], 24, 80);
    // The prompt names it: a container's host name is the start of its identifier.
    terminal.expect("root@");
    let id = &*terminal.expect(":");
    terminal.expect("# ");
    terminal.line("echo $((6*7)) $HOSTNAME; tty");
    terminal.expect(&format!("42 {id}"));
    terminal.expect("/dev/pts/0");
    terminal.line("exit 3");
    assert_eq!(terminal.finish(), 3);
    let mut shown = desk.daemon.inspect(id);
    eventually("it has ended and is not removed", 5, || {
        shown = desk.daemon.inspect(id);
        shown["State"]["Status"] == "exited"
    });
    assert_eq!(shown["Config"]["Image"], "ubuntu");
    assert_eq!(shown["State"]["ExitCode"], 3);
    // It can be started again, with what was written.
    let mut again = desk.daemon.terminal(&["start", "-a", "-i", id], 24, 80);
    // Not before the shell is there: what it has not yet read when it takes the terminal over may be lost.
    again.expect("# ");
    again.line("exit 4");
    assert_eq!(again.finish(), 4);
    desk.daemon.run(&["rm", id]).ok();
}

fn resize_reaches_the_container(desk: &Desk) {
    let mut terminal = desk
        .daemon
        .terminal(&["run", "--rm", "-it", "ubuntu", "/bin/bash"], 30, 100);
    terminal.expect("# ");
    eventually("the first size arrives", 10, || {
        terminal.line("stty size");
        terminal.expect("stty size");
        terminal.expect("# ").contains("30 100")
    });
    terminal.resize(41, 123);
    eventually("the second size arrives", 10, || {
        // docker's client listens for a new size only some time after the start: one that comes earlier is lost to it, until
        // the window is moved again. Ours is not forgiven that.
        if desk.daemon.cli == Cli::Docker {
            terminal.resize(41, 122);
            terminal.resize(41, 123);
        }
        terminal.line("stty size");
        terminal.expect("stty size");
        terminal.expect("# ").contains("41 123")
    });
    terminal.line("exit");
    assert_eq!(terminal.finish(), 0);
}

fn initial_size_is_the_windows(desk: &Desk) {
    // No wait: the size is there before the first process can ask.
    let mut terminal = desk
        .daemon
        .terminal(&["run", "--rm", "-it", "ubuntu", "stty", "size"], 33, 111);
    terminal.expect("33 111");
    assert_eq!(terminal.finish(), 0);
}

fn detach_keys_and_attach(desk: &Desk) {
    let name = desk.name();
    let mut terminal = desk
        .daemon
        .terminal(&["run", "-it", "--name", &name, "ubuntu", "/bin/bash"], 24, 80);
    terminal.expect("# ");
    terminal.line("word=kept");
    terminal.expect("# ");
    terminal.send(&[CTRL_P, CTRL_Q]);
    assert_eq!(terminal.finish(), 0, "detaching is no failure");
    assert_eq!(desk.daemon.inspect(&name)["State"]["Running"], true);
    let mut again = desk.daemon.terminal(&["attach", &name], 24, 80);
    again.line("echo $word");
    again.expect("kept");
    again.line("exit 3");
    assert_eq!(again.finish(), 3);
    desk.daemon.run(&["rm", &name]).ok();
}

fn other_detach_keys(desk: &Desk) {
    let name = desk.name();
    let mut terminal = desk.daemon.terminal(
        &[
            "run",
            "-it",
            "--detach-keys",
            "ctrl-x,x",
            "--name",
            &name,
            "ubuntu",
            "/bin/bash",
        ],
        24,
        80,
    );
    terminal.expect("# ");
    // Half of the sequence and something else goes to the container.
    terminal.send(&[CTRL_P, CTRL_Q]);
    terminal.line("echo still here");
    terminal.expect("still here\r\n");
    terminal.send(&[0x18, b'x']);
    assert_eq!(terminal.finish(), 0);
    assert_eq!(desk.daemon.inspect(&name)["State"]["Running"], true);
    desk.daemon.remove(&name);
}

fn other_detach_keys_of_start_and_attach(desk: &Desk) {
    let name = desk.name();
    desk.daemon
        .run(&["create", "-it", "--name", &name, "ubuntu", "/bin/bash"])
        .ok();
    let keys = ["--detach-keys", "ctrl-x,x"];
    for (words, code) in [(&["start", "-a", "-i"][..], 0), (&["attach"], 1)] {
        let mut terminal = desk.daemon.terminal(&[words, &keys, &[&name]].concat(), 24, 80);
        // Until then the shell says nothing by itself to the second of them.
        terminal.line("");
        terminal.expect("# ");
        terminal.send(&[CTRL_P, CTRL_Q]);
        terminal.line("echo $((6*7)) here");
        terminal.expect("42 here");
        terminal.send(&[0x18, b'x']);
        assert_eq!(terminal.finish(), code, "{words:?}");
        assert_eq!(desk.daemon.inspect(&name)["State"]["Running"], true);
    }
    desk.daemon.remove(&name);
}

/// It goes on without the client.
fn an_exec_can_be_left(desk: &Desk) {
    let name = desk.name();
    desk.daemon
        .run(&["run", "-d", "--name", &name, "ubuntu", "sleep", "1000"])
        .ok();
    let words = ["exec", "-it", "--detach-keys", "ctrl-x,x", &name, "/bin/bash"];
    let mut terminal = desk.daemon.terminal(&words, 24, 80);
    terminal.expect("# ");
    terminal.send(&[CTRL_P, CTRL_Q]);
    terminal.line("echo $((6*7)) is $$");
    terminal.expect("42 is ");
    let shell = terminal.expect("\r");
    terminal.send(&[0x18, b'x']);
    assert_eq!(terminal.finish(), 1, "not the exit code of the shell");
    let alive = format!("read word < /proc/{shell}/comm && echo $word");
    let said = desk.daemon.run(&["exec", &name, "/bin/bash", "-c", &alive]).ok();
    assert_eq!(said, "bash");
    desk.daemon.remove(&name);
}

fn interrupt_reaches_the_container(desk: &Desk) {
    let mut terminal = desk
        .daemon
        .terminal(&["run", "--rm", "-it", "ubuntu", "/bin/bash"], 24, 80);
    terminal.expect("# ");
    terminal.line("sleep 1000; echo code $?");
    terminal.expect("code $?");
    std::thread::sleep(std::time::Duration::from_millis(500));
    terminal.send(&[CTRL_C]);
    terminal.expect("^C");
    terminal.line("exit 5");
    assert_eq!(terminal.finish(), 5);
}

fn exec_on_a_terminal(desk: &Desk) {
    let name = desk.name();
    desk.daemon
        .run(&["run", "-d", "--name", &name, "ubuntu", "sleep", "1000"])
        .ok();
    let mut terminal = desk.daemon.terminal(&["exec", "-it", &name, "/bin/bash"], 28, 90);
    terminal.expect("# ");
    terminal.line("tty");
    terminal.expect("/dev/pts/");
    terminal.resize(35, 95);
    eventually("the size arrives", 10, || {
        terminal.line("stty size");
        terminal.expect("stty size");
        terminal.expect("# ").contains("35 95")
    });
    terminal.line("exit 6");
    assert_eq!(terminal.finish(), 6);
    desk.daemon.remove(&name);
}

fn exec_exit_code_on_a_terminal(desk: &Desk) {
    let name = desk.name();
    desk.daemon
        .run(&["run", "-d", "--name", &name, "ubuntu", "sleep", "1000"])
        .ok();
    let mut terminal = desk.daemon.terminal(
        &["exec", "-it", &name, "sh", "-c", "test -t 0 && test -t 1 && exit 44"],
        24,
        80,
    );
    assert_eq!(terminal.finish(), 44);
    desk.daemon.remove(&name);
}

fn terminal_is_given_back(desk: &Desk) {
    // A shell on the terminal runs the client, so that the terminal outlives it.
    let program = match desk.daemon.cli {
        Cli::Docker => harness::tools::docker(),
        Cli::Iechor => harness::tools::binary("iechor"),
    };
    let mut shell = harness::pty::Terminal::start("/bin/sh".as_ref(), &[], 24, 80);
    shell.line(&format!(
        "{} -H {} run --rm -it ubuntu /bin/bash; echo code=$?",
        program.display(),
        desk.daemon.host()
    ));
    shell.expect("root@");
    shell.expect("# ");
    assert!(!shell.is_cooked(), "the client has the terminal in raw mode");
    shell.line("exit 9");
    shell.expect("code=9");
    eventually("the terminal is as it was", 5, || shell.is_cooked());
    shell.line("exit");
    shell.finish();
}

fn end_of_input_ends_the_shell(desk: &Desk) {
    let mut terminal = desk
        .daemon
        .terminal(&["run", "--rm", "-it", "ubuntu", "/bin/bash"], 24, 80);
    terminal.expect("# ");
    terminal.send(&[CTRL_D]);
    terminal.expect("exit");
    assert_eq!(terminal.finish(), 0);
}

fn hangup_of_the_client_leaves_the_container(desk: &Desk) {
    let name = desk.name();
    let mut terminal = desk
        .daemon
        .terminal(&["run", "-it", "--name", &name, "ubuntu", "/bin/bash"], 24, 80);
    terminal.expect("# ");
    drop(terminal);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(desk.daemon.inspect(&name)["State"]["Running"], true);
    desk.daemon.remove(&name);
}

fn stdin_is_no_terminal_is_refused(desk: &Desk) {
    let output = desk.daemon.run(&["run", "--rm", "-it", "ubuntu", "true"]);
    assert_eq!(output.code, 1);
    assert!(output.err.contains("input device is not a TTY"), "{}", output.err);
}

fn suspended_client_goes_on(desk: &Desk) {
    let name = desk.name();
    let mut terminal = desk
        .daemon
        .terminal(&["run", "-it", "--name", &name, "ubuntu", "/bin/bash"], 24, 80);
    terminal.expect("# ");
    let client = nix::unistd::Pid::from_raw(terminal.pid());
    nix::sys::signal::kill(client, nix::sys::signal::Signal::SIGSTOP).unwrap();
    terminal.line("echo while stopped");
    std::thread::sleep(std::time::Duration::from_millis(200));
    nix::sys::signal::kill(client, nix::sys::signal::Signal::SIGCONT).unwrap();
    terminal.expect("while stopped\r\n");
    terminal.line("exit 2");
    assert_eq!(terminal.finish(), 2);
    desk.daemon.run(&["rm", &name]).ok();
}

//! Containers of other OCI runtimes: the same promises, kept by somebody else's program.

use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::daemon::{Cli, Daemon, Options};
use harness::image::Image;
use harness::kernel::{Process, is_cgroup_v2};
use harness::suite::skip;
use harness::tools::{Folder, eventually, unpacked};
use harness::{Test, tests};

use crate::world::{Named, World};

/// A daemon that knows one other runtime.
pub struct Bench {
    world: World,
    runtime: &'static str,
    /// The program that the daemon runs.
    program: PathBuf,
    _folder: Folder,
}

impl Deref for Bench {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

pub fn tests() -> Vec<Test<Bench>> {
    tests![
        exit_codes_are_the_programs,
        output_is_kept_apart_and_logged,
        input_reaches_the_program_to_its_end,
        programs_that_cannot_run_have_dockers_codes,
        users_are_looked_up_in_the_image,
        process_is_made_by_the_runtime,
        namespaces_mounts_and_privileges_are_as_asked,
        network_is_the_bridges,
        terminal_has_its_size,
        exec_runs_inside,
        exec_on_a_terminal,
        exec_ends_with_its_input,
        signals_and_stop,
        limits_are_in_the_cgroup,
        memory_limit_kills,
        update_changes_a_running_container,
        pause_freezes,
        restart_and_start_again,
        nothing_stays_of_a_removed_container,
        shared_namespaces_are_joined,
        unknown_runtime_is_refused,
        what_the_runtime_cannot_do_is_refused_by_name,
        info_names_the_runtimes,
        container_outlives_the_daemon,
        files_are_copied_in_and_out,
        killed_shim_is_cleaned_up_after,
        default_runtime_is_the_administrators_choice,
    ]
}

/// A wrapper that finds the libraries unpacked beside the program.
pub(crate) fn wrapper(folder: &Folder, runtime: &str) -> PathBuf {
    let place = unpacked(runtime);
    let program = ["usr/sbin", "usr/bin"].map(|bin| place.join(bin).join(runtime));
    let program = program.into_iter().find(|path| path.exists()).expect("the runtime");
    let libraries = place.join("usr/lib/x86_64-linux-gnu");
    let more = place.join("lib/x86_64-linux-gnu");
    let text = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH={}:{} exec {} \"$@\"\n",
        libraries.display(),
        more.display(),
        program.display()
    );
    let path = folder.path().join(runtime);
    std::fs::write(&path, text).expect("the wrapper");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("the wrapper's mode");
    path
}

fn daemon(arguments: &[&str]) -> Daemon {
    if std::env::var_os("IECHOR_TEST_HOST").is_some() {
        skip("needs a daemon that is told of a runtime");
    }
    let mut daemon = Daemon::start(Options {
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        ..Options::default()
    });
    daemon.cli = Cli::Docker;
    daemon.load(&Image::busybox(), "busybox:latest");
    daemon
}

impl Bench {
    pub fn start(runtime: &'static str) -> Bench {
        let folder = Folder::new(runtime);
        let program = wrapper(&folder, runtime);
        let told = format!("{runtime}={}", program.display());
        Bench {
            world: World {
                daemon: daemon(&["--add-runtime", &told]),
            },
            runtime,
            program,
            _folder: folder,
        }
    }

    pub fn finish(self) {
        self.world.finish();
    }

    /// Ends the test where the runtime does not work on this machine.
    fn works(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let hybrid = !is_cgroup_v2() && mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup2"));
        if self.runtime == "crun" && hybrid {
            skip("crun refuses a machine with control groups of both versions");
        }
    }

    /// `run` with this runtime.
    #[track_caller]
    fn with(&self, flags: &[&str], command: &[&str]) -> harness::process::Output {
        self.works();
        let first = ["run", "--rm", "--runtime", self.runtime];
        self.run(&[&first, flags, &["busybox"], command].concat())
    }

    /// Output of a shell line.
    #[track_caller]
    fn line(&self, flags: &[&str], line: &str) -> String {
        self.with(flags, &["sh", "-c", line]).ok()
    }

    /// A container that sleeps.
    #[track_caller]
    fn sleeps(&self, flags: &[&str]) -> (Named<'_>, Process) {
        self.works();
        self.world.sleeper(&[&["--runtime", self.runtime], flags].concat())
    }

    /// The folder of a container's bundle.
    fn bundle(&self, name: &str) -> PathBuf {
        let id = self.inspect(name)["Id"].as_str().expect("an id").to_owned();
        self.daemon.places.exec.join("bundle").join(id)
    }
}

fn parent(process: Process) -> Process {
    Process(process.status("PPid").parse().expect("a parent"))
}

fn exit_codes_are_the_programs(bench: &Bench) {
    for code in [0, 1, 7, 255] {
        assert_eq!(bench.with(&[], &["sh", "-c", &format!("exit {code}")]).code, code);
    }
}

fn output_is_kept_apart_and_logged(bench: &Bench) {
    bench.works();
    let name = bench.name("output");
    let output = bench.run(&[
        "run",
        "--name",
        &name,
        "--runtime",
        bench.runtime,
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2; seq 1 20000 | tail -n 1",
    ]);
    assert_eq!((&*output.out, &*output.err), ("out\n20000", "err"));
    let logged = bench.run(&["logs", &name]);
    assert_eq!((&*logged.out, &*logged.err), ("out\n20000", "err"));
}

fn input_reaches_the_program_to_its_end(bench: &Bench) {
    bench.works();
    let text = "line\n".repeat(50_000);
    let output = bench
        .command(&["run", "--rm", "-i", "--runtime", bench.runtime, "busybox", "wc", "-c"])
        .input(text.clone())
        .output();
    assert_eq!(output.ok(), text.len().to_string());
}

fn programs_that_cannot_run_have_dockers_codes(bench: &Bench) {
    for (program, code, word) in [
        ("/nope", 127, "/nope"),
        ("nope", 127, "nope"),
        ("/etc/passwd", 126, "denied"),
    ] {
        let told = bench.with(&[], &[program]).fails(code);
        assert!(told.contains("OCI runtime") && told.contains(word), "{told}");
    }
    // Nothing of it stays, and it can be tried again.
    let name = bench.name("again");
    for _ in 0..2 {
        let created = bench.run(&["run", "--name", &name, "--runtime", bench.runtime, "busybox", "/nope"]);
        assert_eq!(created.code, 127);
        assert!(!bench.bundle(&name).exists());
        bench.run(&["rm", &name]).ok();
    }
}

fn users_are_looked_up_in_the_image(bench: &Bench) {
    assert_eq!(
        bench.line(&["-u", "33:44", "--group-add", "55"], "id -u; id -g; id -G"),
        "33\n44\n44 55"
    );
    assert_eq!(bench.line(&[], "id -u; echo $HOME"), "0\n/root");
    let told = bench.with(&["-u", "nobody-such"], &["true"]).fails(125);
    assert!(
        told.contains("unable to find user nobody-such: no matching entries in passwd file"),
        "{told}"
    );
}

/// Not by ours: its own state says so.
fn process_is_made_by_the_runtime(bench: &Bench) {
    let (name, process) = bench.sleeps(&[]);
    let state = bench.bundle(&name).join("state");
    let out = Command::new(&bench.program)
        .arg("--root")
        .arg(&state)
        .arg("list")
        .output()
        .unwrap();
    let list = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        list.contains("running") && list.contains(&process.0.to_string()),
        "{list}"
    );
    // The shim is the parent, as of ours.
    let shim = std::fs::read_to_string(format!("/proc/{}/comm", parent(process).0)).unwrap();
    assert_eq!(shim.trim(), "iechor-shim");
    assert_eq!(bench.inspect(&name)["HostConfig"]["Runtime"], bench.runtime);
    // Not protected from the OOM killer, as the shim is.
    assert_eq!(process.oom_score_adj(), Process::own().oom_score_adj());
}

fn namespaces_mounts_and_privileges_are_as_asked(bench: &Bench) {
    let folder = Folder::new("foreign");
    std::fs::write(folder.path().join("file"), "from the host").unwrap();
    let (name, process) = bench.sleeps(&[
        "-v",
        &format!("{}:/data:ro", folder.path().display()),
        "--tmpfs",
        "/scratch:size=1m",
        "--read-only",
        "--hostname",
        "elsewhere",
        "--cap-drop",
        "ALL",
        "--cap-add",
        "CHOWN",
        "--security-opt",
        "no-new-privileges",
        "--ulimit",
        "nofile=77:88",
        "--sysctl",
        "net.ipv4.ip_unprivileged_port_start=99",
        "-e",
        "A=b",
        "-w",
        "/made",
        "--device",
        "/dev/null:/dev/other",
    ]);
    for kind in ["pid", "mnt", "net", "ipc", "uts", "cgroup"] {
        assert_ne!(process.namespace(kind), Process::own().namespace(kind), "{kind}");
    }
    assert_eq!(process.capabilities("CapEff"), 1);
    assert_eq!(process.status("NoNewPrivs"), "1");
    assert_eq!(process.status("Seccomp"), "2");
    assert_eq!(process.limit("Max open files"), ("77".into(), "88".into()));
    assert_eq!(process.cwd(), "/made");
    assert!(process.environment().contains(&"A=b".to_owned()));
    assert!(process.mount("/").unwrap().has("ro") && process.mount("/data").unwrap().has("ro"));
    assert_eq!(
        bench.inside(&name, "cat /data/file; echo; hostname"),
        "from the host\nelsewhere"
    );
    assert_eq!(
        bench.inside(
            &name,
            "touch /scratch/x && cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
        ),
        "99"
    );
    assert_eq!(bench.inside(&name, "echo x >/dev/other && echo written"), "written");
    let hidden = "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c";
    assert_eq!(bench.inside(&name, hidden), "0");
    assert!(
        !bench
            .run(&["exec", &name, "sh", "-c", "echo x >/proc/sysrq-trigger"])
            .err
            .is_empty()
    );
}

fn network_is_the_bridges(bench: &Bench) {
    let (name, _) = bench.sleeps(&["-p", "127.0.0.1::80"]);
    let address = bench.inspect(&name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(bench.inside(&name, "ip addr show eth0").contains(&address));
    let gateway = bench.gateway_of(&name);
    bench.run(&["exec", &name, "ping", "-c", "1", "-W", "5", &gateway]).ok();
    assert_eq!(bench.line(&["--network", "none"], "ip -o link | wc -l"), "1");
}

fn terminal_has_its_size(bench: &Bench) {
    bench.works();
    let name = bench.name("tty");
    let mut terminal = bench.terminal(
        &[
            "run",
            "-it",
            "--name",
            &name,
            "--runtime",
            bench.runtime,
            "busybox",
            "sh",
        ],
        31,
        97,
    );
    terminal.expect("# ");
    terminal.line("tty; stty size");
    terminal.expect("31 97");
    assert!(terminal.shown().contains("/dev/pts/0"));
    terminal.resize(40, 101);
    eventually("the container sees the new size", 10, || {
        terminal.line("stty size");
        std::thread::sleep(std::time::Duration::from_millis(100));
        terminal.shown().contains("40 101")
    });
    terminal.line("exit 5");
    assert_eq!(terminal.finish(), 5);
}

fn exec_runs_inside(bench: &Bench) {
    let (name, process) = bench.sleeps(&["-e", "A=b"]);
    let output = bench.run(&[
        "exec",
        "-e",
        "C=d",
        "-w",
        "/tmp",
        &name,
        "sh",
        "-c",
        "echo $A $C $PWD; echo err >&2; exit 9",
    ]);
    assert_eq!((output.code, &*output.out, &*output.err), (9, "b d /tmp", "err"));
    assert_eq!(bench.run(&["exec", "-u", "33", &name, "id", "-u"]).ok(), "33");
    let told = bench.run(&["exec", &name, "nope"]);
    assert_eq!(told.code, 127, "{} {}", told.out, told.err);
    // Processes that end at once are not lost, however many.
    for number in 0..8 {
        assert_eq!(
            bench.run(&["exec", &name, "echo", &number.to_string()]).ok(),
            number.to_string()
        );
    }
    let mut exec = bench.background(&["exec", "-i", &name, "cat"]);
    exec.send(b"x\n");
    exec.expect("x");
    let pids = std::fs::read_to_string(process.cgroup("memory").join("cgroup.procs")).unwrap();
    assert!(
        pids.lines().count() >= 2,
        "the exec is in the container's group: {pids:?}"
    );
    exec.close_input();
    assert_eq!(exec.finish(10).0, 0);
    let left = std::fs::read_dir(bench.bundle(&name)).unwrap().flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| name != "0.log" && name != "0.pid")
        .collect();
    assert_eq!(left.len(), 3, "config.json, rootfs, state: {left:?}");
}

fn exec_on_a_terminal(bench: &Bench) {
    let (name, _) = bench.sleeps(&[]);
    for _ in 0..3 {
        let mut terminal = bench.terminal(&["exec", "-it", &name, "sh", "-c", "tty; exit 6"], 24, 80);
        terminal.expect("/dev/pts/");
        assert_eq!(terminal.finish(), 6);
    }
}

fn exec_ends_with_its_input(bench: &Bench) {
    let (name, _) = bench.sleeps(&[]);
    let text = "x".repeat(100_000);
    let output = bench.command(&["exec", "-i", &name, "wc", "-c"]).input(text).output();
    assert_eq!(output.ok(), "100000");
}

fn signals_and_stop(bench: &Bench) {
    let (name, process) = bench.sleeps(&[]);
    assert_eq!(
        process.status("SigBlk"),
        "0000000000000000",
        "the shim's mask is its own"
    );
    bench.run(&["kill", &name]).ok();
    assert_eq!(bench.run(&["wait", &name]).ok(), "137");
    eventually("it has ended", 5, || !process.is_alive());
    let name = bench.name("trap");
    let line = "trap 'echo got it; exit 12' USR1; echo ready; while :; do sleep 0.05; done";
    bench
        .run(&[
            "run",
            "--stop-signal",
            "SIGUSR1",
            "-d",
            "--name",
            &name,
            "--runtime",
            bench.runtime,
            "busybox",
            "sh",
            "-c",
            line,
        ])
        .ok();
    eventually("it is ready", 10, || bench.run(&["logs", &name]).out.contains("ready"));
    bench.run(&["stop", &name]).ok();
    assert_eq!(bench.inspect(&name)["State"]["ExitCode"], 12);
    assert!(bench.run(&["logs", &name]).out.contains("got it"));
}

fn limits_are_in_the_cgroup(bench: &Bench) {
    let (_name, process) = bench.sleeps(&["-m", "64m", "--cpus", "0.5", "--pids-limit", "9", "--cpuset-cpus", "0"]);
    assert_eq!(
        process.control("memory", &["memory.max", "memory.limit_in_bytes"]),
        "67108864"
    );
    assert_eq!(process.control("pids", &["pids.max"]), "9");
    if is_cgroup_v2() {
        assert_eq!(process.control("cpu", &["cpu.max"]), "50000 100000");
    } else {
        assert_eq!(process.control("cpu", &["cpu.cfs_quota_us"]), "50000");
        // Ours, by the place where it is.
        let places = process.cgroup("memory");
        assert!(
            places.to_string_lossy().contains(&bench.daemon.places.cgroup),
            "{}",
            places.display()
        );
    }
    assert_eq!(process.status("Cpus_allowed_list"), "0");
}

fn memory_limit_kills(bench: &Bench) {
    bench.works();
    let name = bench.name("oom");
    let flags = [
        "run",
        "--name",
        &name,
        "--runtime",
        bench.runtime,
        "-m",
        "32m",
        "--memory-swap",
        "32m",
    ];
    bench
        .run(&[&flags[..], &["busybox", "sh", "-c", "tail -c 100m /dev/zero"]].concat())
        .fails(137);
    eventually("the kernel's verdict is known", 5, || {
        bench.inspect(&name)["State"]["OOMKilled"] == true
    });
}

fn update_changes_a_running_container(bench: &Bench) {
    let (name, process) = bench.sleeps(&["-m", "64m", "--memory-swap", "64m", "--pids-limit", "50"]);
    bench
        .run(&[
            "update",
            "-m",
            "96m",
            "--memory-swap",
            "96m",
            "--pids-limit",
            "60",
            &name,
        ])
        .ok();
    assert_eq!(
        process.control("memory", &["memory.max", "memory.limit_in_bytes"]),
        "100663296"
    );
    assert_eq!(process.control("pids", &["pids.max"]), "60");
    bench.run(&["restart", "-t", "0", &name]).ok();
    assert_eq!(bench.process(&name).control("pids", &["pids.max"]), "60");
}

fn pause_freezes(bench: &Bench) {
    let (name, process) = bench.sleeps(&[]);
    bench.run(&["pause", &name]).ok();
    let frozen = process.control("freezer", &["cgroup.freeze", "freezer.state"]);
    assert_eq!(frozen.replace("FROZEN", "1"), "1");
    assert_ne!(bench.run(&["exec", &name, "true"]).code, 0);
    bench.run(&["unpause", &name]).ok();
    bench.run(&["exec", &name, "true"]).ok();
    bench.run(&["pause", &name]).ok();
    bench.run(&["rm", "-f", &name]).ok();
}

fn restart_and_start_again(bench: &Bench) {
    let (name, process) = bench.sleeps(&[]);
    bench.run(&["exec", &name, "sh", "-c", "echo kept >/file"]).ok();
    for _ in 0..3 {
        bench.run(&["restart", "-t", "0", &name]).ok();
    }
    assert_ne!(bench.process(&name).0, process.0);
    assert_eq!(bench.inside(&name, "cat /file"), "kept");
    bench.run(&["stop", "-t", "0", &name]).ok();
    bench.run(&["start", &name]).ok();
    assert_eq!(bench.inside(&name, "cat /file"), "kept");
}

fn nothing_stays_of_a_removed_container(bench: &Bench) {
    let (name, process) = bench.sleeps(&["-m", "64m"]);
    let bundle = bench.bundle(&name);
    // Every hierarchy that the runtime joined, also those that we do not.
    let id = bench.inspect(&name)["Id"].as_str().unwrap().to_owned();
    assert!(bundle.join("config.json").exists() && !harness::kernel::cgroups_with(&id).is_empty());
    let shim = parent(process);
    bench.run(&["rm", "-f", &name]).ok();
    eventually("the shim has ended", 10, || !shim.is_alive());
    assert!(!bundle.exists() && !process.is_alive());
    assert_eq!(harness::kernel::cgroups_with(&id), Vec::<PathBuf>::new());
}

fn shared_namespaces_are_joined(bench: &Bench) {
    let (first, process) = bench.sleeps(&[]);
    let (network, pid) = (format!("container:{}", &*first), format!("container:{}", &*first));
    let (_second, other) = bench.sleeps(&["--network", &network, "--pid", &pid, "--uts", "host"]);
    for kind in ["net", "pid"] {
        assert_eq!(process.namespace(kind), other.namespace(kind), "{kind}");
    }
    assert_eq!(other.namespace("uts"), Process::own().namespace("uts"));
    let (_third, host) = bench.sleeps(&["--network", "host", "--pid", "host", "--ipc", "host"]);
    for kind in ["net", "pid", "ipc"] {
        assert_eq!(host.namespace(kind), Process::own().namespace(kind), "{kind}");
    }
}

fn unknown_runtime_is_refused(bench: &Bench) {
    let told = bench
        .run(&["run", "--rm", "--runtime", "nope", "busybox", "true"])
        .fails(125);
    assert!(told.contains("unknown or invalid runtime name: nope"), "{told}");
}

fn what_the_runtime_cannot_do_is_refused_by_name(bench: &Bench) {
    let (other, _) = bench.world.sleeper(&["--ipc", "shareable"]);
    let ipc = format!("container:{}", &*other);
    let folder = Folder::new("shared");
    let bind = format!(
        "type=bind,source={},target=/d,bind-propagation=rshared",
        folder.path().display()
    );
    for (flags, word) in [
        (&["--init"][..], "--init"),
        (&["--ipc", &ipc], "--ipc container:"),
        (&["--mount", &bind], "rshared"),
    ] {
        let told = bench.with(flags, &["true"]).fails(125);
        assert!(told.contains(word) && told.contains(bench.runtime), "{flags:?}: {told}");
    }
}

fn info_names_the_runtimes(bench: &Bench) {
    let info = bench.server.get("/info").expect(200).json();
    assert_eq!(info["DefaultRuntime"], "iechor");
    let path = info["Runtimes"][bench.runtime]["path"].as_str().map(Path::new);
    assert_eq!(path, Some(&*bench.program));
    assert!(info["Runtimes"]["iechor"].is_object());
}

fn container_outlives_the_daemon(bench: &Bench) {
    bench.works();
    let told = format!("{}={}", bench.runtime, bench.program.display());
    let daemon = daemon(&["--add-runtime", &told]);
    let process = daemon.sleeper("stays", &["--runtime", bench.runtime]);
    daemon
        .docker(&[
            "run",
            "-d",
            "--name",
            "leaves",
            "--runtime",
            bench.runtime,
            "busybox",
            "sh",
            "-c",
            "sleep 1; echo bye; exit 7",
        ])
        .ok();
    let leaver = daemon.process("leaves");
    daemon.kill9();
    eventually("it has ended", 10, || !leaver.is_alive());
    std::thread::sleep(std::time::Duration::from_millis(1500));
    daemon.launch();
    assert_eq!(daemon.process("stays").0, process.0);
    assert_eq!(daemon.docker(&["exec", "stays", "echo", "after"]).ok(), "after");
    assert_eq!(daemon.inspect("leaves")["State"]["ExitCode"], 7);
    assert_eq!(daemon.docker(&["logs", "leaves"]).ok(), "bye");
    daemon.docker(&["stop", "-t", "0", "stays"]).ok();
    daemon.docker(&["start", "stays"]).ok();
    daemon.finish();
}

fn killed_shim_is_cleaned_up_after(bench: &Bench) {
    bench.works();
    let told = format!("{}={}", bench.runtime, bench.program.display());
    let daemon = daemon(&["--add-runtime", &told]);
    for away in [false, true] {
        let process = daemon.sleeper("orphan", &["--runtime", bench.runtime]);
        let id = daemon.inspect("orphan")["Id"].as_str().unwrap().to_owned();
        let shim = parent(process);
        if away {
            // The start is in the record by then.
            std::thread::sleep(std::time::Duration::from_millis(500));
            daemon.kill9();
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim.0), nix::sys::signal::Signal::SIGKILL).unwrap();
        eventually("the shim has ended", 5, || !shim.is_alive());
        if away {
            daemon.launch();
        }
        eventually("its end is noticed", 10, || {
            daemon.inspect("orphan")["State"]["ExitCode"] == 255
        });
        eventually("nothing of it runs", 10, || !process.is_alive());
        let bundle = daemon.places.exec.join("bundle").join(&id);
        eventually("its groups and its bundle are gone", 10, || {
            harness::kernel::cgroups_with(&id).is_empty() && !bundle.exists()
        });
        daemon.docker(&["start", "orphan"]).ok();
        daemon.docker(&["rm", "-f", "orphan"]).ok();
    }
    daemon.finish();
}

fn default_runtime_is_the_administrators_choice(bench: &Bench) {
    bench.works();
    let told = format!("{}={}", bench.runtime, bench.program.display());
    let daemon = daemon(&["--add-runtime", &told, "--default-runtime", bench.runtime]);
    daemon.sleeper("usual", &[]);
    assert_eq!(daemon.inspect("usual")["HostConfig"]["Runtime"], bench.runtime);
    daemon.sleeper("ours", &["--runtime", "iechor"]);
    assert_eq!(daemon.inspect("ours")["HostConfig"]["Runtime"], "iechor");
    assert_eq!(
        daemon.server.get("/info").expect(200).json()["DefaultRuntime"],
        bench.runtime
    );
    daemon.finish();
}

fn files_are_copied_in_and_out(bench: &Bench) {
    let folder = Folder::new("runtimes-cp");
    std::fs::write(folder.at("f"), "file").unwrap();
    let (name, _) = bench.sleeps(&["-v", "/vol"]);
    for place in ["/tmp/f", "/vol/f", "/dev/shm/f"] {
        bench.run(&["cp", &folder.at("f"), &format!("{}:{place}", &*name)]).ok();
        assert_eq!(bench.inside(&name, &format!("cat {place}")), "file", "{place}");
        bench.run(&["cp", &format!("{}:{place}", &*name), &folder.at("g")]).ok();
        assert_eq!(std::fs::read_to_string(folder.at("g")).unwrap(), "file", "{place}");
    }
}

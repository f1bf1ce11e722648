//! A node with many containers: what each of them costs, and that everything is still answered, found again and removed.
//!
//! `IECHOR_SCALE=RUNNING/STOPPED` makes it as large as one likes (the promise is about 500/2000); by default it is small
//! enough for every run of all tests. The tests share the containers, and come one after the other.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::daemon::{Daemon, Options};
use harness::image::Image;
use harness::kernel::Process;
use harness::tools::{eventually, patience};
use harness::{Test, tests};
use serde_json::{Value, json};

pub fn tests() -> Vec<Test<Crowd>> {
    tests![
        each_container_takes_little_memory_of_the_daemon,
        each_shim_is_small,
        lists_are_whole_and_right,
        one_of_many_is_found_by_name_and_by_the_beginning_of_its_id,
        an_idle_node_is_idle,
        a_crowded_node_still_runs_containers,
        the_end_of_a_long_log_is_read_alone,
        a_killed_daemon_finds_all_of_them_again,
        a_daemon_that_was_asked_to_end_finds_all_of_them_again,
        all_of_them_are_stopped,
    ]
}

/// Memory of the daemon for each container, running or not.
const KIB_PER_CONTAINER: u64 = 20;
/// Memory of the daemon that comes with the first hundreds of containers and with no more of them: the newest 1024 events,
/// the database's page cache (4 MiB at most).
const KIB_ONCE: u64 = 4096;
/// Memory of a shim.
const KIB_PER_SHIM: u64 = 400;
/// Requests at once.
const CLIENTS: usize = 4;

/// The containers, and the daemon they are of.
pub struct Crowd {
    daemon: Daemon,
    /// Memory of the daemon before there were any, in KiB.
    before: u64,
    running: Vec<Member>,
    stopped: Vec<Member>,
}

struct Member {
    id: String,
    name: String,
    /// Of one that runs.
    pid: i32,
    /// Of one that has ended.
    code: i64,
}

/// How many run, and how many do not.
fn size() -> (usize, usize) {
    let asked = std::env::var("IECHOR_SCALE").unwrap_or_else(|_| "60/300".into());
    let (running, stopped) = asked.split_once('/').expect("IECHOR_SCALE=RUNNING/STOPPED");
    (running.parse().expect("a number"), stopped.parse().expect("a number"))
}

/// Says a figure: what is measured here is worth more than that it was small enough.
fn figure(text: String) {
    println!("  {text}");
}

impl Crowd {
    pub fn start() -> Crowd {
        if std::env::var_os("IECHOR_TEST_HOST").is_some() {
            harness::suite::skip("looks into our own daemon");
        }
        let daemon = Daemon::start(Options::default());
        daemon.load(&Image::busybox(), "busybox:latest");
        // What the first containers of a daemon take along is no container's: code that runs for the first time, threads.
        each(2 * CLIENTS, |number| {
            let member = create(&daemon, &format!("first-{number}"), &["true"]);
            run_to_end(&daemon, &member.id);
            call(&daemon, "DELETE", &format!("/containers/{}", member.id), 204);
        });
        std::thread::sleep(Duration::from_secs(2));
        let before = memory(daemon.pid(), "Rss");
        let (running, stopped) = size();
        let begun = Instant::now();
        let stopped = each(stopped, |number| {
            let code = (number % 5) as i64;
            let name = format!("stopped-{number}");
            let member = create(&daemon, &name, &["sh", "-c", &format!("echo I am {name}; exit {code}")]);
            assert_eq!(run_to_end(&daemon, &member.id), code, "{name}");
            Member { code, ..member }
        });
        let running = each(running, |number| {
            let member = create(&daemon, &format!("running-{number}"), &["sleep", "100000"]);
            call(&daemon, "POST", &format!("/containers/{}/start", member.id), 204);
            let state = call(&daemon, "GET", &format!("/containers/{}/json", member.id), 200)["State"].clone();
            Member {
                pid: state["Pid"].as_i64().expect("a process") as i32,
                ..member
            }
        });
        let (many, few) = (stopped.len(), running.len());
        figure(format!(
            "{many} containers run to their end and {few} started in {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
        Crowd {
            daemon,
            before,
            running,
            stopped,
        }
    }

    pub fn finish(self) {
        // The tests have started it from threads of theirs, and it is killed when the thread that started it ends.
        self.daemon.kill9();
        self.daemon.launch();
        let all: Vec<&Member> = self.running.iter().chain(&self.stopped).collect();
        each(all.len(), |number| {
            call(
                &self.daemon,
                "DELETE",
                &format!("/containers/{}?force=1", all[number].id),
                204,
            );
        });
        // Their files go behind the answers, in the time that thousands of folders take.
        let places = &self.daemon.places;
        eventually("nothing is left of them", 120, || {
            places.left_of_containers().is_empty()
        });
        self.daemon.finish();
    }

    fn len(&self) -> usize {
        self.running.len() + self.stopped.len()
    }

    /// That everything is as it was made, and nothing else is there.
    #[track_caller]
    fn all_there(&self) {
        let all = rows(&self.daemon, "all=1");
        assert_eq!(all.len(), self.len(), "not all of them are in the list");
        let live = self.running.iter().map(|member| (member, "running"));
        let over = self.stopped.iter().map(|member| (member, "exited"));
        for (member, state) in live.chain(over) {
            let row = &all[&member.id];
            assert_eq!(row["Names"], json!([format!("/{}", member.name)]));
            assert_eq!(row["State"], state, "{}", member.name);
            assert_eq!(row["Labels"]["scale.name"], member.name.as_str());
            let status = row["Status"].as_str().unwrap_or_default();
            let wanted = match state {
                "running" => "Up ".to_owned(),
                _ => format!("Exited ({}) ", member.code),
            };
            assert!(status.starts_with(&wanted), "{}: {status}", member.name);
        }
    }

    /// That the processes are the same.
    #[track_caller]
    fn same_processes(&self) {
        each(self.running.len(), |number| {
            let member = &self.running[number];
            let state = call(&self.daemon, "GET", &format!("/containers/{}/json", member.id), 200)["State"].clone();
            assert_eq!(state["Pid"], member.pid, "{}", member.name);
            assert!(Process(member.pid).is_alive(), "{}", member.name);
        });
    }

    /// That what was there before a restart can be used after it.
    #[track_caller]
    fn usable(&self) {
        let (Some(live), Some(over)) = (self.running.last(), self.stopped.last()) else {
            return;
        };
        assert_eq!(self.daemon.docker(&["exec", &live.name, "echo", "here"]).ok(), "here");
        assert_eq!(
            self.daemon.docker(&["logs", &over.name]).ok(),
            format!("I am {}", over.name)
        );
    }

    /// Processor time of the daemon and the shims, in ticks of 10 ms.
    fn ticks(&self) -> (u64, u64) {
        let shims = self.running.iter().map(|member| ticks(shim(member)));
        (ticks(self.daemon.pid()), shims.sum())
    }
}

/// `work` for each number below `count`, some at a time; the results in order.
fn each<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return done;
                }
                done.push((number, work(number)));
            }
        };
        let workers: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(worker)).collect();
        let results = workers.into_iter().map(|worker| match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.flatten().collect()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A request without a transcript: there are thousands of them.
#[track_caller]
fn call(daemon: &Daemon, method: &str, target: &str, status: u16) -> Value {
    let reply = daemon.server.try_send(method, target, &[], &[]);
    reply.expect("an answer").expect(status).json_or_null()
}

/// Made as Compose would: a handful of labels and variables.
fn create(daemon: &Daemon, name: &str, command: &[&str]) -> Member {
    let body = json!({
        "Image": "busybox",
        "Cmd": command,
        "Env": ["SCALE_ONE=1", "SCALE_TWO=a longer value of a variable"],
        "Labels": {"scale.name": name, "scale.project": "many", "scale.service": "one-of-them"},
    });
    let kind = [("Content-Type", "application/json")];
    let target = format!("/containers/create?name={name}");
    let reply = daemon
        .server
        .try_send("POST", &target, &kind, body.to_string().as_bytes());
    let made = reply.expect("an answer").expect(201).json();
    Member {
        id: made["Id"].as_str().expect("an id").to_owned(),
        name: name.to_owned(),
        pid: 0,
        code: 0,
    }
}

fn run_to_end(daemon: &Daemon, id: &str) -> i64 {
    call(daemon, "POST", &format!("/containers/{id}/start"), 204);
    let end = call(daemon, "POST", &format!("/containers/{id}/wait"), 200);
    end["StatusCode"].as_i64().expect("an exit code")
}

/// The list by id.
#[track_caller]
fn rows(daemon: &Daemon, query: &str) -> BTreeMap<String, Value> {
    let list = call(daemon, "GET", &format!("/containers/json?{query}"), 200);
    let list = list.as_array().expect("a list").clone();
    let count = list.len();
    let rows: BTreeMap<String, Value> = list
        .into_iter()
        .map(|row| (row["Id"].as_str().expect("an id").to_owned(), row))
        .collect();
    assert_eq!(rows.len(), count, "one of them is in the list twice");
    rows
}

/// KiB by a line of `smaps_rollup`: `Rss`, `Pss`.
fn memory(pid: i32, line: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the memory of a process");
    let found = text.lines().find_map(|all| all.strip_prefix(line)?.strip_prefix(':'));
    let number = found.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.expect("a number of KiB")
}

/// The process that keeps a container.
fn shim(member: &Member) -> i32 {
    Process(member.pid).status("PPid").parse().expect("a process")
}

/// User and system time of a process, in ticks of 10 ms.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the state of a process");
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.map(|field| field.parse::<u64>().expect("ticks")).sum()
}

/// Bytes that a process has read, from wherever.
fn bytes_read(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("what a process reads");
    let found = text.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok());
    found.expect("a number of bytes")
}

fn each_container_takes_little_memory_of_the_daemon(crowd: &Crowd) {
    let bound = KIB_PER_CONTAINER * crowd.len() as u64 + KIB_ONCE;
    // Threads that the making took go after ten idle seconds; what goes by itself is not held by a container.
    let end = Instant::now() + patience(30);
    let grown = loop {
        let grown = memory(crowd.daemon.pid(), "Rss").saturating_sub(crowd.before);
        if grown <= bound || Instant::now() > end {
            break grown;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    figure(format!(
        "the daemon: {} KiB before, {grown} KiB more for {} containers, {:.1} KiB each",
        crowd.before,
        crowd.len(),
        grown as f64 / crowd.len() as f64
    ));
    assert!(grown <= bound, "{grown} KiB more with {} containers", crowd.len());
}

fn each_shim_is_small(crowd: &Crowd) {
    let end = Instant::now() + patience(20);
    // One that has just been used gives its memory back a moment later.
    let (most, all) = loop {
        let sizes: Vec<u64> = crowd.running.iter().map(|member| memory(shim(member), "Pss")).collect();
        let (most, all) = (sizes.iter().max().copied().unwrap_or(0), sizes.iter().sum::<u64>());
        if most <= KIB_PER_SHIM || Instant::now() > end {
            break (most, all);
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let mean = all as f64 / crowd.running.len().max(1) as f64;
    figure(format!("a shim: {mean:.0} KiB PSS, the largest {most} KiB"));
    assert!(most <= KIB_PER_SHIM, "a shim takes {most} KiB");
}

fn lists_are_whole_and_right(crowd: &Crowd) {
    let begun = Instant::now();
    crowd.all_there();
    let took = begun.elapsed().as_secs_f64() * 1e3;
    figure(format!(
        "a list of all {}, asked for, read and compared: {took:.1} ms",
        crowd.len()
    ));
    let ids = |members: &[Member]| -> Vec<String> {
        let mut ids: Vec<String> = members.iter().map(|member| member.id.clone()).collect();
        ids.sort();
        ids
    };
    let listed = |query: &str| -> Vec<String> { rows(&crowd.daemon, query).into_keys().collect() };
    assert_eq!(listed(""), ids(&crowd.running));
    assert_eq!(
        listed("filters=%7B%22status%22%3A%5B%22exited%22%5D%7D"),
        ids(&crowd.stopped)
    );
    let threes = crowd.stopped.iter().filter(|member| member.code == 3).count();
    assert_eq!(listed("filters=%7B%22exited%22%3A%5B%223%22%5D%7D").len(), threes);
    // The newest of all: those that were made last.
    let newest = rows(&crowd.daemon, "limit=7");
    assert_eq!(newest.len(), 7.min(crowd.len()));
    let youngest_left = rows(&crowd.daemon, "all=1")
        .into_iter()
        .filter(|(id, _)| !newest.contains_key(id))
        .filter_map(|(_, row)| row["Created"].as_i64())
        .max();
    for row in newest.values() {
        assert!(row["Created"].as_i64() >= youngest_left, "an older one came first");
    }
    let told = crowd.daemon.docker(&["ps", "-aq", "--no-trunc"]).ok();
    assert_eq!(told.lines().count(), crowd.len());
}

fn one_of_many_is_found_by_name_and_by_the_beginning_of_its_id(crowd: &Crowd) {
    let all: Vec<&Member> = crowd.running.iter().chain(&crowd.stopped).collect();
    for member in all.iter().step_by(all.len().div_ceil(20)) {
        // Twelve digits are what people copy; the first of them alone mean many.
        for target in [
            member.id.as_str(),
            &member.id[..12],
            &member.name,
            &format!("/{}", member.name),
        ] {
            let target = target.replace('/', "%2F");
            let found = call(&crowd.daemon, "GET", &format!("/containers/{target}/json"), 200);
            assert_eq!(found["Id"], member.id.as_str());
        }
    }
    let first = &all[0].id[..1];
    let several = all.iter().filter(|member| member.id.starts_with(first)).count() > 1;
    let status = if several { 400 } else { 200 };
    call(&crowd.daemon, "GET", &format!("/containers/{first}/json"), status);
}

fn an_idle_node_is_idle(crowd: &Crowd) {
    const WINDOW: Duration = Duration::from_secs(3);
    let end = Instant::now() + patience(40);
    loop {
        let before = crowd.ticks();
        std::thread::sleep(WINDOW);
        let after = crowd.ticks();
        let (daemon, shims) = (after.0 - before.0, after.1 - before.1);
        // A tick is charged to who runs when it falls.
        if daemon <= 1 && shims <= 1 {
            figure(format!(
                "idle for {WINDOW:?}: {daemon} and {shims} ticks of 10 ms, daemon and shims"
            ));
            return;
        }
        assert!(
            Instant::now() < end,
            "idle, the daemon takes {daemon} and {} shims {shims} ticks of 10 ms in {WINDOW:?}",
            crowd.running.len()
        );
    }
}

fn a_crowded_node_still_runs_containers(crowd: &Crowd) {
    let begun = Instant::now();
    const TIMES: u32 = 5;
    for number in 0..TIMES {
        let member = create(&crowd.daemon, &format!("guest-{number}"), &["sh", "-c", "exit 4"]);
        assert_eq!(run_to_end(&crowd.daemon, &member.id), 4);
        call(&crowd.daemon, "DELETE", &format!("/containers/{}", member.id), 204);
    }
    figure(format!(
        "a container's life beside them: {:.1} ms",
        begun.elapsed().as_secs_f64() * 1e3 / f64::from(TIMES)
    ));
    let said = crowd
        .daemon
        .docker(&["run", "--rm", "busybox", "echo", "there is room"])
        .ok();
    assert_eq!(said, "there is room");
    crowd.usable();
}

/// A tail is read from the end, however long the log is.
fn the_end_of_a_long_log_is_read_alone(crowd: &Crowd) {
    const LONG: u64 = 48 << 20;
    // The whole of it is 1 GiB where the crowd is whole.
    let long = if crowd.len() >= 2500 { 1 << 30 } else { LONG };
    let script = format!("yes {} | head -c {long}; echo; echo the last line", "x".repeat(99));
    for driver in ["local", "json-file"] {
        let name = format!("long-{driver}");
        let options = [
            "--log-driver",
            driver,
            "--log-opt",
            "max-size=4g",
            "busybox",
            "sh",
            "-c",
            &script,
        ];
        let begun = Instant::now();
        crowd
            .daemon
            .docker(&[&["run", "-d", "--name", &name], &options[..]].concat())
            .ok();
        let end = call(&crowd.daemon, "POST", &format!("/containers/{name}/wait"), 200);
        assert_eq!(end["StatusCode"], 0);
        let written = begun.elapsed().as_secs_f64();
        let before = bytes_read(crowd.daemon.pid());
        let target = format!("/containers/{name}/logs?stdout=1&tail=10");
        let begun = Instant::now();
        let reply = crowd
            .daemon
            .server
            .try_send("GET", &target, &[], &[])
            .expect("an answer")
            .expect(200);
        let took = begun.elapsed().as_secs_f64() * 1e3;
        let read = bytes_read(crowd.daemon.pid()) - before;
        crowd.daemon.remove(&name);
        figure(format!(
            "{driver}: {} MiB in {written:.2} s; the last ten lines after {took:.1} ms, for which {read} bytes were read",
            long >> 20
        ));
        let lines = harness::http::frames(&reply.body);
        let text: Vec<u8> = lines.into_iter().flat_map(|(_, text)| text).collect();
        let text = String::from_utf8(text).expect("what was written");
        assert_eq!(text.lines().count(), 10);
        assert_eq!(text.lines().last(), Some("the last line"));
        assert!(read < 1 << 20, "{driver}: {read} bytes were read for ten lines");
    }
}

fn a_killed_daemon_finds_all_of_them_again(crowd: &Crowd) {
    crowd.daemon.kill9();
    let took = crowd.daemon.launch().as_secs_f64() * 1e3;
    figure(format!(
        "ready {took:.0} ms after it was killed, with {} containers",
        crowd.len()
    ));
    crowd.all_there();
    crowd.same_processes();
    crowd.usable();
}

fn a_daemon_that_was_asked_to_end_finds_all_of_them_again(crowd: &Crowd) {
    let begun = Instant::now();
    crowd.daemon.stop();
    let ended = begun.elapsed().as_secs_f64() * 1e3;
    let took = crowd.daemon.launch().as_secs_f64() * 1e3;
    figure(format!("ended within {ended:.0} ms, ready again after {took:.0} ms"));
    crowd.all_there();
    crowd.same_processes();
    let memory = memory(crowd.daemon.pid(), "Rss");
    figure(format!("the daemon after a restart: {memory} KiB"));
}

fn all_of_them_are_stopped(crowd: &Crowd) {
    let begun = Instant::now();
    each(crowd.running.len(), |number| {
        let member = &crowd.running[number];
        call(
            &crowd.daemon,
            "POST",
            &format!("/containers/{}/stop?t=0", member.id),
            204,
        );
        assert!(!Process(member.pid).is_alive(), "{}", member.name);
    });
    figure(format!(
        "{} stopped in {:.1} s",
        crowd.running.len(),
        begun.elapsed().as_secs_f64()
    ));
    assert!(rows(&crowd.daemon, "").is_empty());
    for row in rows(&crowd.daemon, "all=1").values() {
        assert_eq!(row["State"], "exited", "{}", row["Names"]);
    }
}

//! Filters in force, seen from outside: each case runs this program again as a subject, which loads a profile and then
//! makes a folder.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, exit};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use runtime::capabilities;
use runtime::seccomp::{Context, Filter, Profile};
use runtime_sys::seccomp::{self, Answer};

/// A subject that outlives this has lost its way.
const PATIENCE: Duration = Duration::from_secs(20);

/// x86-64's and arm64's calls for a folder.
const FOLDERS: &str = r#""names": ["mkdir", "mkdirat"]"#;

struct Case {
    name: &'static str,
    /// What happens to a new folder, as a rule's fields.
    rule: &'static str,
    /// Further fields of the profile.
    more: &'static str,
    does: &'static str,
    expected: Expected,
}

#[derive(Debug, PartialEq)]
enum Expected {
    /// The folder is there.
    Made,
    /// The call failed with this error.
    Failed(i32),
    /// The process died of SIGSYS.
    Killed,
    /// Only the thread that made the call died.
    ThreadKilled,
}
use Expected::{Failed, Killed, Made, ThreadKilled};

const LISTEN: &str = r#""listenerPath": "/run/agent.sock","#;
const LISTEN_ALL: &str = r#""listenerPath": "/run/agent.sock",
    "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
              "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],"#;

fn cases() -> Vec<Case> {
    let case = |name, rule, more, does, expected| Case {
        name,
        rule,
        more,
        does,
        expected,
    };
    vec![
        case("allow", r#""action": "SCMP_ACT_ALLOW""#, "", "call", Made),
        case("log", r#""action": "SCMP_ACT_LOG""#, "", "call", Made),
        case(
            "errno",
            r#""action": "SCMP_ACT_ERRNO", "errnoRet": 18"#,
            "",
            "call",
            Failed(18),
        ),
        case(
            "errno by default",
            r#""action": "SCMP_ACT_ERRNO""#,
            "",
            "call",
            Failed(errno::EPERM),
        ),
        case(
            "trace without a tracer",
            r#""action": "SCMP_ACT_TRACE""#,
            "",
            "call",
            Failed(errno::ENOSYS),
        ),
        case("trap", r#""action": "SCMP_ACT_TRAP""#, "", "thread", Killed),
        case(
            "kill process",
            r#""action": "SCMP_ACT_KILL_PROCESS""#,
            "",
            "thread",
            Killed,
        ),
        case(
            "kill thread",
            r#""action": "SCMP_ACT_KILL_THREAD""#,
            "",
            "thread",
            ThreadKilled,
        ),
        case("kill", r#""action": "SCMP_ACT_KILL""#, "", "thread", ThreadKilled),
        case(
            "notify, error",
            r#""action": "SCMP_ACT_NOTIFY""#,
            LISTEN,
            "agent error",
            Failed(33),
        ),
        case(
            "notify, go on",
            r#""action": "SCMP_ACT_NOTIFY""#,
            LISTEN,
            "agent go",
            Made,
        ),
        case(
            "notify, value",
            r#""action": "SCMP_ACT_NOTIFY""#,
            LISTEN,
            "agent value",
            Failed(0),
        ),
        case(
            "notify, every flag",
            r#""action": "SCMP_ACT_NOTIFY""#,
            LISTEN_ALL,
            "agent error",
            Failed(33),
        ),
        case(
            "a condition that holds",
            r#""action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [{"index": 5, "op": "SCMP_CMP_GE", "value": 0}]"#,
            "",
            "call",
            Failed(5),
        ),
        case(
            "a condition that does not hold",
            // No folder has a name at that address.
            r#""action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": 77}]"#,
            "",
            "call",
            Made,
        ),
    ]
}

/// The same on all machines that we have.
mod errno {
    pub const EPERM: i32 = 1;
    pub const ENOSYS: i32 = 38;
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, subject, profile, does, folder] = &arguments[..]
        && subject == "subject"
    {
        become_subject(profile, does, Path::new(folder));
    }
    // `cargo test NAME` hands a filter to every test program.
    let wanted = arguments[1..].iter().find(|argument| !argument.starts_with('-'));
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let mut failed = 0;
    for case in cases() {
        if wanted.is_some_and(|wanted| !case.name.contains(wanted.as_str()) && !"seccomp".contains(wanted.as_str())) {
            continue;
        }
        let found = observe(&case);
        let ok = found == Ok(case.expected);
        println!("seccomp, {}: {}", case.name, if ok { "ok" } else { "FAILED" });
        if !ok {
            println!("    found {found:?}");
            failed += 1;
        }
    }
    if failed > 0 {
        println!("{failed} failed");
        exit(1);
    }
}

fn observe(case: &Case) -> Result<Expected, String> {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("new");
    let (rule, more) = (case.rule, case.more);
    let profile = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", {more} "syscalls": [{{{FOLDERS}, {rule}}}]}}"#);
    let mut subject = Command::new(std::env::current_exe().unwrap())
        .args(["subject", &profile, case.does])
        .arg(&folder)
        .spawn()
        .unwrap();
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = subject.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            let _ = subject.kill();
            let _ = subject.wait();
            return Err("the subject did not end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    judge(status, folder.is_dir())
}

/// A subject ends with the call's error, 0 for none; or with one of these.
const LOST_A_THREAD: i32 = 200;
const BROKEN: i32 = 201;

fn judge(status: ExitStatus, made: bool) -> Result<Expected, String> {
    const SIGSYS: i32 = 31;
    match (status.code(), status.signal(), made) {
        (Some(0), _, true) => Ok(Made),
        (None, Some(SIGSYS), false) => Ok(Killed),
        (Some(LOST_A_THREAD), _, false) => Ok(ThreadKilled),
        (Some(BROKEN), ..) => Err("the subject is broken".to_owned()),
        (Some(code), _, false) => Ok(Failed(code)),
        _ => Err(format!("{status}, folder made: {made}")),
    }
}

/// Loads and acts, and ends the process. Panics would end in the same status as errors, hence the hook.
fn become_subject(profile: &str, does: &str, folder: &Path) -> ! {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        exit(BROKEN);
    }));
    let profile = Profile::from_json(profile.as_bytes()).unwrap();
    let context = Context::of_machine(capabilities::DEFAULT).unwrap();
    let filter = profile.compile(&context).unwrap();
    const RLIMIT_CORE: u32 = 4;
    // Dying of SIGSYS leaves a core file where the limit allows one.
    runtime_sys::privilege::set_limit(RLIMIT_CORE, 0, 0).unwrap();
    runtime_sys::privilege::no_new_privileges().unwrap();
    let load = |filter: &Filter| seccomp::load(&filter.program, filter.flags, filter.notifies()).unwrap();
    let code = match does.split_once(' ') {
        None if does == "call" => {
            assert!(load(&filter).is_none());
            make(folder)
        }
        // The main thread is not the one that acts, so that it sees whether only that one died.
        None if does == "thread" => {
            let folder = folder.to_owned();
            let acting = std::thread::spawn(move || {
                load(&filter);
                make(&folder)
            });
            while !acting.is_finished() && threads() > 1 {
                std::thread::sleep(Duration::from_millis(1));
            }
            // A killed thread has no result to join for.
            if acting.is_finished() {
                acting.join().unwrap()
            } else {
                LOST_A_THREAD
            }
        }
        Some(("agent", answer)) => {
            let (send, listener) = mpsc::channel();
            let answer = answer.to_owned();
            // Begun before, so that it is not subject to the filter (it would not matter: it makes no folder).
            let agent = std::thread::spawn(move || act_as_agent(&listener, &answer));
            send.send(load(&filter).unwrap()).unwrap();
            let code = make(folder);
            agent.join().unwrap();
            code
        }
        _ => panic!("what is {does:?}?"),
    };
    exit(code)
}

fn make(folder: &Path) -> i32 {
    match fs::create_dir(folder) {
        Ok(()) => 0,
        Err(error) => error.raw_os_error().unwrap_or(BROKEN),
    }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn act_as_agent(listener: &mpsc::Receiver<OwnedFd>, answer: &str) {
    let listener = listener.recv().unwrap();
    let told = seccomp::receive(listener.as_fd()).unwrap();
    assert_eq!(told.pid, std::process::id());
    assert!(told.number > 0 && told.arch != 0, "{told:?}");
    let answer = match answer {
        "error" => Answer::Error(33),
        "go" => Answer::Continue,
        "value" => Answer::Value(0),
        _ => panic!("what is {answer:?}?"),
    };
    seccomp::answer(listener.as_fd(), told.id, answer).unwrap();
}

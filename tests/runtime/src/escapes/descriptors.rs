//! Descriptors of the host that a container might find open, and working directories that are none of its own.

use harness::{Test, tests};

use crate::bundle::{Bundle, SECRET};
use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    tests![
        working_directory_at_run_is_no_descriptor_of_the_host,
        working_directory_at_exec_is_no_descriptor_of_the_host,
        working_directory_linked_to_a_descriptor_is_refused_or_inside,
        working_directory_linked_to_the_host_stays_inside,
        working_directory_at_exec_linked_to_the_host_stays_inside,
        working_directory_with_dots_stays_inside,
        only_the_standard_streams_are_open_at_run,
        only_the_standard_streams_are_open_at_exec,
        descriptors_of_the_caller_do_not_leak,
        descriptors_of_the_caller_do_not_leak_at_exec,
    ]
}

/// Ten times up is beyond any folder of the host.
const UP: &str = "../../../../../../../../../../..";

/// Reads the secret by a path relative to the working directory: from any folder of the host it is found.
fn grope(bundle: &Bundle) -> String {
    format!("cat ./{UP}{}; ls -a .", bundle.secret())
}

/// The attempt works where it can work: from a folder of the host.
fn control(bundle: &Bundle) {
    let line = grope(bundle);
    let out = std::process::Command::new("sh")
        .current_dir("/tmp")
        .args(["-c", &line])
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&out.stdout).contains(SECRET),
        "the attempt is no good: {line}"
    );
}

/// CVE-2024-21626, at run: the working directory is set while the runtime has a folder of the host open.
fn working_directory_at_run_is_no_descriptor_of_the_host(world: &World) {
    let mut bundle = world.bundle();
    control(&bundle);
    let line = grope(&bundle);
    bundle.shell(&line);
    for number in 3..=50 {
        bundle.set("/process/cwd", format!("/proc/self/fd/{number}"));
        let out = bundle.run();
        assert!(!out.out.contains(SECRET), "descriptor {number} leads to the host");
    }
}

/// CVE-2024-21626, at exec.
fn working_directory_at_exec_is_no_descriptor_of_the_host(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let line = grope(&bundle);
    for number in 3..=50 {
        let cwd = format!("/proc/self/fd/{number}");
        let out = bundle.exec_with(&["--cwd", &cwd], &["sh", "-c", &line]);
        assert!(!out.out.contains(SECRET), "descriptor {number} leads to the host");
    }
}

/// CVE-2024-21626 by an image: `WORKDIR` is an innocent name that the rootfs links to a descriptor.
fn working_directory_linked_to_a_descriptor_is_refused_or_inside(world: &World) {
    let mut bundle = world.bundle();
    let line = grope(&bundle);
    bundle.shell(&line).set("/process/cwd", "/app");
    for number in 3..=20 {
        bundle.link(&format!("/proc/self/fd/{number}"), "/app");
        let out = bundle.run();
        assert!(!out.out.contains(SECRET), "descriptor {number} leads to the host");
    }
}

fn working_directory_linked_to_the_host_stays_inside(world: &World) {
    let mut bundle = world.bundle();
    let line = grope(&bundle);
    bundle.shell(&line).set("/process/cwd", "/app");
    let links = [
        bundle.host(""),
        format!("{UP}/{}", bundle.host("")),
        "/proc/1/root".to_owned(),
        "/proc/1/cwd".to_owned(),
    ];
    for target in links {
        bundle.link(&target, "/app");
        let out = bundle.run();
        assert!(!out.out.contains(SECRET), "{target} leads to the host");
        bundle.host_is_untouched();
    }
}

fn working_directory_at_exec_linked_to_the_host_stays_inside(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let line = grope(&bundle);
    let links = [
        bundle.host(""),
        format!("{UP}/{}", bundle.host("")),
        "/proc/self/cwd".to_owned(),
    ];
    for target in links {
        bundle.inside(&format!("rm -rf /app; ln -s {target} /app")).ok();
        let out = bundle.exec_with(&["--cwd", "/app"], &["sh", "-c", &line]);
        assert!(!out.out.contains(SECRET), "{target} leads to the host");
    }
}

fn working_directory_with_dots_stays_inside(world: &World) {
    let mut bundle = world.bundle();
    let line = grope(&bundle);
    bundle.shell(&line);
    for cwd in ["/../../../../../../..", "/proc/self/root/../../..", "/tmp/../../../.."] {
        bundle.set("/process/cwd", cwd);
        let out = bundle.run();
        assert!(!out.out.contains(SECRET), "{cwd} leads to the host");
    }
}

#[track_caller]
fn only_standard(listing: &str) {
    let numbers: Vec<&str> = listing.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["0", "1", "2"], "open in the container: {listing}");
}

fn only_the_standard_streams_are_open_at_run(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["probe", "fds"]);
    only_standard(&bundle.run().ok());
    // What `create` keeps open until `start` must be gone as well.
    bundle.create().ok();
    bundle.start().ok();
    bundle.wait_for("stopped");
    only_standard(&bundle.printed());
}

fn only_the_standard_streams_are_open_at_exec(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    only_standard(&bundle.exec(&["probe", "fds"]).ok());
}

/// Folders and files of the host that the caller has open without close-on-exec.
fn descriptors_of_the_caller_do_not_leak(world: &World) {
    let mut bundle = world.bundle();
    bundle.args(&["probe", "fds"]);
    let before = format!("exec 3<{0} 7<{0} 9<>{1} 23</", bundle.host(""), bundle.secret());
    only_standard(&bundle.run_call_after(&before, &[]).output().ok());
}

fn descriptors_of_the_caller_do_not_leak_at_exec(world: &World) {
    let mut bundle = world.bundle();
    bundle.sleeper();
    let before = format!("exec 3<{0} 7<{0} 9<>{1} 23</", bundle.host(""), bundle.secret());
    let call = bundle.call_after(&before, &["exec", &bundle.id, "probe", "fds"]);
    only_standard(&call.output().ok());
}

//! What the tests of a suite share: one daemon with a busybox image, and names that do not collide.

use std::ops::Deref;

use harness::daemon::{Cli, Daemon, Options};
use harness::image::Image;
use harness::kernel::Process;

/// One daemon for many tests.
pub struct World {
    pub daemon: Daemon,
}

/// Two at a time per core: most of a test's time is waiting.
pub fn jobs() -> usize {
    let asked = std::env::var("IECHOR_TEST_JOBS")
        .ok()
        .and_then(|text| text.parse().ok());
    asked.unwrap_or_else(|| 2 * std::thread::available_parallelism().map_or(2, usize::from))
}

impl World {
    pub fn start(cli: Cli) -> World {
        let mut daemon = Daemon::foreign().unwrap_or_else(|| Daemon::start(Options::default()));
        daemon.cli = cli;
        daemon.load(&Image::busybox(), "busybox:latest");
        World { daemon }
    }

    pub fn finish(self) {
        self.daemon.finish();
    }

    /// A name for this test's container; it is removed when the value is dropped.
    pub fn name(&self, what: &str) -> Named<'_> {
        Named {
            daemon: &self.daemon,
            name: format!("{what}-{}", harness::tools::tag()),
        }
    }

    /// A container that sleeps, made with these flags.
    #[track_caller]
    pub fn sleeper(&self, flags: &[&str]) -> (Named<'_>, Process) {
        let name = self.name("sleeper");
        let process = self.daemon.sleeper(&name, flags);
        (name, process)
    }

    /// Output of a shell line in a new container made with these flags.
    #[track_caller]
    pub fn shell(&self, flags: &[&str], line: &str) -> String {
        self.run(&[&["run", "--rm"], flags, &["busybox", "sh", "-c", line]].concat())
            .ok()
    }

    /// The host's address on the container's network.
    #[track_caller]
    pub fn gateway_of(&self, container: &str) -> String {
        let network = self.inspect(container)["NetworkSettings"]["Networks"]["bridge"].clone();
        network["Gateway"].as_str().expect("a gateway").to_owned()
    }

    /// Output of a shell line in a running container.
    #[track_caller]
    pub fn inside(&self, container: &str, line: &str) -> String {
        self.run(&["exec", container, "sh", "-c", line]).ok()
    }
}

impl Deref for World {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

/// A container's name, for as long as a test needs it.
pub struct Named<'a> {
    daemon: &'a Daemon,
    name: String,
}

impl Deref for Named<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        let target = format!("/containers/{}?force=1&v=1", self.name);
        let _ = self.daemon.server.try_send("DELETE", &target, &[], &[]);
    }
}

//! `make demo`: the six steps that the platform is explained with, on an image made here and on one pulled from a
//! real registry, with a private daemon of which nothing stays.
//!
//! On a terminal it leaves you at the prompt of `iechor run -i -t ubuntu /bin/bash`; without one it runs a command
//! and shows its output.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)]

use std::io::IsTerminal;
use std::process::Command;

use tests_harness::image::Image;
use tests_harness::registry::Registry;
use tests_harness::tools::{Folder, binary};
use tests_harness::{Daemon, Options};

/// What stands in for a person at the prompt.
const LINES: &str = "echo \"I am $(id -un), process $$, on $(uname -n)\"
echo written > /a-file && ls -l /a-file
ip -4 addr show eth0 | grep inet; ip route
head -n 3 /etc/resolv.conf
exit 3
";

fn main() {
    let registry = Registry::start();
    Daemon::stock(&registry);
    let daemon = Daemon::start(Options {
        default_registry: Some(registry.address.clone()),
        ..Options::default()
    });
    let demo = Demo { daemon };
    say(&format!("A private iechord runs; its socket is {}", demo.daemon.host()));

    say("An image that was made here and never was in a registry");
    let folder = Folder::new("demo");
    std::fs::write(
        folder.at("image.tar"),
        Image::ubuntu().docker_archive("local/ubuntu:latest"),
    )
    .unwrap();
    demo.iechor(&["load", "-i", &folder.at("image.tar")]);
    demo.six_steps("local/ubuntu", false);
    // Its layers are those of the next image, which is to come over the network.
    demo.iechor(&["rmi", "local/ubuntu"]);

    say(&format!(
        "An image from a real registry (docker-registry on {}), which is the default one here",
        registry.address
    ));
    let at_the_prompt = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    demo.six_steps("ubuntu", at_the_prompt);

    demo.iechor(&["rmi", "ubuntu"]);
    demo.daemon.finish();
    say("The daemon has ended; no mount, namespace, interface, nft rule, cgroup, folder or process of it is left.");
}

struct Demo {
    daemon: Daemon,
}

impl Demo {
    /// Pull if absent, create, writable layer, network, start attached, exit; then start again and remove.
    fn six_steps(&self, image: &str, at_the_prompt: bool) {
        let name = "demo";
        if at_the_prompt {
            say("You are in the container now. Look around; `exit` leaves it.");
            self.iechor(&["run", "-i", "-t", "--name", name, image, "/bin/bash"]);
        } else {
            self.with_input(&["run", "-i", "--name", name, image, "/bin/bash"], LINES);
        }
        say("`exit` has stopped it, and not removed it:");
        self.iechor(&["ps", "-a"]);
        say("It can be started again, with what was written:");
        self.with_input(&["start", "-a", "-i", name], "ls -l /a-file; exit\n");
        self.iechor(&["rm", name]);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        println!("$ iechor {}", arguments.join(" "));
        let mut command = Command::new(binary("iechor"));
        command.args(arguments).env("IECHOR_HOST", self.daemon.host());
        command
    }

    fn iechor(&self, arguments: &[&str]) {
        let status = self.command(arguments).status().expect("iechor runs");
        // What the person at the prompt exits with is theirs.
        if arguments[0] != "run" {
            assert!(status.success(), "iechor {} ended with {status}", arguments.join(" "));
        }
    }

    fn with_input(&self, arguments: &[&str], lines: &str) {
        use std::io::Write;
        let mut child = self
            .command(arguments)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("iechor runs");
        child
            .stdin
            .take()
            .expect("a pipe")
            .write_all(lines.as_bytes())
            .expect("input for the container");
        let status = child.wait().expect("iechor ends");
        println!("(exit code {})", status.code().unwrap_or(-1));
        let expected = if lines == LINES { 3 } else { 0 };
        assert_eq!(
            status.code(),
            Some(expected),
            "the exit code of the container's shell is ours"
        );
    }
}

fn say(text: &str) {
    println!("\n== {text}");
}

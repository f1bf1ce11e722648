//! Every command: where it stands in the tree, what it is called besides, and the file that does it.
//!
//! A command's arguments are built only when it is the one that was asked for: start-up must not pay for a hundred
//! flags of `run` when the user wants `ps`.

pub mod completion;
pub mod container;
pub mod image;
pub mod inspect;
pub mod network;
pub mod system;
pub mod version;
pub mod volume;

use std::pin::Pin;

use clap::{ArgMatches, Command};

use crate::cli::Cli;
use crate::failure::{Failure, Result};

type Running<'a> = Pin<Box<dyn Future<Output = Result> + 'a>>;

/// One command.
pub struct Entry {
    /// The management command it belongs to; empty for commands of their own.
    pub group: &'static str,
    pub name: &'static str,
    /// Other names inside of the group.
    pub aliases: &'static [&'static str],
    /// The name at the top level, if it has one.
    pub top: Option<&'static str>,
    pub about: &'static str,
    /// Among the commands that everybody uses.
    pub common: bool,
    arguments: fn(Command) -> Command,
    run: for<'a> fn(&'a Cli, &ArgMatches) -> Running<'a>,
}

/// Groups and what they are about.
pub const GROUPS: &[(&str, &str)] = &[
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("network", "Manage networks"),
    ("system", "Manage the daemon and its disk"),
    ("volume", "Manage volumes"),
];

macro_rules! entry {
    ($group:literal, $name:literal, $aliases:expr, $top:expr, $common:literal, $($module:ident)::+, $about:literal) => {{
        use self::$($module)::+ as module;
        Entry {
            group: $group,
            name: $name,
            aliases: &$aliases,
            top: $top,
            about: $about,
            common: $common,
            arguments: |command| <module::Args as clap::Args>::augment_args(command),
            run: |cli, matches| {
                let args = <module::Args as clap::FromArgMatches>::from_arg_matches(matches);
                Box::pin(async move {
                    match args {
                        Ok(args) => module::run(cli, args).await,
                        Err(error) => Err(Failure::new(error.to_string())),
                    }
                })
            },
        }
    }};
}

pub static COMMANDS: &[Entry] = &[
    entry!(
        "container",
        "run",
        [],
        Some("run"),
        true,
        container::run,
        "Create and run a new container from an image"
    ),
    entry!(
        "container",
        "exec",
        [],
        Some("exec"),
        true,
        container::exec,
        "Execute a command in a running container"
    ),
    entry!(
        "container",
        "ls",
        ["ps", "list"],
        Some("ps"),
        true,
        container::ls,
        "List containers"
    ),
    entry!(
        "image",
        "pull",
        [],
        Some("pull"),
        true,
        image::pull,
        "Download an image from a registry"
    ),
    entry!("image", "ls", ["list"], Some("images"), true, image::ls, "List images"),
    entry!(
        "",
        "version",
        [],
        Some("version"),
        true,
        version,
        "Show the version information of client and daemon"
    ),
    entry!(
        "system",
        "info",
        [],
        Some("info"),
        true,
        system::info,
        "Display information about the daemon"
    ),
    entry!(
        "container",
        "attach",
        [],
        Some("attach"),
        false,
        container::attach,
        "Attach your terminal to a running container"
    ),
    entry!(
        "container",
        "create",
        [],
        Some("create"),
        false,
        container::create,
        "Create a new container"
    ),
    entry!(
        "container",
        "export",
        [],
        Some("export"),
        false,
        container::export,
        "Write a container's filesystem as a tar archive"
    ),
    entry!(
        "container",
        "inspect",
        [],
        None,
        false,
        container::inspect,
        "Display detailed information on containers"
    ),
    entry!(
        "container",
        "kill",
        [],
        Some("kill"),
        false,
        container::kill,
        "Kill running containers"
    ),
    entry!(
        "container",
        "logs",
        [],
        Some("logs"),
        false,
        container::logs,
        "Fetch the logs of a container"
    ),
    entry!(
        "container",
        "pause",
        [],
        Some("pause"),
        false,
        container::pause,
        "Pause all processes within containers"
    ),
    entry!(
        "container",
        "port",
        [],
        Some("port"),
        false,
        container::port,
        "List port mappings of a container"
    ),
    entry!(
        "container",
        "prune",
        [],
        None,
        false,
        container::prune,
        "Remove all stopped containers"
    ),
    entry!(
        "container",
        "rename",
        [],
        Some("rename"),
        false,
        container::rename,
        "Rename a container"
    ),
    entry!(
        "container",
        "restart",
        [],
        Some("restart"),
        false,
        container::restart,
        "Restart containers"
    ),
    entry!(
        "container",
        "rm",
        ["remove"],
        Some("rm"),
        false,
        container::rm,
        "Remove containers"
    ),
    entry!(
        "container",
        "start",
        [],
        Some("start"),
        false,
        container::start,
        "Start stopped containers"
    ),
    entry!(
        "container",
        "stop",
        [],
        Some("stop"),
        false,
        container::stop,
        "Stop running containers"
    ),
    entry!(
        "container",
        "top",
        [],
        Some("top"),
        false,
        container::top,
        "Display the processes of a container"
    ),
    entry!(
        "container",
        "unpause",
        [],
        Some("unpause"),
        false,
        container::unpause,
        "Unpause all processes within containers"
    ),
    entry!(
        "container",
        "wait",
        [],
        Some("wait"),
        false,
        container::wait,
        "Wait until containers stop, then print their exit codes"
    ),
    entry!(
        "image",
        "history",
        [],
        Some("history"),
        false,
        image::history,
        "Show the history of an image"
    ),
    entry!(
        "image",
        "import",
        [],
        Some("import"),
        false,
        image::import,
        "Make an image from the contents of a tarball"
    ),
    entry!(
        "image",
        "inspect",
        [],
        None,
        false,
        image::inspect,
        "Display detailed information on images"
    ),
    entry!(
        "image",
        "load",
        [],
        Some("load"),
        false,
        image::load,
        "Load images from a tar archive or stdin"
    ),
    entry!("image", "prune", [], None, false, image::prune, "Remove unused images"),
    entry!(
        "image",
        "rm",
        ["remove"],
        Some("rmi"),
        false,
        image::rm,
        "Remove images"
    ),
    entry!(
        "image",
        "save",
        [],
        Some("save"),
        false,
        image::save,
        "Write images to a tar archive"
    ),
    entry!(
        "image",
        "tag",
        [],
        Some("tag"),
        false,
        image::tag,
        "Give an image another name"
    ),
    entry!(
        "network",
        "inspect",
        [],
        None,
        false,
        network::inspect,
        "Display detailed information on networks"
    ),
    entry!("network", "ls", ["list"], None, false, network::ls, "List networks"),
    entry!("system", "df", [], None, false, system::df, "Show disk usage"),
    entry!(
        "system",
        "dial-stdio",
        [],
        None,
        false,
        system::dial_stdio,
        "Connect stdin and stdout to the daemon"
    ),
    entry!(
        "system",
        "events",
        [],
        Some("events"),
        false,
        system::events,
        "Show events as they happen"
    ),
    entry!("system", "prune", [], None, false, system::prune, "Remove unused data"),
    entry!("volume", "create", [], None, false, volume::create, "Create a volume"),
    entry!(
        "volume",
        "inspect",
        [],
        None,
        false,
        volume::inspect,
        "Display detailed information on volumes"
    ),
    entry!("volume", "ls", ["list"], None, false, volume::ls, "List volumes"),
    entry!(
        "volume",
        "prune",
        [],
        None,
        false,
        volume::prune,
        "Remove unused volumes"
    ),
    entry!("volume", "rm", ["remove"], None, false, volume::rm, "Remove volumes"),
    entry!(
        "",
        "inspect",
        [],
        Some("inspect"),
        false,
        inspect,
        "Display low-level information on any object"
    ),
    entry!(
        "",
        "completion",
        [],
        Some("completion"),
        false,
        completion,
        "Print the completion script for a shell"
    ),
];

impl Entry {
    /// The command with its arguments.
    pub fn command(&self, name: &'static str) -> Command {
        (self.arguments)(Command::new(name).about(self.about))
    }

    pub fn run<'a>(&self, cli: &'a Cli, matches: &ArgMatches) -> Running<'a> {
        (self.run)(cli, matches)
    }

    /// Everything the command is called, with the shortest name first: for its help.
    pub fn spellings(&self) -> Vec<String> {
        let mut names: Vec<String> = self.top.iter().map(|top| format!("iechor {top}")).collect();
        if !self.group.is_empty() {
            names.push(format!("iechor {} {}", self.group, self.name));
            names.extend(
                self.aliases
                    .iter()
                    .map(|alias| format!("iechor {} {alias}", self.group)),
            );
        }
        names
    }
}

/// The command of these words, and how many of them name it.
pub fn find(words: &[&str]) -> Option<(&'static Entry, usize)> {
    let first = words.first()?;
    if let Some(entry) = COMMANDS.iter().find(|entry| entry.top == Some(*first)) {
        return Some((entry, 1));
    }
    let second = words.get(1)?;
    let entry = COMMANDS
        .iter()
        .find(|entry| entry.group == *first && (entry.name == *second || entry.aliases.contains(second)))?;
    Some((entry, 2))
}

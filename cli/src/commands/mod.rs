//! Every command: where it stands in the tree, what it is called besides, and the file that does it.
//!
//! A command's arguments are built only when it is the one that was asked for: start-up must not pay for a hundred
//! flags of `run` when the user wants `ps`.

pub mod completion;
pub mod container;
pub mod context;
pub mod image;
pub mod inspect;
pub mod login;
pub mod logout;
pub mod man;
pub mod network;
pub mod search;
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
    ("context", "Manage contexts: daemons by name"),
    ("image", "Manage images"),
    ("network", "Manage networks"),
    ("system", "Manage the daemon and its disk"),
    ("volume", "Manage volumes"),
];

macro_rules! commands {
    ($($($module:ident)::+ $group:literal $name:literal [$($alias:literal),*] $top:expr, $common:literal $about:literal;)*) => {
        pub static COMMANDS: &[Entry] = &[$({
            use self::$($module)::+ as module;
            Entry {
                group: $group,
                name: $name,
                aliases: &[$($alias),*],
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
        }),*];
    };
}

// File, group, name, aliases, name at the top level, common, what it is about.
commands! {
    container::run "container" "run" [] Some("run"), true "Create and run a new container from an image";
    container::exec "container" "exec" [] Some("exec"), true "Execute a command in a running container";
    container::ls "container" "ls" ["ps", "list"] Some("ps"), true "List containers";
    image::pull "image" "pull" [] Some("pull"), true "Download an image from a registry";
    image::ls "image" "ls" ["list"] Some("images"), true "List images";
    version "" "version" [] Some("version"), true "Show the version information of client and daemon";
    system::info "system" "info" [] Some("info"), true "Display information about the daemon";
    container::attach "container" "attach" [] Some("attach"), false "Attach your terminal to a running container";
    container::commit "container" "commit" [] Some("commit"), false "Make an image from a container's changes";
    container::cp "container" "cp" ["copy"] Some("cp"), false "Copy files between a container and the local file system";
    container::create "container" "create" [] Some("create"), false "Create a new container";
    container::diff "container" "diff" [] Some("diff"), false "List files that a container changed";
    container::export "container" "export" [] Some("export"), false "Write a container's filesystem as a tar archive";
    container::inspect "container" "inspect" [] None, false "Display detailed information on containers";
    container::kill "container" "kill" [] Some("kill"), false "Kill running containers";
    container::logs "container" "logs" [] Some("logs"), false "Fetch the logs of a container";
    container::pause "container" "pause" [] Some("pause"), false "Pause all processes within containers";
    container::port "container" "port" [] Some("port"), false "List port mappings of a container";
    container::prune "container" "prune" [] None, false "Remove all stopped containers";
    container::rename "container" "rename" [] Some("rename"), false "Rename a container";
    container::restart "container" "restart" [] Some("restart"), false "Restart containers";
    container::rm "container" "rm" ["remove"] Some("rm"), false "Remove containers";
    container::start "container" "start" [] Some("start"), false "Start stopped containers";
    container::stats "container" "stats" [] Some("stats"), false "Show what containers use, as it changes";
    container::stop "container" "stop" [] Some("stop"), false "Stop running containers";
    container::top "container" "top" [] Some("top"), false "Display the processes of a container";
    container::unpause "container" "unpause" [] Some("unpause"), false "Unpause all processes within containers";
    container::update "container" "update" [] Some("update"), false "Change limits and restart policy of containers";
    container::wait "container" "wait" [] Some("wait"), false "Wait until containers stop, then print their exit codes";
    context::create "context" "create" [] None, false "Create a context";
    context::export "context" "export" [] None, false "Write a context to an archive";
    context::import "context" "import" [] None, false "Make a context from an archive";
    context::inspect "context" "inspect" [] None, false "Display detailed information on contexts";
    context::ls "context" "ls" ["list"] None, false "List contexts";
    context::rm "context" "rm" ["remove"] None, false "Remove contexts";
    context::show "context" "show" [] None, false "Print the name of the current context";
    context::update "context" "update" [] None, false "Change a context";
    context::use_ "context" "use" [] None, false "Make a context the current one";
    image::history "image" "history" [] Some("history"), false "Show the history of an image";
    image::import "image" "import" [] Some("import"), false "Make an image from the contents of a tarball";
    image::inspect "image" "inspect" [] None, false "Display detailed information on images";
    image::load "image" "load" [] Some("load"), false "Load images from a tar archive or stdin";
    image::prune "image" "prune" [] None, false "Remove unused images";
    image::rm "image" "rm" ["remove"] Some("rmi"), false "Remove images";
    image::save "image" "save" [] Some("save"), false "Write images to a tar archive";
    image::tag "image" "tag" [] Some("tag"), false "Give an image another name";
    network::inspect "network" "inspect" [] None, false "Display detailed information on networks";
    network::ls "network" "ls" ["list"] None, false "List networks";
    system::certs "system" "certs" [] None, false "Make certificates for a daemon on TCP and its clients";
    system::check "system" "check" [] None, false "Compare the daemon's records with the machine";
    system::df "system" "df" [] None, false "Show disk usage";
    system::dial_stdio "system" "dial-stdio" [] None, false "Connect stdin and stdout to the daemon";
    system::events "system" "events" [] Some("events"), false "Show events as they happen";
    system::prune "system" "prune" [] None, false "Remove unused data";
    volume::create "volume" "create" [] None, false "Create a volume";
    volume::duplicate "volume" "clone" [] None, false "Make a volume like another";
    volume::export "volume" "export" [] None, false "Write a volume's content as a tar archive";
    volume::import "volume" "import" [] None, false "Make a volume from the contents of a tarball";
    volume::rename "volume" "rename" [] None, false "Give a volume another name";
    volume::inspect "volume" "inspect" [] None, false "Display detailed information on volumes";
    volume::ls "volume" "ls" ["list"] None, false "List volumes";
    volume::prune "volume" "prune" [] None, false "Remove unused volumes";
    volume::rm "volume" "rm" ["remove"] None, false "Remove volumes";
    login "" "login" [] Some("login"), false "Log in to a registry";
    logout "" "logout" [] Some("logout"), false "Log out from a registry";
    search "" "search" [] Some("search"), false "Search a registry for images";
    inspect "" "inspect" [] Some("inspect"), false "Display low-level information on any object";
    man "" "man" [] Some("man"), false "Write the manual pages";
    completion "" "completion" [] Some("completion"), false "Print the completion script for a shell";
}

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

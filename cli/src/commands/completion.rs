//! `completion`: scripts for bash, zsh and fish.

use clap::Command;
use clap_complete::Shell;

use super::{COMMANDS, GROUPS};
use crate::cli::Cli;
use crate::failure::{Result, fail};
use crate::output;
use crate::parse;

/// Print the completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "  # For this shell
  source <(iechor completion bash)")]
pub struct Args {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", required = true)]
    shell: String,
}

pub async fn run(_: &Cli, args: Args) -> Result {
    let shell = match args.shell.as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        other => fail!("there are no completions for {other:?}: use bash, zsh or fish"),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut tree(), "iechor", &mut script);
    output::print_bytes(&script);
    Ok(())
}

/// The whole command tree, which is built for this purpose only.
fn tree() -> Command {
    let plain = |command: Command| command.disable_help_flag(true).disable_help_subcommand(true);
    let mut root = plain(parse::globals(Command::new("iechor")).disable_version_flag(true));
    for (group, about) in GROUPS {
        let members = COMMANDS
            .iter()
            .filter(|entry| entry.group == *group)
            .map(|entry| plain(entry.command(entry.name)));
        root = root.subcommand(plain(Command::new(*group).about(*about).subcommands(members)));
    }
    root.subcommands(
        COMMANDS
            .iter()
            .filter_map(|entry| entry.top.map(|top| plain(entry.command(top)))),
    )
}

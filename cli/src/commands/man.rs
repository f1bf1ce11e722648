//! `man`: the manual, a page for each command.

use std::path::PathBuf;

use clap::Command;

use super::{COMMANDS, Entry};
use crate::cli::Cli;
use crate::failure::{Failure, Result};
use crate::output;

/// Write the manual pages.
#[derive(Debug, clap::Args)]
#[command(after_help = "  # For everybody on this machine
  iechor man /usr/local/share/man/man1")]
pub struct Args {
    /// Where to write them
    #[arg(value_name = "FOLDER", required = true)]
    folder: PathBuf,
}

pub async fn run(_: &Cli, args: Args) -> Result {
    std::fs::create_dir_all(&args.folder)
        .map_err(|error| Failure::new(format!("cannot make {}: {error}", args.folder.display())))?;
    let mut written = 0;
    for (name, page) in pages()? {
        let path = args.folder.join(format!("{name}.1"));
        std::fs::write(&path, page)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))?;
        written += 1;
    }
    output::line(format!("{written} pages in {}", args.folder.display()));
    Ok(())
}

fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    let mut pages = vec![page("iechor".to_owned(), crate::help::tree())?];
    for entry in COMMANDS {
        let name = match entry.group {
            "" => format!("iechor-{}", entry.name),
            group => format!("iechor-{group}-{}", entry.name),
        };
        pages.push(page(name, command(entry))?);
    }
    Ok(pages)
}

fn command(entry: &Entry) -> Command {
    let spellings = entry.spellings();
    entry.command(entry.name).disable_help_flag(true).long_about(format!(
        "{}.\n\nAlso: {}",
        entry.about,
        spellings.join(", ")
    ))
}

fn page(name: String, command: Command) -> Result<(String, Vec<u8>)> {
    let title = name.replace('-', " ");
    let mut text = Vec::new();
    clap_mangen::Man::new(command.name(name.clone()).bin_name(title))
        .manual("iEchor")
        .source(concat!("iechor ", env!("CARGO_PKG_VERSION")))
        .render(&mut text)?;
    Ok((name, text))
}

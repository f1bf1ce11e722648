//! `top`: processes of a container.

use crate::cli::Cli;
use crate::failure::{Result, fail};
use crate::output;
use crate::table;

/// Display the processes of a container.
#[derive(Debug, clap::Args)]
#[command(override_usage = "CONTAINER [PS OPTIONS]")]
pub struct Args {
    /// The container, and options for `ps`.
    #[arg(value_name = "CONTAINER [PS OPTIONS]", required = true, trailing_var_arg = true)]
    words: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let Some((container, options)) = args.words.split_first() else {
        fail!("a container is needed")
    };
    let options = options.join(" ");
    let top = cli.client()?.container_top(container, Some(&options)).await?;
    let mut text = top.titles.join("\t") + "\n";
    for process in &top.processes {
        text.push_str(&(process.join("\t") + "\n"));
    }
    // Wider than docker's other tables.
    output::print(&table::align_to(&text, 20));
    Ok(())
}

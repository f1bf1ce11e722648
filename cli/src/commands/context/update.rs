//! `context update`.

use super::Given;
use crate::cli::Cli;
use crate::failure::Result;
use crate::output;

/// Change a context.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Description of the context
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Endpoint: host=…,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=BOOL, or from=CONTEXT
    #[arg(long, value_name = "ENDPOINT")]
    docker: Option<String>,
    #[arg(value_name = "CONTEXT", required = true)]
    name: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let contexts = cli.contexts()?;
    let mut context = contexts.get(&args.name)?;
    if let Some(description) = args.description {
        context.metadata.description = description;
    }
    if let Some(given) = &args.docker {
        let files = Given::parse(given)?.apply(contexts, &mut context)?;
        contexts.put_tls(&args.name, &files)?;
    }
    contexts.put(&context)?;
    output::line(&args.name);
    output::warn(format!("Successfully updated context {:?}", args.name));
    Ok(())
}

//! `context create`.

use super::{Given, read_files, refuse_existing};
use crate::cli::Cli;
use crate::contexts::{Context, DEFAULT};
use crate::failure::{Result, fail};
use crate::output;

/// Create a context.
#[derive(Debug, clap::Args)]
#[command(after_help = "  # A daemon that is reached by ssh
  iechor context create box --docker host=ssh://me@box

  # One with TLS
  iechor context create lab --docker host=tcp://lab:2376,ca=ca.pem,cert=cert.pem,key=key.pem")]
pub struct Args {
    /// Description of the context
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Endpoint: host=…,ca=FILE,cert=FILE,key=FILE,skip-tls-verify=BOOL, or from=CONTEXT
    #[arg(long, value_name = "ENDPOINT")]
    docker: Option<String>,
    /// Take everything of another context
    #[arg(long, value_name = "CONTEXT")]
    from: Option<String>,
    #[arg(value_name = "CONTEXT", required = true)]
    name: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let contexts = cli.contexts()?;
    refuse_existing(contexts, &args.name)?;
    let mut context = Context::default();
    let mut files = Vec::new();
    match (args.from.as_deref(), args.docker.as_deref()) {
        // What the flags and the environment say, as it is now.
        (None | Some(DEFAULT), None) => context.endpoints.docker.host = cli.default_host()?,
        (Some(other), None) => {
            context = contexts.get(other)?;
            files = read_files(contexts, other)?;
        }
        (None, Some(given)) => {
            let given = Given::parse(given)?;
            if given.host.is_none() && given.from.is_none() {
                fail!("an endpoint needs host=… or from=CONTEXT");
            }
            files = given.apply(contexts, &mut context)?;
        }
        (Some(_), Some(_)) => fail!("cannot use --docker flag when --from is set"),
    }
    context.name.clone_from(&args.name);
    if let Some(description) = args.description {
        context.metadata.description = description;
    }
    contexts.put_tls(&args.name, &files)?;
    contexts.put(&context)?;
    output::line(&args.name);
    output::warn(format!("Successfully created context {:?}", args.name));
    Ok(())
}

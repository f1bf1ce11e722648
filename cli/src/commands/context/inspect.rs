//! `context inspect`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::Cli;
use crate::contexts::DEFAULT;
use crate::failure::Result;
use crate::inspected;

/// Display detailed information on contexts.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// json, or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// The current one, if none is named
    #[arg(value_name = "CONTEXT")]
    names: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let names = match args.names.is_empty() {
        true => vec![cli.context()?],
        false => args.names,
    };
    let fetch = async |name: String| Ok(serde_json::to_vec(&about(cli, &name)?)?.into());
    inspected::inspect(&names, args.format.as_deref(), fetch).await
}

fn about(cli: &Cli, name: &str) -> Result<Value> {
    if name == DEFAULT {
        return Ok(json!({
            "Name": DEFAULT,
            "Metadata": {},
            "Endpoints": { "docker": { "Host": cli.default_host()?, "SkipTLSVerify": false } },
            "TLSMaterial": {},
            "Storage": { "MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>" },
        }));
    }
    let contexts = cli.contexts()?;
    let context = contexts.get(name)?;
    let files: Vec<String> = contexts.tls_files(name).into_iter().map(|(file, _)| file).collect();
    let material: BTreeMap<&str, Vec<String>> = match files.is_empty() {
        true => BTreeMap::new(),
        false => BTreeMap::from([("docker", files)]),
    };
    let mut about = serde_json::to_value(context)?;
    about["TLSMaterial"] = json!(material);
    about["Storage"] = json!({
        "MetadataPath": contexts.meta_folder(name),
        "TLSPath": contexts.tls_folder(name),
    });
    Ok(about)
}

//! `inspect`: any object by its name; containers first, then images, networks and volumes.

use bytes::Bytes;
use client::Client;

use crate::cli::Cli;
use crate::failure::{Failure, Result, fail};
use crate::inspected;

/// Display low-level information on any object.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// json, or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show file sizes of containers as well
    #[arg(short, long)]
    size: bool,
    /// Only this kind of object: container, image, network or volume
    #[arg(long = "type", value_name = "KIND")]
    kind: Option<String>,
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,
}

const KINDS: &[&str] = &["container", "image", "network", "volume"];

pub async fn run(cli: &Cli, args: Args) -> Result {
    let kinds = match args.kind.as_deref() {
        None => KINDS,
        Some("") => fail!("type is empty: must be one of \"container\", \"image\", \"network\", \"volume\""),
        Some(kind) => match KINDS.iter().position(|known| *known == kind) {
            Some(at) => &KINDS[at..=at],
            None => fail!("unknown type: {kind:?}: must be one of \"container\", \"image\", \"network\", \"volume\""),
        },
    };
    let client = cli.client()?;
    let fetch = async |name: String| find(client, &name, kinds, args.size).await;
    inspected::inspect(&args.names, args.format.as_deref(), fetch).await
}

async fn find(client: &Client, name: &str, kinds: &[&str], size: bool) -> Result<Bytes> {
    for kind in kinds {
        let found = match *kind {
            "container" => client.inspect_container_raw(name, size).await,
            "image" => client.inspect_image_raw(name, None).await,
            "network" => client.inspect_network_raw(name, false).await,
            _ => client.inspect_volume_raw(name).await,
        };
        match found {
            Ok(raw) => return Ok(raw),
            // A name that one kind cannot have may be another's.
            Err(error) if kinds.len() == 1 => return Err(error.into()),
            Err(error)
                if error.is_not_found()
                    || error
                        .status()
                        .is_some_and(|status| status == client::StatusCode::BAD_REQUEST) => {}
            Err(client::Error::Name(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(format!("Error: No such object: {name}")))
}

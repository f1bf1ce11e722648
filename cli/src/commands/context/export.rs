//! `context export`: a context as a tar archive, in docker's form.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use super::read_files;
use crate::cli::Cli;
use crate::contexts::{Contexts, DEFAULT};
use crate::failure::{Failure, Result, fail};
use crate::{output, terminal};

/// Write a context, keys included, to an archive.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "CONTEXT", required = true)]
    name: String,
    /// CONTEXT.iechorcontext, if none is named; - is standard output
    #[arg(value_name = "FILE")]
    file: Option<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    if args.name == DEFAULT {
        fail!("the default context cannot be exported: it is no more than flags and environment");
    }
    let archive = archive(cli.contexts()?, &args.name)?;
    let file = args.file.unwrap_or_else(|| format!("{}.iechorcontext", args.name));
    if file == "-" {
        if terminal::stdout_is_terminal() {
            fail!("cowardly refusing to export to a terminal, specify a file path");
        }
        output::print_bytes(&archive);
        return Ok(());
    }
    // It holds a private key.
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut out| out.write_all(&archive));
    written.map_err(|error| Failure::new(format!("cannot write {file}: {error}")))?;
    output::warn(format!("Written file {file:?}"));
    Ok(())
}

fn archive(contexts: &Contexts, name: &str) -> Result<Vec<u8>> {
    let context = contexts.get(name)?;
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, path, content)
    };
    add("meta.json", serde_json::to_string(&context)?.as_bytes())?;
    for (file, content) in read_files(contexts, name)? {
        add(&format!("tls/docker/{file}"), &content)?;
    }
    Ok(tar.into_inner()?)
}

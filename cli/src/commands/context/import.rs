//! `context import`: a context from an archive that somebody else may have made.

use std::fs::File;
use std::io::Read;

use super::refuse_existing;
use crate::cli::Cli;
use crate::contexts::{Context, TLS_FILES};
use crate::failure::{Failure, Result, fail};
use crate::output;

/// No honest archive is larger: it holds a small document and three small files.
const MAX_BYTES: u64 = 10 << 20;

/// Make a context from an archive that `context export` wrote.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "CONTEXT", required = true)]
    name: String,
    /// The archive; - is standard input
    #[arg(value_name = "FILE", required = true)]
    file: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let contexts = cli.contexts()?;
    refuse_existing(contexts, &args.name)?;
    let mut bytes = Vec::new();
    let read = match args.file.as_str() {
        "-" => std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes),
        file => File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::new(format!("cannot read {}: {error}", args.file)))?;
    if bytes.len() as u64 > MAX_BYTES {
        fail!(
            "{} is larger than {} MiB: that is no context",
            args.file,
            MAX_BYTES >> 20
        );
    }
    let (mut context, files) = take_apart(&bytes)?;
    context.name.clone_from(&args.name);
    contexts.put_tls(&args.name, &files)?;
    contexts.put(&context)?;
    output::line(&args.name);
    output::warn(format!("Successfully imported context {:?}", args.name));
    Ok(())
}

/// The document and the files of TLS. Nothing of the archive decides where something is written.
fn take_apart(bytes: &[u8]) -> Result<(Context, Vec<(String, Vec<u8>)>)> {
    if bytes.starts_with(b"PK") {
        fail!("a context in a zip archive is not supported; pack meta.json and tls/ into a tar archive");
    }
    let (mut context, mut files) = (None, Vec::new());
    let broken = |error: std::io::Error| Failure::new(format!("this is no archive of a context: {error}"));
    for entry in tar::Archive::new(bytes).entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            continue;
        }
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let tls = path.strip_prefix("tls/docker/").filter(|file| TLS_FILES.contains(file));
        if !kind.is_file() || (path != "meta.json" && tls.is_none()) {
            fail!("this is no archive of a context: {path:?} does not belong into one");
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(broken)?;
        match tls {
            Some(file) => files.push((file.to_owned(), content)),
            None => {
                let read: Context = serde_json::from_slice(&content)
                    .map_err(|error| Failure::new(format!("cannot understand its meta.json: {error}")))?;
                // Checked now, not when it is used.
                client::Endpoint::parse(&read.endpoints.docker.host, false)?;
                context = Some(read);
            }
        }
    }
    match context {
        Some(context) => Ok((context, files)),
        None => fail!("this is no archive of a context: there is no meta.json in it"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_context_or_refused(bytes: Vec<u8>) {
            let _ = take_apart(&bytes).is_ok();
        }
    }

    #[test]
    fn nothing_else_may_be_in_it() {
        for (path, kind) in [
            ("../meta.json", tar::EntryType::Regular),
            ("tls/docker/../../x", tar::EntryType::Regular),
            ("tls/docker/ca.pem", tar::EntryType::Symlink),
            ("other", tar::EntryType::Regular),
        ] {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_old();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(kind);
            header.set_size(0);
            header.set_cksum();
            tar.append(&header, &b""[..]).unwrap();
            let failure = take_apart(&tar.into_inner().unwrap()).unwrap_err();
            assert!(failure.message.contains("does not belong"), "{path}: {failure}");
        }
    }
}

//! `save`: images as a tar.

use std::io::Write;
use std::path::{Path, PathBuf};

use client::Download;

use super::load::platform_json;
use crate::cli::Cli;
use crate::failure::{Failure, Result, fail};
use crate::output;
use crate::terminal;

/// Write images to a tar archive.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// Save only this platform
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let platform = args.platform.as_deref().map(platform_json).transpose()?;
    write(args.output.as_deref(), || {
        client.save_images(&args.images, platform.as_deref())
    })
    .await
}

/// Writes a download to a file (whole or not at all) or to stdout.
pub async fn write<Fut>(path: Option<&str>, open: impl FnOnce() -> Fut) -> Result
where
    Fut: Future<Output = client::Result<Download>>,
{
    let Some(path) = path else {
        if terminal::stdout_is_terminal() {
            fail!("cowardly refusing to save to a terminal. Use the -o flag or redirect");
        }
        let mut download = open().await?;
        while let Some(chunk) = download.chunk().await? {
            output::print_bytes(&chunk);
        }
        return Ok(());
    };
    let target = Path::new(path);
    if target.is_dir() {
        fail!("{path} is a folder; name the file to write");
    }
    let mut download = open().await?;
    let mut file = Partial::create(target)?;
    while let Some(chunk) = download.chunk().await? {
        file.write(&chunk)?;
    }
    file.finish(target)
}

/// A file beside the target that gets its name when it is whole.
struct Partial {
    path: PathBuf,
    file: Option<std::fs::File>,
}

impl Partial {
    fn create(target: &Path) -> Result<Partial> {
        // Devices and pipes have no place beside them.
        let special = std::fs::metadata(target).is_ok_and(|data| !data.is_file());
        let path = if special {
            target.to_owned()
        } else {
            let mut name = target.as_os_str().to_owned();
            name.push(format!(".{}.partial", std::process::id()));
            PathBuf::from(name)
        };
        let file = std::fs::File::create(&path)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", target.display())))?;
        Ok(Partial { path, file: Some(file) })
    }

    fn write(&mut self, bytes: &[u8]) -> Result {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes)
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", self.path.display())))
    }

    fn finish(mut self, target: &Path) -> Result {
        if self.path != target {
            std::fs::rename(&self.path, target)
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", target.display())))?;
        }
        self.file = None;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Still open: it did not get its name.
        if self.file.is_some() && self.path.extension().is_some_and(|extension| extension == "partial") {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

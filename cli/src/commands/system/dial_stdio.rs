//! `system dial-stdio`: what an `ssh://` client runs at the far end. Bytes only; the daemon is not asked for anything.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cli::Cli;
use crate::commands::image::load::body;
use crate::failure::{Failure, Result};
use crate::session::{Target, Writer};
use futures_util::StreamExt;

/// Connect stdin and stdout to the daemon.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(cli: &Cli, _: Args) -> Result {
    let stream = cli.client()?.dial().await?;
    let (mut from, mut to) = tokio::io::split(stream);
    let mut typed = Box::pin(body(None)?);
    let sending = tokio::spawn(async move {
        while let Some(Ok(bytes)) = typed.next().await {
            if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
        // The end of our stdin is the half-close of the connection; its other half goes on.
        let _ = to.shutdown().await;
        std::future::pending::<()>().await;
    });
    let writer = Writer::start();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from
            .read(&mut buffer)
            .await
            .map_err(|error| Failure::new(format!("the connection broke: {error}")))?;
        if count == 0
            || !writer
                .send(Target::Stdout, bytes::Bytes::copy_from_slice(&buffer[..count]))
                .await
        {
            break;
        }
    }
    sending.abort();
    writer.finish().await
}

//! `/containers/…/archive`, `/containers/…/changes`, `/commit`.

use std::io;

use agent_api::archive::{PATH_STAT, PathStat};
use agent_api::container::{CommitResponse, FileChange};
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderMap, Method};

use crate::call::{Call, segment};
use crate::download::Download;
use crate::error::{Error, Result};
use crate::http::Client;

/// How a container becomes an image.
#[derive(Debug, Clone, Default)]
pub struct Commit<'a> {
    pub container: &'a str,
    pub repository: &'a str,
    pub tag: &'a str,
    pub author: &'a str,
    pub comment: &'a str,
    pub changes: &'a [String],
    /// Do not freeze it meanwhile.
    pub running: bool,
}

fn call(method: Method, id: &str, path: &str) -> Result<Call> {
    Ok(Call::new(method, format!("/containers/{}/archive", segment(id)?)).query("path", path))
}

fn stat(headers: &HeaderMap, doing: &str) -> Result<PathStat> {
    let header = headers.get(PATH_STAT).and_then(|value| value.to_str().ok());
    header.and_then(PathStat::decode).ok_or_else(|| Error::Answer {
        doing: doing.to_owned(),
        reason: "it does not say what is at the path".to_owned(),
    })
}

/// Each fails as [`crate::Error`] tells.
impl Client {
    /// What is at a path of a container.
    pub async fn stat_path(&self, id: &str, path: &str) -> Result<PathStat> {
        let call = call(Method::HEAD, id, path)?;
        let doing = call.doing();
        let (parts, _) = self.exchange(call).await?;
        stat(&parts.headers, &doing)
    }

    /// What is at a path, with everything below it, as a tar.
    pub async fn copy_from(&self, id: &str, path: &str) -> Result<(PathStat, Download)> {
        let download = self.open(call(Method::GET, id, path)?).await?;
        Ok((stat(download.headers(), download.doing())?, download))
    }

    /// Unpacks a tar into a folder of a container. A folder is not replaced by anything else, nor anything else by one.
    pub async fn copy_to<S>(&self, id: &str, path: &str, tar: S, to_user: bool) -> Result<()>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let mut call = call(Method::PUT, id, path)?.query("noOverwriteDirNonDir", true);
        if to_user {
            call = call.query("copyUIDGID", true);
        }
        self.send(call.stream("application/x-tar", tar)).await.map(drop)
    }

    /// What a container changed of its image's files.
    pub async fn container_changes(&self, id: &str) -> Result<Vec<FileChange>> {
        let call = Call::get(format!("/containers/{}/changes", segment(id)?));
        Ok(self.fetch::<Option<Vec<FileChange>>>(call).await?.unwrap_or_default())
    }

    /// Makes an image of a container's changes; its id is returned.
    pub async fn commit_container(&self, commit: &Commit<'_>) -> Result<String> {
        let mut call = Call::post("/commit")
            .query("container", commit.container)
            .option("repo", Some(commit.repository))
            .option("tag", Some(commit.tag))
            .option("author", Some(commit.author))
            .option("comment", Some(commit.comment));
        for change in commit.changes {
            call = call.query("changes", change);
        }
        if commit.running {
            call = call.query("pause", 0);
        }
        Ok(self.fetch::<CommitResponse>(call).await?.id)
    }
}

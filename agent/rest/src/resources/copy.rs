//! Files in and out of containers, and what containers changed.

use std::time::{Duration, SystemTime};

use agent_api::archive::{PATH_STAT, PathStat, mode as bits};
use agent_api::container::FileChange;
use agent_api::time::Time;
use agent_engine::Engine;
use agent_engine::container::copy::CopyInOptions;
use agent_engine::view::{Changed, Found};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::HeaderValue;
use http::{Request, StatusCode};

use crate::error::{ApiError, ApiResult};
use crate::reply;
use crate::request::{Query, Target};
use crate::transfer::{BodyReader, BodyWriter};

const TAR: &str = "application/x-tar";
/// `HEAD /containers/{id}/archive`.
pub async fn head(State(engine): State<Engine>, Target(id): Target, query: Query) -> ApiResult {
    let path = path(&query)?;
    let container = engine.container(&id)?;
    let found = engine.stat_path(&container, path).await?;
    with_stat(reply::with_type(StatusCode::OK, TAR, Body::empty()), &found)
}

/// `GET /containers/{id}/archive`.
pub async fn get(State(engine): State<Engine>, Target(id): Target, query: Query) -> ApiResult {
    let path = path(&query)?;
    let container = engine.container(&id)?;
    let (found, source) = engine.copy_out(&container, path).await?;
    let (mut writer, body) = BodyWriter::new();
    tokio::task::spawn_blocking(move || {
        let result = source.write(&mut writer).map_err(Into::into);
        writer.finish(result);
    });
    with_stat(reply::with_type(StatusCode::OK, TAR, body), &found)
}

/// `PUT /containers/{id}/archive`.
pub async fn put(State(engine): State<Engine>, Target(id): Target, query: Query, request: Request<Body>) -> ApiResult {
    let reader = BodyReader::start(request.into_body());
    let path = path(&query)?;
    let container = engine.container(&id)?;
    let options = CopyInOptions {
        keep_kinds: query.flag("noOverwriteDirNonDir"),
        to_user: query.flag("copyUIDGID"),
    };
    engine.copy_in(&container, path, reader, options).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// `GET /containers/{id}/changes`.
pub async fn changes(State(engine): State<Engine>, Target(id): Target) -> ApiResult {
    let container = engine.container(&id)?;
    let changes = engine.changes(&container).await?;
    let list: Vec<FileChange> = changes
        .into_iter()
        .map(|change| FileChange {
            path: change.path,
            kind: match change.kind {
                Changed::Modified => 0,
                Changed::Added => 1,
                Changed::Deleted => 2,
            },
        })
        .collect();
    // Go's empty list.
    Ok(reply::ok(&Some(list).filter(|list| !list.is_empty())))
}

fn path(query: &Query) -> ApiResult<&str> {
    let path = query.get("path");
    if path.is_empty() {
        return Err(ApiError::bad("bad parameter: path cannot be empty"));
    }
    if path.contains('\0') {
        return Err(ApiError::bad("bad parameter: path has a zero byte"));
    }
    Ok(path)
}

fn with_stat(mut response: Response, found: &Found) -> ApiResult {
    let stat = PathStat {
        name: found.name.clone(),
        size: i64::try_from(found.size).unwrap_or(i64::MAX),
        mode: go_mode(found.mode),
        mtime: time(found.mtime),
        link_target: found.link_target.clone(),
    };
    let value = HeaderValue::try_from(stat.encode()).map_err(|error| ApiError::bad(error.to_string()))?;
    response.headers_mut().insert(PATH_STAT, value);
    Ok(response)
}

/// A time before the epoch, which files may have, is shown as Go's zero.
fn time((seconds, nanos): (i64, u32)) -> Time {
    let since = u64::try_from(seconds).map(|seconds| Duration::new(seconds, nanos)).ok();
    Time::from(since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)))
}

/// `st_mode` in the bits of Go's `os.FileMode`.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => bits::DIR,
        0o120_000 => bits::SYMLINK,
        0o060_000 => bits::DEVICE,
        0o020_000 => bits::DEVICE | bits::CHAR_DEVICE,
        0o010_000 => bits::PIPE,
        0o140_000 => bits::SOCKET,
        _ => 0,
    };
    let bit = |own: u32, go: u32| if mode & own != 0 { go } else { 0 };
    mode & 0o777 | kind | bit(0o4000, bits::SETUID) | bit(0o2000, bits::SETGID) | bit(0o1000, bits::STICKY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_in_go_s_bits() {
        // Printed by `os.Lstat(path).Mode()` of a Go program, as numbers.
        for (mode, go) in [
            (0o100_644, 420),
            (0o040_755, 2_147_484_141),
            (0o041_777, 2_148_532_735),
            (0o120_777, 134_218_239),
            (0o104_755, 8_389_101),
            (0o020_666, 69_206_454),
            (0o060_660, 67_109_296),
            (0o010_644, 33_554_852),
        ] {
            assert_eq!(go_mode(mode), go, "{mode:o}");
        }
    }
}

//! Files of the configuration folder: read leniently, put in place as a whole, and nobody's but the user's.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde_json::{Map, Value};

use crate::failure::{Failure, Result, fail};

/// The members of a JSON file; none where there is no file, or nothing in it.
pub fn members(path: &Path) -> Result<Map<String, Value>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => fail!("cannot read {}: {error}", path.display()),
    };
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(&text).map_err(|error| Failure::new(format!("cannot understand {}: {error}", path.display())))
}

/// Writes a JSON file for people to read.
pub fn write_members(path: &Path, members: &Map<String, Value>) -> Result {
    let mut text = serde_json::to_string_pretty(members)?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// Puts a file in place, and its folder if need be: readable by nobody else, and never half written.
pub fn write(path: &Path, content: &[u8]) -> Result {
    let failed = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        let mut new = fs::DirBuilder::new();
        new.recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    // A link is kept, and what it points to is replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let fresh = target.with_extension(format!("new-{}", std::process::id()));
    let put = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, &target)
    };
    put().map_err(|error| {
        let _ = fs::remove_file(&fresh);
        failed(error)
    })
}

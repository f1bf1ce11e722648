//! `--use-api-socket`: beside the daemon's socket (`request` mounts it) the container gets what is logged in here, as with
//! docker's client, so that what pulls from inside of it is who we are.

use agent_api::create::CreateRequest;
use client::Client;
use futures_util::stream;

use crate::failure::Result;

/// Where clients inside are told to look, and the file that they find there.
const FOLDER: &str = "/run/secrets/docker";
const VARIABLE: &str = "DOCKER_CONFIG";

/// Tells clients inside of the container where the logins are.
pub fn point_to_logins(request: &mut CreateRequest) {
    let list = request.config.env.get_or_insert_default();
    if !list.iter().any(|entry| entry.split('=').next() == Some(VARIABLE)) {
        list.push(format!("{VARIABLE}={FOLDER}"));
    }
}

/// Puts the logins there, for root alone.
///
/// # Errors
/// As copying to a container fails.
pub async fn put_logins(client: &Client, container: &str, logins: &str) -> Result {
    let mut archive = tar::Builder::new(Vec::new());
    let mut folder = tar::Header::new_gnu();
    folder.set_entry_type(tar::EntryType::Directory);
    folder.set_size(0);
    folder.set_mode(0o755);
    let path = FOLDER.trim_start_matches('/');
    for (at, _) in path.match_indices('/').chain([(path.len(), "")]) {
        archive.append_data(&mut folder.clone(), &path[..at], std::io::empty())?;
    }
    let mut file = tar::Header::new_gnu();
    file.set_size(logins.len() as u64);
    file.set_mode(0o600);
    archive.append_data(&mut file, format!("{path}/config.json"), logins.as_bytes())?;
    let bytes = archive.into_inner()?;
    let sent = stream::once(async move { Ok(bytes.into()) });
    Ok(client.copy_to(container, "/", sent, false).await?)
}

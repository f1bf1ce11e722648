//! Files from web servers that are no registries.

#![allow(clippy::unwrap_used)]

mod fake;

use std::time::Duration;

use agent_registry::{Client, ClientConfig, Error, Kind};
use fake::{Fake, Reply, Request, Step, client, quick};

async fn all(client: &Client, address: &str) -> Result<Vec<u8>, Error> {
    let mut download = client.download(address).await?;
    let mut all = Vec::new();
    while let Some(bytes) = download.next().await {
        all.extend_from_slice(&bytes?);
    }
    assert!(download.next().await.is_none());
    Ok(all)
}

#[tokio::test]
async fn a_file_comes_whole_and_shows_its_password_to_its_server_alone() {
    let other = Fake::start(|_: &Request| Reply::new(200, "elsewhere")).await;
    let elsewhere = other.url();
    let fake = Fake::start(move |request: &Request| match request.path.as_str() {
        "/x.tar?v=1" => Reply::new(200, "content"),
        "/moved" => Reply::new(302, "").header("Location", "/x.tar?v=1"),
        "/away" => Reply::new(302, "").header("Location", elsewhere.clone()),
        "/round" => Reply::new(301, "").header("Location", "/round"),
        _ => Reply::new(404, "no such page\n"),
    })
    .await;
    let client = client();
    let at = |path: &str| format!("http://me:secret@{}{path}", fake.address);
    let download = client.download(&at("/x.tar?v=1")).await.unwrap();
    assert_eq!(download.address(), format!("http://{}/x.tar?v=1", fake.address));
    assert_eq!(download.length(), Some(7));
    assert_eq!(all(&client, &at("/moved")).await.unwrap(), b"content");
    // `me:secret` in base64.
    let last = fake.requests().pop().unwrap();
    assert_eq!(last.header("authorization"), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(all(&client, &at("/away")).await.unwrap(), b"elsewhere");
    assert_eq!(other.requests()[0].header("authorization"), None);
    let error = all(&client, &at("/round")).await.unwrap_err().to_string();
    assert!(error.contains("stopped after 10 redirects"), "{error}");
    let error = all(&client, &at("/absent")).await.unwrap_err();
    let address = fake.address;
    assert_eq!(
        error.to_string(),
        format!("failed to GET http://{address}/absent with status 404 Not Found: no such page")
    );
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_server_that_stalls_or_breaks_is_given_up() {
    let fake = Fake::start(|request: &Request| match request.path.as_str() {
        "/stalls" => Reply::new(200, "")
            .header("Content-Length", "100")
            .steps(vec![Step::Send(b"begin".to_vec()), Step::Stall]),
        _ => Reply::new(200, "")
            .header("Content-Length", "100")
            .steps(vec![Step::Send(b"begin".to_vec()), Step::Hangup]),
    })
    .await;
    let client = Client::new(ClientConfig {
        stall_timeout: Duration::from_millis(300),
        ..quick()
    })
    .unwrap();
    let error = all(&client, &format!("{}/stalls", fake.url())).await.unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error}");
    let error = all(&client, &format!("{}/breaks", fake.url())).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
}

//! bollard, the client of the Docker Engine that Rust programs have. Run by `tests/clients/run client-bollard`.
#![forbid(unsafe_code)]

mod checks;
mod containers;
mod node;
mod streams;

#[tokio::main]
async fn main() {
    let mut all = node::checks();
    all.extend(containers::checks());
    all.extend(streams::checks());
    std::process::exit(checks::run("client-bollard", all).await);
}

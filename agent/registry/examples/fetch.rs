//! Download an image's layers to nowhere and tell how fast it went: `fetch [--trust] REFERENCE [PLATFORM]`.
//!
//! `USERNAME` and `PASSWORD` log in, `MIRROR` is a mirror to ask first; proxies come from the usual variables.
//!
//! For trying a registry by hand and for measuring the CPU cost per byte.

use std::time::Instant;

use agent_registry::{Client, ClientConfig, Credentials, Defaults, Mirror, Platform, PullPlan, Reference};

#[tokio::main]
async fn main() {
    if let Err(error) = run().await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let trust = arguments.first().is_some_and(|first| first == "--trust");
    if trust {
        arguments.remove(0);
    }
    let reference = Reference::parse(arguments.first().map_or("", String::as_str), &Defaults::default())?.or_latest();
    let platform = arguments
        .get(1)
        .map_or(Ok(Platform::host()), |text| Platform::parse(text))?;
    let mirrors = std::env::var("MIRROR").ok().map(|url| Mirror {
        registry: "*".into(),
        url,
        credentials: None,
    });
    let client = Client::new(ClientConfig {
        mirrors: mirrors.into_iter().collect(),
        proxies: agent_registry::Proxies::from_env(),
        ..ClientConfig::default()
    })?;
    let user = std::env::var("USERNAME").ok();
    let user = user.map(|user| Credentials::basic(user, std::env::var("PASSWORD").unwrap_or_default()));
    let user = user.as_ref();
    let start = Instant::now();
    println!("{reference} is {}", client.digest(&reference, user).await?);
    let image = client.resolve(&reference, &platform, user).await?;
    println!("{} {} in {:?}", image.platform, image.config_digest, start.elapsed());
    let plan = PullPlan::new(&client, &reference, image, user);
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..plan.layers().len() {
        let mut blob = plan.open(index);
        if trust {
            blob = blob.without_digest_check();
        }
        tasks.spawn(async move {
            let mut chunks = 0u64;
            while let Some(bytes) = blob.next().await {
                bytes?;
                chunks += 1;
            }
            Ok::<_, agent_registry::Error>((blob.received(), chunks))
        });
    }
    let (mut bytes, mut chunks) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        let done = done??;
        bytes += done.0;
        chunks += done.1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{bytes} bytes in {chunks} chunks, {seconds:.3} s, {:.0} MB/s",
        bytes as f64 / 1e6 / seconds
    );
    Ok(())
}

//! `port`: what is published.

use std::net::Ipv6Addr;

use crate::cli::Cli;
use crate::failure::{Result, fail};
use crate::output;

/// List port mappings of a container.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let container = cli.client()?.inspect_container(&args.container).await?;
    let ports = container.network_settings.ports;
    let end = |ip: &str, port: &str| match ip.parse::<Ipv6Addr>() {
        Ok(_) => format!("[{ip}]:{port}"),
        Err(_) => format!("{ip}:{port}"),
    };
    if let Some(asked) = &args.port {
        let (number, protocol) = asked.split_once('/').unwrap_or((asked, "tcp"));
        if number.parse::<u16>().is_err() {
            fail!("invalid port {asked:?}: expected PORT or PORT/PROTOCOL");
        }
        match ports.get(&format!("{number}/{protocol}")).cloned().flatten() {
            Some(ends) if !ends.is_empty() => {
                for binding in ends {
                    output::line(end(&binding.host_ip, &binding.host_port));
                }
                return Ok(());
            }
            _ => fail!("Error: No public port '{asked}' published for {}", args.container),
        }
    }
    let mut lines = Vec::new();
    for (port, ends) in ports {
        let number: u16 = port
            .split('/')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        for binding in ends.unwrap_or_default() {
            lines.push((
                number,
                format!("{port} -> {}", end(&binding.host_ip, &binding.host_port)),
            ));
        }
    }
    lines.sort();
    for (_, line) in lines {
        output::line(line);
    }
    Ok(())
}

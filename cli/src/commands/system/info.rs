//! `info`: what the daemon is and can do.

use client::api::system::Info;
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::failure::{Failure, Result};
use crate::inspected::Inspected;
use crate::output;
use crate::template::Template;
use crate::units;

/// Display information about the daemon.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// json, or a template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let raw = cli.client()?.info_raw().await;
    if let Some(format) = args.format.as_deref().filter(|format| !format.is_empty()) {
        let mut value: Value = serde_json::from_slice(&raw?)?;
        value["ClientInfo"] =
            json!({ "Context": cli.context()?, "Version": env!("CARGO_PKG_VERSION"), "Os": std::env::consts::OS });
        output::line(match format {
            "json" => value.to_string(),
            format => Template::parse(format)?.render(&value, &Inspected)?,
        });
        return Ok(());
    }
    output::print(&format!(
        "Client: iEchor\n Version:    {}\n Context:    {}\n\nServer:\n",
        env!("CARGO_PKG_VERSION"),
        cli.context()?
    ));
    let raw = raw.map_err(Failure::from)?;
    let info: Info = client::api::json::from_slice(&raw)?;
    output::print(&text(&info));
    for warning in info.warnings.unwrap_or_default() {
        output::warn(warning);
    }
    Ok(())
}

fn text(info: &Info) -> String {
    let mut text = String::new();
    let mut line = |indent: usize, name: &str, value: &str| text.push_str(&format!("{:indent$}{name}: {value}\n", ""));
    line(1, "Containers", &info.containers.to_string());
    line(2, "Running", &info.containers_running.to_string());
    line(2, "Paused", &info.containers_paused.to_string());
    line(2, "Stopped", &info.containers_stopped.to_string());
    line(1, "Images", &info.images.to_string());
    line(1, "Server Version", &info.server_version);
    line(1, "Storage Driver", &info.driver);
    for [name, value] in &info.driver_status {
        line(2, name, value);
    }
    line(1, "Logging Driver", &info.logging_driver);
    line(1, "Cgroup Driver", &info.cgroup_driver);
    line(1, "Cgroup Version", &info.cgroup_version);
    text.push_str(" Plugins:\n");
    let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default().join(" ");
    for (name, list) in [
        ("Volume", &info.plugins.volume),
        ("Network", &info.plugins.network),
        ("Authorization", &info.plugins.authorization),
        ("Log", &info.plugins.log),
    ] {
        if list.as_ref().is_some_and(|list| !list.is_empty()) {
            text.push_str(&format!("  {name}: {}\n", words(list)));
        }
    }
    if let Some(folders) = info.cdi_spec_dirs.as_ref().filter(|folders| !folders.is_empty()) {
        text.push_str(" CDI spec directories:\n");
        folders
            .iter()
            .for_each(|folder| text.push_str(&format!("  {folder}\n")));
    }
    let runtimes: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
    let mut line = |indent: usize, name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{:indent$}{name}: {value}\n", ""));
        }
    };
    line(1, "Swarm", &info.swarm.local_node_state);
    line(1, "Runtimes", &runtimes.join(" "));
    line(1, "Default Runtime", &info.default_runtime);
    line(1, "Init Binary", &info.init_binary);
    line(1, "containerd version", &info.containerd_commit.id);
    line(1, "runc version", &info.runc_commit.id);
    line(1, "init version", &info.init_commit.id);
    if !info.security_options.is_empty() {
        line(1, "Security Options", "\0");
        for option in &info.security_options {
            // "name=seccomp,profile=builtin": the name, then the rest below it.
            for (at, part) in option.split(',').enumerate() {
                let (name, value) = part.split_once('=').unwrap_or(("name", part));
                match at {
                    0 => line(2, value, "\0\0"),
                    _ => line(3, &capital(name), value),
                }
            }
        }
    }
    line(1, "Kernel Version", &info.kernel_version);
    line(1, "Operating System", &info.operating_system);
    line(1, "OSType", &info.os_type);
    line(1, "Architecture", &info.architecture);
    line(1, "CPUs", &info.n_cpu.to_string());
    line(1, "Total Memory", &units::binary_size(info.mem_total as f64));
    line(1, "Name", &info.name);
    line(1, "ID", &info.id);
    line(1, "Docker Root Dir", &info.docker_root_dir);
    line(1, "Debug Mode", &info.debug.to_string());
    if info.debug {
        line(2, "File Descriptors", &info.n_fd.to_string());
        line(2, "Goroutines", &info.n_goroutines.to_string());
        line(2, "System Time", &info.system_time);
        line(2, "EventsListeners", &info.n_events_listener.to_string());
    }
    line(1, "HTTP Proxy", &info.http_proxy);
    line(1, "HTTPS Proxy", &info.https_proxy);
    line(1, "No Proxy", &info.no_proxy);
    if !info.labels.is_empty() {
        line(1, "Labels", "\0");
        info.labels.iter().for_each(|label| line(2, label, "\0\0"));
    }
    line(1, "Experimental", &info.experimental_build.to_string());
    if let Some(registries) = &info.registry_config {
        line(1, "Insecure Registries", "\0");
        for (name, index) in &registries.index_configs {
            if !index.secure {
                line(2, name, "\0\0");
            }
        }
        for range in registries.insecure_registry_cidrs.iter().flatten() {
            line(2, range, "\0\0");
        }
        if let Some(mirrors) = registries.mirrors.as_ref().filter(|mirrors| !mirrors.is_empty()) {
            line(1, "Registry Mirrors", "\0");
            mirrors.iter().for_each(|mirror| line(2, mirror, "\0\0"));
        }
    }
    line(1, "Live Restore Enabled", &info.live_restore_enabled.to_string());
    if let Some(firewall) = &info.firewall_backend {
        line(1, "Firewall Backend", &firewall.driver);
    }
    line(1, "Product License", &info.product_license);
    for pool in info.default_address_pools.iter().flatten() {
        line(
            1,
            "Default Address Pool",
            &format!("Base: {}, Size: {}", pool.base, pool.size),
        );
    }
    // Headings have no value, list items no colon.
    text.replace(": \0\0\n", "\n").replace(": \0\n", ":\n")
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

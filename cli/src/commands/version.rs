//! `version`: of this client and of the daemon.

use serde_json::{Value, json};

use crate::cli::Cli;
use crate::failure::{Failure, Result};
use crate::format;
use crate::output;
use crate::units;

/// Show the version information of client and daemon.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// json, or a template over .Client and .Server
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let client = cli.client()?;
    let server = client.server_version().await;
    let api = client.version().await.unwrap_or(client::NEWEST);
    let mine = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": api.to_string(),
        "DefaultAPIVersion": client::NEWEST.to_string(),
        "GitCommit": option_env!("IECHOR_COMMIT").unwrap_or("unknown"),
        "GoVersion": "",
        "Os": std::env::consts::OS,
        "Arch": architecture(),
        "BuildTime": "",
        "Context": cli.context()?,
    });
    let theirs = match &server {
        Ok(version) => serde_json::to_value(version)?,
        Err(_) => Value::Null,
    };
    let both = named(json!({ "Client": mine, "Server": theirs }));
    match args.format.as_deref() {
        None | Some("") => output::print(&text(&both)),
        Some(format) => {
            // A template may ask for the client only; without a daemon the other half is empty.
            format::object(format, &both)?;
        }
    }
    server.map(drop).map_err(Failure::from)
}

/// Go's templates call the member `APIVersion`.
fn named(mut both: Value) -> Value {
    for side in ["Client", "Server"] {
        for (wire, name) in [("ApiVersion", "APIVersion"), ("MinAPIVersion", "MinAPIVersion")] {
            if let Some(value) = both[side].get(wire).cloned() {
                both[side][name] = value;
            }
        }
    }
    both
}

/// Go's names of the machines.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn text(both: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mine = &both["Client"];
    let mut text = String::from("Client: iEchor\n");
    let mut line = |indent: usize, name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!(
                "{:indent$}{:<width$} {value}\n",
                "",
                format!("{name}:"),
                width = 19 - indent
            ));
        }
    };
    let api = match (word(&mine["APIVersion"]), word(&mine["DefaultAPIVersion"])) {
        (used, newest) if used != newest => format!("{used} (downgraded from {newest})"),
        (used, _) => used,
    };
    line(1, "Version", word(&mine["Version"]));
    line(1, "API version", api);
    line(1, "Git commit", word(&mine["GitCommit"]));
    line(1, "OS/Arch", format!("{}/{}", word(&mine["Os"]), word(&mine["Arch"])));
    line(1, "Context", word(&mine["Context"]));
    let server = &both["Server"];
    if server.is_null() {
        return text;
    }
    let platform = word(&server["Platform"]["Name"]);
    text.push_str(&format!(
        "\nServer:{}\n",
        if platform.is_empty() {
            String::new()
        } else {
            format!(" {platform}")
        }
    ));
    for component in server["Components"].as_array().into_iter().flatten() {
        text.push_str(&format!(" {}:\n", word(&component["Name"])));
        let mut line = |name: &str, value: String| {
            if !value.is_empty() {
                text.push_str(&format!("  {:<17} {value}\n", format!("{name}:")));
            }
        };
        line("Version", word(&component["Version"]));
        let details = &component["Details"];
        if component["Name"] == "Engine" {
            line(
                "API version",
                format!(
                    "{} (minimum version {})",
                    word(&details["ApiVersion"]),
                    word(&details["MinAPIVersion"])
                ),
            );
            line("Go version", word(&details["GoVersion"]));
            line("Git commit", word(&details["GitCommit"]));
            line("Built", units::ansi_time(&word(&details["BuildTime"])));
            line(
                "OS/Arch",
                format!("{}/{}", word(&details["Os"]), word(&details["Arch"])),
            );
            line("Experimental", word(&details["Experimental"]));
        } else {
            for (name, value) in details.as_object().into_iter().flatten() {
                line(name, word(value));
            }
        }
    }
    text
}

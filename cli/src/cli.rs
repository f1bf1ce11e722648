//! What every command needs: the global flags, the configuration, and the daemon they point at.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use clap::Args;
use client::{ApiVersion, Client, Endpoint, Options, TlsOptions};

use crate::config::{self, Config};
use crate::contexts::{self, Contexts};
use crate::failure::{Failure, Result, fail};

/// Where the daemon of this machine listens.
pub const DEFAULT_HOST: &str = "unix:///run/iechor/iechor.sock";

/// Flags in front of the command.
#[derive(Debug, Clone, Args)]
pub struct Globals {
    /// Folder of the client's config file (default: ~/.iechor)
    #[arg(long, value_name = "FOLDER")]
    pub config: Option<PathBuf>,
    /// Context to use, instead of the current one and of IECHOR_HOST
    #[arg(short, long, value_name = "NAME")]
    pub context: Option<String>,
    /// Show the calls made to the daemon
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// Daemon to connect to: unix://PATH, tcp://HOST:PORT or ssh://[USER@]HOST
    #[arg(short = 'H', long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Log level: debug, info, warn, error or fatal
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info")]
    pub log_level: String,
    /// Use TLS; implied by --tlsverify
    #[arg(long)]
    pub tls: bool,
    /// Trust certificates signed only by this CA (default: ca.pem in the config folder)
    #[arg(long, value_name = "FILE")]
    pub tlscacert: Option<PathBuf>,
    /// Certificate to show to the daemon (default: cert.pem in the config folder)
    #[arg(long, value_name = "FILE")]
    pub tlscert: Option<PathBuf>,
    /// Key of that certificate (default: key.pem in the config folder)
    #[arg(long, value_name = "FILE")]
    pub tlskey: Option<PathBuf>,
    /// Use TLS and verify the daemon
    #[arg(long)]
    pub tlsverify: bool,
}

/// The command line around a command. Nothing is read or connected before it is asked for.
pub struct Cli {
    globals: Globals,
    config: OnceCell<Config>,
    contexts: OnceCell<Contexts>,
    client: OnceCell<Client>,
}

/// What says which daemon is meant.
enum Target {
    /// `-H` or the variable of this name.
    Host(String),
    /// `--context`, the variable, or the configuration.
    Context(String),
}

/// An environment variable that says something; ours first, then docker's of the same name.
pub fn env(name: &str) -> Option<String> {
    ["IECHOR_", "DOCKER_"].iter().find_map(|prefix| {
        std::env::var(format!("{prefix}{name}"))
            .ok()
            .filter(|value| !value.is_empty())
    })
}

impl Cli {
    /// # Errors
    /// Flags that contradict each other.
    pub fn new(globals: Globals) -> Result<Cli> {
        match globals.log_level.as_str() {
            "trace" | "debug" => crate::log_calls(),
            "info" | "warn" | "error" | "fatal" => {
                if globals.debug {
                    crate::log_calls();
                }
            }
            other => fail!("unable to parse logging level: {other}; use debug, info, warn, error or fatal"),
        }
        Ok(Cli {
            globals,
            config: OnceCell::new(),
            contexts: OnceCell::new(),
            client: OnceCell::new(),
        })
    }

    pub fn config(&self) -> Result<&Config> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = Config::load(self.globals.config.as_deref())?;
        Ok(self.config.get_or_init(|| config))
    }

    /// Where our own configuration file is.
    pub fn folder(&self) -> Result<PathBuf> {
        match config::folder(self.globals.config.as_deref()) {
            Some(folder) => Ok(folder),
            None => fail!("there is no place for the config file: set HOME, IECHOR_CONFIG or --config"),
        }
    }

    pub fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.connect()?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The daemon's socket, if that is how it is reached.
    pub fn socket(&self) -> Result<Option<String>> {
        Ok(match self.client()?.endpoint() {
            Endpoint::Unix(path) => path.to_str().map(str::to_owned),
            _ => None,
        })
    }

    /// The contexts in the configuration folder.
    pub fn contexts(&self) -> Result<&Contexts> {
        if let Some(contexts) = self.contexts.get() {
            return Ok(contexts);
        }
        let Some(folder) = config::folder(self.globals.config.as_deref()) else {
            fail!("there is no folder for contexts: set HOME, or name one with --config");
        };
        Ok(self.contexts.get_or_init(|| Contexts::new(folder)))
    }

    /// The name of the context that is used.
    pub fn context(&self) -> Result<String> {
        Ok(match self.target()? {
            Target::Host(_) => contexts::DEFAULT.to_owned(),
            Target::Context(name) => name,
        })
    }

    /// What the default context stands for: flags and environment, else this machine's daemon.
    pub fn default_host(&self) -> Result<String> {
        let host = self.globals.host.first().cloned().or_else(|| env("HOST"));
        Ok(host.unwrap_or_else(|| DEFAULT_HOST.to_owned()))
    }

    /// The variable that names a host, if one is set and `--context` is not.
    pub fn host_variable(&self) -> Option<&'static str> {
        let is_set = |name: &&str| std::env::var(name).is_ok_and(|value| !value.is_empty());
        ["IECHOR_HOST", "DOCKER_HOST"]
            .into_iter()
            .find(is_set)
            .filter(|_| self.globals.context.is_none())
    }

    /// The daemon that is meant: its address, and how to speak TLS to it.
    pub fn daemon(&self) -> Result<(String, Option<TlsOptions>)> {
        Ok(match self.target()? {
            Target::Context(name) if name != contexts::DEFAULT => {
                let contexts = self.contexts()?;
                let context = contexts.get(&name)?;
                let tls = contexts.tls(&context);
                (context.endpoints.docker.host, tls)
            }
            Target::Context(_) => (DEFAULT_HOST.to_owned(), self.tls()),
            Target::Host(host) => (host, self.tls()),
        })
    }

    fn connect(&self) -> Result<Client> {
        let (host, tls) = self.daemon()?;
        let endpoint = Endpoint::parse(&host, tls.is_some())?;
        let headers = self.config()?.http_headers.clone().into_iter().collect();
        let version = match env("API_VERSION") {
            Some(text) => Some(text.parse::<ApiVersion>().map_err(Failure::new)?),
            None => None,
        };
        let user_agent = format!("iechor/{} (linux)", env!("CARGO_PKG_VERSION"));
        Ok(Client::new(
            endpoint,
            Options {
                tls,
                headers,
                version,
                user_agent,
            },
        )?)
    }

    fn target(&self) -> Result<Target> {
        let globals = &self.globals;
        if globals.host.len() > 1 {
            fail!("specify only one -H");
        }
        match (globals.host.first(), &globals.context) {
            (Some(_), Some(_)) => fail!("conflicting options: cannot specify both --host and --context"),
            (Some(host), None) => return Ok(Target::Host(host.clone())),
            (None, Some(context)) => return Ok(Target::Context(context.clone())),
            (None, None) => {}
        }
        if let Some(host) = env("HOST") {
            return Ok(Target::Host(host));
        }
        let named = env("CONTEXT").or(self.config()?.current_context.clone());
        Ok(Target::Context(
            named
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| contexts::DEFAULT.to_owned()),
        ))
    }

    fn tls(&self) -> Option<TlsOptions> {
        let globals = &self.globals;
        let verify = globals.tlsverify || env("TLS_VERIFY").is_some();
        if !(verify || globals.tls || env("TLS").is_some()) {
            return None;
        }
        let folder = env("CERT_PATH")
            .map(PathBuf::from)
            .or_else(|| config::folder(globals.config.as_deref()))
            .unwrap_or_default();
        // A default that does not exist is not an error: not every daemon asks for a certificate.
        let file = |given: &Option<PathBuf>, name: &str| {
            given
                .clone()
                .or_else(|| Some(folder.join(name)).filter(|path| Path::exists(path)))
        };
        Some(TlsOptions {
            ca: file(&globals.tlscacert, "ca.pem"),
            cert: file(&globals.tlscert, "cert.pem"),
            key: file(&globals.tlskey, "key.pem"),
            verify,
        })
    }
}

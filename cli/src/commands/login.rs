//! `login`: credentials for a registry, checked by the daemon and then stored.

use std::io::{Read, Write};

use client::AuthConfig;

use crate::cli::Cli;
use crate::credentials;
use crate::failure::{Result, fail};
use crate::logins::{self, Stored};
use crate::output;
use crate::terminal;

/// Log in to a registry.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Password or personal access token
    #[arg(short, long, value_name = "TEXT")]
    password: Option<String>,
    /// Take the password from stdin
    #[arg(long)]
    password_stdin: bool,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// The registry; the default one without it
    #[arg(value_name = "SERVER", default_value = "")]
    server: String,
}

pub async fn run(cli: &Cli, args: Args) -> Result {
    let key = credentials::key_of_server(&args.server).to_owned();
    let mut auth = match given(&args)? {
        Some(auth) => auth,
        None => match credentials::of_key(cli.config()?, &key)? {
            Some(stored) => {
                output::line("Authenticating with existing credentials...");
                stored
            }
            None => ask(args.username.as_deref())?,
        },
    };
    auth.serveraddress.clone_from(&key);
    let answer = cli.client()?.check_login(&auth).await?;
    if !answer.identity_token.is_empty() {
        auth.password.clear();
        auth.identitytoken = answer.identity_token;
    }
    if let Stored::File(path) = logins::store(cli.config()?, &cli.folder()?, &key, &auth)? {
        eprintln!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.\n",
            path.display()
        );
    }
    if !answer.status.is_empty() {
        output::line(answer.status);
    }
    Ok(())
}

/// What the flags say; `None` when they say nothing.
fn given(args: &Args) -> Result<Option<AuthConfig>> {
    let password = match (&args.password, args.password_stdin) {
        (Some(_), true) => fail!("--password and --password-stdin are mutually exclusive"),
        (Some(password), false) => {
            eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
            password.clone()
        }
        (None, true) => {
            if args.username.is_none() {
                fail!("Must provide --username with --password-stdin");
            }
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        (None, false) => return Ok(None),
    };
    let username = match &args.username {
        Some(name) => name.trim().to_owned(),
        None => prompt("Username: ", true)?,
    };
    check(&username, &password)?;
    Ok(Some(AuthConfig {
        username,
        password,
        ..AuthConfig::default()
    }))
}

fn ask(username: Option<&str>) -> Result<AuthConfig> {
    let username = match username {
        Some(name) => name.trim().to_owned(),
        None => prompt("Username: ", true)?,
    };
    let password = prompt("Password: ", false)?;
    check(&username, &password)?;
    Ok(AuthConfig {
        username,
        password,
        ..AuthConfig::default()
    })
}

fn check(username: &str, password: &str) -> Result<()> {
    if username.is_empty() {
        fail!("username is required");
    }
    if password.is_empty() {
        fail!("password is required");
    }
    Ok(())
}

/// One line from the terminal.
fn prompt(question: &str, echo: bool) -> Result<String> {
    if !terminal::stdin_is_terminal() {
        fail!("Cannot perform an interactive login from a non TTY device");
    }
    output::print(question);
    std::io::stdout().flush()?;
    let mut line = String::new();
    {
        let _hidden = if echo { None } else { terminal::Silent::stdin()? };
        std::io::stdin().read_line(&mut line)?;
    }
    if !echo {
        output::line("");
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

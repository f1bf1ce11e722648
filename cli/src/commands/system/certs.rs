//! `system certs`: what a daemon on TCP and its clients need to trust each other, and nobody else.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::cli::Cli;
use crate::failure::{Failure, Result, fail};
use crate::output;

/// As long as a certificate may be valid where that is limited at all (the browsers' rule).
const DAYS: i64 = 825;

/// Make the certificates of a daemon that listens on TCP, and of a client.
#[derive(Debug, clap::Args)]
#[command(after_help = "  # For a daemon that is called lab, and this machine's client
  iechor system certs --host lab --host 192.0.2.7 ~/lab-certs

What is in the folder already is kept: with its ca.pem and ca-key.pem, a further client's
cert.pem and key.pem are made when the old ones were moved away.")]
pub struct Args {
    /// Name or address that clients reach the daemon by (default: this host's name, localhost, 127.0.0.1 and ::1)
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// How long they are valid
    #[arg(long, value_name = "DAYS", default_value_t = DAYS)]
    days: i64,
    #[arg(value_name = "FOLDER", required = true)]
    folder: PathBuf,
}

pub async fn run(_: &Cli, args: Args) -> Result {
    if !(1..=36_500).contains(&args.days) {
        fail!("--days must be between 1 and 36500");
    }
    let folder = Folder {
        path: args.folder,
        days: args.days,
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder.path)
        .map_err(|error| Failure::new(format!("cannot make {}: {error}", folder.path.display())))?;
    let issuer = folder.authority()?;
    folder.pair("server-cert.pem", "server-key.pem", &issuer, || {
        leaf(
            "iechord",
            &hosts(args.host.clone())?,
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    })?;
    folder.pair("cert.pem", "key.pem", &issuer, || {
        leaf("iechor client", &[], ExtendedKeyUsagePurpose::ClientAuth)
    })?;
    let path = std::path::absolute(&folder.path)?;
    let path = path.display();
    output::line(format!(
        "The daemon's flags:\n  --tlsverify --tlscacert={path}/ca.pem --tlscert={path}/server-cert.pem \
         --tlskey={path}/server-key.pem -H tcp://0.0.0.0:2376\n\
         A client's context:\n  iechor context create NAME --docker \
         host=tcp://HOST:2376,ca={path}/ca.pem,cert={path}/cert.pem,key={path}/key.pem\n\
         Whoever has {path}/ca-key.pem can make clients: keep it where nobody finds it."
    ));
    Ok(())
}

/// Names of the daemon, as told or as everybody calls this machine.
fn hosts(told: Vec<String>) -> Result<Vec<String>> {
    if !told.is_empty() {
        return Ok(told);
    }
    let own = nix::unistd::gethostname().map_err(|error| Failure::new(format!("this host has no name: {error}")))?;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let own = own.to_string_lossy().into_owned();
    if !own.is_empty() && !names.contains(&own) {
        names.insert(0, own);
    }
    Ok(names)
}

fn leaf(name: &str, hosts: &[String], purpose: ExtendedKeyUsagePurpose) -> Result<CertificateParams> {
    for host in hosts {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '*');
        if host.parse::<IpAddr>().is_err() && (host.is_empty() || !host.chars().all(is_name)) {
            fail!("{host:?} is neither a host name nor an address");
        }
    }
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

struct Folder {
    path: PathBuf,
    days: i64,
}

impl Folder {
    /// The authority that is there, or a new one.
    fn authority(&self) -> Result<Issuer<'static, KeyPair>> {
        let (cert, key) = (self.path.join("ca.pem"), self.path.join("ca-key.pem"));
        if self.is_there(&cert, &key)? {
            let read = |path: &Path| {
                std::fs::read_to_string(path)
                    .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))
            };
            let key = KeyPair::from_pem(&read(&key)?)?;
            return Ok(Issuer::from_ca_cert_pem(&read(&cert)?, key)?);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "iEchor CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        self.date(&mut params)?;
        let new = KeyPair::generate()?;
        let signed = params.self_signed(&new)?;
        self.write(&key, &new.serialize_pem(), 0o600)?;
        self.write(&cert, &signed.pem(), 0o644)?;
        Ok(Issuer::new(params, new))
    }

    /// A certificate and its key, unless they are there.
    fn pair(
        &self,
        cert: &str,
        key: &str,
        issuer: &Issuer<'_, KeyPair>,
        params: impl FnOnce() -> Result<CertificateParams>,
    ) -> Result {
        let (cert, key) = (self.path.join(cert), self.path.join(key));
        if self.is_there(&cert, &key)? {
            return Ok(());
        }
        let mut params = params()?;
        self.date(&mut params)?;
        let new = KeyPair::generate()?;
        let signed = params.signed_by(&new, issuer)?;
        self.write(&key, &new.serialize_pem(), 0o600)?;
        self.write(&cert, &signed.pem(), 0o644)
    }

    /// Both or neither: half a pair is not replaced behind its owner's back.
    fn is_there(&self, cert: &Path, key: &Path) -> Result<bool> {
        match (cert.exists(), key.exists()) {
            (true, true) => {
                output::warn(format!("{} is kept", cert.display()));
                Ok(true)
            }
            (false, false) => Ok(false),
            (there, _) => {
                let (there, missing) = if there { (cert, key) } else { (key, cert) };
                fail!(
                    "{} is there and {} is not: move it away, or put the other one back",
                    there.display(),
                    missing.display()
                )
            }
        }
    }

    /// Valid from yesterday on, for clocks that are behind.
    fn date(&self, params: &mut CertificateParams) -> Result {
        let today = jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
        let at = |date: jiff::civil::Date| {
            rcgen::date_time_ymd(
                date.year().into(),
                date.month().unsigned_abs(),
                date.day().unsigned_abs(),
            )
        };
        params.not_before = at(today.yesterday()?);
        params.not_after = at(today.checked_add(jiff::Span::new().days(self.days))?);
        Ok(())
    }

    fn write(&self, path: &Path, text: &str, mode: u32) -> Result {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
    }
}

//! TLS settings per registry: whom to trust and what to show.
//!
//! Roots are the system's (`SSL_CERT_FILE`, `SSL_CERT_DIR`, else the usual places), read once when the first TLS
//! connection is made, plus what a `certs.d` folder has for the registry at hand.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// Certificates and keys are small; whatever is larger is something else.
const MAX_PEM: u64 = 4 << 20;

/// Makes and keeps the TLS configuration of each registry.
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    folders: Vec<PathBuf>,
    system: OnceLock<Arc<RootCertStore>>,
    made: Mutex<HashMap<(String, bool), Arc<ClientConfig>>>,
}

impl Tls {
    pub(crate) fn new(folders: Vec<PathBuf>) -> Tls {
        Tls {
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            folders,
            system: OnceLock::new(),
            made: Mutex::default(),
        }
    }

    /// The configuration for `host:port`. Looks for files: not for an async thread.
    pub(crate) fn config(&self, host: &str, port: u16, insecure: bool) -> Result<Arc<ClientConfig>, String> {
        let own = self.own_folders(host, port);
        // Most hosts (each CDN, each token server) have no folder of their own and share one configuration.
        let key = if own.is_empty() {
            String::new()
        } else {
            format!("{host}:{port}")
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(&(key.clone(), insecure)) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make(&own, insecure)?);
        made.insert((key, insecure), config.clone());
        Ok(config)
    }

    /// The existing `certs.d` folders of a registry. Docker writes the port always, and we also take the bare host.
    fn own_folders(&self, host: &str, port: u16) -> Vec<PathBuf> {
        // A host comes from a reference or from a redirect: it must not walk out of the folder.
        if host.starts_with('.') || host.contains(['/', '\0']) {
            return Vec::new();
        }
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let names = [format!("{host}:{port}"), host];
        let all = self
            .folders
            .iter()
            .flat_map(|folder| names.iter().map(move |name| folder.join(name)));
        all.filter(|folder| folder.is_dir()).collect()
    }

    fn make(&self, own: &[PathBuf], insecure: bool) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if insecure {
            let verifier = NoVerification(self.provider.signature_verification_algorithms);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        } else {
            builder.with_root_certificates(self.roots(own)?)
        };
        let mut config = match identity(own)? {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| error.to_string())?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn roots(&self, own: &[PathBuf]) -> Result<Arc<RootCertStore>, String> {
        let system = self.system.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "cannot read system certificates");
            }
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            Arc::new(roots)
        });
        let mut added = Vec::new();
        for folder in own {
            for file in files(folder, "crt")? {
                added.extend(read_certificates(&file)?);
            }
        }
        if added.is_empty() {
            if system.is_empty() {
                return Err(
                    "no certificate authorities are installed on this machine (package ca-certificates)".into(),
                );
            }
            return Ok(system.clone());
        }
        let mut roots = RootCertStore::clone(system);
        for certificate in added {
            roots
                .add(certificate)
                .map_err(|error| format!("unusable certificate authority: {error}"))?;
        }
        Ok(Arc::new(roots))
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The first pair of `NAME.cert` and `NAME.key`.
fn identity(own: &[PathBuf]) -> Result<Option<Identity>, String> {
    for folder in own {
        if let Some(chain) = files(folder, "cert")?.first() {
            let key = chain.with_extension("key");
            let read = PrivateKeyDer::from_pem_slice(&read(&key)?);
            let key = read.map_err(|error| format!("cannot read the key {}: {error}", key.display()))?;
            return Ok(Some((read_certificates(chain)?, key)));
        }
    }
    Ok(None)
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("cannot read the certificate folder {}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |why: String| format!("cannot read {}: {why}", path.display());
    let size = std::fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if size > MAX_PEM {
        return Err(failed("too large for a certificate".to_owned()));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err(format!("no certificate in {}", path.display())),
        Err(error) => Err(format!("cannot read the certificate {}: {error}", path.display())),
    }
}

/// For registries that the administrator called insecure: any certificate will do, though its key must be right.
#[derive(Debug)]
struct NoVerification(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

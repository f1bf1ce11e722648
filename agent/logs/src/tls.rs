//! TLS to a log server: whom to trust and what to show, from files that the container's options name.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFiles {
    /// Empty: the system's.
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub skip_verify: bool,
}

impl TlsFiles {
    /// Reads the files: not for an async thread.
    pub fn config(&self) -> io::Result<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let builder = if self.skip_verify {
            let verifier = Arc::new(NoVerification(algorithms));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        if self.cert.as_os_str().is_empty() {
            return Ok(builder.with_no_client_auth());
        }
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|error| io::Error::other(format!("cannot read the key {}: {error}", self.key.display())))?;
        builder
            .with_client_auth_cert(certificates(&self.cert)?, key)
            .map_err(io::Error::other)
    }

    fn roots(&self) -> io::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        if self.ca.as_os_str().is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        } else {
            for certificate in certificates(&self.ca)? {
                roots.add(certificate).map_err(io::Error::other)?;
            }
        }
        Ok(roots)
    }
}

/// Certificates and keys are small; whatever is larger is something else.
const MAX_PEM: u64 = 4 << 20;

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let failed = |why: String| io::Error::other(format!("cannot read {}: {why}", path.display()));
    let found = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !found.is_file() || found.len() > MAX_PEM {
        return Err(failed("not a file of certificates".into()));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err(io::Error::other(format!("no certificate in {}", path.display()))),
    }
}

/// For `syslog-tls-skip-verify`: any certificate will do, though its key must be right.
#[derive(Debug)]
struct NoVerification(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
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

//! TLS towards a daemon: the CA, certificate and key files that docker's `--tls*` flags name, on rustls with ring.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::error::{Error, Result};

/// Which files to use, and whether the daemon's certificate is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// `--tlsverify`. Without it (`--tls`) the connection is encrypted, but the daemon may be anybody: docker's meaning.
    pub verify: bool,
}

impl TlsOptions {
    pub(crate) fn config(&self, host: &str) -> Result<Arc<ClientConfig>> {
        let fail = |path: &Path, reason: String| Error::Tls {
            host: host.to_owned(),
            path: path.to_owned(),
            reason,
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| fail(Path::new("-"), error.to_string()))?;
        let builder = if self.verify {
            let mut roots = RootCertStore::empty();
            let path = self.ca.as_deref().ok_or_else(|| {
                fail(
                    Path::new("--tlscacert"),
                    "a CA certificate is needed to verify the daemon".to_owned(),
                )
            })?;
            for cert in certificates(path).map_err(|reason| fail(path, reason))? {
                roots.add(cert).map_err(|error| fail(path, error.to_string()))?;
            }
            builder.with_root_certificates(roots)
        } else {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        };
        let config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert).map_err(|reason| fail(cert, reason))?;
                let private = PrivateKeyDer::from_pem_file(key).map_err(|error| fail(key, error.to_string()))?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|error| fail(cert, error.to_string()))?
            }
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), None) => return Err(fail(cert, "a certificate needs its key (--tlskey)".to_owned())),
            (None, Some(key)) => return Err(fail(key, "a key needs its certificate (--tlscert)".to_owned())),
        };
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certs: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| error.to_string())?
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if certs.is_empty() {
        Err("there is no certificate in it".to_owned())
    } else {
        Ok(certs)
    }
}

/// Accepts whoever answers, as `--tls` without `--tlsverify` is defined to; signatures are still checked.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
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
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

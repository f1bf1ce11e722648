//! TLS of the TCP listeners: rustls on ring, client certificates by an authority of the administrator's choice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, crypto};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The files of `--tlscert`, `--tlskey` and `--tlscacert`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who signs clients; `None` takes any client.
    pub client_ca: Option<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {what} from {}", path.display())]
    Read {
        what: &'static str,
        path: PathBuf,
        source: rustls_pki_types::pem::Error,
    },
    #[error("{} holds no certificate", .0.display())]
    Empty(PathBuf),
    #[error("the certificate authority in {} cannot be used", path.display())]
    Authority { path: PathBuf, source: rustls::Error },
    #[error("clients cannot be verified against {}", path.display())]
    Verifier {
        path: PathBuf,
        source: rustls::server::VerifierBuilderError,
    },
    #[error("the certificate in {} and the key in {} cannot be used together", certificate.display(), key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
    #[error("this build of TLS supports no protocol version")]
    Versions(#[source] rustls::Error),
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn acceptor(&self) -> Result<TlsAcceptor, Error> {
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(Error::Versions)?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|source| Error::Authority {
                        path: path.clone(),
                        source,
                    })?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|source| Error::Verifier {
                        path: path.clone(),
                        source,
                    })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|source| Error::Read {
            what: "a private key",
            path: self.key.clone(),
            source,
        })?;
        let mut config = builder
            .with_single_cert(certificates(&self.certificate)?, key)
            .map_err(|source| Error::Pair {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
                source,
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = |source| Error::Read {
        what: "certificates",
        path: path.to_owned(),
        source,
    };
    let list: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<_, _>>()
        .map_err(read)?;
    if list.is_empty() {
        Err(Error::Empty(path.to_owned()))
    } else {
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ClientConfig;
    use rustls_pki_types::ServerName;
    use std::fs;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// A certificate for localhost and its key, as PEM.
    fn leaf(authority: &Authority) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
    }

    fn files(folder: &TempDir, authority: &Authority, verify: bool) -> TlsFiles {
        let at = |name: &str| folder.path().join(name);
        let (certificate, key) = leaf(authority);
        fs::write(at("cert.pem"), certificate).unwrap();
        fs::write(at("key.pem"), key).unwrap();
        fs::write(at("ca.pem"), authority.pem()).unwrap();
        TlsFiles {
            certificate: at("cert.pem"),
            key: at("key.pem"),
            client_ca: verify.then(|| at("ca.pem")),
        }
    }

    /// Whether a client that shows `own` can talk to a server with `files`.
    async fn talks(files: &TlsFiles, authority: &Authority, own: Option<(String, String)>) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = Arc::new(crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        };
        let (client, server) = tokio::io::duplex(16 * 1024);
        let acceptor = files.acceptor().unwrap();
        let serving = tokio::spawn(async move {
            let mut stream = acceptor.accept(server).await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await
        });
        let mut text = String::new();
        let name = ServerName::try_from("localhost").unwrap();
        if let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, client).await {
            let _ = stream.read_to_string(&mut text).await;
        }
        serving.await.unwrap().is_ok() && text == "hello"
    }

    #[tokio::test]
    async fn only_clients_of_the_authority_get_in() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, strangers) = (authority(), authority());
        let files = files(&folder, &ours, true);
        assert!(talks(&files, &ours, Some(leaf(&ours))).await);
        assert!(!talks(&files, &ours, Some(leaf(&strangers))).await);
        assert!(!talks(&files, &ours, None).await);
    }

    #[tokio::test]
    async fn without_an_authority_any_client_may_come() {
        let folder = tempfile::tempdir().unwrap();
        let ours = authority();
        assert!(talks(&files(&folder, &ours, false), &ours, None).await);
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let ours = authority();
        let good = files(&folder, &ours, true);
        let words = |files: TlsFiles| files.acceptor().err().unwrap().to_string();
        let missing = folder.path().join("nothing.pem");
        assert!(
            words(TlsFiles {
                key: missing.clone(),
                ..good.clone()
            })
            .contains("nothing.pem")
        );
        assert!(
            words(TlsFiles {
                certificate: missing.clone(),
                ..good.clone()
            })
            .contains("nothing.pem")
        );
        let empty = folder.path().join("empty.pem");
        fs::write(&empty, "nothing here").unwrap();
        let none = words(TlsFiles {
            client_ca: Some(empty),
            ..good.clone()
        });
        assert!(none.contains("empty.pem holds no certificate"), "{none}");
        // A key that belongs to another certificate.
        fs::write(folder.path().join("other.pem"), leaf(&ours).1).unwrap();
        let other = TlsFiles {
            key: folder.path().join("other.pem"),
            ..good
        };
        assert!(words(other).contains("cannot be used together"));
    }
}

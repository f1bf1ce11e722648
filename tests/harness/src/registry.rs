//! Registries on loopback: Debian's `docker-registry`, and one of our own that stalls and lies on purpose.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Server;
use crate::image::{Image, Packing, digest};
use crate::tools::{Folder, eventually, unpacked};

/// Debian's registry with an empty store.
pub struct Registry {
    child: Child,
    pub address: String,
    _folder: Folder,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
    listener.local_addr().expect("its address").port()
}

impl Registry {
    /// Plain HTTP, on a port of its own.
    pub fn start() -> Registry {
        let folder = Folder::new("registry");
        let address = format!("127.0.0.1:{}", free_port());
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: \"{address}\"}}\n",
            folder.at("data")
        );
        std::fs::write(folder.at("config.yml"), config).expect("the registry's configuration");
        let program = unpacked("registry/usr/bin/docker-registry");
        // The registry must not outlive a test program that was killed.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(["serve", &folder.at("config.yml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts");
        let registry = Registry {
            child,
            address,
            _folder: folder,
        };
        let server = registry.server();
        eventually("the registry answers", 20, || {
            server
                .try_send("GET", "/v2/", &[], &[])
                .is_ok_and(|reply| reply.status == 200)
        });
        registry
    }

    pub fn server(&self) -> Server {
        Server::Tcp(self.address.clone())
    }

    /// Uploads an image; returns its manifest's digest.
    pub fn push(&self, repository: &str, tag: &str, image: &Image, oci: bool, packing: Packing) -> String {
        let (manifest, blobs) = image.manifest(oci, packing);
        for blob in &blobs {
            self.push_blob(repository, blob);
        }
        self.push_manifest(repository, tag, &manifest)
    }

    /// Uploads an image without a tag; returns its manifest's digest.
    pub fn push_nameless(&self, repository: &str, image: &Image) -> String {
        let (manifest, _) = image.manifest(true, Packing::Gzip);
        self.push(repository, &digest(&manifest), image, true, Packing::Gzip)
    }

    /// Uploads an index (a "manifest list") of several images; returns its digest.
    pub fn push_index(&self, repository: &str, tag: &str, images: &[Image]) -> String {
        let mut entries = Vec::new();
        for image in images {
            let (manifest, blobs) = image.manifest(true, Packing::Gzip);
            for blob in &blobs {
                self.push_blob(repository, blob);
            }
            let name = digest(&manifest);
            self.push_manifest(repository, &name, &manifest);
            entries.push(json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": manifest.len(), "digest": name,
                "platform": {"os": "linux", "architecture": image.architecture},
            }));
        }
        let index =
            json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries});
        self.push_manifest(repository, tag, index.to_string().as_bytes())
    }

    fn push_blob(&self, repository: &str, blob: &[u8]) {
        let server = self.server();
        let reply = server
            .send("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[])
            .expect(202);
        let place = reply.header("location").expect("where to upload to").to_owned();
        let path = place
            .split_once("//")
            .map_or(place.as_str(), |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
        let joint = if path.contains('?') { '&' } else { '?' };
        let target = format!("{path}{joint}digest={}", digest(blob).replace(':', "%3A"));
        server
            .send("PUT", &target, &[("Content-Type", "application/octet-stream")], blob)
            .expect(201);
    }

    fn push_manifest(&self, repository: &str, reference: &str, manifest: &[u8]) -> String {
        let parsed: Value = serde_json::from_slice(manifest).expect("a manifest is JSON");
        let kind = parsed["mediaType"].as_str().expect("a media type");
        let target = format!("/v2/{repository}/manifests/{reference}");
        self.server()
            .send("PUT", &target, &[("Content-Type", kind)], manifest)
            .expect(201);
        digest(manifest)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a registry may do to its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// None: serves the image.
    Honest,
    /// Layer bytes that do not have the digest that the manifest promised.
    WrongBytes,
    /// The connection breaks after half of each layer, until a client asks for the rest (Range).
    BreaksHalfway,
    /// Half of a layer, then silence (for ten seconds).
    Stalls,
    /// 500 to everything.
    Broken,
    /// 401 with a challenge that leads nowhere.
    Unauthorized,
    /// 429 three times, then well.
    Busy,
    /// A manifest that is not JSON.
    Garbage,
}

/// An HTTP server that serves one image under every name, with a fault.
pub struct Liar {
    pub address: String,
    pub log: Arc<Mutex<Vec<String>>>,
}

struct Shelf {
    manifest: Vec<u8>,
    blobs: Vec<Vec<u8>>,
    fault: Fault,
    log: Arc<Mutex<Vec<String>>>,
}

impl Liar {
    /// Serves until the test program ends.
    pub fn start(image: &Image, fault: Fault) -> Liar {
        let (manifest, blobs) = image.manifest(true, Packing::Gzip);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let address = listener.local_addr().expect("its address").to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let shelf = Arc::new(Shelf {
            manifest,
            blobs,
            fault,
            log: log.clone(),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shelf = shelf.clone();
                std::thread::spawn(move || drop(shelf.serve(stream)));
            }
        });
        Liar { address, log }
    }

    pub fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

impl Shelf {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut range = None;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                    range = value
                        .trim()
                        .trim_end_matches('-')
                        .split('-')
                        .next()
                        .and_then(|start| start.parse::<usize>().ok());
                }
            }
            let mut words = first.split(' ');
            let (method, target) = (
                words.next().unwrap_or_default().to_owned(),
                words.next().unwrap_or_default().to_owned(),
            );
            self.log.lock().unwrap().push(format!("{method} {target} {range:?}"));
            if !self.answer(&stream, &method, &target, range)? {
                return Ok(());
            }
        }
    }

    /// Whether the connection goes on.
    fn answer(
        &self,
        mut stream: &TcpStream,
        method: &str,
        target: &str,
        range: Option<usize>,
    ) -> std::io::Result<bool> {
        let mut reply = |status: &str, headers: &str, body: &[u8]| -> std::io::Result<()> {
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n",
                body.len()
            )?;
            if method == "HEAD" {
                Ok(())
            } else {
                stream.write_all(body)
            }
        };
        let seen = self.log.lock().unwrap().len();
        match self.fault {
            Fault::Broken => return reply("500 Internal Server Error", "", b"out of order").map(|()| true),
            Fault::Busy if seen <= 3 => {
                return reply("429 Too Many Requests", "Retry-After: 0\r\n", b"").map(|()| true);
            }
            Fault::Unauthorized => {
                let challenge = "WWW-Authenticate: Basic realm=\"nobody\"\r\n";
                let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
                return reply("401 Unauthorized", challenge, body).map(|()| true);
            }
            _ => {}
        }
        if target == "/v2/" {
            return reply("200 OK", "", b"{}").map(|()| true);
        }
        if target.contains("/manifests/") {
            let body = if self.fault == Fault::Garbage {
                b"{\"schemaVersion\": 2, \"layers\": [".to_vec()
            } else {
                self.manifest.clone()
            };
            let headers = format!(
                "Content-Type: application/vnd.oci.image.manifest.v1+json\r\nDocker-Content-Digest: {}\r\n",
                digest(&body)
            );
            return reply("200 OK", &headers, &body).map(|()| true);
        }
        let wanted = target
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .replace("%3A", ":")
            .replace("%3a", ":");
        let Some(position) = self.blobs.iter().position(|blob| digest(blob) == wanted) else {
            return reply("404 Not Found", "", br#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#).map(|()| true);
        };
        let blob = &self.blobs[position];
        let is_layer = position > 0;
        match self.fault {
            Fault::WrongBytes if is_layer => {
                let mut bytes = blob.clone();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0xff;
                reply("200 OK", "", &bytes)?;
            }
            Fault::BreaksHalfway | Fault::Stalls if is_layer && method == "GET" => {
                let start = range.unwrap_or(0);
                let half = if start == 0 { blob.len() / 2 } else { blob.len() };
                let status = if start == 0 {
                    "200 OK".to_owned()
                } else {
                    "206 Partial Content".to_owned()
                };
                let total = blob.len();
                let note = format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1);
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nAccept-Ranges: bytes\r\n{}\r\n",
                    total - start,
                    if start == 0 { "" } else { &note }
                )?;
                stream.write_all(&blob[start..half.max(start)])?;
                if self.fault == Fault::Stalls {
                    std::thread::sleep(Duration::from_secs(10));
                }
                return Ok(half == total);
            }
            _ => reply("200 OK", "Accept-Ranges: bytes\r\n", blob)?,
        }
        Ok(true)
    }
}

/// Reads what is left of a stream, for tests that look at raw bytes.
pub fn drain(reader: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = reader.read_to_end(&mut bytes);
    bytes
}

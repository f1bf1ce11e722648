//! A registry that does as it is told: right, broken, slow or lying.
//!
//! It speaks HTTP/1.1 by hand, since a proper server library would not send wrong lengths or stop in the middle.

#![allow(clippy::unwrap_used, dead_code)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_registry::{Client, ClientConfig, Defaults, Digest, Reference};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: String,
    /// How many requests with this method and path came before.
    pub nth: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub enum Step {
    Send(Vec<u8>),
    Pause(Duration),
    /// Nothing more, and the connection stays open.
    Stall,
    /// Close it.
    Hangup,
    /// Chunks without end.
    Endless,
}

pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub steps: Vec<Step>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        let body = body.into();
        Reply {
            status,
            headers: vec![("Content-Length".into(), body.len().to_string())],
            steps: vec![Step::Send(body)],
        }
    }

    pub fn json(status: u16, body: &Value) -> Reply {
        Reply::new(status, body.to_string()).header("Content-Type", "application/json")
    }

    pub fn error(status: u16, code: &str, message: &str) -> Reply {
        Reply::json(status, &json!({"errors": [{"code": code, "message": message}]}))
    }

    /// Replaces one of the same name.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Reply {
        self.headers.retain(|(existing, _)| existing != name);
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn steps(mut self, steps: Vec<Step>) -> Reply {
        self.steps = steps;
        self
    }
}

pub type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A server; it ends with this value.
pub struct Fake {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    /// Connections open now, and requests being answered at most at once.
    pub open: Arc<AtomicUsize>,
    pub busiest: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub async fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Fake {
        Fake::start_on("127.0.0.1:0".parse().unwrap(), handler, None).await
    }

    /// Where another one was before.
    pub async fn start_at(address: SocketAddr, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Fake {
        Fake::start_on(address, handler, None).await
    }

    pub async fn start_tls(acceptor: TlsAcceptor, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Fake {
        Fake::start_on("127.0.0.1:0".parse().unwrap(), handler, Some(acceptor)).await
    }

    async fn start_on(
        address: SocketAddr,
        handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        acceptor: Option<TlsAcceptor>,
    ) -> Fake {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler: Handler = Arc::new(handler);
        let server = Server {
            handler,
            seen: Arc::default(),
            busy: Arc::default(),
            open: Arc::default(),
            busiest: Arc::default(),
        };
        let (seen, open, busiest) = (server.seen.clone(), server.open.clone(), server.busiest.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (server, acceptor) = (server.clone(), acceptor.clone());
                connections.spawn(async move {
                    server.open.fetch_add(1, Ordering::SeqCst);
                    match acceptor {
                        None => server.serve(stream).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                server.serve(stream).await;
                            }
                        }
                    }
                    server.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Fake {
            address,
            seen,
            open,
            busiest,
            task,
        }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Of what was asked, as `GET /path`.
    pub fn lines(&self) -> Vec<String> {
        self.requests()
            .iter()
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }

    pub fn reference(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.address), &Defaults::default()).unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

#[derive(Clone)]
struct Server {
    handler: Handler,
    seen: Arc<Mutex<Vec<Request>>>,
    busy: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    busiest: Arc<AtomicUsize>,
}

impl Server {
    async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut buffer = Vec::new();
        while let Some(mut request) = read_request(&mut stream, &mut buffer).await {
            {
                let mut seen = self.seen.lock().unwrap();
                request.nth = seen
                    .iter()
                    .filter(|old| old.method == request.method && old.path == request.path)
                    .count();
                seen.push(request.clone());
            }
            let now = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
            self.busiest.fetch_max(now, Ordering::SeqCst);
            let reply = (self.handler)(&request);
            let goes_on = send(&mut stream, &request, reply).await;
            self.busy.fetch_sub(1, Ordering::SeqCst);
            if !goes_on {
                return;
            }
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|end| end == b"\r\n\r\n") {
            break at;
        }
        // Not HTTP but a TLS greeting: refused as Go's server does.
        if buffer.first().is_some_and(|first| !first.is_ascii_uppercase()) {
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n400 Bad Request")
                .await;
            return None;
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(read) if read > 0 => buffer.extend_from_slice(&part[..read]),
            _ => return None,
        }
    };
    let head = String::from_utf8(buffer.drain(..end + 4).collect()).unwrap();
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    while buffer.len() < length {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.ok()?;
        buffer.extend_from_slice(&part[..read]);
    }
    let body = String::from_utf8(buffer.drain(..length).collect()).unwrap();
    Some(Request {
        method,
        path,
        headers,
        body,
        nth: 0,
    })
}

/// Whether the connection can go on.
async fn send(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &Request, reply: Reply) -> bool {
    let mut head = format!("HTTP/1.1 {} Words\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    if stream.write_all(head.as_bytes()).await.is_err() {
        return false;
    }
    if request.method == "HEAD" {
        return true;
    }
    for step in reply.steps {
        let sent = match step {
            Step::Send(bytes) => stream.write_all(&bytes).await,
            Step::Pause(pause) => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
            Step::Stall => {
                // Until the client gives up.
                let mut byte = [0];
                let _ = stream.read(&mut byte).await;
                return false;
            }
            Step::Hangup => return false,
            Step::Endless => loop {
                if stream.write_all(b"1000\r\n").await.is_err()
                    || stream.write_all(&[b' '; 0x1000]).await.is_err()
                    || stream.write_all(b"\r\n").await.is_err()
                {
                    return false;
                }
            },
        };
        if sent.is_err() {
            return false;
        }
    }
    stream.flush().await.is_ok()
}

/// A proxy that takes everybody to the same address, whatever they ask for. Ends with the task.
pub async fn proxy_to(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = heads.clone();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    head.push(byte);
                }
                seen.lock().unwrap().push(String::from_utf8(head).unwrap());
                stream
                    .write_all(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")
                    .await
                    .unwrap();
                let mut onward = TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    (address, heads, task)
}

/// An image with all its documents, and a handler that serves it rightly.
#[derive(Clone)]
pub struct Image {
    pub layers: Vec<Vec<u8>>,
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub index: Vec<u8>,
}

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()})
}

impl Image {
    /// Layers that do not compress and are told apart by every byte.
    pub fn new(sizes: &[usize]) -> Image {
        Image::for_platform(sizes, "amd64")
    }

    pub fn for_platform(sizes: &[usize], architecture: &str) -> Image {
        let layer = |(n, &size): (usize, &usize)| -> Vec<u8> {
            (0..size)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8 ^ n as u8)
                .collect()
        };
        let layers: Vec<Vec<u8>> = sizes.iter().enumerate().map(layer).collect();
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config =
            json!({"os": "linux", "architecture": architecture, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = config.to_string().into_bytes();
        let descriptors: Vec<Value> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, &config), "layers": descriptors});
        let manifest = manifest.to_string().into_bytes();
        let mut entry = descriptor(OCI_MANIFEST, &manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
            .to_string()
            .into_bytes();
        Image {
            layers,
            config,
            manifest,
            index,
        }
    }

    pub fn blob_path(&self, layer: usize) -> String {
        format!("/v2/a/b/blobs/{}", Digest::of(&self.layers[layer]))
    }

    /// Of the repository `a/b`: tags `1` (manifest) and `multi` (index).
    pub fn serve(&self, request: &Request) -> Reply {
        let path = request.path.as_str();
        let manifest_digest = Digest::of(&self.manifest).to_string();
        let index_digest = Digest::of(&self.index).to_string();
        if let Some(selector) = path.strip_prefix("/v2/a/b/manifests/") {
            let (content, media_type) = match selector {
                "multi" => (&self.index, OCI_INDEX),
                digest if digest == index_digest => (&self.index, OCI_INDEX),
                "1" => (&self.manifest, OCI_MANIFEST),
                digest if digest == manifest_digest => (&self.manifest, OCI_MANIFEST),
                _ => return Reply::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            };
            return Reply::new(200, content.clone())
                .header("Content-Type", media_type)
                .header("Docker-Content-Digest", Digest::of(content).to_string());
        }
        if let Some(digest) = path.strip_prefix("/v2/a/b/blobs/") {
            let blobs = self.layers.iter().chain([&self.config]);
            return match blobs.into_iter().find(|blob| Digest::of(blob).as_str() == digest) {
                Some(blob) => ranged(request, blob),
                None => Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
            };
        }
        if path == "/v2/" {
            return Reply::new(200, "{}");
        }
        Reply::error(404, "NAME_UNKNOWN", "repository name not known to registry")
    }
}

/// Where the range of a request begins.
pub fn range_start(request: &Request) -> Option<usize> {
    request
        .header("range")?
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}

pub fn ranged(request: &Request, content: &[u8]) -> Reply {
    match range_start(request) {
        Some(start) => Reply::new(206, &content[start..]).header(
            "Content-Range",
            format!("bytes {start}-{}/{}", content.len() - 1, content.len()),
        ),
        None => Reply::new(200, content),
    }
}

/// Settings with short waits.
pub fn quick() -> ClientConfig {
    ClientConfig {
        stall_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        attempts: 4,
        backoff: Duration::from_millis(4),
        max_backoff: Duration::from_millis(1500),
        ..ClientConfig::default()
    }
}

pub fn client() -> Client {
    Client::new(quick()).unwrap()
}

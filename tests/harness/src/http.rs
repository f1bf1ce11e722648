//! HTTP/1.1 by hand over a unix socket or TCP: every byte is the test's to choose.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde_json::Value;

use crate::definition;
use crate::process::note;
use crate::tools::patience;

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Server {
    Unix(PathBuf),
    Tcp(String),
}

/// A connection to it.
pub enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    /// The body as JSON; null where it is none.
    pub fn json_or_null(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The `message` of an error body; the body itself where it is none.
    pub fn message(&self) -> String {
        let parsed: Option<Value> = serde_json::from_slice(&self.body).ok();
        let message = parsed.as_ref().and_then(|body| body.get("message")?.as_str());
        message.map_or_else(|| self.text(), str::to_owned)
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Reply {
        assert!(
            self.status == status,
            "status {}, not {status}: {}",
            self.status,
            self.message()
        );
        self
    }
}

impl Server {
    #[track_caller]
    pub fn connect(&self) -> Connection {
        self.try_connect()
            .unwrap_or_else(|error| panic!("connect to {self:?}: {error}"))
    }

    pub fn try_connect(&self) -> std::io::Result<Connection> {
        let limit = Some(patience(60));
        Ok(match self {
            Server::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(limit)?;
                Connection::Unix(stream)
            }
            Server::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_read_timeout(limit)?;
                Connection::Tcp(stream)
            }
        })
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn call(&self, method: &str, target: &str, body: Option<&Value>) -> Reply {
        let bytes = body.map(|value| value.to_string().into_bytes());
        let kind = [("Content-Type", "application/json")];
        self.send(method, target, &kind, bytes.as_deref().unwrap_or_default())
    }

    #[track_caller]
    pub fn get(&self, target: &str) -> Reply {
        self.call("GET", target, None)
    }

    #[track_caller]
    pub fn post(&self, target: &str, body: &Value) -> Reply {
        self.call("POST", target, Some(body))
    }

    #[track_caller]
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let reply = self.try_send(method, target, headers, body);
        let reply = reply.unwrap_or_else(|error| panic!("{method} {target}: {error}"));
        note(format!(
            "> {method} {target} -> {} {}",
            reply.status,
            brief(&reply.body)
        ));
        if let Some(wrong) = definition::complaint(method, target, &reply) {
            panic!(
                "{method} {target} answers {} against docs/openapi.json: {wrong}",
                reply.status
            );
        }
        reply
    }

    pub fn try_send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Reply> {
        let mut connection = self.try_connect()?;
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        for (key, value) in headers {
            head.push_str(&format!("{key}: {value}\r\n"));
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        connection.write_all(head.as_bytes())?;
        // A server may answer and close before it has read a body that it does not want.
        let _ = connection.write_all(body);
        read_reply(&mut BufReader::new(connection), method == "HEAD")
    }

    /// Bytes as they are, then everything that comes back until the server closes.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut connection = self.connect();
        let _ = connection.write_all(bytes);
        let _ = connection.shutdown_write();
        let mut answer = Vec::new();
        let _ = connection.read_to_end(&mut answer);
        note(format!("> {} raw bytes -> {}", bytes.len(), brief(&answer)));
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Upgrades to a raw stream, as attach and exec do; panics unless the answer is 101.
    #[track_caller]
    pub fn hijack(&self, target: &str, body: &Value) -> BufReader<Connection> {
        let mut connection = self.connect();
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        connection.write_all(head.as_bytes()).expect("send the request");
        let mut reader = BufReader::new(connection);
        let (status, _) = read_head(&mut reader).expect("an answer");
        assert_eq!(status, 101, "{target} did not upgrade");
        reader
    }
}

impl Connection {
    pub fn shutdown_write(&self) -> std::io::Result<()> {
        match self {
            Connection::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
            Connection::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
        }
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Connection::Unix(stream) => stream.read(buffer),
            Connection::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Connection::Unix(stream) => stream.write(bytes),
            Connection::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn invalid(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<(u16, Vec<(String, String)>)> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| invalid(&format!("no status in {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let text = line.trim_end();
        if text.is_empty() {
            return Ok((status, headers));
        }
        let (key, value) = text
            .split_once(':')
            .ok_or_else(|| invalid(&format!("no header: {text:?}")))?;
        headers.push((key.to_owned(), value.trim().to_owned()));
    }
}

/// Reads an answer: by length, in chunks, or until the end.
pub fn read_reply(reader: &mut impl BufRead, no_body: bool) -> std::io::Result<Reply> {
    let (status, headers) = loop {
        let (status, headers) = read_head(reader)?;
        if status != 100 {
            break (status, headers);
        }
    };
    let mut reply = Reply {
        status,
        headers,
        body: Vec::new(),
    };
    if no_body || matches!(status, 204 | 304) {
        return Ok(reply);
    }
    let length: Option<usize> = reply.header("content-length").and_then(|text| text.parse().ok());
    if reply
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        reply.body = read_chunks(reader)?;
    } else if let Some(length) = length {
        reply.body = vec![0; length];
        reader.read_exact(&mut reply.body)?;
    } else {
        reader.read_to_end(&mut reply.body)?;
    }
    Ok(reply)
}

fn read_chunks(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim_end().split(';').next().unwrap_or_default(), 16);
        let size = size.map_err(|_| invalid(&format!("no chunk size: {line:?}")))?;
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        line.clear();
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn brief(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(600)]).into_owned();
    text.trim().to_owned()
}

/// Splits a multiplexed stream into (stream number, bytes) frames.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while bytes.len() >= 8 {
        let length = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        let end = (8 + length).min(bytes.len());
        frames.push((bytes[0], bytes[8..end].to_vec()));
        bytes = &bytes[end..];
    }
    frames
}

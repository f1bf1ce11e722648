//! Log drivers that send through TLS, against a server of Python's own library: nothing of the project's is on its side.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use harness::daemon::Daemon;
use harness::tools::{Folder, binary, eventually};
use harness::{Test, tests};

use crate::logs::Nothing;

pub fn tests() -> Vec<Test<Nothing>> {
    tests![syslog_through_tls_of_both_sides, fluentd_through_tls]
}

/// Prints its port, and then a line for whatever comes: of whom, and the bytes as Python writes them.
const SERVER: &str = r#"
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1] + '/server-cert.pem', sys.argv[1] + '/server-key.pem')
if sys.argv[2] == 'both':
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(sys.argv[1] + '/ca.pem')
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
def serve(plain):
    try:
        stream = context.wrap_socket(plain, server_side=True)
        print('certificate', stream.getpeercert() or 'none', flush=True)
        while block := stream.recv(65536):
            print('received', block, flush=True)
    except (ssl.SSLError, OSError) as error:
        print('refused', error, flush=True)
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"#;

struct TlsServer {
    child: Child,
    port: u16,
    said: Arc<Mutex<String>>,
}

impl TlsServer {
    fn start(certificates: &str, sides: &str) -> TlsServer {
        let mut child = Command::new("python3")
            .args(["-c", SERVER, certificates, sides])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next().expect("a port").unwrap().parse().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let to = said.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut said = to.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        TlsServer { child, port, said }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn expect(&self, what: &str) -> String {
        eventually(&format!("the server says {what:?}"), 20, || self.said().contains(what));
        self.said()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority, a certificate of 127.0.0.1 and one for a client.
fn certificates(what: &str) -> Folder {
    let folder = Folder::new(what);
    let made = Command::new(binary("iechor"))
        .args(["system", "certs", "--host", "127.0.0.1", &folder.at("")])
        .output()
        .expect("iechor starts");
    assert!(made.status.success(), "{made:?}");
    folder
}

fn log(daemon: &Daemon, driver: &str, options: &[&str], line: &str) {
    let name = harness::tools::tag();
    let options = options.iter().flat_map(|option| ["--log-opt", option]);
    let mut words = vec!["run", "-d", "--name", &name, "--log-driver", driver];
    words.extend(options);
    words.extend(["busybox", "echo", line]);
    daemon.docker(&words).ok();
}

fn syslog_through_tls_of_both_sides(_: &Nothing) {
    let daemon = crate::logs::daemon(&[]);
    let folder = certificates("syslog-tls");
    let server = TlsServer::start(&folder.at(""), "both");
    let address = format!("syslog-address=tcp+tls://127.0.0.1:{}", server.port);
    let file = |option: &str, name: &str| format!("syslog-tls-{option}={}", folder.at(name));
    let (ca, cert, key) = (
        file("ca-cert", "ca.pem"),
        file("cert", "cert.pem"),
        file("key", "key.pem"),
    );

    // Without a certificate of its own the daemon is nobody.
    log(&daemon, "syslog", &[&address, &ca], "from nobody");
    server.expect("refused");

    log(
        &daemon,
        "syslog",
        &[&address, &ca, &cert, &key, "syslog-format=rfc5424"],
        "from somebody",
    );
    let said = server.expect("from somebody");
    assert!(said.contains("certificate {"), "{said}");
    let frame = said
        .lines()
        .find_map(|line| {
            line.strip_prefix("received b'")
                .filter(|line| line.contains("somebody"))
        })
        .expect("a frame");
    // RFC 5425, 4.3: the length of the message in front of it.
    let (length, message) = frame.trim_end_matches('\'').split_once(' ').unwrap();
    assert!(message.starts_with("<30>1 "), "{frame}");
    let bytes = message.replace("\\n", "\n").replace("\\xef\\xbb\\xbf", "\u{feff}");
    assert_eq!(length.parse::<usize>().unwrap(), bytes.len(), "{frame}");
    assert!(!server.said().contains("from nobody"), "{}", server.said());

    // An authority that the daemon does not know is refused, unless it is told not to look.
    let stranger = certificates("syslog-stranger");
    let other = format!("syslog-tls-ca-cert={}", stranger.at("ca.pem"));
    let before = server.said().matches("refused").count();
    log(&daemon, "syslog", &[&address, &other, &cert, &key], "to a stranger");
    eventually("the daemon hangs up", 20, || {
        server.said().matches("refused").count() > before
    });
    let blind = [&address, &other, &cert, &key, "syslog-tls-skip-verify=true"];
    log(&daemon, "syslog", &blind, "to whomever");
    server.expect("to whomever");
    assert!(!server.said().contains("to a stranger"), "{}", server.said());

    let missing = daemon.docker(&[
        "run",
        "--log-driver",
        "syslog",
        "--log-opt",
        &address,
        "--log-opt",
        "syslog-tls-ca-cert=/no/such/file",
        "busybox",
        "true",
    ]);
    assert!(missing.fails(125).contains("/no/such/file"));
    daemon.finish();
}

fn fluentd_through_tls(_: &Nothing) {
    let daemon = crate::logs::daemon(&[]);
    let folder = certificates("fluentd-tls");
    let server = TlsServer::start(&folder.at(""), "one");
    let address = format!("fluentd-address=tls://127.0.0.1:{}", server.port);
    // It has no options for certificates: the machine's are what counts.
    log(&daemon, "fluentd", &[&address], "to a stranger");
    server.expect("refused");
    daemon.stop();
    daemon.launch_with(&[("SSL_CERT_FILE", &folder.at("ca.pem"))]);
    log(&daemon, "fluentd", &[&address], "to a friend");
    server.expect("to a friend");
    daemon.finish();
}

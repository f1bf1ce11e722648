//! Where the programs are, and how patient to be.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder of the binaries under test: `IECHOR_TEST_BIN`, else the one this test program lies in.
pub fn binaries() -> PathBuf {
    if let Some(folder) = std::env::var_os("IECHOR_TEST_BIN") {
        return folder.into();
    }
    let own = std::env::current_exe().expect("the path of this program");
    own.parent().expect("a program lies in a folder").to_path_buf()
}

/// One of the project's binaries.
pub fn binary(name: &str) -> PathBuf {
    let path = binaries().join(name);
    assert!(path.exists(), "{} is missing: run `make build`", path.display());
    path
}

/// What `tests/setup` unpacked.
pub fn unpacked(path: &str) -> PathBuf {
    let tools = match std::env::var_os("IECHOR_TEST_TOOLS") {
        Some(folder) => PathBuf::from(folder),
        None => binaries().parent().expect("the target folder").join("test-tools"),
    };
    let path = tools.join(path);
    assert!(path.exists(), "{} is missing: run `tests/setup`", path.display());
    path
}

/// The docker client: the one on the PATH, else the unpacked one.
pub fn docker() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join("docker"))
        .find(|candidate| candidate.exists())
        .unwrap_or_else(|| unpacked("docker/usr/bin/docker"))
}

/// Where private daemons keep their data, and where folders that tests mount into containers lie.
pub fn scratch() -> PathBuf {
    let folder = match std::env::var_os("IECHOR_TEST_TMP") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::temp_dir().join("ietest"),
    };
    std::fs::create_dir_all(&folder).expect("the scratch folder");
    folder
}

/// A limit on waiting, stretched by `IECHOR_TEST_SLOW` (an emulated machine sets 10 or so).
pub fn patience(seconds: u64) -> Duration {
    let factor = std::env::var("IECHOR_TEST_SLOW")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    Duration::from_secs(seconds * factor)
}

/// Waits until `ready` is true; panics with `what` after `seconds`.
#[track_caller]
pub fn eventually(what: &str, seconds: u64, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + patience(seconds);
    while !ready() {
        assert!(Instant::now() < end, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A TCP port that no address of this machine uses now; somebody else may take it before the test does.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port of this machine");
    listener.local_addr().expect("its address").port()
}

/// A folder of this test alone, removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(what: &str) -> Folder {
        let path = scratch().join(format!("{what}-{}", tag()));
        std::fs::create_dir_all(&path).expect("a folder of one test");
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `name` below it, as text.
    pub fn at(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("an UTF-8 path").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Six letters and digits that nobody else uses.
pub fn tag() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    (0..6).map(|_| ALPHABET[rand::random_range(0..32)] as char).collect()
}

//! What the probe finds around itself.

use std::io;
use std::path::Path;

/// The name of an error: `EACCES`.
pub fn errno(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("{:?}", nix::errno::Errno::from_raw(number)),
        None => error.to_string(),
    }
}

/// `fds`: each open descriptor and what it is, but for the one that lists them.
pub fn descriptors(_: &[String]) -> io::Result<()> {
    let folder = Path::new("/proc/self/fd");
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        if !target.to_string_lossy().ends_with("/fd") {
            println!("{} {}", entry.file_name().to_string_lossy(), target.display());
        }
    }
    Ok(())
}

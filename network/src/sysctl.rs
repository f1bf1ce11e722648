//! Kernel settings under /proc/sys/net. They are those of the calling thread's network namespace.

use std::io;

use crate::error::{Error, Result};

fn path(name: &str) -> String {
    // Interface names may have dots, so the names here are paths below /proc/sys, not dotted ones.
    format!("/proc/sys/{name}")
}

/// Writes a setting if it has another value (reading needs no privilege, and /proc/sys may be read-only).
///
/// # Errors
/// If it can neither be seen to be right nor be set.
pub fn ensure(name: &str, value: &str) -> Result<()> {
    if read(name).is_some_and(|old| old == value) {
        return Ok(());
    }
    write(name, value).map_err(Error::system(format!("set {name} to {value}")))
}

/// Writes a setting.
///
/// # Errors
/// The errno of open(2) or write(2).
pub fn write(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(path(name), value)
}

/// A setting's value, without the line's end.
pub fn read(name: &str) -> Option<String> {
    std::fs::read_to_string(path(name))
        .ok()
        .map(|text| text.trim_end().to_owned())
}

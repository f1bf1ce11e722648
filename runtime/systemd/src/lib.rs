//! Asks systemd for scopes and slices: a blocking D-Bus client in one thread, made of what this needs and no more.
//!
//! ```text
//! SystemdUnit ──Manager──► StartTransientUnit ──► JobRemoved "done"
//!                 │
//!   connection    SASL EXTERNAL, one call at a time, every wait has a limit
//!   message       header and body of one message
//!   marshal       values → bytes       parse   bytes → values, whatever the bytes
//! ```
//!
//! Root speaks to systemd itself (`/run/systemd/private`), where no bus is needed; else to the system bus. A connection
//! is made for a few calls and dropped: systemd sends every unit's changes to whoever is connected, and throws out who
//! does not read them.
//!
//! Deliberately absent: file descriptors in messages, serving calls, a user's own systemd, and threads (the programs
//! that link this clone afterwards). Why not a library: zbus needs threads or an async runtime; rustbus brings older
//! majors of nix, syn and bitflags along, beside ours; zvariant brings serde and does only the smaller half, the values.

#![forbid(unsafe_code)]

mod address;
mod connection;
mod error;
mod manager;
mod marshal;
mod message;
mod parse;

pub use error::Error;
pub use manager::Manager;

use std::path::Path;

/// Whether this machine was booted with systemd as process 1, as `sd_booted(3)` finds out.
pub fn booted() -> bool {
    // The folder itself, not what a link of that name leads to.
    Path::new("/run/systemd/system")
        .symlink_metadata()
        .is_ok_and(|found| found.is_dir())
}

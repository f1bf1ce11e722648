//! `iechor system …`, one file per command.

pub mod certs;
pub mod check;
pub mod df;
pub mod dial_stdio;
pub mod events;
pub mod info;
pub mod prune;

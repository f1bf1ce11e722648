//! What stands behind the flags: each syntax of a value has one file, text in, wire type out.

pub mod csv;
pub mod duration;
pub mod limits;
pub mod mount;
pub mod network;
pub mod pair;
pub mod port;
pub mod security;
pub mod size;
pub mod time;

//! What stands behind the flags: each syntax of a value has one file, text in, wire type out.

pub mod duration;
pub mod size;
pub mod time;

//! `cp`: what goes where, and tars of local files.

pub mod pack;
pub mod rules;
pub mod unpack;

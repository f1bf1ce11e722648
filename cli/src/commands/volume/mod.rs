//! `iechor volume …`, one file per command.

pub mod create;
pub mod duplicate;
pub mod export;
pub mod import;
pub mod inspect;
pub mod ls;
pub mod prune;
pub mod rename;
pub mod rm;

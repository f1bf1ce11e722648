//! `iechor network …`, one file per command.

pub mod inspect;
pub mod ls;

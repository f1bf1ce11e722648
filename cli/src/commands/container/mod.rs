//! `iechor container …`, one file per command.

pub mod attach;
pub mod create;
pub mod exec;
pub mod export;
pub mod inspect;
pub mod kill;
pub mod logs;
pub mod ls;
mod options;
pub mod pause;
pub mod port;
pub mod prune;
pub mod rename;
mod request;
pub mod restart;
pub mod rm;
pub mod run;
pub mod start;
pub mod stats;
pub mod stop;
pub mod top;
pub mod unpause;
pub mod update;
pub mod wait;

//! Real containers, run through the launcher as the daemon does, judged by what the kernel says inside and outside.

#![allow(clippy::unwrap_used)]

mod errors;
mod exec;
mod hardening;
mod isolation;
mod leftovers;
mod life;
mod mounts;
mod rig;
mod streams;
mod users;

macro_rules! new_rig {
    () => {
        match crate::rig::Rig::new() {
            Some(rig) => rig,
            None => return,
        }
    };
}
pub(crate) use new_rig;

#![allow(clippy::unwrap_used)]

mod fake;
mod figures;
mod layouts;
mod live;
mod live_update;
mod mixed;
mod oci;
mod trees;

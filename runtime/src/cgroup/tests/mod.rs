#![allow(clippy::unwrap_used)]

mod fake;
mod live;

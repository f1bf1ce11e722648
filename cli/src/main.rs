#![forbid(unsafe_code)]

mod keys;
mod table;
mod template;
mod units;
mod values;

fn main() {}

//! `features`: what this runtime can do, in the form of the specification.

use crate::error::Result;

pub fn run() -> Result<u8> {
    println!("{}", serde_json::to_string_pretty(&runtime::features::document())?);
    Ok(0)
}

//! `state`: what the specification says of a container, as JSON.

use crate::args::Global;
use crate::error::Result;
use crate::state::Container;

pub fn run(global: &Global, id: &str) -> Result<u8> {
    let container = Container::load(&global.root, id)?;
    println!("{}", serde_json::to_string_pretty(&container.json())?);
    Ok(0)
}

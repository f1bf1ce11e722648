//! `checkpoint` and `restore`: refused by name.

use crate::error::{Error, Result};

pub fn run(verb: &str) -> Result<u8> {
    Err(Error::new(format!(
        "{verb} is not supported by this runtime: it would need CRIU"
    )))
}

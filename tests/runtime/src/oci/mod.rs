//! Each field of the runtime specification, as the kernel shows it.

use harness::Test;

use crate::world::World;

pub fn tests() -> Vec<Test<World>> {
    Vec::new()
}

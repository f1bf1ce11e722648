//! What a hostile container, bundle or rootfs tries, and does not get.
//!
//! Each test makes the attempt for real and asks the kernel what came of it. Where a technique has a number, the test
//! names it. A runtime may refuse the container or confine it; what it may not do is written in the assertions.

use harness::Test;

use crate::world::World;

mod descriptors;

pub fn tests() -> Vec<Test<World>> {
    descriptors::tests()
}

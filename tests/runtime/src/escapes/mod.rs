//! What a hostile container, bundle or rootfs tries, and does not get.
//!
//! Each test makes the attempt for real and asks the kernel what came of it. Where a technique has a number, the test
//! names it. A runtime may refuse the container or confine it; what it may not do is written in the assertions.

use harness::Test;

use crate::world::World;

mod boundaries;
mod descriptors;
mod exhaustion;
mod gadgets;
mod masks;
mod neighbours;
mod privileges;
mod program;
mod races;
mod redirects;
mod targets;
mod terminals;

pub use gadgets::chown_rootfs;

pub fn tests() -> Vec<Test<World>> {
    let mut tests = descriptors::tests();
    tests.extend(program::tests());
    tests.extend(targets::tests());
    tests.extend(races::tests());
    tests.extend(masks::tests());
    tests.extend(redirects::tests());
    tests.extend(gadgets::tests());
    tests.extend(terminals::tests());
    tests.extend(neighbours::tests());
    tests.extend(privileges::tests());
    tests.extend(exhaustion::tests());
    tests.extend(boundaries::tests());
    tests
}

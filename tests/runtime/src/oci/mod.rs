//! Each field of the runtime specification, as the kernel shows it: above all what the specification's own validation
//! programs leave out.

use harness::Test;

use crate::world::World;

mod calls;
mod commands;
mod found;
mod hooks;
mod kernel;
mod lifecycle;
mod mounts;
mod namespaces;
mod process;
mod seccomp;

pub fn tests() -> Vec<Test<World>> {
    let mut tests = namespaces::tests();
    tests.extend(mounts::tests());
    tests.extend(process::tests());
    tests.extend(kernel::tests());
    tests.extend(seccomp::tests());
    tests.extend(hooks::tests());
    tests.extend(lifecycle::tests());
    tests.extend(calls::tests());
    tests.extend(commands::tests());
    tests.extend(found::tests());
    tests
}

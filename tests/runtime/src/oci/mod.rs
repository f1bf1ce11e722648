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
mod systemd;

/// Those of all fields that hold whoever makes the control groups, and what only systemd has to show.
pub fn with_systemd() -> Vec<Test<World>> {
    const OF_THE_FILE_SYSTEM: [&str; 3] = [
        "the_group_is_where_the_configuration_says",
        "a_relative_group_is_below_the_runtimes_own",
        "no_group_path_gives_one_of_its_own",
    ];
    let mut tests = systemd::tests();
    tests.extend(
        self::tests()
            .into_iter()
            .filter(|test| !OF_THE_FILE_SYSTEM.contains(&test.name)),
    );
    tests
}

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

//! The client and the plans for it against the systemd of this machine: `systemd-live [PART-OF-A-NAME...]`, as root.
//!
//! It makes scopes and slices of its own and reloads the manager's configuration, so it belongs into a machine of its
//! own (`tests/qemu/systemd`). Where systemd is not process 1, everything is skipped, and it says so.
#![allow(clippy::unwrap_used)]

mod reload;
mod rig;
mod units;

use std::panic::catch_unwind;
use std::process::{Command, ExitCode};

const TESTS: &[(&str, fn())] = &[
    ("the_version_is_systemctls", units::version),
    ("every_connection_is_answered", units::connections),
    ("a_scope_is_where_the_plan_says_with_its_properties", units::scope),
    (
        "systemd_alone_sets_the_limits_that_the_files_then_repeat",
        units::same_limits,
    ),
    ("slices_nest", units::slices),
    ("a_slice_is_a_unit_too", units::slice_unit),
    ("names_that_need_escapes_are_where_the_plan_says", units::escaped),
    ("stopping_removes_the_unit_and_its_group", units::stop),
    ("a_scope_goes_with_its_last_process", units::last_process),
    ("a_failed_scope_leaves_nothing_behind", units::failed),
    (
        "what_a_failed_unit_left_is_cleared_at_the_next_start",
        units::failed_name,
    ),
    ("a_name_in_use_is_refused", units::exists),
    ("systemds_words_come_through", units::refused),
    ("the_bus_does_as_well", units::bus),
    ("a_scope_outlives_who_asked_for_it", units::creator),
    ("a_process_can_be_cloned_in_and_the_first_one_go", units::placeholder),
    ("annotations_become_properties", units::annotations),
    ("a_reload_changes_no_limit", reload::limits),
    ("a_reload_changes_no_unified_limit", reload::unified),
    ("a_reload_changes_no_update", reload::updated),
    ("a_reload_keeps_devices_allowed_and_denied", reload::devices),
    ("a_reload_keeps_a_device_denied_where_all_are_allowed", reload::denied),
    ("a_reload_keeps_what_systemd_does_not_know", reload::unknown),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, place, pid] = arguments.as_slice()
        && word == "--create"
    {
        units::create(place, pid.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let chosen = |name: &str| arguments.is_empty() || arguments.iter().any(|part| name.contains(part.as_str()));
    let tests: Vec<_> = TESTS.iter().filter(|(name, _)| chosen(name)).collect();
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|out| out.stdout == b"0\n");
    if !runtime_systemd::booted() || !root {
        println!("systemd is not process 1 here, or this is not root");
        println!("suite systemd: 0 passed, 0 failed, {} skipped", tests.len());
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in tests {
        let fine = catch_unwind(test).is_ok();
        println!("test {name} ... {}", if fine { "ok" } else { "FAILED" });
        *(if fine { &mut passed } else { &mut failed }) += 1;
    }
    println!("suite systemd: {passed} passed, {failed} failed, 0 skipped");
    ExitCode::from(u8::from(failed > 0))
}

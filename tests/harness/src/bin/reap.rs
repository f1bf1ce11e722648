//! Removes what the daemons of test programs that were killed have left: by the tags they recorded, nothing else.
#![forbid(unsafe_code)]

fn main() {
    for tag in tests_harness::leaks::reap_orphans() {
        println!("reaped what the test daemon {tag} had left");
    }
}

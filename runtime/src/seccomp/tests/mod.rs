#![allow(clippy::unwrap_used)]

mod default;
mod forms;
mod model;
mod order;
mod projects;
mod random;

use super::profile::{Action, Argument, Compare, Condition, Interfaces, Profile, Rule};
use super::*;
use crate::capabilities;
use model::{Call, run};

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

fn listener() -> Listener {
    Listener {
        path: "/run/agent.sock".into(),
        metadata: None,
    }
}

fn context(capabilities: u64) -> Context {
    Context {
        capabilities,
        kernel: (6, 18),
        native: Abi::X86_64,
    }
}

fn answer(filter: &Filter, name: &str, abi: Abi, args: [u64; 6]) -> u32 {
    let number = syscalls::number(name, abi).unwrap();
    run(
        &filter.program,
        &Call {
            number,
            arch: abi.audit(),
            args,
        },
    )
    .0
}

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

#[test]
fn the_cache_shares_what_is_the_same() {
    let cache = Cache::default();
    let first = cache.get(&Profile::docker(), capabilities::DEFAULT).unwrap();
    // CAP_CHOWN is in no condition of the profile.
    let second = cache.get(&Profile::docker(), capabilities::DEFAULT & !1).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let third = cache.get(&Profile::docker(), capabilities::ALL).unwrap();
    assert!(!Arc::ptr_eq(&first, &third));
}

/// A filter is a matter of the thread, so one of the test's own can have it.
#[test]
fn the_kernel_takes_and_obeys_the_default_filter() {
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let filter = Profile::docker()
        .compile(&Context::of_machine(capabilities::DEFAULT).unwrap())
        .unwrap();
    let outcome = std::thread::spawn(move || {
        runtime_sys::privilege::no_new_privileges().unwrap();
        let started = std::time::Instant::now();
        runtime_sys::privilege::load_seccomp(&filter.program, filter.flags).unwrap();
        println!("loading takes {:?}", started.elapsed());
        let vsock = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let local = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        (unshare(CloneFlags::CLONE_NEWUTS), vsock.map(drop), local.map(drop))
    });
    use nix::errno::Errno::EPERM;
    assert_eq!(outcome.join().unwrap(), (Err(EPERM), Err(EPERM), Ok(())));
}

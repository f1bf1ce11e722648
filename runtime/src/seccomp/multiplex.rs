//! Calls behind one number: on 32-bit x86 `socketcall` and `ipc` carry out what elsewhere are calls of their own.
//!
//! A rule for such a call must also hold for the way through the multiplexer, else a program only had to take that
//! one. There a filter sees which call it is, the first argument, but not that call's own arguments, which are in memory
//! behind the second. So where a rule has conditions, the stricter of its action and the default answers.

use super::arch::Abi;
use super::profile::{Argument, Compare};

/// The multiplexer's name and the condition on its first argument.
pub(super) fn way(name: &str, abi: Abi) -> Option<(&'static str, Argument)> {
    if abi != Abi::X86 {
        return None;
    }
    let find = |list: &[(&str, u64)]| list.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
    let first = |compare, value| Argument {
        index: 0,
        compare,
        value,
    };
    find(&SOCKETCALL)
        .map(|value| ("socketcall", first(Compare::Eq, value)))
        // The upper 16 bits are a version, and not looked at to find the call.
        .or_else(|| find(&IPC).map(|value| ("ipc", first(Compare::MaskedEq(0xffff), value))))
}

/// `SYS_*` of `<linux/net.h>`
const SOCKETCALL: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// `<linux/ipc.h>`
const IPC: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

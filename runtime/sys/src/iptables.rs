//! The legacy iptables of the kernel (ip_tables), which nftables does not show: only its forward policy is asked for.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const GET_INFO: libc::c_int = 64; // IPT_SO_GET_INFO
const GET_ENTRIES: libc::c_int = 65; // IPT_SO_GET_ENTRIES
const NAME: usize = 32; // XT_TABLE_MAXNAMELEN
const INFO: usize = 84; // struct ipt_getinfo
const UNDERFLOW: usize = NAME + 4 + 5 * 4; // its field `underflow`, an offset for each hook
const SIZE: usize = INFO - 4; // its last field
const FORWARD: usize = 2; // NF_INET_FORWARD
const ENTRIES: usize = 40; // struct ipt_get_entries up to its entries, which are aligned to eight
const TARGET_OFFSET: usize = 88; // the field `target_offset` of struct ipt_entry
const VERDICT: usize = 32; // the field `verdict` of struct xt_standard_target
const DROP: i32 = -1; // -NF_DROP - 1

/// Whether chain FORWARD of the legacy table `filter` has the policy DROP, in the calling thread's network namespace.
/// `false` if there is no such table: asking would make one.
///
/// # Errors
/// The errno of socket(2) or getsockopt(2); needs CAP_NET_ADMIN and CAP_NET_RAW.
pub fn forward_policy_is_drop() -> io::Result<bool> {
    let names = match std::fs::read_to_string("/proc/thread-self/net/ip_tables_names") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        names => names?,
    };
    if !names.lines().any(|name| name == "filter") {
        return Ok(false);
    }
    let socket = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        nix::sys::socket::SockProtocol::Raw,
    )?;
    let mut info = [0; INFO];
    info[..6].copy_from_slice(b"filter");
    ask(&socket, GET_INFO, &mut info)?;
    let size = number(&info, SIZE).unwrap_or(0);
    let policy = number(&info, UNDERFLOW + 4 * FORWARD).unwrap_or(0);
    let mut answer = vec![0; ENTRIES + size as usize];
    answer[..6].copy_from_slice(b"filter");
    answer[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
    ask(&socket, GET_ENTRIES, &mut answer)?;
    let verdict = || {
        let rule = ENTRIES + policy as usize;
        let target: [u8; 2] = answer
            .get(rule + TARGET_OFFSET..rule + TARGET_OFFSET + 2)?
            .try_into()
            .ok()?;
        number(&answer, rule + usize::from(u16::from_ne_bytes(target)) + VERDICT)
    };
    Ok(verdict().is_some_and(|verdict| verdict as i32 == DROP))
}

/// getsockopt(2) with a buffer that holds the question and receives the answer.
fn ask(socket: &impl AsRawFd, option: libc::c_int, buffer: &mut [u8]) -> io::Result<()> {
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: the socket is open for the call; the pointer and `length` describe `buffer`, which the kernel may write
    // to and does not keep.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOOKS: u32 = 1 << 1 | 1 << FORWARD | 1 << 3; // in, forward, out
    const RULE: usize = 152; // struct ipt_standard
    const END: usize = 176; // struct ipt_error
    const TARGET: u16 = 112;

    /// Writes the table as `iptables-legacy -P FORWARD …` does: three empty chains with a policy each.
    fn write_filter(forward: i32) -> io::Result<()> {
        let accept = -2;
        let mut entries = Vec::new();
        for (verdict, size, target) in [
            (accept, RULE, 40_u16),
            (forward, RULE, 40),
            (accept, RULE, 40),
            (0, END, 64),
        ] {
            let mut entry = vec![0; size];
            entry[TARGET_OFFSET..TARGET_OFFSET + 2].copy_from_slice(&TARGET.to_ne_bytes());
            entry[TARGET_OFFSET + 2..TARGET_OFFSET + 4].copy_from_slice(&(size as u16).to_ne_bytes());
            let start = usize::from(TARGET);
            entry[start..start + 2].copy_from_slice(&target.to_ne_bytes());
            if size == END {
                entry[start + 2..start + 7].copy_from_slice(b"ERROR");
                entry[start + VERDICT..start + VERDICT + 5].copy_from_slice(b"ERROR");
            } else {
                entry[start + VERDICT..start + VERDICT + 4].copy_from_slice(&verdict.to_ne_bytes());
            }
            entries.extend(entry);
        }
        let mut counters = [0_u8; 16 * 4];
        let mut replace = vec![0; NAME];
        replace[..6].copy_from_slice(b"filter");
        for value in [HOOKS, 4, entries.len() as u32] {
            replace.extend(value.to_ne_bytes());
        }
        for _ in 0..2 {
            for hook in 0..5_u32 {
                let used = HOOKS & 1 << hook != 0;
                replace.extend(if used { (hook - 1) * RULE as u32 } else { 0 }.to_ne_bytes());
            }
        }
        replace.extend(4_u32.to_ne_bytes());
        replace.extend((counters.as_mut_ptr() as usize).to_ne_bytes());
        replace.extend(entries);
        let socket = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            nix::sys::socket::SockProtocol::Raw,
        )?;
        // SAFETY: the pointer and length describe `replace`; the pointer in it leads to `counters`, which has room for
        // the counters of the table's four entries and outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                GET_INFO, // and IPT_SO_SET_REPLACE has the same number
                replace.as_ptr().cast(),
                replace.len() as libc::socklen_t,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    #[test]
    fn a_policy_is_seen_and_asking_makes_no_table() {
        std::thread::spawn(|| {
            crate::netns::enter_new().unwrap();
            assert!(!forward_policy_is_drop().unwrap());
            let names = || std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
            assert_eq!(names(), "");
            if let Err(error) = write_filter(-2) {
                // A kernel without legacy iptables has nothing to be seen.
                assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT), "{error}");
                return;
            }
            assert!(!forward_policy_is_drop().unwrap());
            write_filter(DROP).unwrap();
            assert!(forward_policy_is_drop().unwrap());
        })
        .join()
        .unwrap();
    }
}

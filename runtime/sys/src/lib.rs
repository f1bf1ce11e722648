//! The only crate with `unsafe`: system calls that the standard library and `nix` lack, one file per topic.
//!
//! Wrappers take and return owned or borrowed descriptors, never raw numbers, and name their man page.

pub mod activation;
pub mod allocator;
pub mod bpf;
pub mod clone;
mod cvt;
pub mod entry;
pub mod epoll;
pub mod failpoint;
pub mod fd;
pub mod handles;
pub mod inode_flags;
pub mod inotify;
pub mod iptables;
pub mod keys;
pub mod landlock;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod openat2;
pub mod pidfd;
pub mod port;
pub mod privilege;
pub mod pty;
pub mod quota;
pub mod seccomp;
pub mod seqpacket;
pub mod signals;
pub mod socket;
pub mod text;
pub mod tuning;
pub mod uts;
pub mod xattr;

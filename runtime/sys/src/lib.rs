pub mod inotify;
pub mod netlink;
pub mod netns;
pub mod port;

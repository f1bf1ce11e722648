//! Overlay mounts that are attached nowhere.

use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use runtime_sys::mount::{self, Filesystem};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What takes the writes.
#[derive(Clone, Copy)]
pub(crate) struct Writable<'a> {
    pub upper: &'a Path,
    pub work: &'a Path,
}

/// The layers of the slice, top first, as one tree with these `attributes` (`runtime_sys::mount::attr`).
pub(crate) fn mount(lower: &[PathBuf], writable: Option<Writable<'_>>, attributes: u64) -> io::Result<OwnedFd> {
    match layer_by_layer(lower, writable, attributes) {
        // Perhaps only because the kernel is older than `lowerdir+` (6.8) or its descriptors (6.13).
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(nix::libc::EINVAL | nix::libc::ENOSYS | nix::libc::EBADF)
            ) =>
        {
            classic(lower, writable, attributes)
        }
        made => made,
    }
}

/// As the runtime mounts it at a start: the same options, or a layer would depend on who wrote to it. What a kernel does not
/// know of these it does not do either.
const OFF: [(&str, &str); 3] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "off")];

fn layer_by_layer(lower: &[PathBuf], writable: Option<Writable<'_>>, attributes: u64) -> io::Result<OwnedFd> {
    let overlay = Filesystem::open("overlay")?;
    for layer in lower {
        overlay.path("lowerdir+", layer)?;
    }
    if let Some(Writable { upper, work }) = writable {
        overlay.path("upperdir", upper)?;
        overlay.path("workdir", work)?;
        for (key, value) in OFF.into_iter().chain([("uuid", "null")]) {
            let _ = overlay.string(key, value.as_bytes());
        }
    }
    overlay.mount(attributes)
}

/// By `mount(2)`, which wants a place: in a namespace that one thread has for itself, and that goes when it ends.
fn classic(lower: &[PathBuf], writable: Option<Writable<'_>>, attributes: u64) -> io::Result<OwnedFd> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("store-overlay".into());
        let thread = thread.spawn_scoped(scope, || classic_apart(lower, writable, attributes))?;
        thread.join().map_err(|_| io::Error::other("a thread panicked"))?
    })
}

fn classic_apart(lower: &[PathBuf], writable: Option<Writable<'_>>, attributes: u64) -> io::Result<OwnedFd> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    // Named by descriptor, from the folder that lists them: the kernel copies a page of options, and paths may have colons.
    let mut opened: Vec<OwnedFd> = Vec::new();
    let mut name = |path: &Path| -> io::Result<String> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = nix::fcntl::open(path, flags, Mode::empty())?;
        let name = folder.as_raw_fd().to_string();
        opened.push(folder);
        Ok(name)
    };
    let layers: Vec<String> = lower.iter().map(|layer| name(layer)).collect::<io::Result<_>>()?;
    let mut options = format!("lowerdir={}", layers.join(":"));
    if let Some(Writable { upper, work }) = writable {
        options += &format!(",upperdir={},workdir={}", name(upper)?, name(work)?);
        for (key, value) in OFF {
            options += &format!(",{key}={value}");
        }
    }
    let place = lower.first().ok_or(io::ErrorKind::InvalidInput)?;
    nix::unistd::chdir("/proc/thread-self/fd")?;
    let kind = Some("overlay");
    nix::mount::mount(kind, place, kind, MsFlags::empty(), Some(options.as_str()))?;
    let made = mount::clone_tree(place, false)?;
    mount::set_attributes(made.as_fd(), attributes, 0, 0, false)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use runtime_sys::mount::attr;
    use std::fs;

    /// On new kernels nobody else comes here.
    #[test]
    fn older_kernels_have_the_same_trees() {
        let temp = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = temp.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        // Paths as long as some are, with what the options would take for their own.
        let lower: Vec<PathBuf> = (0..100).map(|n| folder(&format!("{n},:{}", "x".repeat(200)))).collect();
        for (n, layer) in lower.iter().enumerate() {
            fs::write(layer.join("top"), n.to_string()).unwrap();
            fs::write(layer.join(n.to_string()), "").unwrap();
        }
        let read = |tree: &OwnedFd, name: &str| {
            let path = format!("/proc/self/fd/{}/{name}", tree.as_raw_fd());
            fs::read_to_string(path)
        };
        let (upper, work) = (folder("upper"), folder("work"));
        for make in [layer_by_layer, classic] {
            let closed = make(&lower, None, attr::RDONLY | attr::NODEV).unwrap();
            assert_eq!(read(&closed, "top").unwrap(), "0");
            assert!((0..100).all(|n| read(&closed, &n.to_string()).is_ok()));
            let file = |tree: &OwnedFd| format!("/proc/self/fd/{}/new", tree.as_raw_fd());
            let refused = fs::write(file(&closed), "").unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(nix::libc::EROFS));
            let writable = Writable {
                upper: &upper,
                work: &work,
            };
            let open = make(&lower, Some(writable), attr::NODEV).unwrap();
            fs::write(file(&open), "text").unwrap();
            assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "text");
            fs::remove_file(file(&open)).unwrap();
        }
    }
}

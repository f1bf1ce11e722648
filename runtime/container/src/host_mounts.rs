//! Mounts that a process in a user namespace cannot make: the root and what is bound from the host, whose folders it may
//! not enter and whose owners it may not change. A helper with the host's rights makes them detached, in a mount
//! namespace that goes away with it, and hands them over. It also sees to a network namespace that the process joins, and
//! which other users own: its sysfs and its parameters.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use runtime::plan::{Head, Mount, MountSource, Plan, Root};
use runtime::proto::Step;
use runtime::wire::Wire;
use runtime_sys::clone::{Cloned, clone3, exit_now, reap};
use runtime_sys::mount::{self, Filesystem, attr};
use runtime_sys::{privilege, seqpacket};

use crate::child::{self, mounts, rootfs};
use crate::failure::{At, Result};
use crate::namespaces::{self, sent};
use crate::report::{decode, order, word};
use crate::spawn::Spawned;
use crate::{Host, users};

const NEWNET: u64 = libc::CLONE_NEWNET as u64;

/// Sends the child its root and the sources of its mounts.
pub fn hand_over(host: &Host, plan: &Plan, joined: &[OwnedFd], spawned: &Spawned) -> Result<()> {
    let own = host
        .open_proc(&format!("{}/ns/user", spawned.pid), OFlag::O_RDONLY)
        .at(Step::IdMap, "namespace")?;
    let maps = plan
        .head
        .id_maps
        .iter()
        .map(|map| match &plan.head.users {
            // The container's own.
            Some(users) if users == map => own.try_clone().at(Step::IdMap, "namespace"),
            _ => users::namespace(host, map),
        })
        .collect::<Result<Vec<OwnedFd>>>()?;
    let (ours, theirs) = seqpacket::pair().at(Step::Mount, "socket")?;
    let cloned = clone3(&host.single, libc::CLONE_NEWNS as u64, None).at(Step::Clone, "helper")?;
    let Cloned::Parent { pid, .. } = cloned else {
        drop(ours);
        if let Err(failure) = make(host, plan, joined, &maps, spawned.sync.as_fd()) {
            let mut message = vec![word::FAILURE];
            failure.put(&mut message);
            let _ = seqpacket::send(theirs.as_fd(), &message, &[]);
        }
        exit_now(0);
    };
    drop(theirs);
    let mut message = [0u8; 8192];
    let said = seqpacket::receive(ours.as_fd(), &mut message);
    let _ = reap(pid, true);
    match said {
        Ok((count, _)) if count > 0 => Err(decode(message.get(1..count).unwrap_or_default())),
        _ => Ok(()),
    }
}

fn make(host: &Host, plan: &Plan, joined: &[OwnedFd], maps: &[OwnedFd], child: BorrowedFd<'_>) -> Result<()> {
    let shared = mounts::clone_early(plan, joined, maps)?;
    mounts::detach_propagation()?;
    let root = root(plan, maps)?;
    seqpacket::send(child, &[order::ROOT], &[root.as_fd()]).at(Step::Root, "socket")?;
    for (number, (mount, early)) in plan.mounts.iter().zip(shared).enumerate() {
        let source = match (&mount.source, early) {
            (_, Some(tree)) => Some(tree),
            (MountSource::Bind { .. }, None) => mounts::clone_source(mount, maps)?,
            _ => None,
        };
        let Some(tree) = source else { continue };
        send(child, number, mount, &tree)?;
    }
    network(host, plan, joined, child)
}

fn send(child: BorrowedFd<'_>, number: usize, mount: &Mount, tree: &OwnedFd) -> Result<()> {
    let mut message = vec![order::MOUNT];
    (number as u32).put(&mut message);
    seqpacket::send(child, &message, &[tree.as_fd()]).at(Step::Mount, &mount.target)
}

/// Whether a container that has left the host's users behind joins a network that it did not make.
pub fn joins_network(head: &Head) -> bool {
    head.namespaces.joined.iter().any(|joined| joined.kind == NEWNET)
}

/// What takes rights over the network namespace that is joined.
fn network(host: &Host, plan: &Plan, joined: &[OwnedFd], child: BorrowedFd<'_>) -> Result<()> {
    let Some(network) = plan.head.namespaces.joined.iter().find(|joined| joined.kind == NEWNET) else {
        return Ok(());
    };
    namespaces::enter(sent(joined, network.fd)?, NEWNET).at(Step::Join, "network namespace")?;
    for (key, value) in plan.sysctls.iter().filter(|(key, _)| key.starts_with("net/")) {
        child::sysctl(host.proc.as_fd(), key, value)?;
    }
    for (number, mount) in plan.mounts.iter().enumerate() {
        if let Some(tree) = mounts::sysfs(mount)? {
            send(child, number, mount, &tree)?;
        }
    }
    Ok(())
}

/// The root, detached; with its files mapped where the plan says so.
fn root(plan: &Plan, maps: &[OwnedFd]) -> Result<OwnedFd> {
    let Some(map) = plan.root_id_map.map(|index| mounts::map_at(maps, index)).transpose()? else {
        return rootfs::make(&plan.root, place(plan));
    };
    let Root::Overlay {
        lower,
        upper,
        work,
        volatile,
    } = &plan.root
    else {
        let made = rootfs::make(&plan.root, place(plan))?;
        mount::map_ids(made.as_fd(), map, true).at(Step::IdMap, "root")?;
        return Ok(made);
    };
    let stage = Stage::new(place(plan)).at(Step::Root, place(plan))?;
    let mut mapped = Vec::new();
    for layer in lower {
        mapped.push(stage.add(layer, map).at(Step::Root, layer)?);
    }
    // Overlayfs wants both in one mount.
    let (upper, work) = match (upper.parent(), upper.file_name(), work.file_name()) {
        (Some(parent), Some(upper), Some(work_name)) if work.parent() == Some(parent) => {
            let parent = stage.add(parent, map).at(Step::Root, parent)?;
            (parent.join(upper), parent.join(work_name))
        }
        _ => {
            return Err(io::Error::other(
                "the writable layer and its work folder are not beside each other",
            ))
            .at(Step::Root, upper);
        }
    };
    let made = Root::Overlay {
        lower: mapped,
        upper,
        work,
        volatile: *volatile,
    };
    // Overlayfs writes as whoever has mounted it, who has to be somebody in the map: others own no files in there.
    let ids = plan.root_id_map.and_then(|index| plan.head.id_maps.get(index as usize));
    if let Some((user, group)) = ids.and_then(|map| Some((map.users.first()?.outside, map.groups.first()?.outside))) {
        become_user(user, group).at(Step::IdMap, "root")?;
    }
    rootfs::make(&made, &stage.top)
}

/// Takes on a user and a group, and keeps all rights.
fn become_user(user: u32, group: u32) -> io::Result<()> {
    let rights = privilege::capabilities()?;
    privilege::keep_capabilities(true)?;
    privilege::set_group(group)?;
    privilege::set_user(user)?;
    privilege::set_capabilities(rights)
}

fn place(plan: &Plan) -> &Path {
    plan.head
        .socket
        .parent()
        .filter(|path| path.is_dir())
        .unwrap_or(Path::new("/"))
}

/// Folders for mounts that have to be somewhere while an overlay is put together from them, in a namespace of ours.
struct Stage {
    root: PathBuf,
    top: PathBuf,
    count: std::cell::Cell<u32>,
}

impl Stage {
    fn new(place: &Path) -> io::Result<Stage> {
        let fs = Filesystem::open("tmpfs")?;
        fs.string("mode", b"700")?;
        let made = fs.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)?;
        let target = nix::fcntl::open(place, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        mount::attach(made.as_fd(), target.as_fd())?;
        let top = place.join("top");
        std::fs::create_dir(&top)?;
        Ok(Stage {
            root: place.to_owned(),
            top,
            count: Default::default(),
        })
    }

    /// A mapped view of a folder, and where it is.
    fn add(&self, folder: &Path, map: BorrowedFd<'_>) -> io::Result<PathBuf> {
        let tree = mount::clone_tree(folder, false)?;
        mount::map_ids(tree.as_fd(), map, false)?;
        self.count.set(self.count.get() + 1);
        let place = self.root.join(self.count.get().to_string());
        std::fs::create_dir(&place)?;
        let target = nix::fcntl::open(&place, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        mount::attach(tree.as_fd(), target.as_fd())?;
        Ok(place)
    }
}

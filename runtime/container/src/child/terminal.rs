//! A terminal from the container's own devpts.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat, makedev};
use nix::sys::statfs::fstatfs;
use runtime::plan::ConsoleSize;
use runtime::proto::Step;
use runtime_sys::{mount, pty};

use super::root::Root;
use crate::failure::{At, Result, failure};

/// `DEVPTS_SUPER_MAGIC`
const DEVPTS: libc::c_long = 0x1cd1;

/// Opens a new terminal: the master, and the end for the process. Neither trusts a name of the container: what is
/// opened is checked to be a multiplexer of a devpts, and the other end is asked from the master.
pub fn open(root: &Root, size: &ConsoleSize) -> Result<(OwnedFd, OwnedFd)> {
    let path = Path::new("/dev/pts/ptmx");
    let master = root
        .open(path, OFlag::O_RDWR | OFlag::O_NOCTTY)
        .at(Step::Terminal, path)?;
    let about = fstat(&master).at(Step::Terminal, path)?;
    let is_device = SFlag::from_bits_truncate(about.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    let is_devpts = fstatfs(&master).at(Step::Terminal, path)?.filesystem_type().0 == DEVPTS;
    if !is_device || !is_devpts || about.st_rdev != makedev(5, 2) {
        return Err(failure(
            Step::Terminal,
            path,
            Errno::ENXIO,
            "is not the multiplexer of a devpts",
        ));
    }
    pty::unlock(master.as_fd()).at(Step::Terminal, path)?;
    let slave = pty::peer(master.as_fd()).at(Step::Terminal, path)?;
    if (size.rows, size.cols) != (0, 0) {
        pty::resize(master.as_fd(), size.rows, size.cols).at(Step::Terminal, "size")?;
    }
    Ok((master, slave))
}

/// Shows the terminal as `/dev/console`.
pub fn console(root: &Root, slave: &OwnedFd) -> Result<()> {
    let path = Path::new("/dev/console");
    let target = root.own_file(path).at(Step::Terminal, path)?;
    let tree = mount::clone_tree_of(slave.as_fd(), false).at(Step::Terminal, path)?;
    mount::attach(tree.as_fd(), target.as_fd()).at(Step::Terminal, path)
}

//! `pause` and `resume`.

use runtime::cgroup::{CgroupPath, Cgroups, Freeze};

use crate::args::Global;
use crate::error::{Error, Result};
use crate::state::{Container, Status};

pub fn run(global: &Global, id: &str, pause: bool) -> Result<u8> {
    let container = Container::load(&global.root, id)?;
    let cgroups = Cgroups::detect()?;
    let path = CgroupPath::new(&container.record.cgroup)?;
    match (pause, container.status()) {
        (true, Status::Running | Status::Created) => cgroups.freeze(&path)?,
        (false, Status::Paused) => cgroups.thaw(&path)?,
        (true, status) => return Err(Error::new(format!("container not running: {}", status.word()))),
        (false, _) => return Err(Error::new("container not paused")),
    }
    Ok(0)
}

/// Whether the container's groups are frozen.
pub fn is_paused(container: &Container) -> bool {
    let state = CgroupPath::new(&container.record.cgroup).and_then(|path| Cgroups::detect()?.freeze_state(&path));
    matches!(state, Ok(Freeze::Frozen | Freeze::Freezing))
}

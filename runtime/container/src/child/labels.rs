//! Labels of security modules, which take effect with the next `exec`.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use runtime::plan::Labels;
use runtime::proto::Step;

use crate::Host;
use crate::failure::{Result, failure};

/// Asks for the labels. By the host's procfs: that of the container could be a fake (CVE-2019-16884).
pub fn apply(host: &Host, labels: &Labels) -> Result<()> {
    if !labels.apparmor.is_empty() {
        let wanted = format!("exec {}", labels.apparmor);
        // Before Linux 5.8 the module has no folder of its own.
        match write(host, "self/attr/apparmor/exec", &wanted) {
            Err(Errno::ENOENT) => write(host, "self/attr/exec", &wanted),
            other => other,
        }
        .map_err(|errno| named(&labels.apparmor, errno, "AppArmor"))?;
    }
    if !labels.selinux.is_empty() {
        write(host, "self/attr/exec", &labels.selinux).map_err(|errno| named(&labels.selinux, errno, "SELinux"))?;
    }
    Ok(())
}

fn write(host: &Host, path: &str, value: &str) -> nix::Result<()> {
    let file = host.open_proc(path, OFlag::O_WRONLY)?;
    nix::unistd::write(&file, value.as_bytes()).map(drop)
}

fn named(label: &str, errno: Errno, module: &str) -> runtime::proto::Failure {
    let message = match errno {
        Errno::EINVAL | Errno::ENOENT => format!("{module} does not know it, or is not enabled on this machine"),
        _ => String::new(),
    };
    failure(Step::Label, label, errno, message)
}

/// The mount option that gives the files of a new file system a label.
pub fn context_option(label: &str) -> Option<(&'static str, &str)> {
    (!label.is_empty()).then_some(("context", label))
}

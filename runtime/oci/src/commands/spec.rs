//! `spec`: a configuration to begin with.

use std::fs::OpenOptions;
use std::io::Write;

use oci_spec::runtime::{Linux, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType};

use crate::args::Spec;
use crate::error::{Context, Result};

pub fn run(args: &Spec) -> Result<u8> {
    let mut spec = runtime::defaults::spec(vec!["sh".into()]);
    spec.set_version(runtime::spec::VERSION.into());
    spec.set_hostname(Some("iechor".into()));
    if let Some(root) = spec.root_mut() {
        root.set_readonly(Some(true));
    }
    if let Some(process) = spec.process_mut() {
        process.set_terminal(Some(true)).set_no_new_privileges(Some(true));
        process.env_mut().get_or_insert_default().push("TERM=xterm".into());
    }
    if let (true, Some(linux)) = (args.rootless, spec.linux_mut()) {
        rootless(linux);
        for mount in spec.mounts_mut().iter_mut().flatten() {
            // A group that is not mapped cannot own terminals.
            if let Some(options) = mount.options_mut() {
                options.retain(|option| !option.starts_with("gid="));
            }
        }
    }
    let path = args.bundle.join("config.json");
    let what = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .context(what())?;
    let text = serde_json::to_string_pretty(&spec)?;
    writeln!(file, "{text}").context(what())?;
    Ok(0)
}

/// One user, ourselves, as root of a namespace of our own; the network stays the host's, and limits are somebody else's.
fn rootless(linux: &mut Linux) {
    let map = |id: u32| {
        let map = LinuxIdMappingBuilder::default()
            .container_id(0u32)
            .host_id(id)
            .size(1u32)
            .build();
        map.ok().map(|map| vec![map])
    };
    linux.set_uid_mappings(map(nix::unistd::geteuid().as_raw()));
    linux.set_gid_mappings(map(nix::unistd::getegid().as_raw()));
    linux.set_resources(None);
    if let Some(list) = linux.namespaces_mut() {
        list.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
        let mut user = LinuxNamespace::default();
        user.set_typ(LinuxNamespaceType::User);
        list.push(user);
    }
}

//! Units and processes that are gone at the end of a test, whatever happens.

use runtime::cgroup::{Cgroups, Resources, UnitPlace};
use runtime::plan::CgroupPlan;
use runtime::systemd::{SystemdUnit, UnitProperty};
use runtime_systemd::Manager;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A process that waits to be killed.
pub struct Sleeper(pub Child);

impl Sleeper {
    pub fn start() -> Sleeper {
        Sleeper(Command::new("sleep").arg("1000").spawn().unwrap())
    }

    pub fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    pub fn alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `cgroupsPath` with a name that no test had before.
pub fn fresh(slice_and_prefix: &str) -> UnitPlace {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = format!("{slice_and_prefix}:{}n{number}", std::process::id());
    UnitPlace::parse(&path, "", "").unwrap()
}

pub fn plan(place: &UnitPlace, user: &[UnitProperty], resources: &Resources) -> (CgroupPlan, SystemdUnit) {
    let version = Manager::connect().unwrap().version().unwrap();
    let groups = Cgroups::detect().unwrap();
    groups
        .plan_unit(place, "a test's container", user, resources, version)
        .unwrap()
}

/// A unit with a process in it.
pub struct Unit {
    pub place: UnitPlace,
    pub plan: CgroupPlan,
    pub process: Sleeper,
}

impl Unit {
    /// What systemd alone does.
    pub fn start(place: UnitPlace, user: &[UnitProperty], resources: &Resources) -> Unit {
        let (plan, unit) = plan(&place, user, resources);
        let unit_of = Unit {
            place,
            plan,
            process: Sleeper::start(),
        };
        let pid = unit_of.process.pid();
        Manager::connect().unwrap().start_unit(&unit, &[pid]).unwrap();
        unit_of
    }

    /// And what the shim does afterwards.
    pub fn finished(place: UnitPlace, resources: &Resources) -> Unit {
        let unit = Unit::start(place, &[], resources);
        unit.write();
        unit
    }

    pub fn write(&self) {
        for write in self.plan.parent_writes.iter().chain(&self.plan.writes) {
            fs::write(&write.path, &write.value).unwrap_or_else(|error| panic!("{write:?}: {error}"));
        }
        if !self.plan.devices.is_empty() {
            let folder = fs::File::open(self.folder()).unwrap();
            let program = runtime_sys::bpf::load_device_program(&self.plan.devices).unwrap();
            runtime_sys::bpf::attach_device_program(folder.as_fd(), program.as_fd()).unwrap();
        }
    }

    pub fn name(&self) -> &str {
        &self.place.name
    }

    pub fn folder(&self) -> PathBuf {
        Path::new("/sys/fs/cgroup").join(&self.place.path.as_str()[1..])
    }

    pub fn file(&self, name: &str) -> String {
        let file = self.folder().join(name);
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.trim().to_owned()
    }

    /// Whether `script` succeeds in the group.
    pub fn can(&self, script: &str) -> bool {
        let script = format!("echo 0 >{}/cgroup.procs && {script}", self.folder().display());
        Command::new("sh").args(["-c", &script]).status().unwrap().success()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.process.0.kill();
        let _ = Manager::connect().and_then(|mut manager| manager.stop_unit(&self.place.name));
    }
}

/// A property as systemctl shows it.
pub fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "-p", property, "--", unit])
}

pub fn systemctl(arguments: &[&str]) -> String {
    let out = Command::new("systemctl").args(arguments).output().unwrap();
    assert!(
        out.status.success(),
        "systemctl {arguments:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// Waits (10 s) until something is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !so() {
        assert!(started.elapsed() < Duration::from_secs(10), "not in 10 s: {what}");
        sleep(Duration::from_millis(50));
    }
}

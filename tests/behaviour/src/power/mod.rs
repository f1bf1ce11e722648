//! Power loss: the disk forgets what it was not told to keep, and nothing that was acknowledged is gone.
//!
//! ```text
//! first life:   two workers ─▶ daemon ─▶ ext4 ─▶ a disk that notes writes and flushes
//!               each answer is noted with the disk's position at that time
//! for each cut: image of the disk as of then ─▶ mounted (the journal is replayed) ─▶ daemon after a "reboot" ─▶ compare
//! ```
//!
//! Of each object the last state that was acknowledged before the cut must be there, or one that was asked for since.
//! A reboot takes processes, mounts, groups, links, nft tables and the exec root, and the machine has a new boot identity.

mod disk;
mod life;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::daemon::{Daemon, Options};
use harness::image::Image;
use harness::registry::Registry;
use harness::tools::{Folder, patience};
use harness::{Test, tests};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use disk::{Recorder, host};
use life::{Act, After, Worker};

pub struct Nothing;

pub fn tests() -> Vec<Test<Nothing>> {
    tests![what_was_acknowledged_survives_a_power_loss]
}

const CUTS: usize = 20;

/// What each client does: a container, a volume or an image.
const ROUNDS: usize = 25;

/// A daemon whose machine can lose power.
struct Machine {
    daemon: Daemon,
    root: PathBuf,
    media: PathBuf,
    /// In it is what the daemon is told of the boot's identity.
    boot: Folder,
}

impl Machine {
    fn new() -> Machine {
        let boot = Folder::new("boot");
        std::fs::write(boot.at("id"), "before").unwrap();
        let wrapper = format!(
            "mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$0\" \"$@\"",
            boot.at("id")
        );
        let daemon = Daemon::start(Options {
            wrapper: ["unshare", "-m", "sh", "-c", &wrapper].map(str::to_owned).to_vec(),
            ..Options::default()
        });
        daemon.stop();
        let media = daemon.places.data.join("media");
        std::fs::create_dir(&media).unwrap();
        Machine {
            root: daemon.places.data.join("root"),
            media,
            daemon,
            boot,
        }
    }

    /// Ends everything at once.
    fn power_off(&self) {
        self.daemon.kill9();
        self.daemon.places.power_off(Some(&self.media));
        let exec = &self.daemon.places.exec;
        std::fs::remove_dir_all(exec).unwrap();
        std::fs::create_dir_all(exec).unwrap();
    }

    /// Starts on this disk; returns what the daemon said while it started.
    fn boot(&self, disk: &Path, number: usize) -> String {
        disk::mount(disk, &self.root);
        let log = self.daemon.places.data.join("iechord.log");
        let before = std::fs::metadata(&log).unwrap().len() as usize;
        std::fs::write(self.boot.at("id"), format!("boot {number}")).unwrap();
        self.daemon.launch();
        std::fs::read_to_string(&log).unwrap()[before..].to_owned()
    }

    /// Two clients at once; what they were told.
    fn live(&self, recorder: &Recorder, seed: u64) -> Vec<Act> {
        let registry = Registry::start();
        let workers: Vec<Vec<Act>> = std::thread::scope(|scope| {
            let work = ["a", "b"].map(|name| {
                let worker = Worker {
                    name,
                    daemon: &self.daemon,
                    registry: &registry,
                    recorder,
                    random: StdRng::seed_from_u64(seed + u64::from(name.as_bytes()[0])),
                    acts: Vec::new(),
                };
                scope.spawn(|| worker.live(ROUNDS))
            });
            work.map(|work| work.join().expect("a client")).into()
        });
        workers.into_iter().flatten().collect()
    }

    /// What differs from what was promised at this cut.
    fn losses(&self, acts: &[Act], cut: usize, named: &str) -> Vec<String> {
        let mut allowed: BTreeMap<&str, Vec<After>> = BTreeMap::new();
        // In the order of the answers to each client, which alone touches its objects.
        for act in acts {
            let states = allowed.entry(&act.key).or_insert_with(|| vec![After::Nothing]);
            if act.told <= cut {
                *states = vec![act.after.clone()];
            } else if act.begun <= cut {
                states.push(act.after.clone());
            }
        }
        let judged = allowed
            .iter()
            .map(|(key, states)| life::judge(&self.daemon, key, states, named));
        let mut losses: Vec<String> = judged.filter_map(Result::err).collect();
        let found = self.settled_check();
        if found != json!([]) {
            losses.push(format!("the check says {found}"));
        }
        if life::said(&self.daemon, "busybox", &["echo", "works"]) != "works" {
            losses.push("a new container does not work".to_owned());
        }
        // By now policy has started what it starts.
        for (key, states) in allowed.iter().filter(|(_, states)| **states == [After::Stopped]) {
            losses.extend(life::judge(&self.daemon, key, states, named).err());
        }
        losses
    }

    fn settled_check(&self) -> Value {
        let end = Instant::now() + patience(5);
        loop {
            let found = self.daemon.server.get("/system/check").expect(200).json()["Differences"].clone();
            if found == json!([]) || Instant::now() > end {
                return found;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn what_was_acknowledged_survives_a_power_loss(_: &Nothing) {
    if std::env::var_os("IECHOR_TEST_HOST").is_some() {
        harness::suite::skip("needs a daemon of its own on a disk of its own");
    }
    let seed = std::env::var("IECHOR_RANDOM_BASE")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("        IECHOR_RANDOM_BASE={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let begun = Instant::now();
    let machine = Machine::new();
    let recorder = Recorder::new(&machine.media, 96);
    machine.boot(&recorder.disk(), 0);
    machine.daemon.load(&Image::busybox(), "busybox:latest");
    host("sync", &["-f", machine.root.to_str().unwrap()]);
    let ready = recorder.position();
    let acts = machine.live(&recorder, seed);
    let end = recorder.position();
    machine.power_off();
    let mut recording = recorder.finish();
    println!(
        "        {} answers, {} writes and flushes, {} flushes, in {:?}",
        acts.len(),
        recording.len(),
        recording.flushes(),
        begun.elapsed()
    );
    // Right behind an answer most of all, for what was promised there is the youngest.
    let mut cuts: Vec<usize> = (0..CUTS)
        .map(|number| match number % 3 {
            0 => random.random_range(ready..=end),
            _ => acts[random.random_range(0..acts.len())].told,
        })
        .collect();
    cuts.sort_unstable();
    let mut losses = Vec::new();
    for (number, cut) in cuts.into_iter().enumerate() {
        let kept = [0.0, 0.5, 0.9, 0.0][number % 4];
        harness::process::take_transcript();
        harness::process::note(format!("cut {number} at {cut}, kept {kept}"));
        let image = recording.image(cut, kept, &mut random);
        let named = machine.boot(&image, number + 1);
        let found = machine.losses(&acts, cut, &named);
        losses.extend(
            found
                .into_iter()
                .map(|loss| format!("cut {number} at {cut}, kept {kept}: {loss}")),
        );
        machine.power_off();
        std::fs::remove_file(&image).unwrap();
    }
    println!("        {CUTS} cuts, all in {:?}", begun.elapsed());
    assert!(losses.is_empty(), "lost:\n    {}", losses.join("\n    "));
}

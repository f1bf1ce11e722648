//! The state machine: what a container is, and which request it admits.
//!
//! ```text
//!            start              exit
//! Created ─────────► Running ─────────► Exited ──► (start again)
//!                    │  ▲   │ policy        ▲
//!              pause ▼  │   └────► Restarting ─► Running
//!                   Paused
//! any ──remove──► Removing ──► gone (or Dead, when something could not be removed)
//! ```

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    #[default]
    Created,
    Running,
    Paused,
    /// It ended and waits for its restart policy's delay.
    Restarting,
    Exited,
    Removing,
    /// Its removal failed half way; only removal may be tried again.
    Dead,
}

impl Phase {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Created => "created",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Restarting => "restarting",
            Phase::Exited => "exited",
            Phase::Removing => "removing",
            Phase::Dead => "dead",
        }
    }

    /// Whether a process of it exists.
    pub fn is_live(self) -> bool {
        matches!(self, Phase::Running | Phase::Paused)
    }
}

/// What somebody wants of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    Start,
    Stop,
    Kill,
    Exec,
    Attach,
    Resize,
    Top,
    Pause,
    Unpause,
    Rename,
    Remove { force: bool },
}

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It is already as the request wants it (304 in REST).
    AlreadySo,
    NotRunning,
    Paused,
    NotPaused,
    Restarting,
    Removing,
    StillRunning,
    Dead,
}

impl Phase {
    /// Whether `request` may run now. Pure, so that a test can try every sequence.
    pub fn admit(self, request: Request) -> Result<(), Denied> {
        use Phase::{Created, Dead, Exited, Paused, Removing, Restarting, Running};
        use Request as R;
        match (self, request) {
            (Removing, _) => Err(Denied::Removing),
            (Dead, R::Remove { .. }) => Ok(()),
            (
                Dead,
                R::Start
                | R::Stop
                | R::Kill
                | R::Exec
                | R::Attach
                | R::Resize
                | R::Top
                | R::Pause
                | R::Unpause
                | R::Rename,
            ) => Err(Denied::Dead),

            (Created | Exited, R::Start) => Ok(()),
            (Running, R::Start) => Err(Denied::AlreadySo),
            (Paused, R::Start) => Err(Denied::Paused),
            // To Docker it runs, and so there is nothing to start.
            (Restarting, R::Start) => Err(Denied::AlreadySo),

            (Running | Paused | Restarting, R::Stop) => Ok(()),
            (Created | Exited, R::Stop) => Err(Denied::AlreadySo),

            (Running | Paused, R::Kill) => Ok(()),
            (Restarting, R::Kill) => Ok(()),
            (Created | Exited, R::Kill) => Err(Denied::NotRunning),

            (Running, R::Exec | R::Resize | R::Top | R::Pause) => Ok(()),
            (Paused, R::Exec) => Err(Denied::Paused),
            (Paused, R::Resize | R::Top) => Ok(()),
            (Paused, R::Pause) => Err(Denied::Paused),
            (Restarting, R::Exec | R::Resize | R::Top | R::Pause) => Err(Denied::Restarting),
            (Created | Exited, R::Exec | R::Resize | R::Top | R::Pause) => Err(Denied::NotRunning),

            (Paused, R::Unpause) => Ok(()),
            (Created | Running | Restarting | Exited, R::Unpause) => Err(Denied::NotPaused),

            (Created | Running | Exited, R::Attach) => Ok(()),
            (Paused, R::Attach) => Err(Denied::Paused),
            (Restarting, R::Attach) => Err(Denied::Restarting),

            (Created | Running | Paused | Restarting | Exited, R::Rename) => Ok(()),

            (Created | Exited, R::Remove { .. }) => Ok(()),
            (Running | Paused | Restarting, R::Remove { force: true }) => Ok(()),
            (Running | Paused | Restarting, R::Remove { force: false }) => Err(Denied::StillRunning),
        }
    }
}

/// What is known of a container's runs; kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub phase: Phase,
    /// First process of the current run, in the host's pid namespace; 0 when none.
    pub pid: i32,
    pub exit_code: i32,
    pub oom_killed: bool,
    /// Why the last start failed.
    pub error: String,
    pub started_at: Option<SystemTime>,
    pub finished_at: Option<SystemTime>,
    pub restart_count: u32,
    /// How many runs have ended; `wait next-exit` counts by it.
    pub exits: u64,
    /// Somebody asked it to stop: restart policies other than `always` leave it alone after a daemon restart.
    pub stopped_by_user: bool,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const PHASES: [Phase; 7] = [
        Phase::Created,
        Phase::Running,
        Phase::Paused,
        Phase::Restarting,
        Phase::Exited,
        Phase::Removing,
        Phase::Dead,
    ];

    fn requests() -> impl Strategy<Value = Request> {
        prop::sample::select(vec![
            Request::Start,
            Request::Stop,
            Request::Kill,
            Request::Exec,
            Request::Attach,
            Request::Resize,
            Request::Top,
            Request::Pause,
            Request::Unpause,
            Request::Rename,
            Request::Remove { force: false },
            Request::Remove { force: true },
        ])
    }

    /// What happens to a container.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask(Request),
        /// Its process ends, and its policy starts it again or not.
        End {
            again: bool,
        },
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => requests().prop_map(Step::Ask),
            1 => any::<bool>().prop_map(|again| Step::End { again }),
        ]
    }

    /// What an admitted request leads to, as the engine carries it out.
    fn after(phase: Phase, request: Request) -> Option<Phase> {
        Some(match request {
            Request::Start => Phase::Running,
            Request::Stop | Request::Kill => Phase::Exited,
            Request::Pause => Phase::Paused,
            Request::Unpause => Phase::Running,
            Request::Remove { .. } => return None,
            Request::Exec | Request::Attach | Request::Resize | Request::Top | Request::Rename => phase,
        })
    }

    #[test]
    fn only_a_live_container_takes_execs_and_signals() {
        for phase in PHASES {
            if phase.admit(Request::Exec).is_ok() {
                assert_eq!(phase, Phase::Running);
            }
            if !phase.is_live() && phase != Phase::Restarting {
                assert!(phase.admit(Request::Kill).is_err(), "{phase:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_sequence_keeps_the_rules(steps in prop::collection::vec(steps(), 0..40)) {
            let mut phase = Phase::Created;
            for step in steps {
                let live = phase.is_live();
                let request = match step {
                    Step::Ask(request) => request,
                    Step::End { again } => {
                        if live {
                            phase = if again { Phase::Restarting } else { Phase::Exited };
                        }
                        continue;
                    }
                };
                match phase.admit(request) {
                    Ok(()) => match after(phase, request) {
                        Some(next) => {
                            // A start never makes a second process of one container, nor goes before its policy's delay.
                            prop_assert!(!(request == Request::Start && (live || phase == Phase::Restarting)));
                            phase = next;
                        }
                        None => {
                            let forced = request == Request::Remove { force: true };
                            prop_assert!(forced || !live, "removed while {phase:?}");
                            return Ok(());
                        }
                    },
                    Err(denied) => {
                        if denied == Denied::NotRunning { prop_assert!(!live); }
                        if denied == Denied::Restarting { prop_assert_eq!(phase, Phase::Restarting); }
                        if denied == Denied::StillRunning { prop_assert!(live || phase == Phase::Restarting); }
                    }
                }
            }
        }

        #[test]
        fn what_waits_for_its_policy_is_only_ended(request in requests()) {
            let ends = matches!(request, Request::Stop | Request::Kill | Request::Remove { force: true });
            let admitted = Phase::Restarting.admit(request).is_ok();
            prop_assert_eq!(admitted, ends || request == Request::Rename);
        }

        #[test]
        fn force_always_removes_unless_it_is_on_its_way(index in 0usize..7) {
            let phase = PHASES[index];
            prop_assert_eq!(phase.admit(Request::Remove { force: true }).is_ok(), phase != Phase::Removing);
        }
    }
}

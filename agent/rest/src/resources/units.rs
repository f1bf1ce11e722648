//! Words for people: how long ago, and what a container is doing.

use std::time::{Duration, SystemTime};

use agent_engine::Phase;
use agent_engine::container::health::HealthState;
use agent_engine::container::state::Status;

/// `About a minute`, `3 hours`, as Docker's tables say it.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Go rounds hours: 90 minutes are 2 hours.
    let hours = (duration.as_secs_f64() / 3600.0).round() as u64;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

fn ago(then: Option<SystemTime>, now: SystemTime) -> String {
    human(then.and_then(|then| now.duration_since(then).ok()).unwrap_or_default())
}

/// The `Status` column.
pub fn status(status: &Status, health: Option<HealthState>, now: SystemTime) -> String {
    match status.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Dead => "Dead".to_owned(),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Restarting => format!("Restarting ({}) {} ago", status.exit_code, ago(status.finished_at, now)),
        Phase::Exited => format!("Exited ({}) {} ago", status.exit_code, ago(status.finished_at, now)),
        Phase::Paused => format!("Up {} (Paused)", ago(status.started_at, now)),
        Phase::Running => {
            let up = ago(status.started_at, now);
            match health {
                None => format!("Up {up}"),
                Some(HealthState::Starting) => format!("Up {up} (health: starting)"),
                Some(state) => format!("Up {up} ({})", state.as_str()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_dockers_words() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3_600, "About an hour"),
            (5_400, "2 hours"),
            (47 * 3_600, "47 hours"),
            (48 * 3_600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), words, "{seconds}");
        }
    }

    #[test]
    fn status_says_what_a_container_does() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let at = |phase| Status {
            phase,
            exit_code: 3,
            started_at: Some(now - Duration::from_secs(5)),
            finished_at: Some(now - Duration::from_secs(2)),
            ..Status::default()
        };
        assert_eq!(status(&at(Phase::Running), None, now), "Up 5 seconds");
        assert_eq!(
            status(&at(Phase::Running), Some(HealthState::Healthy), now),
            "Up 5 seconds (healthy)"
        );
        assert_eq!(
            status(&at(Phase::Running), Some(HealthState::Starting), now),
            "Up 5 seconds (health: starting)"
        );
        assert_eq!(status(&at(Phase::Paused), None, now), "Up 5 seconds (Paused)");
        assert_eq!(status(&at(Phase::Exited), None, now), "Exited (3) 2 seconds ago");
        assert_eq!(
            status(&at(Phase::Restarting), None, now),
            "Restarting (3) 2 seconds ago"
        );
        assert_eq!(status(&at(Phase::Created), None, now), "Created");
    }
}

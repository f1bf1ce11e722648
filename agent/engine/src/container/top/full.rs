//! What `ps -ef` prints, read from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use nix::unistd::{Uid, User};

use super::Top;
use crate::error::{Error, Result};

const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
/// Ticks of a second in `/proc/PID/stat` (`USER_HZ`, which is the same on every Linux that runs containers).
const HERTZ: u64 = 100;
/// `ps` writes the number of a user whose name does not fit.
const NAME_WIDTH: usize = 8;
/// A command line may be megabytes long; a table is for reading.
const MAX_COMMAND: usize = 4096;

/// A line per process that still is there.
pub fn listing(pids: &[i32]) -> Result<Top> {
    let uptime = fs::read_to_string("/proc/uptime").map_err(Error::io("read /proc/uptime"))?;
    let uptime: f64 = uptime
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default();
    let moment = Moment {
        now: SystemTime::now(),
        boot: boot_time()?,
        uptime: Duration::from_secs_f64(uptime.max(0.0)),
    };
    let mut names = HashMap::new();
    let rows = pids.iter().filter_map(|pid| row(*pid, moment, &mut names));
    Ok(Top {
        titles: TITLES.map(str::to_owned).to_vec(),
        processes: rows.collect(),
    })
}

/// When the machine was booted, in whole seconds as `ps` counts from: the same for every listing, which now minus uptime is not.
fn boot_time() -> Result<SystemTime> {
    let text = fs::read_to_string("/proc/stat").map_err(Error::io("read /proc/stat"))?;
    let seconds = text
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.unwrap_or_default()))
}

/// Now, on both of the clocks that are needed.
#[derive(Clone, Copy)]
struct Moment {
    now: SystemTime,
    boot: SystemTime,
    uptime: Duration,
}

fn row(pid: i32, moment: Moment, names: &mut HashMap<u32, String>) -> Option<Vec<String>> {
    // Any of these fails for a process that has ended meanwhile.
    let folder = format!("/proc/{pid}");
    let stat = Stat::parse(&String::from_utf8_lossy(&fs::read(format!("{folder}/stat")).ok()?))?;
    let uid = fs::metadata(&folder).ok()?.uid();
    let user = names.entry(uid).or_insert_with(|| user_name(uid)).clone();
    let words = fs::read(format!("{folder}/cmdline")).unwrap_or_default();
    let started = Duration::from_millis(stat.start_ticks.saturating_mul(1000 / HERTZ));
    let running = moment.uptime.saturating_sub(started);
    let cpu_seconds = stat.cpu_ticks / HERTZ;
    Some(vec![
        user,
        pid.to_string(),
        stat.parent.to_string(),
        share(stat.cpu_ticks, running).to_string(),
        start_time(
            moment.boot.checked_add(Duration::from_secs(started.as_secs()))?,
            moment.now,
        ),
        terminal(stat.terminal),
        clock(cpu_seconds),
        command(&words, &stat),
    ])
}

fn user_name(uid: u32) -> String {
    let named = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    named
        .map(|user| user.name)
        .filter(|name| name.len() <= NAME_WIDTH)
        .unwrap_or_else(|| uid.to_string())
}

/// The fields of proc_pid_stat(5) that are shown.
struct Stat {
    name: String,
    zombie: bool,
    parent: i32,
    terminal: i32,
    cpu_ticks: u64,
    start_ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The name stands in brackets and may contain any of them, and spaces.
        let (before, after) = (text.find('(')?, text.rfind(')')?);
        let name = text.get(before + 1..after)?.to_owned();
        let fields: Vec<&str> = text.get(after + 1..)?.split_whitespace().collect();
        // Field 3, the state, is the first one here.
        let field = |number: usize| fields.get(number - 3).copied();
        let ticks = |number| field(number)?.parse::<u64>().ok();
        Some(Stat {
            name,
            zombie: field(3)? == "Z",
            parent: field(4)?.parse().ok()?,
            terminal: field(7)?.parse().ok()?,
            cpu_ticks: ticks(14)?.saturating_add(ticks(15)?),
            start_ticks: ticks(22)?,
        })
    }
}

/// Percent of one CPU over its whole life.
fn share(cpu_ticks: u64, running: Duration) -> u64 {
    let seconds = running.as_secs();
    if seconds == 0 {
        return 0;
    }
    (cpu_ticks * 100 / HERTZ / seconds).min(99)
}

/// `HH:MM` for today, the day for this year, or the year; in the host's time zone.
fn start_time(start: SystemTime, now: SystemTime) -> String {
    let zoned = |time| {
        jiff::Timestamp::try_from(time)
            .unwrap_or_default()
            .to_zoned_datetime(jiff::tz::TimeZone::system())
    };
    let (start, now) = (zoned(start), zoned(now));
    let format = if start.date() == now.date() {
        "%H:%M"
    } else if start.year() == now.year() {
        "%b%d"
    } else {
        "%Y"
    };
    start.strftime(format).to_string()
}

/// The name of a terminal by its device number: proc_pid_stat(5) tells how major and minor are packed.
fn terminal(number: i32) -> String {
    let number = number.cast_unsigned();
    let major = (number >> 8) & 0xfff;
    let minor = (number & 0xff) | ((number >> 12) & 0xf_ff00);
    match (major, minor) {
        (0, _) => "?".to_owned(),
        // 136 to 143 are the pseudo terminals, 256 each.
        (136..=143, minor) => format!("pts/{}", (major - 136) * 256 + minor),
        (4, minor @ 0..64) => format!("tty{minor}"),
        (4, minor) => format!("ttyS{}", minor - 64),
        (5, 1) => "console".to_owned(),
        _ => "?".to_owned(),
    }
}

/// `[D-]HH:MM:SS`
fn clock(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let day = if days > 0 { format!("{days}-") } else { String::new() };
    format!("{day}{:02}:{:02}:{:02}", hours % 24, minutes % 60, seconds % 60)
}

/// The command line in one line; the name in brackets where there is none.
fn command(words: &[u8], stat: &Stat) -> String {
    let mut words = &words[..words.len().min(MAX_COMMAND)];
    while let Some((0, rest)) = words.split_last() {
        words = rest;
    }
    if words.is_empty() {
        let ended = if stat.zombie { " <defunct>" } else { "" };
        return format!("[{}]{ended}", stat.name);
    }
    String::from_utf8_lossy(words)
        .chars()
        .map(|letter| match letter {
            '\0' => ' ',
            // What a container writes here ends up on somebody's terminal.
            letter if letter.is_control() => '?',
            letter => letter,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let text = "7 (a) (b) S 1 7 7 34817 7 0 0 0 0 0 150 50 0 0 20 0 1 0 4200 0 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent), ("a) (b", 1));
        assert_eq!((stat.cpu_ticks, stat.start_ticks), (200, 4200));
        assert_eq!(terminal(stat.terminal), "pts/1");
        assert_eq!(terminal(0), "?");
    }

    #[test]
    fn times_are_written_as_ps_writes_them() {
        assert_eq!(clock(59), "00:00:59");
        assert_eq!(clock(90_061), "1-01:01:01");
        assert_eq!(share(150, Duration::from_secs(3)), 50);
        assert_eq!(share(1_000, Duration::ZERO), 0);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(400 * 86_400);
        assert_eq!(start_time(now - Duration::from_secs(399 * 86_400), now), "1970");
        assert_eq!(start_time(now, now).len(), 5);
    }

    #[test]
    fn nothing_in_a_command_line_reaches_a_terminal() {
        let stat = Stat::parse("7 (x) Z 1 7 7 0 7 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0").unwrap();
        assert_eq!(command(b"a\0b c\0\x1b[31m\0", &stat), "a b c ?[31m");
        assert_eq!(command(b"", &stat), "[x] <defunct>");
    }

    proptest! {
        #[test]
        fn any_text_is_a_process_or_none(text in r"[0-9() SZa\-]{0,80}") {
            if let Some(stat) = Stat::parse(&text) {
                let _ = (terminal(stat.terminal), command(text.as_bytes(), &stat));
            }
        }
    }
}

//! Sizes, ages and times as people read them, in docker's words.

use std::time::Duration;

/// Decimal units, `digits` significant digits: `4.42MB`.
pub fn size(bytes: i64, digits: usize) -> String {
    scaled(bytes as f64, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], digits)
}

/// Binary units with four digits: `1.944GiB`.
pub fn binary_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn scaled(mut value: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while value.abs() >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let mut text = significant(value, digits);
    // 999.9 rounds to 1000: that is one of the next unit.
    if text.parse::<f64>().is_ok_and(|rounded| rounded >= base) && unit + 1 < units.len() {
        text = significant(value / base, digits);
        unit += 1;
    }
    text + units[unit]
}

/// A number with so many significant digits and no zeros at its end.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let whole = value.abs().log10().floor() as i32 + 1;
    let decimals = (digits as i32 - whole).clamp(0, 17) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// `About a minute`, `3 days`: rounded as people round.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = seconds / 60;
    let hours = (span.as_secs_f64() / 3600.0 + 0.5) as u64;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago a Unix time was; a time in the future counts as now.
pub fn ago(unix: i64) -> String {
    let seconds = jiff::Timestamp::now().as_second() - unix;
    format!("{} ago", duration(Duration::from_secs(seconds.try_into().unwrap_or(0))))
}

/// A Unix time in the form `2006-01-02 15:04:05 -0700 MST`. Without a zone database: UTC.
pub fn local_time(unix: i64) -> String {
    jiff::Timestamp::from_second(unix).map_or_else(
        |_| unix.to_string(),
        |time| {
            time.to_zoned_datetime(jiff::tz::TimeZone::system())
                .strftime("%Y-%m-%d %H:%M:%S %z %Z")
                .to_string()
        },
    )
}

/// The same with the fraction of a second, as Go prints a time by itself.
pub fn long_time(rfc3339: &str) -> String {
    let Ok(time) = rfc3339.parse::<jiff::Timestamp>() else {
        return rfc3339.to_owned();
    };
    let zoned = time.to_zoned_datetime(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S%.f %z %Z").to_string()
}

/// A Unix time in RFC 3339 with the local offset; UTC is `Z`.
pub fn rfc3339(unix: i64) -> String {
    let Ok(time) = jiff::Timestamp::from_second(unix) else {
        return unix.to_string();
    };
    let text = time
        .to_zoned_datetime(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%dT%H:%M:%S%:z")
        .to_string();
    text.strip_suffix("+00:00")
        .map_or(text.clone(), |utc| format!("{utc}Z"))
}

/// Unix nanoseconds in RFC 3339 with nine digits of fraction and the local offset.
pub fn nano_time(nanos: i64) -> String {
    let Ok(time) = jiff::Timestamp::from_nanosecond(i128::from(nanos)) else {
        return nanos.to_string();
    };
    let text = time
        .to_zoned_datetime(jiff::tz::TimeZone::system())
        .strftime("%Y-%m-%dT%H:%M:%S%.9f%:z")
        .to_string();
    text.strip_suffix("+00:00")
        .map_or(text.clone(), |utc| format!("{utc}Z"))
}

/// `Mon Jan  2 15:04:05 2006` from RFC 3339; other text as it is.
pub fn ansi_time(text: &str) -> String {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => time
            .to_zoned_datetime(jiff::tz::TimeZone::UTC)
            .strftime("%a %b %e %H:%M:%S %Y")
            .to_string(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_docker_prints_them() {
        for (bytes, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_423_000, "4.42MB"),
            (29_100_000, "29.1MB"),
            (999_999, "1MB"),
            (1_050_000_000, "1.05GB"),
        ] {
            assert_eq!(size(bytes, 3), want);
        }
        assert_eq!(binary_size(1024.0 * 1024.0 * 1.5), "1.5MiB");
        assert_eq!(binary_size(24_000_000_000.0), "22.35GiB");
    }

    #[test]
    fn durations_read_as_docker_prints_them() {
        let hour = 3600;
        for (seconds, want) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (hour, "About an hour"),
            (hour * 3 / 2, "2 hours"),
            (47 * hour, "47 hours"),
            (48 * hour, "2 days"),
            (14 * 24 * hour, "2 weeks"),
            (60 * 24 * hour, "2 months"),
            (800 * 24 * hour, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), want);
        }
    }
}

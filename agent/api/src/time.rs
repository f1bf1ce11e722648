//! Times as Go writes them: RFC 3339 with up to nine digits of fraction, and a zero value for "never".

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::Offset;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Go's zero time, which stands for "never".
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// A moment, or never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Option<Timestamp>);

impl Time {
    pub const NEVER: Time = Time(None);

    /// The moment as a clock value; `None` for never.
    pub fn system(self) -> Option<SystemTime> {
        self.0.and_then(|time| {
            let nanos = u64::try_from(time.as_nanosecond().unsigned_abs()).ok()?;
            let gap = Duration::from_nanos(nanos);
            if time.as_nanosecond() < 0 {
                SystemTime::UNIX_EPOCH.checked_sub(gap)
            } else {
                SystemTime::UNIX_EPOCH.checked_add(gap)
            }
        })
    }

    /// Whole Unix seconds; Go's `-62135596800` for never.
    pub fn unix(self) -> i64 {
        self.0.map_or(-62_135_596_800, Timestamp::as_second)
    }
}

impl From<SystemTime> for Time {
    fn from(value: SystemTime) -> Self {
        Time(Timestamp::try_from(value).ok())
    }
}

impl From<Option<SystemTime>> for Time {
    fn from(value: Option<SystemTime>) -> Self {
        Time(value.and_then(|t| Timestamp::try_from(t).ok()))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            // jiff writes only the digits of the fraction that are not trailing zeros, as Go's RFC3339Nano does.
            Some(time) => write!(f, "{time}"),
            None => f.write_str(ZERO),
        }
    }
}

/// The text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parsing time {0:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {0:?}")]
pub struct BadTime(String);

impl FromStr for Time {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, BadTime> {
        if text.is_empty() || text == ZERO {
            return Ok(Time::NEVER);
        }
        text.parse::<Timestamp>()
            .map(|t| Time(Some(t)))
            .map_err(|_| BadTime(text.to_owned()))
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Nine digits always and a numeric offset: the form of log lines (`2006-01-02T15:04:05.000000000Z`).
pub fn log_stamp(time: SystemTime) -> String {
    let stamp = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    let civil = Offset::UTC.to_datetime(stamp);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        civil.year(),
        civil.month(),
        civil.day(),
        civil.hour(),
        civil.minute(),
        civil.second(),
        civil.subsec_nanosecond()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_read_and_write_as_go_does() {
        for text in [
            "2026-11-23T14:17:02.852420032Z",
            "2026-11-23T14:17:02Z",
            "2026-11-23T14:17:02.5Z",
            ZERO,
        ] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
        assert_eq!(
            "2026-11-23T16:17:02+02:00".parse::<Time>().unwrap().to_string(),
            "2026-11-23T14:17:02Z"
        );
        assert!("yesterday".parse::<Time>().is_err());
        assert_eq!(Time::NEVER.unix(), -62_135_596_800);
        assert_eq!("".parse::<Time>().unwrap(), Time::NEVER);
    }

    #[test]
    fn log_stamps_have_nine_digits() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        assert_eq!(log_stamp(time), "1970-01-01T00:00:01.500000000Z");
    }
}

//! syslog: one line per message, in the forms that Docker's driver has.

use std::io::Write;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::link::{Address, Scheme};
use crate::options::Options;
use crate::tls::TlsFiles;
use crate::{Message, Refused};

pub(crate) const KEYS: &[&str] = &[
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
];

/// Where the machine's own daemon listens.
const LOCAL: &str = "/dev/log";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// What the C library writes, without a host.
    Unix,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

#[derive(Clone, Debug)]
pub struct Syslog {
    pub(crate) address: Address,
    pub(crate) tls: TlsFiles,
    facility: u8,
    format: Format,
}

const FACILITIES: &[(&str, u8)] = &[
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

impl Syslog {
    pub(crate) fn parse(options: &Options<'_>) -> Result<Syslog, Refused> {
        let address = match options.get("syslog-address").unwrap_or_default() {
            "" => Address::new(Scheme::Unixgram, LOCAL),
            text => {
                let schemes = &[Scheme::Udp, Scheme::Tcp, Scheme::Tls, Scheme::Unix, Scheme::Unixgram];
                Address::parse(text, 514, schemes).ok_or_else(|| {
                    Refused::invalid(format!(
                        "syslog-address should be in form proto://address, with udp, tcp, tcp+tls, unix or unixgram, got {text}"
                    ))
                })?
            }
        };
        let facility = match options.get("syslog-facility").unwrap_or_default() {
            "" => 3,
            text => FACILITIES
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, number)| *number)
                .or_else(|| text.parse().ok().filter(|number| *number <= 23))
                .ok_or_else(|| Refused::invalid(format!("invalid syslog facility: {text}")))?,
        };
        let format = match options.get("syslog-format").unwrap_or_default() {
            "" => Format::Unix,
            "rfc3164" => Format::Rfc3164,
            "rfc5424" => Format::Rfc5424,
            "rfc5424micro" => Format::Rfc5424Micro,
            other => return Err(Refused::invalid(format!("Invalid syslog format: {other}"))),
        };
        Ok(Syslog {
            address,
            tls: TlsFiles {
                ca: options.get("syslog-tls-ca-cert").unwrap_or_default().into(),
                cert: options.get("syslog-tls-cert").unwrap_or_default().into(),
                key: options.get("syslog-tls-key").unwrap_or_default().into(),
                skip_verify: options
                    .get("syslog-tls-skip-verify")
                    .is_some_and(|text| !text.is_empty()),
            },
            facility,
            format,
        })
    }

    /// One message as it goes out, with its end of line, and with its length in front where streams need that (RFC 5425).
    pub(crate) fn encode(&self, hostname: &str, tag: &str, message: &Message<'_>) -> Vec<u8> {
        let level = if message.stderr { 3 } else { 6 };
        let priority = self.facility * 8 + level;
        let pid = std::process::id();
        let time = Timestamp::from_nanosecond(i128::from(message.time)).unwrap_or(Timestamp::UNIX_EPOCH);
        let zone = TimeZone::system();
        let (offset, time) = (zone.to_offset(time).seconds() / 60, zone.to_datetime(time));
        let sign = if offset < 0 { '-' } else { '+' };
        let (hours, minutes) = (offset.abs() / 60, offset.abs() % 60);
        let mut out = Vec::with_capacity(message.text.len() + 96);
        // Writing to memory does not fail.
        let _ = match self.format {
            Format::Unix => write!(out, "<{priority}>{} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S")),
            Format::Rfc3164 => write!(
                out,
                "<{priority}>{} {hostname} {tag}[{pid}]: ",
                time.strftime("%b %e %H:%M:%S")
            ),
            Format::Rfc5424 => write!(
                out,
                "<{priority}>1 {} {hostname} {tag} {pid} {tag} - ",
                format_args!("{}{sign}{hours:02}:{minutes:02}", time.strftime("%Y-%m-%dT%H:%M:%S"))
            ),
            Format::Rfc5424Micro => write!(
                out,
                "<{priority}>1 {} {hostname} {tag} {pid} {tag} - ",
                format_args!(
                    "{}{sign}{hours:02}:{minutes:02}",
                    time.strftime("%Y-%m-%dT%H:%M:%S%.6f")
                )
            ),
        };
        out.extend_from_slice(message.text);
        out.push(b'\n');
        let counted =
            self.address.scheme == Scheme::Tls && matches!(self.format, Format::Rfc5424 | Format::Rfc5424Micro);
        if counted {
            out.splice(..0, format!("{} ", out.len()).into_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeMap;

    fn encoded(address: &str, format: &str) -> String {
        let all = BTreeMap::from([
            ("syslog-address".to_owned(), address.to_owned()),
            ("syslog-format".to_owned(), format.to_owned()),
            ("syslog-facility".to_owned(), "local1".to_owned()),
        ]);
        let options = Options {
            driver: "syslog",
            all: &all,
        };
        let message = Message {
            time: 1_700_000_000_123_456_789,
            stderr: true,
            partial: false,
            text: b"hi",
        };
        let text = Syslog::parse(&options).unwrap().encode("box", "tag", &message);
        String::from_utf8(text)
            .unwrap()
            .replace(&std::process::id().to_string(), "PID")
    }

    #[test]
    fn forms_are_those_of_the_standards() {
        let old = encoded("udp://h", "rfc3164");
        assert!(
            old.starts_with("<139>Nov 1") && old.ends_with(" box tag[PID]: hi\n"),
            "{old}"
        );
        assert!(encoded("udp://h", "").ends_with(" tag[PID]: hi\n"));
        let new = encoded("tcp://h", "rfc5424micro");
        assert!(new.starts_with("<139>1 2023-11-1") && new.contains(".123456"), "{new}");
        assert!(new.ends_with(" box tag PID tag - hi\n"), "{new}");
        let counted = encoded("tcp+tls://h", "rfc5424");
        let (length, rest) = counted.split_once(' ').unwrap();
        // The process number was replaced after the length was counted.
        let shift = std::process::id().to_string().len() as i64 - 3;
        assert_eq!(length.parse::<i64>().unwrap(), rest.len() as i64 + shift);
    }
}

//! Signal names and numbers, as users write them: `SIGTERM`, `term`, `15`, `RTMIN+3`.

use nix::libc;

/// A text that is not a signal, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct InvalidSignal(pub String);

/// Names without `SIG`; where two share a number, the first is the one we print.
const NAMES: [(&str, i32); 34] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGPOLL),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// The kernel's first and last real-time signal, as C libraries offer them: glibc keeps the first two for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number for a name (any case, with or without `SIG`) or a number in digits.
///
/// ```
/// assert_eq!(runtime::signal::parse("SIGTERM"), Ok(15));
/// assert_eq!(runtime::signal::parse("rtmin+3"), Ok(37));
/// ```
///
/// # Errors
/// [`InvalidSignal`] for anything else, and for 0.
pub fn parse(text: &str) -> Result<i32, InvalidSignal> {
    let invalid = || InvalidSignal(text.to_owned());
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text
            .parse()
            .ok()
            .filter(|number| (1..=RTMAX).contains(number))
            .ok_or_else(invalid);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => (RTMIN, rest),
        (_, Some(rest)) => (RTMAX, rest),
        _ => return Err(invalid()),
    };
    let offset = match offset.as_bytes() {
        [] => 0,
        // From the start only upwards, from the end only downwards.
        [b'+', digits @ ..] if base == RTMIN => decimal(digits).ok_or_else(invalid)?,
        [b'-', digits @ ..] if base == RTMAX => -decimal(digits).ok_or_else(invalid)?,
        _ => return Err(invalid()),
    };
    Some(base + offset)
        .filter(|number| (RTMIN..=RTMAX).contains(number))
        .ok_or_else(invalid)
}

fn decimal(digits: &[u8]) -> Option<i32> {
    let plain = (1..=2).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    plain.then(|| {
        digits
            .iter()
            .fold(0, |number, digit| number * 10 + i32::from(digit - b'0'))
    })
}

/// The name of a signal with `SIG`; `None` for numbers without one.
pub fn name(number: i32) -> Option<String> {
    if let Some((name, _)) = NAMES.iter().find(|(_, known)| *known == number) {
        return Some(format!("SIG{name}"));
    }
    match number {
        RTMIN => Some("SIGRTMIN".into()),
        RTMAX => Some("SIGRTMAX".into()),
        // The nearer end names it, as `kill -l` does.
        35..=49 => Some(format!("SIGRTMIN+{}", number - RTMIN)),
        50..=63 => Some(format!("SIGRTMAX-{}", RTMAX - number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals_are_read() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("Sigkill", 9),
            ("9", 9),
            ("64", 64),
            ("CLD", 17),
            ("SIGPOLL", 29),
            ("IOT", 6),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-14", 50),
            ("RTMAX", 64),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for text in [
            "",
            "0",
            "65",
            "-1",
            "+9",
            "SIG",
            "SIGSIGTERM",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+31",
            "RTMIN+",
            "foo",
            "9 ",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert_eq!(parse("foo").unwrap_err().to_string(), "invalid signal: foo");
    }

    #[test]
    fn every_name_comes_back() {
        for number in (1..=31).chain(34..=64) {
            assert_eq!(parse(&name(number).unwrap()), Ok(number));
        }
        assert_eq!(name(17).unwrap(), "SIGCHLD");
        assert_eq!((name(0), name(32), name(65)), (None, None, None));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_signal_or_refused(text in ".{0,12}|(?i:sig)?(?i:rtmin|rtmax|term)[+-]?[0-9]{0,4}|[0-9]{1,20}") {
            if let Ok(number) = parse(&text) {
                proptest::prop_assert!((1..=RTMAX).contains(&number));
            }
        }

        #[test]
        fn every_name_is_read_as_its_signal(number: i32, near in 0..70) {
            for number in [number, near] {
                if let Some(name) = name(number) {
                    proptest::prop_assert_eq!(parse(&name), Ok(number));
                }
            }
        }
    }
}

//! What another runtime said of its failure.

use serde::Deserialize;

use crate::proto::{Failure, Step};

/// A line of what `--log-format json` writes.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// A failure whose message is the end of another runtime's log, with what that log says.
pub(super) fn clarified(failure: Failure) -> Failure {
    if failure.step != Step::Foreign {
        return failure;
    }
    Failure {
        message: reason(&failure.message),
        ..failure
    }
}

/// The last error in the log; the last line of one that is not in JSON (crun begins in plain words until it has read its
/// options).
fn reason(log: &str) -> String {
    let lines = || log.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let parsed = lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let grave = parsed
        .filter(|line| matches!(&*line.level, "error" | "fatal" | ""))
        .map(|line| line.msg)
        .find(|message| !message.is_empty());
    let reason = grave.unwrap_or_else(|| lines().next().unwrap_or_default().to_owned());
    // crun words errors as C does, and clients look for Go's words.
    ["No such file or directory", "Permission denied", "Is a directory"]
        .iter()
        .fold(reason, |text, words| text.replace(words, &words.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start_error::{StartError, StartErrorKind};

    fn told(log: &str) -> StartError {
        StartError::new(clarified(Failure {
            step: Step::Foreign,
            subject: "create".into(),
            errno: 0,
            message: log.into(),
        }))
    }

    #[test]
    fn the_last_error_is_told() {
        let runc = told(concat!(
            r#"{"level":"warning","msg":"unable to get oom kill count","time":"t"}"#,
            "\n",
            r#"{"level":"error","msg":"runc create failed: unable to start container process: exec: \"nope\": executable file not found in $PATH","time":"t"}"#,
            "\n",
        ));
        assert_eq!(
            runc.to_string(),
            "OCI runtime create failed: runc create failed: unable to start container process: exec: \"nope\": executable file not found in $PATH"
        );
        assert_eq!(runc.kind(), StartErrorKind::NotFound);
        let crun = told(
            r#"{"msg":"executable file `/nope` not found: No such file or directory","level":"error","time":"t"}"#,
        );
        assert!(crun.to_string().ends_with(": no such file or directory"));
        assert_eq!(crun.kind(), StartErrorKind::NotFound);
        let denied = told(r#"{"level":"error","msg":"exec: \"/etc/passwd\": permission denied","time":"t"}"#);
        assert_eq!(denied.kind(), StartErrorKind::NotExecutable);
    }

    #[test]
    fn words_that_are_no_json_are_told_as_they_are() {
        let plain = told("unknown option\nrequires the unified hierarchy\n\n");
        assert_eq!(
            plain.to_string(),
            "OCI runtime create failed: requires the unified hierarchy"
        );
        assert_eq!(plain.kind(), StartErrorKind::Other);
        assert_eq!(told("").to_string(), "OCI runtime create failed");
    }
}

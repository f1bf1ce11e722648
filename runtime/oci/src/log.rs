//! Errors for whoever called: a file in text or JSON, and standard error.

use crate::args::{Global, LogFormat};
use crate::error::Error;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

/// Where messages go.
pub struct Log {
    file: Option<File>,
    format: LogFormat,
    debug: bool,
}

impl Log {
    /// A log that cannot be opened is said on standard error, and no reason to do nothing.
    pub fn open(global: &Global) -> Log {
        let file = global.log.as_ref().and_then(|path| {
            let opened = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
            opened
                .inspect_err(|error| eprintln!("iechor-runtime: cannot open log {}: {error}", path.display()))
                .ok()
        });
        Log {
            file,
            format: global.log_format,
            debug: global.debug,
        }
    }

    /// The reason of a failed call.
    pub fn error(&self, error: &Error) {
        self.line("error", &error.to_string());
        // Also where a person looks.
        if self.file.is_some() {
            eprintln!("{error}");
        }
    }

    /// Something that went wrong and stops nothing.
    pub fn warning(&self, message: &str) {
        self.line("warning", message);
    }

    /// What is being done, with `--debug`.
    pub fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            self.line("debug", &message());
        }
    }

    fn line(&self, level: &str, message: &str) {
        let now = jiff::Timestamp::now();
        let line = match self.format {
            LogFormat::Json => {
                // The form of logrus, which containerd and conmon read.
                let entry = serde_json::json!({"level": level, "msg": message, "time": now.to_string()});
                format!("{entry}\n")
            }
            LogFormat::Text => {
                let quoted = serde_json::Value::from(message);
                format!("time=\"{now}\" level={level} msg={quoted}\n")
            }
        };
        // One write, so that lines of several processes stay whole.
        match &self.file {
            Some(file) => drop((&*file).write_all(line.as_bytes())),
            None => drop(std::io::stderr().write_all(line.as_bytes())),
        }
    }
}

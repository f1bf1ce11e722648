//! Writing to stdout and stderr. `println!` panics when the reader went away (`| head`); here that ends the program the
//! way the signal would.

use std::io::{self, Write};

/// What a shell shows for a program that SIGPIPE ended.
const PIPE_CODE: i32 = 128 + 13;

/// Writes text as it is.
pub fn print(text: &str) {
    print_bytes(text.as_bytes());
}

/// Writes a line.
pub fn line(text: impl AsRef<str>) {
    let mut text = text.as_ref().to_owned();
    text.push('\n');
    print(&text);
}

pub fn print_bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        gone(&error);
    }
}

/// Ends the program because stdout cannot be written.
fn gone(error: &io::Error) -> ! {
    crate::terminal::restore();
    if error.kind() != io::ErrorKind::BrokenPipe {
        let _ = writeln!(io::stderr(), "iechor: cannot write to stdout: {error}");
        std::process::exit(1);
    }
    std::process::exit(PIPE_CODE);
}

/// Writes a line to stderr; nothing can be done if that fails.
pub fn warn(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

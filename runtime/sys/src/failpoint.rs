//! Named places at which a debug build can be made to die, for tests of what a crash leaves behind.
//!
//! `IECHOR_FAILPOINT=name` in the environment of the daemon kills it at that place as `kill -9` would: nothing is
//! unwound, nothing flushed. Places of the shim have names too; there it is the shim that dies, and it knows of them from
//! its daemon ([`hand_on`]). A release build has neither the names nor the question.

use std::process::Command;

/// The variable of the environment that names the place.
#[cfg(debug_assertions)]
const VARIABLE: &str = "IECHOR_FAILPOINT";

/// Dies here, in a debug build that was told so by this name.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::failpoint::reach($name);
    };
}

/// What [`failpoint!`](crate::failpoint!) asks; not for anybody else.
#[cfg(debug_assertions)]
pub fn reach(name: &str) {
    use std::sync::OnceLock;
    static ARMED: OnceLock<Option<String>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| std::env::var(VARIABLE).ok());
    if armed.as_deref() == Some(name) {
        // To itself, which a confined shim may do. The signal takes this thread with the others.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        loop {
            std::thread::park();
        }
    }
}

/// A program of ours that is started with an empty environment is to die where this one was told to.
pub fn hand_on(command: &mut Command) {
    #[cfg(debug_assertions)]
    if let Some(name) = std::env::var_os(VARIABLE) {
        command.env(VARIABLE, name);
    }
    let _ = command;
}

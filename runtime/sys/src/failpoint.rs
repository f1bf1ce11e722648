//! Named places at which a debug build can be made to die, for tests of what a crash leaves behind.
//!
//! `IECHOR_FAILPOINT=name` in the environment of the daemon kills it at that place as `kill -9` would: nothing is
//! unwound, nothing flushed. A release build has neither the names nor the question.

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
    let armed = ARMED.get_or_init(|| std::env::var("IECHOR_FAILPOINT").ok());
    if armed.as_deref() == Some(name) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        // The signal takes this thread with the others.
        loop {
            std::thread::park();
        }
    }
}

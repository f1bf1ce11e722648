//! System call filters: profiles in, BPF out.
//!
//! ```text
//! Docker's default (table) ─┐
//! Docker's JSON ────────────┼─► Profile ──compile(capabilities, kernel)──► Filter (sock_filter[], flags)
//! OCI LinuxSeccomp ─────────┘                                     └─ kept by Cache
//! ```
//!
//! The program is a balanced tree over ranges of call numbers with the same answer, some nine comparisons deep. A linear
//! list (libseccomp's default) costs 750 µs to load against 50: the kernel runs a new filter once for every
//! call number there is, to learn which are always allowed.
//!
//! What the specification leaves open, libseccomp as runc drives it decides:
//! - **Calls newer than the profile** answer `ENOSYS`, not the default action: a C library takes `ENOSYS` as «not there»
//!   and falls back, `EPERM` as an error. As in runc, that is every number above the highest one that the profile
//!   names for the interface, unless the default action lets calls through, or no call is named at all. Lower numbers
//!   without a rule get the default.
//! - **Several rules for one call**: rules with the default action say nothing. Of those without conditions the first
//!   wins, also over rules with conditions, wherever these are. Among rules with conditions the more exact one wins
//!   (`rank` in `decide`), and of equal ones the first. libseccomp refuses two rules with the same conditions and
//!   different actions; here the first holds.
//! - **A rule that names one argument twice** is one rule for each of its conditions.
//! - **Names that no table has** are passed over (a profile may be newer than we), and listed in [`Filter::ignored`].
//! - **Interfaces that the profile does not list** (32-bit calls with a 64-bit-only profile; x32's too) kill the thread.
//! - **32-bit interfaces** compare 32 bits. Unlike libseccomp, which cuts values, a value that no argument can have
//!   is larger than all of them; only negative numbers are cut.
//! - **`socketcall` and `ipc`** obey the rules of the calls behind them (`multiplex`). Where such a rule asks about
//!   arguments that a filter cannot see there, libseccomp forgets the question; we take the stricter answer.
//! - **Notifications**: not as default action and not for the calls by which the listener is handed over (`write` in runc,
//!   `sendmsg` here), each refused with its reason.

mod arch;
mod compile;
mod decide;
mod docker;
mod document;
mod json;
mod multiplex;
pub mod names;
mod oci;
mod profile;
mod projects;
mod syscalls;

#[cfg(test)]
mod tests;

pub use arch::Abi;
pub use profile::{Action, Argument, Compare, Condition, Listener, Profile, Rule};

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// Not JSON, or not of a profile's form.
    #[error("the seccomp profile cannot be read")]
    Json(#[from] serde_json::Error),
    /// Something in it that we do not do.
    #[error("seccomp: {0} is not supported")]
    Unsupported(Cow<'static, str>),
    /// Something in it that makes no sense.
    #[error("invalid seccomp profile: {0}")]
    Invalid(Cow<'static, str>),
    /// The kernel takes at most 4,096 instructions.
    #[error("the seccomp profile needs {0} instructions, the kernel takes 4096; use fewer conditions on arguments")]
    TooLong(usize),
}

fn invalid<T>(what: impl Into<Cow<'static, str>>) -> Result<T, SeccompError> {
    Err(SeccompError::Invalid(what.into()))
}

/// What a profile's conditions are asked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// Capability bounding set of the container.
    pub capabilities: u64,
    /// Version of the running kernel.
    pub kernel: (u32, u32),
    /// Interface of the machine.
    pub native: Abi,
}

impl Context {
    /// For this machine.
    ///
    /// # Errors
    /// [`SeccompError::Unsupported`] on a machine whose call numbers we do not have.
    pub fn of_machine(capabilities: u64) -> Result<Context, SeccompError> {
        let native = Abi::native().ok_or(SeccompError::Unsupported(Cow::Borrowed(std::env::consts::ARCH)))?;
        Ok(Context {
            capabilities,
            kernel: kernel_version(),
            native,
        })
    }
}

/// `6.1.0-13-amd64` → (6, 1)
fn kernel_version() -> (u32, u32) {
    static VERSION: std::sync::OnceLock<(u32, u32)> = std::sync::OnceLock::new();
    *VERSION.get_or_init(|| {
        let name = nix::sys::utsname::uname();
        let release = name
            .as_ref()
            .ok()
            .and_then(|name| name.release().to_str())
            .unwrap_or_default();
        parse_version(release).unwrap_or((u32::MAX, 0))
    })
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some((major.parse().ok()?, rest[..digits].parse().ok()?))
}

/// A program for the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Filter {
    /// `struct sock_filter[]` in native order.
    pub program: Vec<u8>,
    /// `SECCOMP_FILTER_FLAG_*`, without the ones for a listener.
    pub flags: u32,
    /// The program notifies: it must be loaded with a listener, which then goes to this place.
    pub listener: Option<Listener>,
    /// Names in the profile that no interface has.
    pub ignored: Vec<String>,
}

impl Filter {
    /// Whether the program must be loaded with a listener.
    pub fn notifies(&self) -> bool {
        self.listener.is_some()
    }
}

impl Profile {
    /// Compiles for a container.
    ///
    /// # Errors
    /// [`SeccompError::TooLong`], and what of notifications does not fit together.
    pub fn compile(&self, context: &Context) -> Result<Filter, SeccompError> {
        compile::compile(self, context)
    }
}

/// Keeps the filters of the profiles in use: containers with the same profile and capabilities share one.
#[derive(Debug, Default)]
pub struct Cache {
    filters: Mutex<HashMap<(Arc<Profile>, Context), Arc<Filter>>>,
}

/// Many more profiles than this at once are nobody's configuration; the cache begins anew.
const CACHED: usize = 64;

impl Cache {
    /// The filter of `profile` for a container with the bounding set `capabilities`, on this machine.
    ///
    /// # Errors
    /// As [`Profile::compile`] and [`Context::of_machine`].
    pub fn get(&self, profile: &Arc<Profile>, capabilities: u64) -> Result<Arc<Filter>, SeccompError> {
        let mut context = Context::of_machine(capabilities)?;
        // Only what the profile asks about makes a difference.
        context.capabilities &= profile.capabilities();
        let key = (profile.clone(), context);
        if let Some(filter) = self.filters.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(filter.clone());
        }
        let filter = Arc::new(profile.compile(&context)?);
        let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        if filters.len() >= CACHED {
            filters.clear();
        }
        filters.insert(key, filter.clone());
        Ok(filter)
    }
}

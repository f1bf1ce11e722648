//! Runs the tests of a suite in parallel and prints the closing line.
//!
//! ```text
//! suite docker: 61 passed, 0 failed, 1 skipped
//! ```
//!
//! Not the test harness of rustc: that one has no place for a daemon that many tests share and that is looked
//! at for leaks when the last of them has ended, and no skips with a reason.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::process::take_transcript;

/// A test: its name and what it does with the suite's surroundings.
pub struct Test<T: 'static> {
    pub name: &'static str,
    pub run: fn(&T),
}

/// Names functions as tests: `tests![run_sets_the_user, stop_kills_after_grace]`.
#[macro_export]
macro_rules! tests {
    ($($name:path),* $(,)?) => { vec![$($crate::Test { name: $crate::suite::last_word(stringify!($name)), run: $name }),*] };
}

/// The function's name without its path.
pub fn last_word(path: &'static str) -> &'static str {
    path.rsplit([':', ' ']).next().unwrap_or(path)
}

struct Skipped(String);

/// Ends the test; it counts as skipped, for this reason.
pub fn skip(reason: &str) -> ! {
    panic_any(Skipped(reason.to_owned()))
}

/// What came of a suite.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Tests that share surroundings.
pub struct Suite<T: 'static> {
    pub name: &'static str,
    /// How many tests run at once.
    pub jobs: usize,
    pub tests: Vec<Test<T>>,
}

impl<T: Sync + 'static> Suite<T> {
    /// Runs the tests whose names contain one of `filters` (all, if there is none), then `end`, which takes the
    /// surroundings down and panics if something was left behind.
    pub fn run(self, filters: &[String], start: impl FnOnce() -> T, end: impl FnOnce(T)) -> Tally {
        let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
        let tests: Vec<_> = self.tests.into_iter().filter(|test| wanted(test.name)).collect();
        if tests.is_empty() {
            return Tally::default();
        }
        let begun = Instant::now();
        let tally = Mutex::new(Tally::default());
        let surroundings = match guarded(start) {
            Ok(surroundings) => surroundings,
            Err(failure) => {
                report::<()>(self.name, "start", begun, Err(failure), &tally);
                return close(self.name, tally, begun);
            }
        };
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while let Some(test) = tests.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let begun = Instant::now();
                        let outcome = guarded(|| (test.run)(&surroundings));
                        report(self.name, test.name, begun, outcome, &tally);
                    }
                });
            }
        });
        let begun_end = Instant::now();
        report(
            self.name,
            "nothing_is_left_behind",
            begun_end,
            guarded(|| end(surroundings)),
            &tally,
        );
        close(self.name, tally, begun)
    }
}

enum Failure {
    Skip(String),
    Fail(String),
}

fn guarded<R>(action: impl FnOnce() -> R) -> Result<R, Failure> {
    take_transcript();
    catch_unwind(AssertUnwindSafe(action)).map_err(|payload| match payload.downcast::<Skipped>() {
        Ok(skipped) => Failure::Skip(skipped.0),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Failure::Fail(text.unwrap_or_else(|| "a panic without text".to_owned()))
        }
    })
}

fn report<R>(suite: &str, name: &str, begun: Instant, outcome: Result<R, Failure>, tally: &Mutex<Tally>) {
    let transcript = take_transcript();
    let seconds = begun.elapsed().as_secs_f64();
    let mut tally = tally.lock().unwrap();
    match outcome {
        Ok(_) => {
            tally.passed += 1;
            println!("  ok    {suite} {name} ({seconds:.1} s)");
        }
        Err(Failure::Skip(reason)) => {
            tally.skipped += 1;
            println!("  skip  {suite} {name}: {reason}");
        }
        Err(Failure::Fail(text)) => {
            tally.failed += 1;
            println!("  FAIL  {suite} {name} ({seconds:.1} s): {text}");
            for line in transcript {
                println!("        {}", line.replace('\n', "\n        "));
            }
        }
    }
}

fn close(name: &str, tally: Mutex<Tally>, begun: Instant) -> Tally {
    let tally = tally.into_inner().unwrap();
    println!(
        "suite {name}: {} passed, {} failed, {} skipped ({:.0} s)",
        tally.passed,
        tally.failed,
        tally.skipped,
        begun.elapsed().as_secs_f64()
    );
    tally
}

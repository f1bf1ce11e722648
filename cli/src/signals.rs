//! Signals while a container is attached: proxied to it, or ending us with the terminal as it was.

use std::sync::atomic::{AtomicU8, Ordering};

use client::Client;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::output;
use crate::terminal;

/// What is passed on to a container. Not among them: what cannot be caught, what reports about ourselves (CHLD, PIPE,
/// URG), faults of this program, and WINCH, which becomes a resize.
const PROXIED: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
];

/// What ends a program that does nothing about it.
const ENDING: &[Signal] = &[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// After so many requests to end, a container that does not listen is left alone.
const PATIENCE: u8 = 3;

/// Tasks that listen; they end when this is dropped.
#[must_use]
pub struct Listening(#[allow(dead_code, reason = "held for its drop")] JoinSet<()>);

/// Passes signals on to the container. The third SIGINT or SIGTERM ends this program.
pub fn proxy(client: &Client, container: &str) -> Listening {
    static REQUESTS: AtomicU8 = AtomicU8::new(0);
    let mut tasks = JoinSet::new();
    for &kind in PROXIED {
        let Ok(mut stream) = signal(SignalKind::from_raw(kind as i32)) else {
            continue;
        };
        let (client, container) = (client.clone(), container.to_owned());
        tasks.spawn(async move {
            while stream.recv().await.is_some() {
                if matches!(kind, Signal::SIGINT | Signal::SIGTERM)
                    && REQUESTS.fetch_add(1, Ordering::Relaxed) + 1 >= PATIENCE
                {
                    terminal::restore();
                    output::warn("\ngot 3 SIGTERM/SIGINTs, forcefully exiting");
                    std::process::exit(1);
                }
                let name = kind.as_str().trim_start_matches("SIG");
                // A container that has just ended cannot take it; its exit code tells so anyway.
                let (client, container) = (client.clone(), container.clone());
                tokio::spawn(async move { client.kill_container(&container, Some(name)).await });
            }
        });
    }
    Listening(tasks)
}

/// Gives the terminal back before a signal ends this program. For raw terminals whose signals are not proxied.
pub fn guard() -> Listening {
    let mut tasks = JoinSet::new();
    for &kind in ENDING {
        let Ok(mut stream) = signal(SignalKind::from_raw(kind as i32)) else {
            continue;
        };
        tasks.spawn(async move {
            if stream.recv().await.is_some() {
                terminal::restore();
                std::process::exit(128 + kind as i32);
            }
        });
    }
    Listening(tasks)
}

/// Calls `resize` with rows and columns now and at each change of the window.
pub fn follow_size<F, Fut>(resize: F) -> Listening
where
    F: Fn(u16, u16) -> Fut + Send + 'static,
    Fut: Future<Output = bool> + Send,
{
    let mut tasks = JoinSet::new();
    let Ok(mut changes) = signal(SignalKind::window_change()) else {
        return Listening(tasks);
    };
    tasks.spawn(async move {
        // A process that has just been started may not have its terminal yet.
        for attempt in 0..10u64 {
            let Some((rows, columns)) = terminal::size() else { break };
            if resize(rows, columns).await {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10 * (attempt + 1))).await;
        }
        while changes.recv().await.is_some() {
            if let Some((rows, columns)) = terminal::size() {
                resize(rows, columns).await;
            }
        }
    });
    Listening(tasks)
}

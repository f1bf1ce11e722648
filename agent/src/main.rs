//! `iechord`, the daemon: flags and file → engine → listeners → wait for a signal → drain. No behaviour here.
#![forbid(unsafe_code)]

mod file;
mod flags;
mod logging;
mod pidfile;
mod reload;
mod remap;
mod runtimes;
mod settings;
mod ulimit;

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use agent_engine::Engine;
use agent_rest::listen::Access;
use agent_rest::{Listeners, Metrics, Server, UnixSocket};
use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use reload::Reload;
use settings::Settings;

/// The engine mostly waits; what takes the processor runs on the blocking pool or in shims.
const WORKERS: usize = 2;
/// Threads for files, archives and mounts; they come and go.
const BLOCKING_THREADS: usize = 64;
/// Heaps of the C library. One for each thread would keep what that thread once needed.
const ARENAS: i32 = 2;
/// Freed blocks from this size on go back to the kernel at once: layers pass through in pieces of this order.
const RETURNED_BYTES: i32 = 128 * 1024;

/// When start-up is over, warm shims and namespaces included.
const SETTLE: Duration = Duration::from_secs(1);
/// How long nothing may have happened when memory is given back, and how long is waited at least until the next time: what
/// works gets no slower by it.
const REST: Duration = Duration::from_secs(10);
const BETWEEN_RESTS: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    runtime_sys::allocator::limit_arenas(ARENAS);
    runtime_sys::allocator::return_early(RETURNED_BYTES);
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("iechord: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let flags = flags::parse()?;
    let settings = Settings::load(&flags)?;
    if flags.validate {
        println!("configuration OK");
        return Ok(());
    }
    let level = logging::start(settings.log_level, settings.log_format);
    let reload = Reload::new(flags, level)?;
    settings::prepare_process();
    let _pidfile = pidfile::claim(&settings.pidfile)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("iechord")
        .enable_all()
        .build()
        .context("cannot start the threads of the daemon")?;
    let result = runtime.block_on(serve(settings, &reload));
    // Whatever still blocks is not waited for: operations had their grace.
    runtime.shutdown_background();
    result
}

/// Gives memory back that is needed no more: after start-up 6 of 12 MiB, after the making of 2,500 containers 17 of 44. Most
/// of it is code that was mapped around what ran, the rest lies between what is in use of the heap.
fn give_back() {
    runtime_sys::memory::trim_heap();
    runtime_sys::text::release();
}

/// Gives back after start-up, and whenever the node has come to rest.
async fn give_back_at_rest(engine: &Engine) -> Infallible {
    tokio::time::sleep(SETTLE).await;
    give_back();
    loop {
        engine.journal().rested(REST).await;
        give_back();
        tokio::time::sleep(BETWEEN_RESTS).await;
    }
}

async fn serve(settings: Settings, reload: &Reload) -> anyhow::Result<()> {
    let activated = settings::activated()?;
    let listeners = Listeners::open(&settings.hosts(&activated), &settings.access, activated).await?;
    let kubelets = match &settings.cri_socket {
        // Root alone: a kubelet is nobody else.
        Some(path) => Some(UnixSocket::bind(path, &Access::default())?),
        None => None,
    };
    let metrics = match &settings.metrics {
        Some(place) => Some(Metrics::open(place).await?),
        None => None,
    };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;

    let grace = settings.engine.shutdown_timeout;
    let engine = Engine::open(settings.engine).await.context("cannot open the engine")?;
    for address in listeners.addresses() {
        info!(address, "API");
    }
    if let Some(path) = &settings.cri_socket {
        info!(path = %path.display(), "CRI");
    }
    if let Some(metrics) = metrics {
        tokio::spawn(metrics.serve(engine.clone()));
    }
    let server = Server::start(engine.clone(), listeners);
    // The name goes when the daemon does.
    let (kubelets, _named) = match kubelets.map(UnixSocket::into_parts) {
        Some((listener, named)) => (Some(cri::Server::start(engine.clone(), listener)), Some(named)),
        None => (None, None),
    };
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    info!(version = env!("CARGO_PKG_VERSION"), "ready");

    let resting = give_back_at_rest(&engine);
    tokio::pin!(resting);
    loop {
        tokio::select! {
            never = &mut resting => match never {},
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload.now(&engine),
        }
    }
    info!("stopping; containers run on");
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let let_go = async {
        if let Some(kubelets) = kubelets {
            kubelets.stop(grace).await;
        }
    };
    let drain = async { tokio::join!(server.stop(grace), let_go, engine.shutdown()) };
    tokio::select! {
        _ = drain => {}
        _ = terminate.recv() => warn!("told twice: operations cut off"),
        _ = interrupt.recv() => warn!("told twice: operations cut off"),
    }
    Ok(())
}

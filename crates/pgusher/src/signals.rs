//! Signals speak the same commands as the console.

use std::io;
use std::rc::Rc;

use admin::{Command, Outcome, ShutdownKind};
use tokio::signal::unix::{SignalKind, signal};

use crate::pooler::Pooler;

/// Listens to every signal that means something.
pub(crate) fn listen(pooler: &Rc<Pooler>) -> io::Result<()> {
    let meanings = [
        (SignalKind::hangup(), "SIGHUP"),
        (SignalKind::interrupt(), "SIGINT"),
        (SignalKind::terminate(), "SIGTERM"),
        (SignalKind::quit(), "SIGQUIT"),
        (SignalKind::user_defined1(), "SIGUSR1"),
        (SignalKind::user_defined2(), "SIGUSR2"),
    ];
    for (kind, name) in meanings {
        let mut arrivals = signal(kind)?;
        let pooler = pooler.clone();
        tokio::task::spawn_local(async move {
            while arrivals.recv().await.is_some() {
                tokio::task::spawn_local(obey(pooler.clone(), name));
            }
        });
    }
    Ok(())
}

async fn obey(pooler: Rc<Pooler>, name: &'static str) {
    let shutting_down = pooler.is_shutting_down();
    let command = match name {
        "SIGHUP" => Command::Reload,
        "SIGUSR1" => Command::Pause(None),
        "SIGUSR2" if shutting_down => {
            tracing::info!("got SIGUSR2 while shutting down, ignoring");
            return;
        }
        "SIGUSR2" => Command::Resume(None),
        // The second one means it.
        "SIGINT" | "SIGTERM" if shutting_down => {
            tracing::info!("got {name} while shutting down, exiting now");
            return pooler.end_now();
        }
        "SIGINT" => Command::Shutdown(ShutdownKind::WaitForServers),
        "SIGTERM" => Command::Shutdown(ShutdownKind::WaitForClients),
        _ => Command::Shutdown(ShutdownKind::Immediate),
    };
    tracing::info!(name: "signal", "got {name}, running {}", command.tag());
    if let Outcome::Failed(error) = pooler.apply(&command).await {
        tracing::warn!("{name}: {}", error.message(&command));
    }
}

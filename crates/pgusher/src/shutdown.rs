//! SHUTDOWN: the end of the process, now or when those who are there are done.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use admin::{CommandError, ShutdownKind};
use pool::snapshot::PoolerState;

use crate::pooler::{LOOK, Pooler};
use crate::stage::Stage;
use crate::worker::WorkerMail;

/// Longest time that clients who are sent away at the end may take to hear why.
const FAREWELL: Duration = Duration::from_secs(1);

impl Pooler {
    pub(crate) async fn shutdown(self: &Rc<Self>, kind: ShutdownKind) -> Result<(), CommandError> {
        match kind {
            ShutdownKind::Immediate => {
                self.end_now();
                // The connection just drops: no reply is due.
                std::future::pending().await
            }
            ShutdownKind::WaitForServers => {
                self.begin_shutdown(Stage::Stopping, "waiting for server connections");
                self.set_rest(PoolerState::Paused);
                self.process.shared.pause_all(true);
                self.process.tell_workers(|| WorkerMail::KillWaiting);
                self.process.tell_workers(|| WorkerMail::LookAgain);
                let pooler = self.clone();
                tokio::task::spawn_local(async move {
                    pooler.wait_until_free(None).await;
                    pooler.wait_until_told().await;
                    pooler.end_now();
                });
                Ok(())
            }
            ShutdownKind::WaitForClients => {
                self.begin_shutdown(Stage::Draining, "waiting for clients to leave");
                let pooler = self.clone();
                tokio::task::spawn_local(async move {
                    while pooler.session_count().await > 0 {
                        tokio::time::sleep(LOOK).await;
                    }
                    pooler.end_now();
                });
                Ok(())
            }
        }
    }

    fn begin_shutdown(&self, stage: Stage, how: &str) {
        tracing::info!("shutting down: {how}");
        self.process.enter(stage);
        if self.rest.get() == PoolerState::Suspended {
            self.wake_up();
            self.set_rest(PoolerState::Active);
        }
        self.listeners.borrow_mut().close_to_clients(&self.process);
    }

    /// Waits until all who were sent away have heard why. Whoever does not listen must not hold us
    /// up.
    async fn wait_until_told(&self) {
        let told = self.wait_for_none(WorkerMail::Leaving);
        let _ = tokio::time::timeout(FAREWELL, told).await;
    }

    /// Sessions and logins other than the console's.
    async fn session_count(&self) -> usize {
        let sessions = self.process.ask_workers(WorkerMail::Sessions).await;
        let logins = self.process.logins.load(Ordering::SeqCst) as usize;
        sessions.iter().sum::<usize>() + logins
    }

    /// Whether a shutdown is under way.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.process.stage().is_the_end()
    }
}

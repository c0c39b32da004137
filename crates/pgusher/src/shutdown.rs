//! SHUTDOWN: the end of the process, now or when those who are there are done.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use admin::{CommandError, ShutdownKind};
use events::time::Instant;
use pool::snapshot::PoolerState;

use crate::drain::{Drain, FAREWELL};
use crate::pooler::{LOOK, Pooler};
use crate::stage::Stage;
use crate::worker::WorkerMail;

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
                self.close_to_clients().await;
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
                self.retire();
                Ok(())
            }
        }
    }

    /// Takes no clients in any more, and ends with the last that is there.
    pub(crate) fn retire(self: &Rc<Self>) {
        self.begin_shutdown(Stage::Draining, "waiting for clients to leave");
        tokio::task::spawn_local(self.clone().wait_for_clients());
    }

    async fn close_to_clients(&self) {
        let closing = self.listeners.borrow_mut().close_to_clients(self.process);
        closing.done().await;
    }

    /// Waits until the last client has left; with a deadline it sees to it that they do.
    async fn wait_for_clients(self: Rc<Self>) {
        let began = Instant::now();
        let delay = self.setup().config.settings.shutdown_listen_delay;
        tokio::time::sleep(delay).await;
        self.close_to_clients().await;
        let closed = Instant::now();
        loop {
            // Whom the process before us still has counts here.
            let guests = self.process.guests.load(Ordering::SeqCst) as usize;
            let clients = self.client_count().await + guests;
            if clients == 0 {
                self.give_the_rest().await;
                break;
            }
            let patience = self.setup().config.settings.shutdown_drain_timeout;
            if !patience.is_zero() {
                let drain = Drain::new(closed, began + patience);
                if drain.is_over(Instant::now()) {
                    tracing::warn!("shutting down: {clients} clients did not leave in time");
                    self.process.tell_workers(|| WorkerMail::EndSessions);
                    self.wait_until_told().await;
                    break;
                }
                self.process.tell_workers(|| WorkerMail::Drain(drain));
            }
            tokio::time::sleep(LOOK).await;
        }
        self.end_now();
    }

    fn begin_shutdown(self: &Rc<Self>, stage: Stage, how: &str) {
        tracing::info!("shutting down: {how}");
        if self.process.stage() != Stage::Stopping {
            self.process.enter(stage);
        }
        if self.rest.get() == PoolerState::Suspended {
            self.wake_up();
            self.set_rest(PoolerState::Active);
        }
    }

    /// Waits until all who were sent away have heard why. Whoever does not listen must not hold us
    /// up.
    async fn wait_until_told(&self) {
        let told = self.wait_for_none(WorkerMail::Leaving);
        let _ = tokio::time::timeout(FAREWELL, told).await;
    }

    /// Sessions and logins other than the console's.
    async fn client_count(&self) -> usize {
        let sessions = self.session_count().await;
        let logins = self.process.logins.load(Ordering::SeqCst) as usize;
        match sessions + logins {
            // Whoever finished its login between the two looks was seen by neither.
            0 => self.session_count().await,
            count => count,
        }
    }

    async fn session_count(&self) -> usize {
        let sessions = self.process.ask_workers(WorkerMail::Sessions).await;
        sessions.iter().sum()
    }

    /// Whether a shutdown is under way.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.process.stage().is_the_end()
    }
}

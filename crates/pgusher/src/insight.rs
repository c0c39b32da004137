//! What the HTTP endpoint tells: from the workers' summaries and what control knows.

use std::rc::Rc;
use std::time::{Instant, SystemTime};

use admin::{Figures, PERIOD, Readiness, Reload, Status, Upkeep};
use pool::snapshot::Snapshot;
use tokio::time::MissedTickBehavior;

use crate::pooler::Pooler;
use crate::setup::Setup;
use crate::vitals::vitals;
use crate::worker::WorkerMail;

impl Pooler {
    /// The text of `/metrics`.
    pub(crate) async fn metrics(&self) -> String {
        let snapshot = self.summary().await;
        let setup = self.setup();
        let upkeep = self.upkeep(&setup);
        let figures = Figures {
            snapshot: &snapshot,
            settings: &setup.config.settings,
            upkeep: &upkeep,
        };
        self.process.shared.labels(|labels| {
            for name in setup.config.databases.keys() {
                labels.admit_database(name);
            }
            labels.admit_database(settings::CONSOLE_DATABASE);
            figures.text(labels)
        })
    }

    fn upkeep(&self, setup: &Setup) -> Upkeep {
        Upkeep {
            reload: self.reload_report.get(),
            certificates: setup.tls.expiries(),
            vitals: vitals(self.started),
        }
    }

    /// What the status page draws.
    pub(crate) async fn status(&self) -> String {
        let snapshot = self.summary().await;
        let setup = self.setup();
        let settings: Vec<_> = setup.config.settings.rows().collect();
        let status = Status {
            snapshot: &snapshot,
            history: &self.samples.borrow(),
            settings: &settings,
            upkeep: &self.upkeep(&setup),
            warnings: &setup.warnings(),
            draining: self.is_shutting_down(),
            time: SystemTime::now(),
        };
        status.json()
    }

    /// Keeps samples for the page's plots.
    pub(crate) async fn keep_history(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let snapshot = self.summary().await;
            self.samples.borrow_mut().sample(&snapshot, Instant::now());
        }
    }

    /// What `/readyz` says.
    pub(crate) async fn readiness(&self) -> Readiness {
        let snapshot = self.summary().await;
        let reload = self.reload_report.get();
        Readiness::of(&snapshot, self.is_shutting_down(), reload.succeeded)
    }

    /// All workers together. One at a time is asked for: many readers wait for each other rather
    /// than keep the workers busy.
    async fn summary(&self) -> Snapshot {
        let _turn = self.summaries.lock().await;
        self.whole(WorkerMail::Summary).await
    }

    /// Waits until every worker has answered.
    pub(crate) async fn workers_turn(&self) {
        self.process.ask_workers(WorkerMail::AreYouThere).await;
    }

    /// Remembers how a RELOAD went.
    pub(crate) fn note_reload(&self, succeeded: bool) {
        let last = self.reload_report.get();
        self.reload_report.set(Reload {
            succeeded,
            last_success: if succeeded {
                SystemTime::now()
            } else {
                last.last_success
            },
        });
    }
}

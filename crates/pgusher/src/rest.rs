//! PAUSE, SUSPEND and RESUME: the pooler rests, and goes on.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use admin::{Command, CommandError};
use events::time::Instant;
use pool::pool::Suspension;
use pool::snapshot::PoolerState;
use tokio::task::JoinHandle;

use crate::pooler::{LOOK, Pooler};
use crate::stage::Stage;
use crate::worker::WorkerMail;

impl Pooler {
    /// Whoever ordered it left before it was complete: it ends.
    pub(crate) fn give_up_rest(self: &Rc<Self>, command: &Command, database: Option<&str>) {
        tracing::info!("{} was given up", command.tag());
        // It may have ended meanwhile by other hands.
        let _ = self.resume(database);
    }

    pub(crate) async fn pause(&self, database: Option<&str>) -> Result<(), CommandError> {
        let database = database.map(|name| self.find(name)).transpose()?;
        if self.rest.get() != PoolerState::Active {
            return Err(CommandError::AlreadyPaused);
        }
        match &database {
            None => {
                self.set_rest(PoolerState::Paused);
                self.process.shared.pause_all(true);
            }
            Some(database) => {
                if database.paused.swap(true, Ordering::SeqCst) {
                    return Err(CommandError::AlreadyPaused);
                }
            }
        }
        self.process.tell_workers(|| WorkerMail::LookAgain);
        let name = database.as_ref().map(|database| database.name.clone());
        let resumed = async {
            let rests = || match &database {
                None => self.rest.get() == PoolerState::Paused,
                Some(database) => database.paused.load(Ordering::SeqCst),
            };
            while rests() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = self.wait_until_free(name) => Ok(()),
            () = resumed => Err(CommandError::Canceled),
        }
    }

    /// Waits until no server of the database, or of all, is in use.
    pub(crate) async fn wait_until_free(&self, database: Option<Arc<str>>) {
        self.wait_for_none(|reply| WorkerMail::Busy(database.clone(), reply))
            .await;
    }

    pub(crate) fn resume(self: &Rc<Self>, database: Option<&str>) -> Result<(), CommandError> {
        if self.is_shutting_down() {
            return Err(CommandError::ShuttingDown);
        }
        match database {
            None => match self.rest.get() {
                PoolerState::Active => return Err(CommandError::NotPaused),
                PoolerState::Paused => self.process.shared.pause_all(false),
                PoolerState::Suspended => self.wake_up(),
            },
            Some(name) => {
                let database = self.find(name).map_err(|error| match error {
                    // It can't be paused.
                    CommandError::ConsoleDatabase => CommandError::NotPaused,
                    other => other,
                })?;
                if !database.paused.swap(false, Ordering::SeqCst) {
                    return Err(CommandError::NotPaused);
                }
            }
        }
        if database.is_none() {
            self.set_rest(PoolerState::Active);
        }
        self.process.tell_workers(|| WorkerMail::LookAgain);
        Ok(())
    }

    /// Takes nobody in any more and reads nothing that would have to be kept, until nothing is on
    /// its way; whoever hinders that for too long is dropped.
    pub(crate) async fn suspend(self: &Rc<Self>) -> Result<(), CommandError> {
        if self.is_shutting_down() {
            return Err(CommandError::ShuttingDown);
        }
        if self.rest.get() != PoolerState::Active {
            return Err(CommandError::AlreadyPaused);
        }
        if self.process.shared.is_any_paused() {
            return Err(CommandError::PausedDatabases);
        }
        self.set_rest(PoolerState::Suspended);
        let shut = self.shut_doors();
        // Before anything is awaited: RESUME may come meanwhile, and must be the last word.
        self.tell_suspension(Suspension::Lenient);
        tokio::task::spawn_local(self.clone().wake_up_without_operators());
        let still = async {
            // A task that only waits does not fail.
            let _ = shut.await;
            self.wait_until_still().await;
        };
        tokio::select! {
            () = still => {}
            () = self.wait_until_awake() => {}
        }
        if !self.is_suspended() {
            return Err(CommandError::Canceled);
        }
        // This ends logins that are under way even now.
        self.process.enter(Stage::Suspended);
        Ok(())
    }

    /// Waits until nothing is on its way; after `suspend_timeout` nobody is asked any more.
    async fn wait_until_still(&self) {
        let began = Instant::now();
        let patience = || self.setup().config.settings.suspend_timeout;
        while self.is_stirring().await && self.is_suspended() {
            if began.elapsed() >= patience() {
                tracing::warn!("suspend_timeout: dropping whoever is not still");
                self.tell_suspension(Suspension::Strict);
                // Those who only let others go first need a moment to find themselves still.
                tokio::time::sleep(LOOK).await;
                if self.is_suspended() {
                    self.process.tell_workers(|| WorkerMail::EndStirring);
                }
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_suspended(&self) -> bool {
        self.rest.get() == PoolerState::Suspended
    }

    async fn is_stirring(&self) -> bool {
        let stirring = self.process.ask_workers(WorkerMail::Stirring).await;
        let logins = self.process.logins.load(Ordering::SeqCst) as usize;
        stirring.iter().sum::<usize>() + logins > 0
    }

    async fn wait_until_awake(&self) {
        while self.is_suspended() {
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) fn wake_up(self: &Rc<Self>) {
        self.tell_suspension(Suspension::None);
        self.open_doors();
    }

    /// Takes nobody in any more; the task ends when that holds everywhere.
    fn shut_doors(self: &Rc<Self>) -> JoinHandle<()> {
        let closing = self.listeners.borrow_mut().suspend();
        let pooler = self.clone();
        tokio::task::spawn_local(async move {
            let _turn = pooler.doors.lock().await;
            closing.done().await;
        })
    }

    /// Takes clients in again, once what shut the doors is over.
    fn open_doors(self: &Rc<Self>) {
        let pooler = self.clone();
        tokio::task::spawn_local(async move {
            let _turn = pooler.doors.lock().await;
            if !pooler.is_suspended() {
                pooler.listeners.borrow_mut().start(pooler.process);
            }
        });
    }

    fn tell_suspension(&self, suspension: Suspension) {
        self.process
            .tell_workers(|| WorkerMail::Suspend(suspension));
    }

    /// Nobody could order RESUME any more: new consoles are not let in, either.
    async fn wake_up_without_operators(self: Rc<Self>) {
        while self.is_suspended() {
            if self.process.consoles.load(Ordering::SeqCst) == 0 {
                tracing::info!("admin disappeared when suspended, doing RESUME");
                // It may have ended meanwhile by other hands.
                let _ = self.resume(None);
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) fn set_rest(&self, rest: PoolerState) {
        self.rest.set(rest);
        if !self.is_shutting_down() {
            self.process.enter(match rest {
                PoolerState::Active => Stage::Running,
                PoolerState::Paused => Stage::Paused,
                PoolerState::Suspended => Stage::Suspending,
            });
        }
    }
}

//! Control: owns the configuration, carries commands out over all workers, ends the process.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use admin::{Command, CommandError, Outcome, Reload};
use events::time::Instant;
use net::resolve::Terms;
use pool::ClientId;
use pool::shared::Welcome;
use pool::snapshot::{PoolerState, StatsHistory};
use settings::{CONSOLE_DATABASE, Changes, DatabaseChange, Membership, Setting, When};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::accept::Listeners;
use crate::logging::Logging;
use crate::process::{Order, Process};
use crate::setup::{Setup, SetupError};
use crate::source::Source;
use crate::systemd::Manager;
use crate::worker::WorkerMail;

/// How often a command that waits looks whether its wait is over.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// What control owns.
pub(crate) struct Pooler {
    pub(crate) process: &'static Process,
    pub(crate) history: RefCell<StatsHistory>,
    pub(crate) started: SystemTime,
    /// How the last RELOAD went.
    pub(crate) reload_report: Cell<Reload>,
    /// What the status page plots.
    pub(crate) samples: RefCell<admin::History>,
    /// Held while the workers are asked for a summary.
    pub(crate) summaries: tokio::sync::Mutex<()>,
    /// Whether PAUSE or SUSPEND of all databases is in force.
    pub(crate) rest: Cell<PoolerState>,
    setup: RefCell<Arc<Setup>>,
    /// Told when another configuration is in force.
    renewed: Notify,
    source: Source,
    pub(crate) listeners: RefCell<Listeners>,
    /// What answers at the HTTP endpoint.
    pub(crate) endpoint: RefCell<Vec<JoinHandle<()>>>,
    /// Held by whoever shuts or opens them: one after the other.
    pub(crate) doors: tokio::sync::Mutex<()>,
    logging: Logging,
    pub(crate) manager: Manager,
    /// Asks for all that goes to the next process to be on its way.
    pub(crate) flush: RefCell<Option<mpsc::UnboundedSender<oneshot::Sender<()>>>>,
    /// Told when the process may end.
    over: Notify,
    unused_since: RefCell<HashMap<Arc<str>, Instant>>,
}

impl Pooler {
    pub(crate) fn new(
        process: &'static Process,
        setup: Arc<Setup>,
        source: Source,
        listeners: Listeners,
        logging: Logging,
    ) -> Rc<Self> {
        let reload_report = Reload {
            succeeded: true,
            last_success: SystemTime::now(),
        };
        let pooler = Rc::new(Self {
            process,
            history: RefCell::new(StatsHistory::new(Instant::now())),
            started: reload_report.last_success,
            reload_report: Cell::new(reload_report),
            samples: RefCell::default(),
            summaries: tokio::sync::Mutex::default(),
            rest: Cell::default(),
            setup: RefCell::new(setup),
            renewed: Notify::new(),
            manager: Manager::new(&source.environment),
            source,
            listeners: RefCell::new(listeners),
            endpoint: RefCell::default(),
            doors: tokio::sync::Mutex::default(),
            logging,
            flush: RefCell::default(),
            over: Notify::new(),
            unused_since: RefCell::default(),
        });
        let limit = pooler.setup().config.settings.metrics_label_limit as usize;
        // For good: under another limit counts would move from one label to another.
        pooler
            .process
            .shared
            .labels(|labels| labels.set_limit(limit));
        pooler
    }

    /// The configuration in force.
    pub(crate) fn setup(&self) -> Arc<Setup> {
        self.setup.borrow().clone()
    }

    /// Carries out what consoles and signals order, until the process may end.
    pub(crate) async fn run(self: &Rc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        self.succeed().await;
        self.listeners.borrow().tune(&self.setup().config.settings);
        self.listeners.borrow_mut().start(self.process);
        self.manager.ready();
        tokio::task::spawn_local(self.clone().keep_statistics());
        tokio::task::spawn_local(self.clone().forget_unused_databases());
        tokio::task::spawn_local(self.clone().keep_names());
        tokio::task::spawn_local(self.clone().watch_zones());
        let pooler = self.clone();
        tokio::task::spawn_local(async move {
            while let Some(order) = orders.recv().await {
                tokio::task::spawn_local(pooler.clone().carry_out(order));
            }
        });
        self.over.notified().await;
        let closing = self.listeners.borrow_mut().close();
        closing.done().await;
    }

    async fn carry_out(self: Rc<Self>, Order { command, mut reply }: Order) {
        tokio::select! {
            outcome = self.apply(&command) => {
                // Who asked may have left.
                let _ = reply.send(outcome);
            }
            () = reply.closed() => self.take_back(&command),
        }
    }

    /// Whoever ordered it left before it was complete.
    fn take_back(self: &Rc<Self>, command: &Command) {
        match command {
            Command::Pause(database) => self.give_up_rest(command, database.as_deref()),
            Command::Suspend => self.give_up_rest(command, None),
            _ => {}
        }
    }

    /// Carries out one command.
    pub(crate) async fn apply(self: &Rc<Self>, command: &Command) -> Outcome {
        log_order(command);
        let result = match command {
            Command::Show(show) => {
                return match self.show(*show).await {
                    Ok(table) => Outcome::Table(table),
                    Err(error) => Outcome::Failed(error),
                };
            }
            Command::Set { key, value } => return outcome(self.set(key, value)),
            Command::Reload => {
                self.manager.reloading();
                let result = self.reload();
                self.note_reload(result.is_ok());
                self.manager.ready();
                result
            }
            Command::Pause(database) => self.pause(database.as_deref()).await,
            Command::Suspend => self.suspend().await,
            Command::Resume(database) => self.resume(database.as_deref()),
            Command::Disable(database) => self.disable(database, true),
            Command::Enable(database) => self.disable(database, false),
            Command::Reconnect(database) => self.reconnect(database.as_deref()),
            Command::Kill(database) => self.kill(database.as_deref()),
            Command::KillClient(id) => self.kill_client(*id).await,
            Command::WaitClose(database) => self.wait_close(database.as_deref()).await,
            Command::Shutdown(kind) => {
                self.manager.stopping();
                self.shutdown(*kind).await
            }
        };
        match result {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(error),
        }
    }

    fn set(&self, key: &str, value: &str) -> Result<Followed, CommandError> {
        let Some(setting) = Setting::named(key) else {
            return Err(CommandError::SetFailed);
        };
        let old = self.setup();
        let mut config = (*old.config).clone();
        config.settings.set(key, value).map_err(|error| {
            tracing::warn!("SET failed: {error}");
            CommandError::SetFailed
        })?;
        let mut new = old.with_set(config).map_err(|error| {
            tracing::warn!("SET failed: {error}");
            CommandError::SetFailed
        })?;
        // PgBouncer accepts these, too, and lets them rest.
        if setting.when == When::AtBoot {
            return Ok(Followed::Wholly);
        }
        if !Arc::ptr_eq(&old.rules, &new.rules) {
            for warning in &new.rules.warnings {
                tracing::warn!("{warning}");
            }
        }
        let followed = if setting.is_tls() && !new.renew_tls() {
            Followed::ButTls
        } else {
            Followed::Wholly
        };
        self.install(new);
        Ok(followed)
    }

    /// Reads everything, then applies all of it, or nothing.
    fn reload(&self) -> Result<(), CommandError> {
        let old = self.setup();
        let path = self.config_path(&old);
        let config = self.source.read(&path).map_err(SetupError::from);
        let new = config.and_then(|config| {
            let changes = Changes::between(&old.config, &config);
            let config = config.keeping_boot_settings_of(&old.config);
            let new = Setup::with(config, &self.source.environment, old.tls.clone())?;
            Ok((new, changes))
        });
        let (mut new, changes) = match new {
            Ok(new) => new,
            Err(error) => {
                for line in error.to_string().lines() {
                    tracing::error!("{line}");
                }
                return Err(CommandError::ReloadFailed);
            }
        };
        if !new.renew_tls() {
            return Err(CommandError::ReloadFailed);
        }
        report_warnings(&new);
        for change in &changes.at_boot {
            tracing::warn!(name: "setting_needs_restart", "RELOAD: {} acts at the next start only", change.name);
        }
        for change in &changes.settings {
            let show = |value: &Option<String>| value.clone().unwrap_or_default();
            let (was, is) = (show(&change.old), show(&change.new));
            tracing::info!(name: "setting_changed", "RELOAD: {} = {is} (was {was})", change.name);
        }
        log_entries(&changes);
        let outdated = self.follow_databases(&old, &new);
        self.install(new);
        self.process.tell_workers(|| WorkerMail::LookAgain);
        tracing::info!(name: "reloaded",
            "RELOAD: {} settings changed, {outdated} databases closed or to be reconnected",
            changes.settings.len()
        );
        Ok(())
    }

    /// Takes changed entries into the databases in use; returns how many lose their servers.
    fn follow_databases(&self, old: &Setup, new: &Setup) -> usize {
        let mut outdated = 0;
        for database in self.process.shared.databases() {
            let before = old.config.database(&database.name);
            let after = new.config.database(&database.name);
            match (
                DatabaseChange::between(before.as_deref(), after.as_deref()),
                after,
            ) {
                (Some(DatabaseChange::Removed), _) | (_, None) => {
                    outdated += 1;
                    tracing::info!("RELOAD: database {} removed", database.name);
                    self.process.shared.remove_database(&database.name);
                    let name = database.name.clone();
                    self.process
                        .tell_workers(|| WorkerMail::KillDatabase(name.clone()));
                }
                (Some(DatabaseChange::Reconnect), Some(config)) => {
                    outdated += 1;
                    tracing::info!("RELOAD: database {} changed: reconnecting", database.name);
                    database.config.store(config);
                    self.outdate(&database.name);
                    let name = database.name.clone();
                    self.process
                        .tell_workers(|| WorkerMail::PartMisplaced(name.clone()));
                }
                (_, Some(config)) => database.config.store(config),
            }
        }
        outdated
    }

    /// Puts a configuration into force, here and on all workers.
    fn install(&self, setup: Setup) {
        let same_servers = setup.tls.has_same_servers(&self.setup().tls);
        let setup = Arc::new(setup);
        self.logging.configure(&setup.config.settings);
        self.listeners.borrow().tune(&setup.config.settings);
        let terms = Terms::from(&setup.config.settings);
        self.process.shared.resolver.set_terms(terms);
        for pool in self.process.shared.pools() {
            let config = pool.database.config.load();
            pool.set_secret(setup.server_secret(&config, &pool.key.user));
        }
        *self.setup.borrow_mut() = setup.clone();
        self.renewed.notify_waiters();
        self.process
            .tell_workers(|| WorkerMail::Setup(setup.clone()));
        if !same_servers {
            tracing::info!("TLS with servers changed: reconnecting");
            self.outdate_all();
        }
    }

    /// What the file would change, and when.
    pub(crate) fn differences(&self) -> Result<Changes, CommandError> {
        let setup = self.setup();
        let path = self.config_path(&setup);
        match self.source.read(&path) {
            Ok(file) => Ok(Changes::between(&setup.config, &file)),
            Err(error) => {
                for line in error.to_string().lines() {
                    tracing::warn!("SHOW CONFIG_DIFF: {line}");
                }
                Err(CommandError::FileUnreadable)
            }
        }
    }

    fn config_path(&self, setup: &Setup) -> PathBuf {
        let named = setup.config.settings.conffile.clone();
        named.unwrap_or_else(|| setup.config.path.clone())
    }

    /// Waits until the workers count nothing of this any more.
    pub(crate) async fn wait_for_none(&self, mail: impl Fn(oneshot::Sender<usize>) -> WorkerMail) {
        while self.process.ask_workers(&mail).await.iter().sum::<usize>() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn disable(&self, name: &str, disabled: bool) -> Result<(), CommandError> {
        let database = self.find(name)?;
        database.disabled.store(disabled, Ordering::SeqCst);
        Ok(())
    }

    fn reconnect(&self, database: Option<&str>) -> Result<(), CommandError> {
        match database {
            Some(name) => {
                let database = self.find(name)?;
                self.outdate(&database.name);
            }
            None => {
                self.outdate_all();
                return Ok(());
            }
        }
        self.process.tell_workers(|| WorkerMail::LookAgain);
        Ok(())
    }

    /// Has every database's servers replaced.
    fn outdate_all(&self) {
        for database in self.process.shared.databases() {
            self.outdate(&database.name);
        }
        self.process.tell_workers(|| WorkerMail::LookAgain);
    }

    /// Has a database's servers replaced, and the welcome learned anew.
    fn outdate(&self, name: &str) {
        for pool in self.process.shared.pools() {
            if &*pool.key.database == name {
                pool.welcome.send_replace(Welcome::Unknown);
            }
        }
        if let Some(database) = self.process.shared.find_database(name) {
            database.generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn kill(&self, database: Option<&str>) -> Result<(), CommandError> {
        if self.rest.get() != PoolerState::Active {
            return Err(CommandError::AlreadyPaused);
        }
        let victims = match database {
            Some(name) => vec![self.find(name)?],
            None => self.process.shared.databases(),
        };
        for database in victims {
            database.paused.store(true, Ordering::SeqCst);
            let name = database.name.clone();
            self.process
                .tell_workers(|| WorkerMail::KillDatabase(name.clone()));
            self.outdate(&database.name);
        }
        self.process.tell_workers(|| WorkerMail::LookAgain);
        Ok(())
    }

    async fn kill_client(&self, id: u64) -> Result<(), CommandError> {
        let found = self
            .process
            .ask_workers(|reply| WorkerMail::KillClient(ClientId(id), reply))
            .await;
        if found.contains(&true) {
            Ok(())
        } else {
            Err(CommandError::ClientNotFound)
        }
    }

    async fn wait_close(&self, database: Option<&str>) -> Result<(), CommandError> {
        let name: Option<Arc<str>> = match database {
            Some(name) => Some(self.find(name)?.name.clone()),
            None => None,
        };
        self.wait_for_none(|reply| WorkerMail::Outdated(name.clone(), reply))
            .await;
        Ok(())
    }

    /// The database in use of that name, or the one that the configuration has.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<pool::DatabaseShared>, CommandError> {
        if name == CONSOLE_DATABASE {
            return Err(CommandError::ConsoleDatabase);
        }
        let shared = &self.process.shared;
        if let Some(database) = shared.find_database(name) {
            return Ok(database);
        }
        let config = self.setup().config.database(name);
        let config = config.ok_or(CommandError::NoSuchDatabase)?;
        Ok(shared.database(&config, config.auto).0)
    }

    /// Ends the process now.
    pub(crate) fn end_now(&self) {
        self.over.notify_one();
    }

    /// Keeps the averages going, and logs them.
    async fn keep_statistics(self: Rc<Self>) {
        loop {
            self.stats_period_passes(Instant::now()).await;
            let totals = self.totals().await;
            let figures = self.history.borrow_mut().tick(&totals, Instant::now());
            if self.setup().config.settings.log_stats {
                tracing::info!(name: "stats",
                    "stats: {} xacts/s, {} queries/s, {} client parses/s, {} server parses/s, \
                     {} binds/s, {} client logins/s, in {} B/s, out {} B/s, xact {} us, \
                     query {} us, wait {} us",
                    figures.xact_count,
                    figures.query_count,
                    figures.client_parse_count,
                    figures.server_parse_count,
                    figures.bind_count,
                    figures.client_login_count,
                    figures.bytes_received,
                    figures.bytes_sent,
                    figures.xact_time,
                    figures.query_time,
                    figures.wait_time,
                );
            }
        }
    }

    /// Ends when a `stats_period` has passed since then, however that changes meanwhile.
    async fn stats_period_passes(&self, since: Instant) {
        loop {
            let renewed = self.renewed.notified();
            let period = self.setup().config.settings.stats_period;
            let end = since + period.max(Duration::from_secs(1));
            tokio::select! {
                () = tokio::time::sleep(end - Instant::now()) => return,
                () = renewed => {}
            }
        }
    }

    /// Forgets databases made from the `*` entry that nobody has used for `autodb_idle_timeout`.
    async fn forget_unused_databases(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            self.process.shared.forget_removed_pools();
            let setup = self.setup();
            if !setup.config.settings.pool_idle_timeout.is_zero() {
                for key in self.process.shared.forget_idle_pools() {
                    tracing::info!("cleaning up idle pool: {key}");
                }
            }
            let limit = setup.config.settings.autodb_idle_timeout;
            if limit.is_zero() {
                continue;
            }
            let shared = &self.process.shared;
            let pools = shared.pools();
            let used = |database: &pool::DatabaseShared| {
                database.clients.load(Ordering::SeqCst) > 0
                    || database.is_paused()
                    || pools.iter().any(|pool| {
                        pool.key.database == database.name
                            && pool.servers.load(Ordering::SeqCst) > 0
                    })
            };
            let mut unused_since = self.unused_since.borrow_mut();
            for database in shared.databases().iter().filter(|database| database.auto) {
                if used(database) {
                    unused_since.remove(&database.name);
                    continue;
                }
                let now = Instant::now();
                let since = unused_since.entry(database.name.clone()).or_insert(now);
                if since.elapsed() >= limit && shared.forget_database(&database.name) {
                    unused_since.remove(&database.name);
                    tracing::info!("cleaning up idle pool: db={}", database.name);
                }
            }
        }
    }
}

/// Says what is done from now on, in PgBouncer's words.
fn log_order(command: &Command) {
    let tag = command.tag();
    match (command, command.database()) {
        (Command::Show(_) | Command::Set { .. }, _) => {}
        (_, Some(database)) => tracing::info!("{tag} '{database}' command issued"),
        (_, None) => tracing::info!("{tag} command issued"),
    }
}

/// Says which entries of the other sections changed.
fn log_entries(changes: &Changes) {
    for (name, change) in &changes.databases {
        let what = match change {
            DatabaseChange::Added => "added",
            DatabaseChange::Removed => "removed",
            DatabaseChange::Reconnect => "changed, its servers are to be replaced",
            DatabaseChange::Adjusted => "changed, its servers stay",
        };
        tracing::info!("RELOAD: [databases] {name} {what}");
    }
    for (name, change) in &changes.users {
        tracing::info!("RELOAD: [users] {name} {}", became(*change));
    }
    for (id, change) in &changes.peers {
        tracing::info!("RELOAD: [peers] {id} {}", became(*change));
    }
}

fn became(change: Membership) -> &'static str {
    match change {
        Membership::Added => "added",
        Membership::Removed => "removed",
        Membership::Changed => "changed",
    }
}

/// How far changed settings could be followed.
enum Followed {
    Wholly,
    /// TLS stays as it is.
    ButTls,
}

fn outcome(result: Result<Followed, CommandError>) -> Outcome {
    match result {
        Ok(Followed::Wholly) => Outcome::Done,
        Ok(Followed::ButTls) => Outcome::DoneButTlsStays,
        Err(error) => Outcome::Failed(error),
    }
}

/// Says what the configuration asks for that does not act, and what it was warned of.
pub(crate) fn report_warnings(setup: &Setup) {
    for warning in setup.warnings() {
        tracing::warn!("{warning}");
    }
}

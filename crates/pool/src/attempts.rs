//! One login, tried at every place where the pool's server may be until one takes it.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use events::time::Instant;
use events::time::timeout;
use net::stream::Target;
use settings::{Database, Host, SocketDir};
use wire::SqlState;

use crate::own::OwnStartup;
use crate::pool::Pool;
use crate::server::login::{self, LoggedIn, LoginError, socket_path};
use crate::shared::lock;

/// What came of one attempt: where, and why there is no server.
#[derive(Debug)]
pub struct Attempt {
    place: String,
    error: LoginError,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.error, self.place)
    }
}

/// Why there is no server, wherever it was looked for. What was said last counts: after a refusal
/// nobody else is asked.
#[derive(Debug)]
pub struct LoginFailure(Vec<Attempt>);

impl LoginFailure {
    fn decisive(&self) -> Option<&LoginError> {
        self.0.last().map(|attempt| &attempt.error)
    }

    /// What waiting clients are told: the server's own words, or what went wrong here.
    pub fn for_client(&self) -> String {
        self.decisive()
            .map(LoginError::for_client)
            .unwrap_or_default()
    }

    /// The code that goes with it.
    pub fn sqlstate(&self) -> SqlState {
        let decisive = self.decisive();
        decisive.map_or(SqlState::PROTOCOL_VIOLATION, LoginError::sqlstate)
    }

    /// True if trying again will not help, so that waiting clients had better hear of it.
    pub fn is_final(&self) -> bool {
        self.decisive().is_some_and(LoginError::is_final)
    }
}

impl fmt::Display for LoginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, attempt) in self.0.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            write!(f, "{separator}{attempt}")?;
        }
        Ok(())
    }
}

/// What is looked at next: the number of a host, and what is known of it.
enum Step<'a> {
    /// A host, to find its addresses.
    Find(usize, &'a Host),
    /// A place to log in at.
    Try(usize, Target),
}

impl Pool {
    /// Logs a server in. All hosts and their addresses are tried, those last where nobody answered
    /// lately; a refusal ends the search.
    pub(crate) async fn login(&self, own: Option<&OwnStartup>) -> Result<LoggedIn, LoginFailure> {
        let config = self.shared.database.config.load_full();
        let mut steps = self.first_steps(&config);
        let mut failed = Vec::new();
        while let Some(step) = steps.pop_front() {
            let attempt = match step {
                Step::Find(number, host) => match self.find(host, config.port).await {
                    Ok(targets) => {
                        self.put_in_order(&mut steps, number, targets);
                        continue;
                    }
                    Err(error) => Attempt {
                        place: host.to_string(),
                        error,
                    },
                },
                Step::Try(number, target) => {
                    match self.log_in_at(&config, number, &target, own).await {
                        Ok(logged_in) => return Ok(logged_in),
                        Err(error) => Attempt {
                            place: place(&target),
                            error,
                        },
                    }
                }
            };
            self.log_attempt(&attempt);
            let is_final = attempt.error.is_final();
            failed.push(attempt);
            if is_final {
                break;
            }
        }
        Err(LoginFailure(failed))
    }

    fn first_steps<'a>(&self, config: &'a Database) -> VecDeque<Step<'a>> {
        if config.hosts.is_empty() {
            let socket_dir = self.local.socket_dir.borrow();
            let socket = default_socket(socket_dir.as_ref(), config.port);
            return [Step::Try(0, Target::Unix(socket))].into();
        }
        let mut turns = lock(&self.shared.turns);
        let order = turns.hosts(config.hosts.len(), config.load_balance_hosts);
        let step = |number: usize| Step::Find(number, &config.hosts[number]);
        order.into_iter().map(step).collect()
    }

    /// All places of a host.
    async fn find(&self, host: &Host, port: u16) -> Result<Vec<Target>, LoginError> {
        let name = match host {
            Host::Unix(dir) => return Ok(vec![Target::Unix(socket_path(dir, port))]),
            Host::Ip(ip) => return Ok(vec![Target::Tcp((*ip, port).into(), None)]),
            Host::Name(name) => name,
        };
        let resolver = &self.local.shared.resolver;
        let found = self.in_time(async { resolver.lookup(name).await.map_err(LoginError::Dns) });
        let addresses = found.await?;
        let name: Arc<str> = name.as_str().into();
        let target = |&ip| Target::Tcp((ip, port).into(), Some(name.clone()));
        let mut targets: Vec<_> = addresses.iter().map(target).collect();
        lock(&self.shared.turns).addresses(&mut targets);
        Ok(targets)
    }

    /// What a host's places mean for the order of things.
    fn put_in_order(&self, steps: &mut VecDeque<Step<'_>>, number: usize, targets: Vec<Target>) {
        let (now, pause) = (Instant::now(), self.settings().server_login_retry);
        let turns = lock(&self.shared.turns);
        let failed_lately = |target: &Target| turns.failed_lately(target, now, pause);
        let (last, first): (Vec<_>, Vec<_>) = targets.into_iter().partition(failed_lately);
        for target in first.into_iter().rev() {
            steps.push_front(Step::Try(number, target));
        }
        steps.extend(last.into_iter().map(|target| Step::Try(number, target)));
    }

    async fn log_in_at(
        &self,
        config: &Database,
        number: usize,
        target: &Target,
        own: Option<&OwnStartup>,
    ) -> Result<LoggedIn, LoginError> {
        let options = self.local.tcp.borrow().clone();
        let tls = self.local.tls.borrow().clone();
        let names = &self.local.shared.names;
        let (pool, tls) = (&self.shared, tls.as_ref());
        let login = login::login(pool, config, target.clone(), &options, tls, names, own);
        let begun = Instant::now();
        let result = self.in_time(login).await;
        if result.is_ok() {
            self.meter.borrow_mut().connect.record(begun.elapsed());
        }
        let mut turns = lock(&self.shared.turns);
        match &result {
            Err(error) if !error.is_final() => turns.failed(target, Instant::now()),
            _ => turns.worked(target, number, config.load_balance_hosts),
        }
        result
    }

    /// Does it within `server_connect_timeout`.
    async fn in_time<T>(
        &self,
        step: impl Future<Output = Result<T, LoginError>>,
    ) -> Result<T, LoginError> {
        let limit = self.settings().server_connect_timeout;
        match limit {
            Some(limit) => timeout(limit, step)
                .await
                .unwrap_or(Err(LoginError::Timeout)),
            None => step.await,
        }
    }

    fn log_attempt(&self, attempt: &Attempt) {
        tracing::warn!(name: "server_login_failed", "{}: {attempt}", self.shared.key);
        tracing::info!(name: "server_closed",
            "S: {} closing because: {} (age=0s)",
            self.shared.key,
            attempt.error.reason()
        );
        self.local.note_close(attempt.error.reason());
    }
}

/// Where an entry without `host` leads: the socket in our own `unix_socket_dir`.
fn default_socket(dir: Option<&SocketDir>, port: u16) -> PathBuf {
    match dir {
        Some(dir) => socket_path(dir, port),
        None => PathBuf::from(format!("/tmp/.s.PGSQL.{port}")),
    }
}

/// How operators know a place: by name and address.
fn place(target: &Target) -> String {
    match target {
        Target::Tcp(addr, Some(name)) => format!("{name} ({addr})"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_failure_names_every_place_and_what_happened_there() {
        let refused = || LoginError::Connect(io::ErrorKind::ConnectionRefused.into());
        let target = Target::Tcp(([10, 0, 0, 1], 5432).into(), Some("db1".into()));
        let failure = LoginFailure(vec![
            Attempt {
                place: place(&target),
                error: refused(),
            },
            Attempt {
                place: "db2".to_owned(),
                error: LoginError::Timeout,
            },
        ]);
        assert_eq!(
            failure.to_string(),
            "connect failed: connection refused at db1 (10.0.0.1:5432); connect timeout at db2"
        );
        assert_eq!(failure.for_client(), "connect timeout");
    }
}

//! Whether clients had better be sent here, for load balancers and whoever starts us again.

use pool::snapshot::{Backend, DatabaseRow, PoolerState, Snapshot};
use serde::Serialize;

/// What `/readyz` says.
#[derive(Debug, Serialize)]
pub struct Readiness {
    ready: bool,
    accepting: bool,
    draining: bool,
    paused: bool,
    /// Whether the last RELOAD was followed. The configuration before it goes on serving, so this
    /// alone sends nobody away.
    reload_succeeded: bool,
    databases: Vec<Database>,
}

#[derive(Debug, Serialize)]
struct Database {
    name: String,
    backend: &'static str,
    paused: bool,
    disabled: bool,
}

impl Readiness {
    /// From a merged summary, and what control knows.
    pub fn of(snapshot: &Snapshot, draining: bool, reload_succeeded: bool) -> Self {
        let accepting = !draining && snapshot.state != PoolerState::Suspended;
        let databases = snapshot.databases.iter();
        let databases = databases.filter(|row| row.name != settings::CONSOLE_DATABASE);
        Self {
            ready: accepting,
            accepting,
            draining,
            paused: snapshot.state == PoolerState::Paused,
            reload_succeeded,
            databases: databases.map(Database::of).collect(),
        }
    }

    /// Whether clients are welcome.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// As JSON.
    pub fn json(&self) -> String {
        // Plain words and flags can always be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl Database {
    fn of(row: &DatabaseRow) -> Self {
        Self {
            name: row.name.clone(),
            backend: word(row.backend),
            paused: row.paused,
            disabled: row.disabled,
        }
    }
}

/// The state of a database's server in a word.
pub(crate) fn word(backend: Backend) -> &'static str {
    match backend {
        Backend::Unknown => "unknown",
        Backend::Up => "up",
        Backend::Down => "down",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_drains_or_suspends_is_not_ready_and_who_pauses_is() {
        let ready = |state, draining| {
            let snapshot = Snapshot {
                state,
                ..Snapshot::default()
            };
            Readiness::of(&snapshot, draining, true).is_ready()
        };
        assert!(ready(PoolerState::Active, false));
        assert!(ready(PoolerState::Paused, false));
        assert!(!ready(PoolerState::Suspended, false));
        assert!(!ready(PoolerState::Active, true));
    }
}

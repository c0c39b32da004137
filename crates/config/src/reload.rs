//! What differs between two configurations, and what must follow.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Config;
use crate::database::{Database, TEMPLATE};
use crate::settings::{SETTINGS, Setting, When};

/// Everything that differs between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Settings that take effect now.
    pub settings: Vec<SettingChange>,
    /// Settings that take effect only when the process starts again.
    pub at_boot: Vec<SettingChange>,
    /// Entries of `[databases]`, `*` under that name.
    pub databases: Vec<(String, DatabaseChange)>,
    /// Entries of `[users]`.
    pub users: Vec<(String, Membership)>,
    /// Entries of `[peers]`.
    pub peers: Vec<(u16, Membership)>,
}

/// One setting that differs. A secret's values are masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    /// The key.
    pub name: &'static str,
    /// Its value before.
    pub old: Option<String>,
    /// Its value after.
    pub new: Option<String>,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It says something else.
    Changed,
}

/// What became of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseChange {
    /// It is new.
    Added,
    /// It is gone: its clients and servers have to go, too.
    Removed,
    /// Its servers are not where, who or what they should be: connect anew.
    Reconnect,
    /// Only limits and manners differ: its servers stay.
    Adjusted,
}

impl Changes {
    /// Compares two configurations.
    pub fn between(old: &Config, new: &Config) -> Self {
        let differing = SETTINGS
            .iter()
            .filter(|row| row.show(&old.settings) != row.show(&new.settings));
        let (settings, at_boot) =
            differing.partition::<Vec<_>, _>(|row| row.when == When::OnReload);
        let describe = |rows: Vec<&Setting>| {
            let change = |row: &&Setting| SettingChange::between(row, old, new);
            rows.iter().map(change).collect()
        };
        Self {
            settings: describe(settings),
            at_boot: describe(at_boot),
            databases: database_changes(old, new),
            users: memberships(&old.users, &new.users),
            peers: memberships(&old.peers, &new.peers),
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl SettingChange {
    fn between(setting: &Setting, old: &Config, new: &Config) -> Self {
        let show = |config: &Config| {
            let value = setting.show(&config.settings)?;
            Some(if setting.secret {
                "…".to_owned()
            } else {
                value
            })
        };
        Self {
            name: setting.name,
            old: show(old),
            new: show(new),
        }
    }
}

impl DatabaseChange {
    /// Compares a database with what became of it; `None` if it stayed the same.
    ///
    /// For a database made from the `*` entry, compare what [`Config::database`] gives.
    pub fn between(old: Option<&Database>, new: Option<&Database>) -> Option<Self> {
        match (old, new) {
            (None, None) => None,
            (None, Some(_)) => Some(Self::Added),
            (Some(_), None) => Some(Self::Removed),
            (Some(old), Some(new)) if old == new => None,
            (Some(old), Some(new)) if same_servers(old, new) => Some(Self::Adjusted),
            (Some(_), Some(_)) => Some(Self::Reconnect),
        }
    }
}

/// Whether servers that were opened for `old` can serve `new`.
///
/// A new password alone does not unseat servers that are logged in.
fn same_servers(old: &Database, new: &Database) -> bool {
    old.servers() == new.servers()
}

fn database_changes(old: &Config, new: &Config) -> Vec<(String, DatabaseChange)> {
    let entry = |config: &Config, name: &str| match name {
        TEMPLATE => config.auto_database.clone(),
        name => config.databases.get(name).cloned(),
    };
    let names: BTreeSet<&str> = old
        .all_databases()
        .chain(new.all_databases())
        .map(|database| database.name.as_str())
        .collect();
    let change = |name: &str| {
        let (old, new) = (entry(old, name), entry(new, name));
        let change = DatabaseChange::between(old.as_deref(), new.as_deref())?;
        Some((name.to_owned(), change))
    };
    names.into_iter().filter_map(change).collect()
}

fn memberships<K: Ord + Clone, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> Vec<(K, Membership)> {
    let keys: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    let change = |key: &K| {
        let membership = match (old.get(key), new.get(key)) {
            (None, _) => Membership::Added,
            (_, None) => Membership::Removed,
            (old, new) if old == new => return None,
            _ => Membership::Changed,
        };
        Some((key.clone(), membership))
    };
    keys.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests;

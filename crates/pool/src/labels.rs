//! Names that metrics tell apart: so many of each kind, and the rest together.
//!
//! Databases, users and application names may be the clients' choice, and whoever keeps metrics
//! keeps every name for long. Who has a label keeps it, so no counter is ever moved to another.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use crate::key::PoolKey;

/// Stands for all names that have no label of their own.
pub const OTHERS: &str = "(others)";

/// Longest text of a label, in characters: PostgreSQL's names are no longer.
const LEN_MAX: usize = 63;

/// A client's database, user and application name.
pub type ClientLabel = [Arc<str>; 3];

/// Who has a label.
#[derive(Debug)]
pub struct Labels {
    limit: usize,
    databases: HashSet<Arc<str>>,
    pools: HashSet<PoolKey>,
    clients: HashSet<ClientLabel>,
}

impl Labels {
    /// So many labels of each kind.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            databases: HashSet::new(),
            pools: HashSet::new(),
            clients: HashSet::new(),
        }
    }

    /// Says how many there may be, before any is given.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Has this database told apart whatever the limit says: an operator named it.
    pub fn admit_database(&mut self, name: &str) {
        if !self.databases.contains(name) {
            self.databases.insert(name.into());
        }
    }

    /// The label of a database.
    pub fn database(&mut self, name: &str) -> Arc<str> {
        let name: Arc<str> = name.into();
        if admits(&mut self.databases, &name, self.limit) {
            name
        } else {
            OTHERS.into()
        }
    }

    /// The label of a pool.
    pub fn pool(&mut self, key: &PoolKey) -> PoolKey {
        if admits(&mut self.pools, key, self.limit) {
            return key.clone();
        }
        PoolKey {
            database: OTHERS.into(),
            user: OTHERS.into(),
        }
    }

    /// The label of a client.
    pub fn client(&mut self, client: &ClientLabel) -> ClientLabel {
        let label = client.clone().map(shortened);
        if admits(&mut self.clients, &label, self.limit) {
            return label;
        }
        [OTHERS.into(), OTHERS.into(), OTHERS.into()]
    }
}

fn admits<T: Clone + Eq + Hash>(given: &mut HashSet<T>, name: &T, limit: usize) -> bool {
    if given.contains(name) {
        return true;
    }
    let room = given.len() < limit;
    if room {
        given.insert(name.clone());
    }
    room
}

fn shortened(text: Arc<str>) -> Arc<str> {
    match text.char_indices().nth(LEN_MAX) {
        Some((end, _)) => text[..end].into(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(database: &str, user: &str) -> PoolKey {
        PoolKey {
            database: database.into(),
            user: user.into(),
        }
    }

    #[test]
    fn who_has_a_label_keeps_it_and_who_comes_late_is_among_the_others() {
        let mut labels = Labels::new(2);
        let (first, second, third) = (key("a", "x"), key("a", "y"), key("b", "x"));
        assert_eq!(labels.pool(&first), first);
        assert_eq!(labels.pool(&second), second);
        assert_eq!(labels.pool(&third), key(OTHERS, OTHERS));
        assert_eq!(labels.pool(&second), second);
        assert_eq!(labels.pool(&third), key(OTHERS, OTHERS));
    }

    #[test]
    fn what_an_operator_named_is_told_apart_in_any_case() {
        let mut labels = Labels::new(0);
        labels.admit_database("shop");
        assert_eq!(&*labels.database("shop"), "shop");
        assert_eq!(&*labels.database("made up"), OTHERS);
    }

    #[test]
    fn a_long_application_name_is_cut() {
        let mut labels = Labels::new(9);
        let name = "ä".repeat(100);
        let [_, _, label] = labels.client(&["a".into(), "b".into(), name.into()]);
        assert_eq!(label.chars().count(), 63);
    }
}

//! The pooled statements that a server has prepared, the least recently used first to go.

use std::sync::Arc;

use lru::LruCache;

use crate::statements::Statement;

/// What a server has prepared.
#[derive(Debug)]
pub struct Prepared {
    statements: LruCache<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    statement: Arc<Statement>,
    stale: bool,
    /// Whether what it returns here was compared with what clients were told.
    compared: bool,
}

/// Whether a server can bind a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It can.
    Ready,
    /// The same, but nobody has seen what it returns there.
    Unseen,
    /// It has another one under this name: close that first.
    Stale,
    /// It has none.
    Missing,
}

impl Default for Prepared {
    fn default() -> Self {
        Self {
            statements: LruCache::unbounded(),
        }
    }
}

impl Prepared {
    /// Looks for a statement, which is being used.
    pub fn touch(&mut self, id: u64) -> Held {
        match self.statements.get(&id) {
            Some(entry) if entry.stale => Held::Stale,
            Some(entry) if entry.compared => Held::Ready,
            Some(_) => Held::Unseen,
            None => Held::Missing,
        }
    }

    /// A statement was prepared.
    pub fn add(&mut self, statement: Arc<Statement>) {
        self.put(statement, false);
    }

    /// What it returns there is what clients were told.
    pub fn compared(&mut self, id: u64) {
        if let Some(entry) = self.statements.peek_mut(&id) {
            entry.compared = true;
        }
    }

    fn put(&mut self, statement: Arc<Statement>, stale: bool) {
        let entry = Entry {
            statement,
            stale,
            compared: false,
        };
        self.statements.put(entry.statement.id, entry);
    }

    /// Something else has the statement's name there.
    pub fn add_stale(&mut self, statement: Arc<Statement>) {
        self.put(statement, true);
    }

    /// A statement that was to be closed is still there.
    pub fn restore(&mut self, statement: Arc<Statement>) {
        let id = statement.id;
        self.add(statement);
        self.statements.demote(&id);
    }

    /// A statement is not there.
    pub fn remove(&mut self, id: u64) {
        self.statements.pop(&id);
    }

    /// All statements are gone.
    pub fn clear(&mut self) {
        self.statements.clear();
    }

    /// Takes out the statement unused for longest, if there are `limit` of them or more.
    pub fn evict(&mut self, limit: usize) -> Option<Arc<Statement>> {
        if self.statements.len() < limit.max(1) {
            return None;
        }
        let (_, entry) = self.statements.pop_lru()?;
        Some(entry.statement)
    }

    /// Those that can be bound, the least recently used first.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<Statement>> {
        let entries = self.statements.iter().rev().map(|(_, entry)| entry);
        entries.filter(|entry| !entry.stale).map(|it| &it.statement)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.statements.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.statements.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statements::Statements;

    #[test]
    fn the_least_recently_used_goes_first_and_comes_back_as_the_first_to_go() {
        let all = Statements::default();
        let [a, b, c] = [b"a\0\0\0", b"b\0\0\0", b"c\0\0\0"].map(|d| all.get(d, None).unwrap());
        let mut prepared = Prepared::default();
        assert_eq!(prepared.touch(a.id), Held::Missing);
        prepared.add(a.clone());
        prepared.add(b.clone());
        assert_eq!(prepared.touch(a.id), Held::Unseen);
        prepared.compared(a.id);
        assert_eq!(prepared.touch(a.id), Held::Ready);
        assert!(prepared.evict(3).is_none());
        let gone = prepared.evict(2).unwrap();
        assert_eq!(gone.id, b.id);
        prepared.add(c.clone());
        prepared.restore(gone);
        assert_eq!(prepared.len(), 3);
        assert_eq!(prepared.evict(1).unwrap().id, b.id);
        prepared.add_stale(a.clone());
        assert_eq!(prepared.touch(a.id), Held::Stale);
        prepared.clear();
        assert!(prepared.is_empty());
    }
}

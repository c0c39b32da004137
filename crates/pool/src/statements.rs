//! Prepared statements that clients share: one for each definition, whoever prepares it.
//!
//! A statement lives as long as a client has a name for it or a server has it prepared. All of
//! them together stay within `prepared_statement_memory`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use wire::statements::definition_drops_all;

use crate::shared::lock;

/// What a statement takes besides its definition, in bytes: its name, its places in tables.
const OVERHEAD: usize = 256;

/// A prepared statement, known to servers as `PGBOUNCER_<id>`.
#[derive(Debug)]
pub struct Statement {
    /// Its number, never used again.
    pub id: u64,
    /// Its name on servers.
    pub name: Box<[u8]>,
    /// Query and types of parameters, as they stand in a Parse behind the name.
    pub definition: Arc<[u8]>,
    /// Whether executing it may drop all prepared statements.
    pub drops_all: bool,
    /// Its result changed: it is bound no more, another one of the same definition is.
    superseded: AtomicBool,
    /// What clients were told that it takes and returns, as a digest; 0: nobody asked.
    shape: AtomicU64,
    table: Arc<Table>,
}

/// All prepared statements of the process.
#[derive(Debug, Default)]
pub struct Statements {
    table: Arc<Table>,
    ids: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    by_definition: Mutex<HashMap<Arc<[u8]>, Weak<Statement>>>,
    /// Bytes that statements, and clients' names for them, take.
    used: AtomicUsize,
}

/// What is known of a statement that came from another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Legacy {
    /// Its number there, and on servers.
    pub id: u64,
    /// What clients were told that it takes and returns, as a digest; 0: nobody asked.
    pub shape: u64,
    /// Whether its result has changed since.
    pub superseded: bool,
}

/// A share of the memory that prepared statements may take, given back when dropped.
#[derive(Debug)]
pub struct Charge {
    table: Arc<Table>,
    bytes: usize,
}

impl Statements {
    /// The statement of this definition; `None` if all of them would take more than `limit`.
    pub fn get(&self, definition: &[u8], limit: Option<usize>) -> Option<Arc<Statement>> {
        if let Some(statement) = self.find(definition) {
            return Some(statement);
        }
        let cost = OVERHEAD + definition.len();
        if !self.table.charge(cost, limit) {
            return None;
        }
        Some(self.insert(definition.into()))
    }

    /// The statement of this definition, if there is one.
    pub fn find(&self, definition: &[u8]) -> Option<Arc<Statement>> {
        lock(&self.table.by_definition)
            .get(definition)
            .and_then(Weak::upgrade)
    }

    /// Makes a statement, which is charged for already.
    fn insert(&self, definition: Arc<[u8]>) -> Arc<Statement> {
        let mut by_definition = lock(&self.table.by_definition);
        if let Some(other) = by_definition.get(&definition).and_then(Weak::upgrade) {
            // Another worker was faster.
            drop(by_definition);
            self.table.give_back(OVERHEAD + definition.len());
            return other;
        }
        // Numbered while the table is held: what takes another's place there is always newer.
        let id = self.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let statement = self.make(id, definition.clone(), Legacy::default());
        by_definition.insert(definition, Arc::downgrade(&statement));
        statement
    }

    /// A server says that the statement's result is no longer what it was: whoever prepares or
    /// binds it from now on gets a new one.
    pub fn supersede(&self, statement: &Statement) {
        statement.superseded.store(true, Ordering::Relaxed);
        statement.leave_table();
    }

    /// A statement that another process has handed over, under the number that it has on servers
    /// there: it takes its place here, unless one of the same definition is here already.
    pub fn adopt(&self, definition: &[u8], legacy: Legacy) -> Arc<Statement> {
        if !legacy.superseded
            && let Some(statement) = self.find(definition)
        {
            return statement;
        }
        self.table.charge(OVERHEAD + definition.len(), None);
        let new = self.make(legacy.id, definition.into(), legacy);
        if legacy.superseded {
            return new;
        }
        let mut by_definition = lock(&self.table.by_definition);
        if let Some(other) = by_definition.get(definition).and_then(Weak::upgrade) {
            // Dropped, the new one locks the table itself.
            drop(by_definition);
            return other;
        }
        by_definition.insert(new.definition.clone(), Arc::downgrade(&new));
        new
    }

    /// The same for a server that has it under that very number, whatever is here already.
    pub fn adopt_on_server(&self, definition: &[u8], legacy: Legacy) -> Arc<Statement> {
        let statement = self.adopt(definition, legacy);
        if statement.id == legacy.id {
            return statement;
        }
        self.table.charge(OVERHEAD + definition.len(), None);
        self.make(legacy.id, definition.into(), legacy)
    }

    fn make(&self, id: u64, definition: Arc<[u8]>, legacy: Legacy) -> Arc<Statement> {
        Arc::new(Statement {
            id,
            name: format!("PGBOUNCER_{id}").into_bytes().into(),
            drops_all: definition_drops_all(&definition),
            definition,
            superseded: AtomicBool::new(legacy.superseded),
            shape: AtomicU64::new(legacy.shape),
            table: self.table.clone(),
        })
    }

    /// Numbers statements from here on: those below are another process's.
    pub(crate) fn begin_after(&self, id: u64) {
        self.ids.fetch_max(id, Ordering::Relaxed);
    }

    /// The statement that took the place of a superseded one.
    pub fn renew(&self, statement: &Statement) -> Arc<Statement> {
        if let Some(newer) = self.find(&statement.definition) {
            return newer;
        }
        self.table
            .charge(OVERHEAD + statement.definition.len(), None);
        self.insert(statement.definition.clone())
    }

    /// Sets bytes aside for a client's names; `None` if that is more than `limit` in all.
    pub fn charge(&self, bytes: usize, limit: Option<usize>) -> Option<Charge> {
        self.table.charge(bytes, limit).then(|| Charge {
            table: self.table.clone(),
            bytes,
        })
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.table.used.load(Ordering::Relaxed)
    }

    /// How many statements there are.
    pub fn len(&self) -> usize {
        lock(&self.table.by_definition).len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Statement {
    /// True once its result has changed.
    pub fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Relaxed)
    }

    /// What another process has to know of it.
    pub fn legacy(&self) -> Legacy {
        Legacy {
            id: self.id,
            shape: self.shape.load(Ordering::Relaxed),
            superseded: self.is_superseded(),
        }
    }

    /// Whether clients were told what it takes and returns.
    pub fn is_described(&self) -> bool {
        self.shape.load(Ordering::Relaxed) != 0
    }

    /// A server described it with this digest; false if others were told otherwise.
    pub fn agrees(&self, shape: u64) -> bool {
        let order = Ordering::Relaxed;
        match self.shape.compare_exchange(0, shape, order, order) {
            Ok(_) => true,
            Err(told) => told == shape,
        }
    }

    /// Nobody finds it any more, unless another one of its definition has taken its place.
    fn leave_table(&self) {
        let mut by_definition = lock(&self.table.by_definition);
        let here = by_definition.get(&self.definition);
        if here.is_some_and(|other| std::ptr::eq(other.as_ptr(), self)) {
            by_definition.remove(&self.definition);
        }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        self.leave_table();
        self.table.give_back(OVERHEAD + self.definition.len());
    }
}

impl Table {
    /// Takes bytes, if that stays within the limit.
    fn charge(&self, bytes: usize, limit: Option<usize>) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = limit.is_none_or(|limit| used <= limit);
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Charge {
    /// Adds to it; false if that is more than `limit` in all.
    pub fn grow(&mut self, bytes: usize, limit: Option<usize>) -> bool {
        let fits = self.table.charge(bytes, limit);
        if fits {
            self.bytes += bytes;
        }
        fits
    }

    /// Gives some of it back.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.table.give_back(bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.table.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"select 1\0\0\0";
    const TWO: &[u8] = b"select 2\0\0\0";

    #[test]
    fn one_definition_is_one_statement_until_nobody_has_it() {
        let all = Statements::default();
        let first = all.get(ONE, None).unwrap();
        assert_eq!(all.get(ONE, None).unwrap().id, first.id);
        assert_ne!(all.get(TWO, None).unwrap().id, first.id);
        assert_eq!(&*first.name, b"PGBOUNCER_1");
        assert_eq!(all.len(), 1, "the second one is gone");
        drop(first);
        assert_eq!((all.len(), all.used()), (0, 0));
        assert_eq!(
            all.get(ONE, None).unwrap().id,
            3,
            "numbers do not come back"
        );
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let all = Statements::default();
        let limit = Some(OVERHEAD + ONE.len() + 10);
        let first = all.get(ONE, limit).unwrap();
        assert!(all.get(TWO, limit).is_none());
        assert!(all.get(ONE, limit).is_some(), "it costs nothing more");
        let mut names = all.charge(5, limit).unwrap();
        assert!(names.grow(5, limit) && !names.grow(1, limit));
        names.shrink(10);
        drop(first);
        assert!(all.get(TWO, limit).is_some());
        drop(names);
        assert_eq!(all.used(), 0);
    }

    #[test]
    fn a_superseded_statement_makes_place_for_a_new_one_of_its_definition() {
        let all = Statements::default();
        let old = all.get(ONE, None).unwrap();
        all.supersede(&old);
        assert!(old.is_superseded());
        let new = all.renew(&old);
        assert!(new.id != old.id && !new.is_superseded());
        assert_eq!(all.renew(&old).id, new.id);
        // The old one's end does not touch the new one.
        drop(old);
        assert_eq!(all.get(ONE, None).unwrap().id, new.id);
        drop(new);
        assert_eq!((all.len(), all.used()), (0, 0));
    }

    #[test]
    fn a_statement_of_another_process_keeps_its_number_unless_its_definition_is_here() {
        let all = Statements::default();
        all.begin_after(1 << 32);
        let old = Legacy {
            id: 7,
            shape: 3,
            superseded: false,
        };
        let one = all.adopt(ONE, old);
        assert_eq!((one.id, &*one.name), (7, &b"PGBOUNCER_7"[..]));
        assert!(one.agrees(3) && !one.agrees(4));
        assert_eq!(all.get(ONE, None).unwrap().id, 7);
        let two = all.get(TWO, None).unwrap();
        assert_eq!(two.id, (1 << 32) + 1);
        let late = Legacy { id: 8, ..old };
        assert_eq!(all.adopt(TWO, late).id, two.id);
        // A server has it by its number, and keeps that.
        let on_server = all.adopt_on_server(TWO, late);
        assert_eq!((on_server.id, all.find(TWO).unwrap().id), (8, two.id));
        let changed = Legacy {
            superseded: true,
            ..late
        };
        assert!(all.adopt(ONE, changed).is_superseded());
        drop((one, two, on_server));
        assert_eq!((all.len(), all.used()), (0, 0));
    }

    #[test]
    fn the_first_description_is_what_others_are_compared_with() {
        let all = Statements::default();
        let statement = all.get(ONE, None).unwrap();
        assert!(!statement.is_described());
        assert!(statement.agrees(7) && statement.agrees(7));
        assert!(statement.is_described() && !statement.agrees(8));
    }

    #[test]
    fn workers_that_prepare_at_the_same_time_agree() {
        let all = Statements::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..2_000u32 {
                        let definition = [&round.to_be_bytes()[..], b"\0\0\0"].concat();
                        let mine = all.get(&definition, None).unwrap();
                        assert_eq!(*mine.definition, *definition);
                        if round % 7 == 0 {
                            all.supersede(&mine);
                            assert!(all.renew(&mine).id > mine.id);
                        }
                    }
                });
            }
        });
        assert_eq!((all.len(), all.used()), (0, 0));
    }
}

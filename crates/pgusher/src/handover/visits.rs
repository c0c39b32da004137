//! Logged-in clients by database and user: what the next process counts as long as they stay here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use crate::process::Process;

/// Database and user.
pub(crate) type Who = (Arc<str>, Arc<str>);

/// All logged-in clients.
#[derive(Debug, Default)]
pub(crate) struct Visits(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    /// By their databases and then by their users, so that names need not be copied to look.
    counts: HashMap<Arc<str>, HashMap<Arc<str>, Arc<Count>>>,
    /// How many kinds these are.
    kinds: usize,
    /// Where it is told who leaves.
    heir: Option<UnboundedSender<Who>>,
}

/// How many of a kind are here; written under the book's lock.
#[derive(Debug)]
struct Count {
    who: Who,
    clients: AtomicU32,
}

/// Kinds that are kept though nobody of them is here.
const KINDS_KEPT: usize = 4096;

impl Book {
    fn count(&mut self, database: &Arc<str>, user: &Arc<str>) -> Arc<Count> {
        let known = self.counts.get(database).and_then(|users| users.get(user));
        if let Some(count) = known {
            return count.clone();
        }
        // With auth_type = any the names are the clients' choice.
        if self.kinds >= KINDS_KEPT {
            self.forget_absent();
        }
        let count = Arc::new(Count {
            who: (database.clone(), user.clone()),
            clients: AtomicU32::new(0),
        });
        let users = self.counts.entry(database.clone()).or_default();
        users.insert(user.clone(), count.clone());
        self.kinds += 1;
        count
    }

    fn forget_absent(&mut self) {
        self.counts.retain(|_, users| {
            users.retain(|_, count| count.get() > 0);
            !users.is_empty()
        });
        self.kinds = self.counts.values().map(HashMap::len).sum();
    }
}

impl Count {
    fn get(&self) -> u32 {
        self.clients.load(Ordering::Relaxed)
    }

    fn set(&self, clients: u32) {
        self.clients.store(clients, Ordering::Relaxed);
    }
}

impl Visits {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is here; who leaves from now on is told to the heir.
    pub(super) fn bequeath(&self, heir: UnboundedSender<Who>) -> Vec<(Who, u32)> {
        let mut book = self.book();
        book.heir = Some(heir);
        let all = book.counts.values().flat_map(HashMap::values);
        let here = all.filter(|count| count.get() > 0);
        here.map(|count| (count.who.clone(), count.get())).collect()
    }

    /// The heir is gone.
    pub(super) fn heir_is_gone(&self) {
        self.book().heir = None;
    }
}

/// One client, for as long as this lives.
pub(crate) struct Visit {
    process: &'static Process,
    count: Arc<Count>,
    /// Whether the heir has the client, and counts it as its own.
    goes_over: bool,
}

impl Visit {
    /// One more. Once another process has taken over, only it can tell whether there is room.
    pub(crate) fn new(process: &'static Process, database: &Arc<str>, user: &Arc<str>) -> Self {
        let mut book = process.visits.book();
        let count = book.count(database, user);
        count.set(count.get() + 1);
        drop(book);
        Self {
            process,
            count,
            goes_over: false,
        }
    }

    /// The heir has this client from here on.
    pub(crate) fn goes_over(&mut self) {
        self.goes_over = true;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let book = self.process.visits.book();
        self.count.set(self.count.get() - 1);
        if !self.goes_over
            && let Some(heir) = &book.heir
        {
            // An heir that is gone counts nobody.
            let _ = heir.send(self.count.who.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_here_is_counted_however_many_have_come_and_gone() {
        let mut book = Book::default();
        let database: Arc<str> = "app".into();
        let alice = book.count(&database, &"alice".into());
        alice.set(2);
        for number in 0..3 * KINDS_KEPT {
            book.count(&database, &number.to_string().into());
            book.count(&number.to_string().into(), &"bob".into());
            assert!(book.kinds <= KINDS_KEPT);
        }
        let again = book.count(&database, &"alice".into());
        assert!(Arc::ptr_eq(&alice, &again));
        let (heir, _) = tokio::sync::mpsc::unbounded_channel();
        let told = Visits(Mutex::new(book)).bequeath(heir);
        assert_eq!(told, [((database, "alice".into()), 2)]);
    }
}

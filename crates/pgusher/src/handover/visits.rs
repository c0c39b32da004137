//! Logged-in clients by database and user: what the next process counts as long as they stay here.

use std::collections::HashMap;
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
    counts: HashMap<Who, u32>,
    /// Where it is told who leaves.
    heir: Option<UnboundedSender<Who>>,
}

impl Visits {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is here; who leaves from now on is told to the heir.
    pub(super) fn bequeath(&self, heir: UnboundedSender<Who>) -> Vec<(Who, u32)> {
        let mut book = self.book();
        book.heir = Some(heir);
        book.counts
            .iter()
            .map(|(who, n)| (who.clone(), *n))
            .collect()
    }

    /// The heir is gone.
    pub(super) fn heir_is_gone(&self) {
        self.book().heir = None;
    }
}

/// One client, for as long as this lives.
pub(crate) struct Visit {
    process: Arc<Process>,
    who: Who,
    /// Whether the heir has the client, and counts it as its own.
    goes_over: bool,
}

impl Visit {
    /// One more. Once another process has taken over, only it can tell whether there is room.
    pub(crate) fn new(process: &Arc<Process>, who: Who) -> Self {
        *process.visits.book().counts.entry(who.clone()).or_default() += 1;
        Self {
            process: process.clone(),
            who,
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
        let mut book = self.process.visits.book();
        if let Some(count) = book.counts.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                book.counts.remove(&self.who);
            }
        }
        if !self.goes_over
            && let Some(heir) = &book.heir
        {
            // An heir that is gone counts nobody.
            let _ = heir.send(self.who.clone());
        }
    }
}

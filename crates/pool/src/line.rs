//! Clients at login that are in line: for a server of their own, or for the pool's first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use events::time::Instant;

use crate::key::ClientId;
use crate::roster::{ClientEntry, ClientState};

/// Who waits, and since when; whoever came first stands first.
#[derive(Debug, Default)]
pub(crate) struct Line(RefCell<BTreeMap<(Instant, ClientId), Rc<ClientEntry>>>);

impl Line {
    /// Takes a client in, until what is returned is dropped.
    pub(crate) fn join<'a>(&'a self, client: &'a Rc<ClientEntry>) -> Place<'a> {
        let since = Instant::now();
        client.state.set(ClientState::Waiting);
        client.query_start.set(Some(since));
        let mut line = self.0.borrow_mut();
        line.insert((since, client.id), client.clone());
        Place {
            line: self,
            client,
            since,
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Since when the first of them waits.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let line = self.0.borrow();
        line.first_key_value().map(|((since, _), _)| *since)
    }

    /// Each of them, and since when it waits.
    pub(crate) fn each(&self) -> Vec<(ClientId, Instant)> {
        let line = self.0.borrow();
        line.keys()
            .map(|&(since, client)| (client, since))
            .collect()
    }

    /// Has them look again: something changed.
    pub(crate) fn wake(&self) {
        for client in self.0.borrow().values() {
            client.wake();
        }
    }
}

/// A client's place in line.
pub(crate) struct Place<'a> {
    line: &'a Line,
    pub(crate) client: &'a Rc<ClientEntry>,
    pub(crate) since: Instant,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut line = self.line.0.borrow_mut();
        line.remove(&(self.since, self.client.id));
        self.client.query_start.set(None);
        self.client.request_time.set(Instant::now());
        if self.client.state.get() == ClientState::Waiting {
            self.client.state.set(ClientState::Idle);
        }
    }
}

//! A worker's clients counted rather than listed: for tables without a row a client, and for
//! metrics.

use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use events::time::Instant;

use crate::key::ClientId;
use crate::pool::Local;
use crate::pools::Pools;
use crate::report::client_state;
use crate::roster::ClientEntry;
use crate::snapshot::{HOLDERS, HolderRow, Snapshot, WorkerRow};

impl Pools {
    /// Begins to count everything that this worker has.
    pub fn census(&self, now: Instant) -> Census {
        Census {
            snapshot: self.counts(now),
            clients: self.clients(),
            longest: BinaryHeap::with_capacity(HOLDERS + 1),
            local: self.local.clone(),
            now,
        }
    }
}

/// A summary in the making: thousands of clients are counted in parts, between which others have
/// their turn.
#[derive(Debug)]
pub struct Census {
    snapshot: Snapshot,
    /// Those who are not counted yet.
    clients: Vec<Rc<ClientEntry>>,
    /// Who has had a server for longest; the latest of them is on top.
    longest: BinaryHeap<(Instant, ClientId)>,
    local: Rc<Local>,
    now: Instant,
}

impl Census {
    /// Counts up to so many clients more; false if none are left.
    pub fn go_on(&mut self, count: usize) -> bool {
        for _ in 0..count {
            match self.clients.pop() {
                Some(client) => self.count(&client),
                None => return false,
            }
        }
        true
    }

    fn count(&mut self, client: &ClientEntry) {
        self.snapshot.lists.used_clients += 1;
        let application_name = client.application_name.borrow().clone();
        let label = [
            client.database.clone(),
            client.user.clone(),
            application_name,
        ];
        let kind = (label, client_state(client));
        *self.snapshot.client_counts.entry(kind).or_default() += 1;
        if let Some(since) = client.held_since.get() {
            self.longest.push((since, client.id));
            if self.longest.len() > HOLDERS {
                self.longest.pop();
            }
        }
    }

    /// What was counted; `busy` is how long this worker has been at work.
    pub fn conclude(mut self, busy: Duration) -> Snapshot {
        let roster = &self.local.roster;
        let row = |(since, id)| Some(holder_row(&*roster.get(id)?, since, self.now));
        self.snapshot.holders = self.longest.into_iter().filter_map(row).collect();
        self.snapshot.workers = vec![WorkerRow {
            id: self.local.worker.0,
            clients: self.snapshot.lists.used_clients,
            servers: self.snapshot.lists.used_servers,
            busy,
        }];
        self.snapshot
    }
}

fn holder_row(client: &ClientEntry, since: Instant, now: Instant) -> HolderRow {
    HolderRow {
        id: client.id.0,
        database: client.database.clone(),
        user: client.user.clone(),
        application_name: client.application_name.borrow().clone(),
        held: now.saturating_duration_since(since),
    }
}

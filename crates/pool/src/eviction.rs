//! Making room under a limit that pools share: the server that has idled longest goes.

use std::rc::Rc;

use events::time::Instant;
use tokio::sync::oneshot;

use crate::key::{PoolId, PoolKey, ServerId, WorkerId};
use crate::limits::Scope;
use crate::pool::Pool;
use crate::pools::Pools;
use crate::server::CloseReason;
use crate::shared::Mail;

impl Pool {
    /// Finds the longest-idle server under the full limit, on whichever worker, and has it closed.
    /// Its permit then passes to whoever has asked longest.
    pub(crate) fn ask_for_eviction(self: &Rc<Self>, scope: Scope) {
        if self.evicting.replace(true) {
            return;
        }
        let pool = self.clone();
        events::spawn(async move {
            if let Some((worker, victim)) = pool.longest_idle_anywhere(scope).await {
                pool.local.shared.send(worker, Mail::Evict(victim));
            }
            pool.evicting.set(false);
        });
    }

    async fn longest_idle_anywhere(&self, scope: Scope) -> Option<(WorkerId, PoolId)> {
        let mut answers = Vec::new();
        for worker in (0..self.local.shared.workers()).map(WorkerId) {
            let (reply, answer) = oneshot::channel();
            let asker = self.shared.key.clone();
            let mail = Mail::LongestIdle {
                scope,
                asker,
                reply,
            };
            self.local.shared.send(worker, mail);
            answers.push((worker, answer));
        }
        let mut longest: Option<(WorkerId, PoolId, Instant)> = None;
        for (worker, answer) in answers {
            if let Ok(Some((pool, since))) = answer.await
                && longest.is_none_or(|(_, _, best)| since < best)
            {
                longest = Some((worker, pool, since));
            }
        }
        longest.map(|(worker, pool, _)| (worker, pool))
    }

    /// Closes the server that has idled longest.
    pub(crate) fn evict_longest_idle(self: &Rc<Self>) {
        let longest = self.longest_idle();
        if let Some((place, _)) = longest {
            self.close(place, CloseReason::Evicted);
        }
    }

    fn longest_idle(&self) -> Option<(ServerId, Instant)> {
        let state = self.state.borrow();
        state.idle().min_by_key(|&(_, since)| since)
    }

    /// Closes a server that came free if a client that needs its own waits for the permit, and has
    /// waited longer than those who would take this server, the first since `oldest`; true if so.
    pub(crate) fn make_way(self: &Rc<Self>, place: ServerId, oldest: Option<Instant>) -> bool {
        let (id, shared) = (self.shared.id, &self.local.shared);
        let wanted = shared.permits_wanted()
            && oldest.is_some()
            && shared.limits(|limits| limits.is_wanted(id, oldest));
        if wanted {
            self.close(place, CloseReason::Evicted);
        }
        wanted
    }

    /// A server became idle while others wait for a permit: if this one holds it back, it goes.
    pub(crate) fn give_way(self: &Rc<Self>, place: ServerId) {
        let id = self.shared.id;
        if self
            .local
            .shared
            .limits(|limits| limits.is_wanted(id, None))
        {
            self.close(place, CloseReason::Evicted);
        }
    }
}

impl Pools {
    /// The pool here whose idle server under `asker`'s limit has idled longest.
    pub(crate) fn longest_idle(&self, scope: Scope, asker: &PoolKey) -> Option<(PoolId, Instant)> {
        let concerned = |key: &PoolKey| match scope {
            Scope::Pool => key == asker,
            Scope::Database => key.database == asker.database,
            Scope::User => key.user == asker.user,
        };
        let pools = self.all();
        let candidates = pools
            .iter()
            .filter(|pool| concerned(&pool.shared.key))
            .filter_map(|pool| Some((pool.shared.id, pool.longest_idle()?.1)));
        candidates.min_by_key(|&(_, since)| since)
    }
}

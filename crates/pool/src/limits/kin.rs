//! Limits over two processes, while one takes over from the other.
//!
//! The heir's limits hold for both. What the elder has open is *lent* to it: it counts here from the
//! beginning until it closes there or comes over. The elder opens another server only once the heir
//! has lent it the permit. Either forgets the other when it is gone.

use std::collections::HashSet;

use tokio::sync::mpsc::UnboundedSender;

use super::{Asker, Bounds, Limits, Owner, Passed, Permit, Purpose, Scope};
use crate::key::{PoolId, PoolKey};
use crate::server::ParkedServer;

/// What the limits of one process have to tell the other.
#[derive(Debug)]
pub enum News {
    /// To the heir: a server that was lent has closed.
    Closed(PoolKey),
    /// To the heir: a client of this pool waits for a server.
    Wanted(PoolKey),
    /// To the heir: a server, idle and settled, with its permit.
    Server(PoolKey, Box<ParkedServer>),
    /// To the elder: a client here waits, and what stands in the way may be idle there.
    Needed(Scope, PoolKey),
}

/// The other processes that the limits hold for.
#[derive(Debug, Default)]
pub(super) struct Kin {
    heir: Option<UnboundedSender<News>>,
    elder: Option<Elder>,
    /// What the elder has is not known yet.
    awaits_census: bool,
}

#[derive(Debug)]
struct Elder {
    post: UnboundedSender<News>,
    /// What it was told is needed, until anything comes of it.
    needs: HashSet<(Scope, PoolKey)>,
}

/// A pool's part of it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Share {
    /// To the elder: how many of the servers that count here are open there.
    pub(super) lent: u32,
    /// From the heir: how many servers may be open here.
    quota: u32,
    /// Whether the heir was asked for one more.
    asked: bool,
}

impl Share {
    /// A server closed or went over: what the heir lent goes back with it.
    pub(super) fn forgo(&mut self) {
        self.quota = self.quota.saturating_sub(1);
    }
}

impl Limits {
    /// Opens nothing before `census_is_over`.
    pub fn await_census(&mut self) {
        self.kin.awaits_census = true;
    }

    /// All that the elder has is known: what it should know from now on goes there.
    pub fn census_is_over(&mut self, elder: Option<UnboundedSender<News>>) {
        self.kin.awaits_census = false;
        self.kin.elder = elder.map(|post| Elder {
            post,
            needs: HashSet::new(),
        });
    }

    /// The elder has so many servers open.
    pub fn count_lent(&mut self, pool: PoolId, servers: u32) {
        for _ in 0..servers {
            self.count_open(pool);
            if let Some(count) = self.pools.get_mut(&pool) {
                count.share.lent += 1;
            }
        }
    }

    /// Asks for a permit for the elder, in a client's name. Whether servers can be reached is for
    /// the elder to find out.
    pub fn lend(&mut self, pool: PoolId, bounds: Bounds, owner: Owner) -> Permit {
        let was_passed = self.passed.remove(&owner.client);
        let permit = match was_passed {
            true => Permit::Granted,
            false => self.judge_room(pool, bounds, Purpose::Waiter),
        };
        match permit {
            Permit::Granted => {
                self.leave_line(owner.client);
                if !was_passed {
                    self.take(pool);
                }
                if let Some(count) = self.pools.get_mut(&pool) {
                    // The login is the elder's.
                    count.logins = count.logins.saturating_sub(1);
                    count.share.lent += 1;
                }
            }
            _ => self.put_in_line(Asker {
                pool,
                worker: owner.worker,
                purpose: Purpose::Waiter,
                owner: Some(owner),
            }),
        }
        permit
    }

    /// A server that was lent has closed there.
    pub fn lent_closed(&mut self, pool: PoolId) -> Vec<Passed> {
        self.needs_are_heard();
        match self.take_back_loan(pool) {
            true => self.closed(pool),
            false => Vec::new(),
        }
    }

    /// A server that was lent has come over: from here on it is one of ours.
    pub fn came_over(&mut self, pool: PoolId) {
        self.needs_are_heard();
        if !self.take_back_loan(pool) {
            // It is here, whatever was said of it before.
            self.count_open(pool);
        }
    }

    fn take_back_loan(&mut self, pool: PoolId) -> bool {
        let Some(count) = self.pools.get_mut(&pool) else {
            return false;
        };
        let was_lent = count.share.lent > 0;
        count.share.lent -= u32::from(was_lent);
        was_lent
    }

    /// The elder is gone, and all that was lent to it has closed.
    pub fn elder_is_gone(&mut self) -> Vec<Passed> {
        self.kin.elder = None;
        self.kin.awaits_census = false;
        let pools: Vec<PoolId> = self.pools.keys().copied().collect();
        for pool in pools {
            while self.take_back_loan(pool) {
                self.give_back(pool);
            }
        }
        self.pass_on()
    }

    /// Hands the limits over: tells what is open, and from now on what becomes of it.
    pub fn bequeath(&mut self, heir: UnboundedSender<News>) -> Vec<(PoolKey, u32)> {
        self.kin.heir = Some(heir);
        let mut census = Vec::new();
        for count in self.pools.values_mut() {
            count.share.quota = count.servers;
            count.share.asked = false;
            census.push((count.key.clone(), count.servers));
        }
        census
    }

    /// The heir has lent a permit.
    pub fn granted(&mut self, pool: PoolId) -> Vec<Passed> {
        if let Some(count) = self.pools.get_mut(&pool) {
            count.share.quota += 1;
            count.share.asked = false;
        }
        let passed = self.pass_on();
        if let Some(count) = self.pools.get_mut(&pool)
            && count.share.quota > count.servers
        {
            // Who wanted it is served, or gone.
            count.share.quota -= 1;
            let key = count.key.clone();
            self.tell_heir(News::Closed(key));
        }
        passed
    }

    /// A server goes to the heir, and its permit with it; false if there is no heir.
    pub fn give_away(&mut self, pool: PoolId, server: Box<ParkedServer>) -> bool {
        let Some(key) = self.pools.get(&pool).map(|count| count.key.clone()) else {
            return false;
        };
        let Some(heir) = &self.kin.heir else {
            return false;
        };
        let gone = heir.send(News::Server(key, server)).is_ok();
        if gone {
            self.goes_over(pool);
        }
        gone
    }

    /// A server went to the heir with its client, and its permit with it.
    pub fn goes_over(&mut self, pool: PoolId) {
        self.count_closed(pool);
    }

    /// The heir is gone: the limits are our own again.
    pub fn heir_is_gone(&mut self) -> Vec<Passed> {
        self.kin.heir = None;
        self.pass_on()
    }

    /// Whether the heir lets us open one more server.
    pub(super) fn is_within_quota(&self, pool: PoolId) -> bool {
        let within = |share: Share, servers| servers < share.quota;
        self.kin.heir.is_none()
            || (self.pools.get(&pool)).is_some_and(|count| within(count.share, count.servers))
    }

    /// Asks the heir for one more, once.
    pub(super) fn ask_heir(&mut self, pool: PoolId) {
        let Some(count) = self.pools.get_mut(&pool) else {
            return;
        };
        if !std::mem::replace(&mut count.share.asked, true) {
            let key = count.key.clone();
            self.tell_heir(News::Wanted(key));
        }
    }

    /// A permit is given back: to the heir, if it is the heir's.
    pub(super) fn closed_for_heir(&mut self, pool: PoolId) {
        if let Some(count) = self.pools.get(&pool) {
            let key = count.key.clone();
            self.tell_heir(News::Closed(key));
        }
    }

    fn tell_heir(&self, news: News) {
        if let Some(heir) = &self.kin.heir {
            // The heir may have just ended: then we are told soon.
            let _ = heir.send(news);
        }
    }

    /// A client here runs into this limit: something that the elder has may be in its way.
    pub(super) fn need(&mut self, scope: Scope, pool: PoolId) {
        if self.kin.elder.is_some()
            && let Some(key) = self.pools.get(&pool).map(|count| count.key.clone())
        {
            self.need_of_elder(scope, &key);
        }
    }

    /// Tells the elder, once, that what it has of pools like this one is in somebody's way, here or
    /// at the heir.
    pub fn need_of_elder(&mut self, scope: Scope, like: &PoolKey) {
        let in_the_way = |other: &PoolKey| match scope {
            Scope::Pool => other == like,
            Scope::Database => other.database == like.database,
            Scope::User => other.user == like.user,
        };
        let mut counts = self.pools.values();
        if counts.any(|count| count.share.lent > 0 && in_the_way(&count.key))
            && let Some(elder) = &mut self.kin.elder
            && elder.needs.insert((scope, like.clone()))
        {
            let _ = elder.post.send(News::Needed(scope, like.clone()));
        }
    }

    fn needs_are_heard(&mut self) {
        if let Some(elder) = &mut self.kin.elder {
            elder.needs.clear();
        }
    }

    /// Whether what is open elsewhere is still unknown.
    pub(super) fn is_census_awaited(&self) -> bool {
        self.kin.awaits_census
    }
}

#[cfg(test)]
mod tests;

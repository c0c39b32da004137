//! Which server belongs to which worker, where all run on one machine: the one that runs on the
//! processor where the server does.
//!
//! A server that is woken from another processor costs both more than one that takes over from the
//! worker where this one stops. The kernel moves those who are woken towards those who wake them, but
//! takes its time; so workers exchange servers that run on each other's processor.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use events::time::Instant;

use crate::key::{ServerId, WorkerId};
use crate::pool::Pool;
use crate::shared::lock;

/// Where a server runs is looked at each time it has served so often,
const USES: u32 = 64;

/// and it goes over if it was found at the same place so often in a row.
const SIGHTINGS: u32 = 3;

/// For so long after it looked, a worker counts as running where it did.
const FRESH: Duration = Duration::from_millis(100);

/// The account of who got more servers than it gave is cleared so often.
const PERIOD: Duration = Duration::from_secs(1);

/// A worker may give away one server in so many without having got another for it.
const SHARE: usize = 4;

/// Where each worker ran when it last looked.
#[derive(Debug)]
pub struct Cpus(Vec<Spot>);

#[derive(Debug)]
struct Spot {
    /// The processor's number, or [`NOWHERE`].
    cpu: AtomicU32,
    /// When it looked, as a number of nanoseconds.
    at: AtomicU64,
}

/// No processor has this number.
const NOWHERE: u32 = u32::MAX;

impl Cpus {
    /// So many workers that have not looked yet.
    pub fn new(workers: usize) -> Self {
        let spot = || Spot {
            cpu: AtomicU32::new(NOWHERE),
            at: AtomicU64::new(0),
        };
        Self((0..workers).map(|_| spot()).collect())
    }

    /// A worker runs there now.
    pub fn note(&self, worker: WorkerId, cpu: u32, now: Instant) {
        let spot = &self.0[worker.0];
        spot.cpu.store(cpu, Ordering::Relaxed);
        spot.at.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Whether a worker ran there when it last looked, however long ago.
    pub fn is_on(&self, worker: usize, cpu: u32) -> bool {
        self.0[worker].cpu.load(Ordering::Relaxed) == cpu
    }

    /// A worker that ran there a moment ago.
    fn worker_on(&self, cpu: u32, now: Instant) -> Option<WorkerId> {
        let looked = |worker: usize| Instant::from_nanos(self.0[worker].at.load(Ordering::Relaxed));
        (0..self.0.len())
            .find(|&worker| self.is_on(worker, cpu) && now - looked(worker) < FRESH)
            .map(WorkerId)
    }
}

/// Where a server was found to run, time and again.
#[derive(Debug, Default)]
pub struct Sightings {
    /// Since it was last looked at.
    uses: Cell<u32>,
    /// Where it was last found, if that was not where its worker ran.
    cpu: Cell<Option<u32>>,
    /// How often in a row.
    times: Cell<u32>,
}

impl Sightings {
    /// Counts a use of the server; true if it is time to look where it runs.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        let uses = self.uses.get() + 1;
        let is_due = uses >= USES;
        self.uses.set(if is_due { 0 } else { uses });
        is_due
    }

    /// It was found on a processor that is not its worker's, or on none such; true if it has been there
    /// for a while.
    fn note(&self, far: Option<u32>) -> bool {
        let again = self.cpu.replace(far) == far;
        let times = if again { self.times.get() + 1 } else { 1 };
        self.times.set(times.min(SIGHTINGS));
        far.is_some() && times >= SIGHTINGS
    }
}

/// How many servers of a pool each worker got by exchange, less those that it gave.
#[derive(Debug)]
pub(crate) struct Balance {
    since: Instant,
    got: Vec<i32>,
}

impl Balance {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            since: Instant::from_nanos(0),
            got: vec![0; workers],
        }
    }

    /// Whether a worker that has so many servers may give one to another. If so, it is given.
    fn give(&mut self, from: WorkerId, to: WorkerId, servers: usize, now: Instant) -> bool {
        if now - self.since >= PERIOD {
            self.since = now;
            self.got.fill(0);
        }
        let ahead = (self.got[to.0] - self.got[from.0]) / 2;
        let may = ahead < i32::try_from(servers / SHARE).unwrap_or(i32::MAX);
        if may {
            self.got[from.0] -= 1;
            self.got[to.0] += 1;
        }
        may
    }
}

impl Pool {
    /// The processor that a server last ran on, if it is on this machine and that can be told.
    pub(crate) fn cpu_of(&self, place: ServerId) -> Option<u32> {
        self.servers.borrow().get(place.0)?.as_ref()?.cpu()
    }

    /// The worker that gets a server which is free, whoever waits: for a while it has been running where
    /// that server does, and this one has not.
    pub(crate) fn better_worker(&self, place: ServerId, now: Instant) -> Option<WorkerId> {
        let (here, shared) = (self.local.worker, &self.local.shared);
        if shared.workers() < 2 {
            return None;
        }
        let servers = self.servers.borrow();
        let server = servers.get(place.0)?.as_ref()?;
        if !server.sightings.is_due() {
            return None;
        }
        let there = server.cpu()?;
        let cpu = net::cpu::current()?;
        shared.cpus.note(here, cpu, now);
        if !server.sightings.note((there != cpu).then_some(there)) {
            return None;
        }
        let to = shared.cpus.worker_on(there, now)?;
        let count = self.state.borrow().server_count();
        lock(&self.shared.balance)
            .give(here, to, count, now)
            .then_some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: WorkerId = WorkerId(0);
    const THERE: WorkerId = WorkerId(1);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(10_000_000_000) + Duration::from_millis(ms)
    }

    #[test]
    fn a_worker_is_where_it_was_a_moment_ago() {
        let cpus = Cpus::new(3);
        assert_eq!(cpus.worker_on(7, at(0)), None);
        cpus.note(WorkerId(2), 7, at(0));
        assert_eq!(cpus.worker_on(7, at(99)), Some(WorkerId(2)));
        assert_eq!(
            cpus.worker_on(7, at(100)),
            None,
            "it may sleep, or be elsewhere"
        );
        assert!(cpus.is_on(2, 7), "but that is all that is known");
        cpus.note(WorkerId(2), 8, at(100));
        assert_eq!(cpus.worker_on(7, at(100)), None);
        assert!(!cpus.is_on(2, 7));
        assert!(!cpus.is_on(1, 7));
    }

    #[test]
    fn a_server_is_looked_at_now_and_then() {
        let sightings = Sightings::default();
        let due = (1..=2 * USES).filter(|_| sightings.is_due()).count();
        assert_eq!(due, 2);
    }

    #[test]
    fn a_server_goes_once_it_has_been_elsewhere_for_a_while() {
        let sightings = Sightings::default();
        let far = [3, 3, 3, 3].map(|cpu| sightings.note(Some(cpu)));
        assert_eq!(far, [false, false, true, true]);
        let moves = [5, 5, 3].map(|cpu| sightings.note(Some(cpu)));
        assert_eq!(moves, [false; 3], "it is not at rest");
        assert!(!sightings.note(Some(3)));
        assert!(!sightings.note(None), "it has been here meanwhile");
        let far = [3, 3, 3].map(|cpu| sightings.note(Some(cpu)));
        assert_eq!(far, [false, false, true]);
    }

    #[test]
    fn a_server_that_is_here_goes_nowhere() {
        let sightings = Sightings::default();
        assert!((0..10).all(|_| !sightings.note(None)));
    }

    #[test]
    fn workers_exchange_and_give_few_away() {
        let mut balance = Balance::new(2);
        let mut gives = |from, to, servers, ms| balance.give(from, to, servers, at(ms));
        // Of eleven servers two may be ahead.
        assert!(gives(HERE, THERE, 11, 0));
        assert!(gives(HERE, THERE, 11, 0));
        assert!(!gives(HERE, THERE, 11, 0));
        // For each that comes another may go.
        assert!(gives(THERE, HERE, 11, 1));
        assert!(gives(HERE, THERE, 11, 1));
        assert!(!gives(HERE, THERE, 11, 999));
        // What was given is how it is now.
        assert!(gives(HERE, THERE, 11, 1000));
    }

    #[test]
    fn who_has_few_servers_only_gives_back() {
        let mut balance = Balance::new(2);
        assert!(!balance.give(HERE, THERE, 3, at(0)));
        assert!(balance.give(THERE, HERE, 4, at(0)));
        assert!(balance.give(HERE, THERE, 3, at(0)));
        assert!(!balance.give(HERE, THERE, 3, at(0)));
    }
}

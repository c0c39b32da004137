//! How workers that are all at work on one pool share its servers: each keeps its own, and those whose
//! clients wait longer get one now and then.
//!
//! Where many wait, somebody's line is longer at each moment, and a little later it is another's. A
//! server that goes to and fro for that is woken now from this processor, now from that, which costs more
//! than all its clients gain.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use events::time::Instant;

use crate::key::WorkerId;
use crate::pool::Pool;
use crate::state::HOME_PATIENCE;

/// So long each worker adds up how long its clients waited.
const WINDOW: Duration = Duration::from_millis(50);

/// For so many windows the last one counts.
const FRESH: u32 = 2;

/// Where servers come free quickly, and others have as much to do, clients count on those of their own
/// worker for so long at the least, and for this many times what they waited of late.
const PATIENCE: Duration = Duration::from_millis(5);
const PATIENCE_TIMES: u32 = 2;

/// A worker has as much to do as another if its clients wait for one part in so many of what the other's
/// do, or hardly less.
const EVEN_PART: u32 = 2;

/// A worker gets a server of another's if its clients wait so much longer, in hundredths and besides.
const LONGER: u32 = 120;
const HARDLY: Duration = Duration::from_micros(100);

/// What a worker's servers and clients did in the last window.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    since: Option<Instant>,
    /// What those waited whom the servers served.
    waited: Duration,
    /// How often one came free.
    releases: u32,
    /// How long clients count on the servers of their own worker, from `since` on.
    patience: Duration,
}

/// One window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sum {
    /// What a client waited for a server that came free, in the mean.
    wait: Duration,
    /// Time from one server that came free to the next.
    turn: Duration,
}

impl Pace {
    /// A server came free, for one who had waited so long, or for nobody.
    pub(crate) fn note(&mut self, waited: Duration) {
        self.waited += waited;
        self.releases += 1;
    }

    /// Ends the window if it has lasted long enough.
    fn end_window(&mut self, now: Instant) -> Option<Sum> {
        let since = *self.since.get_or_insert(now);
        let lasted = now - since;
        if lasted < WINDOW || self.releases == 0 {
            return None;
        }
        let sum = Sum {
            wait: self.waited / self.releases,
            turn: lasted / self.releases,
        };
        *self = Self {
            since: Some(now),
            ..Self::default()
        };
        Some(sum)
    }

    /// How long clients count on the servers of their own worker before others are asked.
    pub(crate) fn patience(&self, now: Instant) -> Duration {
        let is_fresh = |since| now - since < WINDOW * FRESH;
        match self.since.is_some_and(is_fresh) {
            true => self.patience.max(HOME_PATIENCE),
            false => HOME_PATIENCE,
        }
    }
}

impl Sum {
    /// The patience of clients; `others` are waits of workers that might have servers to give.
    fn patience(self, mut others: impl Iterator<Item = Option<Duration>>) -> Duration {
        let least = self.wait / EVEN_PART;
        let is_even = |wait: Option<Duration>| wait.is_some_and(|wait| wait + HARDLY >= least);
        match self.turn < HOME_PATIENCE && others.all(is_even) {
            true => PATIENCE.max(self.wait * PATIENCE_TIMES),
            false => HOME_PATIENCE,
        }
    }

    /// The worker that gets one of so many servers, if those whose clients wait longest elsewhere are
    /// worse off. The last one stays.
    fn gives(self, servers: usize, longest: Option<(WorkerId, Duration)>) -> Option<WorkerId> {
        let fair = self.wait * LONGER / 100 + HARDLY;
        let (to, _) = longest.filter(|&(_, wait)| wait > fair)?;
        (servers > 1).then_some(to)
    }
}

/// How long each worker's clients waited in its last window.
#[derive(Debug)]
pub(crate) struct Waits(Vec<Wait>);

#[derive(Debug, Default)]
struct Wait {
    /// In nanoseconds.
    mean: AtomicU64,
    /// When the window ended, as a number of nanoseconds.
    at: AtomicU64,
    /// The same of the last window for which it got a server.
    helped: AtomicU64,
}

impl Waits {
    /// So many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Wait::default()).collect())
    }

    fn publish(&self, worker: WorkerId, mean: Duration, now: Instant) {
        let wait = &self.0[worker.0];
        let nanos = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX);
        wait.mean.store(nanos, Ordering::Relaxed);
        wait.at.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// If it has ended a window of late.
    fn of(&self, worker: WorkerId, now: Instant) -> Option<Duration> {
        let wait = &self.0[worker.0];
        let at = Instant::from_nanos(wait.at.load(Ordering::Relaxed));
        let is_fresh = now.saturating_duration_since(at) < WINDOW * FRESH;
        is_fresh.then(|| Duration::from_nanos(wait.mean.load(Ordering::Relaxed)))
    }

    /// The other worker whose clients waited longest.
    fn longest_elsewhere(&self, here: WorkerId, now: Instant) -> Option<(WorkerId, Duration)> {
        let others = (0..self.0.len()).map(WorkerId).filter(|&it| it != here);
        others
            .filter_map(|other| Some((other, self.of(other, now)?)))
            .max_by_key(|&(_, wait)| wait)
    }

    /// Whether nobody has given a worker a server for its last window; somebody does now.
    fn claim(&self, worker: WorkerId) -> bool {
        let wait = &self.0[worker.0];
        let at = wait.at.load(Ordering::Relaxed);
        wait.helped.swap(at, Ordering::Relaxed) != at
    }
}

impl Pool {
    /// The worker that gets a server which is free, whoever waits here: its clients have waited longer
    /// of late. Looks once a window.
    pub(crate) fn needier_worker(&self, now: Instant) -> Option<WorkerId> {
        if self.local.shared.workers() < 2 {
            return None;
        }
        let sum = self.pace.borrow_mut().end_window(now)?;
        let (here, waits) = (self.local.worker, &self.shared.waits);
        waits.publish(here, sum.wait, now);
        let givers = self.shared.idle_elsewhere(here);
        let patience = sum.patience(givers.map(|other| waits.of(other, now)));
        self.pace.borrow_mut().patience = patience;
        let servers = self.state.borrow().server_count();
        let to = sum.gives(servers, waits.longest_elsewhere(here, now));
        to.filter(|&to| waits.claim(to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: WorkerId = WorkerId(0);
    const THERE: WorkerId = WorkerId(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(after: Duration) -> Instant {
        Instant::from_nanos(10_000_000_000) + after
    }

    /// What was noted every so often until a window ended.
    fn window(pace: &mut Pace, every: Duration, waited: Duration) -> Sum {
        let mut now = at(ms(0));
        pace.end_window(now);
        loop {
            now += every;
            pace.note(waited);
            if let Some(sum) = pace.end_window(now) {
                return sum;
            }
        }
    }

    #[test]
    fn a_window_has_the_mean_wait_and_the_time_between_servers() {
        let mut pace = Pace::default();
        assert_eq!(pace.end_window(at(ms(0))), None);
        pace.note(ms(4));
        pace.note(ms(0));
        assert_eq!(pace.end_window(at(ms(49))), None);
        pace.note(ms(2));
        let (wait, turn) = (ms(2), ms(60) / 3);
        assert_eq!(pace.end_window(at(ms(60))), Some(Sum { wait, turn }));
        assert_eq!(pace.end_window(at(ms(500))), None, "nothing came free");
    }

    #[test]
    fn clients_have_patience_where_servers_come_free_quickly() {
        let quick = |wait| Sum {
            wait,
            turn: ms(1) / 2,
        };
        let (few, many) = (quick(ms(1)), quick(ms(20)));
        let nobody = || std::iter::empty();
        assert_eq!(few.patience(nobody()), PATIENCE);
        assert_eq!(many.patience(nobody()), ms(40));
        let turn = HOME_PATIENCE;
        assert_eq!(Sum { turn, ..many }.patience(nobody()), HOME_PATIENCE);
    }

    #[test]
    fn clients_have_no_patience_where_others_have_less_to_do() {
        let sum = Sum {
            wait: ms(20),
            turn: ms(1) / 2,
        };
        let beside = |others: &[Option<Duration>]| sum.patience(others.iter().copied());
        assert_eq!(beside(&[Some(ms(20)), Some(ms(10))]), ms(40));
        assert_eq!(beside(&[Some(ms(20)), Some(ms(9))]), HOME_PATIENCE);
        assert_eq!(beside(&[None]), HOME_PATIENCE, "it has nothing to do");
    }

    #[test]
    fn patience_ends_when_nothing_comes_free_any_more() {
        let mut pace = Pace::default();
        assert_eq!(pace.patience(at(ms(0))), HOME_PATIENCE);
        let sum = window(&mut pace, ms(1) / 2, ms(3));
        assert_eq!(sum.wait, ms(3));
        pace.patience = ms(6);
        assert_eq!(pace.patience(at(ms(50 + 99))), ms(6));
        assert_eq!(pace.patience(at(ms(50 + 100))), HOME_PATIENCE);
    }

    #[test]
    fn who_waits_longer_elsewhere_gets_a_server_unless_it_is_the_last() {
        let sum = Sum {
            wait: ms(10),
            turn: ms(1),
        };
        let gives = |servers, wait| sum.gives(servers, Some((THERE, wait)));
        assert_eq!(gives(2, ms(13)), Some(THERE));
        assert_eq!(gives(2, ms(12) + HARDLY), None, "that is hardly longer");
        assert_eq!(gives(1, ms(13)), None);
        assert_eq!(sum.gives(2, None), None, "nobody has said anything");
    }

    #[test]
    fn a_worker_gets_one_server_for_a_window() {
        let waits = Waits::new(2);
        waits.publish(THERE, ms(3), at(ms(0)));
        assert_eq!([(); 2].map(|()| waits.claim(THERE)), [true, false]);
        waits.publish(THERE, ms(3), at(ms(50)));
        assert!(waits.claim(THERE));
    }

    #[test]
    fn only_what_was_published_of_late_counts() {
        let waits = Waits::new(3);
        assert_eq!(waits.longest_elsewhere(HERE, at(ms(0))), None);
        waits.publish(THERE, ms(3), at(ms(0)));
        waits.publish(WorkerId(2), ms(2), at(ms(10)));
        let longest = |after| waits.longest_elsewhere(HERE, at(ms(after)));
        assert_eq!(longest(99), Some((THERE, ms(3))));
        assert_eq!(longest(100), Some((WorkerId(2), ms(2))));
        assert_eq!(longest(110), None);
        assert_eq!(
            waits.longest_elsewhere(THERE, at(ms(99))),
            Some((WorkerId(2), ms(2)))
        );
    }
}

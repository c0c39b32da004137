//! The last fifteen minutes, sampled: what the plots show.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pool::meter::Meter;
use pool::snapshot::{Counters, Snapshot};
use serde::Serialize;
use settings::CONSOLE_DATABASE;

/// Between two samples.
pub const PERIOD: Duration = Duration::from_secs(5);

/// Samples that are kept: fifteen minutes of them.
const SAMPLES: usize = 180;

/// One sample: what is now, and what came since the one before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Sample {
    /// Clients in line.
    waiting: usize,
    /// Servers lent.
    busy: usize,
    /// Servers connected or connecting.
    servers: usize,
    /// Queries a second.
    queries: f64,
    /// Transactions a second.
    transactions: f64,
    /// Seconds that half, 95 % and 99 % of the queries did not exceed; nothing without queries.
    query: Option<[f64; 3]>,
    /// The same of transactions.
    transaction: Option<[f64; 3]>,
    /// The same of waits for a server.
    wait: Option<[f64; 3]>,
}

/// The samples, oldest first.
#[derive(Debug, Default)]
pub struct History {
    samples: VecDeque<Sample>,
    before: Option<Before>,
}

/// Where counters stood at the last sample.
#[derive(Debug, Clone, Copy)]
struct Before {
    at: Instant,
    counters: Counters,
    meter: Meter,
}

impl History {
    /// Takes a sample of this summary. The first one only says where counters stand.
    pub fn sample(&mut self, snapshot: &Snapshot, now: Instant) {
        let latest = Before::of(snapshot, now);
        let Some(before) = self.before.replace(latest) else {
            return;
        };
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(latest.since(&before, snapshot));
    }

    pub(super) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter()
    }
}

impl Before {
    fn of(snapshot: &Snapshot, at: Instant) -> Self {
        let mut counters = Counters::default();
        let totals = snapshot.totals.iter();
        totals
            .filter(|(database, _)| *database != CONSOLE_DATABASE)
            .for_each(|(_, more)| counters += *more);
        let mut meter = Meter::default();
        snapshot.meters.values().for_each(|more| meter += *more);
        Self {
            at,
            counters,
            meter,
        }
    }

    fn since(&self, before: &Self, snapshot: &Snapshot) -> Sample {
        let elapsed = self.at.saturating_duration_since(before.at).as_secs_f64();
        let came = self.counters - before.counters;
        let rate = |count: u64| match elapsed > 0.0 {
            true => count as f64 / elapsed,
            false => 0.0,
        };
        let pools = || snapshot.pools.iter();
        Sample {
            waiting: pools().map(|row| row.cl_waiting).sum(),
            busy: pools().map(|row| row.sv_active).sum(),
            servers: pools().map(|row| row.servers()).sum(),
            queries: rate(came.query_count),
            transactions: rate(came.xact_count),
            query: quantiles(self.meter.query.since(&before.meter.query)),
            transaction: quantiles(self.meter.xact.since(&before.meter.xact)),
            wait: quantiles(self.meter.wait.since(&before.meter.wait)),
        }
    }
}

fn quantiles(times: pool::meter::Histogram) -> Option<[f64; 3]> {
    let of = |share| times.quantile(share).map(|it| it.as_secs_f64());
    Some([of(0.5)?, of(0.95)?, of(0.99)?])
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "any moment will do to begin with"
)]
mod tests {
    use super::*;

    fn counted(queries: u64, micros: u64) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let counters = Counters {
            query_count: queries,
            ..Counters::default()
        };
        snapshot.totals.insert("shop".to_owned(), counters);
        let mut meter = Meter::default();
        for _ in 0..queries {
            meter.query.record(Duration::from_micros(micros));
        }
        let key = pool::PoolKey {
            database: "shop".into(),
            user: "alice".into(),
        };
        snapshot.meters.insert(key, meter);
        snapshot
    }

    #[test]
    fn a_sample_tells_what_came_since_the_one_before() {
        let start = Instant::now();
        let mut history = History::default();
        history.sample(&counted(100, 40), start);
        assert_eq!(history.samples().count(), 0);
        history.sample(&counted(150, 40), start + Duration::from_secs(5));
        let sample = history.samples().next().unwrap();
        assert_eq!(sample.queries, 10.0);
        assert!(sample.query.unwrap()[2] <= 0.0001);
        assert_eq!(sample.wait, None);
    }

    #[test]
    fn no_more_than_fifteen_minutes_are_kept() {
        let start = Instant::now();
        let mut history = History::default();
        for tick in 0..1000 {
            history.sample(&Snapshot::default(), start + PERIOD * tick);
        }
        assert_eq!(history.samples().count(), 180);
    }
}

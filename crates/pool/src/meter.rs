//! What a pool measures: how long things took, in buckets, and how often the rarer ones happened.
//!
//! Plain numbers of one worker: recording one takes no lock and no allocation.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds: 100 µs to 100 s.
pub const BOUNDS: [u64; 19] = [
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
];

/// For each number of binary digits, the first bucket that a number of so many can be in.
const FIRST: [u8; u64::BITS as usize + 1] = {
    let mut first = [0; u64::BITS as usize + 1];
    let mut digits = 1;
    while digits < first.len() {
        let smallest = 1 << (digits - 1);
        let mut place = 0;
        while place < BOUNDS.len() && BOUNDS[place] < smallest {
            place += 1;
        }
        first[digits] = place as u8;
        digits += 1;
    }
    first
};

/// The bucket that a duration is counted in: of the first bound that it does not exceed.
fn place_of(micros: u64) -> usize {
    let digits = u64::BITS - micros.leading_zeros();
    let mut place = usize::from(FIRST[digits as usize]);
    while BOUNDS.get(place).is_some_and(|&bound| bound < micros) {
        place += 1;
    }
    place
}

/// Whole microseconds, as the counters have them.
pub fn micros(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000);
    whole.saturating_add(duration.subsec_micros().into())
}

/// Durations, counted in buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Histogram {
    /// One for each bound, and one for what is longer.
    counts: [u64; BOUNDS.len() + 1],
    /// Microseconds of them all.
    sum: u64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        self.record_micros(micros(took));
    }

    /// Counts one, in microseconds.
    pub fn record_micros(&mut self, micros: u64) {
        self.counts[place_of(micros)] += 1;
        self.sum = self.sum.saturating_add(micros);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// Each bound, and how many are no longer than it.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let mut below = 0;
        BOUNDS.iter().zip(self.counts).map(move |(&bound, count)| {
            below += count;
            (Duration::from_micros(bound), below)
        })
    }

    /// What came since `earlier`; nothing where a count has gone back.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        for (count, before) in since.counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        since.sum = since.sum.saturating_sub(earlier.sum);
        since
    }

    /// What the share `share` of them does not exceed, as far as buckets can tell; `None` of none.
    ///
    /// Within a bucket they are taken to be spread evenly. What is longer than the last bound
    /// counts as that long.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = share.clamp(0.0, 1.0) * count as f64;
        let (mut low, mut below) = (0, 0);
        for (&bound, inside) in BOUNDS.iter().zip(self.counts) {
            if inside > 0 && (below + inside) as f64 >= rank {
                let into = (rank - below as f64).max(0.0) / inside as f64;
                let micros = low as f64 + into * (bound - low) as f64;
                return Some(Duration::from_secs_f64(micros / 1e6));
            }
            (low, below) = (bound, below + inside);
        }
        Some(Duration::from_micros(low))
    }
}

impl AddAssign for Histogram {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// What one pool measures on one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meter {
    /// From asking for a server to having it; most have it at once.
    pub wait: Histogram,
    /// Transactions, their wait for a server included.
    pub xact: Histogram,
    /// Queries, likewise.
    pub query: Histogram,
    /// Connecting and logging in to servers, where that succeeded.
    pub connect: Histogram,
    /// Servers opened from the reserve.
    pub reserve_opened: u64,
    /// Reset queries sent.
    pub resets: u64,
}

impl AddAssign for Meter {
    fn add_assign(&mut self, other: Self) {
        self.wait += other.wait;
        self.xact += other.xact;
        self.query += other.query;
        self.connect += other.connect;
        self.reserve_opened += other.reserve_opened;
        self.resets += other.resets;
    }
}

/// How often something happened, by reason. The reasons are words of ours, so they are few.
pub type Reasons = BTreeMap<&'static str, u64>;

/// What a worker counts whatever the pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tallies {
    /// Clients that were not let in.
    pub refusals: Reasons,
    /// Sessions that ended.
    pub client_ends: Reasons,
    /// Servers that were closed, and logins to servers that failed.
    pub server_closes: Reasons,
}

impl AddAssign for Tallies {
    fn add_assign(&mut self, other: Self) {
        let add = |reasons: &mut Reasons, more: Reasons| {
            for (reason, count) in more {
                *reasons.entry(reason).or_default() += count;
            }
        };
        add(&mut self.refusals, other.refusals);
        add(&mut self.client_ends, other.client_ends);
        add(&mut self.server_closes, other.server_closes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for &micros in micros {
            histogram.record(Duration::from_micros(micros));
        }
        histogram
    }

    fn below(histogram: &Histogram, micros: u64) -> u64 {
        let bound = Duration::from_micros(micros);
        let found = histogram.buckets().find(|&(it, _)| it == bound);
        found.unwrap().1
    }

    #[test]
    fn every_duration_is_in_the_bucket_of_the_first_bound_that_it_does_not_exceed() {
        let powers = (0..u64::BITS).map(|digits| 1 << digits);
        let around = BOUNDS
            .into_iter()
            .chain(powers)
            .flat_map(|it| [it - 1, it, it + 1]);
        for micros in around.chain([u64::MAX]) {
            let first = BOUNDS.partition_point(|&bound| bound < micros);
            assert_eq!(place_of(micros), first, "{micros}");
        }
    }

    #[test]
    fn what_is_as_long_as_a_bound_counts_below_it() {
        let histogram = of(&[100, 101, 250, 1_000_000_000]);
        assert_eq!(below(&histogram, 100), 1);
        assert_eq!(below(&histogram, 250), 3);
        assert_eq!(below(&histogram, 100_000_000), 3);
        assert_eq!(histogram.count(), 4);
        assert_eq!(histogram.sum(), Duration::from_micros(1_000_000_451));
    }

    #[test]
    fn quantiles_lie_in_the_bucket_that_holds_them() {
        let histogram = of(&[90, 90, 90, 90, 90, 90, 90, 90, 90, 40_000]);
        assert_eq!(histogram.quantile(0.5).unwrap().as_micros(), 55);
        let last = histogram.quantile(0.99).unwrap().as_micros();
        assert!((25_000..=50_000).contains(&last), "{last}");
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(
            of(&[u64::MAX]).quantile(1.0),
            Some(Duration::from_secs(100))
        );
    }

    #[test]
    fn a_period_holds_what_came_in_it() {
        let (mut all, before) = (of(&[90, 700]), of(&[90, 700]));
        all += of(&[700, 700]);
        assert_eq!(all.since(&before), of(&[700, 700]));
        assert_eq!(before.since(&all).count(), 0);
    }

    #[test]
    fn reasons_add_up() {
        let mut one = Tallies::default();
        one.refusals.insert("no such user", 2);
        let mut other = one.clone();
        other.server_closes.insert("evicted", 1);
        one += other;
        assert_eq!(one.refusals["no such user"], 4);
        assert_eq!(one.server_closes["evicted"], 1);
    }
}

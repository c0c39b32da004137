//! A shutdown with a deadline: which of the clients are told to go, and when.
//!
//! Those who have been silent the longest go first, evenly over the first half of the time. From
//! then on all go who are between two transactions, and those who are not, as soon as they are.

use std::time::Duration;

use events::time::Instant;

/// Longest time that clients who are sent away at the end may take to hear why.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// A client that was silent for less may be about to ask, and is spared in the first half.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);

/// The times of a shutdown with a deadline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drain {
    from: Instant,
    /// Until when clients are sent away one after the other.
    half: Instant,
    /// When those who are still there are cut short.
    end: Instant,
}

/// How many clients a worker has sent away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pacing {
    clients: usize,
    told: usize,
}

/// Who is to be sent away now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// So many of those who have been silent for a while.
    Silent(usize),
    /// Everybody.
    All,
}

impl Drain {
    /// The clients leave from now on, so that all is over by the deadline.
    pub(crate) fn new(now: Instant, deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(now);
        Self {
            from: now,
            half: now + left / 2,
            end: now + (left - FAREWELL.min(left / 4)),
        }
    }

    /// Whether it is time to cut short whoever is still there.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.end
    }
}

impl Pacing {
    /// For a worker with so many clients.
    pub(crate) fn new(clients: usize) -> Self {
        Self { clients, told: 0 }
    }

    /// Who is to be sent away now.
    pub(crate) fn due(&self, drain: &Drain, now: Instant) -> Due {
        if now >= drain.half {
            return Due::All;
        }
        let passed = now.saturating_duration_since(drain.from).as_millis();
        let window = (drain.half - drain.from).as_millis().max(1);
        let due = (self.clients as u128 * passed).div_ceil(window);
        let due = usize::try_from(due).unwrap_or(usize::MAX);
        Due::Silent(due.saturating_sub(self.told))
    }

    /// One was sent away.
    pub(crate) fn one_told(&mut self) {
        self.told += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn clients_go_evenly_over_the_first_half() {
        let start = Instant::now();
        let drain = Drain::new(start, start + seconds(20.0));
        let mut pacing = Pacing::new(100);
        let mut told = Vec::new();
        for second in 0..10 {
            let Due::Silent(due) = pacing.due(&drain, start + seconds(f64::from(second) + 0.5))
            else {
                panic!("all after {second} s");
            };
            (0..due).for_each(|_| pacing.one_told());
            told.push(due);
        }
        assert_eq!(told, [5, 10, 10, 10, 10, 10, 10, 10, 10, 10]);
        assert_eq!(pacing.due(&drain, start + seconds(10.0)), Due::All);
    }

    #[test]
    fn who_was_spared_is_made_up_for() {
        let start = Instant::now();
        let drain = Drain::new(start, start + seconds(20.0));
        let mut pacing = Pacing::new(10);
        assert_eq!(pacing.due(&drain, start + seconds(5.0)), Due::Silent(5));
        pacing.one_told();
        assert_eq!(pacing.due(&drain, start + seconds(5.0)), Due::Silent(4));
    }

    #[test]
    fn there_is_time_for_last_words_before_the_deadline() {
        let start = Instant::now();
        for (patience, end) in [(20.0, 19.0), (2.0, 1.5), (0.0, 0.0)] {
            let drain = Drain::new(start, start + seconds(patience));
            assert!(drain.is_over(start + seconds(end)));
            assert!(end == 0.0 || !drain.is_over(start + seconds(end - 0.01)));
        }
    }
}

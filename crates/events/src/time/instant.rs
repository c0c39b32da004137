//! A moment in eight bytes, whose arithmetic is that of a number.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// A moment of the monotonic clock, in nanoseconds. It stands in for [`std::time::Instant`], which
/// takes twice the room and ten times the work to subtract; whatever would leave the clock's range
/// (584 years) stays at its edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64);

thread_local! {
    /// When the thread's event loop last woke.
    static WOKE: Cell<Option<Instant>> = const { Cell::new(None) };
}

impl Instant {
    /// Asks the clock.
    pub fn now() -> Self {
        // It can't fail: there is such a clock.
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or(TimeSpec::new(0, 0));
        let whole = time.tv_sec().cast_unsigned().wrapping_mul(1_000_000_000);
        Self::from_nanos(whole.wrapping_add(time.tv_nsec().cast_unsigned()))
    }

    /// When the thread's event loop last woke: what it has found since then had come by that moment.
    /// Asks nobody.
    pub fn of_turn() -> Self {
        WOKE.get().unwrap_or_else(Self::now)
    }

    /// The thread's event loop woke: now.
    pub(crate) fn begin_turn() -> Self {
        let now = Self::now();
        WOKE.set(Some(now));
        now
    }

    /// There is no turn now.
    pub(crate) fn end_turn() {
        WOKE.set(None);
    }

    /// It as a number, never 0.
    pub const fn as_nanos(self) -> u64 {
        self.0.get()
    }

    /// The moment of that number.
    pub const fn from_nanos(nanos: u64) -> Self {
        match NonZeroU64::new(nanos) {
            Some(nanos) => Self(nanos),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }

    /// How much later it is; nothing if it is earlier.
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// The same in whole microseconds.
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get()) / 1000
    }
}

/// The longest that fits, if it does not.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self::from_nanos(self.0.get().saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self::from_nanos(self.0.get().saturating_sub(nanos(duration)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_read_off_the_clock_that_the_standard_one_reads() {
        let (ours, theirs) = (Instant::now(), std::time::Instant::now());
        std::thread::sleep(Duration::from_millis(20));
        // Each read before and after the other.
        assert!(ours.elapsed() >= Duration::from_millis(20));
        let (later, passed) = (Instant::now(), theirs.elapsed());
        assert!(later - ours >= Duration::from_millis(20) && passed >= Duration::from_millis(20));
        assert!(ours.elapsed() < passed + SECOND * 5);
    }

    #[test]
    fn what_would_leave_the_range_stays_at_its_edge() {
        let now = Instant::now();
        assert_eq!(now + SECOND - SECOND, now);
        assert_eq!((now + SECOND) - now, SECOND);
        assert_eq!(now - (now + SECOND), Duration::ZERO);
        assert_eq!((now + SECOND).micros_since(now), 1_000_000);
        assert_eq!(now.micros_since(now + SECOND), 0);
        assert_eq!(now + Duration::MAX, Instant(NonZeroU64::MAX));
        assert_eq!(now - Duration::MAX, Instant(NonZeroU64::MIN));
        assert!(now - Duration::MAX < now && now < now + Duration::MAX);
    }

    #[test]
    fn none_takes_no_room() {
        assert_eq!(size_of::<Option<Instant>>(), 8);
    }
}

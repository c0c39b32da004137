//! Random schedules for tests, by number: what failed once fails again.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Random numbers that follow from a seed.
pub(crate) struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    // SplitMix64: any seed will do, also 0.
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.roll() % u64::from(end)).unwrap()
    }

    /// True as often as that.
    pub(crate) fn percent(&mut self, chance: u32) -> bool {
        self.below(100) < chance
    }

    /// One of them, if there are any.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let place = self.below(u32::try_from(from.len()).unwrap());
        from.get(place as usize).copied()
    }
}

/// Plays schedules 0 to `count`, each as long as it is told, the shortest first: the first to fail
/// is short enough to read.
pub(crate) fn play(count: u32, len_max: u32, schedule: impl Fn(&mut Dice, u32)) {
    for number in 0..count {
        let len = 1 + number * len_max / count;
        let mut dice = Dice::new(u64::from(number));
        let played = catch_unwind(AssertUnwindSafe(|| schedule(&mut dice, len)));
        assert!(
            played.is_ok(),
            "schedule {number} of length {len} fails, as told above"
        );
    }
}

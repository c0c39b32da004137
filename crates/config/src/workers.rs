//! How many worker threads there are.

use std::num::NonZeroUsize;

use crate::values::{SettingValue, parse_int};

/// The number of worker threads, as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workers {
    /// One for every two CPUs, at least 1, at most 16.
    Auto,
    /// So many.
    Fixed(NonZeroUsize),
}

impl Workers {
    /// Most workers that can be asked for.
    pub const MAX: usize = 64;
    /// Most workers that `auto` comes to.
    pub const AUTO_MAX: usize = 16;

    /// The number of workers on a machine with `cpus` CPUs.
    pub fn resolve(self, cpus: usize) -> usize {
        match self {
            Self::Auto => (cpus / 2).clamp(1, Self::AUTO_MAX),
            Self::Fixed(workers) => workers.get(),
        }
    }
}

impl SettingValue for Workers {
    const EXPECTS: &'static str = "auto, or a whole number from 1 to 64";

    fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("auto") {
            return Some(Self::Auto);
        }
        let workers = NonZeroUsize::new(usize::try_from(parse_int(text)?).ok()?)?;
        (workers.get() <= Self::MAX).then_some(Self::Fixed(workers))
    }

    fn show(&self) -> Option<String> {
        match self {
            Self::Auto => Some("auto".to_owned()),
            Self::Fixed(workers) => Some(workers.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_one_worker_for_every_two_cpus_from_1_to_16() {
        let resolved = [0, 1, 2, 3, 4, 8, 32, 33, 256].map(|cpus| Workers::Auto.resolve(cpus));

        assert_eq!(resolved, [1, 1, 1, 1, 2, 4, 16, 16, 16]);
    }

    #[test]
    fn a_number_from_1_to_64_is_taken_as_it_is() {
        assert_eq!(Workers::parse("64").unwrap().resolve(2), 64);
        assert_eq!(Workers::parse("AUTO"), Some(Workers::Auto));
        for refused in ["0", "65", "-1", "two", ""] {
            assert_eq!(Workers::parse(refused), None, "{refused}");
        }
    }
}

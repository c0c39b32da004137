//! Median, range and percentiles.

use std::time::Duration;

use serde::Serialize;

/// Where values lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The one in the middle.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) least: f64,
    /// The largest.
    pub(crate) most: f64,
}

impl Spread {
    /// Where these lie; `None` if there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = sorted.first().zip(sorted.last())?;
        let (lower, upper) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self {
            median: f64::midpoint(lower, upper),
            least,
            most,
        })
    }
}

/// The time that this part of all stays below; they come in their order.
pub(crate) fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let place = (sorted.len() as f64 * part) as usize;
    let last = sorted.last().copied().unwrap_or_default();
    sorted.get(place).copied().unwrap_or(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_is_slower() {
        let times: Vec<_> = (1..=1000).map(Duration::from_micros).collect();

        assert_eq!(percentile(&times, 0.99), Duration::from_micros(991));
        assert_eq!(percentile(&times, 1.0), Duration::from_micros(1000));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn the_median_is_the_middle_value_whatever_the_order() {
        let spread = Spread::of([9.0, 1.0, 2.0]).unwrap();

        assert_eq!((spread.median, spread.least, spread.most), (2.0, 1.0, 9.0));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(Spread::of([]), None);
    }
}

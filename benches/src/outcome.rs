//! What the rounds of a workload came to.

use crate::{
    measure::Measure,
    statistics::Spread,
    subject::Subject,
    workload::{Aim, Workload},
};

/// One measure of one workload, for all subjects.
pub(crate) struct Outcome {
    /// The workload.
    pub(crate) workload: Workload,
    /// What the values are.
    pub(crate) measure: Measure,
    series: Vec<Series>,
}

/// The values of one subject, round by round.
struct Series {
    subject: Subject,
    values: Vec<f64>,
}

/// The outcomes of one workload while it runs.
pub(crate) struct Outcomes {
    workload: Workload,
    outcomes: Vec<Outcome>,
}

impl Outcomes {
    pub(crate) fn new(workload: Workload) -> Self {
        Self {
            workload,
            outcomes: Vec::new(),
        }
    }

    /// Adds a subject's value of one more round.
    pub(crate) fn note(&mut self, subject: Subject, measure: Measure, value: f64) {
        let values = self.of(measure).series_of(subject);
        values.push(value);
    }

    /// Puts a subject's values beside another's of the same rounds, as a measure of its own.
    pub(crate) fn compare(
        &mut self,
        (subject, base): (Subject, Subject),
        (from, to): (Measure, Measure),
        how: impl Fn(f64, f64) -> f64,
    ) {
        let compared = self.of(from);
        let pairs = (compared.values(subject).iter()).zip(compared.values(base));
        let values: Vec<_> = pairs.map(|(&value, &base)| how(value, base)).collect();
        for value in values {
            self.note(subject, to, value);
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Outcome> {
        self.outcomes
    }

    fn of(&mut self, measure: Measure) -> &mut Outcome {
        let known = self.outcomes.iter().position(|it| it.measure == measure);
        let index = known.unwrap_or_else(|| {
            self.outcomes.push(Outcome {
                workload: self.workload,
                measure,
                series: Vec::new(),
            });
            self.outcomes.len() - 1
        });
        &mut self.outcomes[index]
    }
}

impl Outcome {
    /// The values of a subject, round by round; none if it was not measured.
    pub(crate) fn values(&self, subject: Subject) -> &[f64] {
        let series = self.series.iter().find(|it| it.subject == subject);
        series.map_or(&[], |it| &it.values)
    }

    /// Where the values of a subject lie.
    pub(crate) fn spread(&self, subject: Subject) -> Option<Spread> {
        Spread::of(self.values(subject).iter().copied())
    }

    /// Where the ratios to PgBouncer lie, each taken within its round.
    pub(crate) fn ratios(&self, subject: Subject) -> Option<Spread> {
        let pairs = (self.values(subject).iter()).zip(self.values(Subject::BASE));
        let ratios = pairs.map(|(value, base)| value / base);
        // Nothing has no ratio to nothing.
        Spread::of(ratios.filter(|ratio| ratio.is_finite()))
    }

    /// What it is meant to be, if that was said.
    pub(crate) fn aim(&self) -> Option<Aim> {
        let mut aims = self.workload.aims.iter();
        aims.find(|(measure, _)| *measure == self.measure)
            .map(|(_, aim)| *aim)
    }

    /// How many rounds there were.
    pub(crate) fn rounds(&self) -> usize {
        let counts = self.series.iter().map(|it| it.values.len());
        counts.max().unwrap_or(0)
    }

    fn series_of(&mut self, subject: Subject) -> &mut Vec<f64> {
        let known = self.series.iter().position(|it| it.subject == subject);
        let index = known.unwrap_or_else(|| {
            self.series.push(Series {
                subject,
                values: Vec::new(),
            });
            self.series.len() - 1
        });
        &mut self.series[index].values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WORKLOADS;

    #[test]
    fn one_subject_stands_beside_another_of_the_same_round() {
        let mut outcomes = Outcomes::new(WORKLOADS[0]);
        for (direct, pgbouncer) in [(10.0, 14.0), (30.0, 33.0)] {
            outcomes.note(Subject::Direct, Measure::Median, direct);
            outcomes.note(Subject::BASE, Measure::Median, pgbouncer);
        }
        let subjects = (Subject::BASE, Subject::Direct);
        let measures = (Measure::Median, Measure::MedianAdded);
        outcomes.compare(subjects, measures, |value, base| value - base);

        assert_eq!(outcomes.into_vec()[1].values(Subject::BASE), [4.0, 3.0]);
    }

    #[test]
    fn a_ratio_is_taken_within_its_round() {
        let mut outcomes = Outcomes::new(WORKLOADS[0]);
        // The machine was three times slower in the second round, for both.
        for (pgbouncer, direct) in [(10.0, 8.0), (30.0, 24.0)] {
            outcomes.note(Subject::BASE, Measure::CpuPerTransaction, pgbouncer);
            outcomes.note(Subject::Direct, Measure::CpuPerTransaction, direct);
        }
        let outcome = &outcomes.into_vec()[0];
        let ratios = outcome.ratios(Subject::Direct).unwrap();

        assert_eq!((ratios.least, ratios.median, ratios.most), (0.8, 0.8, 0.8));
    }
}

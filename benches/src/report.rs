//! The tables that people read, and the file that keeps everything.

use std::{fmt, fs, path::Path};

use serde::Serialize;

use crate::{
    bench::{Bench, Results},
    failure::Failure,
    machine::{self, Machine},
    measure::Measure,
    outcome::Outcome,
    probe::Effort,
    stage::INI,
    statistics::Spread,
    subject::Subject,
    table::Table,
    workload::Aim,
};

/// What came out.
pub(crate) struct Report {
    about: About,
    results: Results,
}

/// Where, when and how it was measured.
#[derive(Serialize)]
struct About {
    date: String,
    commit: String,
    machine: Machine,
    versions: Vec<String>,
    effort: Effort,
    ini: Vec<String>,
}

/// The file's whole content.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    about: &'a About,
    outcomes: Vec<OutcomeRecord>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct OutcomeRecord {
    workload: &'static str,
    measure: Measure,
    unit: &'static str,
    aim: Option<String>,
    subjects: Vec<SubjectRecord>,
}

#[derive(Serialize)]
struct SubjectRecord {
    subject: String,
    /// Round by round.
    values: Vec<f64>,
    spread: Option<Spread>,
    ratio_to_pgbouncer: Option<Spread>,
}

impl Report {
    pub(crate) fn new(bench: &Bench, results: Results) -> Self {
        let about = About {
            date: machine::today(),
            commit: machine::commit(),
            machine: Machine::here(),
            versions: bench.versions.clone(),
            effort: bench.effort,
            ini: INI
                .iter()
                .map(|(name, value)| format!("{name} = {value}"))
                .collect(),
        };
        Self { about, results }
    }

    /// The name under which it is kept.
    pub(crate) fn file_name(&self) -> String {
        format!("{}-{}.json", self.about.date, self.about.commit)
    }

    /// Writes all figures of all rounds.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let record = Record {
            about: &self.about,
            outcomes: (self.results.outcomes.iter())
                .map(OutcomeRecord::of)
                .collect(),
            notes: &self.results.notes,
        };
        let mut json = serde_json::to_string_pretty(&record)
            .map_err(|error| Failure::Unreadable(format!("figures as JSON: {error}")))?;
        json.push('\n');
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(Failure::io(format!("making {}", dir.display())))?;
        }
        fs::write(path, json).map_err(Failure::io(format!("writing {}", path.display())))
    }

    fn table(
        &self,
        subjects: &[Subject],
        label: impl Fn(Measure) -> &'static str,
        cell: impl Fn(&Outcome, Subject) -> String,
        aim: impl Fn(Aim) -> bool,
    ) -> Table {
        let mut header = vec!["workload".to_owned(), "measure".to_owned()];
        header.extend(subjects.iter().map(Subject::to_string));
        header.push("aim".to_owned());
        header.push("rounds".to_owned());
        let mut table = Table::new(2, header);
        for outcome in &self.results.outcomes {
            let cells: Vec<_> = (subjects.iter())
                .map(|&subject| cell(outcome, subject))
                .collect();
            if cells.iter().all(|cell| cell == NOT_MEASURED) {
                continue;
            }
            let measure = outcome.measure;
            let better = measure.better();
            let label = format!("{} {}", label(measure), better.arrow());
            let mut row = vec![outcome.workload.name.to_owned(), label];
            row.extend(cells);
            let aim = outcome.aim().filter(|&it| aim(it));
            row.push(aim.map_or(String::new(), |aim| aim.text(better)));
            row.push(outcome.rounds().to_string());
            table.push(row);
        }
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let About {
            date,
            commit,
            machine,
            versions,
            ..
        } = &self.about;
        let all: Vec<_> = Subject::all().collect();
        let compared: Vec<_> = (all.iter().copied())
            .filter(|&subject| subject != Subject::BASE)
            .collect();
        let ratios = self.table(
            &compared,
            Measure::name,
            |outcome, subject| ratio(outcome.ratios(subject)),
            |aim| matches!(aim, Aim::Ratio(_)),
        );
        let medians = self.table(
            &all,
            Measure::unit,
            |outcome, subject| amount(outcome.spread(subject)),
            |aim| matches!(aim, Aim::Amount(_)),
        );

        writeln!(
            f,
            "Ratios to PgBouncer in the same round: median (least–most)."
        )?;
        writeln!(f, "↓ less is better, ↑ more is better.\n\n{ratios}")?;
        writeln!(
            f,
            "Medians. They depend on the machine and its mood; compare ratios.\n"
        )?;
        writeln!(f, "{medians}")?;
        for note in &self.results.notes {
            writeln!(f, "{note}")?;
        }
        writeln!(f, "{}", versions.join(" · "))?;
        writeln!(
            f,
            "{}, {} cores, Linux {}",
            machine.cpu, machine.cores, machine.kernel
        )?;
        write!(f, "{date}, commit {commit}")
    }
}

impl OutcomeRecord {
    fn of(outcome: &Outcome) -> Self {
        let measured = Subject::all().filter(|&subject| !outcome.values(subject).is_empty());
        Self {
            workload: outcome.workload.name,
            measure: outcome.measure,
            unit: outcome.measure.unit(),
            aim: outcome.aim().map(|aim| aim.text(outcome.measure.better())),
            subjects: measured
                .map(|subject| SubjectRecord {
                    subject: subject.to_string(),
                    values: outcome.values(subject).to_vec(),
                    spread: outcome.spread(subject),
                    ratio_to_pgbouncer: outcome.ratios(subject),
                })
                .collect(),
        }
    }
}

const NOT_MEASURED: &str = "–";

fn ratio(spread: Option<Spread>) -> String {
    spread.map_or(NOT_MEASURED.to_owned(), |it| {
        format!("{:.2} ({:.2}–{:.2})", it.median, it.least, it.most)
    })
}

/// A median with three digits or more.
fn amount(spread: Option<Spread>) -> String {
    let Some(Spread { median, .. }) = spread else {
        return NOT_MEASURED.to_owned();
    };
    match median.abs() {
        ..10.0 => format!("{median:.2}"),
        10.0..100.0 => format!("{median:.1}"),
        _ => grouped(median.round()),
    }
}

/// A whole number with its thousands apart.
fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let sign = if number < 0.0 { "-" } else { "" };
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_show_three_digits_or_more() {
        let shown = [0.4321, 9.876, 45.67, 123.4, 1234.4, -1_234_567.0].map(|value| {
            let spread = Spread::of([value]);
            amount(spread)
        });

        assert_eq!(
            shown,
            ["0.43", "9.88", "45.7", "123", "1,234", "-1,234,567"]
        );
    }

    #[test]
    fn a_ratio_shows_its_range() {
        assert_eq!(ratio(Spread::of([0.9, 1.0, 1.2])), "1.00 (0.90–1.20)");
        assert_eq!(ratio(None), "–");
    }
}

//! What the command line asks for.

use std::path::PathBuf;

use clap::Parser;

use crate::{
    failure::Failure,
    probe::Effort,
    report::Report,
    workload::{WORKLOADS, Workload},
};

/// Measures pgusher with one and two workers beside PgBouncer and a direct connection.
///
/// Run it in the root of the repository. Every answer is compared byte for byte with what must
/// come; the first wrong one ends the run.
#[derive(Parser)]
#[command(name = "pgusher-bench")]
pub(crate) struct Options {
    /// Three short rounds, to try things; the figures are rough.
    #[arg(long)]
    quick: bool,

    /// Only workloads whose name begins with this; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Rounds of each workload [default: 7, or 3 if quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// Where to write all figures [default: benches/results/, if the run is a whole one]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// The pgusher to measure.
    #[arg(long, value_name = "PATH", default_value = "target/release/pgusher")]
    pub(crate) pgusher: PathBuf,
}

const ROUNDS: u32 = 7;
const ROUNDS_QUICK: u32 = 3;
const RESULTS: &str = "benches/results";

impl Options {
    /// The workloads asked for.
    pub(crate) fn workloads(&self) -> Result<Vec<Workload>, Failure> {
        for name in &self.only {
            if !WORKLOADS.iter().any(|it| it.name.starts_with(name)) {
                return Err(Failure::UnknownWorkload(name.clone()));
            }
        }
        let wanted = |workload: &&Workload| {
            self.only.is_empty()
                || (self.only.iter()).any(|name| workload.name.starts_with(name.as_str()))
        };
        Ok(WORKLOADS.iter().filter(wanted).copied().collect())
    }

    /// How much is measured.
    pub(crate) fn effort(&self) -> Effort {
        let usual = if self.quick { ROUNDS_QUICK } else { ROUNDS };
        let rounds = self.rounds.unwrap_or(usual);
        match self.quick {
            true => Effort::quick(rounds),
            false => Effort::full(rounds),
        }
    }

    /// Where all figures go: a run that is quick or partial is not kept unless asked for.
    pub(crate) fn json_path(&self, report: &Report) -> Option<PathBuf> {
        let whole = !self.quick && self.only.is_empty();
        let kept = || PathBuf::from(RESULTS).join(report.file_name());
        self.json.clone().or_else(|| whole.then(kept))
    }
}

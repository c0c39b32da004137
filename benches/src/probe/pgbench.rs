//! CPU and throughput under pgbench's own read-only script.

use std::{
    process::{Command, Output},
    time::Duration,
};

use testkit::client_program;

use super::{Effort, Figure, watched_over};
use crate::{
    crowd::Load, failure::Failure, machine, measure::Measure, session::NAME, stage::Running,
    work::Work,
};

/// What one pgbench did.
struct Ran {
    transactions: f64,
    per_second: f64,
    /// Of the pooler, if there is one, in microseconds; its logins are in it.
    cpu: Option<f64>,
}

/// One round. Prepared statements are put beside plain extended queries of the same moment.
pub(crate) async fn round(
    running: &Running,
    load: Load,
    effort: Effort,
) -> Result<Vec<Figure>, Failure> {
    const LIMIT: Duration = Duration::from_secs(120);
    watched_over(running, LIMIT, measure(running, load, effort)).await
}

async fn measure(running: &Running, load: Load, effort: Effort) -> Result<Vec<Figure>, Failure> {
    let base = match load.work {
        Work::Prepared => {
            let work = Work::Extended;
            run(running, Load { work, ..load }, effort).await?.cost()
        }
        _ => None,
    };
    let ran = run(running, load, effort).await?;
    let cost = ran.cost();
    let to_extended = cost.zip(base).map(|(cost, base)| cost / base);
    Ok([
        cost.map(|cost| (Measure::CpuPerTransaction, cost)),
        to_extended.map(|ratio| (Measure::CpuToExtended, ratio)),
        Some((Measure::TransactionsPerSecond, ran.per_second)),
    ]
    .into_iter()
    .flatten()
    .collect())
}

/// As many threads as processors, as pgbench's manual has it: one alone would be the narrow place.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

async fn run(running: &Running, load: Load, effort: Effort) -> Result<Ran, Failure> {
    let protocol = match load.work {
        Work::Extended => "extended",
        Work::Prepared => "prepared",
        _ => "simple",
    };
    let address = running.address();
    // The kernel divides the processors among sessions (autogroup): a pooler and those who use it are
    // of two.
    let mut command = Command::new("setsid");
    command
        .arg(client_program("pgbench"))
        .args(["-n", "-S", "-M", protocol, "-U", NAME])
        .args(["-h", &address.ip().to_string()])
        .args(["-p", &address.port().to_string()])
        .args(["-c", &load.clients.to_string()])
        .args(["-j", &threads().to_string()])
        // Whole seconds.
        .args(["-T", &effort.watch.as_secs().max(1).to_string(), NAME]);
    let before = running.cpu_ticks();
    let output = output(command).await?;
    let ticks = (running.cpu_ticks().zip(before)).map(|(after, before)| after - before);

    let told = String::from_utf8_lossy(&output.stdout);
    let figures =
        number(&told, "number of transactions actually processed: ").zip(number(&told, "tps = "));
    let (transactions, per_second) =
        figures.filter(|_| output.status.success()).ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            Failure::Unreadable(format!("pgbench: {told}{complaint}"))
        })?;
    Ok(Ran {
        transactions,
        per_second,
        cpu: ticks.map(|ticks| machine::ticks_to_time(ticks).as_secs_f64() * 1e6),
    })
}

/// Runs it on a thread of its own, while what waits on ours goes on.
pub(crate) async fn output(mut command: Command) -> Result<Output, Failure> {
    let ran = tokio::task::spawn_blocking(move || command.output()).await;
    match ran {
        Ok(output) => output.map_err(Failure::io("running pgbench")),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Ran {
    /// CPU of each transaction.
    fn cost(&self) -> Option<f64> {
        Some(self.cpu? / self.transactions)
    }
}

/// The number behind a label.
fn number(told: &str, label: &str) -> Option<f64> {
    let line = told.lines().find_map(|line| line.strip_prefix(label))?;
    line.split([' ', '/']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_behind_their_labels() {
        let told = "number of transactions actually processed: 1234\n\
            latency average = 0.5 ms\n\
            tps = 8456.25 (without initial connection time)\n";

        assert_eq!(
            number(told, "number of transactions actually processed: "),
            Some(1234.0)
        );
        assert_eq!(number(told, "tps = "), Some(8456.25));
    }
}

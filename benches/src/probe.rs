//! How one round of one subject is measured.

pub(crate) mod beside;
pub(crate) mod calls;
pub(crate) mod databases;
pub(crate) mod idle;
pub(crate) mod instructions;
pub(crate) mod load;
pub(crate) mod overload;
pub(crate) mod pgbench;
pub(crate) mod pools;
pub(crate) mod reach;
pub(crate) mod rest;
pub(crate) mod scrape;
pub(crate) mod stalled;
pub(crate) mod storm;
pub(crate) mod waits;

use std::time::Duration;

use serde::Serialize;

use testkit::Pooler;

use crate::{failure::Failure, measure::Measure, stage::Running};

/// One measured value.
pub(crate) type Figure = (Measure, f64);

/// How much is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Effort {
    /// Rounds of each workload,
    pub(crate) rounds: u32,
    /// and of one that takes long, whose figures hardly differ between rounds.
    pub(crate) rounds_few: u32,
    /// A load lasts at least this long,
    pub(crate) load_min: Duration,
    /// and until the pooler has used so many clock ticks, so that a tick more or less is nothing,
    pub(crate) ticks_min: u64,
    /// but no longer than this.
    pub(crate) load_max: Duration,
    /// What happens by itself is watched for so long.
    pub(crate) watch: Duration,
    /// Transactions whose instructions are counted.
    pub(crate) transactions_counted: u64,
}

impl Effort {
    /// For figures to be shown.
    pub(crate) fn full(rounds: u32) -> Self {
        Self {
            rounds,
            rounds_few: rounds.min(3),
            load_min: Duration::from_secs(2),
            ticks_min: 200,
            load_max: Duration::from_secs(15),
            watch: Duration::from_secs(5),
            transactions_counted: 10_000,
        }
    }

    /// For trying things.
    pub(crate) fn quick(rounds: u32) -> Self {
        Self {
            rounds,
            rounds_few: 1,
            load_min: Duration::from_millis(500),
            ticks_min: 20,
            load_max: Duration::from_secs(4),
            watch: Duration::from_secs(2),
            transactions_counted: 2000,
        }
    }
}

/// Gives up what is not done in time: a pooler that forgot a client must not stop the bench.
async fn unless_stuck<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::Stuck(limit)),
    }
}

/// The same, and a failure tells what the pooler wrote.
async fn watched_over<T>(
    running: &Running,
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let done = unless_stuck(limit, work).await;
    match running.pooler() {
        Some(pooler) => done.map_err(with_log(pooler)),
        None => done,
    }
}

/// For `map_err`: what the pooler wrote before it failed.
fn with_log(pooler: &Pooler) -> impl FnOnce(Failure) -> Failure {
    const SHOWN: usize = 20;
    let log = pooler.log();
    let lines: Vec<_> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
    |failure| failure.logged(last)
}

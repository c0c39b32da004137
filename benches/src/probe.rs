//! How one round of one subject is measured.

pub(crate) mod idle;
pub(crate) mod instructions;
pub(crate) mod load;
pub(crate) mod scrape;
pub(crate) mod storm;

use std::time::Duration;

use serde::Serialize;

use testkit::Pooler;

use crate::failure::Failure;

/// A quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Measure {
    /// CPU time of the pooler, in microseconds.
    CpuPerTransaction,
    /// As clients see it.
    TransactionsPerSecond,
    /// In user mode, by the pooler.
    InstructionsPerTransaction,
    /// Resident in the pooler.
    BytesPerIdleClient,
    /// Of transactions of clients that are inside already, in microseconds.
    SlowestPercent,
    /// By how much that grows while others log in.
    Growth,
    /// Time for all metrics, in milliseconds.
    Scrape,
    /// As those who log in see it.
    LoginsPerSecond,
}

/// One measured value.
pub(crate) type Figure = (Measure, f64);

impl Measure {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CpuPerTransaction => "CPU/txn",
            Self::TransactionsPerSecond => "txn/s",
            Self::InstructionsPerTransaction => "instructions/txn",
            Self::BytesPerIdleClient => "bytes/client",
            Self::SlowestPercent => "p99 meanwhile",
            Self::Growth => "p99 to before",
            Self::Scrape => "scrape",
            Self::LoginsPerSecond => "logins/s",
        }
    }

    /// What a value counts.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::CpuPerTransaction => "µs CPU/txn",
            Self::TransactionsPerSecond => "txn/s",
            Self::InstructionsPerTransaction => "instructions/txn",
            Self::BytesPerIdleClient => "bytes/client",
            Self::SlowestPercent => "µs, p99 meanwhile",
            Self::Growth => "x, p99 to before",
            Self::Scrape => "ms for /metrics",
            Self::LoginsPerSecond => "logins/s",
        }
    }

    /// Which way is better.
    pub(crate) fn arrow(self) -> char {
        match self {
            Self::TransactionsPerSecond | Self::LoginsPerSecond => '↑',
            Self::CpuPerTransaction
            | Self::InstructionsPerTransaction
            | Self::BytesPerIdleClient
            | Self::SlowestPercent
            | Self::Growth
            | Self::Scrape => '↓',
        }
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Effort {
    /// Rounds of each workload.
    pub(crate) rounds: u32,
    /// A load lasts at least this long,
    pub(crate) load_min: Duration,
    /// and until the pooler has used so many clock ticks, so that a tick more or less is nothing,
    pub(crate) ticks_min: u64,
    /// but no longer than this.
    pub(crate) load_max: Duration,
    /// Transactions whose instructions are counted.
    pub(crate) transactions_counted: u64,
}

impl Effort {
    /// For figures to be shown.
    pub(crate) fn full(rounds: u32) -> Self {
        Self {
            rounds,
            load_min: Duration::from_secs(2),
            ticks_min: 200,
            load_max: Duration::from_secs(15),
            transactions_counted: 10_000,
        }
    }

    /// For trying things.
    pub(crate) fn quick(rounds: u32) -> Self {
        Self {
            rounds,
            load_min: Duration::from_millis(500),
            ticks_min: 20,
            load_max: Duration::from_secs(4),
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

/// For `map_err`: what the pooler wrote before it failed.
fn with_log(pooler: &Pooler) -> impl FnOnce(Failure) -> Failure {
    const SHOWN: usize = 20;
    let log = pooler.log();
    let lines: Vec<_> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
    |failure| failure.logged(last)
}

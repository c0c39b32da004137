//! The quantities that are measured, and how they are called.

use serde::Serialize;

/// A quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Measure {
    /// CPU time of the pooler, in microseconds.
    CpuPerTransaction,
    /// That, to the same pooler's with extended queries.
    CpuToExtended,
    /// That, to the same program's with one worker.
    CpuToOneWorker,
    /// That, to the same pooler's before the idle ones came.
    CpuToAlone,
    /// That, to the same pooler's with as many clients as it serves best.
    CpuToPeak,
    /// As clients see it.
    TransactionsPerSecond,
    /// That, to the most that fewer clients reached.
    ToPeak,
    /// In user mode, by the pooler.
    InstructionsPerTransaction,
    /// Calls of the allocator, by the pooler.
    AllocationsPerTransaction,
    /// System calls of all kinds, by the pooler.
    CallsPerTransaction,
    /// Those of them that send to a socket.
    SendsPerTransaction,
    /// Resident in the pooler.
    BytesPerIdleClient,
    /// The same, while an answer waits that the client does not read.
    BytesPerStalledClient,
    /// In the kernel meanwhile, at all ends of all sockets.
    KernelBytesPerStalledClient,
    /// By how much the pooler then still grew, in KB.
    StalledGrowth,
    /// The wait that half of the transactions exceed, in microseconds.
    Median,
    /// The wait that one transaction in a hundred exceeds.
    Percent,
    /// The wait that one transaction in a thousand exceeds.
    Permille,
    /// The median, less that of a direct connection.
    MedianAdded,
    /// The 99th percentile, less that of a direct connection.
    PercentAdded,
    /// Transactions of who was served most, to those of who was served least.
    Unevenness,
    /// Of transactions of clients that are inside already, in microseconds.
    SlowestPercent,
    /// By how much that grows while others come.
    Growth,
    /// The longest wait of all, in milliseconds, while something happens,
    WorstMeanwhile,
    /// and before it.
    WorstBefore,
    /// Time for all metrics, in milliseconds.
    Scrape,
    /// As those who log in see it.
    LoginsPerSecond,
    /// Clients that were connected at the same time, and answered.
    ClientsServed,
    /// CPU of a process that has nothing to do, in percent of a core.
    CpuAtRest,
    /// How often one worker of it wakes up in a second.
    WakeUps,
    /// From the start to the first answer, in milliseconds.
    Start,
    /// For RELOAD, in milliseconds.
    Reload,
    /// CPU that it takes of a worker, in milliseconds.
    ReloadInWorker,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

impl Measure {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        self.words().0
    }

    /// What a value counts.
    pub(crate) fn unit(self) -> &'static str {
        self.words().1
    }

    /// Which way is better.
    pub(crate) fn better(self) -> Better {
        match self {
            Self::TransactionsPerSecond
            | Self::ToPeak
            | Self::LoginsPerSecond
            | Self::ClientsServed => Better::More,
            _ => Better::Less,
        }
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::CpuPerTransaction => ("CPU/txn", "µs CPU/txn"),
            Self::CpuToExtended => ("CPU to extended", "x, CPU/txn to extended"),
            Self::CpuToOneWorker => ("CPU to 1 worker", "x, CPU/txn to 1 worker"),
            Self::CpuToAlone => ("CPU to alone", "x, CPU/txn to alone"),
            Self::CpuToPeak => ("CPU to peak", "x, CPU/txn to that at the peak"),
            Self::TransactionsPerSecond => ("txn/s", "txn/s"),
            Self::ToPeak => ("txn/s to peak", "x, txn/s to peak"),
            Self::InstructionsPerTransaction => ("instructions/txn", "instructions/txn"),
            Self::AllocationsPerTransaction => ("allocations/txn", "allocations/txn"),
            Self::CallsPerTransaction => ("syscalls/txn", "syscalls/txn"),
            Self::SendsPerTransaction => ("sends/txn", "sends/txn"),
            Self::BytesPerIdleClient => ("bytes/client", "bytes/client"),
            Self::BytesPerStalledClient => ("bytes/stalled", "bytes/stalled client"),
            Self::KernelBytesPerStalledClient => {
                ("kernel/stalled", "kernel's bytes/stalled client")
            }
            Self::StalledGrowth => ("growth stalled", "KB grown in the next seconds"),
            Self::Median => ("p50", "µs, p50"),
            Self::Percent => ("p99", "µs, p99"),
            Self::Permille => ("p99.9", "µs, p99.9"),
            Self::MedianAdded => ("p50 added", "µs, p50 less direct"),
            Self::PercentAdded => ("p99 added", "µs, p99 less direct"),
            Self::Unevenness => ("most to least", "x, most to least served"),
            Self::SlowestPercent => ("p99 meanwhile", "µs, p99 meanwhile"),
            Self::Growth => ("p99 to before", "x, p99 to before"),
            Self::WorstMeanwhile => ("worst meanwhile", "ms, worst wait meanwhile"),
            Self::WorstBefore => ("worst before", "ms, worst wait before"),
            Self::Scrape => ("scrape", "ms for /metrics"),
            Self::LoginsPerSecond => ("logins/s", "logins/s"),
            Self::ClientsServed => ("clients", "clients served"),
            Self::CpuAtRest => ("CPU at rest", "% of a core at rest"),
            Self::WakeUps => ("wake-ups", "wake-ups/s a worker"),
            Self::Start => ("start", "ms to start"),
            Self::Reload => ("RELOAD", "ms for RELOAD"),
            Self::ReloadInWorker => ("RELOAD, worker", "ms of a worker for RELOAD"),
        }
    }
}

impl Better {
    /// As it stands in tables.
    pub(crate) fn arrow(self) -> char {
        match self {
            Self::Less => '↓',
            Self::More => '↑',
        }
    }

    /// What a figure must be to an aim.
    pub(crate) fn sign(self) -> char {
        match self {
            Self::Less => '≤',
            Self::More => '≥',
        }
    }
}

//! What is compared.

use std::fmt;

/// What clients talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A pooler before PostgreSQL.
    Pooler(Program),
    /// PostgreSQL itself.
    Direct,
}

/// A pooler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// What everything is compared with.
    PgBouncer,
    /// pgusher with so many workers.
    Pgusher {
        /// Its worker threads.
        workers: u8,
    },
}

impl Program {
    /// In the order of the rounds.
    pub(crate) const ALL: [Self; 3] = [
        Self::PgBouncer,
        Self::Pgusher { workers: 1 },
        Self::Pgusher { workers: 2 },
    ];

    /// The threads that serve its clients.
    pub(crate) fn workers(self) -> u8 {
        match self {
            Self::PgBouncer => 1,
            Self::Pgusher { workers } => workers,
        }
    }
}

impl Subject {
    /// What ratios are taken to.
    pub(crate) const BASE: Self = Self::Pooler(Program::PgBouncer);
    /// What it takes on one thread.
    pub(crate) const ONE_WORKER: Self = Self::Pooler(Program::Pgusher { workers: 1 });
    /// The same on two.
    pub(crate) const TWO_WORKERS: Self = Self::Pooler(Program::Pgusher { workers: 2 });

    /// In the order of the rounds, and of the columns.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let poolers = Program::ALL.into_iter().map(Self::Pooler);
        poolers.chain([Self::Direct])
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pooler(program) => program.fmt(f),
            Self::Direct => f.pad("direct"),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PgBouncer => f.pad("PgBouncer"),
            Self::Pgusher { workers: 1 } => f.pad("pgusher, 1 worker"),
            Self::Pgusher { workers } => f.pad(&format!("pgusher, {workers} workers")),
        }
    }
}

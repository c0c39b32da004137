//! Why the demo does not end well.

use std::{fmt, io};

use testkit::StartError;

/// Why the demo does not end well.
pub(crate) enum Failure {
    Usage(&'static str),
    Start(StartError),
    Login {
        client: usize,
        cause: tokio_postgres::Error,
    },
    Transactions {
        failed: u64,
        first: String,
    },
    Nothing {
        database: &'static str,
    },
    Lost {
        database: &'static str,
        committed: u64,
        found: i64,
    },
    LimitBroken {
        database: String,
        seen: i64,
        limit: i64,
    },
    Console(tokio_postgres::Error),
    Look(tokio_postgres::Error),
    Signal(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(usage) => f.write_str(usage),
            Self::Start(cause) => write!(f, "{cause}"),
            Self::Login { client, cause } => {
                write!(f, "client {client} could not log in: {}", in_full(cause))
            }
            Self::Transactions { failed, first } => {
                write!(f, "{failed} transactions failed, the first with: {first}")
            }
            Self::Nothing { database } => write!(f, "no transaction was done in {database}"),
            Self::Lost {
                database,
                committed,
                found,
            } => write!(
                f,
                "{committed} updates were committed in {database}, but PostgreSQL has {found}"
            ),
            Self::LimitBroken {
                database,
                seen,
                limit,
            } => write!(
                f,
                "PostgreSQL saw {seen} sessions in the pool of {database}; the limit is {limit}"
            ),
            Self::Console(cause) => write!(f, "the console: {}", in_full(cause)),
            Self::Look(cause) => write!(f, "looking into PostgreSQL: {}", in_full(cause)),
            Self::Signal(cause) => write!(f, "waiting for ^C: {cause}"),
        }
    }
}

/// The driver's own text says only "db error"; what the server said is its source.
pub(crate) fn in_full(error: &tokio_postgres::Error) -> String {
    error
        .as_db_error()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

//! Why there are no figures.

use std::{io, time::Duration};

use testkit::StartError;

use crate::workload::WORKLOADS;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Something below failed, and this is where.
    #[error("{place}: {cause}")]
    At {
        /// Workload, round, subject, client.
        place: String,
        /// What failed.
        cause: Box<Self>,
    },
    /// A pooler failed, and this is what it wrote.
    #[error("{cause}\n--- the last that the pooler wrote\n{log}")]
    Logged {
        /// What failed.
        cause: Box<Self>,
        /// Its last lines.
        log: String,
    },
    /// No workload of that name.
    #[error("no workload begins with {0:?}; there are: {all}", all = workload_names())]
    UnknownWorkload(String),
    /// A program is not there.
    #[error("{program} not found: {hint}")]
    Missing {
        /// What was looked for.
        program: String,
        /// What the reader may do about it.
        hint: &'static str,
    },
    /// The system refused something.
    #[error("{doing}: {cause}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        cause: io::Error,
    },
    /// A server did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A client was not let in.
    #[error("login: {0}")]
    Login(String),
    /// A client heard what it must not hear.
    #[error("wrong answer at byte {at}: expected {expected}, heard {heard}")]
    Wrong {
        /// How many bytes of the answer were right.
        at: u64,
        /// What should have followed.
        expected: String,
        /// What followed.
        heard: String,
    },
    /// The connection ended too early.
    #[error("closed after {at} bytes of the answer")]
    Closed {
        /// How many bytes of the answer were right.
        at: u64,
    },
    /// Not as many rows reached PostgreSQL as were copied in.
    #[error("{arrived} rows arrived in PostgreSQL, {sent} were sent")]
    RowsLost {
        /// What PostgreSQL counted.
        arrived: u64,
        /// What clients sent.
        sent: u64,
    },
    /// Not done, and nothing happens any more.
    #[error("not done within {0:?}")]
    Stuck(Duration),
    /// A file does not say what it should.
    #[error("{0}")]
    Unreadable(String),
}

impl Failure {
    /// For `map_err`: what was being done when the system refused.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |cause| Self::Io { doing, cause }
    }

    /// For `map_err`: a login by SCRAM that went wrong.
    pub(crate) fn scram(cause: io::Error) -> Self {
        Self::Login(format!("SCRAM: {cause}"))
    }

    /// The same failure, and what the pooler wrote.
    pub(crate) fn logged(self, log: String) -> Self {
        Self::Logged {
            cause: Box::new(self),
            log,
        }
    }

    /// The same failure, and where it happened.
    pub(crate) fn at(self, place: impl Into<String>) -> Self {
        Self::At {
            place: place.into(),
            cause: Box::new(self),
        }
    }
}

fn workload_names() -> String {
    let names: Vec<_> = WORKLOADS.iter().map(|it| it.name).collect();
    names.join(", ")
}

//! Why a server did not start.

use std::{error::Error, fmt, io, process::ExitStatus};

/// Why a server did not start.
#[derive(Debug)]
pub enum StartError {
    /// The program is not installed or not built.
    Missing {
        /// What was looked for.
        program: String,
        /// What the reader may do about it.
        hint: String,
    },
    /// A file, directory or process could not be made.
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        cause: io::Error,
    },
    /// It ended before it was ready.
    Exited {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// All that it wrote.
        log: String,
    },
    /// It runs, but does not answer.
    Silent {
        /// The program.
        program: String,
        /// All that it wrote.
        log: String,
    },
    /// The port asked for is taken.
    PortTaken(u16),
}

impl StartError {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |cause| Self::Io { doing, cause }
    }

    /// Somebody else took the port between our look and the server's bind.
    pub(crate) fn lost_its_port(&self) -> bool {
        matches!(self, Self::Exited { log, .. } if log.contains("Address already in use"))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { program, hint } => write!(f, "{program} not found: {hint}"),
            Self::Io { doing, cause } => write!(f, "{doing}: {cause}"),
            Self::Exited {
                program,
                status,
                log,
            } => {
                write!(f, "{program} ended ({status}) before it was ready:\n{log}")
            }
            Self::Silent { program, log } => write!(f, "{program} does not answer:\n{log}"),
            Self::PortTaken(port) => write!(f, "port {port} is taken"),
        }
    }
}

impl Error for StartError {}

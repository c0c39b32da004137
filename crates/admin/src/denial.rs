//! Why a request failed before it reached the pooler, and what the operator hears of it.

use wire::SqlState;

use crate::request::Refusal;

/// Why a message is answered with an error.
#[derive(Debug)]
pub(crate) enum Denial {
    /// What it says is no request that we know, or one that this session may not make.
    Refused(Refusal),
    /// The message is not built as the protocol has it.
    Malformed,
    /// A statement of this name is prepared already.
    StatementTaken(Vec<u8>),
    /// No statement of this name is prepared.
    UnknownStatement(Vec<u8>),
    /// A portal of this name is there already.
    PortalTaken(Vec<u8>),
    /// No portal of this name is there.
    UnknownPortal(Vec<u8>),
    /// The portal's command has been carried out.
    PortalDone(Vec<u8>),
    /// A name is longer than we keep.
    NameTooLong,
    /// The session has as many statements or portals as we keep.
    TooMany(&'static str),
    /// Bind brings another number of parameters than the statement has.
    ParameterCount {
        /// How many it brings.
        given: usize,
        /// How many there are.
        expected: usize,
    },
    /// Bind names formats for another number of columns than there are.
    FormatCount {
        /// How many it names.
        given: usize,
        /// How many columns there are.
        columns: usize,
    },
    /// The parameter is NULL.
    Null,
    /// The parameter's bytes are no value of its type that we can read.
    Unreadable,
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Denial {
    /// PgBouncer's code for what it refuses too, PostgreSQL's for the rest.
    pub(crate) fn sqlstate(&self) -> SqlState {
        match self {
            Self::Refused(_)
            | Self::Malformed
            | Self::ParameterCount { .. }
            | Self::FormatCount { .. } => SqlState::PROTOCOL_VIOLATION,
            Self::StatementTaken(_) => SqlState::NAME_TAKEN,
            Self::UnknownStatement(_) => SqlState::UNKNOWN_STATEMENT,
            Self::PortalTaken(_) => SqlState::PORTAL_TAKEN,
            Self::UnknownPortal(_) => SqlState::UNKNOWN_PORTAL,
            Self::PortalDone(_) => SqlState::PORTAL_DONE,
            Self::NameTooLong | Self::TooMany(_) => SqlState::LIMIT_EXCEEDED,
            Self::Null => SqlState::NULL_NOT_ALLOWED,
            Self::Unreadable => SqlState::INVALID_VALUE,
        }
    }

    /// What the operator is told.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.message(),
            Self::Malformed => "invalid message format".to_owned(),
            Self::StatementTaken(name) => {
                format!("prepared statement {} already exists", quoted(name))
            }
            Self::UnknownStatement(name) if name.is_empty() => {
                "unnamed prepared statement does not exist".to_owned()
            }
            Self::UnknownStatement(name) => {
                format!("prepared statement {} does not exist", quoted(name))
            }
            Self::PortalTaken(name) => format!("cursor {} already exists", quoted(name)),
            Self::UnknownPortal(name) => format!("portal {} does not exist", quoted(name)),
            Self::PortalDone(name) => format!("portal {} cannot be run", quoted(name)),
            Self::NameTooLong => "name too long".to_owned(),
            Self::TooMany(things) => format!("too many {things} at the admin console"),
            Self::ParameterCount { given, expected } => format!(
                "bind message supplies {given} parameters, but prepared statement requires \
                 {expected}"
            ),
            Self::FormatCount { given, columns } => {
                format!("bind message has {given} result formats but query has {columns} columns")
            }
            Self::Null => "the parameter must not be NULL".to_owned(),
            Self::Unreadable => {
                "the parameter can't be read; text and integers are understood".to_owned()
            }
        }
    }
}

fn quoted(name: &[u8]) -> String {
    format!("\"{}\"", String::from_utf8_lossy(name))
}

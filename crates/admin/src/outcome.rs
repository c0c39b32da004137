//! How a command went, and what the operator hears of it.

use settings::CONSOLE_DATABASE;
use wire::backend::put_complete;
use wire::error::{put_error, put_notice};
use wire::{Severity, SqlState};

use crate::command::Command;
use crate::table::Table;

/// How a command went.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It is done, but what is asked of TLS can't be had: that stays as it was.
    DoneButTlsStays,
    /// The table that SHOW asked for.
    Table(Table),
    /// It failed.
    Failed(CommandError),
}

/// Why a command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandError {
    /// The configuration has no database of that name.
    NoSuchDatabase,
    /// The command is not for the console's own database.
    ConsoleDatabase,
    /// PAUSE or KILL while paused or suspended.
    AlreadyPaused,
    /// SUSPEND while a database is paused by itself.
    PausedDatabases,
    /// RESUME of what runs: all of it, or the database that the command names.
    NotPaused,
    /// RESUME or SUSPEND during a shutdown.
    ShuttingDown,
    /// There is no such setting, or it takes no such value.
    SetFailed,
    /// The configuration can't be read; nothing has changed.
    ReloadFailed,
    /// The configuration can't be compared with a file that can't be read.
    FileUnreadable,
    /// No client has that id.
    ClientNotFound,
    /// The operator no longer wants to wait for it.
    Canceled,
}

/// Appends how a command went; a table is told row by row, by its portal.
pub(crate) fn put_told(out: &mut Vec<u8>, command: &Command, outcome: &Outcome) {
    match outcome {
        Outcome::Done => put_complete(out, &command.tag()),
        Outcome::DoneButTlsStays => {
            let notice = "TLS settings could not be applied, still using old configuration";
            put_notice(out, SqlState::SUCCESS, notice, None);
            put_complete(out, &command.tag());
        }
        Outcome::Table(_) => {}
        Outcome::Failed(error) => {
            let message = error.message(command);
            put_error(out, Severity::Error, error.sqlstate(), &message);
        }
    }
}

impl CommandError {
    /// What the operator is told, at the console or, after a signal, in the log.
    pub fn message(self, command: &Command) -> String {
        match self {
            Self::NoSuchDatabase => {
                format!(
                    "no such database: {}",
                    command.database().unwrap_or_default()
                )
            }
            Self::ConsoleDatabase => {
                format!("cannot {} admin db: {CONSOLE_DATABASE}", deed(command))
            }
            Self::AlreadyPaused => "already suspended/paused".to_owned(),
            Self::PausedDatabases => "cannot suspend with paused databases".to_owned(),
            Self::NotPaused => match command.database() {
                Some(database) => format!("database {database} is not paused"),
                None => "pooler is not paused/suspended".to_owned(),
            },
            Self::ShuttingDown => "pooler is shutting down".to_owned(),
            Self::SetFailed => "SET failed".to_owned(),
            Self::ReloadFailed => "RELOAD failed, see logs for additional details".to_owned(),
            Self::FileUnreadable => {
                "the configuration can't be read, see logs for additional details".to_owned()
            }
            Self::ClientNotFound => "client not found".to_owned(),
            Self::Canceled => "canceling statement due to user request".to_owned(),
        }
    }

    fn sqlstate(self) -> SqlState {
        match self {
            Self::ReloadFailed | Self::FileUnreadable => SqlState::CONFIG_FILE_ERROR,
            Self::Canceled => SqlState::QUERY_CANCELED,
            _ => SqlState::PROTOCOL_VIOLATION,
        }
    }
}

/// What can't be done to the console's database. ENABLE says `disable`, as PgBouncer does.
fn deed(command: &Command) -> String {
    match command {
        Command::Enable(_) => "disable".to_owned(),
        Command::WaitClose(_) => "wait in".to_owned(),
        other => other.tag().to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests;

//! What an operator can ask of the pooler; signals ask for the same.

use std::borrow::Cow;

use crate::show::Show;

/// An order to the pooler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Draw a table.
    Show(Show),
    /// Change a setting until the next RELOAD.
    Set {
        /// The setting's key.
        key: String,
        /// Its new value.
        value: String,
    },
    /// Read the configuration again.
    Reload,
    /// Take the servers from all databases or from one, each as soon as its client lets go.
    Pause(Option<String>),
    /// Stop where everybody stands, until nothing is on its way any more.
    Suspend,
    /// End what PAUSE, SUSPEND or KILL began.
    Resume(Option<String>),
    /// Refuse new clients of a database.
    Disable(String),
    /// Admit them again.
    Enable(String),
    /// Replace servers, each as soon as its client lets go.
    Reconnect(Option<String>),
    /// Drop all clients and servers, and leave their databases paused.
    Kill(Option<String>),
    /// Drop the client of this id.
    KillClient(u64),
    /// Wait until those servers are gone that RECONNECT or RELOAD found outdated.
    WaitClose(Option<String>),
    /// End the process.
    Shutdown(ShutdownKind),
}

/// What a shutdown waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownKind {
    /// Nothing.
    Immediate,
    /// Until no client has a server.
    WaitForServers,
    /// Until the last client has left.
    WaitForClients,
}

/// What a console session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privilege {
    /// Look: `stats_users`.
    Stats,
    /// Everything: `admin_users`, and our own uid on the unix socket.
    Admin,
}

impl Command {
    /// What a session needs to run it.
    pub fn privilege(&self) -> Privilege {
        match self {
            Self::Show(Show::Fds) => Privilege::Admin,
            Self::Show(_) => Privilege::Stats,
            _ => Privilege::Admin,
        }
    }

    /// The command tag of its success.
    pub fn tag(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Set { key, value } => return Cow::Owned(format!("SET {key}={value}")),
            Self::Show(_) => "SHOW",
            Self::Reload => "RELOAD",
            Self::Pause(_) => "PAUSE",
            Self::Suspend => "SUSPEND",
            Self::Resume(_) => "RESUME",
            Self::Disable(_) => "DISABLE",
            Self::Enable(_) => "ENABLE",
            Self::Reconnect(_) => "RECONNECT",
            Self::Kill(_) => "KILL",
            Self::KillClient(_) => "KILL_CLIENT",
            Self::WaitClose(_) => "WAIT_CLOSE",
            Self::Shutdown(_) => "SHUTDOWN",
        })
    }

    /// The database it names.
    pub fn database(&self) -> Option<&str> {
        match self {
            Self::Disable(database) | Self::Enable(database) => Some(database),
            Self::Pause(database)
            | Self::Resume(database)
            | Self::Reconnect(database)
            | Self::Kill(database)
            | Self::WaitClose(database) => database.as_deref(),
            _ => None,
        }
    }
}

//! From a query's words to what it asks for: the names of commands, and who may say them.

use wire::binary::oid;

use crate::command::{Command, Privilege, ShutdownKind};
use crate::parse::{ARGUMENT_LEN_MAX, ParseError, Statement, VALUE_LEN_MAX, Word, parse};
use crate::pretended::Pretended;
use crate::show::{Topic, version_table};
use crate::table::Table;

/// What a query asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// SHOW HELP.
    Help,
    /// SHOW VERSION.
    Version,
    /// SHOW of a parameter that only drivers care for.
    ShowPretended(Pretended),
    /// SET of one.
    SetPretended,
    /// Something that the pooler has to do.
    Run(Command),
    /// Nothing; only the extended protocol has that.
    Nothing,
}

impl Request {
    /// Reads a query for a session of this privilege.
    pub(crate) fn read(query: &str, privilege: Privilege) -> Result<Self, Refusal> {
        match Template::read(query, privilege)? {
            Template::Whole(request) => Ok(request),
            Template::Argument { .. } | Template::Value { .. } => Err(Refusal::unknown(query)),
        }
    }

    /// The same request, if a session of this privilege may make it, and as it may see it.
    fn permitted(request: Result<Self, Refusal>, privilege: Privilege) -> Result<Self, Refusal> {
        // Only admins are told how an admin's command is used.
        let for_admins = match &request {
            Ok(Self::Run(command)) => command.privilege() == Privilege::Admin,
            Err(Refusal::DatabaseRequired | Refusal::BadClientId) => true,
            Ok(_) | Err(_) => false,
        };
        if for_admins && privilege < Privilege::Admin {
            return Err(Refusal::AdminNeeded);
        }
        request.map(|request| match request {
            Self::Run(Command::Show(show)) => Self::Run(Command::Show(show.seen_by(privilege))),
            other => other,
        })
    }

    /// Its result's columns; `None` if it returns no rows.
    pub(crate) fn columns(&self) -> Option<Table> {
        match self {
            Self::Run(Command::Show(show)) => Some(show.header()),
            Self::Run(_) | Self::Help | Self::SetPretended | Self::Nothing => None,
            Self::Version => Some(version_table()),
            Self::ShowPretended(parameter) => Some(parameter.table()),
        }
    }

    fn set(key: &str, value: &str) -> Self {
        match Pretended::named(key) {
            Some(_) => Self::SetPretended,
            None => Self::Run(Command::Set {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
        }
    }

    fn command(word: &str, argument: Option<&str>) -> Result<Self, Misuse> {
        // SELECT, so that `select version` works for those who think they talk to a server.
        if word.eq_ignore_ascii_case("SHOW") || word.eq_ignore_ascii_case("SELECT") {
            return argument.and_then(Self::show).ok_or(Misuse::NoSuchForm);
        }
        let verb = Verb::named(word).ok_or(Misuse::NoSuchForm)?;
        (verb.read)(argument.map(str::to_owned)).map(Self::Run)
    }

    fn show(name: &str) -> Option<Self> {
        match Topic::named(name) {
            Some(Topic::Help) => Some(Self::Help),
            Some(Topic::Version) => Some(Self::Version),
            Some(Topic::Table(show)) => Some(Self::Run(Command::Show(show))),
            None => Pretended::named(name).map(Self::ShowPretended),
        }
    }
}

/// What a query asks for, once its parameter is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Template {
    /// It has none.
    Whole(Request),
    /// A command about `$1`.
    Argument {
        /// The command's name.
        verb: String,
    },
    /// `SET key = $1`.
    Value {
        /// What is to be set.
        key: String,
    },
}

impl Template {
    /// Reads a query for a session of this privilege.
    pub(crate) fn read(query: &str, privilege: Privilege) -> Result<Self, Refusal> {
        let request = match parse(query) {
            Err(ParseError::Grammar) => Err(Refusal::unknown(query)),
            Err(ParseError::TooLong) => Err(Refusal::TooLong),
            Ok(Statement::Assignment { key, value }) => match value {
                Word::Said(value) => Ok(Request::set(&key, &value)),
                Word::Parameter if privilege < Privilege::Admin => {
                    return Err(Refusal::AdminNeeded);
                }
                Word::Parameter => {
                    let key = key.into_owned();
                    return Ok(Self::Value { key });
                }
            },
            Ok(Statement::Command { verb, argument }) => match argument {
                None => Request::command(&verb, None).map_err(|misuse| misuse.of(query)),
                Some(Word::Said(argument)) => {
                    let request = Request::command(&verb, Some(&argument));
                    request.map_err(|misuse| misuse.of(query))
                }
                Some(Word::Parameter) => return Self::about(&verb, query, privilege),
            },
        };
        Request::permitted(request, privilege).map(Self::Whole)
    }

    /// A command of which only the parameter is missing. What SHOW returns depends on its topic,
    /// so that can't be one.
    fn about(verb: &str, query: &str, privilege: Privilege) -> Result<Self, Refusal> {
        match Verb::named(verb) {
            None => Err(Refusal::unknown(query)),
            Some(_) if privilege < Privilege::Admin => Err(Refusal::AdminNeeded),
            Some(verb) => Ok(Self::Argument {
                verb: verb.word.to_owned(),
            }),
        }
    }

    /// The OID of its parameter's type, if it has one.
    pub(crate) fn parameter(&self) -> Option<u32> {
        match self {
            Self::Whole(_) => None,
            Self::Argument { verb } if verb == KILL_CLIENT => Some(oid::INT8),
            Self::Argument { .. } | Self::Value { .. } => Some(oid::TEXT),
        }
    }

    /// The request with this parameter.
    pub(crate) fn with(&self, value: &str, privilege: Privilege) -> Result<Request, Refusal> {
        let request = match self {
            Self::Whole(request) => return Ok(request.clone()),
            Self::Value { .. } if value.len() > VALUE_LEN_MAX => Err(Refusal::TooLong),
            Self::Argument { .. } if value.len() > ARGUMENT_LEN_MAX => Err(Refusal::TooLong),
            Self::Value { key } => Ok(Request::set(key, value)),
            Self::Argument { verb } => Request::command(verb, Some(value))
                .map_err(|misuse| misuse.of(&format!("{verb} {value}"))),
        };
        Request::permitted(request, privilege)
    }

    /// Its result's columns; `None` if it returns no rows.
    pub(crate) fn columns(&self) -> Option<Table> {
        match self {
            Self::Whole(request) => request.columns(),
            Self::Argument { .. } | Self::Value { .. } => None,
        }
    }
}

/// Why a query asks for nothing that we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No such command.
    Unknown {
        /// The whole query.
        query: String,
    },
    /// A word is too long.
    TooLong,
    /// An admin's command.
    AdminNeeded,
    /// The command is about one database, and it names none.
    DatabaseRequired,
    /// The argument of KILL_CLIENT is no id.
    BadClientId,
}

impl Refusal {
    fn unknown(query: &str) -> Self {
        let query = query.to_owned();
        Self::Unknown { query }
    }

    /// What the operator is told.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Unknown { query } => format!("invalid command '{query}', use SHOW HELP;"),
            Self::TooLong => "bad arguments".to_owned(),
            Self::AdminNeeded => "admin access needed".to_owned(),
            Self::DatabaseRequired => "a database is required".to_owned(),
            Self::BadClientId => "invalid client pointer supplied".to_owned(),
        }
    }
}

/// A command's name, its line in SHOW HELP, and how to read its argument.
struct Verb {
    word: &'static str,
    usage: &'static str,
    read: fn(Option<String>) -> Result<Command, Misuse>,
}

impl Verb {
    fn named(word: &str) -> Option<&'static Self> {
        let mut verbs = VERBS.iter();
        verbs.find(|verb| verb.word.eq_ignore_ascii_case(word))
    }
}

/// What can be wrong with an argument.
enum Misuse {
    /// The command has no such form.
    NoSuchForm,
    /// It takes a database.
    DatabaseRequired,
    /// It takes an id.
    BadClientId,
}

impl Misuse {
    fn of(self, query: &str) -> Refusal {
        match self {
            Self::NoSuchForm => Refusal::unknown(query),
            Self::DatabaseRequired => Refusal::DatabaseRequired,
            Self::BadClientId => Refusal::BadClientId,
        }
    }
}

/// The one command about a number.
const KILL_CLIENT: &str = "KILL_CLIENT";

/// Every command but SHOW and SET, in the order of SHOW HELP.
const VERBS: [Verb; 11] = [
    verb("RELOAD", "RELOAD", |argument| {
        alone(argument, Command::Reload)
    }),
    verb("PAUSE", "PAUSE [<db>]", |db| Ok(Command::Pause(db))),
    verb("RESUME", "RESUME [<db>]", |db| Ok(Command::Resume(db))),
    verb("DISABLE", "DISABLE <db>", |db| {
        required(db).map(Command::Disable)
    }),
    verb("ENABLE", "ENABLE <db>", |db| {
        required(db).map(Command::Enable)
    }),
    verb("RECONNECT", "RECONNECT [<db>]", |db| {
        Ok(Command::Reconnect(db))
    }),
    verb("KILL", "KILL [<db>]", |db| Ok(Command::Kill(db))),
    verb(KILL_CLIENT, "KILL_CLIENT <client_id>", |id| {
        client_id(id).map(Command::KillClient)
    }),
    verb("SUSPEND", "SUSPEND", |argument| {
        alone(argument, Command::Suspend)
    }),
    verb(
        "SHUTDOWN",
        "SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]",
        |kind| shutdown(kind).map(Command::Shutdown),
    ),
    verb("WAIT_CLOSE", "WAIT_CLOSE [<db>]", |db| {
        Ok(Command::WaitClose(db))
    }),
];

const fn verb(
    word: &'static str,
    usage: &'static str,
    read: fn(Option<String>) -> Result<Command, Misuse>,
) -> Verb {
    Verb { word, usage, read }
}

/// The lines of SHOW HELP.
pub(crate) fn usage() -> String {
    let mut usage = String::new();
    let lines = Topic::usage()
        .chain(["SET key = arg".to_owned()])
        .chain(VERBS.iter().map(|verb| verb.usage.to_owned()));
    for line in lines {
        usage.push_str("\n\t");
        usage.push_str(&line);
    }
    usage
}

fn alone(argument: Option<String>, command: Command) -> Result<Command, Misuse> {
    match argument {
        None => Ok(command),
        Some(_) => Err(Misuse::NoSuchForm),
    }
}

fn required(database: Option<String>) -> Result<String, Misuse> {
    database.ok_or(Misuse::DatabaseRequired)
}

fn client_id(id: Option<String>) -> Result<u64, Misuse> {
    id.and_then(|id| id.parse().ok()).ok_or(Misuse::BadClientId)
}

fn shutdown(kind: Option<String>) -> Result<ShutdownKind, Misuse> {
    match kind.map(|word| word.to_ascii_uppercase()).as_deref() {
        None => Ok(ShutdownKind::Immediate),
        Some("WAIT_FOR_SERVERS") => Ok(ShutdownKind::WaitForServers),
        Some("WAIT_FOR_CLIENTS") => Ok(ShutdownKind::WaitForClients),
        Some(_) => Err(Misuse::NoSuchForm),
    }
}

#[cfg(test)]
mod tests;

//! The pure half of a console session: what was said, and what is replied.

use wire::backend::{put_complete, put_key, put_parameter, put_ready};
use wire::error::{put_error, put_notice};
use wire::extended::{Extended, Formats, Sign, Target, put_parameter_types, put_sign};
use wire::{CancelKey, Severity, SqlState};

use crate::command::{Command, Privilege};
use crate::denial::Denial;
use crate::outcome::{Outcome, put_told};
use crate::portal::{Portal, Prepared, Progress, Shelf, put_columns};
use crate::request::{Request, usage};
use crate::show::{SERVER_VERSION, version_table};
use crate::table::Table;

/// Told to everybody who logs in; what we track of the client comes after them.
const PARAMETERS: [(&str, &str); 7] = [
    ("server_version", SERVER_VERSION),
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("TimeZone", "GMT"),
    ("standard_conforming_strings", "on"),
    ("is_superuser", "on"),
];

/// Most statements and portals that a session may have.
const STATEMENTS_MAX: usize = 1000;
const PORTALS_MAX: usize = 16;

/// Rows that are written at once, between which others have their turn.
const ROWS_AT_ONCE: usize = 100;

/// One session at the console.
#[derive(Debug)]
pub struct Console {
    privilege: Privilege,
    statements: Shelf<Prepared>,
    portals: Shelf<Portal>,
    phase: Phase,
}

/// Where in a request the session is.
#[derive(Debug)]
enum Phase {
    /// Between two.
    AtRest,
    /// In one of the extended protocol, which a Sync will end.
    Open,
    /// In one that has failed: everything is skipped up to the Sync.
    Skipping,
    /// The pooler carries out what a portal asks for.
    Asked(Run),
    /// A portal's rows are being told.
    Telling(Run),
}

/// A portal that runs.
#[derive(Debug)]
struct Run {
    portal: Vec<u8>,
    /// Rows that may still be told; `None`: all.
    rows_left: Option<usize>,
    by: By,
}

/// What a portal runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// A Query, which its result is described to and which it ends.
    Query,
    /// An Execute.
    Execute,
}

/// What a message leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Send this, and what [`Console::rest`] adds to it.
    Reply(Vec<u8>),
    /// Have this carried out, and tell [`Console::on_outcome`] how it went.
    Run(Command),
    /// Send these last words, and end the session.
    Leave(Vec<u8>),
    /// The operator ends the session.
    Terminate,
}

impl Console {
    /// A session of somebody who may do this much.
    pub fn new(privilege: Privilege) -> Self {
        Self {
            privilege,
            statements: Shelf::new("prepared statements", STATEMENTS_MAX),
            portals: Shelf::new("portals", PORTALS_MAX),
            phase: Phase::AtRest,
        }
    }

    /// What follows AuthenticationOk: our parameters, then `tracked` ones that the client set.
    pub fn welcome<'a>(
        tracked: impl IntoIterator<Item = (&'a str, &'a str)>,
        key: &CancelKey,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in PARAMETERS.into_iter().chain(tracked) {
            put_parameter(&mut out, name, value);
        }
        put_key(&mut out, key);
        put_ready(&mut out);
        out
    }

    /// True between two requests.
    pub fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::AtRest)
    }

    /// Reacts to a message.
    pub fn on_message(&mut self, tag: u8, body: &[u8]) -> Reaction {
        if matches!(self.phase, Phase::Skipping) && !matches!(tag, b'S' | b'X') {
            return Reaction::Reply(Vec::new());
        }
        match tag {
            b'Q' => self.on_query(body),
            b'X' => Reaction::Terminate,
            _ => match Extended::read(tag, body) {
                Ok(Some(Extended::Sync)) => self.on_sync(),
                Ok(Some(message)) => {
                    self.phase = Phase::Open;
                    let reaction = self.on_extended(message);
                    reaction.unwrap_or_else(|denial| self.deny(&denial))
                }
                Ok(None) => Reaction::Leave(farewell(tag)),
                Err(_) => self.deny(&Denial::Malformed),
            },
        }
    }

    fn on_query(&mut self, body: &[u8]) -> Reaction {
        let text = String::from_utf8_lossy(body.strip_suffix(&[0]).unwrap_or(body));
        // As in PostgreSQL, it takes the place of what has no name, and ends the portals.
        self.statements.remove(b"");
        self.portals.clear();
        let request = Request::read(&text, self.privilege).map_err(Denial::from);
        let run = request.and_then(|request| {
            let portal = Portal::new(request, Formats::default());
            self.portals.add(b"", portal, Denial::PortalTaken)?;
            self.run(Run {
                portal: Vec::new(),
                rows_left: None,
                by: By::Query,
            })
        });
        run.unwrap_or_else(|denial| {
            let mut out = Vec::new();
            put_denial(&mut out, &denial);
            self.end_request(&mut out);
            Reaction::Reply(out)
        })
    }

    fn on_sync(&mut self) -> Reaction {
        let mut out = Vec::new();
        self.end_request(&mut out);
        Reaction::Reply(out)
    }

    /// There are no transactions here, so no portal outlives its request.
    fn end_request(&mut self, out: &mut Vec<u8>) {
        self.portals.clear();
        self.phase = Phase::AtRest;
        put_ready(out);
    }

    fn on_extended(&mut self, message: Extended<'_>) -> Result<Reaction, Denial> {
        let mut out = Vec::new();
        match message {
            Extended::Parse { name, query, types } => {
                let query = String::from_utf8_lossy(query);
                let prepared = Prepared::new(&query, &types, self.privilege)?;
                self.statements
                    .add(name, prepared, Denial::StatementTaken)?;
                put_sign(&mut out, Sign::Parsed);
            }
            Extended::Bind {
                portal,
                statement,
                formats,
                values,
                results,
            } => {
                let prepared = self.statement(statement)?;
                let bound = prepared.bind((&formats, &values), results, self.privilege)?;
                self.portals.add(portal, bound, Denial::PortalTaken)?;
                put_sign(&mut out, Sign::Bound);
            }
            Extended::Describe(Target::Statement(name)) => {
                let prepared = self.statement(name)?;
                put_parameter_types(&mut out, prepared.types());
                put_columns(&mut out, prepared.columns(), &Formats::default());
            }
            Extended::Describe(Target::Portal(name)) => self.portal(name)?.describe(&mut out),
            Extended::Execute { portal, rows_max } => {
                return self.run(Run {
                    portal: portal.to_owned(),
                    rows_left: rows_max,
                    by: By::Execute,
                });
            }
            Extended::Close(target) => {
                match target {
                    Target::Statement(name) => self.statements.remove(name),
                    Target::Portal(name) => self.portals.remove(name),
                }
                put_sign(&mut out, Sign::Closed);
            }
            // Nothing is kept back.
            Extended::Flush | Extended::Sync => {}
        }
        Ok(Reaction::Reply(out))
    }

    fn statement(&self, name: &[u8]) -> Result<&Prepared, Denial> {
        let unknown = || Denial::UnknownStatement(name.to_owned());
        self.statements.get(name).ok_or_else(unknown)
    }

    fn portal(&self, name: &[u8]) -> Result<&Portal, Denial> {
        let unknown = || Denial::UnknownPortal(name.to_owned());
        self.portals.get(name).ok_or_else(unknown)
    }

    /// Has a portal do what it asks for, or go on with it.
    fn run(&mut self, run: Run) -> Result<Reaction, Denial> {
        let portal = self.portal(&run.portal)?;
        match portal.progress {
            Progress::Fresh => {}
            Progress::Rows(..) => {
                self.phase = Phase::Telling(run);
                return Ok(Reaction::Reply(Vec::new()));
            }
            Progress::Done => return Err(Denial::PortalDone(run.portal)),
        }
        let mut out = Vec::new();
        match portal.request.clone() {
            Request::Run(command) => {
                self.phase = Phase::Asked(run);
                return Ok(Reaction::Run(command));
            }
            Request::Version => self.tell(&mut out, run, version_table()),
            Request::ShowPretended(parameter) => self.tell(&mut out, run, parameter.table()),
            Request::Help => {
                put_notice(&mut out, SqlState::SUCCESS, "Console usage", Some(&usage()));
                put_complete(&mut out, "SHOW");
                self.told(&mut out, &run);
            }
            Request::SetPretended => {
                put_notice(&mut out, SqlState::SUCCESS, "SET ignored", None);
                put_complete(&mut out, "SET");
                self.told(&mut out, &run);
            }
            Request::Nothing => {
                put_sign(&mut out, Sign::Empty);
                self.told(&mut out, &run);
            }
        }
        Ok(Reaction::Reply(out))
    }

    /// Words how a command went that [`Reaction::Run`] asked for.
    pub fn on_outcome(&mut self, outcome: Outcome) -> Vec<u8> {
        let mut out = Vec::new();
        let run = match std::mem::replace(&mut self.phase, Phase::Open) {
            Phase::Asked(run) => run,
            other => {
                self.phase = other;
                return out;
            }
        };
        let portal = self.portals.get(&run.portal);
        let Some(Request::Run(command)) = portal.map(|portal| &portal.request) else {
            return out;
        };
        let failed = matches!(outcome, Outcome::Failed(_));
        match outcome {
            Outcome::Table(table) => {
                self.tell(&mut out, run, table);
                return out;
            }
            told => put_told(&mut out, command, &told),
        }
        self.told(&mut out, &run);
        if failed && run.by == By::Execute {
            self.phase = Phase::Skipping;
        }
        out
    }

    /// Begins with the rows of a table.
    fn tell(&mut self, out: &mut Vec<u8>, run: Run, table: Table) {
        if let Some(portal) = self.portals.get_mut(&run.portal) {
            portal.progress = Progress::Rows(table, 0);
            if run.by == By::Query {
                portal.describe(out);
            }
        }
        self.phase = Phase::Telling(run);
    }

    /// The next part of what is to be sent; `None` if that was all.
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        let Phase::Telling(run) = &mut self.phase else {
            return None;
        };
        let portal = self.portals.get_mut(&run.portal)?;
        let mut out = Vec::new();
        let count_max = run.rows_left.unwrap_or(ROWS_AT_ONCE).min(ROWS_AT_ONCE);
        let count = portal.put_rows(&mut out, count_max);
        if let Some(left) = &mut run.rows_left {
            *left -= count;
        }
        let suspended = run.rows_left == Some(0);
        if !suspended && !portal.is_told() {
            return Some(out);
        }
        if suspended {
            put_sign(&mut out, Sign::Suspended);
        } else {
            put_complete(&mut out, "SHOW");
        }
        match run.by {
            By::Query => self.end_request(&mut out),
            By::Execute => self.phase = Phase::Open,
        }
        Some(out)
    }

    /// A portal without rows has run.
    fn told(&mut self, out: &mut Vec<u8>, run: &Run) {
        match run.by {
            By::Query => self.end_request(out),
            By::Execute => {
                if let Some(portal) = self.portals.get_mut(&run.portal) {
                    portal.progress = Progress::Done;
                }
                self.phase = Phase::Open;
            }
        }
    }

    fn deny(&mut self, denial: &Denial) -> Reaction {
        let mut out = Vec::new();
        put_denial(&mut out, denial);
        self.phase = Phase::Skipping;
        Reaction::Reply(out)
    }

    /// The last words to an operator whose session is ended from elsewhere.
    pub fn killed(reason: &str) -> Vec<u8> {
        fatal(reason)
    }
}

/// The last words to a client that sent what has no place at the console.
fn farewell(tag: u8) -> Vec<u8> {
    let mut out = match tag {
        b'F' | b'd' | b'c' | b'f' => {
            let mut out = Vec::new();
            let message = format!("unsupported packet type for admin console: {tag}");
            put_violation(&mut out, Severity::Error, &message);
            put_ready(&mut out);
            out
        }
        _ => return fatal("unknown pkt"),
    };
    out.extend(fatal("bad packet"));
    out
}

fn put_denial(out: &mut Vec<u8>, denial: &Denial) {
    put_error(out, Severity::Error, denial.sqlstate(), &denial.message());
}

fn fatal(message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_violation(&mut out, Severity::Fatal, message);
    out
}

fn put_violation(out: &mut Vec<u8>, severity: Severity, message: &str) {
    put_error(out, severity, SqlState::PROTOCOL_VIOLATION, message);
}

#[cfg(test)]
mod tests;

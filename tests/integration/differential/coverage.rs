//! What the scripts have tried: how often each kind of message was said and heard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use testkit::{Message, Side};

use super::answers::Answers;
use super::differences::Difference;
use super::script::{Script, statement_of};

/// What clients say.
const SAID: [&str; 17] = [
    "Query",
    "Parse",
    "Parse by name",
    "Bind",
    "Bind by name",
    "Describe statement",
    "Describe statement by name",
    "Describe portal",
    "Execute",
    "Close statement",
    "Close statement by name",
    "Close portal",
    "Flush",
    "Sync",
    "FunctionCall",
    "CopyData",
    "CopyDone",
];

/// What servers say; but notifications, since a client that listens needs a session.
const HEARD: [&str; 20] = [
    "ParseComplete",
    "BindComplete",
    "CloseComplete",
    "ParameterDescription",
    "RowDescription",
    "NoData",
    "DataRow",
    "CommandComplete",
    "EmptyQueryResponse",
    "PortalSuspended",
    "ErrorResponse",
    "NoticeResponse",
    "ParameterStatus",
    "FunctionCallResponse",
    "CopyInResponse",
    "CopyOutResponse",
    "CopyData",
    "ReadyForQuery idle",
    "ReadyForQuery in transaction",
    "ReadyForQuery in failed transaction",
];

/// Sums over many scripts.
#[derive(Default)]
pub(super) struct Coverage {
    pub(super) scripts: usize,
    /// Those in which PostgreSQL tells an error.
    pub(super) with_errors: usize,
    said: BTreeMap<String, usize>,
    heard: BTreeMap<String, usize>,
    /// Errors by their SQLSTATE.
    errors: BTreeMap<String, usize>,
    differences: BTreeMap<&'static str, usize>,
    /// The servers that each lane has met, by the pooler's database.
    servers: BTreeMap<&'static str, BTreeMap<usize, BTreeSet<String>>>,
}

impl Coverage {
    /// Notes a script, without what all scripts end with, and how PostgreSQL answered.
    pub(super) fn note(&mut self, script: &Script, heard: &[Message], answers: &Answers) {
        self.scripts += 1;
        for step in &script.steps {
            *self.said.entry(kind(&step.say)).or_default() += 1;
        }
        let own = |answer: &usize| answers.owner(*answer) < Some(script.steps.len());
        let heard: Vec<_> = (0..heard.len()).filter(own).map(|at| &heard[at]).collect();
        let failed = heard.iter().any(|message| message.tag == b'E');
        self.with_errors += usize::from(failed);
        for message in heard {
            *self.heard.entry(kind(message)).or_default() += 1;
            if let Some(error) = message.error_fields().filter(|_| message.tag == b'E') {
                *self.errors.entry(error.code().to_owned()).or_default() += 1;
            }
        }
    }

    pub(super) fn note_differences(&mut self, found: &[&'static Difference]) {
        for difference in found {
            *self.differences.entry(difference.what).or_default() += 1;
        }
    }

    pub(super) fn note_servers(
        &mut self,
        database: &'static str,
        lane: usize,
        pids: impl Iterator<Item = String>,
    ) {
        let lanes = self.servers.entry(database).or_default();
        lanes.entry(lane).or_default().extend(pids);
    }

    /// Adds what another lane has tried.
    pub(super) fn add(&mut self, other: Self) {
        self.scripts += other.scripts;
        self.with_errors += other.with_errors;
        let counts = [
            (&mut self.said, other.said),
            (&mut self.heard, other.heard),
            (&mut self.errors, other.errors),
        ];
        for (all, more) in counts {
            for (kind, count) in more {
                *all.entry(kind).or_default() += count;
            }
        }
        for (name, count) in other.differences {
            *self.differences.entry(name).or_default() += count;
        }
        for (database, lanes) in other.servers {
            self.servers.entry(database).or_default().extend(lanes);
        }
    }

    /// How often each intended difference was met.
    pub(super) fn differences(&self) -> &BTreeMap<&'static str, usize> {
        &self.differences
    }

    /// What was never said, and never heard.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let unsaid = SAID
            .into_iter()
            .filter(|kind| !self.said.contains_key(*kind));
        let unheard = HEARD
            .into_iter()
            .filter(|kind| !self.heard.contains_key(*kind));
        unsaid.chain(unheard).collect()
    }

    /// The fewest servers that a lane has met in this database.
    pub(super) fn fewest_servers(&self, database: &str) -> usize {
        let lanes = self.servers.get(database).into_iter().flatten();
        lanes.map(|(_, servers)| servers.len()).min().unwrap_or(0)
    }
}

/// A message's kind, as the table names it.
fn kind(message: &Message) -> String {
    let told = message.to_string();
    let words = match (message.side, message.tag) {
        (Side::Client, b'D' | b'C') => told.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" "),
        (Side::Server, b'Z') => told,
        _ => told.split(' ').take(1).collect(),
    };
    let named =
        message.side == Side::Client && statement_of(message).is_some_and(|s| !s.is_empty());
    if named {
        format!("{words} by name")
    } else {
        words
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            scripts,
            with_errors,
            ..
        } = self;
        writeln!(f, "{scripts} scripts, {with_errors} of them with errors")?;
        let tables = [
            ("said", &self.said),
            ("heard", &self.heard),
            ("errors", &self.errors),
        ];
        for (title, counts) in tables {
            let counts = counts.iter().map(|(kind, count)| format!("{kind} {count}"));
            writeln!(f, "{title}: {}", counts.collect::<Vec<_>>().join(", "))?;
        }
        for (name, count) in &self.differences {
            writeln!(f, "differs as intended {count} times: {name}")?;
        }
        for (database, lanes) in &self.servers {
            let counts: Vec<_> = lanes.values().map(BTreeSet::len).collect();
            writeln!(f, "servers that each client met in {database}: {counts:?}")?;
        }
        Ok(())
    }
}

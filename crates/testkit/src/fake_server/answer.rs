//! What the fake server answers to SQL, as steps that a session then walks.

use super::{Gate, record::Hall};
use crate::message::{Message, Tx};

/// A query that wants an answer.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The connection's place in the order of arrival.
    pub connection: usize,
    /// Its user, as the startup packet says.
    pub user: String,
    /// Its database, as the startup packet says.
    pub database: String,
    /// One statement, without its semicolon.
    pub sql: String,
    /// The values bound to it.
    pub values: Vec<Option<String>>,
    /// Where the transaction stands.
    pub tx: Tx,
}

/// One step of an answer. ReadyForQuery follows by itself.
#[derive(Clone)]
pub enum Step {
    /// Sends a message.
    Send(Message),
    /// Sends bytes that need not be messages.
    Raw(Vec<u8>),
    /// Sends what is there and waits; a cancel request meanwhile ends the answer with 57014.
    Wait(Gate),
    /// Sends so many DataRows with one column of that many bytes.
    Stream {
        /// How many.
        rows: u64,
        /// Bytes in each.
        row_len: usize,
    },
    /// Sends so many CopyData of that many bytes.
    CopyOut {
        /// How many.
        rows: u64,
        /// Bytes in each.
        row_len: usize,
    },
    /// Takes COPY data to its end, and answers with the tag `COPY n`.
    CopyIn,
    /// The session's transaction now stands like this.
    Tx(Tx),
    /// Remembers a parameter, and tells it if it was configured.
    Set {
        /// Its name.
        name: String,
        /// Its new value.
        value: String,
    },
    /// Closes the connection.
    Die,
    /// Resets the connection.
    DieAbruptly,
}

impl Step {
    /// A row description, one row and the tag of a SELECT.
    pub fn one_row(values: &[(&str, Option<&str>)]) -> Vec<Self> {
        let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        let row: Vec<_> = values.iter().map(|(_, value)| *value).collect();
        vec![
            Self::Send(Message::row_description(&names)),
            Self::Send(Message::data_row(&row)),
            Self::Send(Message::command_complete("SELECT 1")),
        ]
    }

    /// An error; the rest of the answer is not given.
    pub fn fail(code: &str, text: &str) -> Vec<Self> {
        vec![Self::Send(Message::error("ERROR", code, text))]
    }

    fn done(tag: &str) -> Self {
        Self::Send(Message::command_complete(tag))
    }
}

/// The answer of the built-in script.
pub(super) fn built_in(ask: &Ask, hall: &Hall) -> Vec<Step> {
    let words: Vec<&str> = ask.sql.split_whitespace().collect();
    let verb = words
        .first()
        .map(|word| word.to_ascii_uppercase())
        .unwrap_or_default();
    let rest = ask
        .sql
        .split_once(char::is_whitespace)
        .map_or("", |(_, rest)| rest.trim());

    if ask.tx == Tx::Failed && !matches!(verb.as_str(), "ROLLBACK" | "COMMIT" | "ABORT" | "END") {
        let text =
            "current transaction is aborted, commands ignored until end of transaction block";
        return Step::fail("25P02", text);
    }
    match verb.as_str() {
        "" => vec![Step::Send(Message::empty_query())],
        "BEGIN" | "START" => vec![Step::Tx(Tx::Open), Step::done("BEGIN")],
        "COMMIT" | "END" if ask.tx == Tx::Failed => {
            vec![Step::Tx(Tx::Idle), Step::done("ROLLBACK")]
        }
        "COMMIT" | "END" => vec![Step::Tx(Tx::Idle), Step::done("COMMIT")],
        "ROLLBACK" | "ABORT" => vec![Step::Tx(Tx::Idle), Step::done("ROLLBACK")],
        "SELECT" if rest.starts_with("pg_catalog.set_config(") => set_config(rest),
        "SELECT" => Step::one_row(&[("?column?", selected(rest, &ask.values).as_deref())]),
        "SET" => set(rest),
        "HOLD" => vec![Step::Wait(hall.gate(rest)), Step::done("HOLD")],
        "FAIL" => {
            let (code, text) = rest.split_once(' ').unwrap_or((rest, "as asked"));
            Step::fail(code, text)
        }
        "NOTICE" => vec![Step::Send(Message::notice(rest)), Step::done("NOTICE")],
        "STREAM" => {
            let (rows, row_len) = two_numbers(&words);
            let tag = format!("SELECT {rows}");
            let columns = Message::row_description(&["stream"]);
            vec![
                Step::Send(columns),
                Step::Stream { rows, row_len },
                Step::done(&tag),
            ]
        }
        "COPY" if ask.sql.to_ascii_uppercase().contains("FROM STDIN") => vec![Step::CopyIn],
        "COPY" => {
            let (rows, row_len) = two_numbers(&words);
            let done = Message::copy_done(crate::Side::Server);
            vec![
                Step::Send(Message::copy_out_response()),
                Step::CopyOut { rows, row_len },
                Step::Send(done),
                Step::done(&format!("COPY {rows}")),
            ]
        }
        "DIE" if words.len() > 1 => vec![Step::DieAbruptly],
        "DIE" => vec![Step::Die],
        _ => vec![Step::done(&ask.sql)],
    }
}

/// What Describe says about a statement without running it.
pub(super) fn description(sql: &str) -> Message {
    let verb = sql
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_ascii_uppercase();
    match verb.as_str() {
        "SELECT" => Message::row_description(&["?column?"]),
        "STREAM" => Message::row_description(&["stream"]),
        _ => Message::no_data(),
    }
}

/// How many parameters a statement takes.
pub(super) fn parameter_count(sql: &str) -> usize {
    (1..)
        .take_while(|number| sql.contains(&format!("${number}")))
        .count()
}

fn selected(what: &str, values: &[Option<String>]) -> Option<String> {
    let number = what
        .strip_prefix('$')
        .and_then(|number| number.parse::<usize>().ok());
    match number {
        Some(number) => values.get(number.wrapping_sub(1)).cloned().flatten(),
        None => Some(what.trim_matches('\'').to_owned()),
    }
}

fn set(assignment: &str) -> Vec<Step> {
    let parts = assignment
        .split_once('=')
        .or_else(|| assignment.split_once(" TO "));
    let done = Step::done("SET");
    match parts {
        Some((name, value)) => {
            let value = value.trim().trim_matches('\'').to_owned();
            vec![
                Step::Set {
                    name: name.trim().to_owned(),
                    value,
                },
                done,
            ]
        }
        None => vec![done],
    }
}

/// `pg_catalog.set_config('name','value',false)`.
fn set_config(call: &str) -> Vec<Step> {
    let mut texts = call.split('\'').skip(1).step_by(2);
    let name = texts.next().unwrap_or_default().to_owned();
    let value = texts.next().unwrap_or_default().to_owned();
    let mut steps = Step::one_row(&[("set_config", Some(&value))]);
    steps.insert(0, Step::Set { name, value });
    steps
}

/// The numbers at the end, or one row of ten bytes.
fn two_numbers(words: &[&str]) -> (u64, usize) {
    let mut numbers = words.iter().filter_map(|word| word.parse::<u64>().ok());
    let rows = numbers.next().unwrap_or(1);
    let row_len = numbers
        .next()
        .and_then(|len| usize::try_from(len).ok())
        .unwrap_or(10);
    (rows, row_len)
}

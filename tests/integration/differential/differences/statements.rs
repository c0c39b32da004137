//! Named statements: a client's name is its own, a server's is the pooler's.

use testkit::{ErrorFields, Message};

use super::{Bridge, Difference};
use crate::differential::script::statement_of;

pub(super) static POOLED_NAME: Difference = Difference {
    what: "an error about a named statement may call it as the server does",
    why: "it is text for people, and the pooled name is what they find in the server's log",
    bridge: |parting| {
        let name = statement_of(parting.asks()?).filter(|name| !name.is_empty())?;
        let (direct, pooled) = (parting.direct.first()?, parting.pooled.first()?);
        let same = direct.error_fields()? == renamed(pooled, name)?;
        let both = direct.tag == b'E' && pooled.tag == b'E';
        (same && both).then_some(Bridge::Over {
            direct: 1,
            pooled: 1,
        })
    },
    examples: || {
        vec![vec![
            Message::parse("s0", "SELECT 1"),
            Message::bind("", "s0", &[Some("one too many")]),
            Message::sync(),
        ]]
    },
};

pub(super) static NOT_PARSED_AGAIN: Difference = Difference {
    what: "what has become of a table does not matter to the Parse of a statement that is there",
    why: "the pooler answers it, so that nobody waits for a server to parse what it has; \
          Bind and Describe tell",
    bridge: |parting| {
        let asks = parting.asks()?;
        let named = asks.tag == b'P' && statement_of(asks) != Some("");
        let error = parting.direct.first()?.error_fields()?;
        let done = parting.pooled.first()?.tag == b'1';
        (named && error.code() == "42P01" && done).then_some(Bridge::Ends)
    },
    examples: || {
        let parse = || Message::parse("s0", "SELECT n FROM x0");
        vec![vec![
            Message::query("BEGIN; CREATE TABLE x0 (n int)"),
            parse(),
            Message::close_statement("s0"),
            Message::sync(),
            Message::query("DROP TABLE x0"),
            parse(),
            Message::sync(),
        ]]
    },
};

pub(super) static PARSED_LATE: Difference = Difference {
    what: "a Bind or Describe in a failed transaction may fail as the Parse that it needs",
    why: "a server that lacks the statement has to parse it first; text and SQLSTATE are the same",
    bridge: |parting| {
        let asks = parting.asks()?;
        let named = matches!(asks.tag, b'B' | b'D') && statement_of(asks) != Some("");
        let pooled = without_source(parting.pooled.first()?)?;
        let refused = pooled.code() == "25P02";
        let same = without_source(parting.direct.first()?)? == pooled;
        (named && refused && same).then_some(Bridge::Over {
            direct: 1,
            pooled: 1,
        })
    },
    examples: || vec![in_failed_transaction("SELECT 1")],
};

pub(super) static DESCRIBED_LATE: Difference = Difference {
    what: "a Describe in a failed transaction may fail though the statement returns nothing",
    why: "a server that lacks the statement can't parse it in a failed transaction",
    bridge: |parting| {
        let asks = parting.asks()?;
        let named = asks.tag == b'D' && statement_of(asks) != Some("");
        let described = parting.direct.first()?.tag == b't';
        let refused = parting.pooled.first()?.error_fields()?.code() == "25P02";
        (named && described && refused).then_some(Bridge::Ends)
    },
    examples: || vec![in_failed_transaction("DELETE FROM t0")],
};

/// Describes a statement that was prepared before, and fails before.
fn in_failed_transaction(sql: &str) -> Vec<Message> {
    vec![
        Message::parse("s0", sql),
        Message::sync(),
        Message::query("BEGIN; SELECT 1 / 0"),
        Message::describe_statement("s0"),
        Message::sync(),
    ]
}

/// The fields of an error, but for its place in PostgreSQL's source.
fn without_source(error: &Message) -> Option<ErrorFields> {
    let mut fields = error.error_fields().filter(|_| error.tag == b'E')?;
    fields.0.retain(|letter, _| !"FLR".contains(*letter));
    Some(fields)
}

/// The fields of an error, with the client's name where it has a pooled one.
fn renamed(error: &Message, name: &str) -> Option<ErrorFields> {
    const PREFIX: &str = "\"PGBOUNCER_";
    let mut fields = error.error_fields()?;
    let text = fields.get('M').to_owned();
    let (before, rest) = text.split_once(PREFIX)?;
    let behind = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
    fields.0.insert('M', format!("{before}\"{name}{behind}"));
    Some(fields)
}

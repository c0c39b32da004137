//! What belongs to a session, and so to a server: a client in transaction mode has it until its
//! transaction ends.

use testkit::Message;

use super::{Difference, is_error};
use crate::differential::script::statement_of;

const WHY: &str = "pool_mode = transaction lends a server until the transaction ends";

pub(super) static UNNAMED_STATEMENT: Difference = Difference {
    what: "the unnamed statement is gone after the transaction",
    why: WHY,
    bridge: |parting| {
        let asks = parting.asks()?;
        let unnamed = matches!(asks.tag, b'B' | b'D') && statement_of(asks) == Some("");
        let text = "unnamed prepared statement does not exist";
        let is_gone = is_error(parting.pooled.first()?, "ERROR", "26000", text);
        (unnamed && is_gone).then(|| parting.to_ready())?
    },
    examples: || {
        vec![vec![
            Message::parse("", "SELECT 1"),
            Message::sync(),
            Message::bind("", "", &[]),
            Message::execute(""),
            Message::sync(),
        ]]
    },
};

/// State that a query makes, and queries that find it in the same session only.
pub(super) const MADE_AND_FOUND: [(&str, &str); 6] = [
    ("SET work_mem = '1MB'", "SHOW work_mem"),
    ("PREPARE mine AS SELECT 'mine'", "EXECUTE mine"),
    ("CREATE TEMP TABLE mine (n int)", "SELECT n FROM mine"),
    (
        "DECLARE mine CURSOR WITH HOLD FOR SELECT 'mine'",
        "FETCH FROM mine",
    ),
    ("SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"),
    ("LISTEN mine", "SELECT pg_listening_channels()"),
];

pub(super) static STATE: Difference = Difference {
    what: "what a query leaves in its session is gone after the transaction",
    why: WHY,
    bridge: |parting| {
        let asks = parting.asks()?;
        let finds = |found: &str| *asks == Message::query(found);
        let finds = MADE_AND_FOUND.iter().any(|(_, found)| finds(found));
        finds.then(|| parting.to_ready())?
    },
    examples: || {
        let example =
            |(made, found): (&str, &str)| vec![Message::query(made), Message::query(found)];
        MADE_AND_FOUND.map(example).into()
    },
};

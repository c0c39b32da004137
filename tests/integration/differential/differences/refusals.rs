//! With `prepared_statement_errors = pgbouncer`, the default, wrong names end the connection.

use testkit::Message;

use super::{Bridge, Difference, Parting, is_error};
use crate::differential::line::End;
use crate::differential::script::statement_of;

const WHY: &str = "PgBouncer does so, and clients may have come to rely on it";

pub(super) static NAME_IN_USE: Difference = Difference {
    what: "a Parse of a name that is in use ends the connection, at once",
    why: WHY,
    bridge: |parting| {
        let is_second = |place: usize| {
            let (before, at) = (&parting.asked[..place], &parting.asked[place]);
            at.tag == b'P'
                && before
                    .iter()
                    .any(|other| is_parse_of(statement_of(at), other))
        };
        refused(
            parting,
            "prepared statement name is already in use",
            is_second,
        )
    },
    examples: || {
        let parse = || Message::parse("s0", "SELECT 1");
        vec![vec![parse(), Message::sync(), parse(), Message::sync()]]
    },
};

pub(super) static UNKNOWN_NAME: Difference = Difference {
    what: "a Bind or Describe of a name that is not in use ends the connection, at once",
    why: WHY,
    bridge: |parting| {
        let uses = |place: usize| matches!(parting.asked[place].tag, b'B' | b'D');
        refused(parting, "prepared statement did not exist", uses)
    },
    examples: || {
        let say = |message| vec![message, Message::sync()];
        vec![
            say(Message::bind("", "s0", &[])),
            say(Message::describe_statement("s0")),
        ]
    },
};

fn is_parse_of(name: Option<&str>, message: &Message) -> bool {
    message.tag == b'P' && statement_of(message) == name
}

/// The pooler's last words are these, and a named request that it may not have answered yet is a
/// reason for them. In the middle of a row there is no place for words.
fn refused(parting: &Parting<'_>, text: &str, is_reason: impl Fn(usize) -> bool) -> Option<Bridge> {
    let told = match parting.pooled {
        [last] => is_error(last, "FATAL", "08P01", text),
        [] => matches!(parting.direct.first()?.tag, b'd' | b'D'),
        _ => false,
    };
    let ends = told && parting.pooled_end == End::Closed;
    let named = |&place: &usize| statement_of(&parting.asked[place]).is_some_and(|s| !s.is_empty());
    let first = match parting.request {
        Some(request) => request,
        // PostgreSQL has closed without a further word.
        None if parting.direct.is_empty() && parting.direct_end == End::Closed => 0,
        None => return None,
    };
    let mut unanswered = (first..parting.asked.len()).filter(named);
    (ends && unanswered.any(is_reason)).then_some(Bridge::Ends)
}

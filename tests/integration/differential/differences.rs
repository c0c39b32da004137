//! Where a client of the pooler hears something else than one of PostgreSQL, and why it shall.

mod copies;
mod refusals;
mod session;
mod statements;

use testkit::Message;

use super::line::End;

/// A difference that is intended.
pub(super) struct Difference {
    /// What is different.
    pub(super) what: &'static str,
    /// Why it shall be.
    pub(super) why: &'static str,
    /// How to go on behind it; `None` if this is not it.
    bridge: fn(&Parting<'_>) -> Option<Bridge>,
    /// What a client says to see it, to servers that keep nothing from one lease to the next.
    pub(super) examples: fn() -> Vec<Vec<Message>>,
}

/// Where two streams part: what follows on each side, without process ids and OIDs of tables.
pub(super) struct Parting<'a> {
    pub(super) asked: &'a [Message],
    /// The request that PostgreSQL answers here.
    pub(super) request: Option<usize>,
    pub(super) direct: &'a [Message],
    pub(super) direct_end: End,
    pub(super) pooled: &'a [Message],
    pub(super) pooled_end: End,
}

/// Where two streams meet again.
pub(super) enum Bridge {
    /// Behind so many messages of each.
    Over { direct: usize, pooled: usize },
    /// Nowhere in this script.
    Ends,
}

/// Those of a pooler that answers as PostgreSQL does wherever it can.
pub(super) static DIFFERENCES: &[&Difference] = &[
    &SERVER_ENDED,
    &session::UNNAMED_STATEMENT,
    &session::STATE,
    &statements::POOLED_NAME,
    &statements::NOT_PARSED_AGAIN,
    &statements::PARSED_LATE,
    &statements::DESCRIBED_LATE,
    &copies::LOST_SYNC,
    &copies::OWN_ANSWER,
];

/// Those that come on top unless `prepared_statement_errors = postgres`.
pub(super) static REFUSALS: &[&Difference] = &[&refusals::NAME_IN_USE, &refusals::UNKNOWN_NAME];

/// The intended difference between two streams, if it is one of these.
pub(super) fn bridge(
    intended: &[&'static Difference],
    parting: &Parting<'_>,
) -> Option<(&'static Difference, Bridge)> {
    let bridges = |difference: &&'static Difference| {
        let bridge = (difference.bridge)(parting)?;
        Some((*difference, bridge))
    };
    intended.iter().find_map(bridges)
}

static SERVER_ENDED: Difference = Difference {
    what: "the last word on a server that ends its connection is the pooler's",
    why: "PgBouncer says it, and whoever reads logs knows that it was not the pooler's decision",
    bridge: |parting| {
        let ends = parting.direct.is_empty() && parting.direct_end == End::Closed;
        let [last] = parting.pooled else { return None };
        let crashed = is_error(last, "FATAL", "08P01", "server conn crashed?");
        (ends && crashed && parting.pooled_end == End::Closed).then_some(Bridge::Ends)
    },
    examples: || {
        let copy = Message::query("COPY t0 FROM STDIN");
        vec![vec![copy, Message::query("")]]
    },
};

impl Parting<'_> {
    fn asks(&self) -> Option<&Message> {
        self.asked.get(self.request?)
    }

    /// Goes on behind the next ReadyForQuery of both.
    fn to_ready(&self) -> Option<Bridge> {
        let behind = |messages: &[Message]| Some(messages.iter().position(is_ready)? + 1);
        Some(Bridge::Over {
            direct: behind(self.direct)?,
            pooled: behind(self.pooled)?,
        })
    }
}

fn is_ready(message: &Message) -> bool {
    message.tag == b'Z'
}

fn is_error(message: &Message, severity: &str, code: &str, text: &str) -> bool {
    let fields = message.error_fields().filter(|_| message.tag == b'E');
    fields.is_some_and(|fields| {
        (fields.severity(), fields.code(), fields.text()) == (severity, code, text)
    })
}

//! COPY: what a client sends into it, the pooler can't always tell from what comes behind.

use testkit::{Message, Side};

use super::{Bridge, Difference, is_error};
use crate::differential::line::End;
use crate::differential::script::statement_of;

pub(super) static LOST_SYNC: Difference = Difference {
    what: "a Sync sent into a COPY that fails, and requests without a Sync behind, end the connection",
    why: "only the server knows whether it swallowed the Sync, and nothing makes it tell; \
          a wrong guess would mix up answers",
    bridge: |parting| {
        let text = "out of step with the server";
        let told = is_error(parting.pooled.first()?, "FATAL", "08P01", text);
        let mut places = 0..parting.asked.len();
        let inside = places.any(|place| may_be_in_copy(parting.asked, place));
        let ends = parting.pooled.len() == 1 && parting.pooled_end == End::Closed;
        (told && inside && ends).then_some(Bridge::Ends)
    },
    examples: || {
        let mut say = copy();
        say.extend([
            Message::sync(),
            Message::copy_data(Side::Client, b"x\n"),
            Message::copy_done(Side::Client),
            Message::query("SELECT 1"),
            Message::sync(),
        ]);
        // With a second COPY in the same query.
        let copies = "COPY t0 FROM STDIN; COPY t0 FROM STDIN";
        let again = vec![
            Message::query(copies),
            Message::copy_done(Side::Client),
            Message::sync(),
            Message::copy_data(Side::Client, b"x\n"),
            Message::query("SELECT 1"),
        ];
        vec![say, again]
    },
};

pub(super) static OWN_ANSWER: Difference = Difference {
    what: "a request inside a COPY that the pooler answers itself does not end the connection",
    why: "the server does not hear of it, or hears of another one before it",
    bridge: |parting| {
        let asks = parting.asks()?;
        let named = statement_of(asks).is_some_and(|name| !name.is_empty());
        let error = parting.direct.first()?.error_fields()?;
        let unexpected = error.text().starts_with("unexpected message type");
        (named && error.code() == "08P01" && unexpected).then_some(Bridge::Ends)
    },
    examples: || {
        let mut say = copy();
        say.extend([
            Message::close_statement("s0"),
            Message::copy_done(Side::Client),
            Message::sync(),
        ]);
        vec![say]
    },
};

/// Is there a Sync at this place, behind what may be a COPY, or the end of one among several, and
/// before more of that? Requests that the pooler answers itself don't count.
fn may_be_in_copy(asked: &[Message], place: usize) -> bool {
    let is_sent = |message: &&Message| match message.tag {
        b'S' | b'H' => false,
        b'P' | b'C' => statement_of(message).is_none_or(str::is_empty),
        _ => true,
    };
    let (before, behind) = (&asked[..place], &asked[place + 1..]);
    let mut before = before.iter().rev().filter(is_sent);
    let start = before.find(|message| message.tag != b'd');
    let more = behind.iter().find(is_sent);
    asked[place].tag == b'S'
        && start.is_some_and(|message| matches!(message.tag, b'Q' | b'E' | b'c'))
        && more.is_some_and(|message| matches!(message.tag, b'd' | b'c' | b'f'))
}

fn copy() -> Vec<Message> {
    vec![
        Message::parse("", "COPY t0 FROM STDIN"),
        Message::bind("", "", &[]),
        Message::execute(""),
    ]
}

//! COPY: what a client sends into it, the pooler can't always tell from what comes behind.

use testkit::{Message, Side};

use super::{Bridge, Difference, is_error};
use crate::differential::line::End;
use crate::differential::script::statement_of;

pub(super) static LOST_SYNC: Difference = Difference {
    what: "who sent a Sync into a failed extended COPY must send one behind it before anything else",
    why: "only the server knows whether it swallowed the first, and nothing makes it tell; \
          a wrong guess would mix up answers",
    bridge: |parting| {
        let text = "out of step with the server";
        let told = is_error(parting.pooled.first()?, "FATAL", "08P01", text);
        let tags: Vec<u8> = parting.asked.iter().map(|message| message.tag).collect();
        let sync = tags.iter().position(|&tag| tag == b'S')?;
        let inside = tags[sync..]
            .iter()
            .any(|tag| matches!(tag, b'd' | b'c' | b'f'));
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
        vec![say]
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

fn copy() -> Vec<Message> {
    vec![
        Message::parse("", "COPY t0 FROM STDIN"),
        Message::bind("", "", &[]),
        Message::execute(""),
    ]
}

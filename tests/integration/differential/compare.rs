//! Two streams, message by message.

use testkit::Message;

use super::answers::Answers;
use super::differences::{self, Bridge, Difference, Parting};
use super::line::{End, Stream};

/// How what came through the pooler compares with what PostgreSQL said.
pub(super) enum Verdict {
    /// The same, but for these differences.
    Fits(Vec<&'static Difference>),
    /// A difference that nobody intends, at these places.
    Parts { direct: usize, pooled: usize },
}

/// Compares a script's streams, which may differ as intended.
pub(super) fn compare(
    intended: &[&'static Difference],
    asked: &[Message],
    answers: &Answers,
    direct: &Stream,
    pooled: &Stream,
) -> Verdict {
    let (ours, theirs) = (normal(&pooled.messages), normal(&direct.messages));
    let mut found = Vec::new();
    let (mut at, mut pooled_at) = (0, 0);
    loop {
        match (theirs.get(at), ours.get(pooled_at)) {
            (None, None) if direct.end == pooled.end && pooled.end != End::Silent => {
                return Verdict::Fits(found);
            }
            (Some(theirs), Some(ours)) if theirs == ours => {
                at += 1;
                pooled_at += 1;
                continue;
            }
            _ => {}
        }
        let parting = Parting {
            asked,
            request: answers.owner(at),
            direct: &theirs[at..],
            direct_end: direct.end,
            pooled: &ours[pooled_at..],
            pooled_end: pooled.end,
        };
        let parts = Verdict::Parts {
            direct: at,
            pooled: pooled_at,
        };
        let Some((difference, bridge)) = differences::bridge(intended, &parting) else {
            return parts;
        };
        found.push(difference);
        match bridge {
            Bridge::Over { direct, pooled } => {
                at += direct;
                pooled_at += pooled;
            }
            Bridge::Ends => return Verdict::Fits(found),
        }
    }
}

/// Messages without what can't be the same: process ids, and the OIDs of tables made meanwhile.
fn normal(messages: &[Message]) -> Vec<Message> {
    let mut tables = Vec::new();
    let mut tells_pid = false;
    let normalise = |message: &Message| {
        let mut message = message.clone();
        match message.tag {
            b'T' => {
                tells_pid = message.columns().is_some_and(|names| names == [PID]);
                number_tables(&mut message.body, &mut tables);
            }
            b'D' if tells_pid => message = Message::data_row(&[Some("a pid")]),
            _ => {}
        }
        message
    };
    messages.iter().map(normalise).collect()
}

const PID: &str = "pg_backend_pid";

/// The process ids that a stream tells.
pub(super) fn pids(messages: &[Message]) -> impl Iterator<Item = String> {
    let pairs = messages.windows(2);
    let rows = pairs.filter(|pair| pair[0].columns().is_some_and(|names| names == [PID]));
    rows.filter_map(|pair| pair[1].values()?.pop()?)
}

/// Puts the place among the tables seen so far where a RowDescription has a table's OID.
fn number_tables(body: &mut [u8], tables: &mut Vec<[u8; 4]>) {
    // Behind each name: table, column number, type, its length and modifier, format.
    const FIELD: usize = 4 + 2 + 4 + 2 + 4 + 2;
    let Some((_, mut rest)) = body.split_at_mut_checked(2) else {
        return;
    };
    while let Some(end) = rest.iter().position(|&byte| byte == 0) {
        let Some((field, next)) = rest[end + 1..].split_at_mut_checked(FIELD) else {
            return;
        };
        let oid = &mut field[..4];
        if oid != [0; 4] {
            let known = tables.iter().position(|table| table == oid);
            let place = known.unwrap_or_else(|| {
                tables.push([oid[0], oid[1], oid[2], oid[3]]);
                tables.len() - 1
            });
            oid.copy_from_slice(&u32::try_from(place).unwrap().to_be_bytes());
        }
        rest = next;
    }
}

//! The transactions: what a client says, and each byte that it must hear.

use testkit::{Message, Side, Tx};

use crate::pieces::{Piece, Pieces};

/// A kind of transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// `SELECT n` as a simple query.
    Simple,
    /// The same, as a scripted server answers it.
    Scripted,
    /// The same by Parse, Bind, Describe, Execute and Sync, unnamed.
    Extended,
    /// The same by Bind, Describe, Execute and Sync, of a statement prepared before.
    Prepared,
    /// A simple query for 10,000 rows of 1 KB.
    Rows,
    /// A simple query for 10 values of 1 MB.
    Values,
    /// COPY TO STDOUT of 200 MB.
    CopyOut,
    /// COPY FROM STDIN of 200 MB.
    CopyIn,
}

/// What is said and heard in one transaction.
pub(crate) type Dialogue = Vec<Step>;

/// One side speaks.
pub(crate) enum Step {
    /// The client sends all of this.
    Say(Pieces),
    /// All of this must arrive, and nothing else.
    Hear(Pieces),
}

const ROWS: usize = 10_000;
const VALUES: usize = 10;
const COPIED_ROWS: usize = 200_000;
/// Rows sent in one piece when copying in: about 64 KB.
const ROWS_AT_ONCE: usize = 64;

/// The name that all clients give their prepared statement.
const STATEMENT: &str = "answer";

/// Tags have 8 bytes, so these are rows of 1,024 and 1,000 bytes.
const TAGS_PER_ROW: usize = 128;
const TAGS_PER_VALUE: usize = 128 * 1024;
const TAGS_PER_COPIED_ROW: usize = 125;

impl Work {
    /// The sequence and table that COPY FROM STDIN needs.
    ///
    /// Its rows are not stored: `nextval` counts those that arrived whole, and then refuses them.
    pub(crate) const TABLES: &str = "
        CREATE UNLOGGED TABLE sink (line text);
        CREATE SEQUENCE arrived;
        SELECT nextval('arrived');
        GRANT ALL ON TABLE sink TO PUBLIC;
        GRANT ALL ON SEQUENCE arrived TO PUBLIC;
    ";

    /// Rows that one transaction leaves in the sequence `arrived`.
    pub(crate) fn rows_arriving(self) -> u64 {
        match self {
            Self::CopyIn => COPIED_ROWS as u64,
            _ => 0,
        }
    }

    /// Transactions of each client before the measured ones.
    pub(crate) fn warm_up(self) -> u64 {
        match self {
            Self::Simple | Self::Extended | Self::Scripted | Self::Prepared => 50,
            Self::Rows | Self::Values => 2,
            Self::CopyOut | Self::CopyIn => 1,
        }
    }

    /// How much a client reads at once.
    pub(crate) fn buffer_len(self) -> usize {
        match self {
            Self::Simple | Self::Extended | Self::Scripted | Self::Prepared => 4 * 1024,
            Self::Rows | Self::Values | Self::CopyOut | Self::CopyIn => 64 * 1024,
        }
    }

    /// What a client says and hears once, after its login.
    pub(crate) fn opening(self) -> Dialogue {
        match self {
            Self::Prepared => vec![
                Step::Say(vec![whole(&[
                    Message::parse(STATEMENT, "SELECT $1::int4"),
                    Message::sync(),
                ])]),
                Step::Hear(vec![whole(&[
                    Message::parse_complete(),
                    Message::ready(Tx::Idle),
                ])]),
            ],
            _ => Vec::new(),
        }
    }

    /// Two transactions that a client does by turns.
    ///
    /// Every value names its client and turn: an answer meant for another, or for the question
    /// before, is a wrong one.
    pub(crate) fn dialogues(self, client: usize) -> [Dialogue; 2] {
        [0, 1].map(|turn| {
            let number = (client * 2 + turn).to_string();
            let tag = format!("{client:06}.{turn}");
            match self {
                Self::Simple => simple(&number, column("?column?", INT4)),
                Self::Scripted => simple(&number, Message::row_description(&["?column?"])),
                Self::Extended => extended(&number),
                Self::Prepared => prepared(&number),
                Self::Rows => rows(&tag, TAGS_PER_ROW, ROWS),
                Self::Values => rows(&tag, TAGS_PER_VALUE, VALUES),
                Self::CopyOut => copy_out(&tag),
                Self::CopyIn => copy_in(&tag),
            }
        })
    }
}

fn simple(number: &str, column: Message) -> Dialogue {
    let answer = [
        column,
        Message::data_row(&[Some(number)]),
        Message::command_complete("SELECT 1"),
        Message::ready(Tx::Idle),
    ];
    vec![
        Step::Say(vec![query(&format!("SELECT {number}"))]),
        Step::Hear(vec![whole(&answer)]),
    ]
}

fn extended(number: &str) -> Dialogue {
    let request = [
        Message::parse("", "SELECT $1::int4"),
        Message::bind("", "", &[Some(number)]),
        Message::describe_portal(""),
        Message::execute(""),
        Message::sync(),
    ];
    let answer = [
        Message::parse_complete(),
        Message::bind_complete(),
        column("int4", INT4),
        Message::data_row(&[Some(number)]),
        Message::command_complete("SELECT 1"),
        Message::ready(Tx::Idle),
    ];
    vec![
        Step::Say(vec![whole(&request)]),
        Step::Hear(vec![whole(&answer)]),
    ]
}

fn prepared(number: &str) -> Dialogue {
    let request = [
        Message::bind("", STATEMENT, &[Some(number)]),
        Message::describe_portal(""),
        Message::execute(""),
        Message::sync(),
    ];
    let answer = [
        Message::bind_complete(),
        column("int4", INT4),
        Message::data_row(&[Some(number)]),
        Message::command_complete("SELECT 1"),
        Message::ready(Tx::Idle),
    ];
    vec![
        Step::Say(vec![whole(&request)]),
        Step::Hear(vec![whole(&answer)]),
    ]
}

/// As many rows of one column, whose value is the tag so many times.
pub(crate) fn rows(tag: &str, tags: usize, rows: usize) -> Dialogue {
    let sql =
        format!("SELECT repeat('{tag}', {tags}) FROM (SELECT generate_series(1, {rows})) AS row");
    let row = Message::data_row(&[Some(&tag.repeat(tags))]);
    vec![
        Step::Say(vec![query(&sql)]),
        Step::Hear(vec![
            whole(&[column("repeat", TEXT)]),
            Piece::repeated(row.encode(), rows),
            done(&format!("SELECT {rows}")),
        ]),
    ]
}

fn copy_out(tag: &str) -> Dialogue {
    let sql = format!(
        "COPY (SELECT repeat('{tag}', {TAGS_PER_COPIED_ROW}) \
         FROM (SELECT generate_series(1, {COPIED_ROWS})) AS row) TO STDOUT"
    );
    let line = Message::copy_data(Side::Server, copied_line(tag).as_bytes());
    vec![
        Step::Say(vec![query(&sql)]),
        Step::Hear(vec![
            whole(&[Message::server(b'H', ONE_TEXT_COLUMN)]),
            Piece::repeated(line.encode(), COPIED_ROWS),
            whole(&[Message::copy_done(Side::Server)]),
            done(&format!("COPY {COPIED_ROWS}")),
        ]),
    ]
}

fn copy_in(tag: &str) -> Dialogue {
    let sql = format!(
        "COPY sink FROM STDIN WHERE line = repeat('{tag}', {TAGS_PER_COPIED_ROW}) \
         AND nextval('arrived') < 0"
    );
    let line = Message::copy_data(Side::Client, copied_line(tag).as_bytes());
    let lines = line.encode().repeat(ROWS_AT_ONCE);
    vec![
        Step::Say(vec![query(&sql)]),
        Step::Hear(vec![whole(&[Message::server(b'G', ONE_TEXT_COLUMN)])]),
        Step::Say(vec![
            Piece::repeated(lines, COPIED_ROWS / ROWS_AT_ONCE),
            whole(&[Message::copy_done(Side::Client)]),
        ]),
        Step::Hear(vec![done("COPY 0")]),
    ]
}

fn copied_line(tag: &str) -> String {
    tag.repeat(TAGS_PER_COPIED_ROW) + "\n"
}

/// CopyInResponse and CopyOutResponse for one column, all in text format.
const ONE_TEXT_COLUMN: [u8; 5] = [0, 0, 1, 0, 0];

/// The oid and length of a type.
type Type = (u32, i16);
const INT4: Type = (23, 4);
const TEXT: Type = (25, -1);

/// The RowDescription of one computed column, as PostgreSQL writes it.
fn column(name: &str, (oid, len): Type) -> Message {
    let mut body = vec![0, 1];
    body.extend_from_slice(name.as_bytes());
    body.push(0);
    // Of no table, and so of no column in it.
    body.extend_from_slice(&[0; 6]);
    body.extend_from_slice(&oid.to_be_bytes());
    body.extend_from_slice(&len.to_be_bytes());
    // No type modifier, text format.
    body.extend_from_slice(&(-1i32).to_be_bytes());
    body.extend_from_slice(&[0; 2]);
    Message::server(b'T', body)
}

fn query(sql: &str) -> Piece {
    whole(&[Message::query(sql)])
}

fn done(command_tag: &str) -> Piece {
    whole(&[
        Message::command_complete(command_tag),
        Message::ready(Tx::Idle),
    ])
}

fn whole(messages: &[Message]) -> Piece {
    let bytes: Vec<u8> = messages.iter().flat_map(Message::encode).collect();
    Piece::once(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_copied_rows_are_sent() {
        assert_eq!(COPIED_ROWS % ROWS_AT_ONCE, 0);
    }

    #[test]
    fn no_two_clients_or_turns_expect_the_same_answer() {
        let mut answers: Vec<Pieces> = Vec::new();
        for client in 0..100 {
            for dialogue in Work::Simple.dialogues(client) {
                answers.extend(dialogue.into_iter().filter_map(|step| match step {
                    Step::Hear(pieces) => Some(pieces),
                    Step::Say(_) => None,
                }));
            }
        }
        let all = answers.len();
        answers.sort_by(|one, other| one[0].bytes.cmp(&other[0].bytes));
        answers.dedup();

        assert_eq!((all, answers.len()), (200, 200));
    }
}

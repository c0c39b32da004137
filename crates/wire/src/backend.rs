//! A server's messages: walking its stream, and writing those that a pooler says itself.

use crate::cancel::CancelKey;
use crate::extended::Formats;
use crate::frame::{FrameHeader, ProtocolError, Scanner, body_here, put, put_str, take_str, whole};
use crate::pipeline::{About, Failure, Fake, Pipeline, TxStatus};

/// Longest ParameterStatus that is gathered to be read, in bytes.
const PARAMETER_LEN_MAX: usize = 4096;

/// Longest error or description that is gathered to be read, in bytes; a longer one passes unread.
const READ_LEN_MAX: usize = 32 << 10;

/// What to do with the bytes at hand.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Send that many bytes to the client, and come back with the rest.
    Forward(usize),
    /// The same; and they end with this ParameterStatus.
    Parameter(usize, Parameter<'a>),
    /// The same; and they end with a ParameterStatus, or the front of one, that is too long to be
    /// read, or not in UTF-8.
    Unread(usize),
    /// Forget that many bytes, which answer a query of the pooler's own, and come back with the
    /// rest.
    Drop(usize),
    /// Send that many bytes to the client; they end with the news that all prepared statements
    /// of the session are gone.
    DroppedAll(usize),
    /// The first `len` bytes describe a pooled statement: its parameters or its result.
    Described {
        /// Bytes of it that are here.
        len: usize,
        /// The message's type.
        tag: u8,
        /// Its body, if all of it is here.
        body: Option<&'a [u8]>,
        /// What it answers, with its mark; the pooler's own answers go nowhere.
        about: (About, u64),
    },
    /// The first `len` bytes are an error, or its front, about a pooled statement.
    Failed {
        /// Bytes of it that are here.
        len: usize,
        /// Its body, if all of it is here.
        body: Option<&'a [u8]>,
        /// What failed.
        failure: Failure,
    },
    /// Too little to decide: keep it until more arrives.
    Hold,
}

/// A parameter and its value, as the server spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter<'a> {
    /// Name.
    pub name: &'a str,
    /// Value.
    pub value: &'a str,
}

impl<'a> Parameter<'a> {
    /// Reads the body of a ParameterStatus.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let (name, rest) = take_str(body)?;
        let (value, rest) = take_str(rest)?;
        rest.is_empty().then_some(())?;
        Some(Self {
            name: std::str::from_utf8(name).ok()?,
            value: std::str::from_utf8(value).ok()?,
        })
    }
}

/// Walks a server's stream and keeps its pipeline.
#[derive(Debug, Default)]
pub struct Outflow {
    scanner: Scanner,
    /// Whether the rest of the current message goes nowhere.
    drops: bool,
}

impl Outflow {
    /// True between two messages.
    pub fn at_boundary(&self) -> bool {
        self.scanner.at_boundary()
    }

    /// Looks at `bytes`, which are not empty, and tells what to do with their front.
    pub fn next<'a>(
        &mut self,
        bytes: &'a [u8],
        pipeline: &mut Pipeline,
    ) -> Result<Action<'a>, ProtocolError> {
        let mut done = self.scanner.pass(bytes);
        if done > 0 && self.drops {
            self.drops = !self.at_boundary();
            return Ok(Action::Drop(done));
        }
        if done > 0 && self.at_boundary() && pipeline.owes_fake() {
            return Ok(Action::Forward(done));
        }
        loop {
            if !pipeline.is_lost() {
                let ahead = bytes.get(done..).unwrap_or_default();
                done = done.saturating_add(skim(ahead, pipeline));
            } else if done > 0 {
                break;
            }
            let in_query = pipeline.is_in_query();
            let rest = bytes.get(done..).unwrap_or_default();
            let Some(header) = FrameHeader::peek(rest)? else {
                break;
            };
            if is_of_no_account(header, in_query) {
                done = done.saturating_add(self.scanner.enter(header, rest));
                continue;
            }
            match header.tag {
                b't' | b'T' | b'n' if let Some(about) = pipeline.describes() => {
                    let whole = rest.len() >= header.frame_len();
                    if done > 0 || (!whole && header.frame_len() <= READ_LEN_MAX) {
                        break;
                    }
                    return Ok(self.description(header, rest, about, pipeline));
                }
                tag if !in_query && pipeline.swallows(tag) => {
                    if done > 0 || rest.len() < header.frame_len() {
                        break;
                    }
                    pipeline.swallowed(tag);
                    return Ok(Action::Drop(header.frame_len()));
                }
                b'Z' => {
                    let Some((_, body, _)) = whole(rest)? else {
                        break;
                    };
                    pipeline.ready(status_of(body)?);
                }
                b'S' if header.frame_len() <= PARAMETER_LEN_MAX => {
                    if rest.len() < header.frame_len() {
                        break;
                    }
                    let parameter = Parameter::parse(body_here(header, rest));
                    done = done.saturating_add(self.scanner.enter(header, rest));
                    return Ok(match parameter {
                        Some(parameter) => Action::Parameter(done, parameter),
                        None => Action::Unread(done),
                    });
                }
                b'S' => {
                    done = done.saturating_add(self.scanner.enter(header, rest));
                    return Ok(Action::Unread(done));
                }
                b'C' if may_drop_all(header) => {
                    if rest.len() < header.frame_len() {
                        break;
                    }
                    pipeline.received(b'C');
                    done = done.saturating_add(self.scanner.enter(header, rest));
                    if drops_all(body_here(header, rest)) {
                        return Ok(Action::DroppedAll(done));
                    }
                    if pipeline.owes_fake() {
                        break;
                    }
                    continue;
                }
                b'E' if pipeline.error_is_about() => {
                    let whole = rest.len() >= header.frame_len();
                    if done > 0 || (!whole && header.frame_len() <= READ_LEN_MAX) {
                        break;
                    }
                    return Ok(self.error_about(header, rest, pipeline));
                }
                tag => pipeline.received(tag),
            }
            done = done.saturating_add(self.scanner.enter(header, rest));
            if done == bytes.len() || pipeline.owes_fake() {
                break;
            }
        }
        Ok(if done > 0 {
            Action::Forward(done)
        } else {
            Action::Hold
        })
    }

    fn description<'a>(
        &mut self,
        header: FrameHeader,
        rest: &'a [u8],
        about: (About, u64),
        pipeline: &mut Pipeline,
    ) -> Action<'a> {
        let tag = header.tag;
        let len = self.scanner.enter(header, rest);
        if pipeline.swallows(tag) {
            pipeline.swallowed(tag);
            self.drops = !self.at_boundary();
        } else {
            pipeline.received(tag);
        }
        let body = (len == header.frame_len()).then(|| body_here(header, rest));
        Action::Described {
            len,
            tag,
            body,
            about,
        }
    }

    fn error_about<'a>(
        &mut self,
        header: FrameHeader,
        rest: &'a [u8],
        pipeline: &mut Pipeline,
    ) -> Action<'a> {
        let failure = pipeline.failed();
        let len = self.scanner.enter(header, rest);
        let body = (len == header.frame_len()).then(|| body_here(header, rest));
        match failure {
            Some(failure) => Action::Failed { len, body, failure },
            None => Action::Forward(len),
        }
    }
}

/// Reads the body of a ReadyForQuery.
fn status_of(body: &[u8]) -> Result<TxStatus, ProtocolError> {
    let status = match *body {
        [byte] => TxStatus::parse(byte),
        _ => None,
    };
    status.ok_or(ProtocolError::Body("ReadyForQuery"))
}

/// Whole messages at the front that are of no account, or the usual answers to extended queries: how many
/// bytes they have.
fn skim(bytes: &[u8], pipeline: &mut Pipeline) -> usize {
    // If that becomes so on the way, what follows is left to the next look.
    let in_query = pipeline.is_in_query();
    let mut rest = bytes;
    while let Some(front) = rest.first_chunk()
        && let Some(header) = FrameHeader::read(*front)
        && let Some(behind) = rest.get(header.frame_len()..)
        && (is_of_no_account(header, in_query) || (!in_query && is_usual(header, pipeline)))
    {
        rest = behind;
    }
    bytes.len().saturating_sub(rest.len())
}

/// Whether a message is the usual answer to the request at the front, which is noted then.
#[inline]
fn is_usual(header: FrameHeader, pipeline: &mut Pipeline) -> bool {
    let drops = header.tag == b'C' && may_drop_all(header);
    !drops && pipeline.takes_usual(header.tag)
}

/// Whether a message changes nothing in the pipeline: rows, and of a simple query's answer what it
/// may have any number of.
fn is_of_no_account(header: FrameHeader, in_query: bool) -> bool {
    match header.tag {
        b'D' | b'd' => true,
        b'T' | b'C' => in_query && !may_drop_all(header),
        _ => false,
    }
}

/// Whether a CommandComplete is as long as those of [`drops_all`].
fn may_drop_all(header: FrameHeader) -> bool {
    matches!(header.body_len, 12 | 15)
}

/// Whether a CommandComplete tells that all prepared statements are gone.
pub fn drops_all(body: &[u8]) -> bool {
    matches!(body, b"DISCARD ALL\0" | b"DEALLOCATE ALL\0")
}

/// Appends a message that is due in the server's place.
pub fn put_fake(out: &mut Vec<u8>, fake: Fake) {
    let tag = match fake {
        Fake::Parse => b'1',
        Fake::Close => b'3',
    };
    put(out, tag, |_| {});
}

/// Reads the values of a DataRow's body; `None` among them is NULL.
pub fn parse_data_row(body: &[u8]) -> Result<Vec<Option<&[u8]>>, ProtocolError> {
    const MALFORMED: ProtocolError = ProtocolError::Body("DataRow");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or(MALFORMED)?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, tail) = rest.split_first_chunk::<4>().ok_or(MALFORMED)?;
        let (value, tail) = match i32::from_be_bytes(*len) {
            -1 => (None, tail),
            len => {
                let len = usize::try_from(len).map_err(|_| MALFORMED)?;
                let (value, tail) = tail.split_at_checked(len).ok_or(MALFORMED)?;
                (Some(value), tail)
            }
        };
        values.push(value);
        rest = tail;
    }
    if rest.is_empty() {
        Ok(values)
    } else {
        Err(MALFORMED)
    }
}

/// Appends a ParameterStatus.
pub fn put_parameter(out: &mut Vec<u8>, name: &str, value: &str) {
    put(out, b'S', |body| {
        put_str(body, name);
        put_str(body, value);
    });
}

/// Appends BackendKeyData.
pub fn put_key(out: &mut Vec<u8>, key: &CancelKey) {
    put(out, b'K', |body| body.extend_from_slice(key.as_bytes()));
}

/// Appends ReadyForQuery outside a transaction.
pub fn put_ready(out: &mut Vec<u8>) {
    put(out, b'Z', |body| body.push(b'I'));
}

/// Appends NegotiateProtocolVersion: this minor version is spoken, and these extensions are
/// unknown.
pub fn put_negotiate<'a>(
    out: &mut Vec<u8>,
    minor: u16,
    extensions: impl IntoIterator<Item = &'a str>,
) {
    let names: Vec<&str> = extensions.into_iter().collect();
    put(out, b'v', |body| {
        // As in a startup packet, the major version too: libpq takes less for older than 3.0.
        body.extend_from_slice(&[0, 3]);
        body.extend_from_slice(&minor.to_be_bytes());
        let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
        body.extend_from_slice(&count.to_be_bytes());
        for name in names {
            put_str(body, name);
        }
    });
}

/// The minor version of protocol 3 that a server's NegotiateProtocolVersion says it speaks; `None`
/// if it is of another protocol, or can't be read.
pub fn negotiated_minor(body: &[u8]) -> Option<u16> {
    match *body {
        [0, 3, a, b, ..] => Some(u16::from_be_bytes([a, b])),
        _ => None,
    }
}

/// A result column: its name and the OID of its type.
pub type Column<'a> = (&'a str, u32);

/// Appends RowDescription for columns in these formats.
pub fn put_row_description(out: &mut Vec<u8>, columns: &[Column<'_>], formats: &Formats) {
    put(out, b'T', |body| {
        body.extend_from_slice(&count16(columns.len()));
        for (place, &(name, oid)) in columns.iter().enumerate() {
            put_str(body, name);
            // No table, no column number.
            body.extend_from_slice(&[0; 6]);
            body.extend_from_slice(&oid.to_be_bytes());
            body.extend_from_slice(&type_len(oid).to_be_bytes());
            // No type modifier.
            body.extend_from_slice(&(-1i32).to_be_bytes());
            body.extend_from_slice(&formats.at(place).code().to_be_bytes());
        }
    });
}

/// Appends a DataRow of values as they are.
pub fn put_data_row<'a>(out: &mut Vec<u8>, values: &[Option<impl AsRef<[u8]> + 'a>]) {
    put(out, b'D', |body| {
        body.extend_from_slice(&count16(values.len()));
        for value in values {
            match value {
                None => body.extend_from_slice(&(-1i32).to_be_bytes()),
                Some(value) => {
                    let bytes = value.as_ref();
                    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    body.extend_from_slice(&len.to_be_bytes());
                    body.extend_from_slice(bytes);
                }
            }
        }
    });
}

/// Appends CommandComplete.
pub fn put_complete(out: &mut Vec<u8>, tag: &str) {
    put(out, b'C', |body| put_str(body, tag));
}

pub(crate) fn count16(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes()
}

/// Bytes of a value of this type, -1 for variable length (pg_type.typlen).
fn type_len(oid: u32) -> i16 {
    match oid {
        20 => 8,
        23 => 4,
        _ => -1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream() -> Vec<u8> {
        let mut out = Vec::new();
        put_parameter(&mut out, "TimeZone", "UTC");
        put_parameter(&mut out, "search_path", &"long, ".repeat(1000));
        put(&mut out, b'S', |body| {
            body.extend(b"search_path\0gr\xfcn\0")
        });
        put_row_description(&mut out, &[("one", 23)], &Formats::default());
        put_data_row(&mut out, &[Some("1"), None]);
        put_complete(&mut out, "SELECT 1");
        put_ready(&mut out);
        out
    }

    #[test]
    fn a_stream_split_at_any_byte_goes_on_whole_and_settles() {
        let stream = stream();
        for split in 0..=stream.len() {
            let mut outflow = Outflow::default();
            let mut pipeline = Pipeline::default();
            pipeline.sent(b'Q');
            let (mut sent, mut held, mut seen) = (Vec::new(), Vec::new(), Vec::new());
            for piece in [&stream[..split], &stream[split..]] {
                held.extend_from_slice(piece);
                let mut at = 0;
                while at < held.len() {
                    let n = match outflow.next(&held[at..], &mut pipeline).unwrap() {
                        Action::Forward(n) => n,
                        Action::Parameter(n, parameter) => {
                            seen.push((parameter.name.to_owned(), parameter.value.to_owned()));
                            n
                        }
                        Action::Drop(n) => {
                            at += n;
                            continue;
                        }
                        Action::Unread(n) => {
                            seen.push(("unread".to_owned(), String::new()));
                            n
                        }
                        Action::Hold => break,
                        other => panic!("{other:?}"),
                    };
                    sent.extend_from_slice(&held[at..at + n]);
                    at += n;
                }
                held.drain(..at);
            }
            assert_eq!(sent, stream, "{split}");
            let unread = ("unread".to_owned(), String::new());
            let told = ("TimeZone".to_owned(), "UTC".to_owned());
            assert_eq!(seen, [told, unread.clone(), unread], "{split}");
            assert!(outflow.at_boundary() && pipeline.is_settled(), "{split}");
        }
    }

    #[test]
    fn a_row_reads_back_with_its_nulls() {
        let mut out = Vec::new();
        put_data_row(&mut out, &[Some("alice"), None, Some("")]);
        let row = parse_data_row(whole(&out).unwrap().unwrap().1);
        assert_eq!(row, Ok(vec![Some(&b"alice"[..]), None, Some(b"")]));
    }

    #[test]
    fn a_row_whose_lengths_do_not_add_up_is_malformed() {
        let bad: [&[u8]; 6] = [
            b"",
            b"\0",
            b"\0\x01",
            b"\0\x01\0\0\0\x02a",
            b"\0\x01\xff\xff\xff\xfe",
            b"\0\x01\0\0\0\x01ab",
        ];
        for body in bad {
            assert!(parse_data_row(body).is_err(), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_of_rows_panic(bytes in any::<Vec<u8>>()) {
            let _ = parse_data_row(&bytes);
        }
    }

    #[test]
    fn a_negotiated_version_reads_back_and_other_protocols_are_none() {
        let mut out = Vec::new();
        put_negotiate(&mut out, 2, ["_pq_.one"]);
        assert_eq!(out[..13], *b"v\0\0\0\x15\0\x03\0\x02\0\0\0\x01");
        assert_eq!(negotiated_minor(&out[5..]), Some(2));
        assert_eq!(negotiated_minor(b"\0\0\0\x01\0\0\0\0"), None);
        assert_eq!(negotiated_minor(b"\0\x03"), None);
    }

    #[test]
    fn a_ready_of_unknown_status_is_refused() {
        let mut pipeline = Pipeline::default();
        pipeline.sent(b'Q');
        let result = Outflow::default().next(b"Z\0\0\0\x05X", &mut pipeline);
        assert_eq!(result, Err(ProtocolError::Body("ReadyForQuery")));
    }
}

//! Prepared statements by name: reading the messages that name one, and writing them under
//! another name.
//!
//! A pooled statement is known by what stands behind the name in its Parse: the query and the types
//! of its parameters (PostgreSQL manual, "Message Formats").

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::frame::{FrameHeader, body_here, put, take_str};

/// Longest front of a message that is awaited in pieces, in bytes; of a longer one all is gathered.
const FRONT_LEN_MAX: usize = 8 << 10;

/// Bytes of a query that tell whether it drops prepared statements.
const VERB_LEN: usize = 12;

/// A client's message that names a prepared statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// Parse: a new statement.
    Parse {
        /// Its name.
        name: &'a [u8],
        /// The rest of the body: query, and types of parameters.
        definition: &'a [u8],
    },
    /// Bind: only its front need be here.
    Bind {
        /// Name of the portal.
        portal: &'a [u8],
        /// Name of the statement.
        name: &'a [u8],
    },
    /// Describe.
    Describe {
        /// Name of the statement.
        name: &'a [u8],
    },
    /// Close.
    Close {
        /// Name of the statement.
        name: &'a [u8],
    },
}

impl<'a> Named<'a> {
    /// The statement's name.
    pub fn name(&self) -> &'a [u8] {
        match *self {
            Self::Parse { name, .. }
            | Self::Bind { name, .. }
            | Self::Describe { name }
            | Self::Close { name } => name,
        }
    }
}

/// What there is to know of a message that may name a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading<'a> {
    /// It names none, or is malformed: the server is to see it as it is.
    Plain,
    /// A Parse without a name whose query may drop all prepared statements.
    PlainDropsAll,
    /// It names one.
    Named(Named<'a>),
    /// Too little of it is here.
    TooShort,
    /// The same, and it is too long to be awaited in pieces.
    Gather,
}

/// Whether a message at the front of `bytes`, as extended queries without names have it, is plain:
/// [`read`] would say so with more ado.
#[inline]
pub(crate) fn is_nameless(header: FrameHeader, bytes: &[u8]) -> bool {
    let body = || body_here(header, bytes);
    match header.tag {
        b'E' | b'S' => true,
        b'P' => matches!(body(), [0, query @ ..] if drops_all(query) == Some(false)),
        b'B' => body().starts_with(&[0, 0]),
        b'D' => header.body_len == 2 && body() == b"P\0",
        _ => false,
    }
}

/// Reads a Parse, Bind, Describe or Close at the front of `bytes`; other messages are plain.
pub fn read(header: FrameHeader, bytes: &[u8]) -> Reading<'_> {
    let body = body_here(header, bytes);
    let whole = body.len() == header.body_len;
    match header.tag {
        b'P' => read_parse(body, whole),
        b'B' => match read_bind(body) {
            Some((_, b"")) => Reading::Plain,
            Some((portal, name)) => Reading::Named(Named::Bind { portal, name }),
            None => awaited(body, whole),
        },
        b'D' | b'C' if whole => read_target(header.tag, body),
        b'D' | b'C' => awaited(body, whole),
        _ => Reading::Plain,
    }
}

fn read_parse(body: &[u8], whole: bool) -> Reading<'_> {
    match take_str(body) {
        Some((b"", query)) => match drops_all(query) {
            Some(true) => Reading::PlainDropsAll,
            Some(false) => Reading::Plain,
            None if whole => Reading::Plain,
            None => Reading::TooShort,
        },
        Some((name, definition)) if whole => match take_str(definition) {
            Some(_) => Reading::Named(Named::Parse { name, definition }),
            None => Reading::Plain,
        },
        _ => awaited(body, whole),
    }
}

/// Portal and statement of a Bind.
fn read_bind(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (portal, rest) = take_str(body)?;
    let (name, _) = take_str(rest)?;
    Some((portal, name))
}

fn read_target(tag: u8, body: &[u8]) -> Reading<'_> {
    match body.split_first() {
        Some((b'S', rest)) => match take_str(rest) {
            Some((b"", _)) | None => Reading::Plain,
            Some((name, b"")) if tag == b'D' => Reading::Named(Named::Describe { name }),
            Some((name, b"")) => Reading::Named(Named::Close { name }),
            Some(_) => Reading::Plain,
        },
        _ => Reading::Plain,
    }
}

fn awaited(body: &[u8], whole: bool) -> Reading<'_> {
    if whole {
        Reading::Plain
    } else if body.len() < FRONT_LEN_MAX {
        Reading::TooShort
    } else {
        Reading::Gather
    }
}

/// Whether a query, of which the front is here, is `DEALLOCATE …` or `DISCARD …`, or may be behind
/// a comment; `None` asks for more of it.
fn drops_all(query: &[u8]) -> Option<bool> {
    let start = query.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let verb = query.get(start..)?;
    match verb.first()? {
        b'd' | b'D' => {}
        b'-' | b'/' => return Some(true),
        _ => return Some(false),
    }
    let starts_with = |word: &[u8]| {
        let front = verb.get(..word.len());
        front.is_some_and(|front| front.eq_ignore_ascii_case(word))
    };
    let known = verb.len() >= VERB_LEN || memchr::memchr(0, verb).is_some();
    known.then(|| starts_with(b"discard") || starts_with(b"deallocate"))
}

/// Whether the statement of this definition may drop all prepared statements when it is executed.
pub fn definition_drops_all(definition: &[u8]) -> bool {
    drops_all(definition) == Some(true)
}

/// A digest of what a statement takes and returns, so far: of an answer to Describe, and of those
/// before it by their digest. Of columns count names and types, as in PostgreSQL's own comparison,
/// and not where they come from. Never 0.
pub fn shape(before: u64, tag: u8, body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (before, tag).hash(&mut hasher);
    match tag {
        b'T' => hash_columns(body, &mut hasher),
        _ => body.hash(&mut hasher),
    }
    hasher.finish().max(1)
}

fn hash_columns(body: &[u8], hasher: &mut DefaultHasher) {
    let mut rest = body.get(2..).unwrap_or_default();
    while let Some((name, fields)) = take_str(rest) {
        // Table and number of the column, then its type, length, modifier and format.
        let Some((&[_, _, _, _, _, _, kind @ ..], tail)) = fields.split_first_chunk::<18>() else {
            break;
        };
        (name, kind).hash(hasher);
        rest = tail;
    }
    rest.hash(hasher);
}

/// Bytes in front of what a Bind says behind its names.
pub fn bind_front_len(portal: &[u8], name: &[u8]) -> usize {
    FrameHeader::LEN
        .saturating_add(portal.len())
        .saturating_add(name.len())
        .saturating_add(2)
}

/// Appends a Parse under another name.
pub fn put_parse(out: &mut Vec<u8>, name: &[u8], definition: &[u8]) {
    put(out, b'P', |body| {
        put_name(body, name);
        body.extend_from_slice(definition);
    });
}

/// Appends the front of a Bind under another statement name; `header` is the client's own, and
/// what follows the names in it is to be sent behind.
pub fn put_bind_front(out: &mut Vec<u8>, header: FrameHeader, named: (&[u8], &[u8]), name: &[u8]) {
    let (portal, old) = named;
    let len = header
        .body_len
        .saturating_sub(old.len())
        .saturating_add(name.len())
        .saturating_add(4);
    out.push(b'B');
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    put_name(out, portal);
    put_name(out, name);
}

/// Appends a Describe of a statement.
pub fn put_describe(out: &mut Vec<u8>, name: &[u8]) {
    put_target(out, b'D', name);
}

/// Appends a Close of a statement.
pub fn put_close(out: &mut Vec<u8>, name: &[u8]) {
    put_target(out, b'C', name);
}

/// Appends a Flush.
pub fn put_flush(out: &mut Vec<u8>) {
    put(out, b'H', |_| {});
}

fn put_target(out: &mut Vec<u8>, tag: u8, name: &[u8]) {
    put(out, tag, |body| {
        body.push(b'S');
        put_name(body, name);
    });
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    out.extend_from_slice(name);
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, tag, |b| b.extend_from_slice(body));
        out
    }

    fn reading(bytes: &[u8]) -> Reading<'_> {
        read(FrameHeader::peek(bytes).unwrap().unwrap(), bytes)
    }

    #[test]
    fn messages_that_name_a_statement_are_read() {
        let parse = frame(b'P', b"s1\0select $1\0\0\x01\0\0\0\x17");
        assert_eq!(
            reading(&parse),
            Reading::Named(Named::Parse {
                name: b"s1",
                definition: b"select $1\0\0\x01\0\0\0\x17"
            })
        );
        let bind = frame(b'B', b"p\0s1\0\0\0\0\0\0\0");
        let named = Named::Bind {
            portal: b"p",
            name: b"s1",
        };
        assert_eq!(reading(&bind), Reading::Named(named));
        // Its front is enough.
        assert_eq!(reading(&bind[..10]), Reading::Named(named));
        assert_eq!(
            reading(&frame(b'D', b"Ss1\0")),
            Reading::Named(Named::Describe { name: b"s1" })
        );
        assert_eq!(
            reading(&frame(b'C', b"Ss1\0")),
            Reading::Named(Named::Close { name: b"s1" })
        );
    }

    #[test]
    fn what_names_none_is_left_alone() {
        for (tag, body) in [
            (b'P', &b"\0select 1\0\0\0"[..]),
            (b'B', b"\0\0\0\0\0\0\0\0"),
            (b'D', b"S\0"),
            (b'D', b"Pp\0"),
            (b'C', b"Pp\0"),
            (b'E', b"\0\0\0\0\0"),
            // Malformed: the server says so.
            (b'P', b"s1"),
            (b'P', b"s1\0select"),
            (b'B', b"p\0s1"),
            (b'C', b""),
            (b'C', b"Ss1\0x"),
        ] {
            let frame = frame(tag, body);
            assert_eq!(reading(&frame), Reading::Plain, "{frame:?}");
        }
    }

    #[test]
    fn a_front_too_short_is_awaited_and_one_too_long_gathered() {
        let parse = frame(b'P', &[&b"s1\0"[..], &[b'x'; 20_000], b"\0\0\0"].concat());
        assert_eq!(reading(&parse[..5]), Reading::TooShort);
        assert_eq!(reading(&parse[..100]), Reading::TooShort);
        assert_eq!(reading(&parse[..FRONT_LEN_MAX + 5]), Reading::Gather);
        assert!(matches!(reading(&parse), Reading::Named(_)));
        // An unnamed one passes without being gathered.
        let parse = frame(b'P', &[&b"\0"[..], &[b'x'; 20_000], b"\0\0\0"].concat());
        assert_eq!(reading(&parse[..20]), Reading::Plain);
    }

    #[test]
    fn queries_that_drop_all_statements_are_seen() {
        for (query, expected) in [
            (&b"DISCARD ALL\0"[..], Some(true)),
            (b"  deallocate all\0", Some(true)),
            (b"/* x */ select 1\0", Some(true)),
            (b"delete from t where\0", Some(false)),
            (b"do $$ begin end $$\0", Some(false)),
            (b"select 1\0", Some(false)),
            (b"\0", Some(false)),
            (b"d\0", Some(false)),
            (b"", None),
            (b"  ", None),
            (b"DEAL", None),
        ] {
            assert_eq!(drops_all(query), expected, "{query:?}");
        }
        let parse = frame(b'P', b"\0discard all\0\0\0");
        assert_eq!(reading(&parse), Reading::PlainDropsAll);
        assert_eq!(reading(&parse[..9]), Reading::TooShort);
    }

    #[test]
    fn a_bind_under_another_name_is_as_long_as_it_says() {
        let client = frame(b'B', b"p\0statement\0\0\0\0\0\0\0");
        let header = FrameHeader::peek(&client).unwrap().unwrap();
        let mut out = Vec::new();
        put_bind_front(&mut out, header, (b"p", b"statement"), b"PGBOUNCER_1");
        out.extend_from_slice(&client[bind_front_len(b"p", b"statement")..]);
        assert_eq!(out, frame(b'B', b"p\0PGBOUNCER_1\0\0\0\0\0\0\0"));
    }

    #[test]
    fn a_shape_is_names_and_types_whatever_the_table() {
        let column = |name: &str, table: u32, kind: u32| {
            let fields = [
                &table.to_be_bytes()[..],
                &[0, 1],
                &kind.to_be_bytes(),
                &[0; 8],
            ];
            [name.as_bytes(), b"\0", &fields.concat()].concat()
        };
        let of = |columns: &[Vec<u8>]| {
            let body = [&[0, 1], &columns.concat()[..]].concat();
            shape(shape(0, b't', b"\0\0"), b'T', &body)
        };
        let one = of(&[column("a", 1, 23)]);
        assert_eq!(one, of(&[column("a", 2, 23)]));
        assert_ne!(one, of(&[column("b", 1, 23)]));
        assert_ne!(one, of(&[column("a", 1, 25)]));
        assert_ne!(one, of(&[column("a", 1, 23), column("b", 1, 23)]));
        assert_ne!(shape(0, b'n', b""), shape(shape(0, b't', b""), b'n', b""));
    }

    #[test]
    fn a_description_of_which_more_is_to_come_is_not_yet_plain() {
        let whole = frame(b'D', b"P\0");
        assert!(is_nameless(
            FrameHeader::peek(&whole).unwrap().unwrap(),
            &whole
        ));
        let longer = frame(b'D', b"P\0select 1\0");
        let header = FrameHeader::peek(&longer).unwrap().unwrap();
        assert!(!is_nameless(header, &longer[..7]));
    }

    proptest! {
        #[test]
        fn anything_can_be_read(tag: u8, body: Vec<u8>, cut in 5usize..64) {
            let frame = frame(tag, &body);
            let header = FrameHeader::peek(&frame).unwrap().unwrap();
            let _ = read(header, &frame[..cut.min(frame.len())]);
            prop_assert_ne!(shape(0, b'T', &body), 0);
            prop_assert!(!matches!(read(header, &frame), Reading::TooShort | Reading::Gather));
        }

        #[test]
        fn what_is_seen_to_be_nameless_is_plain(
            tag in proptest::sample::select(&b"PBDESCQ"[..]),
            body in proptest::collection::vec(proptest::sample::select(&b"\0\0\0PS d-"[..]), 0..9),
            query in proptest::sample::select(&["", "select 1\0", "discard all\0", "/**/"][..]),
            cut in 5usize..40,
        ) {
            let frame = frame(tag, &[&body, query.as_bytes()].concat());
            let header = FrameHeader::peek(&frame).unwrap().unwrap();
            let bytes = &frame[..cut.min(frame.len())];
            prop_assert!(!is_nameless(header, bytes) || read(header, bytes) == Reading::Plain);
        }
    }
}

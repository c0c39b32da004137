//! The extended protocol from a server's side: its messages read whole, and what answers them.
//!
//! Clients' messages to servers pass unread (see `frontend` and `statements`); this is for those
//! to the pooler itself.

use crate::backend::count16;
use crate::frame::{ProtocolError, put, take_str};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As text.
    Text,
    /// As `binary` has it.
    Binary,
}

impl Format {
    /// Its code in messages.
    pub fn code(self) -> u16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }
}

/// A client's message of the extended protocol.
#[derive(Debug, PartialEq, Eq)]
pub enum Extended<'a> {
    /// Prepare a statement.
    Parse {
        /// Its name; empty for the one without.
        name: &'a [u8],
        /// What it says.
        query: &'a [u8],
        /// Types of its parameters, as far as the client tells; 0 leaves one open.
        types: Vec<u32>,
    },
    /// Make a portal of a statement.
    Bind {
        /// The portal's name.
        portal: &'a [u8],
        /// The statement's.
        statement: &'a [u8],
        /// How the parameters are written.
        formats: Formats,
        /// The parameters; `None` is NULL.
        values: Vec<Option<&'a [u8]>>,
        /// How the columns of the result are to be written.
        results: Formats,
    },
    /// Tell what it takes and returns.
    Describe(Target<'a>),
    /// Run a portal, or run it on.
    Execute {
        /// Its name.
        portal: &'a [u8],
        /// Rows to stop after; `None`: never.
        rows_max: Option<usize>,
    },
    /// Forget it.
    Close(Target<'a>),
    /// Send what is answered so far.
    Flush,
    /// The request is over.
    Sync,
}

/// What Describe and Close are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

/// The formats of several values: none for text, one for all, or one each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Formats(Vec<Format>);

impl Formats {
    /// The format of the value at that place.
    pub fn at(&self, place: usize) -> Format {
        match self.0.as_slice() {
            [] => Format::Text,
            [all] => *all,
            each => each.get(place).copied().unwrap_or(Format::Text),
        }
    }

    /// Whether they are as many as so many values may have.
    pub fn fit(&self, values: usize) -> bool {
        self.0.len() <= 1 || self.0.len() == values
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl<'a> Extended<'a> {
    /// Reads a message; `None` if it is not of the extended protocol.
    pub fn read(tag: u8, body: &'a [u8]) -> Result<Option<Self>, ProtocolError> {
        let mut rest = Rest(body);
        let (read, name) = match tag {
            b'P' => (rest.parse(), "Parse"),
            b'B' => (rest.bind(), "Bind"),
            b'D' => (rest.target().map(Self::Describe), "Describe"),
            b'E' => (rest.execute(), "Execute"),
            b'C' => (rest.target().map(Self::Close), "Close"),
            b'H' => (Some(Self::Flush), "Flush"),
            b'S' => (Some(Self::Sync), "Sync"),
            _ => return Ok(None),
        };
        match read {
            Some(message) if rest.0.is_empty() => Ok(Some(message)),
            _ => Err(ProtocolError::Body(name)),
        }
    }
}

/// What is left of a body.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn parse(&mut self) -> Option<Extended<'a>> {
        Some(Extended::Parse {
            name: self.str()?,
            query: self.str()?,
            types: self.list(|rest| rest.int().map(u32::from_be_bytes))?,
        })
    }

    fn bind(&mut self) -> Option<Extended<'a>> {
        Some(Extended::Bind {
            portal: self.str()?,
            statement: self.str()?,
            formats: self.formats()?,
            values: self.list(Self::value)?,
            results: self.formats()?,
        })
    }

    fn execute(&mut self) -> Option<Extended<'a>> {
        let portal = self.str()?;
        // As PostgreSQL takes it, less than 1 is all.
        let rows = usize::try_from(i32::from_be_bytes(self.int()?)).unwrap_or(0);
        Some(Extended::Execute {
            portal,
            rows_max: (rows > 0).then_some(rows),
        })
    }

    fn target(&mut self) -> Option<Target<'a>> {
        let (&kind, rest) = self.0.split_first()?;
        self.0 = rest;
        match kind {
            b'S' => self.str().map(Target::Statement),
            b'P' => self.str().map(Target::Portal),
            _ => None,
        }
    }

    fn formats(&mut self) -> Option<Formats> {
        let formats = self.list(|rest| match rest.short()? {
            0 => Some(Format::Text),
            1 => Some(Format::Binary),
            _ => None,
        });
        formats.map(Formats)
    }

    fn value(&mut self) -> Option<Option<&'a [u8]>> {
        let len = i32::from_be_bytes(self.int()?);
        if len == -1 {
            return Some(None);
        }
        let (value, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(Some(value))
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.short()?).map(|_| item(self)).collect()
    }

    fn str(&mut self) -> Option<&'a [u8]> {
        let (text, rest) = take_str(self.0)?;
        self.0 = rest;
        Some(text)
    }

    fn short(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    fn int(&mut self) -> Option<[u8; 4]> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*number)
    }
}

/// An answer that says all by being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// ParseComplete.
    Parsed,
    /// BindComplete.
    Bound,
    /// CloseComplete.
    Closed,
    /// NoData: it returns no rows.
    NoRows,
    /// PortalSuspended: there may be more rows.
    Suspended,
    /// EmptyQueryResponse.
    Empty,
}

/// Appends such an answer.
pub fn put_sign(out: &mut Vec<u8>, sign: Sign) {
    let tag = match sign {
        Sign::Parsed => b'1',
        Sign::Bound => b'2',
        Sign::Closed => b'3',
        Sign::NoRows => b'n',
        Sign::Suspended => b's',
        Sign::Empty => b'I',
    };
    put(out, tag, |_| {});
}

/// Appends ParameterDescription.
pub fn put_parameter_types(out: &mut Vec<u8>, types: &[u32]) {
    put(out, b't', |body| {
        body.extend_from_slice(&count16(types.len()));
        types
            .iter()
            .for_each(|oid| body.extend_from_slice(&oid.to_be_bytes()));
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_read_whole() {
        let read = |tag, body| Extended::read(tag, body).unwrap().unwrap();
        assert_eq!(
            read(b'P', b"s\0SHOW x\0\0\x01\0\0\0\x17"),
            Extended::Parse {
                name: b"s",
                query: b"SHOW x",
                types: vec![23],
            }
        );
        assert_eq!(
            read(
                b'B',
                b"p\0s\0\0\x01\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff\0\0"
            ),
            Extended::Bind {
                portal: b"p",
                statement: b"s",
                formats: Formats(vec![Format::Binary]),
                values: vec![Some(b"x"), None],
                results: Formats::default(),
            }
        );
        assert_eq!(
            read(b'E', b"p\0\0\0\0\x05"),
            Extended::Execute {
                portal: b"p",
                rows_max: Some(5),
            }
        );
        let target = Target::Portal(b"p");
        assert_eq!(read(b'D', b"Pp\0"), Extended::Describe(target));
        assert_eq!(read(b'C', b"Pp\0"), Extended::Close(target));
        assert_eq!(Extended::read(b'Q', b"SHOW x\0"), Ok(None));
    }

    #[test]
    fn what_is_too_short_too_long_or_of_an_unknown_kind_is_refused() {
        for (tag, body) in [
            (b'P', &b"s\0SHOW x\0\0\x02\0\0\0\x17"[..]),
            (b'P', b"s\0SHOW x\0\0\0!"),
            (b'B', b"p\0s\0\0\x01\0\x02\0\0\0\0"),
            (b'B', b"p\0s\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
            (b'D', b"Xp\0"),
            (b'S', b"!"),
        ] {
            assert!(Extended::read(tag, body).is_err(), "{tag} {body:?}");
        }
    }

    #[test]
    fn one_format_is_for_all_values_and_none_is_text() {
        let formats = Formats(vec![Format::Binary]);
        assert_eq!(formats.at(7), Format::Binary);
        assert!(formats.fit(0) && formats.fit(3));
        assert_eq!(Formats::default().at(0), Format::Text);
        let two = Formats(vec![Format::Text, Format::Binary]);
        assert_eq!(two.at(1), Format::Binary);
        assert!(two.fit(2) && !two.fit(3));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(tag in any::<u8>(), body in any::<Vec<u8>>()) {
            let _ = Extended::read(tag, &body);
        }
    }
}

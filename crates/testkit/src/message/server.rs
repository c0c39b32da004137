//! What a server says.

use std::{collections::BTreeMap, fmt};

use super::{Body, CancelKey, Message, Side, client::texts, put_count, put_text, put_values};

/// Where a session stands, as ReadyForQuery tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tx {
    /// Outside of a transaction.
    Idle,
    /// In a transaction.
    Open,
    /// In a transaction that failed.
    Failed,
}

impl Tx {
    /// Its letter in ReadyForQuery.
    pub fn letter(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }
}

/// The fields of an ErrorResponse or NoticeResponse, by their letters.
#[derive(Clone, PartialEq, Eq)]
pub struct ErrorFields(pub BTreeMap<char, String>);

impl ErrorFields {
    /// One field, or the empty text.
    pub fn get(&self, letter: char) -> &str {
        self.0.get(&letter).map_or("", String::as_str)
    }

    /// ERROR, FATAL, …
    pub fn severity(&self) -> &str {
        self.get('S')
    }

    /// The SQLSTATE.
    pub fn code(&self) -> &str {
        self.get('C')
    }

    /// The message.
    pub fn text(&self) -> &str {
        self.get('M')
    }
}

impl fmt::Display for ErrorFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.severity(), self.code(), self.text())?;
        let more = self
            .0
            .iter()
            .filter(|(letter, _)| !"SVCM".contains(**letter));
        more.into_iter()
            .try_for_each(|(letter, text)| write!(f, " {letter}={text:?}"))
    }
}

impl fmt::Debug for ErrorFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Message {
    /// The login is over.
    pub fn auth_ok() -> Self {
        Self::auth(0, &[])
    }

    /// An authentication request with its number.
    pub fn auth(request: u32, data: &[u8]) -> Self {
        Self::server(b'R', [&request.to_be_bytes(), data].concat())
    }

    /// The newest minor version of protocol 3 that is spoken, and options that nobody knows.
    pub fn negotiate_version(minor: u16, unknown: &[&str]) -> Self {
        let count = u32::try_from(unknown.len()).expect("few options");
        let version = (3 << 16) | u32::from(minor);
        let front = [version.to_be_bytes(), count.to_be_bytes()].concat();
        Self::server(b'v', [front, texts(unknown)].concat())
    }

    /// The value of a run-time parameter.
    pub fn parameter_status(name: &str, value: &str) -> Self {
        Self::server(b'S', texts(&[name, value]))
    }

    /// What a cancel request will have to show.
    pub fn backend_key(key: &CancelKey) -> Self {
        Self::server(b'K', key.encode())
    }

    /// The next request may come.
    pub fn ready(tx: Tx) -> Self {
        Self::server(b'Z', [tx.letter()])
    }

    /// Columns of type text.
    pub fn row_description(names: &[&str]) -> Self {
        const TEXT: u32 = 25;
        let mut body = Vec::new();
        put_count(&mut body, names.len());
        for name in names {
            put_text(&mut body, name);
            // No table, no column number; then type, any length, no modifier, text format.
            body.extend_from_slice(&[0; 6]);
            body.extend_from_slice(&TEXT.to_be_bytes());
            body.extend_from_slice(&(-1i16).to_be_bytes());
            body.extend_from_slice(&(-1i32).to_be_bytes());
            body.extend_from_slice(&[0; 2]);
        }
        Self::server(b'T', body)
    }

    /// What a statement takes: so many parameters of type text.
    pub fn parameter_description(count: usize) -> Self {
        let mut body = Vec::new();
        put_count(&mut body, count);
        body.extend([0, 0, 0, 25].repeat(count));
        Self::server(b't', body)
    }

    /// A row; `None` is NULL.
    pub fn data_row(values: &[Option<&str>]) -> Self {
        let mut body = Vec::new();
        put_values(&mut body, values);
        Self::server(b'D', body)
    }

    /// A command is done.
    pub fn command_complete(tag: &str) -> Self {
        Self::server(b'C', texts(&[tag]))
    }

    /// The answer to a query without words.
    pub fn empty_query() -> Self {
        Self::server(b'I', [])
    }

    /// An error.
    pub fn error(severity: &str, code: &str, text: &str) -> Self {
        Self::server(b'E', fields(severity, code, text))
    }

    /// A notice.
    pub fn notice(text: &str) -> Self {
        Self::server(b'N', fields("NOTICE", "00000", text))
    }

    /// A notification.
    pub fn notification(pid: u32, channel: &str, payload: &str) -> Self {
        let body = [&pid.to_be_bytes()[..], &texts(&[channel, payload])].concat();
        Self::server(b'A', body)
    }

    /// Parse is done.
    pub fn parse_complete() -> Self {
        Self::server(b'1', [])
    }

    /// Bind is done.
    pub fn bind_complete() -> Self {
        Self::server(b'2', [])
    }

    /// Close is done.
    pub fn close_complete() -> Self {
        Self::server(b'3', [])
    }

    /// It returns no rows.
    pub fn no_data() -> Self {
        Self::server(b'n', [])
    }

    /// The server wants COPY data of one text column.
    pub fn copy_in_response() -> Self {
        Self::server(b'G', [0, 0, 1, 0, 0])
    }

    /// The server will send COPY data of one text column.
    pub fn copy_out_response() -> Self {
        Self::server(b'H', [0, 0, 1, 0, 0])
    }

    /// COPY data, from either side.
    pub fn copy_data(side: Side, data: &[u8]) -> Self {
        Self {
            side,
            tag: b'd',
            body: data.to_vec(),
        }
    }

    /// The end of COPY data, from either side.
    pub fn copy_done(side: Side) -> Self {
        Self {
            side,
            tag: b'c',
            body: Vec::new(),
        }
    }

    /// The fields, if this is an error or a notice.
    pub fn error_fields(&self) -> Option<ErrorFields> {
        if self.side != Side::Server || !matches!(self.tag, b'E' | b'N') {
            return None;
        }
        let mut body = Body(&self.body);
        let mut fields = BTreeMap::new();
        while let Some(letter) = body.byte().filter(|&letter| letter != 0) {
            fields.insert(char::from(letter), body.text()?);
        }
        Some(ErrorFields(fields))
    }

    /// The values, if this is a DataRow.
    pub fn values(&self) -> Option<Vec<Option<String>>> {
        let is_row = self.side == Side::Server && self.tag == b'D';
        is_row.then(|| Body(&self.body).values())?
    }

    /// The column names, if this is a RowDescription.
    pub fn columns(&self) -> Option<Vec<String>> {
        if self.side != Side::Server || self.tag != b'T' {
            return None;
        }
        let mut body = Body(&self.body);
        let count = body.u16()?;
        (0..count)
            .map(|_| {
                let name = body.text()?;
                body.bytes(18)?;
                Some(name)
            })
            .collect()
    }

    /// The type of each column as its OID, if this is a RowDescription.
    pub fn column_types(&self) -> Option<Vec<i32>> {
        if self.side != Side::Server || self.tag != b'T' {
            return None;
        }
        let mut body = Body(&self.body);
        let count = body.u16()?;
        (0..count)
            .map(|_| {
                body.text()?;
                body.bytes(6)?;
                let oid = body.i32()?;
                body.bytes(8)?;
                Some(oid)
            })
            .collect()
    }

    /// The tag of a CommandComplete.
    pub fn command_tag(&self) -> Option<String> {
        let is_complete = self.side == Side::Server && self.tag == b'C';
        is_complete.then(|| Body(&self.body).text())?
    }

    /// Name and value, if this is a ParameterStatus.
    pub fn parameter(&self) -> Option<(String, String)> {
        if self.side != Side::Server || self.tag != b'S' {
            return None;
        }
        let mut body = Body(&self.body);
        Some((body.text()?, body.text()?))
    }
}

fn fields(severity: &str, code: &str, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (letter, value) in [
        (b'S', severity),
        (b'V', severity),
        (b'C', code),
        (b'M', text),
    ] {
        body.push(letter);
        put_text(&mut body, value);
    }
    body.push(0);
    body
}

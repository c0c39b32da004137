//! ErrorResponse and NoticeResponse: their fields, read and written.

use std::borrow::Cow;

use crate::frame::{put, put_str, take_str};

/// How grave a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The connection ends.
    Fatal,
    /// The command failed.
    Error,
    /// For information.
    Notice,
}

impl Severity {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Notice => "NOTICE",
        }
    }
}

/// Five characters that programs read (PostgreSQL manual, appendix "Error Codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub [u8; 5]);

impl SqlState {
    /// `protocol_violation`: PgBouncer's code for nearly everything.
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// `config_file_error`: a failed RELOAD.
    pub const CONFIG_FILE_ERROR: Self = Self(*b"F0000");
    /// `successful_completion`: notices.
    pub const SUCCESS: Self = Self(*b"00000");
    /// `cannot_connect_now`: the server is starting up.
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// `query_canceled`: whoever asked wants no answer any more.
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// `feature_not_supported`.
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");

    /// The code as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// Reads five printable bytes; anything else is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let code: [u8; 5] = bytes.try_into().ok()?;
        code.iter()
            .all(u8::is_ascii_alphanumeric)
            .then_some(Self(code))
    }
}

/// The fields of a report that a pooler cares about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorFields {
    /// `S`: severity, perhaps localised.
    pub severity: String,
    /// `C`: the SQLSTATE; absent from some broken servers.
    pub sqlstate: Option<SqlState>,
    /// `M`: the message.
    pub message: String,
}

impl ErrorFields {
    /// Reads the body of an ErrorResponse or NoticeResponse; what is missing stays empty.
    pub fn parse(body: &[u8]) -> Self {
        let mut fields = Self {
            severity: String::new(),
            sqlstate: None,
            message: String::new(),
        };
        let mut rest = body;
        while let Some((&kind, tail)) = rest.split_first() {
            if kind == 0 {
                break;
            }
            let Some((value, tail)) = take_str(tail) else {
                break;
            };
            match kind {
                b'S' => fields.severity = text(value),
                b'C' => fields.sqlstate = SqlState::parse(value),
                b'M' => fields.message = text(value),
                _ => {}
            }
            rest = tail;
        }
        fields
    }
}

fn text(bytes: &[u8]) -> String {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => text.to_owned(),
        Cow::Owned(text) => text,
    }
}

/// Appends an ErrorResponse with severity, code and message: the three fields PgBouncer sends.
pub fn put_error(out: &mut Vec<u8>, severity: Severity, code: SqlState, message: &str) {
    put(out, b'E', |body| {
        put_fields(body, severity, code, message, None)
    });
}

/// Appends a NoticeResponse.
pub fn put_notice(out: &mut Vec<u8>, code: SqlState, message: &str, detail: Option<&str>) {
    put(out, b'N', |body| {
        put_fields(body, Severity::Notice, code, message, detail);
    });
}

fn put_fields(
    body: &mut Vec<u8>,
    severity: Severity,
    code: SqlState,
    message: &str,
    detail: Option<&str>,
) {
    let fields = [
        (b'S', severity.as_str()),
        (b'C', code.as_str()),
        (b'M', message),
    ];
    for (kind, value) in fields.into_iter().chain(detail.map(|text| (b'D', text))) {
        body.push(kind);
        put_str(body, value);
    }
    body.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::whole;

    #[test]
    fn an_error_reads_back_as_it_was_written() {
        let mut out = Vec::new();
        put_error(
            &mut out,
            Severity::Fatal,
            SqlState::PROTOCOL_VIOLATION,
            "no such database: x",
        );
        let (header, body, rest) = whole(&out).unwrap().unwrap();
        assert_eq!((header.tag, rest), (b'E', &b""[..]));
        let fields = ErrorFields::parse(body);
        assert_eq!(fields.severity, "FATAL");
        assert_eq!(fields.sqlstate, Some(SqlState::PROTOCOL_VIOLATION));
        assert_eq!(fields.message, "no such database: x");
    }

    #[test]
    fn an_error_without_a_code_or_an_end_is_still_read() {
        let fields = ErrorFields::parse(b"SFATAL\0Mhalf");
        assert_eq!(fields.severity, "FATAL");
        assert_eq!(fields.sqlstate, None);
        assert_eq!(fields.message, "");
    }
}

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
    /// `admin_shutdown`: the process ends.
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// `cannot_connect_now`: the server is starting up.
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// `query_canceled`: whoever asked wants no answer any more.
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// `duplicate_prepared_statement`.
    pub const NAME_TAKEN: Self = Self(*b"42P05");
    /// `invalid_sql_statement_name`: no such prepared statement.
    pub const UNKNOWN_STATEMENT: Self = Self(*b"26000");
    /// `duplicate_cursor`: a portal of that name is there.
    pub const PORTAL_TAKEN: Self = Self(*b"42P03");
    /// `invalid_cursor_name`: no such portal.
    pub const UNKNOWN_PORTAL: Self = Self(*b"34000");
    /// `object_not_in_prerequisite_state`: a portal that has run.
    pub const PORTAL_DONE: Self = Self(*b"55000");
    /// `program_limit_exceeded`.
    pub const LIMIT_EXCEEDED: Self = Self(*b"54000");
    /// `null_value_not_allowed`.
    pub const NULL_NOT_ALLOWED: Self = Self(*b"22004");
    /// `invalid_parameter_value`.
    pub const INVALID_VALUE: Self = Self(*b"22023");
    /// `out_of_memory`.
    pub const OUT_OF_MEMORY: Self = Self(*b"53200");
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

/// The routine of PostgreSQL's that refuses a statement whose result has changed.
pub const CHANGED_PLAN: &str = "RevalidateCachedQuery";

/// The fields of a report that a pooler cares about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorFields {
    /// `S`: severity, perhaps localised.
    pub severity: String,
    /// `C`: the SQLSTATE; absent from some broken servers.
    pub sqlstate: Option<SqlState>,
    /// `M`: the message.
    pub message: String,
    /// `R`: the routine of the server's that found the error.
    pub routine: String,
}

impl ErrorFields {
    /// Reads the body of an ErrorResponse or NoticeResponse; what is missing stays empty.
    pub fn parse(body: &[u8]) -> Self {
        let mut fields = Self {
            severity: String::new(),
            sqlstate: None,
            message: String::new(),
            routine: String::new(),
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
                b'R' => fields.routine = text(value),
                _ => {}
            }
            rest = tail;
        }
        fields
    }

    /// True if a prepared statement can't be used on, since its result is no longer what its
    /// client was told in whatever language ([`CHANGED_PLAN`]).
    pub fn is_changed_plan(&self) -> bool {
        self.sqlstate == Some(SqlState::FEATURE_NOT_SUPPORTED) && self.routine == CHANGED_PLAN
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

/// Appends an ErrorResponse with these fields.
pub fn put_error_fields(out: &mut Vec<u8>, fields: &[(u8, &str)]) {
    put(out, b'E', |body| {
        for &(kind, value) in fields {
            body.push(kind);
            put_str(body, value);
        }
        body.push(0);
    });
}

/// Appends an ErrorResponse with the fields of another one, whose message names `name` for
/// `placeholder`.
pub fn put_error_about(out: &mut Vec<u8>, body: &[u8], placeholder: &[u8], name: &[u8]) {
    put(out, b'E', |fields| {
        let mut rest = body;
        while let Some((&kind, tail)) = rest.split_first() {
            let Some((value, tail)) = take_str(tail) else {
                break;
            };
            fields.push(kind);
            if kind == b'M' {
                put_replaced(fields, value, placeholder, name);
            } else {
                fields.extend_from_slice(value);
            }
            fields.push(0);
            rest = tail;
        }
        fields.push(0);
    });
}

fn put_replaced(out: &mut Vec<u8>, text: &[u8], placeholder: &[u8], name: &[u8]) {
    let parts = memchr::memmem::find(text, placeholder).and_then(|at| {
        let (front, rest) = text.split_at_checked(at)?;
        Some((front, rest.get(placeholder.len()..)?))
    });
    match parts {
        Some((front, back)) => [front, name, back]
            .iter()
            .for_each(|part| out.extend_from_slice(part)),
        None => out.extend_from_slice(text),
    }
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
    fn an_error_may_be_about_another_name() {
        let body = b"SERROR\0C42P05\0M\"PGBOUNCER_taken\" already exists\0L412\0\0";
        let mut out = Vec::new();
        put_error_about(&mut out, body, b"PGBOUNCER_taken", b"mine");
        let (_, body, _) = whole(&out).unwrap().unwrap();
        assert_eq!(body, b"SERROR\0C42P05\0M\"mine\" already exists\0L412\0\0");
    }

    #[test]
    fn an_error_without_a_code_or_an_end_is_still_read() {
        let fields = ErrorFields::parse(b"SFATAL\0Mhalf");
        assert_eq!(fields.severity, "FATAL");
        assert_eq!(fields.sqlstate, None);
        assert_eq!(fields.message, "");
    }
}

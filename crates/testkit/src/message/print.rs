//! Messages as people read them in transcripts.

use std::fmt;

use super::{Body, Message, Side};

/// One message a line, the client's with `>`, the server's with `<`.
pub fn transcript<'a>(messages: impl IntoIterator<Item = &'a Message>) -> String {
    let arrow = |side| match side {
        Side::Client => '>',
        Side::Server => '<',
    };
    messages
        .into_iter()
        .map(|message| format!("{} {message}\n", arrow(message.side)))
        .collect()
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self.details() {
            Some(details) if details.is_empty() => write!(f, "{name}"),
            Some(details) => write!(f, "{name} {details}"),
            None => write!(
                f,
                "{name} with an unreadable body of {} bytes",
                self.body.len()
            ),
        }
    }
}

impl Message {
    fn name(&self) -> String {
        let name = match (self.side, self.tag) {
            (Side::Client, b'Q') => "Query",
            (Side::Client, b'P') => "Parse",
            (Side::Client, b'B') => "Bind",
            (Side::Client, b'D') => "Describe",
            (Side::Client, b'E') => "Execute",
            (Side::Client, b'C') => "Close",
            (Side::Client, b'S') => "Sync",
            (Side::Client, b'H') => "Flush",
            (Side::Client, b'F') => "FunctionCall",
            (Side::Client, b'p') => "Password",
            (Side::Client, b'f') => "CopyFail",
            (Side::Client, b'X') => "Terminate",
            (Side::Server, b'R') => "Authentication",
            (Side::Server, b'S') => "ParameterStatus",
            (Side::Server, b'K') => "BackendKeyData",
            (Side::Server, b'Z') => "ReadyForQuery",
            (Side::Server, b'T') => "RowDescription",
            (Side::Server, b't') => "ParameterDescription",
            (Side::Server, b'D') => "DataRow",
            (Side::Server, b'C') => "CommandComplete",
            (Side::Server, b'I') => "EmptyQueryResponse",
            (Side::Server, b'E') => "ErrorResponse",
            (Side::Server, b'N') => "NoticeResponse",
            (Side::Server, b'A') => "NotificationResponse",
            (Side::Server, b'1') => "ParseComplete",
            (Side::Server, b'2') => "BindComplete",
            (Side::Server, b'3') => "CloseComplete",
            (Side::Server, b'n') => "NoData",
            (Side::Server, b's') => "PortalSuspended",
            (Side::Server, b'G') => "CopyInResponse",
            (Side::Server, b'H') => "CopyOutResponse",
            (Side::Server, b'W') => "CopyBothResponse",
            (Side::Server, b'V') => "FunctionCallResponse",
            (Side::Server, b'v') => "NegotiateProtocolVersion",
            (_, b'd') => "CopyData",
            (_, b'c') => "CopyDone",
            (_, other) => return format!("{:?}", char::from(other)),
        };
        name.to_owned()
    }

    /// What stands in the body, as far as it matters to a reader.
    fn details(&self) -> Option<String> {
        let mut body = Body(&self.body);
        Some(match (self.side, self.tag) {
            (Side::Client, b'Q') => quoted(&body.text()?),
            (Side::Client, b'P') => format!("{} {}", quoted(&body.text()?), quoted(&body.text()?)),
            (Side::Client, b'B') => bind(&mut body)?,
            (Side::Client, b'D' | b'C') => {
                let kind = if body.byte()? == b'S' {
                    "statement"
                } else {
                    "portal"
                };
                format!("{kind} {}", quoted(&body.text()?))
            }
            (Side::Client, b'E') => match (body.text()?, body.i32()?) {
                (portal, 0) => quoted(&portal),
                (portal, rows) => format!("{} for {rows} rows", quoted(&portal)),
            },
            (Side::Client, b'F') => {
                let function = body.i32()?;
                body.u16()?;
                format!("{function} {}", listed(&body.values()?))
            }
            (Side::Client, b'f') => quoted(&body.text()?),
            // Never what a password is: transcripts end up in logs.
            (Side::Client, b'p') => "***".to_owned(),
            (Side::Server, b'R') => authentication(body.i32()?),
            (Side::Server, b'S') => format!("{}={}", body.text()?, body.text()?),
            (Side::Server, b'v') => {
                let (major, minor, count) = (body.u16()?, body.u16()?, body.i32()?);
                let unknown: Option<Vec<_>> = (0..count).map(|_| body.text()).collect();
                format!("{major}.{minor} without [{}]", unknown?.join(", "))
            }
            (Side::Server, b'Z') => match body.byte()? {
                b'I' => "idle".to_owned(),
                b'T' => "in transaction".to_owned(),
                b'E' => "in failed transaction".to_owned(),
                other => format!("{:?}", char::from(other)),
            },
            (Side::Server, b'T') => self.columns()?.join(", "),
            (Side::Server, b'D') => listed(&self.values()?),
            (Side::Server, b'C') => quoted(&body.text()?),
            (Side::Server, b'E' | b'N') => self.error_fields()?.to_string(),
            (Side::Server, b'A') => {
                body.i32()?;
                format!("{} {}", body.text()?, quoted(&body.text()?))
            }
            (_, b'd') if self.body.len() <= 40 => quoted(&String::from_utf8_lossy(&self.body)),
            (_, b'd') => format!("of {} bytes", self.body.len()),
            _ => String::new(),
        })
    }
}

fn bind(body: &mut Body<'_>) -> Option<String> {
    let (portal, statement) = (body.text()?, body.text()?);
    let formats = body.u16()?;
    body.bytes(usize::from(formats) * 2)?;
    Some(format!(
        "{} to {} {}",
        quoted(&statement),
        quoted(&portal),
        listed(&body.values()?)
    ))
}

fn authentication(request: i32) -> String {
    match request {
        0 => "ok".to_owned(),
        3 => "wants a password".to_owned(),
        5 => "wants an MD5 password".to_owned(),
        10 => "offers SASL".to_owned(),
        11 => "continues SASL".to_owned(),
        12 => "ends SASL".to_owned(),
        other => format!("request {other}"),
    }
}

fn listed(values: &[Option<String>]) -> String {
    let shown = |value: &Option<String>| value.as_deref().map_or_else(|| "NULL".to_owned(), quoted);
    format!(
        "[{}]",
        values.iter().map(shown).collect::<Vec<_>>().join(", ")
    )
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

//! For tests: server messages as lines to read.

use wire::frame::{FrameHeader, take_str, whole};

/// One line a message.
pub(crate) fn of(mut bytes: &[u8]) -> String {
    let mut lines = String::new();
    while let Some((header, body, rest)) = whole(bytes).unwrap() {
        lines.push_str(&line(header, body));
        lines.push('\n');
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a message at the end");
    lines
}

fn line(header: FrameHeader, body: &[u8]) -> String {
    match header.tag {
        b'T' => format!("RowDescription {}", names(body)),
        b'D' => format!("DataRow {}", values(body)),
        b'C' => format!("CommandComplete {}", strings(body).join(" ")),
        b'E' => format!("ErrorResponse {}", fields(body)),
        b'N' => format!("NoticeResponse {}", fields(body)),
        b'S' => format!("ParameterStatus {}", strings(body).join(" = ")),
        b'K' => format!("BackendKeyData {body:?}"),
        b'Z' => format!("ReadyForQuery {}", char::from(body[0])),
        b't' => format!("ParameterDescription {:?}", &body[2..]),
        b'1' => "ParseComplete".to_owned(),
        b'2' => "BindComplete".to_owned(),
        b'3' => "CloseComplete".to_owned(),
        b'n' => "NoData".to_owned(),
        b's' => "PortalSuspended".to_owned(),
        b'I' => "EmptyQueryResponse".to_owned(),
        tag => panic!("unexpected message {tag}"),
    }
}

/// Name and type OID of each column; table, column number, size, modifier and format are skipped.
fn names(body: &[u8]) -> String {
    let mut rest = &body[2..];
    let mut names = Vec::new();
    while let Some((name, tail)) = take_str(rest) {
        let oid = u32::from_be_bytes(tail[6..10].try_into().unwrap());
        names.push(format!("{}:{oid}", String::from_utf8_lossy(name)));
        rest = &tail[18..];
    }
    names.join(" ")
}

fn values(body: &[u8]) -> String {
    let mut rest = &body[2..];
    let mut values = Vec::new();
    while let Some((len, tail)) = rest.split_first_chunk() {
        let len = usize::try_from(i32::from_be_bytes(*len)).ok();
        let (value, tail) = tail.split_at(len.unwrap_or(0));
        values.push(match len {
            Some(_) => String::from_utf8_lossy(value).into_owned(),
            None => "NULL".to_owned(),
        });
        rest = tail;
    }
    values.join(" | ")
}

fn fields(body: &[u8]) -> String {
    let fields: Vec<String> = strings(body)
        .iter()
        .filter_map(|field| field.split_at_checked(1))
        .map(|(kind, text)| format!("{kind}={text}"))
        .collect();
    fields.join(" ")
}

fn strings(mut body: &[u8]) -> Vec<String> {
    let mut strings = Vec::new();
    while let Some((string, rest)) = take_str(body) {
        strings.push(String::from_utf8_lossy(string).into_owned());
        body = rest;
    }
    strings
}

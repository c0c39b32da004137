//! What a client says.

use super::{Message, put_count, put_len, put_text, put_values};

impl Message {
    /// A simple query.
    pub fn query(sql: &str) -> Self {
        Self::client(b'Q', texts(&[sql]))
    }

    /// Prepares a statement; the empty name is the unnamed one.
    pub fn parse(name: &str, sql: &str) -> Self {
        let mut body = texts(&[name, sql]);
        put_count(&mut body, 0);
        Self::client(b'P', body)
    }

    /// Prepares a statement whose parameters have these types, by their OIDs; 0 leaves it open.
    pub fn parse_typed(name: &str, sql: &str, types: &[u32]) -> Self {
        let mut body = texts(&[name, sql]);
        put_count(&mut body, types.len());
        body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
        Self::client(b'P', body)
    }

    /// Binds text parameters to a statement.
    pub fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Self {
        Self::bind_formats(portal, statement, values, &[])
    }

    /// Binds text parameters, and asks for results in these formats: 0 is text, 1 binary.
    pub fn bind_formats(
        portal: &str,
        statement: &str,
        values: &[Option<&str>],
        formats: &[u16],
    ) -> Self {
        let mut body = texts(&[portal, statement]);
        put_count(&mut body, 0);
        put_values(&mut body, values);
        put_count(&mut body, formats.len());
        body.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
        Self::client(b'B', body)
    }

    /// Asks what a statement takes and returns.
    pub fn describe_statement(name: &str) -> Self {
        Self::client(b'D', kind_and_name(b'S', name))
    }

    /// Asks what a portal returns.
    pub fn describe_portal(name: &str) -> Self {
        Self::client(b'D', kind_and_name(b'P', name))
    }

    /// Runs a portal to its end.
    pub fn execute(portal: &str) -> Self {
        Self::execute_rows(portal, 0)
    }

    /// Runs a portal for some rows; 0 means all.
    pub fn execute_rows(portal: &str, rows: usize) -> Self {
        let mut body = texts(&[portal]);
        put_len(&mut body, rows);
        Self::client(b'E', body)
    }

    /// Forgets a statement.
    pub fn close_statement(name: &str) -> Self {
        Self::client(b'C', kind_and_name(b'S', name))
    }

    /// Forgets a portal.
    pub fn close_portal(name: &str) -> Self {
        Self::client(b'C', kind_and_name(b'P', name))
    }

    /// Calls a function by its OID, with arguments and result as text.
    pub fn function_call(function: u32, arguments: &[Option<&str>]) -> Self {
        let mut body = function.to_be_bytes().to_vec();
        put_count(&mut body, 0);
        put_values(&mut body, arguments);
        put_count(&mut body, 0);
        Self::client(b'F', body)
    }

    /// Ends a pipeline.
    pub fn sync() -> Self {
        Self::client(b'S', [])
    }

    /// Asks for the answers so far.
    pub fn flush() -> Self {
        Self::client(b'H', [])
    }

    /// A password in clear text, or its MD5.
    pub fn password(password: &str) -> Self {
        Self::client(b'p', texts(&[password]))
    }

    /// The first message of a SASL exchange.
    pub fn sasl_initial(mechanism: &str, data: &[u8]) -> Self {
        let mut body = texts(&[mechanism]);
        put_len(&mut body, data.len());
        body.extend_from_slice(data);
        Self::client(b'p', body)
    }

    /// A later message of a SASL exchange.
    pub fn sasl_response(data: &[u8]) -> Self {
        Self::client(b'p', data)
    }

    /// Gives up a COPY FROM STDIN.
    pub fn copy_fail(why: &str) -> Self {
        Self::client(b'f', texts(&[why]))
    }

    /// Says farewell.
    pub fn terminate() -> Self {
        Self::client(b'X', [])
    }
}

pub(super) fn texts(texts: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    texts.iter().for_each(|text| put_text(&mut body, text));
    body
}

fn kind_and_name(kind: u8, name: &str) -> Vec<u8> {
    let mut body = vec![kind];
    put_text(&mut body, name);
    body
}

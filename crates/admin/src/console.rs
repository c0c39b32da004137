//! The pure half of a console session: what was said, and what is replied at once.

use wire::backend::{put_complete, put_key, put_parameter, put_ready};
use wire::error::{put_error, put_notice};
use wire::{CancelKey, Severity, SqlState};

use crate::command::{Command, Privilege};
use crate::pretended::Pretended;
use crate::request::{Request, usage};
use crate::show::{SERVER_VERSION, version_table};
use crate::table::{TEXT, Table};

/// Told to everybody who logs in; what we track of the client comes after them.
const PARAMETERS: [(&str, &str); 7] = [
    ("server_version", SERVER_VERSION),
    ("client_encoding", "UTF8"),
    ("server_encoding", "UTF8"),
    ("DateStyle", "ISO"),
    ("TimeZone", "GMT"),
    ("standard_conforming_strings", "on"),
    ("is_superuser", "on"),
];

/// One session at the console.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    privilege: Privilege,
}

/// What a query leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Send this; it is all of the reply.
    Reply(Vec<u8>),
    /// Have this carried out, and send what [`answer`](crate::answer) makes of the outcome.
    Run(Command),
}

impl Console {
    /// A session of somebody who may do this much.
    pub fn new(privilege: Privilege) -> Self {
        Self { privilege }
    }

    /// What follows AuthenticationOk: our parameters, then `tracked` ones that the client set.
    pub fn welcome<'a>(
        tracked: impl IntoIterator<Item = (&'a str, &'a str)>,
        key: &CancelKey,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in PARAMETERS.into_iter().chain(tracked) {
            put_parameter(&mut out, name, value);
        }
        put_key(&mut out, key);
        put_ready(&mut out);
        out
    }

    /// Reacts to the text of a Query message.
    pub fn on_query(&self, query: &str) -> Reaction {
        match Request::read(query, self.privilege) {
            Ok(Request::Run(command)) => Reaction::Run(command),
            Ok(Request::Help) => Reaction::Reply(help()),
            Ok(Request::Version) => Reaction::Reply(one_table(&version_table())),
            Ok(Request::ShowPretended(parameter)) => Reaction::Reply(shown(parameter)),
            Ok(Request::SetPretended) => Reaction::Reply(set_ignored()),
            Err(refusal) => Reaction::Reply(refused(&refusal.message())),
        }
    }

    /// The last words to a client that sent another message than Query or Terminate.
    pub fn farewell(tag: u8) -> Vec<u8> {
        let mut out = match tag {
            b'P' | b'B' | b'E' => refused("extended query protocol not supported by admin console"),
            b'S' | b'D' | b'C' | b'H' | b'F' | b'd' | b'c' | b'f' => {
                refused(&format!("unsupported packet type for admin console: {tag}"))
            }
            _ => return fatal("unknown pkt"),
        };
        out.extend(fatal("bad packet"));
        out
    }

    /// The last words to an operator whose session is ended from elsewhere.
    pub fn killed(reason: &str) -> Vec<u8> {
        fatal(reason)
    }
}

fn help() -> Vec<u8> {
    let mut out = Vec::new();
    put_notice(&mut out, SqlState::SUCCESS, "Console usage", Some(&usage()));
    put_complete(&mut out, "SHOW");
    put_ready(&mut out);
    out
}

fn shown(parameter: Pretended) -> Vec<u8> {
    one_table(&Table::raw(
        vec![(parameter.name, TEXT)],
        vec![vec![Some(parameter.value.to_owned())]],
    ))
}

fn set_ignored() -> Vec<u8> {
    let mut out = Vec::new();
    put_notice(&mut out, SqlState::SUCCESS, "SET ignored", None);
    put_complete(&mut out, "SET");
    put_ready(&mut out);
    out
}

fn one_table(table: &Table) -> Vec<u8> {
    let mut out = Vec::new();
    table.put(&mut out);
    put_ready(&mut out);
    out
}

fn refused(message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_error(
        &mut out,
        Severity::Error,
        SqlState::PROTOCOL_VIOLATION,
        message,
    );
    put_ready(&mut out);
    out
}

fn fatal(message: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_error(
        &mut out,
        Severity::Fatal,
        SqlState::PROTOCOL_VIOLATION,
        message,
    );
    out
}

#[cfg(test)]
mod tests;

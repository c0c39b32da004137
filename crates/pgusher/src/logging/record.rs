//! One thing that happened, as PgBouncer's line, as JSON, and as syslog and the journal rank it.

use std::fmt::Write;

use jiff::Zoned;
use settings::LogFormat;
use tracing::Level;

/// One thing that happened.
pub(super) struct Record {
    pub(super) level: Level,
    /// What kind of thing, under a name that stays the same when the words change.
    pub(super) event: Option<&'static str>,
    pub(super) text: String,
}

/// The name of an event, if it was given one: the others are called after their place.
pub(super) fn event_id(name: &'static str) -> Option<&'static str> {
    (!name.starts_with("event ")).then_some(name)
}

impl Record {
    /// Its line, without an end.
    pub(super) fn line(&self, format: LogFormat, now: &Zoned) -> String {
        match format {
            LogFormat::PgBouncer => self.pgbouncer(now),
            LogFormat::Json => self.json(now),
        }
    }

    /// The same for those who note time and process themselves.
    pub(super) fn bare_line(&self, format: LogFormat, now: &Zoned) -> String {
        match format {
            LogFormat::PgBouncer => on_one_line(&self.text),
            LogFormat::Json => self.json(now),
        }
    }

    /// `2026-01-31 12:00:00.123 CET [4711] LOG message`.
    fn pgbouncer(&self, now: &Zoned) -> String {
        format!(
            "{} [{}] {} {}",
            now.strftime("%Y-%m-%d %H:%M:%S.%3f %Z"),
            std::process::id(),
            self.word(),
            on_one_line(&self.text)
        )
    }

    fn json(&self, now: &Zoned) -> String {
        let time = now.strftime("%Y-%m-%dT%H:%M:%S.%3f%:z");
        let (pid, level) = (std::process::id(), self.word());
        let mut line = format!("{{\"time\":\"{time}\",\"pid\":{pid},\"level\":\"{level}\"");
        if let Some(event) = self.event {
            line.push_str(&format!(",\"event\":{}", quoted(event)));
        }
        line.push_str(&format!(",\"message\":{}}}", quoted(&self.text)));
        line
    }

    fn word(&self) -> &'static str {
        match self.level {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "LOG",
            Level::DEBUG => "DEBUG",
            Level::TRACE => "NOISE",
        }
    }

    /// How syslog and the journal rank it.
    pub(super) fn severity(&self) -> u8 {
        match self.level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        }
    }
}

/// A message that may quote what strangers call themselves: no name begins a new line.
fn on_one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for letter in message.chars() {
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

/// A string of JSON's.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_control() => {
                // A String takes whatever is written; control characters have four digits at most.
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Zoned {
        "2026-01-31T12:00:00.1239+01:00[Europe/Berlin]"
            .parse()
            .unwrap()
    }

    fn record(text: &str) -> Record {
        Record {
            level: Level::WARN,
            event: Some("pooler_error"),
            text: text.to_owned(),
        }
    }

    #[test]
    fn lines_are_pgbouncers_or_json() {
        let pid = std::process::id();
        let record = record("C-0x1: a/\"b\"\n@unix pooler error: \\ \u{1b}");
        assert_eq!(
            record.line(LogFormat::PgBouncer, &noon()),
            format!(
                "2026-01-31 12:00:00.123 CET [{pid}] WARNING \
                 C-0x1: a/\"b\"\\n@unix pooler error: \\ \\u{{1b}}"
            )
        );
        assert_eq!(
            record.line(LogFormat::Json, &noon()),
            format!(r#"{{"time":"2026-01-31T12:00:00.123+01:00","pid":{pid},"level":"WARNING","#)
                + r#""event":"pooler_error","message":"C-0x1: a/\"b\"\n@unix pooler error: \\ \u001b"}"#
        );
    }

    #[test]
    fn events_are_called_by_their_names_and_not_by_their_places() {
        assert_eq!(event_id("client_closed"), Some("client_closed"));
        assert_eq!(event_id("event crates/pgusher/src/run.rs:1"), None);
    }
}

//! The ini dialect, as a format of the `config` crate.
//!
//! Line by line, like PgBouncer: no trailing comments, values run to the end of the line, quotes
//! only round keys, `%include` wherever a line may start. What a line says is kept with its place
//! (file and line), so that whoever finds fault with a value can say where it is.

use std::error::Error;
use std::io;
use std::path::Path;

use ::config::{FileStoredFormat, Format, Map, Value, ValueKind};

use crate::finding::{ConfigError, Finding, Place, Problem};
use crate::settings::Setting;
use crate::values::filled;

/// Reads a whole file; `%include` needs it.
pub type ReadFile = fn(&Path) -> io::Result<String>;

/// PgBouncer's ini dialect.
///
/// Its map holds one table of texts for each section, and every value's origin is `file:line`.
#[derive(Debug, Clone)]
pub struct PgBouncerIni {
    /// The file's name, for messages.
    pub file: String,
    /// How included files are read.
    pub read: ReadFile,
}

impl Format for PgBouncerIni {
    fn parse(
        &self,
        uri: Option<&String>,
        text: &str,
    ) -> Result<Map<String, Value>, Box<dyn Error + Send + Sync>> {
        let file = uri.unwrap_or(&self.file);
        Ok(parse(file, text, self.read)?)
    }
}

impl FileStoredFormat for PgBouncerIni {
    fn file_extensions(&self) -> &'static [&'static str] {
        &["ini"]
    }
}

/// Reads `text`, the contents of `file`, and all that it includes.
pub(crate) fn parse(
    file: &str,
    text: &str,
    read: impl Fn(&Path) -> io::Result<String>,
) -> Result<Map<String, Value>, ConfigError> {
    let mut reader = Reader {
        read: &read,
        tables: Map::new(),
        current: Current::Nowhere,
        findings: Vec::new(),
    };
    reader.file(file, text, 0);
    reader.finish(file)
}

/// `%include` within `%include`, at most.
const INCLUDE_DEPTH_MAX: usize = 10;

/// The four sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    PgBouncer,
    Databases,
    Users,
    Peers,
}

impl Section {
    const ALL: [Self; 4] = [Self::PgBouncer, Self::Databases, Self::Users, Self::Peers];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PgBouncer => "pgbouncer",
            Self::Databases => "databases",
            Self::Users => "users",
            Self::Peers => "peers",
        }
    }
}

/// Which section the next line belongs to. An included file leaves it as it ends.
enum Current {
    Nowhere,
    In(Section),
    /// Its header was reported; its lines would only repeat that.
    Unknown,
}

struct Reader<'a> {
    read: &'a dyn Fn(&Path) -> io::Result<String>,
    tables: Map<String, Map<String, Value>>,
    current: Current,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn file(&mut self, file: &str, text: &str, depth: usize) {
        for (i, line) in text.split('\n').enumerate() {
            let place = Place::line(file, i + 1);
            self.line(trim(line), &place, depth);
        }
    }

    fn line(&mut self, line: &str, place: &Place, depth: usize) {
        if line.is_empty() || line.starts_with([';', '#']) {
            return;
        }
        if let Some(header) = line.strip_prefix('[') {
            match header.split_once(']') {
                // Anything may follow a header, as if on a line of its own.
                Some((name, rest)) => {
                    self.enter(name, place);
                    self.line(trim(rest), place, depth);
                }
                None => self.report(place, "", Problem::Syntax("] at the end of the header")),
            }
        } else if let Some(path) = line
            .strip_prefix("%include")
            .filter(|p| p.starts_with([' ', '\t']))
        {
            self.include(trim(path), place, depth);
        } else {
            match split_key(line) {
                Ok((key, value)) => self.assign(key, value, place),
                Err(expected) => self.report(place, "", Problem::Syntax(expected)),
            }
        }
    }

    fn enter(&mut self, name: &str, place: &Place) {
        let Some(section) = Section::ALL.into_iter().find(|known| known.name() == name) else {
            self.report(place, &format!("[{name}]"), Problem::UnknownSection);
            self.current = Current::Unknown;
            return;
        };
        let table = self.tables.entry(name.to_owned()).or_default();
        if section == Section::PgBouncer {
            // A second header takes every setting that has a default back to it.
            table.retain(|key, _| Setting::named(key).is_none_or(|known| known.default.is_none()));
        }
        self.current = Current::In(section);
    }

    fn include(&mut self, path: &str, place: &Place, depth: usize) {
        if depth == INCLUDE_DEPTH_MAX {
            let depth_max = INCLUDE_DEPTH_MAX;
            self.report(place, "", Problem::IncludeTooDeep { depth_max });
            return;
        }
        match (self.read)(Path::new(path)) {
            Ok(text) => self.file(path, &text, depth + 1),
            Err(error) => {
                let reason = error.to_string();
                self.report(place, path, Problem::Unreadable { reason });
            }
        }
    }

    fn assign(&mut self, key: String, value: &str, place: &Place) {
        match self.current {
            Current::In(section) => {
                // U+FFFD is what the file's reader puts for bytes that are not UTF-8.
                if key.contains(BROKEN) || value.contains(BROKEN) {
                    self.report(place, &key, Problem::Syntax("UTF-8 text without NUL"));
                    return;
                }
                let table = self.tables.entry(section.name().to_owned()).or_default();
                table.insert(key, Value::new(Some(&place.to_string()), value));
            }
            Current::Nowhere => {
                self.report(
                    place,
                    &key,
                    Problem::Syntax("a [section] before the first key"),
                );
            }
            Current::Unknown => {}
        }
    }

    fn report(&mut self, place: &Place, key: &str, problem: Problem) {
        self.findings
            .push(Finding::new(place.clone(), key, problem));
    }

    fn finish(mut self, file: &str) -> Result<Map<String, Value>, ConfigError> {
        let main = Section::PgBouncer.name();
        if !self.tables.contains_key(main) && self.findings.is_empty() {
            let place = Place::File(file.to_owned());
            self.report(&place, "", Problem::MainSectionMissing);
        }
        if !self.findings.is_empty() {
            return Err(ConfigError::new(self.findings));
        }
        let tables = self.tables.into_iter();
        Ok(tables
            .map(|(name, table)| (name, Value::new(None, ValueKind::Table(table))))
            .collect())
    }
}

const BROKEN: [char; 2] = ['\0', char::REPLACEMENT_CHARACTER];

/// Splits `key = value`; the error says what was expected instead.
fn split_key(line: &str) -> Result<(String, &str), &'static str> {
    let (key, rest) = match line.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            split_quoted(&line[1..], quote).ok_or("a quote at the end of the key")?
        }
        _ => {
            let bare = |c: char| c.is_ascii_alphanumeric() || "_.*-".contains(c);
            let end = line.find(|c| !bare(c)).unwrap_or(line.len());
            (line[..end].to_owned(), &line[end..])
        }
    };
    match trim(rest).strip_prefix('=') {
        Some(value) if filled(&key).is_some() => Ok((key, trim(value))),
        _ => Err("key = value, a [section], or a comment"),
    }
}

/// Splits at the closing `quote`, of which a doubled one is part of the text.
pub(crate) fn split_quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut unquoted = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once(quote)?;
        unquoted.push_str(part);
        match after.strip_prefix(quote) {
            Some(after) => {
                unquoted.push(quote);
                rest = after;
            }
            None => return Some((unquoted, after)),
        }
    }
}

/// Cuts what C calls space off both ends.
fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b')
}

#[cfg(test)]
mod tests;

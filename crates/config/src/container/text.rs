//! An ini that is written from parts, and the same with its secrets masked.

use zeroize::Zeroizing;

use crate::connstr::each_pair;
use crate::settings::Setting;

/// The text of an ini.
#[derive(Default)]
pub(crate) struct Ini {
    whole: Zeroizing<String>,
    shown: String,
}

/// What stands for a secret.
const MASK: &str = "…";

impl Ini {
    /// The text to be read.
    pub(crate) fn whole(&self) -> &str {
        &self.whole
    }

    /// The text to be printed.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    pub(super) fn section(&mut self, name: &str) {
        let line = format!("[{name}]");
        self.line(&line, &line);
    }

    pub(super) fn setting(&mut self, setting: &Setting, value: &str) {
        let line = |value: &str| format!("{} = {value}", setting.name).trim_end().to_owned();
        let shown = if setting.secret { MASK } else { value };
        self.line(&line(value), &line(shown));
    }

    /// An entry of `[databases]`, with values as they are meant.
    pub(super) fn database(&mut self, name: &str, pairs: &[(&str, &str)]) {
        let write = |mask: bool| {
            let pairs = pairs.iter().map(|(key, value)| match *key {
                "password" if mask => format!(" password={MASK}"),
                key => format!(" {key}={}", quoted_value(value)),
            });
            format!("{} ={}", quoted_name(name), pairs.collect::<String>())
        };
        self.line(&Zeroizing::new(write(false)), &write(true));
    }

    /// An entry whose connection string somebody else has written.
    pub(super) fn database_as_is(&mut self, name: &str, connection: &str) {
        let mut pairs = Vec::new();
        let parsed = each_pair(connection, |pair| {
            pairs.push((pair.key.clone(), Zeroizing::new(pair.value.clone())));
            Ok(())
        });
        let name = quoted_name(name);
        let shown = pairs.iter().map(|(key, value)| match key.as_str() {
            "password" => format!(" password={MASK}"),
            key => format!(" {key}={}", quoted_value(value)),
        });
        let shown = match parsed {
            Ok(()) => shown.collect(),
            Err(_) => format!(" {MASK}"),
        };
        let whole = Zeroizing::new(format!("{name} = {connection}"));
        self.line(&whole, &format!("{name} ={shown}"));
    }

    fn line(&mut self, whole: &str, shown: &str) {
        for (text, line) in [(&mut *self.whole, whole), (&mut self.shown, shown)] {
            text.push_str(line);
            text.push('\n');
        }
    }
}

/// A value of a connection string.
fn quoted_value(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.,:/@-".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', "''"))
}

/// A key of a section.
fn quoted_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.*-".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

//! The kinds of value a setting can have: how each is written, and how SHOW CONFIG prints it.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::database::{CONSOLE_DATABASE, DATABASE_NAME_LEN_MAX};

/// A value that the ini file can hold.
pub trait SettingValue: Sized + Clone + PartialEq {
    /// What may be written, to follow the word "expected".
    const EXPECTS: &'static str;
    /// Whether logs must not show it.
    const SECRET: bool = false;

    /// Reads what was written; `None` if it is not [`EXPECTS`](Self::EXPECTS).
    fn parse(text: &str) -> Option<Self>;

    /// What SHOW CONFIG prints; `None` if nothing is set.
    fn show(&self) -> Option<String>;
}

/// Reads an integer as C's `strtol` does with base 0: `0777` is octal, `0x1F` hexadecimal.
pub(crate) fn parse_int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&digits[2..], 16),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    // from_str_radix would take a second sign.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    let value = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

/// Seconds that no clock can be wound forward by: a deadline must not overflow.
const SECONDS_MAX: f64 = 1e12;

/// Reads a number of seconds, to the microsecond.
pub(crate) fn parse_seconds(text: &str) -> Option<Duration> {
    if !text.bytes().all(|b| b"0123456789.eE+-".contains(&b)) {
        return None;
    }
    let seconds: f64 = text.parse().ok()?;
    if !(0.0..=SECONDS_MAX).contains(&seconds) || text.starts_with('-') {
        return None;
    }
    Some(Duration::from_micros((seconds * 1e6).round() as u64))
}

/// Writes seconds without trailing zeros: `120`, `0.5`.
pub(crate) fn show_seconds(duration: Duration) -> String {
    match duration.subsec_micros() {
        0 => duration.as_secs().to_string(),
        micros => {
            let digits = format!("{}.{micros:06}", duration.as_secs());
            digits.trim_end_matches('0').to_owned()
        }
    }
}

impl SettingValue for u32 {
    const EXPECTS: &'static str = "a whole number, 0 or more";

    fn parse(text: &str) -> Option<Self> {
        Self::try_from(parse_int(text)?).ok()
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl SettingValue for NonZeroU32 {
    const EXPECTS: &'static str = "a whole number, 1 or more";

    fn parse(text: &str) -> Option<Self> {
        Self::new(u32::parse(text)?)
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

/// A port, or a number of that size.
impl SettingValue for u16 {
    const EXPECTS: &'static str = "a whole number from 0 to 65535";

    fn parse(text: &str) -> Option<Self> {
        Self::try_from(parse_int(text)?).ok()
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl SettingValue for bool {
    const EXPECTS: &'static str = "0 or 1";

    fn parse(text: &str) -> Option<Self> {
        match parse_int(text)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn show(&self) -> Option<String> {
        Some(u8::from(*self).to_string())
    }
}

impl SettingValue for Duration {
    const EXPECTS: &'static str = "a number of seconds, 0 or more, without a unit";

    fn parse(text: &str) -> Option<Self> {
        parse_seconds(text)
    }

    fn show(&self) -> Option<String> {
        Some(show_seconds(*self))
    }
}

impl SettingValue for String {
    const EXPECTS: &'static str = "text";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(self.clone())
    }
}

/// Text that is unset when empty.
impl SettingValue for Option<String> {
    const EXPECTS: &'static str = "text";

    fn parse(text: &str) -> Option<Self> {
        Some(filled(text).map(str::to_owned))
    }

    fn show(&self) -> Option<String> {
        self.clone()
    }
}

/// A path that is unset when empty.
impl SettingValue for Option<PathBuf> {
    const EXPECTS: &'static str = "a path";

    fn parse(text: &str) -> Option<Self> {
        Some(filled(text).map(PathBuf::from))
    }

    fn show(&self) -> Option<String> {
        self.as_deref()
            .map(Path::display)
            .map(|path| path.to_string())
    }
}

/// `None` for the empty text.
pub(crate) fn filled(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Words separated by commas or blanks, kept as they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List(String);

impl List {
    /// The words, in the order they were written.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
            .filter(|word| !word.is_empty())
    }

    /// Whether `word` is among them, letter for letter.
    pub fn contains(&self, word: &str) -> bool {
        self.iter().any(|listed| listed == word)
    }

    /// Whether there is no word.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

impl SettingValue for List {
    const EXPECTS: &'static str = "words separated by commas";

    fn parse(text: &str) -> Option<Self> {
        Some(Self(text.to_owned()))
    }

    fn show(&self) -> Option<String> {
        Some(self.0.clone())
    }
}

/// A time that is written in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Millis(pub Duration);

impl SettingValue for Millis {
    const EXPECTS: &'static str = "a whole number of milliseconds, 0 or more";

    fn parse(text: &str) -> Option<Self> {
        let millis = u32::parse(text)?;
        Some(Self(Duration::from_millis(millis.into())))
    }

    fn show(&self) -> Option<String> {
        Some(self.0.as_millis().to_string())
    }
}

/// How a server that was idle for long is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckQuery {
    /// Not at all.
    Off,
    /// With an empty query, written `<empty>`.
    Empty,
    /// With this query.
    Sql(String),
}

impl CheckQuery {
    const EMPTY: &'static str = "<empty>";

    /// The query to send, if servers are probed.
    pub fn sql(&self) -> Option<&str> {
        match self {
            Self::Off => None,
            Self::Empty => Some(""),
            Self::Sql(query) => Some(query),
        }
    }
}

impl SettingValue for CheckQuery {
    const EXPECTS: &'static str = "a query, <empty>, or nothing";

    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" => Self::Off,
            Self::EMPTY => Self::Empty,
            query => Self::Sql(query.to_owned()),
        })
    }

    fn show(&self) -> Option<String> {
        Some(match self {
            Self::Off => String::new(),
            Self::Empty => Self::EMPTY.to_owned(),
            Self::Sql(query) => query.clone(),
        })
    }
}

/// The name of a database that is not the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DbName(String);

impl DbName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn new(name: &str) -> Option<Self> {
        let taken = name != CONSOLE_DATABASE && name.len() <= DATABASE_NAME_LEN_MAX;
        (taken && !name.is_empty()).then(|| Self(name.to_owned()))
    }
}

impl SettingValue for Option<DbName> {
    const EXPECTS: &'static str =
        "a database name (cannot use the reserved \"pgbouncer\" database as an auth_dbname)";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(None),
            name => DbName::new(name).map(Some),
        }
    }

    fn show(&self) -> Option<String> {
        self.as_ref().map(|name| name.0.clone())
    }
}

/// Text that neither logs nor errors may show.
/// It is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl SettingValue for Option<Password> {
    const EXPECTS: &'static str = "text";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        Some(filled(text).map(Password::new))
    }

    fn show(&self) -> Option<String> {
        self.as_ref().map(|secret| secret.reveal().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_strtol_with_base_0_reads_them() {
        let read = ["20", "0777", "0x1F", "0", "-1", "+3"].map(parse_int);

        assert_eq!(read, [20, 511, 31, 0, -1, 3].map(Some));
        for refused in ["", "08", "0x", "0x-1", "--1", "20s", "on", "1.5", "½", "+½"] {
            assert_eq!(parse_int(refused), None, "{refused}");
        }
    }

    #[test]
    fn booleans_are_0_or_1_and_nothing_else() {
        assert_eq!(bool::parse("1"), Some(true));
        assert_eq!(bool::parse("0"), Some(false));
        for refused in ["on", "off", "true", "yes", "2", ""] {
            assert_eq!(bool::parse(refused), None, "{refused}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction_and_print_without_trailing_zeros() {
        let shown = ["120", "0.5", "1.50", ".25", "5.", "0", "1e3", "0.000001"]
            .map(|text| Duration::parse(text).unwrap().show().unwrap());

        assert_eq!(
            shown,
            ["120", "0.5", "1.5", "0.25", "5", "0", "1000", "0.000001"]
        );
        for refused in ["", "-1", "-0", "10s", "inf", "nan", "1e300", "1 2", "0x10"] {
            assert_eq!(Duration::parse(refused), None, "{refused}");
        }
    }

    #[test]
    fn a_list_matches_whole_words_only() {
        let list = List::parse("postgres, ops\treader").unwrap();

        assert!(list.contains("ops") && list.contains("reader"));
        assert!(!list.contains("op") && !list.contains("postgres,"));
        assert!(List::parse(" , ").unwrap().is_empty());
    }

    #[test]
    fn a_password_is_not_printed() {
        let secret = Password::new("hunter2");

        assert_eq!(format!("{secret:?}"), "Password(…)");
        assert_eq!(secret.reveal(), "hunter2");
    }

    #[test]
    fn no_check_query_an_empty_one_and_a_real_one_are_three_things() {
        let sql = ["", "<empty>", "select 1"].map(|text| CheckQuery::parse(text).unwrap());

        assert_eq!(
            sql.each_ref().map(CheckQuery::sql),
            [None, Some(""), Some("select 1")]
        );
    }
}

//! `key=value` pairs: what stands behind a name in `[databases]`, `[users]` and `[peers]`.

use std::time::Duration;

use crate::finding::Problem;
use crate::ini::split_quoted;
use crate::nearest::nearest;
use crate::values::{SettingValue, parse_seconds};

/// One pair, unquoted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Splits a connection string and hands its pairs to `apply`, up to the first that is wrong.
pub(crate) fn each_pair(
    text: &str,
    mut apply: impl FnMut(&Pair) -> Result<(), PairError>,
) -> Result<(), PairError> {
    let mut after_password = false;
    let mut rest = text.trim_start_matches(BLANKS);
    while !rest.is_empty() {
        let taken = pair(rest).and_then(|(pair, after)| {
            apply(&pair)?;
            Ok((pair.key, after))
        });
        let (key, after) = match taken {
            Err(error) if after_password && !error.is_about_a_likely_key() => {
                return Err(PairError::password_with_blanks());
            }
            taken => taken?,
        };
        after_password = key == PASSWORD;
        rest = after.trim_start_matches(BLANKS);
    }
    Ok(())
}

const PASSWORD: &str = "password";

/// What is wrong with one pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PairError {
    pub(crate) key: String,
    pub(crate) problem: Problem,
}

impl PairError {
    pub(crate) fn new(key: &str, problem: Problem) -> Self {
        let key = key.to_owned();
        Self { key, problem }
    }

    pub(crate) fn unknown(key: &str, known: &[&'static str]) -> Self {
        let nearest = nearest(key, known.iter().copied());
        Self::new(key, Problem::UnknownKey { nearest })
    }

    /// A password was not quoted and has blanks, so that the rest of it passed for a key.
    fn password_with_blanks() -> Self {
        let expected = "quotes round a value with blanks";
        Self::new(PASSWORD, Problem::Syntax(expected))
    }

    /// Whether its key may be shown even behind a password.
    fn is_about_a_likely_key(&self) -> bool {
        match &self.problem {
            Problem::UnknownKey { nearest } => nearest.is_some(),
            Problem::Value { .. } => true,
            _ => false,
        }
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

fn pair(text: &str) -> Result<(Pair, &str), PairError> {
    let key_end = text.find(['=', ' ', '\t']).unwrap_or(text.len());
    let (key, rest) = text.split_at(key_end);
    let expected = |what| Err(PairError::new(key, Problem::Syntax(what)));

    let rest = rest.trim_start_matches(BLANKS);
    let Some(rest) = rest.strip_prefix('=') else {
        return expected("key=value");
    };
    let rest = rest.trim_start_matches(BLANKS);
    let (value, rest) = match rest.strip_prefix('\'') {
        Some(quoted) => match split_quoted(quoted, '\'') {
            Some((value, rest)) => (value, rest),
            None => return expected("a closing quote"),
        },
        None => {
            let end = rest.find(BLANKS).unwrap_or(rest.len());
            (rest[..end].to_owned(), &rest[end..])
        }
    };
    if key.is_empty() {
        return expected("a key before =");
    }
    if value.is_empty() {
        return expected("a value after =");
    }
    if !rest.is_empty() && !rest.starts_with(BLANKS) {
        return expected("a blank after the closing quote");
    }
    let key = key.to_owned();
    Ok((Pair { key, value }, rest))
}

/// Typed reading of a pair's value.
impl Pair {
    pub(crate) fn text(&self) -> Option<String> {
        Some(self.value.clone())
    }

    /// A number where anything negative leaves the choice to the wider setting.
    pub(crate) fn size(&self) -> Result<Option<u32>, PairError> {
        let size: i64 = self.whole_number()?;
        if size < 0 {
            return Ok(None);
        }
        let size = u32::try_from(size).map_err(|_| self.refused(WHOLE_NUMBER))?;
        Ok(Some(size))
    }

    /// A number where 0 or less leaves the choice to the wider setting.
    pub(crate) fn limit(&self) -> Result<Option<u32>, PairError> {
        Ok(self.size()?.filter(|limit| *limit > 0))
    }

    /// Seconds.
    pub(crate) fn seconds(&self) -> Result<Option<Duration>, PairError> {
        match parse_seconds(&self.value) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(self.refused(Duration::EXPECTS)),
        }
    }

    /// Seconds where 0 leaves the choice to the wider setting.
    pub(crate) fn timeout(&self) -> Result<Option<Duration>, PairError> {
        Ok(self.seconds()?.filter(|timeout| !timeout.is_zero()))
    }

    pub(crate) fn port(&self) -> Result<u16, PairError> {
        match u16::try_from(self.whole_number()?) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(self.refused("a port from 1 to 65535")),
        }
    }

    pub(crate) fn choice<T: SettingValue>(&self) -> Result<Option<T>, PairError> {
        match T::parse(&self.value) {
            Some(choice) => Ok(Some(choice)),
            None => Err(self.refused(T::EXPECTS)),
        }
    }

    pub(crate) fn refused(&self, expected: &'static str) -> PairError {
        let value = self.value.clone();
        PairError::new(&self.key, Problem::Value { value, expected })
    }

    // Decimal as in C's atoi: a leading 0 does not make it octal here.
    fn whole_number(&self) -> Result<i64, PairError> {
        self.value.parse().map_err(|_| self.refused(WHOLE_NUMBER))
    }
}

const WHOLE_NUMBER: &str = "a whole number";

#[cfg(test)]
mod tests;

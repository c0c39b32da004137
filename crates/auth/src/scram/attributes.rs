//! The text of SCRAM messages: `x=value` with commas between.

use super::ScramError;

/// The letters to which the RFC gave a meaning: each has its place, and only that.
const RESERVED: &str = "anmrcsipve";

/// Reads a message attribute by attribute.
pub(super) struct Attributes<'a> {
    rest: Option<&'a str>,
    seen: u64,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(message: &'a str) -> Self {
        Self {
            rest: Some(message),
            seen: 0,
        }
    }

    /// The value of the next attribute, which must have this name.
    pub(super) fn expect(&mut self, name: char) -> Result<&'a str, ScramError> {
        match self.next()? {
            Some((found, value)) if found == name => Ok(value),
            _ => Err(ScramError::Malformed("an attribute is missing")),
        }
    }

    /// Passes over optional extensions up to the end: PostgreSQL ignores them too.
    pub(super) fn ignore_rest(&mut self) -> Result<(), ScramError> {
        while let Some((name, _)) = self.next()? {
            if RESERVED.contains(name) {
                return Err(ScramError::Malformed("an attribute is out of place"));
            }
        }
        Ok(())
    }

    /// The next attribute, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<(char, &'a str)>, ScramError> {
        let Some(text) = self.rest else {
            return Ok(None);
        };
        let (attribute, rest) = match text.split_once(',') {
            Some((attribute, rest)) => (attribute, Some(rest)),
            None => (text, None),
        };
        self.rest = rest;

        let &[letter, b'=', ..] = attribute.as_bytes() else {
            return Err(ScramError::Malformed(match attribute.contains('=') {
                true => "an attribute's name is no letter",
                false => "an attribute has no value",
            }));
        };
        self.note(letter)?;
        // Behind two letters of ASCII.
        let value = attribute.get(2..).unwrap_or_default();
        Ok(Some((letter.into(), value)))
    }

    fn note(&mut self, letter: u8) -> Result<(), ScramError> {
        if letter == b'm' {
            return Err(ScramError::Extension);
        }
        if !letter.is_ascii_alphabetic() {
            return Err(ScramError::Malformed("an attribute's name is no letter"));
        }
        // ASCII letters lie between 64 and 127.
        let bit = 1u64 << (u32::from(letter) & 63);
        if self.seen & bit != 0 {
            return Err(ScramError::Malformed("an attribute is repeated"));
        }
        self.seen |= bit;
        Ok(())
    }
}

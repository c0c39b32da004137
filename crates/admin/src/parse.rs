//! The grammar of the console: one statement, of two words or an assignment.
//!
//! ```text
//! WORD [WORD] [;]
//! SET WORD (= | TO) (WORD | 'string') [;]
//! ```
//! A WORD is `[0-9a-z_]+` in either letter case, or `"quoted"`. Blanks stand between words and
//! nowhere matter otherwise; there are no comments. In the extended protocol `$1` may stand for the
//! second WORD, or for the value of SET.

use std::borrow::Cow;

/// Longest command, as written.
const COMMAND_LEN_MAX: usize = 15;
/// Longest argument or key of SET, as written, quotes included.
pub(crate) const ARGUMENT_LEN_MAX: usize = 63;
/// Longest value of SET, as written, quotes included.
pub(crate) const VALUE_LEN_MAX: usize = 255;

/// How the one parameter is written that a statement may have.
const PARAMETER: &str = "$1";

/// A statement that follows the grammar; its words need not mean anything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Statement<'a> {
    /// A command and perhaps its argument; an empty argument is none.
    Command {
        /// The command's name.
        verb: Cow<'a, str>,
        /// What it is about.
        argument: Option<Word<'a>>,
    },
    /// `SET key = value`.
    Assignment {
        /// What to set.
        key: Cow<'a, str>,
        /// What to.
        value: Word<'a>,
    },
}

/// What a statement is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Word<'a> {
    /// This.
    Said(Cow<'a, str>),
    /// What comes with the portal: `$1`.
    Parameter,
}

/// Why a text is no statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParseError {
    /// It does not follow the grammar.
    Grammar,
    /// A word is too long.
    TooLong,
}

/// Reads the text of one Query message.
pub(crate) fn parse(query: &str) -> Result<Statement<'_>, ParseError> {
    if let Some((key, value)) = assignment(query) {
        return Ok(Statement::Assignment {
            key: key.text(ARGUMENT_LEN_MAX)?,
            value: value.word(VALUE_LEN_MAX)?,
        });
    }
    let (verb, argument) = command(query).ok_or(ParseError::Grammar)?;
    let verb = verb.text(COMMAND_LEN_MAX)?;
    let argument = match argument {
        Some(argument) => Some(argument.word(ARGUMENT_LEN_MAX)?),
        None => None,
    };
    Ok(Statement::Command {
        verb,
        argument: argument.filter(|argument| *argument != Word::Said(Cow::Borrowed(""))),
    })
}

fn command(query: &str) -> Option<(Token<'_>, Option<Token<'_>>)> {
    let (verb, rest) = word(skip_blanks(query))?;
    let argument = blanks(rest).and_then(|rest| word(rest).or_else(|| parameter(rest)));
    let (argument, rest) = match argument {
        Some((argument, rest)) => (Some(argument), rest),
        None => (None, rest),
    };
    is_end(rest).then_some((verb, argument))
}

fn assignment(query: &str) -> Option<(Token<'_>, Token<'_>)> {
    let (set, rest) = bare_word(skip_blanks(query))?;
    if !set.raw.eq_ignore_ascii_case("set") {
        return None;
    }
    let (key, rest) = word(blanks(rest)?)?;
    let rest = equals(skip_blanks(rest))?;
    let (value, rest) = value(skip_blanks(rest))?;
    is_end(rest).then_some((key, value))
}

/// `=` or `TO`. No blank need follow: `SET a to9` is one.
fn equals(text: &str) -> Option<&str> {
    text.strip_prefix('=').or_else(|| {
        let (to, rest) = text.split_at_checked(2)?;
        to.eq_ignore_ascii_case("to").then_some(rest)
    })
}

fn value(text: &str) -> Option<(Token<'_>, &str)> {
    quoted(text, '\'')
        .or_else(|| word(text))
        .or_else(|| parameter(text))
}

fn parameter(text: &str) -> Option<(Token<'_>, &str)> {
    let (raw, rest) = text.split_at_checked(PARAMETER.len())?;
    // Of `$10`, what follows is left over and the statement is none.
    (raw == PARAMETER).then_some((Token { raw, quote: None }, rest))
}

fn word(text: &str) -> Option<(Token<'_>, &str)> {
    quoted(text, '"').or_else(|| bare_word(text))
}

fn bare_word(text: &str) -> Option<(Token<'_>, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let (raw, rest) = text.split_at_checked(end).filter(|_| end > 0)?;
    Some((Token { raw, quote: None }, rest))
}

/// A string between quotes, in which a doubled quote stands for one.
fn quoted(text: &str, quote: char) -> Option<(Token<'_>, &str)> {
    let mut rest = text.strip_prefix(quote)?;
    loop {
        let (_, tail) = rest.split_once(quote)?;
        match tail.strip_prefix(quote) {
            Some(after_two) => rest = after_two,
            None => {
                let (raw, rest) = text.split_at_checked(text.len() - tail.len())?;
                let quote = Some(quote);
                return Some((Token { raw, quote }, rest));
            }
        }
    }
}

/// Blanks, perhaps a semicolon, and the end.
fn is_end(text: &str) -> bool {
    let text = skip_blanks(text);
    skip_blanks(text.strip_prefix(';').unwrap_or(text)).is_empty()
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t', '\r', '\n'])
}

/// What follows at least one blank.
fn blanks(text: &str) -> Option<&str> {
    let rest = skip_blanks(text);
    (rest.len() < text.len()).then_some(rest)
}

/// A word or string as written.
#[derive(Clone, Copy)]
struct Token<'a> {
    raw: &'a str,
    quote: Option<char>,
}

impl<'a> Token<'a> {
    fn word(self, len_max: usize) -> Result<Word<'a>, ParseError> {
        if self.quote.is_none() && self.raw == PARAMETER {
            return Ok(Word::Parameter);
        }
        self.text(len_max).map(Word::Said)
    }

    /// What it says. The limit is on what was written: PgBouncer counts the quotes.
    fn text(self, len_max: usize) -> Result<Cow<'a, str>, ParseError> {
        if self.raw.len() > len_max {
            return Err(ParseError::TooLong);
        }
        let Some(quote) = self.quote else {
            return Ok(Cow::Borrowed(self.raw));
        };
        let inner = self.raw.strip_prefix(quote).unwrap_or(self.raw);
        let inner = inner.strip_suffix(quote).unwrap_or(inner);
        Ok(if inner.contains(quote) {
            Cow::Owned(inner.replace(&format!("{quote}{quote}"), quote.encode_utf8(&mut [0; 4])))
        } else {
            Cow::Borrowed(inner)
        })
    }
}

#[cfg(test)]
mod tests;

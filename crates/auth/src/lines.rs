//! Rule files of PostgreSQL's kind: their words, and the lines that are wrong.
//!
//! Blanks part the words of a line, commas join them to lists, `"` takes what it encloses as it
//! stands, and `#` begins a comment.

use std::fmt;

/// A line that was skipped, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding<F> {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: F,
}

impl<F: fmt::Display> fmt::Display for Finding<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.fault)
    }
}

/// Reads line by line: what `parse` makes of each, and what is wrong with the others.
pub(crate) fn read<T, F>(
    text: &[u8],
    mut parse: impl FnMut(Words<'_>) -> Result<Option<T>, F>,
) -> (Vec<T>, Vec<Finding<F>>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (line, words) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        match parse(Words::new(words)) {
            Ok(entry) => good.extend(entry),
            Err(fault) => bad.push(Finding { line, fault }),
        }
    }
    (good, bad)
}

/// What can be wrong with a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WordFault {
    /// A closing quote is missing.
    #[error("a quote is not closed")]
    NotClosed,
    /// Nothing follows a comma.
    #[error("nothing follows a comma")]
    OpenList,
    /// Bytes that are no text.
    #[error("not UTF-8")]
    NotUtf8,
}

/// A word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    is_quoted: bool,
}

impl Word {
    /// True if it is this keyword: in quotes it would be a name.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        !self.is_quoted && self.text == keyword
    }

    /// What follows the sign that the word begins with, if it does.
    pub(crate) fn after_sign(&self, sign: char) -> Option<&str> {
        self.text.strip_prefix(sign).filter(|_| !self.is_quoted)
    }
}

/// The words of a line that were not taken yet.
pub(crate) struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }

    /// True if only a comment is left.
    pub(crate) fn is_at_end(&self) -> bool {
        matches!(self.rest.trim_ascii_start().first(), None | Some(b'#'))
    }

    /// The next word; `None` at the end of the line, or at a comma.
    pub(crate) fn word(&mut self) -> Result<Option<Word>, WordFault> {
        self.take_until(|byte| byte == b',' || byte == b'#')
    }

    /// The next word, in which only blanks and quotes count: `key=value`.
    pub(crate) fn option(&mut self) -> Result<Option<Word>, WordFault> {
        self.take_until(|_| false)
    }

    /// The next words, as far as commas join them; none at the end of the line.
    pub(crate) fn list(&mut self) -> Result<Vec<Word>, WordFault> {
        let mut list = Vec::new();
        while let Some(word) = self.word()? {
            list.push(word);
            if !self.take_comma() {
                return Ok(list);
            }
        }
        if list.is_empty() {
            Ok(list)
        } else {
            Err(WordFault::OpenList)
        }
    }

    /// All words that are left, however they are parted.
    pub(crate) fn all(&mut self) -> Result<Vec<Word>, WordFault> {
        let mut all = Vec::new();
        loop {
            match self.word()? {
                Some(word) => all.push(word),
                None if self.take_comma() => {}
                None => return Ok(all),
            }
        }
    }

    fn take_comma(&mut self) -> bool {
        self.rest = self.rest.trim_ascii_start();
        let after = self.rest.strip_prefix(b",");
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn take_until(&mut self, ends: impl Fn(u8) -> bool) -> Result<Option<Word>, WordFault> {
        self.rest = self.rest.trim_ascii_start();
        if self.rest.starts_with(b"#") {
            self.rest = &[];
        }
        let (mut text, mut is_quoted) = (Vec::new(), false);
        while let Some((&byte, after)) = self.rest.split_first() {
            if byte == b'"' {
                let (part, after) = take_quoted(after).ok_or(WordFault::NotClosed)?;
                text.extend(part);
                is_quoted = true;
                self.rest = after;
            } else if byte.is_ascii_whitespace() || ends(byte) {
                break;
            } else {
                text.push(byte);
                self.rest = after;
            }
        }
        if text.is_empty() && !is_quoted {
            return Ok(None);
        }
        let text = String::from_utf8(text).map_err(|_| WordFault::NotUtf8)?;
        Ok(Some(Word { text, is_quoted }))
    }
}

/// Reads up to the closing quote, with `""` as a quote; returns the text and what follows.
pub(crate) fn take_quoted(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut text = Vec::new();
    loop {
        let (part, after) = split_at_quote(rest)?;
        text.extend_from_slice(part);
        match after.strip_prefix(b"\"") {
            Some(after) => {
                text.push(b'"');
                rest = after;
            }
            None => return Some((text, after)),
        }
    }
}

/// What stands before the next quote, and what behind it.
pub(crate) fn split_at_quote(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == b'"')?;
    let (before, after) = text.split_at_checked(at)?;
    Some((before, after.strip_prefix(b"\"")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(line: &str) -> Result<Vec<Vec<String>>, WordFault> {
        let mut words = Words::new(line.as_bytes());
        let mut lists = Vec::new();
        loop {
            let list = words.list()?;
            if list.is_empty() {
                return Ok(lists);
            }
            lists.push(list.into_iter().map(|word| word.text).collect());
        }
    }

    #[test]
    fn blanks_part_words_and_commas_join_them() {
        assert_eq!(
            lists(" host\ta,b , c  10.0.0.0/8 trust\r").unwrap(),
            [
                vec!["host"],
                vec!["a", "b", "c"],
                vec!["10.0.0.0/8"],
                vec!["trust"]
            ]
        );
    }

    #[test]
    fn quotes_take_everything_as_it_stands() {
        assert_eq!(
            lists(r##""a b","c""d",e"f#g"h """##).unwrap(),
            [vec!["a b", "c\"d", "ef#gh"], vec![""]]
        );
    }

    #[test]
    fn a_comment_ends_the_line() {
        assert!(lists("# host all").unwrap().is_empty());
        assert_eq!(lists("host#all \"").unwrap(), [["host"]]);
    }

    #[test]
    fn options_keep_commas_and_signs() {
        let mut words = Words::new(b"suffix=,dc=x pw=a#b long=\", dc=y\" # comment");
        let mut options = Vec::new();
        while let Some(option) = words.option().unwrap() {
            options.push(option.text);
        }
        assert_eq!(options, ["suffix=,dc=x", "pw=a#b", "long=, dc=y"]);
    }

    #[test]
    fn what_can_not_be_read_is_said() {
        assert_eq!(lists("a \"b"), Err(WordFault::NotClosed));
        assert_eq!(lists("a b,"), Err(WordFault::OpenList));
        assert_eq!(Words::new(b"\xff").word().unwrap_err(), WordFault::NotUtf8);
    }
}

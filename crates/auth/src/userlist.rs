//! The `auth_file`: a line for each user, `"name" "secret"`.

use std::collections::HashMap;
use std::fmt;

use zeroize::Zeroizing;

use crate::lines::{split_at_quote, take_quoted};
use crate::secret::{PASSWORD_LEN_MAX, Secret};

/// The longest user name in bytes.
pub const USER_LEN_MAX: usize = 127;

/// The users of an `auth_file`, up to its first broken line.
#[derive(Debug, Default)]
pub struct Userlist {
    users: HashMap<String, Secret>,
    finding: Option<Finding>,
}

impl Userlist {
    /// Reads a file's contents. The last line about a user wins.
    pub fn parse(text: &[u8]) -> Self {
        let mut list = Self::default();
        for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            match parse_line(line) {
                Ok(Some((user, secret))) => {
                    list.users.insert(user, secret);
                }
                Ok(None) => {}
                // The lines below may hang on the one that is broken: none of them is trusted.
                Err(fault) => {
                    list.finding = Some(Finding {
                        line: number,
                        fault,
                    });
                    break;
                }
            }
        }
        list
    }

    /// The secret of a user.
    pub fn get(&self, user: &str) -> Option<&Secret> {
        self.users.get(user)
    }

    /// Takes up the users of another list who are not in this one.
    pub fn add_missing(&mut self, other: Self) {
        for (user, secret) in other.users {
            self.users.entry(user).or_insert(secret);
        }
    }

    /// The users, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.users
            .iter()
            .map(|(user, secret)| (user.as_str(), secret))
    }

    /// What broke off the reading, if anything did.
    pub fn finding(&self) -> Option<Finding> {
        self.finding
    }
}

/// The line at which the reading ended, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.fault)
    }
}

/// What can be wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It begins with something else than a quote.
    #[error("broken auth file: expected \"user\" \"secret\"")]
    NotQuoted,
    /// A closing quote is missing.
    #[error("broken auth file: a quote is not closed")]
    NotClosed,
    /// There is a user, but no secret.
    #[error("broken auth file: expected a quoted secret after the user")]
    NoSecret,
    /// The user name has more than [`USER_LEN_MAX`] bytes.
    #[error("username too long in auth file")]
    UserTooLong,
    /// The secret has more than [`PASSWORD_LEN_MAX`] bytes.
    #[error("password too long in auth file")]
    SecretTooLong,
    /// The user name is not UTF-8, so no client could give it.
    #[error("broken auth file: the user name is not UTF-8")]
    UserNotUtf8,
}

fn parse_line(line: &[u8]) -> Result<Option<(String, Secret)>, Fault> {
    let line = line.trim_ascii_start();
    if matches!(line.first(), None | Some(b';')) {
        return Ok(None);
    }
    let text = line.strip_prefix(b"\"").ok_or(Fault::NotQuoted)?;
    let (user, rest) = take_quoted(text).ok_or(Fault::NotClosed)?;
    if user.len() > USER_LEN_MAX {
        return Err(Fault::UserTooLong);
    }
    let user = String::from_utf8(user).map_err(|_| Fault::UserNotUtf8)?;

    let (_, text) = split_at_quote(rest).ok_or(Fault::NoSecret)?;
    let (secret, _) = take_quoted(text).ok_or(Fault::NotClosed)?;
    let secret = Zeroizing::new(secret);
    if secret.len() > PASSWORD_LEN_MAX {
        return Err(Fault::SecretTooLong);
    }
    Ok(Some((user, Secret::parse(&secret))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn users(text: &str) -> Vec<(String, Secret)> {
        let list = Userlist::parse(text.as_bytes());
        assert_eq!(list.finding(), None, "{text}");
        let mut users: Vec<_> = list
            .iter()
            .map(|(user, secret)| (user.to_owned(), secret.clone()))
            .collect();
        users.sort_by(|one, other| one.0.cmp(&other.0));
        users
    }

    fn user(name: &str, secret: &str) -> (String, Secret) {
        (name.to_owned(), Secret::parse(secret.as_bytes()))
    }

    fn finding(text: &str) -> String {
        Userlist::parse(text.as_bytes())
            .finding()
            .unwrap()
            .to_string()
    }

    #[test]
    fn each_line_names_a_user_and_a_secret() {
        assert_eq!(
            users("\"alice\" \"secret\"\n\"bob\"\t\"md5e8a48653851e28c69d0506508fb27fc5\"\r\n"),
            [
                user("alice", "secret"),
                user("bob", "md5e8a48653851e28c69d0506508fb27fc5"),
            ]
        );
    }

    #[test]
    fn comments_blank_lines_and_the_rest_of_a_line_are_ignored() {
        assert_eq!(
            users("; users\n\n  \t\n  \"alice\" \"a\" \"more\" and more\n;\"bob\" \"b\""),
            [user("alice", "a")]
        );
    }

    #[test]
    fn two_quotes_are_one() {
        assert_eq!(users(r#""al""ice" """"  "#), [user("al\"ice", "\"")]);
        assert_eq!(users(r#""" """#), [user("", "")]);
    }

    #[test]
    fn the_last_line_about_a_user_wins() {
        assert_eq!(users("\"a\" \"1\"\n\"a\" \"2\""), [user("a", "2")]);
    }

    #[test]
    fn a_list_is_completed_by_another_and_keeps_what_it_has() {
        let mut list = Userlist::parse(b"\"a\" \"1\"");
        list.add_missing(Userlist::parse(b"\"a\" \"2\"\n\"b\" \"3\""));
        assert_eq!(list.get("a"), Some(&Secret::parse(b"1")));
        assert_eq!(list.get("b"), Some(&Secret::parse(b"3")));
    }

    #[test]
    fn reading_stops_at_the_first_broken_line() {
        let list = Userlist::parse(b"\"a\" \"1\"\nb 2\n\"c\" \"3\"\n");
        assert!(list.get("a").is_some());
        assert!(list.get("c").is_none());
        assert_eq!(
            list.finding(),
            Some(Finding {
                line: 2,
                fault: Fault::NotQuoted
            })
        );
    }

    #[test]
    fn every_fault_says_where_and_what() {
        assert_eq!(
            finding("\n# not a comment here"),
            "line 2: broken auth file: expected \"user\" \"secret\""
        );
        assert_eq!(
            finding("\"alice"),
            "line 1: broken auth file: a quote is not closed"
        );
        assert_eq!(
            finding("\"alice\" \"sec\nret\""),
            "line 1: broken auth file: a quote is not closed"
        );
        assert_eq!(
            finding("\"alice\" secret"),
            "line 1: broken auth file: expected a quoted secret after the user"
        );
    }

    #[test]
    fn the_longest_names_and_passwords_work_and_one_byte_more_does_not() {
        let longest = "u".repeat(USER_LEN_MAX);
        assert_eq!(users(&format!("\"{longest}\" \"x\"")).len(), 1);
        assert_eq!(
            finding(&format!("\"{longest}u\" \"x\"")),
            "line 1: username too long in auth file"
        );

        let longest = "p".repeat(PASSWORD_LEN_MAX);
        assert_eq!(users(&format!("\"u\" \"{longest}\"")).len(), 1);
        assert_eq!(
            finding(&format!("\"u\" \"{longest}p\"")),
            "line 1: password too long in auth file"
        );
    }

    #[test]
    fn a_password_need_not_be_utf8_but_a_user_must() {
        let list = Userlist::parse(b"\"a\" \"\xff\"\n\"\xff\" \"b\"");
        assert!(*list.get("a").unwrap() == Secret::parse(b"\xff"));
        assert_eq!(
            list.finding().unwrap().to_string(),
            "line 2: broken auth file: the user name is not UTF-8"
        );
    }

    proptest! {
        #[test]
        fn quoted_users_and_secrets_read_back(
            written in prop::collection::hash_map("[^\n]{0,20}", "[^\n]{0,40}", 0..8)
        ) {
            let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let text: String = written
                .iter()
                .map(|(user, secret)| format!("{} {}\n", quote(user), quote(secret)))
                .collect();
            let list = Userlist::parse(text.as_bytes());
            prop_assert_eq!(list.finding(), None);
            prop_assert_eq!(list.iter().count(), written.len());
            for (user, secret) in &written {
                prop_assert!(list.get(user) == Some(&Secret::parse(secret.as_bytes())));
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            text in prop::collection::vec(
                prop_oneof![Just(b'"'), Just(b'\n'), Just(b' '), Just(b';'), any::<u8>()],
                0..200,
            )
        ) {
            let _ = Userlist::parse(&text);
        }
    }
}

//! The `auth_ident_file`: which database users somebody known elsewhere may be.
//!
//! A line is `map system-user database-user`, with `all` for any database user.

use std::collections::HashMap;

use thiserror::Error;

use crate::lines::{self, WordFault, Words};

/// The maps of an `auth_ident_file`, without its broken lines.
#[derive(Debug, Default)]
pub struct Ident {
    maps: HashMap<String, Vec<Pair>>,
    findings: Vec<Finding>,
}

/// A line that was skipped, and why.
pub type Finding = lines::Finding<Fault>;

/// Somebody known elsewhere, and who that is here.
#[derive(Debug)]
struct Pair {
    system_user: String,
    user: MappedUser,
}

#[derive(Debug)]
enum MappedUser {
    All,
    Named(String),
}

/// What can be wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// A word that can't be read.
    #[error("{0}")]
    Word(#[from] WordFault),
    /// The line ends too early, or too late.
    #[error("expected a map, a system user and a database user")]
    NotThreeWords,
    /// What PostgreSQL has, and neither PgBouncer nor we.
    #[error("{0:?} is not supported: give a name")]
    Unsupported(String),
}

impl Ident {
    /// Reads a file's contents.
    pub fn parse(text: &[u8]) -> Self {
        let (pairs, findings) = lines::read(text, parse_line);
        let mut maps: HashMap<String, Vec<Pair>> = HashMap::new();
        for (map, pair) in pairs {
            maps.entry(map).or_default().push(pair);
        }
        Self { maps, findings }
    }

    /// True if some line belongs to this map.
    pub fn has(&self, map: &str) -> bool {
        self.maps.contains_key(map)
    }

    /// Whether somebody whom others know by any of these names may log in as `user`: as its
    /// namesake, or where a map is given, as that map says.
    pub fn lets<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
        map: Option<&str>,
        user: &str,
    ) -> bool {
        let mut names = names.into_iter();
        let Some(map) = map else {
            return names.any(|name| name == user);
        };
        // A map that nobody wrote lets nobody in.
        let pairs = self.maps.get(map).map(Vec::as_slice).unwrap_or_default();
        names.any(|name| pairs.iter().any(|pair| pair.lets(name, user)))
    }

    /// The lines that were skipped.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl Pair {
    fn lets(&self, name: &str, user: &str) -> bool {
        let mapped = match &self.user {
            MappedUser::All => true,
            MappedUser::Named(named) => named == user,
        };
        mapped && self.system_user == name
    }
}

fn parse_line(mut words: Words<'_>) -> Result<Option<(String, Pair)>, Fault> {
    if words.is_at_end() {
        return Ok(None);
    }
    let (Some(map), Some(system_user), Some(user)) = (words.word()?, words.word()?, words.word()?)
    else {
        return Err(Fault::NotThreeWords);
    };
    if !words.is_at_end() {
        return Err(Fault::NotThreeWords);
    }
    // Patterns and roles: read as names they would silently match nobody.
    for (word, sign) in [(&system_user, '/'), (&user, '/'), (&user, '+')] {
        if word.after_sign(sign).is_some() {
            return Err(Fault::Unsupported(word.text.clone()));
        }
    }
    let user = if user.is("all") {
        MappedUser::All
    } else {
        MappedUser::Named(user.text)
    };
    let system_user = system_user.text;
    Ok(Some((map.text, Pair { system_user, user })))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAPS: &str = r#"
        # map   system    database
        ops     root      postgres   # the house
        ops     root      "all"
        ops     "mr x"    alice
        any     deploy    all
    "#;

    fn lets(names: &[&str], map: Option<&str>, user: &str) -> bool {
        let ident = Ident::parse(MAPS.as_bytes());
        assert_eq!(ident.findings(), []);
        ident.lets(names.iter().copied(), map, user)
    }

    #[test]
    fn without_a_map_only_a_namesake_gets_in() {
        assert!(lets(&["alice"], None, "alice"));
        assert!(lets(&["host.example", "alice"], None, "alice"));
        assert!(!lets(&["root"], None, "postgres"));
        assert!(!lets(&["Alice"], None, "alice"));
        assert!(!lets(&[], None, "alice"));
    }

    #[test]
    fn with_a_map_only_its_lines_count() {
        assert!(lets(&["root"], Some("ops"), "postgres"));
        assert!(lets(&["mr x"], Some("ops"), "alice"));
        assert!(lets(&["other", "mr x"], Some("ops"), "alice"));
        assert!(!lets(&["root"], Some("ops"), "root"));
        assert!(!lets(&["root"], Some("any"), "postgres"));
    }

    #[test]
    fn all_is_every_user_unless_it_stands_in_quotes() {
        assert!(lets(&["deploy"], Some("any"), "whoever"));
        assert!(lets(&["root"], Some("ops"), "all"));
        assert!(!lets(&["root"], Some("ops"), "alice"));
    }

    #[test]
    fn a_map_that_nobody_wrote_lets_nobody_in() {
        assert!(!lets(&["alice"], Some("none"), "alice"));
        let ident = Ident::parse(MAPS.as_bytes());
        assert!(ident.has("ops") && !ident.has("none"));
    }

    #[test]
    fn broken_lines_are_skipped_and_told() {
        let ident = Ident::parse(b"ops root\nops /^(.*)$ all\nops a b c\nops a +b\n,\nops a b\n");
        let told: Vec<_> = ident.findings().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "line 1: expected a map, a system user and a database user",
                "line 2: \"/^(.*)$\" is not supported: give a name",
                "line 3: expected a map, a system user and a database user",
                "line 4: \"+b\" is not supported: give a name",
                "line 5: expected a map, a system user and a database user",
            ]
        );
        assert!(ident.lets(["a"], Some("ops"), "b"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            text in prop::collection::vec(
                prop_oneof![
                    Just(b'"'), Just(b'\n'), Just(b' '), Just(b'#'), Just(b','), Just(b'/'),
                    any::<u8>(),
                ],
                0..200,
            )
        ) {
            let ident = Ident::parse(&text);
            let _ = ident.lets(["a"], Some("b"), "c");
        }

        #[test]
        fn a_quoted_line_lets_exactly_its_pair_in(
            map in "[^\n]{0,8}", system_user in "[^\n]{0,8}", user in "[^\n]{0,8}",
            other in "[a-c]{1,2}",
        ) {
            let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let line = [&map, &system_user, &user].map(|word| quote(word)).join(" ");
            let ident = Ident::parse(line.as_bytes());
            prop_assert_eq!(ident.findings(), []);
            prop_assert!(ident.lets([system_user.as_str()], Some(&map), &user));
            prop_assert_eq!(ident.lets([other.as_str()], Some(&map), &user), other == system_user);
            prop_assert_eq!(ident.lets([system_user.as_str()], Some(&map), &other), other == user);
        }
    }
}

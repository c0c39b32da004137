use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn pairs(text: &str) -> Result<Vec<(String, String)>, PairError> {
    let mut pairs = Vec::new();
    each_pair(text, |pair| {
        pairs.push((pair.key.clone(), pair.value.clone()));
        Ok(())
    })?;
    Ok(pairs)
}

fn split(text: &str) -> Vec<(String, String)> {
    pairs(text).unwrap()
}

fn refuses(texts: &[&str], expect: Expect) {
    let refusals: Vec<_> = texts
        .iter()
        .map(|text| pairs(text).unwrap_err())
        .map(|error| format!("{}: {}", error.key, error.problem))
        .collect();
    expect.assert_eq(&refusals.join("\n"));
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

#[test]
fn pairs_are_split_at_blanks_which_may_also_stand_round_the_equals_sign() {
    let expected = owned(&[("host", "127.0.0.1"), ("port", "5432"), ("dbname", "a=b")]);

    assert_eq!(
        split("  host=127.0.0.1   port = 5432\tdbname= a=b "),
        expected
    );
    assert_eq!(split("   "), []);
}

#[test]
fn quotes_keep_blanks_and_a_doubled_quote_is_one() {
    assert_eq!(
        split("connect_query='set a=off; set b=off' password='it''s' user=it's"),
        owned(&[
            ("connect_query", "set a=off; set b=off"),
            ("password", "it's"),
            ("user", "it's"),
        ])
    );
}

#[test]
fn a_broken_pair_is_refused_by_its_key() {
    refuses(
        &[
            "host",
            "host port=1",
            "=x",
            "password='open",
            "host=",
            "host=''",
            "a='b'c=d",
        ],
        expect![[r#"
            host: expected key=value
            host: expected key=value
            : expected a key before =
            password: expected a closing quote
            host: expected a value after =
            host: expected a value after =
            a: expected a blank after the closing quote"#]],
    );
}

#[test]
fn the_rest_of_a_password_with_blanks_is_not_told() {
    refuses(
        &["password=two words", "password=two words port=1"],
        expect![[r#"
            password: expected quotes round a value with blanks
            password: expected quotes round a value with blanks"#]],
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_splitter_panic(text in "(\\PC|[ =']){0,64}") {
        let _ = pairs(&text);
    }

    #[test]
    fn what_is_written_is_split_back(
        written in prop::collection::vec(("[a-z_]{1,10}", "\\PC{1,20}"), 0..6)
    ) {
        let quote = |(key, value): &(String, String)| format!("{key} = '{}'", value.replace('\'', "''"));
        let text: Vec<_> = written.iter().map(quote).collect();

        prop_assert_eq!(split(&text.join("  ")), written);
    }
}

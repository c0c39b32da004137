//! The grammar, each line as PgBouncer took it on the wire.

use proptest::prelude::*;

use super::*;

fn command(verb: &'static str, argument: Option<&'static str>) -> Statement<'static> {
    Statement::Command {
        verb: verb.into(),
        argument: argument.map(|word| Word::Said(word.into())),
    }
}

fn sets(query: &str, key: &str, value: &str) {
    let expected = Statement::Assignment {
        key: key.into(),
        value: Word::Said(value.into()),
    };
    assert_eq!(parse(query), Ok(expected), "{query}");
}

fn refused(query: &str) {
    assert_eq!(parse(query), Err(ParseError::Grammar), "{query}");
}

#[test]
fn a_command_is_a_word_and_perhaps_another() {
    assert_eq!(parse("RELOAD"), Ok(command("RELOAD", None)));
    assert_eq!(parse("show version"), Ok(command("show", Some("version"))));
    assert_eq!(parse("pause db_1"), Ok(command("pause", Some("db_1"))));
    refused("pause a b");
    refused("pause a-b");
    refused("pause é");
    refused("select version()");
}

#[test]
fn blanks_are_space_tab_and_line_ends() {
    assert_eq!(
        parse(" \t\r\nshow \n version ; \n"),
        Ok(command("show", Some("version")))
    );
    refused("show\u{b}version");
    refused("show\u{c}version");
}

#[test]
fn one_semicolon_may_end_a_statement_and_nothing_follows() {
    assert_eq!(parse("show version;"), Ok(command("show", Some("version"))));
    assert_eq!(parse("reload ;"), Ok(command("reload", None)));
    for query in [
        "show version;;",
        "show version; show state",
        ";",
        "show version; x",
    ] {
        refused(query);
    }
}

#[test]
fn nothing_is_no_statement_and_there_are_no_comments() {
    for query in ["", "  ", "-- x", "/* x */ reload", "reload -- x"] {
        refused(query);
    }
}

#[test]
fn a_parameter_may_stand_for_what_a_statement_is_about() {
    assert_eq!(
        parse("pause $1;"),
        Ok(Statement::Command {
            verb: "pause".into(),
            argument: Some(Word::Parameter),
        })
    );
    assert_eq!(
        parse("set a=$1"),
        Ok(Statement::Assignment {
            key: "a".into(),
            value: Word::Parameter,
        })
    );
    sets("set a = '$1'", "a", "$1");
    for query in ["$1", "pause $2", "pause $10", "pause $", "set $1 = a"] {
        refused(query);
    }
}

#[test]
fn quotes_keep_what_they_hold_and_two_of_them_are_one() {
    assert_eq!(
        parse("\"SHOW\" \"VERSION\""),
        Ok(command("SHOW", Some("VERSION")))
    );
    assert_eq!(
        parse("pause \"a;b é\""),
        Ok(command("pause", Some("a;b é")))
    );
    assert_eq!(
        parse("pause \"a\"\"b\""),
        Ok(command("pause", Some("a\"b")))
    );
    refused("pause \"a");
    refused("pause \"a\"\"");
    refused("pause 'a'");
}

#[test]
fn words_need_a_blank_between_them_even_if_quoted() {
    refused("show\"version\"");
    refused("\"show\"version");
    refused("set\"x\"=1");
}

#[test]
fn an_empty_argument_is_none() {
    assert_eq!(parse("pause \"\""), Ok(command("pause", None)));
}

#[test]
fn set_takes_an_equals_sign_or_to() {
    for query in [
        "set a=9",
        "SET a = 9 ;",
        "set a TO 9",
        "set a to9",
        "set \"a\"to \"9\"",
        "set a='9'",
    ] {
        sets(query, "a", "9");
    }
    sets("set to to to", "to", "to");
    for query in [
        "set a9",
        "set ato9",
        "set a 9",
        "set a to = 9",
        "set a = = 9",
        "set = 9",
        "set to 9",
    ] {
        assert!(
            !matches!(parse(query), Ok(Statement::Assignment { .. })),
            "{query}"
        );
    }
}

#[test]
fn a_value_is_one_word_or_one_string() {
    sets("set a='select ''1'''", "a", "select '1'");
    sets("set a=''", "a", "");
    sets("set a='x\ny; z'", "a", "x\ny; z");
    for query in [
        "set a=",
        "set a=-1",
        "set a=1.5",
        "set a=1 2",
        "set a='1'b",
        "set a='1",
        "set a=1;;",
    ] {
        refused(query);
    }
}

#[test]
fn set_itself_is_never_quoted() {
    refused("\"set\" a=1");
}

#[test]
fn names_keep_their_letter_case() {
    assert_eq!(parse("PAUSE Db"), Ok(command("PAUSE", Some("Db"))));
    sets("SET Key=Value", "Key", "Value");
}

#[test]
fn words_have_a_longest_length_quotes_included() {
    let long = |query: String| assert_eq!(parse(&query), Err(ParseError::TooLong), "{query}");
    let fine = |query: String| assert!(parse(&query).is_ok(), "{query}");
    let a = |count| "a".repeat(count);

    fine(a(15));
    long(a(16));
    fine(format!("show {}", a(63)));
    long(format!("show {}", a(64)));
    fine(format!("show \"{}\"", a(61)));
    long(format!("show \"{}\"", a(62)));
    fine(format!("set {}=1", a(63)));
    long(format!("set {}=1", a(64)));
    fine(format!("set a={}", a(255)));
    long(format!("set a={}", a(256)));
    fine(format!("set a='{}'", a(253)));
    long(format!("set a='{}'", a(254)));
}

#[test]
fn a_long_word_in_a_broken_statement_is_a_broken_statement() {
    refused(&format!("show {}; x", "a".repeat(64)));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(query in "\\PC*") {
        let _ = parse(&query);
    }

    #[test]
    fn nor_does_a_text_of_what_the_grammar_knows(query in "(set|show|to|a|=|\"|'|;| |\n|é){0,24}") {
        let _ = parse(&query);
    }

    #[test]
    fn any_short_name_survives_its_quotes(name in "[^\\x00]{1,7}") {
        let query = format!("pause \"{}\"", name.replace('"', "\"\""));
        let read = parse(&query);
        let expected = Statement::Command { verb: "pause".into(), argument: Some(Word::Said(name.into())) };
        prop_assert_eq!(read, Ok(expected));
    }
}

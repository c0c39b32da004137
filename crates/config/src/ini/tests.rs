use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

type Sections = BTreeMap<String, BTreeMap<String, String>>;

fn no_files(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

fn sections(map: Map<String, Value>) -> Sections {
    let texts = |value: Value| {
        let table = value.into_table().unwrap().into_iter();
        table
            .map(|(key, value)| (key, value.kind.to_string()))
            .collect()
    };
    map.into_iter()
        .map(|(name, table)| (name, texts(table)))
        .collect()
}

/// The `[pgbouncer]` section of a file that says no more.
fn main_section(lines: &str) -> BTreeMap<String, String> {
    let text = format!("[pgbouncer]\n{lines}");
    sections(parse("x.ini", &text, no_files).unwrap())
        .remove("pgbouncer")
        .unwrap()
}

fn refuses(text: &str, expect: Expect) {
    expect.assert_eq(&parse("x.ini", text, no_files).unwrap_err().to_string());
}

#[test]
fn a_comment_is_a_line_of_its_own_and_never_follows_a_value() {
    let section = main_section("; one\n  # two\nlogfile = /tmp/a ; b # c\n");

    assert_eq!(section["logfile"], "/tmp/a ; b # c");
    assert_eq!(section.len(), 1);
}

#[test]
fn blanks_are_cut_round_keys_and_values_and_carriage_returns_with_them() {
    let section = main_section("   pool_mode\t =  session \t\r\npidfile =\r\n\r\n  verbose=2");

    assert_eq!(section["pool_mode"], "session");
    assert_eq!(section["pidfile"], "");
    assert_eq!(section["verbose"], "2");
}

#[test]
fn keys_may_be_bare_or_in_either_quotes() {
    let section = main_section("a.B-c_* = 1\n'it is mine' = 2\n\"it's\" = 3\n'o''clock' = 4");

    let keys: Vec<_> = section.keys().map(String::as_str).collect();
    assert_eq!(keys, ["a.B-c_*", "it is mine", "it's", "o'clock"]);
}

#[test]
fn the_last_of_a_repeated_key_wins_over_re_opened_sections() {
    let text =
        "[pgbouncer]\nverbose=1\n[databases]\na = host=x\n[users]\n[databases]\na = host=y\nb=";

    let sections = sections(parse("x.ini", text, no_files).unwrap());

    assert_eq!(sections["databases"]["a"], "host=y");
    assert_eq!(sections["databases"]["b"], "");
    assert_eq!(sections["users"].len(), 0);
}

#[test]
fn a_second_main_header_resets_all_but_settings_without_a_default() {
    let text = "[pgbouncer]\nmax_client_conn=7\nauth_file=u.txt\n[pgbouncer]\nverbose=1";

    let sections = sections(parse("x.ini", text, no_files).unwrap());

    let keys: Vec<_> = sections["pgbouncer"].keys().map(String::as_str).collect();
    assert_eq!(keys, ["auth_file", "verbose"]);
}

#[test]
fn a_key_may_follow_its_header_on_the_same_line() {
    assert_eq!(
        main_section("[users] bob = pool_mode=session\n[pgbouncer] a = 1")["a"],
        "1"
    );
}

#[test]
fn an_included_file_goes_on_in_the_current_section_and_leaves_its_own_behind() {
    let files = |path: &Path| match path.to_str() {
        Some("etc/more.ini") => Ok("verbose = 1\n[databases]\na = host=x\n".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let text = "[pgbouncer]\n  %include   etc/more.ini \nb = host=y\n";

    let map = parse("x.ini", text, files).unwrap();

    let origin = map["databases"].clone().into_table().unwrap()["a"]
        .origin()
        .map(str::to_owned);
    assert_eq!(origin.as_deref(), Some("etc/more.ini:3"));
    let sections = sections(map);
    assert_eq!(sections["pgbouncer"]["verbose"], "1");
    assert_eq!(sections["databases"]["b"], "host=y");
}

#[test]
fn includes_nest_ten_deep_and_no_deeper() {
    fn numbered(path: &Path) -> io::Result<String> {
        let depth: usize = path.to_str().unwrap().parse().unwrap();
        Ok(format!("%include {}", depth + 1))
    }
    fn ending(path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("10") => Ok("verbose = 3".to_owned()),
            _ => numbered(path),
        }
    }
    let text = "[pgbouncer]\n%include 1";

    let error = parse("x.ini", text, numbered).unwrap_err();
    assert_eq!(error.to_string(), "10:1: %include nested deeper than 10");
    assert_eq!(
        sections(parse("x.ini", text, ending).unwrap())["pgbouncer"]["verbose"],
        "3"
    );
}

#[test]
fn every_bad_line_is_reported_with_its_place() {
    refuses(
        "a = 1\n\
         [pgbouncer]\n\
         just words\n\
         = 1\n\
         'open = 1\n\
         ; fine\n\
         [databases\n\
         %include nowhere.ini\n\
         %includes x\n\
         caf\u{fffd} = 1\n\
         [pooler]\n\
         skipped = 1\n",
        expect![[r#"
            x.ini:1: a: expected a [section] before the first key
            x.ini:3: expected key = value, a [section], or a comment
            x.ini:4: expected key = value, a [section], or a comment
            x.ini:5: expected a quote at the end of the key
            x.ini:7: expected ] at the end of the header
            x.ini:8: nowhere.ini: cannot be read: entity not found
            x.ini:9: expected key = value, a [section], or a comment
            x.ini:10: expected key = value, a [section], or a comment
            x.ini:11: [pooler]: unknown section, expected [pgbouncer], [databases], [users] or [peers]"#]],
    );
}

#[test]
fn without_a_main_section_there_is_no_configuration() {
    refuses(
        "[databases]\na = host=x\n",
        expect!["x.ini: main section missing, expected [pgbouncer]"],
    );
    refuses(
        "",
        expect!["x.ini: main section missing, expected [pgbouncer]"],
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(\\PC|[\\[\\]%= \n\t'\";#]|%include |\\[pgbouncer\\])*") {
        let _ = parse("x.ini", &text, |_| Ok("%include again\n[users]\n'".to_owned()));
    }

    #[test]
    fn what_is_written_is_read_back(
        users in prop::collection::btree_map(
            "[^\\n\\x00\u{fffd}]{1,12}",
            "([!-~]([ -~]{0,20}[!-~])?)?",
            0..8,
        )
    ) {
        let mut text = String::from("[pgbouncer]\n[users]\n");
        for (name, value) in &users {
            text += &format!("  '{}' = {value}  \n", name.replace('\'', "''"));
        }

        let read = sections(parse("x.ini", &text, no_files).unwrap());

        prop_assert_eq!(&read["users"], &users);
    }
}

//! The extended protocol at the console, message by message.

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::outcome::CommandError;
use crate::table::{Table, int4, text};

/// A console, what was said at it so far, and a pooler that answers any SHOW with these rows.
struct Scene {
    console: Console,
    said: Vec<u8>,
    rows: i32,
    ran: Vec<Command>,
}

impl Scene {
    fn new() -> Self {
        Self::of(Privilege::Admin)
    }

    fn of(privilege: Privilege) -> Self {
        Self {
            console: Console::new(privilege),
            said: Vec::new(),
            rows: 2,
            ran: Vec::new(),
        }
    }

    fn says(&mut self, tag: u8, body: &[u8]) -> &mut Self {
        match self.console.on_message(tag, body) {
            Reaction::Reply(reply) => self.said.extend(reply),
            Reaction::Run(command) => {
                let outcome = match &command {
                    Command::Show(_) => Outcome::Table(numbers(self.rows)),
                    Command::Resume(_) => Outcome::Failed(CommandError::NotPaused),
                    _ => Outcome::Done,
                };
                self.said.extend(self.console.on_outcome(outcome));
                self.ran.push(command);
            }
            other => panic!("{other:?}"),
        }
        let rest = std::iter::from_fn(|| self.console.rest());
        self.said.extend(rest.flatten());
        self
    }

    fn parses(&mut self, name: &str, query: &str) -> &mut Self {
        self.says(b'P', format!("{name}\0{query}\0\0\0").as_bytes())
    }

    fn describes(&mut self, what: &str) -> &mut Self {
        self.says(b'D', format!("{what}\0").as_bytes())
    }

    /// Binds a portal of the same name as its statement.
    fn binds(&mut self, name: &str, values: &[Option<&[u8]>]) -> &mut Self {
        self.binds_as(name, &[], values, &[])
    }

    fn binds_as(
        &mut self,
        name: &str,
        formats: &[u8],
        values: &[Option<&[u8]>],
        results: &[u8],
    ) -> &mut Self {
        let mut body = format!("{name}\0{name}\0").into_bytes();
        let codes = |body: &mut Vec<u8>, codes: &[u8]| {
            body.extend([0, codes.len() as u8]);
            codes.iter().for_each(|code| body.extend([0, *code]));
        };
        codes(&mut body, formats);
        body.extend([0, values.len() as u8]);
        for value in values {
            let len = value.map_or(-1, |value| value.len() as i32);
            body.extend(len.to_be_bytes());
            body.extend(value.unwrap_or_default());
        }
        codes(&mut body, results);
        self.says(b'B', &body)
    }

    fn executes(&mut self, portal: &str, rows_max: i32) -> &mut Self {
        let mut body = format!("{portal}\0").into_bytes();
        body.extend(rows_max.to_be_bytes());
        self.says(b'E', &body)
    }

    fn syncs(&mut self) -> &mut Self {
        self.says(b'S', b"")
    }

    /// What was said since this was asked last.
    fn hears(&mut self) -> String {
        transcript::of(&std::mem::take(&mut self.said))
    }
}

fn numbers(count: i32) -> Table {
    let columns = [
        text("name", |row: &i32| format!("no. {row}")),
        int4("number", |row| *row),
    ];
    Table::of(&columns, 1..=count)
}

#[test]
fn a_table_is_described_bound_and_told() {
    let mut scene = Scene::new();
    let heard = scene
        .parses("", "SHOW VERSION")
        .describes("S")
        .binds("", &[])
        .describes("P")
        .executes("", 0)
        .syncs()
        .hears();
    let expected = format!(
        "ParseComplete\nParameterDescription []\nRowDescription version:25\nBindComplete\n\
         RowDescription version:25\nDataRow {VERSION}\nCommandComplete SHOW\nReadyForQuery I\n"
    );
    assert_eq!(heard, expected);
}

#[test]
fn a_portal_tells_so_many_rows_at_a_time() {
    let mut scene = Scene::new();
    scene.rows = 3;
    scene.parses("", "SHOW POOLS").binds("", &[]).hears();
    let told = scene
        .executes("", 2)
        .executes("", 2)
        .executes("", 2)
        .hears();
    expect![[r#"
        DataRow no. 1 | 1
        DataRow no. 2 | 2
        PortalSuspended
        DataRow no. 3 | 3
        CommandComplete SHOW
        CommandComplete SHOW
    "#]]
    .assert_eq(&told);
    assert_eq!(scene.ran.len(), 1, "it was drawn once");
    // As PostgreSQL does, which looks no further than it is asked to.
    scene.rows = 2;
    let told = scene.syncs().binds("", &[]).executes("", 2).hears();
    assert!(
        told.ends_with("DataRow no. 2 | 2\nPortalSuspended\n"),
        "{told}"
    );
}

#[test]
fn a_long_table_comes_in_parts_and_whole() {
    let mut scene = Scene::new();
    scene.rows = 1000;
    let told = scene.says(b'Q', b"SHOW LISTS\0").hears();
    assert_eq!(told.matches("DataRow").count(), 1000);
    assert!(told.starts_with("RowDescription list:25 items:23\nDataRow no. 1 | 1\n"));
    assert!(told.ends_with("DataRow no. 1000 | 1000\nCommandComplete SHOW\nReadyForQuery I\n"));
}

#[test]
fn columns_are_binary_where_that_is_asked_for() {
    let mut scene = Scene::new();
    scene.rows = 1;
    scene
        .parses("", "SHOW LISTS")
        .binds_as("", &[], &[], &[0, 1]);
    scene.executes("", 0);
    assert!(scene.said.ends_with(b"C\0\0\0\x09SHOW\0"));
    let row = b"\0\x02\0\0\0\x05no. 1\0\0\0\x04\0\0\0\x01C";
    assert!(scene.said.windows(row.len()).any(|bytes| bytes == row));
}

#[test]
fn a_command_may_be_prepared_once_and_run_often() {
    let mut scene = Scene::new();
    let heard = scene
        .parses("stop", "PAUSE $1")
        .describes("Sstop")
        .binds("stop", &[Some(b"shop")])
        .executes("stop", 0)
        .syncs()
        .binds("stop", &[Some(b"\" KILL")])
        .executes("stop", 0)
        .syncs()
        .hears();
    expect![[r#"
        ParseComplete
        ParameterDescription [0, 0, 0, 25]
        NoData
        BindComplete
        CommandComplete PAUSE
        ReadyForQuery I
        BindComplete
        CommandComplete PAUSE
        ReadyForQuery I
    "#]]
    .assert_eq(&heard);
    let pause = |name: &str| Command::Pause(Some(name.to_owned()));
    assert_eq!(scene.ran, [pause("shop"), pause("\" KILL")]);
}

#[test]
fn parameters_are_text_or_integers() {
    let mut scene = Scene::new();
    scene.parses("", "KILL_CLIENT $1").describes("S");
    scene
        .binds_as("", &[1], &[Some(&7u64.to_be_bytes())], &[])
        .executes("", 0)
        .syncs();
    scene.says(b'P', b"\0set verbose = $1\0\0\x01\0\0\0\x17");
    scene
        .binds_as("", &[1], &[Some(&[0, 0, 0, 2])], &[])
        .executes("", 0)
        .syncs();
    let set = Command::Set {
        key: "verbose".to_owned(),
        value: "2".to_owned(),
    };
    assert_eq!(scene.ran, [Command::KillClient(7), set]);
}

#[test]
fn an_error_skips_everything_up_to_the_sync() {
    let mut scene = Scene::new();
    let heard = scene
        .parses("", "SHOW NOTHING")
        .binds("", &[])
        .says(b'Q', b"RELOAD\0")
        .syncs()
        .parses("", "RESUME")
        .binds("", &[])
        .executes("", 0)
        .executes("", 0)
        .syncs()
        .hears();
    expect![[r#"
        ErrorResponse S=ERROR C=08P01 M=invalid command 'SHOW NOTHING', use SHOW HELP;
        ReadyForQuery I
        ParseComplete
        BindComplete
        ErrorResponse S=ERROR C=08P01 M=pooler is not paused/suspended
        ReadyForQuery I
    "#]]
    .assert_eq(&heard);
    assert_eq!(scene.ran, [Command::Resume(None)]);
}

#[test]
fn names_are_taken_closed_and_unknown_as_in_postgresql() {
    let mut told = String::new();
    let mut scene = Scene::new();
    scene.parses("s", "SHOW POOLS").binds("s", &[]).hears();
    told += &scene.parses("s", "SHOW POOLS").syncs().hears();
    told += &scene.binds("s", &[]).binds("s", &[]).syncs().hears();
    told += &scene.executes("s", 0).syncs().hears();
    told += &scene.says(b'C', b"Ss\0").binds("s", &[]).syncs().hears();
    told += &scene.describes("S").syncs().hears();
    expect![[r#"
        ErrorResponse S=ERROR C=42P05 M=prepared statement "s" already exists
        ReadyForQuery I
        BindComplete
        ErrorResponse S=ERROR C=42P03 M=cursor "s" already exists
        ReadyForQuery I
        ErrorResponse S=ERROR C=34000 M=portal "s" does not exist
        ReadyForQuery I
        CloseComplete
        ErrorResponse S=ERROR C=26000 M=prepared statement "s" does not exist
        ReadyForQuery I
        ErrorResponse S=ERROR C=26000 M=unnamed prepared statement does not exist
        ReadyForQuery I
    "#]]
    .assert_eq(&told);
}

#[test]
fn what_can_not_be_bound_is_told_so() {
    let mut told = String::new();
    let mut scene = Scene::new();
    for (query, formats, values, results) in [
        ("PAUSE $1", &[][..], &[][..], &[][..]),
        ("PAUSE", &[], &[Some(&b"x"[..])], &[]),
        ("PAUSE $1", &[], &[None], &[]),
        ("KILL_CLIENT $1", &[1], &[Some(b"1")], &[]),
        ("KILL_CLIENT $1", &[], &[Some(b"one")], &[]),
        ("SHOW STATE", &[], &[], &[1, 1, 1]),
        ("SHOW $1", &[], &[], &[]),
    ] {
        scene.parses("", query);
        scene.binds_as("", formats, values, results);
        told += &scene.syncs().hears().replace("ReadyForQuery I\n", "");
    }
    expect![[r#"
        ParseComplete
        ErrorResponse S=ERROR C=08P01 M=bind message supplies 0 parameters, but prepared statement requires 1
        ParseComplete
        ErrorResponse S=ERROR C=08P01 M=bind message supplies 1 parameters, but prepared statement requires 0
        ParseComplete
        ErrorResponse S=ERROR C=22004 M=the parameter must not be NULL
        ParseComplete
        ErrorResponse S=ERROR C=22023 M=the parameter can't be read; text and integers are understood
        ParseComplete
        ErrorResponse S=ERROR C=08P01 M=invalid client pointer supplied
        ParseComplete
        ErrorResponse S=ERROR C=08P01 M=bind message has 3 result formats but query has 2 columns
        ErrorResponse S=ERROR C=08P01 M=invalid command 'SHOW $1', use SHOW HELP;
    "#]]
    .assert_eq(&told);
}

#[test]
fn those_who_may_only_look_can_not_prepare_commands() {
    let mut scene = Scene::of(Privilege::Stats);
    let heard = scene
        .parses("", "PAUSE $1")
        .syncs()
        .parses("", "SET verbose = $1")
        .syncs()
        .parses("", "SHOW CONFIG")
        .binds("", &[])
        .executes("", 0)
        .syncs()
        .hears();
    assert_eq!(heard.matches("M=admin access needed").count(), 2, "{heard}");
    assert_eq!(scene.ran, [Command::Show(Show::ConfigMasked)]);
}

#[test]
fn nothing_has_an_answer_and_a_finished_command_does_not_run_again() {
    let mut scene = Scene::new();
    let heard = scene
        .parses("", " ; ")
        .binds("", &[])
        .executes("", 0)
        .parses("", "RELOAD")
        .binds("", &[])
        .executes("", 0)
        .executes("", 0)
        .syncs()
        .hears();
    expect![[r#"
        ParseComplete
        BindComplete
        EmptyQueryResponse
        ParseComplete
        BindComplete
        CommandComplete RELOAD
        ErrorResponse S=ERROR C=55000 M=portal "" cannot be run
        ReadyForQuery I
    "#]]
    .assert_eq(&heard);
}

#[test]
fn a_session_keeps_so_many_statements_and_no_more() {
    let mut scene = Scene::new();
    for number in 0..STATEMENTS_MAX {
        scene.parses(&number.to_string(), "SHOW POOLS");
    }
    scene.hears();
    let heard = scene.parses("one more", "SHOW POOLS").syncs().hears();
    assert!(
        heard.contains("C=54000 M=too many prepared statements"),
        "{heard}"
    );
    let long = "x".repeat(1000);
    let heard = scene.parses(&long, "SHOW POOLS").syncs().hears();
    assert!(heard.contains("C=54000 M=name too long"), "{heard}");
}

proptest! {
    #[test]
    fn whatever_is_said_a_sync_is_answered_once(
        messages in prop::collection::vec((any::<u8>(), any::<Vec<u8>>()), 0..8)
    ) {
        let mut console = Console::new(Privilege::Stats);
        for (tag, body) in messages {
            if let Reaction::Run(_) = console.on_message(tag, &body) {
                console.on_outcome(Outcome::Table(numbers(3)));
            }
            while console.rest().is_some() {}
        }
        let Reaction::Reply(reply) = console.on_message(b'S', b"") else {
            panic!("no answer");
        };
        prop_assert_eq!(transcript::of(&reply), "ReadyForQuery I\n");
        prop_assert!(console.is_at_rest());
    }
}

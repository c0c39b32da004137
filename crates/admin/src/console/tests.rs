//! What the console says by itself, message by message.

use expect_test::{Expect, expect};

use super::*;
use crate::show::{Show, VERSION};
use crate::transcript;

mod extended;

/// What a console of that privilege says to a query, from beginning to end.
fn said(privilege: Privilege, query: &str) -> String {
    let mut console = Console::new(privilege);
    let Reaction::Reply(mut reply) = console.on_message(b'Q', format!("{query}\0").as_bytes())
    else {
        panic!("{query} needs the pooler");
    };
    reply.extend(std::iter::from_fn(|| console.rest()).flatten());
    assert!(console.is_at_rest());
    transcript::of(&reply)
}

fn check(query: &str, expected: Expect) {
    expected.assert_eq(&said(Privilege::Admin, query));
}

#[test]
fn the_welcome_tells_our_parameters_then_the_clients_own() {
    let key = CancelKey::parse(&[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let welcome = Console::welcome([("application_name", "psql")], &key);
    expect![[r#"
        ParameterStatus server_version = 1.25.2/bouncer
        ParameterStatus client_encoding = UTF8
        ParameterStatus server_encoding = UTF8
        ParameterStatus DateStyle = ISO
        ParameterStatus TimeZone = GMT
        ParameterStatus standard_conforming_strings = on
        ParameterStatus is_superuser = on
        ParameterStatus application_name = psql
        BackendKeyData [1, 2, 3, 4, 5, 6, 7, 8]
        ReadyForQuery I
    "#]]
    .assert_eq(&transcript::of(&welcome));
}

#[test]
fn a_command_is_handed_on() {
    let reaction = Console::new(Privilege::Stats).on_message(b'Q', b"show pools;\0");
    assert_eq!(reaction, Reaction::Run(Command::Show(Show::Pools)));
}

#[test]
fn version_needs_nobody_and_begins_as_tools_expect() {
    let expected = format!(
        "RowDescription version:25\nDataRow {VERSION}\nCommandComplete SHOW\nReadyForQuery I\n"
    );
    assert_eq!(said(Privilege::Stats, "select version"), expected);
    assert!(VERSION.starts_with("PgBouncer 1.25.2 (pgusher "));
}

#[test]
fn help_is_a_notice() {
    check(
        "SHOW HELP",
        expect![[r#"
            NoticeResponse S=NOTICE C=00000 M=Console usage D=
            	SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
            	SHOW PEERS|PEER_POOLS
            	SHOW FDS|SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
            	SHOW DNS_HOSTS|DNS_ZONES
            	SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
            	SHOW WAITERS|BLOCKERS|CONFIG_DIFF
            	SET key = arg
            	RELOAD
            	PAUSE [<db>]
            	RESUME [<db>]
            	DISABLE <db>
            	ENABLE <db>
            	RECONNECT [<db>]
            	KILL [<db>]
            	KILL_CLIENT <client_id>
            	SUSPEND
            	SHUTDOWN [WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]
            	WAIT_CLOSE [<db>]
            CommandComplete SHOW
            ReadyForQuery I
        "#]],
    );
}

#[test]
fn a_pretended_parameter_is_one_column_of_its_name() {
    check(
        "SHOW \"TimeZone\"",
        expect![[r#"
            RowDescription timezone:25
            DataRow GMT
            CommandComplete SHOW
            ReadyForQuery I
        "#]],
    );
    check(
        "SET timezone = 'UTC'",
        expect![[r#"
        NoticeResponse S=NOTICE C=00000 M=SET ignored
        CommandComplete SET
        ReadyForQuery I
    "#]],
    );
}

#[test]
fn an_unknown_command_is_quoted_whole() {
    check(
        "show version; show é",
        expect![[r#"
        ErrorResponse S=ERROR C=08P01 M=invalid command 'show version; show é', use SHOW HELP;
        ReadyForQuery I
    "#]],
    );
    check(
        "",
        expect![[r#"
        ErrorResponse S=ERROR C=08P01 M=invalid command '', use SHOW HELP;
        ReadyForQuery I
    "#]],
    );
}

#[test]
fn every_refusal_has_pgbouncers_words() {
    check(
        "abcdefghijklmnop",
        expect![[r#"
        ErrorResponse S=ERROR C=08P01 M=bad arguments
        ReadyForQuery I
    "#]],
    );
    check(
        "disable",
        expect![[r#"
        ErrorResponse S=ERROR C=08P01 M=a database is required
        ReadyForQuery I
    "#]],
    );
    check(
        "kill_client x",
        expect![[r#"
        ErrorResponse S=ERROR C=08P01 M=invalid client pointer supplied
        ReadyForQuery I
    "#]],
    );
    expect![[r#"
        ErrorResponse S=ERROR C=08P01 M=admin access needed
        ReadyForQuery I
    "#]]
    .assert_eq(&said(Privilege::Stats, "reload"));
}

#[test]
fn what_has_no_place_at_the_console_ends_the_session() {
    let last_words = |tag| match Console::new(Privilege::Admin).on_message(tag, b"") {
        Reaction::Leave(words) => transcript::of(&words),
        other => panic!("{other:?}"),
    };
    expect![[r#"
        ErrorResponse S=ERROR C=08P01 M=unsupported packet type for admin console: 70
        ReadyForQuery I
        ErrorResponse S=FATAL C=08P01 M=bad packet
    "#]]
    .assert_eq(&last_words(b'F'));
    expect![[r#"
        ErrorResponse S=FATAL C=08P01 M=unknown pkt
    "#]]
    .assert_eq(&last_words(b'?'));
}

//! What each query asks for, and who may ask.

use super::*;
use crate::show::Show;

fn asks(query: &str) -> Request {
    Request::read(query, Privilege::Admin).unwrap()
}

fn refused(query: &str) -> Refusal {
    Request::read(query, Privilege::Admin).unwrap_err()
}

fn commands(query: &str) -> Command {
    match asks(query) {
        Request::Run(command) => command,
        other => panic!("{query} asks for {other:?}"),
    }
}

fn is_unknown(query: &str) {
    let unknown = Refusal::Unknown {
        query: query.to_owned(),
    };
    assert_eq!(refused(query), unknown);
}

fn db() -> Option<String> {
    Some("db".to_owned())
}

#[test]
fn secrets_are_for_admins() {
    let fds = Request::read("SHOW FDS", Privilege::Stats);
    assert_eq!(fds, Err(Refusal::AdminNeeded));
    let show = |privilege| Request::read("SHOW CONFIG", privilege).unwrap();
    let masked = Request::Run(Command::Show(Show::ConfigMasked));
    assert_eq!(show(Privilege::Stats), masked);
    assert_ne!(show(Privilege::Admin), masked);
}

/// Each command, how it is written, and its tag.
fn all() -> Vec<(&'static str, Command, &'static str)> {
    let set = Command::Set {
        key: "verbose".to_owned(),
        value: "2".to_owned(),
    };
    vec![
        ("SHOW pools", Command::Show(Show::Pools), "SHOW"),
        ("SET verbose = '2'", set, "SET verbose=2"),
        ("RELOAD", Command::Reload, "RELOAD"),
        ("PAUSE", Command::Pause(None), "PAUSE"),
        ("PAUSE db", Command::Pause(db()), "PAUSE"),
        ("RESUME", Command::Resume(None), "RESUME"),
        ("RESUME db", Command::Resume(db()), "RESUME"),
        ("DISABLE db", Command::Disable("db".to_owned()), "DISABLE"),
        ("ENABLE db", Command::Enable("db".to_owned()), "ENABLE"),
        ("RECONNECT", Command::Reconnect(None), "RECONNECT"),
        ("RECONNECT db", Command::Reconnect(db()), "RECONNECT"),
        ("KILL", Command::Kill(None), "KILL"),
        ("KILL db", Command::Kill(db()), "KILL"),
        ("KILL_CLIENT 17", Command::KillClient(17), "KILL_CLIENT"),
        ("WAIT_CLOSE", Command::WaitClose(None), "WAIT_CLOSE"),
        ("WAIT_CLOSE db", Command::WaitClose(db()), "WAIT_CLOSE"),
        (
            "SHUTDOWN",
            Command::Shutdown(ShutdownKind::Immediate),
            "SHUTDOWN",
        ),
        (
            "SHUTDOWN WAIT_FOR_SERVERS",
            Command::Shutdown(ShutdownKind::WaitForServers),
            "SHUTDOWN",
        ),
        (
            "shutdown wait_for_clients",
            Command::Shutdown(ShutdownKind::WaitForClients),
            "SHUTDOWN",
        ),
    ]
}

#[test]
fn every_command_is_read_in_any_letter_case_and_has_its_tag() {
    for (query, command, tag) in all() {
        assert_eq!(commands(query), command);
        assert_eq!(commands(&query.to_lowercase()), command);
        assert_eq!(command.tag(), tag);
    }
}

#[test]
fn stats_users_may_look_and_nothing_else() {
    for (query, command, tag) in all() {
        let read = Request::read(query, Privilege::Stats);
        if tag == "SHOW" {
            assert_eq!(command.privilege(), Privilege::Stats);
            assert_eq!(read, Ok(Request::Run(command)));
        } else {
            assert_eq!(command.privilege(), Privilege::Admin);
            assert_eq!(read, Err(Refusal::AdminNeeded), "{query}");
        }
    }
}

#[test]
fn stats_users_hear_that_a_command_is_not_theirs_before_how_it_is_used() {
    for query in ["disable", "enable", "kill_client x"] {
        let read = Request::read(query, Privilege::Stats);
        assert_eq!(read, Err(Refusal::AdminNeeded), "{query}");
    }
    // But what is no command is no command.
    for query in ["reload x", "shutdown now", "nope"] {
        let read = Request::read(query, Privilege::Stats);
        assert!(matches!(read, Err(Refusal::Unknown { .. })), "{query}");
    }
}

#[test]
fn every_topic_of_help_can_be_shown_and_selected() {
    for line in Topic::usage() {
        let names = line.strip_prefix("SHOW ").unwrap();
        for name in names.split('|') {
            let shown = asks(&format!("show {}", name.to_lowercase()));
            assert_eq!(asks(&format!("SELECT \"{name}\";")), shown);
        }
    }
}

#[test]
fn a_table_that_there_is_not_is_an_unknown_command() {
    for query in [
        "show",
        "show nope",
        "select 1",
        "select",
        "show \"\"",
        "show all",
    ] {
        is_unknown(query);
    }
}

#[test]
fn commands_that_stand_alone_take_no_argument() {
    for query in [
        "reload x",
        "suspend x",
        "shutdown x",
        "nope",
        "set x",
        "begin",
    ] {
        is_unknown(query);
    }
    assert_eq!(commands("reload \"\""), Command::Reload);
}

#[test]
fn disable_and_enable_need_a_database() {
    for query in ["disable", "enable", "enable \"\""] {
        assert_eq!(refused(query), Refusal::DatabaseRequired);
    }
}

#[test]
fn kill_client_needs_an_id() {
    for query in [
        "kill_client",
        "kill_client abc",
        "kill_client 0x17",
        "kill_client 99999999999999999999",
    ] {
        assert_eq!(refused(query), Refusal::BadClientId, "{query}");
    }
}

#[test]
fn a_word_too_long_is_told_apart_from_an_unknown_one() {
    assert_eq!(refused("abcdefghijklmnop"), Refusal::TooLong);
    is_unknown("abcdefghijklmno");
}

#[test]
fn what_drivers_set_at_login_is_pretended_for_everybody() {
    for name in [
        "client_encoding",
        "default_transaction_isolation",
        "standard_conforming_strings",
        "DateStyle",
        "TimeZone",
        "extra_float_digits",
    ] {
        let set = Request::read(&format!("SET {name} TO 'x y'"), Privilege::Stats);
        assert_eq!(set, Ok(Request::SetPretended));
        let show = Request::read(&format!("SHOW {name}"), Privilege::Stats);
        assert!(matches!(show, Ok(Request::ShowPretended(_))), "{name}");
    }
}

#[test]
fn a_command_knows_the_database_it_names() {
    for (query, command, _) in all() {
        let named = query.ends_with(" db").then_some("db");
        assert_eq!(command.database(), named, "{query}");
    }
}

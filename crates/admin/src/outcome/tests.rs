//! The text of every outcome.

use expect_test::{Expect, expect};

use super::*;
use crate::command::ShutdownKind;
use crate::transcript;

fn db() -> Option<String> {
    Some("x".to_owned())
}

fn admin_db() -> Option<String> {
    Some(CONSOLE_DATABASE.to_owned())
}

fn set() -> Command {
    Command::Set {
        key: "client_tls_cert_file".to_owned(),
        value: "/gone".to_owned(),
    }
}

fn check(command: Command, outcome: Outcome, expected: Expect) {
    let mut out = Vec::new();
    put_told(&mut out, &command, &outcome);
    expected.assert_eq(&transcript::of(&out));
}

#[test]
fn success_is_the_tag() {
    check(
        Command::Shutdown(ShutdownKind::WaitForClients),
        Outcome::Done,
        expect![[r#"
            CommandComplete SHUTDOWN
        "#]],
    );
    check(
        set(),
        Outcome::Done,
        expect![[r#"
            CommandComplete SET client_tls_cert_file=/gone
        "#]],
    );
}

#[test]
fn set_succeeds_with_a_notice_when_tls_can_not_follow() {
    check(
        set(),
        Outcome::DoneButTlsStays,
        expect![[r#"
            NoticeResponse S=NOTICE C=00000 M=TLS settings could not be applied, still using old configuration
            CommandComplete SET client_tls_cert_file=/gone
        "#]],
    );
}

#[test]
fn a_failed_reload_has_its_own_sqlstate() {
    check(
        Command::Reload,
        Outcome::Failed(CommandError::ReloadFailed),
        expect![[r#"
            ErrorResponse S=ERROR C=F0000 M=RELOAD failed, see logs for additional details
        "#]],
    );
}

#[test]
fn any_other_failure_is_a_protocol_violation_in_three_fields() {
    check(
        Command::Pause(db()),
        Outcome::Failed(CommandError::NoSuchDatabase),
        expect![[r#"
            ErrorResponse S=ERROR C=08P01 M=no such database: x
        "#]],
    );
}

#[test]
fn every_failure_has_pgbouncers_words() {
    use CommandError as E;
    let console = CONSOLE_DATABASE.to_owned();
    let failures = [
        (Command::Resume(db()), E::NoSuchDatabase),
        (Command::Pause(admin_db()), E::ConsoleDatabase),
        (Command::Disable(console.clone()), E::ConsoleDatabase),
        (Command::Enable(console), E::ConsoleDatabase),
        (Command::Reconnect(admin_db()), E::ConsoleDatabase),
        (Command::Kill(admin_db()), E::ConsoleDatabase),
        (Command::WaitClose(admin_db()), E::ConsoleDatabase),
        (Command::Pause(None), E::AlreadyPaused),
        (Command::Kill(db()), E::AlreadyPaused),
        (Command::Resume(None), E::NotPaused),
        (Command::Resume(db()), E::NotPaused),
        (Command::Resume(None), E::ShuttingDown),
        (set(), E::SetFailed),
        (Command::Reload, E::ReloadFailed),
        (Command::KillClient(9), E::ClientNotFound),
        (Command::Pause(None), E::Canceled),
    ];
    let mut texts = String::new();
    for (command, error) in failures {
        texts.push_str(&format!("{}: {}\n", command.tag(), error.message(&command)));
    }
    expect![[r#"
        RESUME: no such database: x
        PAUSE: cannot pause admin db: pgbouncer
        DISABLE: cannot disable admin db: pgbouncer
        ENABLE: cannot disable admin db: pgbouncer
        RECONNECT: cannot reconnect admin db: pgbouncer
        KILL: cannot kill admin db: pgbouncer
        WAIT_CLOSE: cannot wait in admin db: pgbouncer
        PAUSE: already suspended/paused
        KILL: already suspended/paused
        RESUME: pooler is not paused/suspended
        RESUME: database x is not paused
        RESUME: pooler is shutting down
        SET client_tls_cert_file=/gone: SET failed
        RELOAD: RELOAD failed, see logs for additional details
        KILL_CLIENT: client not found
        PAUSE: canceling statement due to user request
    "#]]
    .assert_eq(&texts);
}

//! Configurations that do not run: what is said about them, and that nothing else happens.

use expect_test::{Expect, expect};
use testkit::{Exit, PoolerSetup};

use crate::support::pgusher;

/// What the pooler said at its end, files named as in their directory.
fn said(exit: &Exit) -> String {
    let lines = exit.log.lines().map(|line| match line.split_once("/tmp/") {
        Some((before, after)) => {
            let (_, file) = after.split_once('/').unwrap_or(("", after));
            format!("{before}{file}\n")
        }
        None => format!("{line}\n"),
    });
    lines.collect()
}

async fn does_not_start(setup: PoolerSetup, expected: Expect) {
    let checked = setup.clone().arg("--check").run_to_exit().await;
    let exit = setup.run_to_exit().await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    expected.assert_eq(&said(&exit));
    // Whoever asks beforehand is told the same.
    assert_eq!(checked.status.code(), Some(1), "{}", checked.log);
    assert_eq!(said(&checked), said(&exit));
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_with_its_place_and_what_was_expected() {
    let ini = "\
[databases]
shop = host=127.0.0.1 prot=5433
till = port=many
pgbouncer = host=127.0.0.1
[pgbouncer]
listen_port = 6432x
default_pool_sise = 20
max_client_connections = 100
pool_mode = transactional
; a comment
query_timeout = -1
client_tls_sslmode = require
[users]
bob = pool_mode=often
[peers]
one = host=/tmp
";
    does_not_start(pgusher(1).ini(ini), expect![[r#"
        pgusher: pooler.ini:2: shop: prot: unknown key, did you mean port?
        pgusher: pooler.ini:3: till: port: expected a whole number, got "many"
        pgusher: pooler.ini:4: pgbouncer: this database name is reserved for the console
        pgusher: pooler.ini:6: listen_port: expected a whole number from 0 to 65535, got "6432x"
        pgusher: pooler.ini:7: default_pool_sise: unknown key, did you mean default_pool_size?
        pgusher: pooler.ini:8: max_client_connections: unknown key, did you mean max_client_conn?
        pgusher: pooler.ini:9: pool_mode: expected session, transaction or statement, got "transactional"
        pgusher: pooler.ini:11: query_timeout: expected a number of seconds, 0 or more, without a unit, got "-1"
        pgusher: pooler.ini:12: client_tls_sslmode: needs client_tls_key_file
        pgusher: pooler.ini:12: client_tls_sslmode: needs client_tls_cert_file
        pgusher: pooler.ini:14: bob: pool_mode: expected session, transaction or statement, got "often"
        pgusher: pooler.ini:16: one: expected a peer id from 1 to 65535, got "one"
    "#]]).await;
}

#[tokio::test]
async fn lines_that_are_none_are_named_all_of_them() {
    let ini = "\
before = any section
[databases]
shop host=127.0.0.1
'till = host=127.0.0.1
[pgbouncer
[pgbouncer]
# a comment
no sign here
%include
[sessions]
x = y
";
    does_not_start(pgusher(1).ini(ini), expect![[r#"
        pgusher: pooler.ini:1: before: expected a [section] before the first key
        pgusher: pooler.ini:3: expected key = value, a [section], or a comment
        pgusher: pooler.ini:4: expected a quote at the end of the key
        pgusher: pooler.ini:5: expected ] at the end of the header
        pgusher: pooler.ini:8: expected key = value, a [section], or a comment
        pgusher: pooler.ini:9: expected key = value, a [section], or a comment
        pgusher: pooler.ini:10: [sessions]: unknown section, expected [pgbouncer], [databases], [users] or [peers]
    "#]]).await;
}

#[tokio::test]
async fn a_file_without_its_main_section_is_none() {
    let ini = "[databases]\nshop = host=127.0.0.1\n";
    does_not_start(
        pgusher(1).ini(ini),
        expect![[r#"
        pgusher: pooler.ini: main section missing, expected [pgbouncer]
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_missing_include_or_userlist_is_a_reason_not_to_start() {
    does_not_start(
        pgusher(1).set("%include gone.ini\nworkers", 1),
        expect![[r#"
            pgusher: pooler.ini:12: gone.ini: cannot be read: No such file or directory (os error 2)
        "#]],
    )
    .await;
    does_not_start(
        pgusher(1).set("auth_file", "{dir}/gone.txt"),
        expect![[r#"
            pgusher: auth_file gone.txt: No such file or directory (os error 2)
        "#]],
    )
    .await;
}

#[tokio::test]
async fn promises_that_can_not_be_kept_are_not_made() {
    does_not_start(
        pgusher(1).set("auth_type", "ldap"),
        expect![[r#"
            pgusher: auth_ldap_options: ldapserver or ldapurl is missing
        "#]],
    )
    .await;
    does_not_start(
        pgusher(1).set("auth_type", "hba"),
        expect![[r#"
            pgusher: pooler.ini:7: auth_type: needs auth_hba_file
        "#]],
    )
    .await;
}

#[tokio::test]
async fn check_says_ok_and_starts_nothing() {
    let running = pgusher(1).set("pidfile", "{dir}/pooler.pid").start().await;
    // Of the same port, socket and pid file.
    let exit = pgusher(1)
        .arg("--check")
        .set("listen_port", running.port())
        .set("unix_socket_dir", running.dir().display())
        .set("pidfile", running.dir().join("pooler.pid").display())
        .set("logfile", "{dir}/never.log")
        .set("pkt_buf", 2048)
        .env("PGUSHER_PORT", "tcp://10.0.0.1:6432")
        .run_to_exit()
        .await;
    assert_eq!(exit.status.code(), Some(0), "{}", exit.log);
    expect![[r#"
        warning: environment: PGUSHER_PORT: unknown key
        warning: these settings do not act yet: pkt_buf
        pooler.ini: ok
    "#]]
    .assert_eq(&said(&exit));
}

#[tokio::test]
async fn version_and_help_need_no_file() {
    let pooler = pgusher(1).start().await;
    let row = pooler.console().await.show("VERSION").await.remove(0);
    for arg in ["--version", "-V"] {
        let exit = pgusher(1).arg(arg).run_to_exit().await;
        assert_eq!(exit.status.code(), Some(0));
        assert_eq!(exit.log.lines().next(), Some(&row["version"]));
        assert!(row["version"].starts_with("PgBouncer 1.25.2 (pgusher "));
        assert!(exit.log.lines().any(|line| line.starts_with("tls:")));
    }
    for arg in ["--help", "-h"] {
        let exit = pgusher(1).arg(arg).run_to_exit().await;
        assert_eq!(exit.status.code(), Some(0));
        assert!(
            exit.log.contains("Usage: pgusher [OPTIONS]"),
            "{}",
            exit.log
        );
    }
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_ends_in_1_as_with_pgbouncer() {
    for arg in ["--bogus", "-Z", "another.ini"] {
        let exit = pgusher(1).arg(arg).run_to_exit().await;
        assert_eq!(exit.status.code(), Some(1), "{arg}: {}", exit.log);
        assert!(exit.log.contains("error: unexpected argument"), "{arg}");
    }
}

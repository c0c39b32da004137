//! The login of a replication client is its server's: what it asks for, and what it is told.

use testkit::{Address, FakeClient, Postgres, transcript};

use super::{asking, few_seats, publishing};
use crate::support::{WORKERS, major_version, trusting, words};

/// Logs in with SCRAM, and returns the welcome but for the key, or the refusal.
async fn told(address: &Address, user: &str, more: &[(&str, &str)]) -> (FakeClient, String) {
    let mut client = asking(address, user, more).await;
    client.answer_scram("secret").await;
    let mut welcome = Vec::new();
    loop {
        let message = client.read().await;
        if let Some(error) = message.error_fields() {
            return (client, words(&error));
        }
        let is_last = message.tag == b'Z';
        welcome.extend(Some(message).filter(|message| message.tag != b'K'));
        if is_last {
            return (client, transcript(&welcome));
        }
    }
}

#[tokio::test]
async fn a_replication_client_reads_what_its_server_says_of_itself() {
    let options = "-c datestyle=german -c extra_float_digits=3 -c geqo=off";
    let postgres = publishing().await;
    for workers in WORKERS {
        let pooler = few_seats(workers, &postgres).start().await;
        for kind in ["database", "true", "on", "yes", "1"] {
            let more = [
                ("replication", kind),
                ("options", options),
                ("TimeZone", "Asia/Tokyo"),
                ("application_name", "follower"),
            ];
            let (_direct, expected) = told(&postgres.address(), "alice", &more).await;
            let (mut client, welcome) = told(&pooler.address(), "alice", &more).await;
            assert!(welcome.contains("Asia/Tokyo") && welcome.contains("German"));
            assert_eq!(welcome, expected, "{kind}");
            assert_eq!(client.query("IDENTIFY_SYSTEM").await.len(), 4);
            if kind == "database" {
                assert_eq!(client.query_value("SHOW geqo").await, "off");
            }
        }
    }
}

#[tokio::test]
async fn a_refused_replication_client_hears_its_server_and_nobody_else_does() {
    let postgres = publishing().await;
    postgres.create_user("bob", "secret").await;
    let denied = match major_version(&postgres).await {
        ..=15 => "FATAL 42501 must be superuser or replication role to start walsender",
        _ => "FATAL 42501 permission denied to start WAL sender",
    };
    for workers in WORKERS {
        let pooler = few_seats(workers, &postgres)
            .user("bob", "secret")
            .set("server_login_retry", 1000)
            .start()
            .await;
        let wrong = ("options", "-c nonsense=1");
        for (user, more, expected) in [
            ("bob", &[("replication", "database")][..], denied),
            (
                "alice",
                &[("replication", "on"), wrong],
                "FATAL 42704 unrecognized configuration parameter \"nonsense\"",
            ),
            (
                "alice",
                &[("replication", "maybe")],
                "FATAL 08P01 invalid value for parameter \"replication\": \"maybe\"",
            ),
            (
                "alice",
                &[("replication", "on"), ("geqo", "off")],
                "FATAL 08P01 unsupported startup parameter: geqo",
            ),
        ] {
            for _ in 0..2 {
                assert_eq!(refusal(&pooler.address(), user, more).await, expected);
            }
            // The pool is cold, and its servers can be logged in to at once.
            let client = pooler.connect(user, "secret", "app").await;
            client.batch_execute("SELECT 1").await.unwrap();
        }
    }
}

/// What a client hears that is not let in.
async fn refusal(address: &Address, user: &str, more: &[(&str, &str)]) -> String {
    let mut client = asking(address, user, more).await;
    let first = client.read().await;
    if let Some(error) = first.error_fields() {
        return words(&error);
    }
    drop(client);
    told(address, user, more).await.1
}

#[tokio::test]
async fn a_client_that_wants_no_replication_is_like_any_other() {
    let postgres = publishing().await;
    let pooler = few_seats(1, &postgres).start().await;
    for kind in ["false", "off", "no", "0"] {
        let more = [("replication", kind)];
        let (mut client, _) = told(&pooler.address(), "alice", &more).await;
        assert_eq!(client.query_value("SELECT 'pooled'").await, "pooled");
    }
    let console = pooler.console().await;
    let servers = console.show("SERVERS").await;
    assert_eq!(servers.len(), 1);
    assert_eq!(&servers[0]["replication"], "none");
}

/// What pg_basebackup and pg_receivewal log in with, which name no database.
const NO_DATABASE: [(&str, &str); 3] = [
    ("user", "alice"),
    ("database", "replication"),
    ("replication", "true"),
];

#[tokio::test]
async fn physical_replication_needs_an_entry_of_that_name_or_one_for_all() {
    let postgres = Postgres::setup().set("wal_level", "logical").start().await;
    postgres.create_trusted_user("alice").await;
    postgres.run("ALTER ROLE alice REPLICATION").await;
    let hba = "host replication alice 127.0.0.1/32 trust";
    postgres.prepend_hba(hba).await;
    let address = postgres.conn_info("postgres");
    let auto = format!("host=127.0.0.1 port={}", postgres.port());
    for (entry, conn_info, expected) in [
        ("app", &address, "no such database: replication"),
        ("replication", &address, "in"),
        ("*", &auto, "in"),
    ] {
        let pooler = trusting(1).database(entry, conn_info).start().await;
        let mut client = FakeClient::connect(&pooler.address()).await;
        client.startup(&NO_DATABASE).await;
        let answer = client.read().await;
        let told = match answer.error_fields() {
            Some(error) => error.text().to_owned(),
            None => {
                client.read_welcome().await;
                let system = client.query("IDENTIFY_SYSTEM").await;
                assert_eq!(system.last().map(|m| m.tag), Some(b'Z'));
                assert_eq!(system[1].values().unwrap()[3], None);
                let console = pooler.console().await;
                for table in ["CLIENTS", "SERVERS"] {
                    let row = console.show_row(table, "database", "replication").await;
                    assert_eq!(&row["replication"], "physical");
                }
                "in".to_owned()
            }
        };
        assert_eq!(told, expected, "{entry}");
    }
}

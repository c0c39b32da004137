//! How we prove to servers who our pools' users are.

use std::fmt::Write;

use expect_test::expect;
use testkit::{
    FakeServer, FakeServerSetup, Login, Postgres, eventually_async, md5_secret, scram_secret,
};
use tokio_postgres::Client;

use crate::support::{WORKERS, outcome, pgusher, refusal};

async fn fake_with(login: Login) -> FakeServer {
    FakeServerSetup::default().login(login).start().await
}

#[tokio::test]
async fn servers_are_logged_in_to_with_whatever_the_stored_secret_can_answer() {
    let scram = scram_secret("right");
    let servers = [
        ("trusting", fake_with(Login::Trust).await),
        ("plain", fake_with(Login::Plain("right".into())).await),
        ("md5", fake_with(Login::Md5("right".into())).await),
        ("scram", fake_with(Login::Scram(scram.clone())).await),
    ];
    let mut setup = pgusher(1)
        .set("auth_type", "trust")
        .user("plain", "right")
        .user("md5", &md5_secret("md5", "right"))
        .user("scram", &scram)
        .user("wrong", "wrong")
        .user("blank", "");
    for (name, server) in &servers {
        setup = setup.database(name, &server.conn_info("shop"));
    }
    let pooler = setup.start().await;

    let mut table = String::new();
    for user in ["plain", "md5", "scram", "wrong", "blank"] {
        for (name, _) in &servers {
            let outcome = outcome(&pooler, user, "", name).await;
            writeln!(table, "{user} secret, {name} server: {outcome}").unwrap();
        }
    }
    expect![[r#"
        plain secret, trusting server: in
        plain secret, plain server: in
        plain secret, md5 server: in
        plain secret, scram server: in
        md5 secret, trusting server: in
        md5 secret, plain server: FATAL 08P01 server login failed: wrong password type
        md5 secret, md5 server: in
        md5 secret, scram server: FATAL 08P01 server login failed: wrong password type
        scram secret, trusting server: in
        scram secret, plain server: FATAL 08P01 server login failed: wrong password type
        scram secret, md5 server: FATAL 08P01 server login failed: wrong password type
        scram secret, scram server: FATAL 08P01 server login failed: wrong password type
        wrong secret, trusting server: in
        wrong secret, plain server: FATAL 28P01 password authentication failed for user "wrong"
        wrong secret, md5 server: FATAL 28P01 password authentication failed for user "wrong"
        wrong secret, scram server: FATAL 28P01 password authentication failed for user "wrong"
        blank secret, trusting server: in
        blank secret, plain server: FATAL 28P01 password authentication failed for user "blank"
        blank secret, md5 server: FATAL 28P01 password authentication failed for user "blank"
        blank secret, scram server: FATAL 28P01 password authentication failed for user "blank"
    "#]]
    .assert_eq(&table);
}

#[tokio::test]
async fn postgresql_lets_us_in_by_each_of_its_methods() {
    let postgres = Postgres::start().await;
    postgres.create_user("scram", "right").await;
    postgres.create_md5_user("md5", "right").await;
    postgres.create_plain_user("plain", "right").await;
    postgres.create_trusted_user("trusted").await;
    for workers in WORKERS {
        let conn_info = postgres.conn_info("postgres");
        let mut setup = pgusher(workers)
            .database("shop", &conn_info)
            .database("forced", &format!("{conn_info} user=md5 password=right"))
            .database("unix", &postgres.unix_conn_info("postgres"));
        for user in ["scram", "md5", "plain", "trusted"] {
            setup = setup.user(user, "right");
        }
        let pooler = setup.start().await;
        for (user, database, seen_as) in [
            ("scram", "shop", "scram"),
            ("md5", "shop", "md5"),
            ("plain", "shop", "plain"),
            ("trusted", "shop", "trusted"),
            ("scram", "forced", "md5"),
            ("scram", "unix", "scram"),
        ] {
            let client = pooler.connect(user, "right", database).await;
            let row = client.query_one("SELECT current_user::text", &[]).await;
            assert_eq!(
                row.unwrap().get::<_, &str>(0),
                seen_as,
                "{user} at {database}"
            );
        }
    }
}

#[tokio::test]
async fn a_verifier_alone_takes_a_client_all_the_way_to_postgresql() {
    let verifier = scram_secret("right");
    let postgres = Postgres::start().await;
    postgres.create_user("vera", &verifier).await;
    for workers in WORKERS {
        for auth_type in ["scram-sha-256", "md5"] {
            let pooler = pgusher(workers)
                .database("shop", &postgres.conn_info("postgres"))
                .user("vera", &verifier)
                .set("auth_type", auth_type)
                .set("pool_mode", "transaction")
                .start()
                .await;
            let first = pooler.connect("vera", "right", "shop").await;
            let second = pooler.connect("vera", "right", "shop").await;
            // Each in a transaction, so that each needs a server.
            for client in [&first, &second] {
                client.simple_query("BEGIN").await.unwrap();
            }
            assert_eq!(postgres.sessions_of("vera").await, 2, "{auth_type}");
            let wrong = outcome(&pooler, "vera", "wrong", "shop").await;
            assert_eq!(wrong, "FATAL 08P01 SASL authentication failed");
        }
    }
}

#[tokio::test]
async fn a_verifier_of_another_salt_does_not_pass_through() {
    let postgres = Postgres::start().await;
    postgres.create_user("vera", "right").await;
    let pooler = pgusher(1)
        .database("shop", &postgres.conn_info("postgres"))
        .user("vera", &scram_secret("right"))
        .start()
        .await;
    let told = outcome(&pooler, "vera", "right", "shop").await;
    assert_eq!(
        told,
        "FATAL 28P01 password authentication failed for user \"vera\""
    );
}

#[tokio::test]
async fn keys_of_clients_are_not_used_for_a_forced_user() {
    let fake = fake_with(Login::Scram(scram_secret("clerk's"))).await;
    let conn_info = fake.conn_info("shop");
    let pooler = pgusher(1)
        .database("shop", &format!("{conn_info} user=clerk password=clerk's"))
        .database("bare", &format!("{conn_info} user=vera"))
        .user("vera", &scram_secret("vera's"))
        .user("mary", &scram_secret("mary's"))
        .start()
        .await;
    for (user, password) in [("vera", "vera's"), ("mary", "mary's")] {
        assert_eq!(outcome(&pooler, user, password, "shop").await, "in");
        assert_eq!(
            outcome(&pooler, user, password, "bare").await,
            "FATAL 08P01 server login failed: wrong password type"
        );
    }
}

#[tokio::test]
async fn every_client_that_waits_hears_the_servers_own_words_after_one_try() {
    for workers in WORKERS {
        let postgres = Postgres::start().await;
        postgres.create_user("alice", "changed").await;
        let pooler = pgusher(workers)
            .database("shop", &postgres.conn_info("postgres"))
            .user("alice", "outdated")
            .start()
            .await;
        let login = || outcome(&pooler, "alice", "outdated", "shop");
        let told = tokio::join!(login(), login(), login(), login());
        let words = "FATAL 28P01 password authentication failed for user \"alice\"";
        assert_eq!(told, [words; 4].map(str::to_owned).into());
        // Before server_login_retry has passed, nobody bothers the server again.
        assert_eq!(login().await, words);
        let log = pooler.wait_for_log("server login failed: FATAL").await;
        assert!(
            log.contains("password authentication failed for user"),
            "{log}"
        );
        assert!(pooler.log_count("server login failed: FATAL") <= workers as usize);
    }
}

#[tokio::test]
async fn a_server_that_refused_once_is_asked_again_when_the_pause_is_over() {
    for workers in WORKERS {
        let fake = fake_with(Login::Plain("changed".into())).await;
        let pooler = pgusher(workers)
            .database("shop", &fake.conn_info("shop"))
            .user("alice", "outdated")
            .set("server_login_retry", 0)
            .start()
            .await;
        let login = || outcome(&pooler, "alice", "outdated", "shop");
        let words = "FATAL 28P01 password authentication failed for user \"alice\"";
        for _ in 0..4 {
            assert_eq!(login().await, words);
        }
        fake.set_login(Login::Trust);
        assert_eq!(login().await, "in");
    }
}

#[tokio::test]
async fn clients_in_line_hear_why_no_server_will_come() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = pgusher(workers)
            .database("shop", &fake.conn_info("shop"))
            .user("alice", "right")
            .set("pool_mode", "transaction")
            .set("default_pool_size", 1)
            .start()
            .await;
        let asks = |client: Client, sql: &'static str| {
            tokio::spawn(async move { client.simple_query(sql).await.unwrap_err() })
        };
        let alice = async || pooler.connect("alice", "right", "shop").await;
        let held = asks(alice().await, "HOLD till");
        fake.gate("till").wait_for_waiting(1).await;
        let in_line = [alice().await, alice().await, alice().await];
        let in_line = in_line.map(|client| asks(client, "SELECT 1"));
        let console = pooler.console().await;
        eventually_async("three clients in line", async || {
            console.pool("shop", "alice").await.number("cl_waiting") == 3
        })
        .await;

        fake.set_login(Login::Refuse {
            code: "28P01".into(),
            text: "no longer known here".into(),
        });
        fake.connections()[0].close();
        let told = refusal(&held.await.unwrap());
        assert_eq!(told, "FATAL 08P01 server conn crashed?");
        for waiting in in_line {
            let told = refusal(&waiting.await.unwrap());
            assert_eq!(told, "FATAL 28P01 no longer known here");
        }
    }
}

//! Users whom only PostgreSQL knows: found by auth_query, and served in pools of their own.

use std::fmt::Write;

use expect_test::expect;
use testkit::{Pooler, PoolerSetup, Postgres, client_program, md5_secret, scram_secret};

use crate::support::{WORKERS, outcome, pgusher};

/// A PostgreSQL in which `usher` may read everybody's secret.
async fn postgres() -> Postgres {
    let postgres = Postgres::start().await;
    postgres.create_user("usher", "keys").await;
    postgres.run("ALTER ROLE usher SUPERUSER").await;
    postgres
}

/// A pooler that knows `usher` alone, and asks PostgreSQL for everybody else.
fn door(postgres: &Postgres, workers: u32) -> PoolerSetup {
    pgusher(workers)
        .database("shop", &postgres.conn_info("postgres"))
        .user("usher", "keys")
        .set("auth_user", "usher")
}

/// The same, with a list of users that PostgreSQL itself does not have.
async fn listing(postgres: &Postgres, users: &[(&str, &str)]) {
    postgres
        .run("CREATE TABLE guests (name text, secret text)")
        .await;
    for (user, secret) in users {
        let sql = format!("INSERT INTO guests VALUES ('{user}', '{secret}')");
        postgres.run(&sql).await;
    }
}

const GUESTS: &str = "SELECT name, secret FROM guests WHERE name = $1";

#[tokio::test]
async fn psql_logs_in_as_a_user_whom_only_postgresql_knows() {
    let postgres = postgres().await;
    postgres.create_user("alice", "secret").await;
    for workers in WORKERS {
        let pooler = door(&postgres, workers).start().await;
        let mut psql = std::process::Command::new(client_program("psql"));
        psql.args(["-X", "-At", "-c", "SELECT current_user"]);
        psql.arg(pooler.conn_str("alice", "shop"));
        let said = psql.env("PGPASSWORD", "secret").output().expect("psql");
        assert_eq!(String::from_utf8_lossy(&said.stdout), "alice\n", "{said:?}");
        let wrong = outcome(&pooler, "alice", "guess", "shop").await;
        assert_eq!(wrong, "FATAL 08P01 SASL authentication failed");
        let nobody = outcome(&pooler, "nobody", "secret", "shop").await;
        assert_eq!(nobody, "FATAL 08P01 no such user");
    }
}

#[tokio::test]
async fn every_kind_of_secret_leads_as_far_as_it_would_from_a_file() {
    let postgres = postgres().await;
    let verifier = scram_secret("right");
    let (plain, md5) = ("right", md5_secret("md5", "right"));
    listing(
        &postgres,
        &[("plain", plain), ("md5", &md5), ("scram", &verifier)],
    )
    .await;
    postgres.create_user("plain", "right").await;
    postgres.create_md5_user("md5", "right").await;
    postgres.create_user("scram", &verifier).await;
    let pooler = door(&postgres, 1).set("auth_query", GUESTS).start().await;
    let console = pooler.console().await;

    let mut table = String::new();
    for auth_type in ["scram-sha-256", "md5", "plain", "trust"] {
        console.run(&format!("SET auth_type = '{auth_type}'")).await;
        for user in ["plain", "md5", "scram", "nobody"] {
            let right = outcome(&pooler, user, "right", "shop").await;
            let wrong = outcome(&pooler, user, "wrong", "shop").await;
            writeln!(table, "{auth_type} {user}: {right}; wrong: {wrong}").unwrap();
        }
    }
    expect![[r#"
        scram-sha-256 plain: in; wrong: FATAL 08P01 SASL authentication failed
        scram-sha-256 md5: FATAL 08P01 SASL authentication failed; wrong: FATAL 08P01 SASL authentication failed
        scram-sha-256 scram: in; wrong: FATAL 08P01 SASL authentication failed
        scram-sha-256 nobody: FATAL 08P01 no such user; wrong: FATAL 08P01 no such user
        md5 plain: in; wrong: FATAL 08P01 password authentication failed
        md5 md5: in; wrong: FATAL 08P01 password authentication failed
        md5 scram: in; wrong: FATAL 08P01 SASL authentication failed
        md5 nobody: FATAL 08P01 no such user; wrong: FATAL 08P01 no such user
        plain plain: in; wrong: FATAL 08P01 password authentication failed
        plain md5: in; wrong: FATAL 08P01 password authentication failed
        plain scram: in; wrong: FATAL 08P01 password authentication failed
        plain nobody: FATAL 08P01 no such user; wrong: FATAL 08P01 no such user
        trust plain: in; wrong: in
        trust md5: in; wrong: in
        trust scram: in; wrong: in
        trust nobody: FATAL 08P01 no such user; wrong: FATAL 08P01 no such user
    "#]]
    .assert_eq(&table);
}

#[tokio::test]
async fn who_may_log_in_no_longer_or_has_no_password_is_refused_like_a_wrong_one() {
    let postgres = postgres().await;
    postgres.create_user("late", "secret").await;
    let until = "ALTER ROLE late VALID UNTIL '2001-01-01'";
    postgres.run(until).await;
    postgres
        .run("CREATE ROLE bare LOGIN; CREATE ROLE grp")
        .await;
    let pooler = door(&postgres, 1).start().await;
    let console = pooler.console().await;
    for (auth_type, refused) in [
        ("scram-sha-256", "FATAL 08P01 SASL authentication failed"),
        ("md5", "FATAL 08P01 password authentication failed"),
        ("plain", "FATAL 08P01 password authentication failed"),
    ] {
        console.run(&format!("SET auth_type = '{auth_type}'")).await;
        for user in ["late", "bare"] {
            let told = outcome(&pooler, user, "secret", "shop").await;
            assert_eq!(told, refused, "{auth_type} {user}");
        }
        // A role that may not log in is nobody.
        let told = outcome(&pooler, "grp", "secret", "shop").await;
        assert_eq!(told, "FATAL 08P01 no such user");
    }
}

/// Waits for the line of the log in which the reason stands that clients do not hear.
async fn config_error(pooler: &Pooler, reason: &str) {
    let told = outcome(pooler, "alice", "secret", "shop").await;
    assert_eq!(told, "FATAL 08P01 bouncer config error", "{reason}");
    let line = pooler.wait_for_log(reason).await;
    assert!(line.contains(" ERROR "), "{line}");
}

#[tokio::test]
async fn a_query_that_fails_is_our_own_affair_and_its_server_serves_on() {
    let postgres = postgres().await;
    postgres.create_user("alice", "secret").await;
    for workers in WORKERS {
        let pooler = door(&postgres, workers).start().await;
        let console = pooler.console().await;
        for (sql, reason) in [
            (
                "SELECT 1 FROM pg_authid WHERE rolname = $1",
                "expected 2 columns from auth_query, not 1",
            ),
            (
                "SELECT rolname, rolpassword, 1 FROM pg_authid WHERE rolname = $1",
                "expected 2 columns from auth_query, not 3",
            ),
            (
                "SELECT NULL, rolpassword FROM pg_authid WHERE rolname = $1",
                "auth_query response contained null user name",
            ),
            (
                "SELECT name, secret FROM nowhere WHERE name = $1",
                "error response from auth_query: ERROR: relation \"nowhere\" does not exist",
            ),
            (
                "SELECT rolname, rolpassword FROM pg_authid",
                "error response from auth_query: ERROR: bind message supplies 1 parameters",
            ),
        ] {
            console.run(&format!("SET auth_query = '{sql}'")).await;
            config_error(&pooler, reason).await;
        }
        let log = pooler.log();
        let mut of_usher = log.lines().filter(|line| line.contains("shop/usher@"));
        assert!(!of_usher.any(|line| line.contains("closing")), "{log}");

        let dies = "SELECT rolname, pg_terminate_backend(pg_backend_pid())::text \
                    FROM pg_authid WHERE rolname = $1";
        console.run(&format!("SET auth_query = '{dies}'")).await;
        let words = "auth_query failed: terminating connection due to administrator command";
        config_error(&pooler, words).await;
    }
}

#[tokio::test]
async fn the_query_says_who_the_user_is_and_its_last_row_counts() {
    let postgres = postgres().await;
    for user in ["alice", "bob"] {
        postgres.create_user(user, user).await;
    }
    let both = "SELECT rolname, rolpassword FROM pg_authid \
                WHERE $1 = 'somebody' AND rolname IN ('alice', 'bob') ORDER BY 1";
    for workers in WORKERS {
        let pooler = door(&postgres, workers).set("auth_query", both).start();
        let pooler = pooler.await;
        let client = pooler.connect("somebody", "bob", "shop").await;
        let row = client.query_one("SELECT current_user::text", &[]).await;
        assert_eq!(row.unwrap().get::<_, &str>(0), "bob");
        let console = pooler.console().await;
        let row = console.show_row("CLIENTS", "database", "shop").await;
        assert_eq!(&row["user"], "bob");
        let told = outcome(&pooler, "somebody", "alice", "shop").await;
        assert_eq!(told, "FATAL 08P01 SASL authentication failed");
        // In pools and counts there is no somebody.
        let users = console.show("USERS").await;
        assert!(users.iter().all(|user| &user["name"] != "somebody"));
    }
}

#[tokio::test]
async fn the_files_go_first_and_a_blank_password_there_leaves_it_to_the_query() {
    let postgres = postgres().await;
    for user in ["alice", "bob", "carol"] {
        postgres.create_user(user, "there").await;
    }
    let pooler = door(&postgres, 1)
        .user("alice", "here")
        .user("bob", "")
        .section("[users]\ncarol = max_user_connections=3")
        .start()
        .await;
    // Her password here is taken, though it is not the one there.
    assert_eq!(
        outcome(&pooler, "alice", "there", "shop").await,
        "FATAL 08P01 SASL authentication failed"
    );
    assert_eq!(
        outcome(&pooler, "alice", "here", "shop").await,
        "FATAL 28P01 password authentication failed for user \"alice\""
    );
    for user in ["bob", "carol"] {
        assert_eq!(outcome(&pooler, user, "there", "shop").await, "in");
        let told = outcome(&pooler, user, "", "shop").await;
        assert_ne!(told, "in");
    }
}

#[tokio::test]
async fn a_new_password_counts_from_the_next_login_on() {
    let postgres = postgres().await;
    postgres.create_user("alice", "old").await;
    for workers in WORKERS {
        let pooler = door(&postgres, workers).start().await;
        for round in 0..3 {
            let (old, new) = (format!("pw{round}"), format!("pw{}", round + 1));
            let change = format!("ALTER ROLE alice PASSWORD '{new}'");
            postgres.run(&change).await;
            let told = outcome(&pooler, "alice", &old, "shop").await;
            assert_eq!(told, "FATAL 08P01 SASL authentication failed");
            assert_eq!(outcome(&pooler, "alice", &new, "shop").await, "in");
        }
        // Her servers are logged in with the new one, too.
        pooler.console().await.run("RECONNECT").await;
        assert_eq!(outcome(&pooler, "alice", "pw3", "shop").await, "in");
    }
}

#[tokio::test]
async fn each_database_has_its_own_secret_of_a_user_and_reload_forgets_none() {
    let (one, other) = (postgres().await, postgres().await);
    for (postgres, password) in [(&one, "first"), (&other, "second")] {
        postgres.create_user("alice", "-").await;
        listing(postgres, &[("alice", password)]).await;
        let same = format!("ALTER ROLE alice PASSWORD '{password}'");
        postgres.run(&same).await;
    }
    for workers in WORKERS {
        let mut pooler = door(&one, workers)
            .database("branch", &other.conn_info("postgres"))
            .set("auth_query", GUESTS)
            .set("pool_mode", "transaction")
            .start()
            .await;
        let shop = pooler.connect("alice", "first", "shop").await;
        let branch = pooler.connect("alice", "second", "branch").await;
        let told = outcome(&pooler, "alice", "first", "branch").await;
        assert_eq!(told, "FATAL 08P01 SASL authentication failed");

        pooler.reload(|setup| setup.set("query_timeout", 60)).await;
        // New servers need the secrets again, without a new login.
        for (client, database) in [(&shop, "shop"), (&branch, "branch")] {
            let reconnect = format!("RECONNECT {database}");
            pooler.console().await.run(&reconnect).await;
            client.simple_query("SELECT 1").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_verifier_from_the_query_passes_on_to_postgresql() {
    let postgres = postgres().await;
    postgres.create_user("vera", "right").await;
    for workers in WORKERS {
        for auth_type in ["scram-sha-256", "md5"] {
            let pooler = door(&postgres, workers)
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
        }
    }
}

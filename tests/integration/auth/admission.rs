//! Who is let in when there are limits, and that those who are not leave nothing behind.

use testkit::{FakeClient, FakeServer, Gate, Login, PoolerSetup, eventually_async, startup_packet};

use crate::support::{WORKERS, outcome, outcome_over_unix, pgusher, wait_for_waiting, words};

fn shop(workers: u32, fake: &FakeServer) -> PoolerSetup {
    pgusher(workers)
        .database("shop", &fake.conn_info("shop"))
        .database("till", &fake.conn_info("till"))
        .user("alice", "a")
        .user("bob", "b")
        .set("pool_mode", "transaction")
}

#[tokio::test]
async fn one_client_too_many_is_told_so_unless_it_goes_to_the_console() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake).set("max_client_conn", 3).start().await;
        let first = pooler.connect("alice", "a", "shop").await;
        let _second = pooler.connect("bob", "b", "shop").await;
        // It counts, but is never refused.
        let console = pooler.console().await;
        let _another = pooler.console().await;
        assert_eq!(
            outcome(&pooler, "alice", "a", "till").await,
            "FATAL 08P01 no more connections allowed (max_client_conn)"
        );
        drop(first);
        console.run("SET max_client_conn = 4").await;
        eventually_async("the place of the first client to be free", async || {
            outcome(&pooler, "alice", "a", "till").await == "in"
        })
        .await;
    }
}

#[tokio::test]
async fn clients_of_a_database_and_of_a_user_are_limited_over_all_workers() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let till = format!("{} max_db_client_connections=1", fake.conn_info("till"));
        let pooler = shop(workers, &fake)
            .database("till", &till)
            .set("max_db_client_connections", 3)
            .set("max_user_client_connections", 2)
            .section("[users]\nbob = max_user_client_connections=3")
            .start()
            .await;
        let _alice = pooler.connect("alice", "a", "shop").await;
        let db_full = "FATAL 08P01 client connections exceeded (max_db_client_connections)";
        let user_full = "FATAL 08P01 client connections exceeded (max_user_client_connections)";

        let _at_the_till = pooler.connect("bob", "b", "till").await;
        assert_eq!(outcome(&pooler, "bob", "b", "till").await, db_full);
        let bob = pooler.connect("bob", "b", "shop").await;
        let _bob = pooler.connect("bob", "b", "shop").await;
        assert_eq!(outcome(&pooler, "alice", "a", "shop").await, db_full);
        // A wrong password does not even learn that.
        let wrong = "FATAL 08P01 SASL authentication failed";
        assert_eq!(outcome(&pooler, "alice", "b", "shop").await, wrong);

        let console = pooler.console().await;
        console.run("SET max_db_client_connections = 0").await;
        assert_eq!(outcome(&pooler, "bob", "b", "shop").await, user_full);
        let _alice_again = pooler.connect("alice", "a", "shop").await;
        assert_eq!(outcome(&pooler, "alice", "a", "shop").await, user_full);
        drop(bob);
        eventually_async("a client of bob to be gone", async || {
            outcome(&pooler, "bob", "b", "shop").await == "in"
        })
        .await;
    }
}

#[tokio::test]
async fn logins_that_fail_leave_no_trace_in_any_count() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake)
            .set("max_db_client_connections", 1)
            .start()
            .await;
        let alice = pooler.connect("alice", "a", "shop").await;
        let console = pooler.console().await;
        for _ in 0..4 {
            for (user, password, database) in [
                ("alice", "b", "shop"),
                ("alice", "a", "nowhere"),
                ("nobody", "a", "shop"),
                ("bob", "b", "shop"),
                ("bob", "b", "pgbouncer"),
            ] {
                let told = outcome(&pooler, user, password, database).await;
                assert!(told.starts_with("FATAL 08P01"), "{told}");
            }
        }
        // Some break off at the question for the password, some before they say anything.
        for _ in 0..4 {
            let mut client = FakeClient::connect(&pooler.address()).await;
            client
                .startup(&[("user", "bob"), ("database", "shop")])
                .await;
            client.read_auth(10).await;
            client.reset();
            drop(FakeClient::connect(&pooler.address()).await);
        }
        eventually_async("two clients and no login", async || {
            let list = async |name| {
                console
                    .show_row("LISTS", "list", name)
                    .await
                    .number("items")
            };
            list("used_clients").await == 2 && list("login_clients").await == 0
        })
        .await;
        let row = console.show_row("DATABASES", "name", "shop").await;
        assert_eq!(row.number("current_client_connections"), 1);
        for (user, clients) in [("alice", 1), ("bob", 0)] {
            let row = console.show_row("USERS", "name", user).await;
            assert_eq!(row.number("current_client_connections"), clients, "{user}");
        }
        let row = console.show_row("STATS_TOTALS", "database", "shop").await;
        assert_eq!(row.number("client_login_count"), 1);
        drop(alice);
        eventually_async("the only place to be free", async || {
            outcome(&pooler, "bob", "b", "shop").await == "in"
        })
        .await;
    }
}

#[tokio::test]
async fn disabled_databases_refuse_logins_after_a_right_password() {
    let fake = FakeServer::start().await;
    let pooler = shop(1, &fake).start().await;
    let console = pooler.console().await;
    console.run("DISABLE shop").await;
    assert_eq!(
        outcome(&pooler, "alice", "a", "shop").await,
        "FATAL 08P01 database \"shop\" is disabled"
    );
    assert_eq!(
        outcome_over_unix(&pooler, "alice", "b", "shop").await,
        "FATAL 08P01 SASL authentication failed"
    );
    console.run("ENABLE shop").await;
    assert_eq!(outcome(&pooler, "alice", "a", "shop").await, "in");
}

#[tokio::test]
async fn a_login_that_takes_too_long_is_ended_wherever_it_stands() {
    let fake = FakeServer::setup()
        .login(Login::Behind(Gate::closed()))
        .start()
        .await;
    // Long enough for the one that waits to have proven itself, however busy the machine.
    let pooler = shop(1, &fake).set("client_login_timeout", 4).start().await;
    let hello = startup_packet(&[("user", "alice"), ("database", "shop")]);

    let mut silent = FakeClient::connect(&pooler.address()).await;
    let mut halting = FakeClient::connect(&pooler.address()).await;
    halting.send_raw(&hello[..9]).await;
    let mut asked = FakeClient::connect(&pooler.address()).await;
    asked.send_raw(&hello).await;
    let mut waiting = FakeClient::connect(&pooler.address()).await;
    waiting.send_raw(&hello).await;
    waiting.answer_scram("a").await;

    for client in [&mut silent, &mut halting, &mut asked] {
        let told = words(&client.expect_error().await);
        assert_eq!(told, "FATAL 08P01 client_login_timeout");
        assert!(client.expect_closed().await.is_empty());
    }
    // Its part was done in time.
    assert_eq!(
        words(&waiting.expect_error().await),
        "FATAL 08P01 client_login_timeout (server down)"
    );
    assert!(waiting.expect_closed().await.is_empty());
}

#[tokio::test]
async fn a_client_that_leaves_while_its_first_server_logs_in_is_forgotten_at_once() {
    for workers in WORKERS {
        let entrance = Gate::closed();
        let fake = FakeServer::setup()
            .login(Login::Behind(entrance.clone()))
            .start()
            .await;
        let pooler = shop(workers, &fake).set("auth_type", "trust").start().await;
        let mut waiting = Vec::new();
        for _ in 0..4 {
            let mut client = FakeClient::connect(&pooler.address()).await;
            client
                .startup(&[("user", "alice"), ("database", "shop")])
                .await;
            waiting.push(client);
        }
        wait_for_waiting(&pooler, 4).await;
        drop(waiting);
        wait_for_waiting(&pooler, 0).await;
        let console = pooler.console().await;
        let logins = console.show_row("LISTS", "list", "login_clients").await;
        assert_eq!(logins.number("items"), 0);
    }
}

#[tokio::test]
async fn a_login_waits_for_its_first_server_no_longer_than_query_wait_timeout() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        fake.stop_listening().await;
        let pooler = shop(workers, &fake)
            .set("query_wait_timeout", 1)
            .set("client_login_timeout", 0)
            .start()
            .await;
        assert_eq!(
            outcome(&pooler, "alice", "a", "shop").await,
            "FATAL 08P01 query_wait_timeout"
        );
    }
}

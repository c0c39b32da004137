//! Idle servers: how many are kept, for how long, and what ends them early.

use testkit::{FakeClient, FakeServer, Message, eventually};

use crate::support::{WORKERS, before, client, clients, numbered, server_of};

#[tokio::test]
async fn a_minimum_of_servers_is_kept_while_clients_are_there() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("min_pool_size", 3)
            .start()
            .await;
        let mut stays = client(&pooler, "alice").await;

        server.wait_for_logged_in(3).await;
        server.connection(1).await.close();
        server.connection(3).await;
        server.wait_for_logged_in(3).await;

        stays.query("SELECT 1").await;
        assert_eq!(server.logged_in_max(), 3);
    }
}

#[tokio::test]
async fn a_forced_user_has_the_minimum_before_any_client_comes() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let forced = format!("{} user=shared min_pool_size=2", server.conn_info("app"));
        let _pooler = before(&server, workers)
            .database("app", &forced)
            .start()
            .await;

        server.wait_for_logged_in(2).await;
    }
}

#[tokio::test]
async fn the_minimum_is_never_more_than_the_pool_size() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("min_pool_size", 9)
            .set("default_pool_size", 2)
            .start()
            .await;
        let _alice = client(&pooler, "alice").await;
        server.wait_for_logged_in(2).await;

        // Bob's pool fills up by the same passes: what alice's had to do is done.
        let _bob = client(&pooler, "bob").await;
        server.wait_for_logged_in(4).await;

        assert_eq!(server.logged_in_max(), 4);
    }
}

#[tokio::test]
async fn idle_servers_close_down_to_the_minimum() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let kept = format!("{} min_pool_size=2", server.conn_info("app"));
        let pooler = before(&server, workers)
            .database("app", &kept)
            .database("free", &server.conn_info("free"))
            .set("server_idle_timeout", 1)
            .start()
            .await;
        let mut alices = clients::<4>(&pooler).await;
        for alice in &mut alices {
            alice.query("BEGIN").await;
        }
        for alice in &mut alices {
            alice.query("COMMIT").await;
        }
        server.wait_for_logged_in(4).await;
        pooler
            .wait_for_log_count("closing because: server idle timeout", 2)
            .await;

        // A server that no minimum keeps comes later, and goes: by then the others had gone too.
        let mut free = FakeClient::login_trust(&pooler.address(), "alice", "free").await;
        free.query("SELECT 1").await;
        server.connection(4).await.wait_closed().await;
        server.wait_for_logged_in(2).await;
    }
}

#[tokio::test]
async fn servers_past_their_lifetime_are_closed_one_after_the_other() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("server_lifetime", 2)
            .set("default_pool_size", 2)
            .start()
            .await;
        let mut alices = clients::<2>(&pooler).await;
        for alice in &mut alices {
            alice.query("BEGIN").await;
        }
        for alice in &mut alices {
            alice.query("COMMIT").await;
        }

        let first = pooler
            .wait_for_log("closing because: server lifetime over")
            .await;
        let second = pooler
            .wait_for_log_count("closing because: server lifetime over", 2)
            .await;

        // Lifetime by pool size is a second; half of it is far from the same pass.
        let apart = seconds(&second) - seconds(&first);
        assert!(apart > 0.5, "{first}\n{second}");
        alices[0].query("SELECT 'unharmed'").await;
    }
}

/// The time of day of a log line, in seconds.
fn seconds(line: &str) -> f64 {
    let time = line.split(' ').nth(1).unwrap();
    time.split(':')
        .fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

#[tokio::test]
async fn a_server_past_its_lifetime_serves_its_client_to_the_end_of_the_transaction() {
    for workers in WORKERS {
        let server = numbered().start().await;
        let pooler = before(&server, workers)
            .set("server_lifetime", 1)
            .start()
            .await;
        let mut alice = client(&pooler, "alice").await;
        alice.query("BEGIN").await;
        let mut bob = client(&pooler, "bob").await;
        bob.query("SELECT 1").await;

        // Younger than alice's, but idle.
        server.connection(1).await.wait_closed().await;
        assert_eq!(server_of(&mut alice).await, 0);
        alice.query("COMMIT").await;
        server.connection(0).await.wait_closed().await;
        assert_eq!(server_of(&mut alice).await, 2);
    }
}

#[tokio::test]
async fn with_a_lifetime_of_zero_every_use_gets_a_server_of_its_own() {
    for workers in WORKERS {
        let server = numbered().start().await;
        let pooler = before(&server, workers)
            .set("server_lifetime", 0)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut alice = client(&pooler, "alice").await;

        let first = server_of(&mut alice).await;
        let second = server_of(&mut alice).await;

        assert_eq!(second, first + 1);
        server.connection(second).await.wait_closed().await;
        assert_eq!(server.logged_in_max(), 1);
    }
}

#[tokio::test]
async fn an_idle_server_that_speaks_unasked_is_closed_and_nobody_hears_of_it() {
    for workers in WORKERS {
        let server = numbered().start().await;
        let pooler = before(&server, workers).start().await;
        let mut alice = client(&pooler, "alice").await;
        assert_eq!(server_of(&mut alice).await, 0);

        let connection = server.connection(0).await;
        connection
            .send(Message::notice("for nobody"))
            .await
            .unwrap();
        connection.wait_closed().await;

        assert_eq!(server_of(&mut alice).await, 1);
        pooler
            .wait_for_log("closing because: idle server got dirty")
            .await;
    }
}

#[tokio::test]
async fn an_idle_server_that_goes_away_is_replaced_and_nobody_hears_of_it() {
    for workers in WORKERS {
        let server = numbered().start().await;
        let pooler = before(&server, workers).start().await;
        let mut alice = client(&pooler, "alice").await;

        for number in 0..6 {
            assert_eq!(server_of(&mut alice).await, number);
            let connection = server.connection(number).await;
            if number % 2 == 0 {
                connection.close();
            } else {
                connection.reset();
            }
            let gone = "closing because: server conn crashed?";
            eventually("the pooler to notice", || pooler.log_count(gone) > number).await;
        }
    }
}

#[tokio::test]
async fn a_databases_server_lifetime_beats_the_one_for_all() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let info = format!("{} server_lifetime=1", server.conn_info("app"));
        let pooler = before(&server, workers)
            .database("short", &info)
            .set("server_lifetime", 1000)
            .start()
            .await;
        let mut long = client(&pooler, "alice").await;
        let mut short = FakeClient::login_trust(&pooler.address(), "alice", "short").await;
        long.query("SELECT 1").await;
        short.query("SELECT 1").await;

        let over = "closing because: server lifetime over";
        let line = pooler.wait_for_log(over).await;
        assert!(line.contains("short/alice"), "{line}");
        server.wait_for_logged_in(1).await;
        long.query("SELECT 1").await;
        assert_eq!(pooler.log_count(over), 1);
    }
}

#[tokio::test]
async fn a_pool_without_clients_and_servers_is_forgotten_after_pool_idle_timeout() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("server_idle_timeout", 1)
            .set("pool_idle_timeout", 1)
            .start()
            .await;
        let mut stays = client(&pooler, "alice").await;
        let mut leaves = client(&pooler, "bob").await;
        stays.query("SELECT 1").await;
        leaves.query("SELECT 1").await;
        leaves.close().await;

        pooler.wait_for_log("cleaning up idle pool: app/bob").await;

        let console = pooler.console().await;
        let pools = console.show("POOLS").await;
        let users: Vec<&str> = pools.iter().map(|pool| &pool["user"]).collect();
        assert_eq!(users, ["alice", "pgbouncer"]);
        let counted = console.show_row("STATS_TOTALS", "database", "app").await;
        assert_eq!(counted.number("query_count"), 2);
        assert_eq!(pooler.log_count("cleaning up idle pool"), 1);
        client(&pooler, "bob").await.query("SELECT 1").await;
        stays.query("SELECT 1").await;
    }
}

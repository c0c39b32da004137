//! Whose limit counts: the user's, the database's, or the one for all.

use testkit::{FakeClient, FakeServer, Message, Pooler, PoolerSetup};

use super::holding;
use crate::support::{WORKERS, before, trusting, wait_for_waiting};

/// How many servers a pool opens for four clients who all need one at once.
async fn opened_for_four(
    pooler: &Pooler,
    server: &FakeServer,
    (user, database): (&str, &str),
    expected: usize,
) -> usize {
    let before = server.connections().len();
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(FakeClient::login_trust(&pooler.address(), user, database).await);
    }
    let hold = format!("HOLD {user}_{database}");
    for client in &mut clients {
        client.send(Message::query(&hold)).await;
    }
    let gate = server.gate(&hold[5..]);
    gate.wait_for_waiting(expected).await;
    wait_for_waiting(pooler, (4 - expected) as i64).await;
    gate.open();
    for client in &mut clients {
        client.read_until_ready().await;
    }
    server.connections().len() - before
}

fn limited(server: &FakeServer, workers: u32) -> PoolerSetup {
    let small = format!("{} pool_size=2", server.conn_info("small"));
    trusting(workers)
        .database("plain", &server.conn_info("plain"))
        .database("small", &small)
        .set("default_pool_size", 3)
        .section("[users]\nbob = pool_size=1")
}

#[tokio::test]
async fn the_users_pool_size_beats_the_databases_and_that_the_default() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = limited(&server, workers).start().await;

        for (pool, size) in [
            (("alice", "plain"), 3),
            (("alice", "small"), 2),
            (("bob", "plain"), 1),
            (("bob", "small"), 1),
        ] {
            assert_eq!(
                opened_for_four(&pooler, &server, pool, size).await,
                size,
                "{pool:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_pool_size_of_zero_sets_no_limit() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 0)
            .start()
            .await;

        let _all_at_once = holding::<30>(&pooler).await;

        assert_eq!(server.logged_in(), 30);
    }
}

#[tokio::test]
async fn max_db_connections_of_a_database_beats_the_one_for_all() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let tight = format!("{} max_db_connections=1", server.conn_info("tight"));
        let pooler = before(&server, workers)
            .database("tight", &tight)
            .set("max_db_connections", 2)
            .start()
            .await;

        assert_eq!(
            opened_for_four(&pooler, &server, ("alice", "tight"), 1).await,
            1
        );
        assert_eq!(
            opened_for_four(&pooler, &server, ("alice", "app"), 2).await,
            2
        );
    }
}

#[tokio::test]
async fn max_user_connections_of_a_user_beats_the_one_for_all() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("max_user_connections", 2)
            .section("[users]\nbob = max_user_connections=1")
            .start()
            .await;

        assert_eq!(
            opened_for_four(&pooler, &server, ("bob", "app"), 1).await,
            1
        );
        assert_eq!(
            opened_for_four(&pooler, &server, ("alice", "app"), 2).await,
            2
        );
    }
}

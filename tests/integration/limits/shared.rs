//! Limits that several pools share: the longest idle server makes room.

use testkit::{FakeClient, FakeServer, Message, Pooler, PoolerSetup, eventually_async};

use super::holding;
use crate::support::{WORKERS, before, client, numbered, server_of, wait_for_waiting};

const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// Three pools under one limit of three: the users of a database, or the databases of a user.
#[derive(Clone, Copy)]
enum Shared {
    Database,
    User,
}

const BOTH: [Shared; 2] = [Shared::Database, Shared::User];

impl Shared {
    fn limited_to(self, count: u32, setup: PoolerSetup, server: &FakeServer) -> PoolerSetup {
        match self {
            Self::Database => setup.set("max_db_connections", count),
            Self::User => setup
                .database("bob", &server.conn_info("bob"))
                .database("carol", &server.conn_info("carol"))
                .set("max_user_connections", count),
        }
    }

    /// A client of one of the three pools.
    async fn client(self, pooler: &Pooler, pool: &str) -> FakeClient {
        let (user, database) = match self {
            Self::Database => (pool, "app"),
            Self::User if pool == "alice" => ("alice", "app"),
            Self::User => ("alice", pool),
        };
        FakeClient::login_trust(&pooler.address(), user, database).await
    }
}

/// Waits until so many servers of alice's are idle.
async fn wait_for_idle(pooler: &Pooler, count: i64) {
    let console = pooler.console().await;
    eventually_async(&format!("{count} idle servers"), async || {
        console.pool("app", "alice").await.number("sv_idle") == count
    })
    .await;
}

#[tokio::test]
async fn the_longest_idle_server_makes_room_for_another_pool() {
    for shared in BOTH {
        for workers in WORKERS {
            let server = numbered().start().await;
            let setup = before(&server, workers);
            let pooler = shared.limited_to(3, setup, &server).start().await;
            let [mut first, mut second, mut third] = holding(&pooler).await;
            for (idle, client) in (1..).zip([&mut second, &mut third, &mut first]) {
                client.query("COMMIT").await;
                wait_for_idle(&pooler, idle).await;
            }

            let mut other = shared.client(&pooler, "bob").await;

            assert_eq!(server_of(&mut other).await, 3);
            server.connection(1).await.wait_closed().await;
            pooler.wait_for_log("closing because: evicted").await;
            assert_eq!(server.logged_in_max(), 3);
            assert_eq!(server.logged_in(), 3);
        }
    }
}

#[tokio::test]
async fn a_busy_server_is_never_evicted_and_the_next_free_one_makes_room() {
    for shared in BOTH {
        for workers in WORKERS {
            let server = numbered().start().await;
            let setup = before(&server, workers);
            let setup = setup.database("bob", &server.conn_info("bob"));
            let pooler = shared.limited_to(3, setup, &server).start().await;
            // Bob's pool has to be known: a login would wait for a server, too.
            let mut bob = shared.client(&pooler, "bob").await;
            bob.query("SELECT 1").await;
            let [mut first, mut second, mut third] = holding(&pooler).await;

            bob.send(Message::query("SELECT server")).await;
            wait_for_waiting(&pooler, 1).await;
            for client in [&mut first, &mut second, &mut third] {
                client.query("SELECT 'undisturbed'").await;
            }
            second.query("COMMIT").await;
            bob.read_until_ready().await;

            for client in [&mut first, &mut third] {
                client.query("COMMIT").await;
            }
            assert_eq!(server.logged_in_max(), 3);
        }
    }
}

#[tokio::test]
async fn nobody_starves_under_a_shared_limit_that_is_never_passed() {
    for shared in BOTH {
        for workers in WORKERS {
            let server = FakeServer::start().await;
            let setup = before(&server, workers);
            let pooler = shared.limited_to(3, setup, &server).start().await;
            let mut crowd = Vec::new();
            for number in 0..30 {
                let mut client = shared.client(&pooler, USERS[number % 3]).await;
                crowd.push(tokio::spawn(async move {
                    for _ in 0..10 {
                        client.query("SELECT 1").await;
                    }
                }));
            }

            for client in crowd {
                client.await.unwrap();
            }

            assert_eq!(server.logged_in_max(), 3);
        }
    }
}

#[tokio::test]
async fn a_pool_with_the_whole_limit_to_itself_needs_no_eviction() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("max_db_connections", 3)
            .start()
            .await;

        let mut holders = holding::<3>(&pooler).await;
        let mut fourth = client(&pooler, "alice").await;
        fourth.send(Message::query("SELECT 4")).await;
        wait_for_waiting(&pooler, 1).await;
        holders[0].query("COMMIT").await;
        fourth.read_until_ready().await;

        assert_eq!(server.connections().len(), 3);
    }
}

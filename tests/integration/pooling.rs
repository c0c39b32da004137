//! Which pool and which server a client gets, and in what state.

mod ageing;
mod hosts;
mod modes;
mod probes;

use testkit::{FakeClient, FakeServer, Pooler, eventually_async};

use crate::support::{WORKERS, before, client, clients, numbered, server_of, trusting};

/// The databases and users that a fake server's connections were opened for.
fn opened_for(server: &FakeServer) -> Vec<(String, String)> {
    let connections = server.connections();
    let told = |name: &str, index: usize| connections[index].parameter(name).unwrap().to_owned();
    let indices = 0..connections.len();
    indices
        .map(|index| (told("database", index), told("user", index)))
        .collect()
}

fn pair(database: &str, user: &str) -> (String, String) {
    (database.to_owned(), user.to_owned())
}

#[tokio::test]
async fn each_database_and_user_has_a_pool_of_its_own() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .database("web", &server.conn_info("web_site"))
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut stay = Vec::new();
        for (user, database) in [
            ("alice", "app"),
            ("bob", "app"),
            ("alice", "web"),
            ("alice", "app"),
        ] {
            let mut client = FakeClient::login_trust(&pooler.address(), user, database).await;
            client.query("SELECT 1").await;
            stay.push(client);
        }

        let pools = [
            pair("app", "alice"),
            pair("app", "bob"),
            pair("web_site", "alice"),
        ];
        assert_eq!(opened_for(&server), pools);
    }
}

#[tokio::test]
async fn a_forced_user_has_one_pool_for_whoever_comes() {
    for workers in WORKERS {
        let server = numbered().start().await;
        let forced = format!("{} user=shared", server.conn_info("app"));
        let pooler = before(&server, workers)
            .database("app", &forced)
            .set("default_pool_size", 1)
            .start()
            .await;

        for user in ["alice", "bob", "carol"] {
            assert_eq!(server_of(&mut client(&pooler, user).await).await, 0);
        }

        assert_eq!(opened_for(&server), [pair("app", "shared")]);
    }
}

/// Opens a server for each of `N` clients, and has the first three given back in that order.
async fn three_given_back_in_order<const N: usize>(pooler: &Pooler) -> [FakeClient; N] {
    let mut clients = clients::<N>(pooler).await;
    for (number, client) in clients.iter_mut().enumerate() {
        client.query("BEGIN").await;
        assert_eq!(server_of(client).await, number);
    }
    for client in &mut clients[..3] {
        client.query("COMMIT").await;
    }
    clients
}

#[tokio::test]
async fn the_server_used_last_is_lent_first() {
    let server = numbered().start().await;
    let pooler = before(&server, 1).start().await;
    // With one or two others at work, it would matter where a server runs.
    let mut clients = three_given_back_in_order::<6>(&pooler).await;

    let mut lent = Vec::new();
    for client in &mut clients[..3] {
        client.query("BEGIN").await;
        lent.push(server_of(client).await);
    }

    assert_eq!(lent, [2, 1, 0]);
}

#[tokio::test]
async fn a_client_alone_stays_with_one_server_while_others_idle() {
    for workers in WORKERS {
        let server = numbered().start().await;
        let pooler = before(&server, workers).start().await;
        let [mut client, ..] = three_given_back_in_order::<3>(&pooler).await;

        let first = server_of(&mut client).await;
        for _ in 0..10 {
            assert_eq!(server_of(&mut client).await, first);
        }
    }
}

#[tokio::test]
async fn with_round_robin_idle_servers_take_turns() {
    let server = numbered().start().await;
    let pooler = before(&server, 1)
        .set("server_round_robin", 1)
        .start()
        .await;
    let [mut client, ..] = three_given_back_in_order::<3>(&pooler).await;

    let mut lent = Vec::new();
    for _ in 0..6 {
        lent.push(server_of(&mut client).await);
    }

    assert_eq!(lent, [0, 1, 2, 0, 1, 2]);
}

#[tokio::test]
async fn an_idle_server_of_one_worker_serves_the_clients_of_the_others() {
    let server = numbered().start().await;
    let pooler = before(&server, 3).set("default_pool_size", 1).start().await;

    for client in &mut clients::<6>(&pooler).await {
        assert_eq!(server_of(client).await, 0);
    }
}

#[tokio::test]
async fn an_unlisted_database_is_made_from_the_star_entry() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let star = format!("host=127.0.0.1 port={}", server.port());
        let pooler = trusting(workers).database("*", &star).start().await;

        for database in ["one", "two"] {
            let mut client = FakeClient::login_trust(&pooler.address(), "alice", database).await;
            client.query("SELECT 1").await;
        }

        assert_eq!(
            opened_for(&server),
            [pair("one", "alice"), pair("two", "alice")]
        );
        pooler
            .wait_for_log("registered new auto-database: two")
            .await;
    }
}

#[tokio::test]
async fn an_auto_database_is_forgotten_once_nobody_has_used_it_for_long() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let star = format!("host=127.0.0.1 port={}", server.port());
        let pooler = trusting(workers)
            .database("*", &star)
            .set("autodb_idle_timeout", 1)
            .set("server_idle_timeout", 1)
            .start()
            .await;
        let mut stays = FakeClient::login_trust(&pooler.address(), "alice", "used").await;
        let mut leaves = FakeClient::login_trust(&pooler.address(), "alice", "unused").await;
        stays.query("SELECT 1").await;
        leaves.query("SELECT 1").await;
        leaves.close().await;

        pooler
            .wait_for_log("cleaning up idle pool: db=unused")
            .await;

        let console = pooler.console().await;
        eventually_async("its pool to be gone from SHOW POOLS", async || {
            let pools = console.show("POOLS").await;
            let databases: Vec<&str> = pools.iter().map(|pool| &pool["database"]).collect();
            databases == ["pgbouncer", "used"]
        })
        .await;
        stays.query("SELECT 'still here'").await;
        FakeClient::login_trust(&pooler.address(), "alice", "unused").await;
        pooler
            .wait_for_log_count("registered new auto-database: unused", 2)
            .await;
    }
}

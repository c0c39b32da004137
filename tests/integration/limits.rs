//! How many servers there are, counted by the servers themselves.

mod logins;
mod overrides;
mod reserve;
mod shared;

use testkit::{FakeClient, FakeServer, Message, Pooler};

use crate::support::{before, before_postgres, client, clients, postgres, wait_for_waiting};

/// Has so many clients run so many transactions each, all at once.
async fn crowd(pooler: &Pooler, clients: usize, transactions: usize) {
    let mut crowd = Vec::new();
    for _ in 0..clients {
        crowd.push(client(pooler, "alice").await);
    }
    let busy = crowd
        .into_iter()
        .map(|client| tokio::spawn(work(client, transactions)));
    for client in busy.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

async fn work(mut client: FakeClient, transactions: usize) {
    for _ in 0..transactions {
        client.query("BEGIN").await;
        client.query("SELECT 1").await;
        client.query("COMMIT").await;
    }
}

/// Opens a transaction for each of so many clients, and returns them.
async fn holding<const N: usize>(pooler: &Pooler) -> [FakeClient; N] {
    let mut clients = clients::<N>(pooler).await;
    for client in &mut clients {
        client.query("BEGIN").await;
    }
    clients
}

#[tokio::test]
async fn four_workers_and_two_hundred_clients_fill_the_pool_exactly() {
    let server = FakeServer::start().await;
    let pooler = before(&server, 4).set("max_client_conn", 300).start().await;

    crowd(&pooler, 200, 10).await;

    assert_eq!(server.logged_in_max(), 20);
    assert_eq!(server.connections().len(), 20);
}

#[tokio::test]
async fn the_pool_stays_within_its_size_while_servers_come_and_go() {
    let server = FakeServer::start().await;
    let pooler = before(&server, 4)
        .set("max_client_conn", 300)
        .set("server_lifetime", 0)
        .start()
        .await;

    crowd(&pooler, 200, 5).await;

    // Every transaction had a server of its own, and the pool its size.
    assert!(server.connections().len() >= 1000);
    assert!(server.logged_in_max() <= 20, "{}", server.logged_in_max());
}

#[tokio::test]
async fn postgresql_itself_counts_no_more_sessions_than_the_pool_has() {
    let postgres = postgres().await;
    let pooler = before_postgres(&postgres, 4)
        .set("max_client_conn", 300)
        .start()
        .await;
    let admin = postgres.admin_client().await;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice'";
    let busy = tokio::spawn(async move { crowd(&pooler, 200, 5).await });

    let mut most = 0;
    while !busy.is_finished() {
        let sessions: i64 = admin.query_one(count, &[]).await.unwrap().get(0);
        most = most.max(sessions);
    }
    busy.await.unwrap();

    // How many it opens depends on the load; one more would be one too many.
    assert!((1..=20).contains(&most), "{most}");
}

#[tokio::test]
async fn a_client_who_finds_the_pool_full_waits_for_a_seat_of_any_worker() {
    let server = FakeServer::start().await;
    let pooler = before(&server, 3).set("default_pool_size", 2).start().await;
    let [mut first, _second] = holding(&pooler).await;
    let [mut third, mut fourth] = clients(&pooler).await;

    third.send(Message::query("SELECT 3")).await;
    wait_for_waiting(&pooler, 1).await;
    fourth.send(Message::query("SELECT 4")).await;
    wait_for_waiting(&pooler, 2).await;
    first.query("COMMIT").await;
    third.read_until_ready().await;
    fourth.read_until_ready().await;

    assert_eq!(server.logged_in_max(), 2);
}

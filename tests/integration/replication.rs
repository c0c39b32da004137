//! Replication through the pooler: each client has a server of its own, and the tools that people
//! run find nothing missing.

mod commands;
mod seats;
mod streams;
mod subscription;
mod tools;
mod welcome;

use testkit::{Address, FakeClient, FakeServer, Message, Pooler, PoolerSetup, Postgres};

use crate::programs::for_alice;
use crate::support::{before, numbered};

/// A PostgreSQL whose changes can be followed by alice, in the database `app`.
async fn publishing() -> Postgres {
    let setup = Postgres::setup().set("wal_level", "logical");
    let postgres = setup.set("wal_keep_size", "1GB").start().await;
    postgres.create_database("app").await;
    postgres.create_user("alice", "secret").await;
    postgres.run("ALTER ROLE alice REPLICATION").await;
    postgres
}

/// A pooler before it, with few servers. Tools that want all of the cluster, and no database, name
/// one all the same: `replication`.
fn few_seats(workers: u32, postgres: &Postgres) -> PoolerSetup {
    for_alice(workers, "transaction", 3, postgres)
        .database("replication", &postgres.conn_info("app"))
}

/// A client that has asked for replication in the database `app`, and was not answered yet.
async fn asking(address: &Address, user: &str, more: &[(&str, &str)]) -> FakeClient {
    let mut client = FakeClient::connect(address).await;
    let who = [("user", user), ("database", "app")];
    client.startup(&[&who, more].concat()).await;
    client
}

/// The same of alice's, for logical replication.
async fn follower_to_be(pooler: &Pooler) -> FakeClient {
    asking(&pooler.address(), "alice", &[("replication", "database")]).await
}

/// Reads the welcome of a client that was only asked who it is.
async fn let_in(mut client: FakeClient) -> FakeClient {
    client.read_auth_ok().await;
    client.read_welcome().await;
    client
}

/// A client of alice's with a server of its own.
async fn follower(pooler: &Pooler) -> FakeClient {
    let_in(follower_to_be(pooler).await).await
}

/// A pooler with so many seats before a fake server whose connections tell their numbers.
async fn pooler_with_seats(workers: u32, seats: u32) -> (FakeServer, Pooler) {
    let server = numbered().start().await;
    let setup = before(&server, workers).set("default_pool_size", seats);
    let pooler = setup.start().await;
    (server, pooler)
}

/// Reads the last words of a session that is ended, as `CODE text`.
async fn last_words(client: &mut FakeClient) -> String {
    let words = client.expect_closed().await;
    let errors = words.iter().filter_map(Message::error_fields);
    let told: Vec<_> = errors
        .map(|e| format!("{} {}", e.code(), e.text()))
        .collect();
    told.join(", ")
}

//! The console: what operators see, and what becomes of their commands.

mod commands;
mod extended;
mod eyes;
mod numbers;
mod parity;
mod settings;
mod suspend;
mod tables;

use testkit::{FakeClient, FakeServer, Pooler, PoolerSetup};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use crate::support::pgusher;

/// A transaction pool `shop`/`alice` before a fake server.
fn shop(workers: u32, fake: &FakeServer) -> PoolerSetup {
    pgusher(workers)
        .database("shop", &fake.conn_info("shop"))
        .user("alice", "a")
        .set("pool_mode", "transaction")
}

async fn alice(pooler: &Pooler) -> Client {
    pooler.connect("alice", "a", "shop").await
}

/// An administrator who says what a test wants said, byte by byte.
async fn operator(pooler: &Pooler) -> FakeClient {
    let (user, password) = ("testkit_admin", "testkit_admin");
    FakeClient::login_scram(&pooler.address(), user, password, "pgbouncer").await
}

/// A client that runs a query while the test goes on; it is given back with the answer.
fn asks(client: Client, sql: &'static str) -> JoinHandle<(Client, Answer)> {
    tokio::spawn(async move {
        let answer = client.simple_query(sql).await;
        (client, answer)
    })
}

type Answer = Result<Vec<SimpleQueryMessage>, Error>;

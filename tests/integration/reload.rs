//! RELOAD: all or nothing, at once, and without a client noticing what does not concern it.

mod databases;
mod effects;
mod entries;
mod settings;
mod sockets;
mod table;
mod timeouts;

use testkit::{FakeServer, Pooler, PoolerSetup};
use tokio_postgres::Client;

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

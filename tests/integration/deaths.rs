//! Clients and servers that die: no seat is lost, and nothing of the dead reaches the living.

mod clients;
mod outage;
mod recovery;
mod servers;

use testkit::{FakeClient, FakeServer, Message, Pooler, PoolerSetup, Tx, transcript};

use crate::support::{before, client};

/// Seats of the pool under test.
const SEATS: usize = 2;

/// A pooler with few seats before a fake server, to be seen whole after each death.
struct Scene {
    server: FakeServer,
    pooler: Pooler,
}

impl Scene {
    async fn start(workers: u32) -> Self {
        Self::with(FakeServer::start().await, workers, |setup| setup).await
    }

    async fn with(
        server: FakeServer,
        workers: u32,
        change: impl FnOnce(PoolerSetup) -> PoolerSetup,
    ) -> Self {
        let setup = before(&server, workers)
            .set("default_pool_size", SEATS)
            .set("server_login_retry", 20);
        let pooler = change(setup).start().await;
        Self { server, pooler }
    }

    async fn client(&self) -> FakeClient {
        client(&self.pooler, "alice").await
    }

    /// All seats can be had at once, each is outside of any transaction, and everybody gets what
    /// was asked for and nothing else.
    async fn is_whole(&self) {
        let door = self.server.gate("whole");
        door.close();
        let mut clients = Vec::new();
        for number in 0..SEATS {
            let mut client = self.client().await;
            client
                .send(Message::query(&format!(
                    "HOLD whole; SELECT 'for {number}'"
                )))
                .await;
            clients.push(client);
        }
        door.wait_for_waiting(SEATS).await;
        door.open();
        for (number, client) in clients.iter_mut().enumerate() {
            let expected = [
                Message::command_complete("HOLD"),
                Message::row_description(&["?column?"]),
                Message::data_row(&[Some(&format!("for {number}"))]),
                Message::command_complete("SELECT 1"),
                Message::ready(Tx::Idle),
            ];
            let answer = client.read_until_ready().await;
            assert_eq!(transcript(&answer), transcript(&expected));
        }
        let most = self.server.logged_in_max();
        assert!(most <= SEATS, "{most} servers on {SEATS} seats");
    }
}

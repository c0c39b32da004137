//! Clients that say nothing for long.

use testkit::FakeServer;

use super::ends_with;
use crate::support::{WORKERS, before, clients};

#[tokio::test]
async fn client_idle_timeout_ends_a_client_that_is_silent_without_a_server() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("client_idle_timeout", 1)
            .start()
            .await;
        let [mut never_spoke, mut spoke, mut in_transaction] = clients(&pooler).await;

        in_transaction.query("BEGIN").await;
        spoke.query("SELECT 1").await;
        ends_with(&mut never_spoke, "client_idle_timeout").await;
        ends_with(&mut spoke, "client_idle_timeout").await;

        in_transaction.query("COMMIT").await;
        // The server that served the silent one is none the worse.
        assert_eq!(server.logged_in(), 2);
    }
}

#[tokio::test]
async fn client_idle_timeout_spares_a_session_that_holds_its_server() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("pool_mode", "session")
            .set("client_idle_timeout", 1)
            .start()
            .await;
        let [mut holds, mut holds_none] = clients(&pooler).await;
        holds.query("SELECT 1").await;

        ends_with(&mut holds_none, "client_idle_timeout").await;
        let [mut later] = clients(&pooler).await;
        ends_with(&mut later, "client_idle_timeout").await;

        holds.query("SELECT 2").await;
    }
}

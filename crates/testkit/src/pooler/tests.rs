//! A pooler starts between a client and a server.
//!
//! This crate is built before pgusher, so these ask for a program:
//! `PGUSHER_TEST_POOLER=/usr/sbin/pgbouncer cargo nextest run -p pgusher-testkit --run-ignored all`.

use crate::{FakeServer, Login, Pooler, PoolerSetup, Signal, scram_secret};

fn before(server: &FakeServer) -> PoolerSetup {
    Pooler::setup()
        .database("app", &server.conn_info("app"))
        .user("alice", "secret")
        .set("pool_mode", "transaction")
}

#[tokio::test]
#[ignore = "needs a pooler to run"]
async fn a_pooler_stands_between_a_driver_and_a_server() {
    let server = FakeServer::setup()
        .login(Login::Scram(scram_secret("secret")))
        .start()
        .await;
    let mut pooler = before(&server).start().await;

    let client = pooler.connect("alice", "secret", "app").await;
    client.batch_execute("SELECT 'through'").await.unwrap();
    let console = pooler.console().await;

    assert_eq!(console.pool("app", "alice").await.number("cl_active"), 1);
    assert_eq!(server.connection(0).await.queries(), ["SELECT 'through'"]);
    assert!(pooler.rss() > 0);
    pooler
        .reload(|setup| setup.set("default_pool_size", 7))
        .await;
    assert_eq!(console.setting("default_pool_size").await, "7");
    pooler.wait_for_log("RELOAD").await;
    pooler.signal(Signal::SIGKILL);
    assert!(!pooler.wait_exit().await.success());
}

#[tokio::test]
#[ignore = "needs a pooler to run"]
async fn a_pooler_with_a_bad_ini_tells_why_it_ends() {
    let server = FakeServer::start().await;
    let setup = before(&server);

    let exit = setup.set("pool_mode", "no such mode").run_to_exit().await;

    assert_eq!(exit.status.code(), Some(1));
    assert!(exit.log.contains("pool_mode"), "{}", exit.log);
}

//! `session_backend_pid`: a session's server is lent at login, and its process id is the client's.

use testkit::{CancelKey, FakeClient, Message, Pooler, PoolerSetup, Postgres, eventually_async};

use crate::support::{
    WORKERS, alice, before_postgres, pgusher, postgres, servers_opened, wait_for_waiting, words,
};

fn telling(workers: u32, postgres: &Postgres) -> PoolerSetup {
    before_postgres(postgres, workers)
        .set("pool_mode", "session")
        .set("session_backend_pid", 1)
}

/// A client of alice's that has asked to be let in, and was not answered yet.
async fn at_the_door(pooler: &Pooler) -> FakeClient {
    let mut client = FakeClient::connect(&pooler.address()).await;
    let who = [("user", "alice"), ("database", "app")];
    client.startup(&who).await;
    client
}

async fn backend_pid(client: &mut FakeClient) -> u32 {
    let pid = client.query_value("SELECT pg_backend_pid()").await;
    pid.parse().unwrap()
}

#[tokio::test]
async fn a_client_knows_its_own_notifications_from_those_of_others() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = telling(workers, &postgres).start().await;
        let (mut listener, mut other) = (alice(&pooler).await, alice(&pooler).await);
        listener.query("LISTEN news").await;
        other.query("NOTIFY news, 'yours'").await;
        let told = listener.query("NOTIFY news, 'mine'").await;

        let told = told.into_iter().filter(|message| message.tag == b'A');
        let (own, others) = (listener.cancel_key().pid, other.cancel_key().pid);
        assert_ne!(own, others);
        let expected = [
            Message::notification(others, "news", "yours"),
            Message::notification(own, "news", "mine"),
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
        assert_eq!(backend_pid(&mut listener).await, own);
        assert_eq!(backend_pid(&mut other).await, others);
    }
}

#[tokio::test]
async fn its_key_cancels_for_the_client_and_is_not_the_servers() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = telling(workers, &postgres).start().await;
        let (mut client, mut other) = (alice(&pooler).await, alice(&pooler).await);
        client.send(Message::query("SELECT pg_sleep(100)")).await;
        let pid = client.cancel_key().pid;
        let wrong = CancelKey {
            pid,
            secret: other.cancel_key().secret.clone(),
        };
        FakeClient::cancel(&pooler.address(), &wrong).await;
        let runs = format!("SELECT state = 'active' FROM pg_stat_activity WHERE pid = {pid}");
        eventually_async("the query to run", async || {
            other.query_value(&runs).await == "t"
        })
        .await;
        // It is for the pooler only.
        FakeClient::cancel(&postgres.address(), client.cancel_key()).await;
        assert_eq!(other.query_value(&runs).await, "t");
        client.cancel_me().await;
        assert_eq!(client.expect_error().await.code(), "57014");
    }
}

#[tokio::test]
async fn a_client_without_a_free_server_waits_at_login_in_line() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = telling(workers, &postgres).set("default_pool_size", 1);
        let pooler = setup.start().await;
        let console = pooler.console().await;
        let holder = alice(&pooler).await;
        let pid = holder.cancel_key().pid;
        let dies = at_the_door(&pooler).await;
        wait_for_waiting(&pooler, 1).await;
        let mut next = at_the_door(&pooler).await;
        wait_for_waiting(&pooler, 2).await;
        let pool = console.pool("app", "alice").await;
        assert_eq!((pool.number("cl_active"), pool.number("sv_active")), (1, 1));
        dies.reset();
        wait_for_waiting(&pooler, 1).await;

        holder.close().await;
        next.read_auth_ok().await;
        next.read_welcome().await;
        assert_eq!(next.cancel_key().pid, pid);
        assert_eq!(servers_opened(&pooler).await, 1);

        let mut last = at_the_door(&pooler).await;
        wait_for_waiting(&pooler, 1).await;
        console.run("KILL app").await;
        let told = words(&last.expect_error().await);
        assert_eq!(told, "FATAL 08P01 database removed");
    }
}

#[tokio::test]
async fn a_login_that_waits_too_long_is_told_so() {
    let postgres = postgres().await;
    let setup = telling(1, &postgres).set("default_pool_size", 1);
    let pooler = setup.set("query_wait_timeout", 1).start().await;
    let _holder = alice(&pooler).await;
    let mut client = at_the_door(&pooler).await;
    let told = words(&client.expect_error().await);
    assert_eq!(told, "FATAL 08P01 query_wait_timeout");
}

#[tokio::test]
async fn the_server_has_the_clients_parameters_from_the_start() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = telling(workers, &postgres).set("default_pool_size", 1);
        let pooler = setup.start().await;
        for zone in ["Asia/Tokyo", "Europe/Rome"] {
            let mut client = FakeClient::connect(&pooler.address()).await;
            let who = [("user", "alice"), ("database", "app"), ("TimeZone", zone)];
            client.startup(&who).await;
            client.read_auth_ok().await;
            let welcome = client.read_welcome().await;
            let told = Message::parameter_status("TimeZone", zone);
            assert!(welcome.contains(&told));
            assert_eq!(client.query_value("SHOW TimeZone").await, zone);
            client
                .query("SET work_mem = '1MB'; PREPARE s AS SELECT 1")
                .await;
            client.close().await;
        }
        let mut client = alice(&pooler).await;
        let sql = "SELECT count(*) FROM pg_prepared_statements";
        assert_eq!(client.query_value(sql).await, "0");
        assert_eq!(servers_opened(&pooler).await, 1);
    }
}

#[tokio::test]
async fn where_servers_change_hands_their_process_ids_are_nobodys() {
    let postgres = postgres().await;
    for (mode, setting) in [("transaction", 1), ("session", 0)] {
        let pooler = telling(1, &postgres)
            .set("pool_mode", mode)
            .set("session_backend_pid", setting)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        let console = pooler.console().await;
        assert_eq!(console.pool("app", "alice").await.number("sv_active"), 0);
        assert_ne!(backend_pid(&mut client).await, client.cancel_key().pid);
    }
}

#[tokio::test]
async fn it_does_not_go_together_with_peers() {
    let setup = pgusher(1).set("session_backend_pid", 1).set("peer_id", 7);
    let exit = setup.run_to_exit().await;
    assert!(!exit.status.success());
    let told = "session_backend_pid: needs peer_id = 0";
    assert!(exit.log.contains(told), "{}", exit.log);
}

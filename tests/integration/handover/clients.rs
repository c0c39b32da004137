//! Sessions and what belongs to them.

use testkit::{Authority, FakeClient, Message, TlsTunnel, eventually_async, scram_secret};

use super::{backend, ends, execute, prepare, value};
use crate::support::{
    WORKERS, alice, before_postgres, pgusher, postgres, wait_for_sleepers, wait_for_waiting,
};
use crate::takeover::heir;

const CANCELED: &str = "57014";

#[tokio::test]
async fn an_idle_client_and_its_server_go_over_with_all_that_is_theirs() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers).set("default_pool_size", 1);
        let first = setup.clone().start().await;
        let mut client = alice(&first).await;
        client.query("SET TimeZone = 'Asia/Tokyo'").await;
        client.query("SET application_name = 'mover'").await;
        prepare(&mut client, "hours", "SELECT current_setting('TimeZone')").await;
        assert_eq!(value(&execute(&mut client, "hours").await), "Asia/Tokyo");
        let pid = backend(&mut client).await;
        let console = first.console().await;
        let before = console.show_row("CLIENTS", "database", "app").await;
        let server = console.show_row("SERVERS", "database", "app").await;
        drop(console);

        let running = [first];
        let second = heir(&setup, &running).await;
        let [first] = running;
        ends(first).await;
        let console = second.console().await;
        let after = console.show_row("CLIENTS", "database", "app").await;
        for column in [
            "user",
            "addr",
            "port",
            "connect_time",
            "application_name",
            "ptr",
        ] {
            assert_eq!(after[column], before[column], "{column}");
        }
        assert_eq!(after["prepared_statements"], *"1");
        let moved = console.show_row("SERVERS", "database", "app").await;
        for column in ["user", "addr", "port", "connect_time", "remote_pid", "ptr"] {
            assert_eq!(moved[column], server[column], "{column}");
        }
        assert_eq!(backend(&mut client).await, pid);
        let answer = execute(&mut client, "hours").await;
        assert_eq!(value(&answer), "Asia/Tokyo");
        // Others get their own, from the same server.
        let mut other = alice(&second).await;
        assert_eq!(backend(&mut other).await, pid);
        assert_ne!(other.query_value("SHOW TimeZone").await, "Asia/Tokyo");
        assert_eq!(client.query_value("SHOW TimeZone").await, "Asia/Tokyo");
        assert_eq!(postgres.sessions_of("alice").await, 1);
        // A name that is taken stays so, and can be given back.
        let say = [Message::close_statement("hours"), Message::sync()];
        client.send_all(&say).await;
        client.read_until_ready().await;
        prepare(&mut client, "hours", "SELECT 'anew'").await;
        assert_eq!(value(&execute(&mut client, "hours").await), "anew");
    }
}

#[tokio::test]
async fn a_session_goes_over_with_the_server_that_it_keeps() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers)
            .set("pool_mode", "session")
            .set("default_pool_size", 2);
        let mut running = vec![setup.clone().start().await];
        let mut client = alice(&running[0]).await;
        let mut busy = alice(&running[0]).await;
        busy.query("BEGIN").await;
        // All of this is the server's own.
        client
            .query("CREATE TEMP TABLE kept AS SELECT 'mine' AS whose")
            .await;
        client.query("SET work_mem = '7MB'").await;
        client.query("LISTEN news").await;
        prepare(&mut client, "whose", "SELECT whose FROM kept").await;
        let pid = backend(&mut client).await;
        for _ in 0..2 {
            let next = heir(&setup, &running).await;
            running.push(next);
            assert_eq!(backend(&mut client).await, pid);
            assert_eq!(client.query_value("SHOW work_mem").await, "7MB");
            assert_eq!(value(&execute(&mut client, "whose").await), "mine");
            let told = client.query("NOTIFY news").await;
            let tags: Vec<u8> = told.iter().map(|message| message.tag).collect();
            assert!(tags.contains(&b'A'), "{told:?}");
        }
        assert_eq!(postgres.sessions_of("alice").await, 2);
        busy.query("COMMIT").await;
        for old in &mut running[..2] {
            assert!(old.wait_exit().await.success());
        }
        let last = running.last().unwrap();
        let console = last.console().await;
        let row = console.show_row("SERVERS", "remote_pid", &pid).await;
        assert_eq!(row["state"], *"active");
        client.send(Message::query("SELECT pg_sleep(600)")).await;
        wait_for_sleepers(&postgres, 1).await;
        client.cancel_me().await;
        assert_eq!(client.expect_error().await.code(), CANCELED);
        client.read_until_ready().await;
        // When it leaves, its server is reset for others.
        client.close().await;
        busy.query("SELECT 1").await;
        let mut other = alice(last).await;
        assert_eq!(backend(&mut other).await, pid);
        assert_ne!(other.query_value("SHOW work_mem").await, "7MB");
    }
}

#[tokio::test]
async fn a_client_that_is_busy_goes_over_when_its_transaction_ends() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers);
        let first = setup.clone().start().await;
        let mut client = alice(&first).await;
        client.query("BEGIN").await;
        let pid = backend(&mut client).await;
        let running = [first];
        let second = heir(&setup, &running).await;
        let [mut first] = running;
        assert_eq!(backend(&mut client).await, pid);
        assert!(first.is_running());
        client.query("COMMIT").await;
        ends(first).await;
        assert_eq!(backend(&mut client).await, pid);
        let console = second.console().await;
        console.show_row("CLIENTS", "database", "app").await;
    }
}

#[tokio::test]
async fn a_client_in_line_goes_over_with_its_request() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers).set("default_pool_size", 1);
        let first = setup.clone().start().await;
        let mut busy = alice(&first).await;
        busy.query("BEGIN").await;
        let mut waiting = alice(&first).await;
        waiting.send(Message::query("SELECT 'at last'")).await;
        wait_for_waiting(&first, 1).await;
        let running = [first];
        let second = heir(&setup, &running).await;
        wait_for_waiting(&second, 1).await;
        busy.query("COMMIT").await;
        assert_eq!(value(&waiting.read_until_ready().await), "at last");
        let [first] = running;
        ends(first).await;
    }
}

#[tokio::test]
async fn a_cancel_key_is_good_before_and_after_its_client_goes_over() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers);
        let first = setup.clone().start().await;
        let mut busy = alice(&first).await;
        let mut idle = alice(&first).await;
        busy.send(Message::query("SELECT pg_sleep(600)")).await;
        wait_for_sleepers(&postgres, 1).await;
        let running = [first];
        let second = heir(&setup, &running).await;
        eventually_async("the idle client to go over", async || {
            let console = second.console().await;
            let clients = console.show("CLIENTS").await;
            clients.iter().any(|row| row.get("database") == Some("app"))
        })
        .await;
        idle.send(Message::query("SELECT pg_sleep(600)")).await;
        wait_for_sleepers(&postgres, 2).await;
        idle.cancel_me().await;
        assert_eq!(idle.expect_error().await.code(), CANCELED);
        idle.read_until_ready().await;
        wait_for_sleepers(&postgres, 1).await;
        busy.cancel_me().await;
        assert_eq!(busy.expect_error().await.code(), CANCELED);
        busy.read_until_ready().await;
        let [first] = running;
        ends(first).await;
        busy.send(Message::query("SELECT pg_sleep(600)")).await;
        wait_for_sleepers(&postgres, 1).await;
        busy.cancel_me().await;
        assert_eq!(busy.expect_error().await.code(), CANCELED);
    }
}

#[tokio::test]
async fn a_client_behind_tls_stays_and_is_served_where_it_is() {
    let postgres = postgres().await;
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers)
            .set("client_tls_sslmode", "allow")
            .set("client_tls_cert_file", certificate.cert.display())
            .set("client_tls_key_file", certificate.key.display());
        let first = setup.clone().start().await;
        let mut plain = alice(&first).await;
        let tunnel = TlsTunnel::to(&first.address()).await;
        let mut hidden = FakeClient::login_trust(&tunnel.address(), "alice", "app").await;
        let running = [first];
        let second = heir(&setup, &running).await;
        for _ in 0..3 {
            assert_eq!(plain.query_value("SELECT 'plain'").await, "plain");
            assert_eq!(hidden.query_value("SELECT 'hidden'").await, "hidden");
        }
        let console = second.console().await;
        console.show_row("CLIENTS", "database", "app").await;
        let [mut first] = running;
        assert!(first.is_running());
        hidden.close().await;
        ends(first).await;
        assert_eq!(plain.query_value("SELECT 'plain'").await, "plain");
    }
}

#[tokio::test]
async fn keys_of_a_login_open_servers_in_the_new_process() {
    let verifier = scram_secret("right");
    let postgres = postgres().await;
    postgres.create_user("vera", &verifier).await;
    let setup = pgusher(1)
        .user("vera", &verifier)
        .set("pool_mode", "transaction")
        .database("app", &postgres.conn_info("app"));
    let first = setup.clone().start().await;
    let mut client = FakeClient::login_scram(&first.address(), "vera", "right", "app").await;
    let running = [first];
    let second = heir(&setup, &running).await;
    let [first] = running;
    ends(first).await;
    let pid = backend(&mut client).await;
    second.console().await.run("RECONNECT").await;
    eventually_async("another server", async || backend(&mut client).await != pid).await;
    assert!(!second.log().contains(&verifier));
}

#[tokio::test]
async fn pause_holds_in_the_new_process() {
    let postgres = postgres().await;
    let setup = before_postgres(&postgres, 1);
    let first = setup.clone().start().await;
    let mut client = alice(&first).await;
    first.console().await.run("PAUSE").await;
    client.send(Message::query("SELECT 'resumed'")).await;
    wait_for_waiting(&first, 1).await;
    let running = [first];
    let second = heir(&setup, &running).await;
    let [first] = running;
    ends(first).await;
    wait_for_waiting(&second, 1).await;
    second.console().await.run("RESUME").await;
    assert_eq!(value(&client.read_until_ready().await), "resumed");
}

#[tokio::test]
async fn who_is_logging_in_ends_its_login_where_it_began_and_then_goes_over() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers)
            .set("auth_type", "plain")
            .set("max_user_client_connections", 2);
        let mut running = vec![setup.clone().start().await];
        let mut late = Vec::new();
        for _ in 0..2 {
            let mut client = FakeClient::connect(&running[0].address()).await;
            client
                .startup(&[("user", "alice"), ("database", "app")])
                .await;
            client.read_auth(3).await;
            late.push(client);
        }
        let second = heir(&setup, &running).await;
        let _other = second.connect("alice", "secret", "app").await;
        let [mut lucky, mut luckless]: [FakeClient; 2] =
            late.try_into().unwrap_or_else(|_| unreachable!());
        lucky.send(Message::password("secret")).await;
        lucky.read_auth_ok().await;
        lucky.read_welcome().await;
        assert_eq!(lucky.query_value("SELECT 'in'").await, "in");
        luckless.send(Message::password("secret")).await;
        let told = luckless.expect_error().await;
        assert_eq!(told.text(), "client connections exceeded");
        assert!(running[0].wait_exit().await.success());
        assert_eq!(lucky.query_value("SELECT 'moved'").await, "moved");
    }
}

#[tokio::test]
async fn a_deadline_sends_nobody_away_who_can_go_over() {
    let postgres = postgres().await;
    let setup = before_postgres(&postgres, 1).set("shutdown_drain_timeout", 30);
    let mut running = vec![setup.clone().start().await];
    let mut clients = Vec::new();
    for _ in 0..60 {
        clients.push(alice(&running[0]).await);
    }
    let _next = heir(&setup, &running).await;
    assert!(running[0].wait_exit().await.success());
    for client in &mut clients {
        assert_eq!(client.query_value("SELECT 'moved'").await, "moved");
    }
}

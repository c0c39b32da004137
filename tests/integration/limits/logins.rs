//! How servers are opened: a few at once, and gently after a failure.

use testkit::{FakeClient, FakeServer, Gate, Login, Message, Pooler};

use crate::support::{WORKERS, before, clients, wait_for_waiting};

#[tokio::test]
async fn at_most_four_logins_are_under_way_at_once() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers).start().await;
        let mut clients = clients::<10>(&pooler).await;
        let door = Gate::closed();
        server.set_login(Login::Behind(door.clone()));

        clients[0].query("BEGIN").await;
        for client in &mut clients[1..] {
            client.send(Message::query("BEGIN")).await;
        }
        wait_for_waiting(&pooler, 9).await;
        door.wait_for_waiting(4).await;
        assert_eq!(server.connections().len(), 5);

        door.open();
        for client in &mut clients[1..] {
            client.read_until_ready().await;
        }
    }
}

/// Clients whose queries wait for a server that closes at every login.
async fn waiting_in_vain<const N: usize>(server: &FakeServer, pooler: &Pooler) -> [FakeClient; N] {
    let mut clients = clients::<N>(pooler).await;
    let door = Gate::closed();
    server.set_login(Login::Behind(door.clone()));
    server.connection(0).await.close();
    pooler
        .wait_for_log("closing because: server conn crashed?")
        .await;
    for client in &mut clients {
        client.send(Message::query("SELECT 'served'")).await;
    }
    wait_for_waiting(pooler, N as i64).await;
    door.wait_for_waiting(4).await;
    server.set_login(Login::Close);
    for number in 1..5 {
        server.connection(number).await.close();
    }
    pooler
        .wait_for_log_count("closing because: login failed", 4)
        .await;
    clients
}

#[tokio::test]
async fn after_a_failed_login_one_server_is_tried_at_a_time() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("server_login_retry", 20)
            .set("query_wait_notify", 3)
            .start()
            .await;
        let mut clients = waiting_in_vain::<5>(&server, &pooler).await;
        let door = Gate::closed();
        server.set_login(Login::Behind(door.clone()));

        // The notice comes well after the retry: whoever is to be at the door is there by then.
        for client in &mut clients {
            client.read_until(b'N').await;
        }
        assert_eq!(door.waiting(), 1);

        server.set_login(Login::Trust);
        door.open();
        for client in &mut clients {
            client.read_until_ready().await;
        }
    }
}

#[tokio::test]
async fn waiting_clients_are_served_once_the_server_is_back() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("server_login_retry", 20)
            .start()
            .await;
        let mut clients = waiting_in_vain::<5>(&server, &pooler).await;
        server.set_login(Login::Trust);

        for client in &mut clients {
            client.read_until_ready().await;
        }
    }
}

#[tokio::test]
async fn a_client_at_login_waits_for_a_server_that_is_not_up_yet() {
    for workers in WORKERS {
        let server = FakeServer::setup().login(Login::Close).start().await;
        let pooler = before(&server, workers)
            .set("server_login_retry", 20)
            .start()
            .await;
        let mut early = FakeClient::connect(&pooler.address()).await;
        early
            .startup(&[("user", "alice"), ("database", "app")])
            .await;
        pooler.wait_for_log("closing because: login failed").await;

        server.set_login(Login::Trust);

        early.read_auth_ok().await;
        early.read_welcome().await;
        early.query("SELECT 1").await;
    }
}

#[tokio::test]
async fn whoever_asks_after_a_failed_login_is_told_why_and_whoever_waits_is_served_later() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("server_login_retry", 20)
            .start()
            .await;
        let [mut waits, mut comes_later, mut comes_last] = clients(&pooler).await;
        server.set_login(Login::Close);
        server.connection(0).await.close();
        pooler
            .wait_for_log("closing because: server conn crashed?")
            .await;
        waits.send(Message::query("SELECT 1")).await;
        pooler.wait_for_log("closing because: login failed").await;
        wait_for_waiting(&pooler, 1).await;
        comes_later.send(Message::query("SELECT 2")).await;

        let error = comes_later.expect_error().await;
        assert!(
            error
                .text()
                .starts_with("server login has been failing, cached error: "),
            "{error}"
        );
        assert!(error.text().ends_with(" (server_login_retry)"), "{error}");
        assert_eq!(error.code(), "08P01");
        server.set_login(Login::Trust);
        waits.read_until_ready().await;
        comes_last.query("SELECT 3").await;
    }
}

#[tokio::test]
async fn a_refused_login_is_passed_on_in_the_servers_words() {
    for workers in WORKERS {
        let refuse = Login::Refuse {
            code: "3D000".into(),
            text: "database \"app\" does not exist".into(),
        };
        let server = FakeServer::setup().login(refuse).start().await;
        let pooler = before(&server, workers).start().await;
        let mut alice = FakeClient::connect(&pooler.address()).await;

        alice
            .startup(&[("user", "alice"), ("database", "app")])
            .await;

        let error = alice.expect_error().await;
        assert_eq!(
            error.to_string(),
            "FATAL 3D000: database \"app\" does not exist"
        );
        alice.expect_closed().await;
    }
}

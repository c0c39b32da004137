//! What operators order reaches replication clients, too.

use testkit::{FakeClient, Login, Message, Pooler, Signal, eventually_async};

use super::{follower, follower_to_be, last_words, let_in, pooler_with_seats};
use crate::support::{WORKERS, alice, server_of, wait_for_waiting};

/// A client in the middle of a stream, and its server's gate.
async fn streaming(pooler: &Pooler) -> FakeClient {
    let mut client = follower(pooler).await;
    client.send(Message::query("STREAM 3 10; HOLD door")).await;
    client.read_until(b'C').await;
    client
}

#[tokio::test]
async fn a_cancel_reaches_the_server_of_a_replication_client() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 2).await;
        let mut other = alice(&pooler).await;
        other.query("BEGIN").await;
        let mut client = streaming(&pooler).await;
        server.gate("door").wait_for_waiting(1).await;
        client.cancel_me().await;
        assert_eq!(client.expect_error().await.code(), "57014");
        client.read_until_ready().await;
        assert_eq!(server_of(&mut client).await, 1);
        assert_eq!(server_of(&mut other).await, 0);
    }
}

#[tokio::test]
async fn reconnect_parts_replication_from_its_server_at_once() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 3).await;
        let mut pooled = alice(&pooler).await;
        pooled.query("BEGIN").await;
        let mut clients = [follower(&pooler).await, streaming(&pooler).await];
        server.gate("door").wait_for_waiting(1).await;
        pooler.console().await.run("RECONNECT app").await;
        for client in &mut clients {
            let told = last_words(client).await;
            assert_eq!(told, "08P01 database configuration changed");
        }
        for number in [1, 2] {
            server.connection(number).await.wait_closed().await;
        }
        assert_eq!(server_of(&mut pooled).await, 0);
    }
}

#[tokio::test]
async fn kill_and_kill_client_end_replication() {
    for workers in WORKERS {
        let (_server, pooler) = pooler_with_seats(workers, 1).await;
        let console = pooler.console().await;
        let mut client = follower(&pooler).await;
        let row = console.show_row("CLIENTS", "replication", "logical").await;
        console.run(&format!("KILL_CLIENT {}", &row["id"])).await;
        assert_eq!(
            last_words(&mut client).await,
            "08P01 admin forced disconnect"
        );

        let mut client = follower(&pooler).await;
        let mut next = follower_to_be(&pooler).await;
        wait_for_waiting(&pooler, 1).await;
        let pool = console.show_row("POOLS", "database", "app").await;
        assert_eq!((&pool["cl_active"], &pool["cl_waiting"]), ("1", "1"));
        console.run("KILL app").await;
        for client in [&mut client, &mut next] {
            assert_eq!(last_words(client).await, "08P01 database removed");
        }
    }
}

#[tokio::test]
async fn pause_waits_for_replication_and_new_clients_wait_for_resume() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 2).await;
        let client = follower(&pooler).await;
        let console = pooler.console().await;
        let pausing = tokio::spawn(async move {
            console.run("PAUSE app").await;
            console
        });
        let onlooker = pooler.console().await;
        eventually_async("app to be paused", async || {
            let app = onlooker.show_row("DATABASES", "name", "app").await;
            app.number("paused") == 1
        })
        .await;
        let next = follower_to_be(&pooler).await;
        wait_for_waiting(&pooler, 1).await;
        assert!(!pausing.is_finished());
        assert_eq!(server.connections().len(), 1);

        client.close().await;
        let console = testkit::in_time("PAUSE", pausing).await.unwrap();
        assert_eq!(server.connections().len(), 1);
        console.run("RESUME app").await;
        let mut next = let_in(next).await;
        assert_eq!(server_of(&mut next).await, 1);
    }
}

#[tokio::test]
async fn a_server_that_logs_in_under_pause_is_not_kept() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 1).await;
        let door = server.gate("login");
        server.set_login(Login::Behind(door.clone()));
        let client = follower_to_be(&pooler).await;
        door.wait_for_waiting(1).await;
        let console = pooler.console().await;
        console.run("PAUSE app").await;
        door.open();
        server.connection(0).await.wait_closed().await;
        pooler.wait_for_log("closing because: pause mode").await;
        wait_for_waiting(&pooler, 1).await;
        console.run("RESUME app").await;
        let mut client = let_in(client).await;
        assert_eq!(server_of(&mut client).await, 1);
    }
}

#[tokio::test]
async fn a_shutdown_waits_for_replication_and_sends_those_in_line_away() {
    for workers in WORKERS {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            let (_server, mut pooler) = pooler_with_seats(workers, 1).await;
            let mut client = follower(&pooler).await;
            let mut next = follower_to_be(&pooler).await;
            wait_for_waiting(&pooler, 1).await;
            pooler.signal(signal);
            if signal == Signal::SIGINT {
                let told = last_words(&mut next).await;
                assert_eq!(told, "08P01 server shutting down");
            }
            pooler.wait_for_log("shutting down: ").await;
            assert_eq!(server_of(&mut client).await, 0);
            assert!(pooler.is_running());
            client.close().await;
            if signal == Signal::SIGTERM {
                let_in(next).await.close().await;
            }
            assert!(pooler.wait_exit().await.success());
        }
    }
}

#[tokio::test]
async fn idle_clients_with_servers_of_their_own_are_not_idle() {
    for workers in WORKERS {
        let (_server, pooler) = pooler_with_seats(workers, 2).await;
        pooler
            .console()
            .await
            .run("SET client_idle_timeout = 1")
            .await;
        let mut client = follower(&pooler).await;
        let mut pooled = alice(&pooler).await;
        assert_eq!(last_words(&mut pooled).await, "08P01 client_idle_timeout");
        assert_eq!(server_of(&mut client).await, 0);
    }
}

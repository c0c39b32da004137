//! Cancel requests: they stop the query they are meant for, and nothing else.

mod races;
mod toll;

use std::collections::HashSet;

use testkit::{
    Ask, CancelKey, FakeClient, FakeServer, Gate, Message, Pooler, Startup, Step, Tx, eventually,
    eventually_async, in_time,
};
use tokio::task::JoinSet;

use self::toll::Toll;
use crate::support::{
    WORKERS, alice, before, before_postgres, postgres, servers_opened, trusting, wait_for_sleepers,
    wait_for_waiting,
};

const CANCELED: &str = "57014";

/// A client whose query waits at the gate of this name.
async fn hold(server: &FakeServer, pooler: &Pooler, gate: &str) -> FakeClient {
    let mut client = alice(pooler).await;
    client.send(Message::query(&format!("HOLD {gate}"))).await;
    server.gate(gate).wait_for_waiting(1).await;
    client
}

#[tokio::test]
async fn a_running_query_is_cancelled_whichever_worker_hears_of_it() {
    const CLIENTS: usize = 6;
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", CLIENTS)
            .start()
            .await;
        let mut sleepers = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = alice(&pooler).await;
            client.send(Message::query("SELECT pg_sleep(60)")).await;
            sleepers.push(client);
        }
        wait_for_sleepers(&postgres, 6).await;

        for mut client in sleepers {
            client.cancel_me().await;
            assert_eq!(client.expect_error().await.code(), CANCELED);
            client.read_until_ready().await;
            assert_eq!(client.query_value("SELECT 'on'").await, "on");
        }
        assert_eq!(servers_opened(&pooler).await, CLIENTS);
    }
}

#[tokio::test]
async fn a_cancelled_transaction_has_failed_and_goes_on() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        client.query("BEGIN").await;
        client.send(Message::query("SELECT pg_sleep(60)")).await;
        wait_for_sleepers(&postgres, 1).await;
        client.cancel_me().await;
        assert_eq!(client.expect_error().await.code(), CANCELED);
        assert_eq!(client.read().await, Message::ready(Tx::Failed));
        assert_eq!(
            client.query("ROLLBACK").await.last(),
            Some(&Message::ready(Tx::Idle))
        );
    }
}

#[tokio::test]
async fn a_cancel_request_may_ask_for_encryption_first_and_come_over_a_unix_socket() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = hold(&server, &pooler, "door").await;

        let mut carrier = FakeClient::connect(&pooler.unix_address()).await;
        carrier.send_raw(&Startup::Tls.encode()).await;
        assert_eq!(carrier.read_byte().await, Some(b'N'));
        let request = Startup::Cancel(client.cancel_key().clone());
        carrier.send_raw(&request.encode()).await;
        assert_eq!(carrier.expect_closed().await, []);
        assert_eq!(client.expect_error().await.code(), CANCELED);
    }
}

#[tokio::test]
async fn who_runs_nothing_cannot_be_cancelled() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 2)
            .start()
            .await;
        let (idle, gone) = (alice(&pooler).await, alice(&pooler).await);
        let key_of_gone = gone.cancel_key().clone();
        gone.close().await;
        pooler.wait_for_log("client close request").await;
        let mut busy = hold(&server, &pooler, "door").await;

        let unknown = CancelKey {
            pid: 1,
            secret: b"none".to_vec(),
        };
        let of_a_server = server.connection(0).await.key.clone();
        for key in [idle.cancel_key().clone(), key_of_gone, unknown, of_a_server] {
            FakeClient::cancel(&pooler.address(), &key).await;
        }
        assert_eq!(server.cancels(), []);
        server.gate("door").open();
        let answer = busy.read_until_ready().await;
        assert_eq!(answer[0].command_tag().as_deref(), Some("HOLD"));
    }
}

#[tokio::test]
async fn every_session_has_a_key_of_its_own_and_never_the_servers() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 5)
            .set("pool_mode", "session")
            .start()
            .await;
        let mut clients = Vec::new();
        for _ in 0..5 {
            let mut client = alice(&pooler).await;
            client.query("SELECT 'mine'").await;
            clients.push(client);
        }
        let keys = clients.iter().map(FakeClient::cancel_key);
        let mut seen: HashSet<(u32, Vec<u8>)> = HashSet::new();
        for key in keys {
            assert_eq!(key.pid >> 31, 0, "a process id is positive");
            assert!(seen.insert((key.pid, key.secret.clone())), "{key:?} twice");
        }
        for connection in server.connections() {
            let CancelKey { pid, secret } = connection.key.clone();
            assert!(seen.insert((pid, secret)), "a server's key was told");
        }
    }
}

#[tokio::test]
async fn a_cancel_while_waiting_in_line_does_no_harm() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut first = hold(&server, &pooler, "door").await;
        let mut waiting = alice(&pooler).await;
        waiting.send(Message::query("SELECT 'served'")).await;
        wait_for_waiting(&pooler, 1).await;

        waiting.cancel_me().await;
        server.gate("door").open();
        let answer = waiting.read_until_ready().await;
        assert_eq!(answer[1].values(), Some(vec![Some("served".into())]));
        assert_eq!(first.read_until_ready().await.len(), 2);
        assert_eq!(server.cancels(), []);
    }
}

#[tokio::test]
async fn a_cancel_while_parameters_are_set_does_no_harm() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let door = gate.clone();
        let server = FakeServer::setup()
            .answer(move |ask: Ask| {
                let held = ask.sql.starts_with("SET ").then(|| {
                    let done = Step::Send(Message::command_complete("SET"));
                    vec![Step::Wait(door.clone()), done]
                });
                async { held }
            })
            .start()
            .await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = FakeClient::connect(&pooler.address()).await;
        let who = [
            ("user", "alice"),
            ("database", "app"),
            ("timezone", "Asia/Tokyo"),
        ];
        client.startup(&who).await;
        client.read_auth_ok().await;
        client.read_welcome().await;
        client.send(Message::query("SELECT 'asked'")).await;
        gate.wait_for_waiting(1).await;

        client.cancel_me().await;
        gate.open();
        let answer = client.read_until_ready().await;
        let row = answer.iter().find_map(Message::values);
        assert_eq!(row, Some(vec![Some("asked".into())]));
        assert_eq!(server.cancels(), []);
    }
}

#[tokio::test]
async fn a_server_is_not_lent_again_before_its_cancel_has_landed() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let toll = Toll::before(&server).await;
        let pooler = trusting(workers)
            .database("app", &toll.conn_info("app"))
            .set("default_pool_size", 1)
            .start()
            .await;
        let console = pooler.console().await;
        let mut first = hold(&server, &pooler, "first").await;
        let mut next = alice(&pooler).await;
        let cancel = tokio::spawn(cancel(&pooler, &first));
        toll.gate.wait_for_waiting(1).await;

        // The query ends by itself while its cancel is on the way.
        server.gate("first").open();
        first.read_until_ready().await;
        next.send(Message::query("HOLD next")).await;
        wait_for_waiting(&pooler, 1).await;
        let pools = console.pool("app", "alice").await;
        assert_eq!(pools.number("sv_being_canceled"), 1);
        assert_eq!(pools.number("sv_active_cancel"), 1);

        toll.gate.open();
        in_time("the cancel", cancel).await.unwrap();
        server.gate("next").wait_for_waiting(1).await;
        assert_eq!(server.cancels(), [server.connection(0).await.key.clone()]);
        server.gate("next").open();
        let answer = next.read_until_ready().await;
        assert_eq!(answer[0].command_tag().as_deref(), Some("HOLD"));
    }
}

#[tokio::test]
async fn a_server_whose_cancel_never_lands_serves_nobody_else() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let toll = Toll::before(&server).await;
        let pooler = trusting(workers)
            .database("app", &toll.conn_info("app"))
            .set("default_pool_size", 1)
            .set("server_connect_timeout", 1)
            .start()
            .await;
        let mut first = hold(&server, &pooler, "first").await;
        let mut next = alice(&pooler).await;
        let cancel = tokio::spawn(cancel(&pooler, &first));
        toll.gate.wait_for_waiting(1).await;
        server.gate("first").open();
        first.read_until_ready().await;
        next.send(Message::query("HOLD next")).await;
        pooler
            .wait_for_log("closing because: cancel request gone astray")
            .await;
        server.gate("next").wait_for_waiting(1).await;

        // However late it comes, it finds nobody.
        toll.gate.open();
        in_time("the cancel", cancel).await.unwrap();
        eventually("the cancel to land", || !server.cancels().is_empty()).await;
        assert_eq!(server.cancels(), [server.connection(0).await.key.clone()]);
        server.gate("next").open();
        let answer = next.read_until_ready().await;
        assert_eq!(answer[0].command_tag().as_deref(), Some("HOLD"));
    }
}

/// Sends a client's cancel request, when polled.
fn cancel(pooler: &Pooler, client: &FakeClient) -> impl Future<Output = ()> + use<> {
    let (address, key) = (pooler.address(), client.cancel_key().clone());
    async move { FakeClient::cancel(&address, &key).await }
}

#[tokio::test]
async fn a_cancel_that_waits_for_its_turn_too_long_is_given_up() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let toll = Toll::before(&server).await;
        let mut pooler = trusting(workers)
            .database("app", &toll.conn_info("app"))
            .set("default_pool_size", 1)
            .start()
            .await;
        pooler
            .reload(|setup| setup.set("cancel_wait_timeout", 1))
            .await;
        let mut client = hold(&server, &pooler, "door").await;
        // Twice the pool's size are on their way at most.
        let mut under_way = JoinSet::new();
        under_way.spawn(cancel(&pooler, &client));
        under_way.spawn(cancel(&pooler, &client));
        toll.gate.wait_for_waiting(2).await;

        client.cancel_me().await;
        pooler
            .wait_for_log("closing because: cancel_wait_timeout")
            .await;
        assert_eq!(toll.gate.waiting(), 2);
        assert_eq!(server.cancels(), []);
        toll.gate.open();
        in_time("the cancels", under_way.join_all()).await;
        assert_eq!(client.expect_error().await.code(), CANCELED);
        assert_eq!(server.cancels().len(), 2);
    }
}

#[tokio::test]
async fn a_cancel_whose_turn_comes_too_late_hits_nobody() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let toll = Toll::before(&server).await;
        let pooler = trusting(workers)
            .database("app", &toll.conn_info("app"))
            .set("default_pool_size", 2)
            .start()
            .await;
        let console = pooler.console().await;
        let mut other = alice(&pooler).await;
        let mut stopped = hold(&server, &pooler, "stopped").await;
        for by_itself in [false, true] {
            let mut asker = hold(&server, &pooler, "asker").await;
            toll.gate.close();
            let mut in_front = JoinSet::new();
            for _ in 0..4 {
                in_front.spawn(cancel(&pooler, &stopped));
            }
            toll.gate.wait_for_waiting(4).await;
            let too_late = tokio::spawn(cancel(&pooler, &asker));
            eventually_async("a cancel request in line", async || {
                let pool = console.pool("app", "alice").await;
                pool.number("cl_waiting_cancel_req") == 1
            })
            .await;

            // Its server has another lease before its turn comes, perhaps its own next one.
            server.gate("asker").open();
            asker.read_until_ready().await;
            server.gate("asker").close();
            let successor = if by_itself { &mut asker } else { &mut other };
            successor.send(Message::query("HOLD successor")).await;
            server.gate("successor").wait_for_waiting(1).await;
            toll.gate.open();
            in_time("the cancel", too_late).await.unwrap();
            in_time("those in front", in_front.join_all()).await;
            server.gate("successor").open();
            let answer = successor.read_until_ready().await;
            assert_eq!(answer[0].command_tag().as_deref(), Some("HOLD"));
            server.gate("successor").close();

            assert_eq!(stopped.expect_error().await.code(), CANCELED);
            stopped.read_until_ready().await;
            stopped.send(Message::query("HOLD stopped")).await;
            server.gate("stopped").wait_for_waiting(1).await;
        }
    }
}

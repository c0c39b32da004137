//! Shutdowns with a deadline, and listeners that stay open for a while.

use std::time::{Duration, Instant};

use testkit::{FakeClient, FakeServer, Message, Pooler, Signal, in_time, startup_packet};
use tokio::task::JoinSet;

use super::{FOR_CLIENTS, Told, tell};
use crate::support::{
    Stay, Tills, Trouble, WORKERS, before, before_postgres, client, clients, postgres, words,
};

const GO: &str = "FATAL 57P01 terminating connection due to administrator command";

#[tokio::test]
async fn idle_clients_are_sent_away_one_after_the_other_and_others_finish_their_transaction() {
    let postgres = postgres().await;
    let scene = async |workers| {
        let setup = before_postgres(&postgres, workers).set("shutdown_drain_timeout", 8);
        leave_evenly(setup.start().await).await;
    };
    let [one, three] = WORKERS;
    tokio::join!(scene(one), scene(three));
}

async fn leave_evenly(mut pooler: Pooler) {
    let mut busy = client(&pooler, "alice").await;
    busy.query("BEGIN").await;
    let mut idle = JoinSet::new();
    for _ in 0..12 {
        let mut client = client(&pooler, "alice").await;
        client.query("SELECT 1").await;
        idle.spawn(async move {
            assert_eq!(words(&client.expect_error().await), GO);
            assert!(client.expect_closed().await.is_empty());
            Instant::now()
        });
    }
    let begun = Instant::now();
    tell(&mut pooler, Told::By(Signal::SIGTERM)).await;

    let mut told = idle.join_all().await;
    told.sort();
    let spread = *told.last().unwrap() - told[0];
    assert!(spread > Duration::from_secs(1), "{spread:?}");
    assert!(begun.elapsed() < Duration::from_secs(6));
    assert_eq!(busy.query_value("SELECT 'at work'").await, "at work");
    busy.query("COMMIT").await;
    assert_eq!(words(&busy.expect_error().await), GO);
    assert!(pooler.wait_exit().await.success());
    assert!(begun.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn by_the_deadline_it_is_over_whoever_is_still_there() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = before(&fake, workers)
            .set("shutdown_drain_timeout", 2)
            .start()
            .await;
        let mut in_transaction = client(&pooler, "alice").await;
        in_transaction.query("BEGIN").await;
        let mut busy = client(&pooler, "alice").await;
        busy.send(Message::query("HOLD till")).await;
        fake.gate("till").wait_for_waiting(1).await;

        let begun = Instant::now();
        tell(&mut pooler, FOR_CLIENTS[0]).await;
        for client in [&mut in_transaction, &mut busy] {
            assert_eq!(words(&client.expect_error().await), GO);
        }
        pooler
            .wait_for_log("shutting down: 2 clients did not leave in time")
            .await;
        assert!(pooler.wait_exit().await.success());
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        fake.wait_for_logged_in(0).await;
    }
}

#[tokio::test]
async fn in_session_mode_too_clients_go_between_two_transactions() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = before(&fake, workers)
            .set("pool_mode", "session")
            .set("shutdown_drain_timeout", 4)
            .start()
            .await;
        let [mut idle, mut busy, mut halfway] = clients(&pooler).await;
        idle.query("SELECT 1").await;
        busy.query("BEGIN").await;
        halfway.query("SELECT 1").await;
        // What was begun is awaited.
        halfway.send_raw(b"Q\0\0").await;
        tell(&mut pooler, FOR_CLIENTS[0]).await;
        assert_eq!(words(&idle.expect_error().await), GO);
        busy.query("COMMIT").await;
        halfway.send_raw(b"\0\x0dSELECT 1\0").await;
        halfway.read_until_ready().await;
        for client in [&mut busy, &mut halfway] {
            assert_eq!(words(&client.expect_error().await), GO);
        }
        assert!(pooler.wait_exit().await.success());
    }
}

#[tokio::test]
async fn whoever_the_kernel_has_accepted_finishes_the_login() {
    for workers in WORKERS {
        for patience in [0, 10] {
            let fake = FakeServer::start().await;
            let mut pooler = before(&fake, workers)
                .set("shutdown_drain_timeout", patience)
                .start()
                .await;
            let mut newcomers = Vec::new();
            for _ in 0..10 {
                newcomers.push(FakeClient::connect(&pooler.address()).await);
            }
            pooler.signal(Signal::SIGTERM);
            pooler.wait_for_log("shutting down: ").await;
            for client in &mut newcomers {
                client
                    .startup(&[("user", "alice"), ("database", "app")])
                    .await;
                client.read_until_ready().await;
                client.query("SELECT 1").await;
            }
            drop(newcomers);
            assert!(pooler.wait_exit().await.success());
        }
    }
}

#[tokio::test]
async fn with_a_listen_delay_clients_come_in_until_it_is_over() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = before(&fake, workers)
            .set("shutdown_listen_delay", 2)
            .start()
            .await;
        let begun = Instant::now();
        pooler.signal(Signal::SIGTERM);
        pooler.wait_for_log("shutting down: ").await;
        let startup = startup_packet(&[("user", "alice"), ("database", "app")]);
        let mut last = None;
        while let Ok(mut client) = FakeClient::try_connect(&pooler.address()).await {
            // Whether it can still be sent shows in what comes back.
            let _ = client.try_send_raw(&startup).await;
            let mut heard = Vec::new();
            while let Some(message) = client.try_read().await {
                heard.push(message.tag);
                if message.tag == b'Z' {
                    break;
                }
            }
            if heard.is_empty() {
                // It came after the last look and before the close. It is the only one.
                let next = FakeClient::try_connect(&pooler.address()).await;
                assert!(next.is_err(), "turned away while others are let in");
                break;
            }
            assert_eq!(heard.last(), Some(&b'Z'));
            last = Some(client);
        }
        assert!(begun.elapsed() > Duration::from_secs(1));
        last.unwrap().query("SELECT 1").await;
        assert!(in_time("the end", pooler.wait_exit()).await.success());
    }
}

#[tokio::test]
async fn no_sale_is_lost_however_busy_the_tills_are() {
    let postgres = postgres().await;
    Tills::prepare(&postgres).await;
    for workers in WORKERS {
        for stay in [Stay::OneSale, Stay::Long] {
            let mut pooler = before_postgres(&postgres, workers)
                .set("default_pool_size", 3)
                .set("shutdown_drain_timeout", 2)
                .start()
                .await;
            let tills = Tills::open(10, &pooler.address(), stay);
            tills.sell(100).await;
            pooler.signal(Signal::SIGTERM);
            assert!(pooler.wait_exit().await.success());
            for trouble in tills.close(&postgres).await {
                let known = match &trouble {
                    Trouble::Refused => true,
                    Trouble::Dismissed(told) => stay == Stay::Long && told == GO,
                    Trouble::Login(_) | Trouble::Sale(_) => false,
                };
                assert!(known, "{stay:?} {trouble:?}");
            }
            assert_eq!(pooler.log_count("did not leave in time"), 0);
        }
    }
}

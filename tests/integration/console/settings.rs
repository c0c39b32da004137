//! SET takes effect at once, and is for administrators.

use testkit::{FakeServer, eventually_async};

use super::{alice, asks, shop};
use crate::support::{WORKERS, outcome, pgusher, refusal};

#[tokio::test]
async fn a_larger_pool_serves_those_who_wait_at_once() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake)
            .set("default_pool_size", 1)
            .start()
            .await;
        let console = pooler.console().await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(asks(alice(&pooler).await, "HOLD till"));
        }
        let till = fake.gate("till");
        eventually_async("two clients in line", async || {
            console.pool("shop", "alice").await.number("cl_waiting") == 2
        })
        .await;
        console.run("SET default_pool_size = 3").await;
        till.wait_for_waiting(3).await;
        till.open();
        for client in held {
            client.await.unwrap().1.unwrap();
        }
        console.run("SET default_pool_size TO '1'").await;
        fake.wait_for_logged_in(1).await;
        assert_eq!(console.setting("default_pool_size").await, "1");
    }
}

#[tokio::test]
async fn a_changed_pool_mode_holds_from_the_next_transaction_on() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake)
            .set("default_pool_size", 1)
            .start()
            .await;
        let console = pooler.console().await;
        let [first, second] = [alice(&pooler).await, alice(&pooler).await];
        first.simple_query("SELECT 1").await.unwrap();
        second.simple_query("SELECT 1").await.unwrap();

        console.run("SET pool_mode = session").await;
        let pool = async || console.pool("shop", "alice").await;
        assert_eq!(&pool().await["pool_mode"], "session");
        first.simple_query("SELECT 1").await.unwrap();
        assert_eq!(pool().await.number("sv_active"), 1);
        let second = asks(second, "SELECT 1");
        eventually_async("the second client in line", async || {
            pool().await.number("cl_waiting") == 1
        })
        .await;

        console.run("SET pool_mode = statement").await;
        first.simple_query("SELECT 1").await.unwrap();
        let (second, answer) = second.await.unwrap();
        answer.unwrap();
        let told = second.simple_query("BEGIN").await.unwrap_err();
        assert_eq!(
            refusal(&told),
            "FATAL 08P01 transaction blocks not allowed in statement pooling mode"
        );
    }
}

#[tokio::test]
async fn a_shorter_query_wait_timeout_ends_waits_that_are_longer_already() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake)
            .set("default_pool_size", 1)
            .start()
            .await;
        let console = pooler.console().await;
        let _held = asks(alice(&pooler).await, "HOLD till");
        fake.gate("till").wait_for_waiting(1).await;
        let waiting = asks(alice(&pooler).await, "SELECT 1");
        eventually_async("a client in line", async || {
            console.pool("shop", "alice").await.number("cl_waiting") == 1
        })
        .await;
        console.run("SET query_wait_timeout = '0.1'").await;
        let told = waiting.await.unwrap().1.unwrap_err();
        assert_eq!(refusal(&told), "FATAL 08P01 query_wait_timeout");
    }
}

#[tokio::test]
async fn who_may_do_what_changes_at_once() {
    for workers in WORKERS {
        let pooler = pgusher(workers).user("vera", "v").start().await;
        let console = pooler.console().await;
        let not_allowed = "FATAL 08P01 not allowed";
        assert_eq!(
            outcome(&pooler, "vera", "v", "pgbouncer").await,
            not_allowed
        );

        console.run("SET stats_users = 'vera, mary'").await;
        let vera = pooler.connect("vera", "v", "pgbouncer").await;
        for command in [
            "SHOW POOLS",
            "SHOW CONFIG",
            "SHOW STATS",
            "SHOW HELP",
            "SHOW VERSION",
            "SET extra_float_digits = 3",
            "SHOW client_encoding",
        ] {
            vera.simple_query(command).await.unwrap();
        }
        for command in [
            "SET default_pool_size = 1",
            "RELOAD",
            "PAUSE",
            "PAUSE shop",
            "RESUME",
            "KILL",
            "KILL_CLIENT 1",
            "DISABLE shop",
            "ENABLE shop",
            "RECONNECT",
            "WAIT_CLOSE",
            "SHUTDOWN",
            "SHUTDOWN WAIT_FOR_CLIENTS",
            "DISABLE",
            "KILL_CLIENT",
        ] {
            let told = vera.simple_query(command).await.unwrap_err();
            assert_eq!(
                refusal(&told),
                "ERROR 08P01 admin access needed",
                "{command}"
            );
        }

        console.run("SET admin_users = 'testkit_admin,vera'").await;
        let vera = pooler.connect("vera", "v", "pgbouncer").await;
        vera.simple_query("SET stats_users = ''").await.unwrap();
        vera.simple_query("SET admin_users = 'vera'").await.unwrap();
        let told = outcome(&pooler, "testkit_admin", "testkit_admin", "pgbouncer").await;
        assert_eq!(told, not_allowed);
    }
}

#[tokio::test]
async fn a_set_that_makes_no_sense_changes_nothing() {
    let pooler = pgusher(1).start().await;
    let console = pooler.console().await;
    let before = console.show("CONFIG").await;
    for command in [
        "SET no_such_key = 1",
        "SET default_pool_size = many",
        "SET default_pool_size = '-1'",
        "SET pool_mode = transactional",
        "SET auth_type = hba",
    ] {
        let told = console.try_run(command).await.unwrap_err();
        assert_eq!(refusal(&told), "ERROR 08P01 SET failed", "{command}");
    }
    // What only a restart changes is accepted, and rests.
    console.run("SET listen_port = 1").await;
    console.run("SET workers = 3").await;
    assert_eq!(console.show("CONFIG").await, before);
}

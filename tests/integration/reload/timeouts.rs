//! Timeouts that come with RELOAD hold for what is under way already.

use testkit::{FakeClient, FakeServer, Message, Pooler, PoolerSetup};

use crate::support::{WORKERS, before, client, clients, wait_for_waiting, words};

async fn set(pooler: &mut Pooler, settings: &[(&str, u32)]) {
    let put = |setup: PoolerSetup, (key, value): &(&str, u32)| setup.set(key, value);
    pooler
        .reload(|setup| settings.iter().fold(setup, put))
        .await;
}

#[tokio::test]
async fn clients_and_servers_that_are_idle_already_are_timed_out() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = before(&fake, workers).start().await;
        let mut in_transaction = client(&pooler, "bob").await;
        in_transaction.query("BEGIN").await;
        let mut idle = client(&pooler, "alice").await;
        idle.query("SELECT 1").await;
        let mut at_login = FakeClient::connect(&pooler.address()).await;
        at_login.send_raw(&[0]).await;
        fake.wait_for_logged_in(2).await;
        let timeouts = [
            ("client_idle_timeout", 1),
            ("client_login_timeout", 1),
            ("idle_transaction_timeout", 1),
            ("server_idle_timeout", 1),
        ];
        set(&mut pooler, &timeouts).await;
        for (client, told) in [
            (&mut in_transaction, "idle transaction timeout"),
            (&mut idle, "client_idle_timeout"),
            (&mut at_login, "client_login_timeout"),
        ] {
            let expected = format!("FATAL 08P01 {told}");
            assert_eq!(words(&client.expect_error().await), expected);
        }
        fake.wait_for_logged_in(0).await;
    }
}

#[tokio::test]
async fn queries_and_transactions_that_run_already_are_timed_out() {
    for workers in WORKERS {
        for (key, told) in [
            ("query_timeout", "query timeout"),
            ("transaction_timeout", "transaction timeout"),
        ] {
            let fake = FakeServer::start().await;
            let mut pooler = before(&fake, workers).start().await;
            let mut busy = client(&pooler, "alice").await;
            busy.query("BEGIN").await;
            busy.send(Message::query("HOLD till")).await;
            fake.gate("till").wait_for_waiting(1).await;
            set(&mut pooler, &[(key, 1)]).await;
            let expected = format!("FATAL 08P01 {told}");
            assert_eq!(words(&busy.expect_error().await), expected);
        }
    }
}

#[tokio::test]
async fn whoever_waits_already_is_told_so_and_timed_out() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let setup = before(&fake, workers).set("default_pool_size", 1);
        let mut pooler = setup.set("query_wait_notify", 0).start().await;
        let [mut holder, mut in_line] = clients(&pooler).await;
        holder.query("BEGIN").await;
        in_line.send(Message::query("SELECT 1")).await;
        wait_for_waiting(&pooler, 1).await;
        set(&mut pooler, &[("query_wait_notify", 1)]).await;
        assert_eq!(in_line.read().await.tag, b'N');
        set(&mut pooler, &[("query_wait_timeout", 1)]).await;
        let told = words(&in_line.expect_error().await);
        assert_eq!(told, "FATAL 08P01 query_wait_timeout");
        // The reserve, too, is for those who wait already.
        let mut next = client(&pooler, "alice").await;
        set(&mut pooler, &[("query_wait_timeout", 120)]).await;
        next.send(Message::query("SELECT 1")).await;
        wait_for_waiting(&pooler, 1).await;
        set(
            &mut pooler,
            &[("reserve_pool_size", 1), ("reserve_pool_timeout", 1)],
        )
        .await;
        next.read_until_ready().await;
        holder.query("COMMIT").await;
    }
}

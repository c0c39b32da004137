//! Timeouts that come with RELOAD hold for what is under way already.

use testkit::{
    FakeClient, FakeServer, Gate, Login, Message, Pooler, PoolerSetup, Signal, eventually_async,
};

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

#[tokio::test]
async fn whoever_waits_at_login_already_is_timed_out() {
    for workers in WORKERS {
        let fake = FakeServer::setup().login(Login::Behind(Gate::closed()));
        let fake = fake.start().await;
        let mut pooler = before(&fake, workers).start().await;
        let replicates = ("replication", "database");
        let mut clients = Vec::new();
        for (place, own) in [vec![], vec![replicates]].into_iter().enumerate() {
            let mut client = FakeClient::connect(&pooler.address()).await;
            let who = vec![("user", "alice"), ("database", "app")];
            client.startup(&[who, own].concat()).await;
            wait_for_waiting(&pooler, place as i64 + 1).await;
            clients.push(client);
        }
        set(&mut pooler, &[("query_wait_timeout", 1)]).await;
        for client in &mut clients {
            let told = words(&client.expect_error().await);
            assert_eq!(told, "FATAL 08P01 query_wait_timeout");
        }
    }
}

#[tokio::test]
async fn databases_and_pools_that_nobody_uses_already_are_forgotten() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let star = format!("host=127.0.0.1 port={}", fake.port());
        let mut pooler = before(&fake, workers).database("*", &star).start().await;
        for database in ["app", "auto"] {
            let address = pooler.address();
            let client = FakeClient::login_trust(&address, "alice", database).await;
            client.close().await;
        }
        let limits = [("autodb_idle_timeout", 1), ("server_idle_timeout", 1)];
        set(&mut pooler, &limits).await;
        pooler.wait_for_log("cleaning up idle pool: db=auto").await;
        assert_eq!(pooler.log_count("cleaning up idle pool: app"), 0);
        set(&mut pooler, &[("pool_idle_timeout", 1)]).await;
        pooler
            .wait_for_log("cleaning up idle pool: app/alice")
            .await;
    }
}

#[tokio::test]
async fn logins_to_servers_are_given_up_as_the_reload_says() {
    for workers in WORKERS {
        let fake = FakeServer::setup().login(Login::Behind(Gate::closed()));
        let fake = fake.start().await;
        let setup = before(&fake, workers).set("server_login_retry", 100);
        let mut pooler = setup.start().await;
        set(&mut pooler, &[("server_connect_timeout", 1)]).await;
        let mut in_line = FakeClient::connect(&pooler.address()).await;
        in_line
            .startup(&[("user", "alice"), ("database", "app")])
            .await;
        pooler
            .wait_for_log("closing because: connect timeout")
            .await;
        // Who waits already need not wait that long, either.
        set(&mut pooler, &[("server_login_retry", 1)]).await;
        let told = words(&in_line.expect_error().await);
        let failing = "FATAL 08P01 server login has been failing, cached error: connect timeout";
        assert!(told.starts_with(failing), "{told}");
    }
}

#[tokio::test]
async fn a_suspend_that_waits_already_drops_whoever_is_not_still() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let setup = before(&fake, workers).set("suspend_timeout", 1000);
        let mut pooler = setup.start().await;
        let [operator, console] = [pooler.console().await, pooler.console().await];
        let mut halfway = client(&pooler, "alice").await;
        halfway.send_raw(b"Q\0\0").await;
        eventually_async("the half of the message", async || {
            !console.show("ACTIVE_SOCKETS").await.is_empty()
        })
        .await;
        let suspend = tokio::spawn(async move { operator.run("SUSPEND").await });
        pooler.wait_for_log("SUSPEND command issued").await;
        pooler.rewrite(|setup| setup.set("suspend_timeout", 1));
        console.run("RELOAD").await;
        let told = words(&halfway.expect_error().await);
        assert_eq!(told, "FATAL 08P01 suspend_timeout");
        suspend.await.unwrap();
    }
}

#[tokio::test]
async fn a_shutdown_takes_the_time_that_the_reload_says() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = before(&fake, workers).start().await;
        set(&mut pooler, &[("shutdown_listen_delay", 1000)]).await;
        pooler.signal(Signal::SIGTERM);
        pooler
            .wait_for_log("shutting down: waiting for clients to leave")
            .await;
        // The doors are open still.
        client(&pooler, "alice").await.query("SELECT 1").await;

        let mut pooler = before(&fake, workers).start().await;
        set(&mut pooler, &[("shutdown_drain_timeout", 1)]).await;
        let mut idle = client(&pooler, "alice").await;
        pooler.signal(Signal::SIGTERM);
        let told = words(&idle.expect_error().await);
        let go = "FATAL 57P01 terminating connection due to administrator command";
        assert_eq!(told, go);
        assert!(pooler.wait_exit().await.success());
    }
}

#[tokio::test]
async fn a_users_own_timeouts_hold_for_what_is_under_way() {
    for (said, told) in [
        ("client_idle_timeout=1", "client_idle_timeout"),
        ("idle_transaction_timeout=1", "idle transaction timeout"),
        ("query_timeout=1", "query timeout"),
        ("query_wait_timeout=1", "query_wait_timeout"),
        ("transaction_timeout=1", "transaction timeout"),
    ] {
        let fake = FakeServer::start().await;
        let conn_info = fake.conn_info("app") + " user=carol pool_size=1";
        let setup = before(&fake, 3).database("app", &conn_info);
        let mut pooler = setup.start().await;
        let mut victim = client(&pooler, "alice").await;
        let mut holder = client(&pooler, "bob").await;
        match told {
            "client_idle_timeout" => {}
            "query_wait_timeout" => {
                holder.query("BEGIN").await;
                victim.send(Message::query("SELECT 1")).await;
                wait_for_waiting(&pooler, 1).await;
            }
            "idle transaction timeout" => drop(victim.query("BEGIN").await),
            _ => {
                victim.query("BEGIN").await;
                victim.send(Message::query("HOLD till")).await;
                fake.gate("till").wait_for_waiting(1).await;
            }
        }
        let section = format!("[users]\nalice = {said}\ncarol = {said}\n");
        pooler.reload(|setup| setup.section(&section)).await;
        let expected = format!("FATAL 08P01 {told}");
        assert_eq!(words(&victim.expect_error().await), expected);
    }
}

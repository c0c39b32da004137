//! Limits hold over both processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use testkit::{Authority, FakeClient, Message, Postgres, TlsTunnel, eventually_async};

use super::ends;
use crate::support::{WORKERS, alice, before_postgres, outcome, postgres};
use crate::takeover::heir;

/// The most sessions of alice's that PostgreSQL had at once.
pub(super) struct Watch {
    most: Arc<AtomicI64>,
    over: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    pub(super) async fn begin(postgres: &Postgres) -> Self {
        let (most, over) = (Arc::<AtomicI64>::default(), Arc::<AtomicBool>::default());
        let admin = postgres.admin_client().await;
        let (seen, stop) = (most.clone(), over.clone());
        let task = tokio::spawn(async move {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'alice' \
                       AND backend_type = 'client backend'";
            while !stop.load(Ordering::Relaxed) {
                let row = admin.query_one(sql, &[]).await.unwrap();
                seen.fetch_max(row.get(0), Ordering::Relaxed);
            }
        });
        Self { most, over, task }
    }

    pub(super) async fn end(self) -> i64 {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.most.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn the_processes_lend_each_other_the_only_server_of_the_pool() {
    let postgres = postgres().await;
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .set("client_tls_sslmode", "allow")
            .set("client_tls_cert_file", certificate.cert.display())
            .set("client_tls_key_file", certificate.key.display());
        let mut running = vec![setup.clone().start().await];
        let tunnel = TlsTunnel::to(&running[0].address()).await;
        let mut hidden = FakeClient::login_trust(&tunnel.address(), "alice", "app").await;
        // The second time there is one between them, which has nobody itself.
        for _ in 0..2 {
            let next = heir(&setup, &running).await;
            let mut plain = alice(&next).await;
            running.push(next);
            for _ in 0..5 {
                for client in [&mut plain, &mut hidden] {
                    client.query("BEGIN").await;
                    assert_eq!(client.query_value("SELECT 'mine'").await, "mine");
                    client.query("COMMIT").await;
                }
                // PostgreSQL takes a moment to see that one has closed.
                eventually_async("one session", async || {
                    postgres.sessions_of("alice").await == 1
                })
                .await;
            }
            // Both want it at once.
            plain.query("BEGIN").await;
            hidden.send(Message::query("SELECT 'after'")).await;
            plain.query("COMMIT").await;
            hidden.read_until_ready().await;
            plain.close().await;
        }
        hidden.close().await;
        for old in &mut running[..2] {
            assert!(old.wait_exit().await.success());
        }
    }
}

#[tokio::test]
async fn clients_of_both_processes_count() {
    let postgres = postgres().await;
    for (setting, words) in [
        (
            "max_client_conn",
            "no more connections allowed (max_client_conn)",
        ),
        (
            "max_db_client_connections",
            "client connections exceeded (max_db_client_connections)",
        ),
        (
            "max_user_client_connections",
            "client connections exceeded (max_user_client_connections)",
        ),
    ] {
        let setup = before_postgres(&postgres, 1).set(setting, 2);
        let first = setup.clone().start().await;
        let mut busy = alice(&first).await;
        busy.query("BEGIN").await;
        let running = [first];
        let second = heir(&setup, &running).await;
        let _other = alice(&second).await;
        let refused = outcome(&second, "alice", "secret", "app").await;
        assert_eq!(refused, format!("FATAL 08P01 {words}"));
        // Over there it is still one client.
        busy.query("COMMIT").await;
        let [first] = running;
        ends(first).await;
        let refused = outcome(&second, "alice", "secret", "app").await;
        assert_eq!(refused, format!("FATAL 08P01 {words}"));
        busy.close().await;
        eventually_async("room", async || {
            outcome(&second, "alice", "secret", "app").await == "in"
        })
        .await;
    }
}

#[tokio::test]
async fn whichever_process_dies_the_other_goes_on() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers).set("default_pool_size", 1);
        let first = setup.clone().start().await;
        let mut busy = alice(&first).await;
        busy.query("BEGIN").await;
        let mut running = vec![first];
        let mut second = heir(&setup, &running).await;
        // Who is let in there comes after all that the two had to say.
        let _other = alice(&second).await;
        second.signal(testkit::Signal::SIGKILL);
        let first = &mut running[0];
        first
            .wait_for_log("the process that has taken over is gone")
            .await;
        busy.query("COMMIT").await;
        assert_eq!(busy.query_value("SELECT 'alone'").await, "alone");
        busy.close().await;
        assert!(first.wait_exit().await.success());

        let first = setup.clone().start().await;
        let mut busy = alice(&first).await;
        busy.query("BEGIN").await;
        let mut running = vec![first];
        let second = heir(&setup, &running).await;
        let mut waiting = alice(&second).await;
        waiting.send(Message::query("SELECT 'alone'")).await;
        running[0].signal(testkit::Signal::SIGKILL);
        let answer = waiting.read_until_ready().await;
        assert_eq!(super::value(&answer), "alone");
    }
}

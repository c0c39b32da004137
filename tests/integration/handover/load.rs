//! Restarts under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use testkit::eventually;
use tokio_postgres::Client;

use super::limits::Watch;
use crate::support::{Stay, Tills, WORKERS, before_postgres, postgres};
use crate::takeover::heir;

/// How many processes follow the first.
const HEIRS: usize = 5;
const POOL_SIZE: i64 = 3;

/// Queries without a pause, prepared and simple, each answer looked at: any failure is a panic.
async fn ask_on(client: Client, number: usize, asked: Arc<AtomicUsize>, over: Arc<AtomicBool>) {
    let zone = format!("<+{number:02}>-{number:02}");
    let set = format!("SET TimeZone = '{zone}'");
    client.batch_execute(&set).await.unwrap();
    let sql = "SELECT $1::int4 + 1, current_setting('TimeZone')";
    let prepared = client.prepare(sql).await.unwrap();
    for round in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let row = client.query_one(&prepared, &[&round]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), round + 1);
        assert_eq!(row.get::<_, &str>(1), zone);
        let told = client.simple_query("SELECT 'simple'").await.unwrap();
        assert!(!told.is_empty());
        asked.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn five_restarts_in_a_row_under_load_cost_nobody_anything() {
    let postgres = postgres().await;
    Tills::prepare(&postgres).await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers)
            .set("auth_type", "scram-sha-256")
            .set("default_pool_size", POOL_SIZE);
        let mut running = vec![setup.clone().start().await];
        let (asked, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let mut load = tokio::task::JoinSet::new();
        for number in 1..=6 {
            let client = running[0].connect("alice", "secret", "app").await;
            load.spawn(ask_on(client, number, asked.clone(), over.clone()));
        }
        let watch = Watch::begin(&postgres).await;
        for _ in 0..HEIRS {
            let before = asked.load(Ordering::Relaxed);
            let next = heir(&setup, &running).await;
            let old = running.last_mut().unwrap();
            assert_ne!(old.pid(), next.pid());
            assert!(old.wait_exit().await.success());
            running.push(next);
            eventually("more answers", || {
                asked.load(Ordering::Relaxed) > before + 50
            })
            .await;
        }
        over.store(true, Ordering::Relaxed);
        while let Some(ended) = load.join_next().await {
            ended.unwrap();
        }
        assert!(watch.end().await <= POOL_SIZE);
    }
}

#[tokio::test]
async fn transactions_are_neither_lost_nor_done_twice_over_five_restarts() {
    let postgres = postgres().await;
    Tills::prepare(&postgres).await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers).set("default_pool_size", POOL_SIZE);
        let mut running = vec![setup.clone().start().await];
        let staying = Tills::open(6, &running[0].address(), Stay::Long);
        for _ in 0..HEIRS {
            let next = heir(&setup, &running).await;
            assert!(running.last_mut().unwrap().wait_exit().await.success());
            running.push(next);
            staying.sell(20).await;
        }
        assert_eq!(staying.close(&postgres).await, []);
    }
}

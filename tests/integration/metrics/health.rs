//! Health: for load balancers, and for whoever starts us again.

use std::process::Command;

use testkit::{FakeServer, Page, Pooler, Signal, eventually_async};

use super::told;
use crate::support::{WORKERS, alice, before};

async fn ready(pooler: &Pooler) -> (u16, serde_json::Value) {
    let page = pooler.page("/readyz").await;
    (page.status, serde_json::from_str(&page.body).unwrap())
}

/// Whether `--healthcheck` says yes, and what it says.
async fn healthcheck(pooler: &Pooler) -> (bool, String) {
    let ini = pooler.dir().join("pooler.ini");
    let asking = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgusher"));
        command.arg("--healthcheck").arg(ini).output().unwrap()
    });
    let output = asking.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

#[tokio::test]
async fn a_pooler_is_ready_until_it_drains_and_alive_to_its_end() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = told(&fake, workers).start().await;
        let mut client = alice(&pooler).await;
        client.query("BEGIN").await;
        let (status, body) = ready(&pooler).await;
        assert_eq!((status, &body["ready"]), (200, &true.into()));
        assert_eq!(healthcheck(&pooler).await, (true, String::new()));

        pooler.signal(Signal::SIGTERM);
        eventually_async("draining", async || ready(&pooler).await.0 == 503).await;
        let (_, body) = ready(&pooler).await;
        let flags = ["ready", "accepting", "draining"].map(|flag| body[flag].as_bool());
        assert_eq!(flags, [Some(false), Some(false), Some(true)]);
        assert_eq!(pooler.page("/livez").await.status, 200);
        let (healthy, said) = healthcheck(&pooler).await;
        assert!(!healthy && said.contains("not ready"), "{said}");
        client.query("COMMIT").await;
        client.close().await;
        assert!(pooler.wait_exit().await.success());
    }
}

#[tokio::test]
async fn readiness_ends_before_the_door_closes() {
    let fake = FakeServer::start().await;
    let mut pooler = told(&fake, 1)
        .set("shutdown_listen_delay", 600)
        .start()
        .await;
    let _stays = alice(&pooler).await;
    pooler.signal(Signal::SIGTERM);
    eventually_async("draining", async || ready(&pooler).await.0 == 503).await;
    // Who was sent here just before finds the door open.
    assert_eq!(alice(&pooler).await.query_value("SELECT 1").await, "1");
}

#[tokio::test]
async fn each_databases_server_is_told_to_be_up_or_down() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = told(&fake, workers)
            .database("gone", "host=127.0.0.1 port=1")
            .start()
            .await;
        let backend = async |name: &str| {
            let (status, body) = ready(&pooler).await;
            assert_eq!(status, 200);
            let databases = body["databases"].as_array().unwrap();
            let mut databases = databases.iter();
            let found = databases.find(|database| database["name"] == name);
            found.unwrap()["backend"].as_str().unwrap().to_owned()
        };
        assert_eq!(backend("app").await, "unknown");
        alice(&pooler).await.query_value("SELECT 1").await;
        let mut stranded = testkit::FakeClient::connect(&pooler.address()).await;
        stranded
            .startup(&[("user", "alice"), ("database", "gone")])
            .await;
        eventually_async("a failure", async || backend("gone").await == "down").await;
        assert_eq!(backend("app").await, "up");

        pooler.rewrite(|setup| setup.set("pool_mode", "sometimes"));
        let console = pooler.console().await;
        assert!(console.try_run("RELOAD").await.is_err());
        // What was in force goes on serving.
        let (status, body) = ready(&pooler).await;
        assert_eq!((status, &body["reload_succeeded"]), (200, &false.into()));
    }
}

#[tokio::test]
async fn without_metrics_a_healthcheck_asks_whether_clients_are_answered() {
    let fake = FakeServer::start().await;
    let mut pooler = before(&fake, 1).start().await;
    assert_eq!(healthcheck(&pooler).await, (true, String::new()));
    pooler.signal(Signal::SIGQUIT);
    pooler.wait_exit().await;
    assert!(!healthcheck(&pooler).await.0);
}

#[tokio::test]
async fn port_zero_switches_the_endpoint_off() {
    let fake = FakeServer::start().await;
    let pooler = told(&fake, 1).set("metrics_port", 0).start().await;
    alice(&pooler).await.query_value("SELECT 1").await;
    let request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    assert!(Page::try_ask(pooler.metrics_port(), request).await.is_err());
    assert_eq!(pooler.log_count("metrics at"), 0);
}

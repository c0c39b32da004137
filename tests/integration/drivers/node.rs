//! Node's drivers, on a normal day.

use std::{fs, path::Path};

use crate::programs::Script;

fn script(name: &str) -> Script {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = root.join("tests/drivers/node");
    let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
    assert!(
        read("node_modules/ready") == read("package-lock.json"),
        "drivers in JavaScript are missing or outdated: make tests/drivers/node/node_modules/ready"
    );
    Script {
        program: "node".into(),
        args: vec![dir.join(name)],
    }
}

#[tokio::test]
async fn node_postgres_shares_servers() {
    script("node_postgres.js").holds_on_three_servers().await;
}

#[tokio::test]
async fn node_postgres_shares_servers_that_forget_statements() {
    script("node_postgres.js")
        .holds_on_forgetful_servers()
        .await;
}

#[tokio::test]
async fn node_postgres_finds_in_a_session_what_it_finds_without_a_pooler() {
    let script = script("node_postgres.js");
    script.holds_directly_and_in_sessions().await;
}

#[tokio::test]
async fn postgres_js_shares_servers() {
    script("postgres_js.js").holds_on_three_servers().await;
}

#[tokio::test]
async fn postgres_js_shares_servers_that_forget_statements() {
    script("postgres_js.js").holds_on_forgetful_servers().await;
}

#[tokio::test]
async fn postgres_js_finds_in_a_session_what_it_finds_without_a_pooler() {
    let script = script("postgres_js.js");
    script.holds_directly_and_in_sessions().await;
}

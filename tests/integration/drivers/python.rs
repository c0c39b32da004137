//! Drivers in Python: all checks of their scripts in `tests/drivers` hold.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    clients::{Place, Running, for_alice},
    support::{WORKERS, postgres},
};

/// Where the scripts' clients share servers, where each keeps one, and where servers forget
/// statements all the time.
const PLACES: [Pooled; 3] = [
    Pooled {
        mode: "transaction",
        servers: 3,
        statements: 200,
    },
    Pooled {
        mode: "transaction",
        servers: 3,
        statements: 2,
    },
    // More than the clients of a script at its fullest.
    Pooled {
        mode: "session",
        servers: 30,
        statements: 200,
    },
];

#[derive(Debug)]
struct Pooled {
    mode: &'static str,
    servers: u32,
    statements: u32,
}

async fn all_checks_hold(script: &str) {
    let python = python();
    let script = root().join("tests/drivers").join(script);
    let postgres = postgres().await;
    for pooled in PLACES {
        for workers in WORKERS {
            let pooler = for_alice(workers, pooled.mode, pooled.servers, &postgres)
                .set("max_prepared_statements", pooled.statements)
                .start()
                .await;
            let dsn = format!("postgresql://alice:secret@127.0.0.1:{}/app", pooler.port());
            let servers = pooled.servers.to_string();
            let args = ["-B", script.to_str().unwrap(), &dsn, &servers];
            let running = Running::start(&python, &Place::tcp(pooler.port()), &args);
            let said = running.end().await;
            assert!(
                said.status.success() && said.out.contains("checks held"),
                "{pooled:?}, {workers} workers: {}\n{}{}",
                said.status,
                said.out,
                said.err
            );
        }
    }
}

/// The interpreter that has the drivers, at the versions that are asked for.
fn python() -> PathBuf {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_default();
    assert_eq!(
        read(".venv/ready"),
        read("tests/drivers/requirements.txt"),
        "the drivers in Python are missing or outdated: make .venv/ready"
    );
    root().join(".venv/bin/python")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn psycopg2_finds_nothing_missing() {
    all_checks_hold("psycopg2_client.py").await;
}

#[tokio::test]
async fn psycopg_finds_nothing_missing() {
    all_checks_hold("psycopg_client.py").await;
}

#[tokio::test]
async fn asyncpg_finds_nothing_missing() {
    all_checks_hold("asyncpg_client.py").await;
}

#[tokio::test]
async fn sqlalchemy_finds_nothing_missing() {
    all_checks_hold("sqlalchemy_client.py").await;
}

#[tokio::test]
async fn alembic_goes_up_and_down() {
    all_checks_hold("alembic_client.py").await;
}

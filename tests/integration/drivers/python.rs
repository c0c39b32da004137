//! Drivers in Python: all checks of their scripts in `tests/drivers` hold.

use std::{
    fs,
    path::{Path, PathBuf},
};

use testkit::Postgres;

use crate::{
    programs::{Place, Running, for_alice},
    support::{WORKERS, postgres},
};

/// A pooler as the scripts find it.
#[derive(Debug)]
struct House {
    workers: u32,
    pool_mode: &'static str,
    /// Servers that the clients share; more than there are clients where each keeps one.
    servers: u32,
    max_prepared_statements: u32,
}

const HOUSES: [House; 4] = [
    House::sharing(1, 200),
    House::sharing(3, 200),
    // Servers forget statements while their clients go on with them.
    House::sharing(3, 2),
    House {
        workers: 3,
        pool_mode: "session",
        servers: 30,
        max_prepared_statements: 200,
    },
];

impl House {
    const fn sharing(workers: u32, max_prepared_statements: u32) -> Self {
        Self {
            workers,
            pool_mode: "transaction",
            servers: 3,
            max_prepared_statements,
        }
    }

    /// Runs a script in it, which has to find all its checks held.
    async fn holds(&self, script: &Path, python: &Path, postgres: &Postgres) {
        let pooler = for_alice(self.workers, self.pool_mode, self.servers, postgres)
            .set("max_prepared_statements", self.max_prepared_statements)
            .start()
            .await;
        let dsn = format!("postgresql://alice:secret@127.0.0.1:{}/app", pooler.port());
        let servers = self.servers.to_string();
        let args = ["-B", script.to_str().unwrap(), &dsn, &servers];
        let said = Running::start(python, &Place::tcp(pooler.port()), &args)
            .end()
            .await;
        assert!(
            said.status.success() && said.out.contains("checks held"),
            "{self:?}: {}\n{}{}",
            said.status,
            said.out,
            said.err
        );
    }
}

async fn all_checks_hold(script: &str) {
    let python = python();
    let script = root().join("tests/drivers").join(script);
    let postgres = postgres().await;
    for house in HOUSES {
        house.holds(&script, &python, &postgres).await;
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

#[tokio::test]
async fn psycopg_and_asyncpg_use_the_console() {
    let python = python();
    let script = root().join("tests/drivers/console_client.py");
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = for_alice(workers, "transaction", 3, &postgres);
        let pooler = pooler.start().await;
        let place = Place::tcp(pooler.port());
        let admin = "testkit_admin:testkit_admin";
        let dsn = format!("postgresql://{admin}@127.0.0.1:{}/pgbouncer", pooler.port());
        let args = ["-B", script.to_str().unwrap(), &dsn, "0"];
        let said = Running::start(&python, &place, &args).end().await.well();
        assert!(said.contains("checks held"), "{said}");
    }
}

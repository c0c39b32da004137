//! PostgreSQL and the pooler, set up as a small machine-learning shop has them.

use std::{path::Path, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use testkit::{Pooler, PoolerSetup, Postgres, StartError};

use crate::{failure::Failure, load::Done, screen, watch::Peak};

pub(crate) const USER: &str = "mlsp_user";
pub(crate) const PASSWORD: &str = "mlsp_password";
pub(crate) const POOL_SIZE: i64 = 25;
pub(crate) const RESERVE: i64 = 5;
const ADMIN: &str = "admin";
const ADMIN_PASSWORD: &str = "admin_password";
const PORT: u16 = 6432;

/// A database, and how many clients use it.
pub(crate) struct Database {
    pub(crate) name: &'static str,
    pub(crate) clients: usize,
}

/// The crowd is on the first; the others show that pools keep out of each other's way.
pub(crate) const DATABASES: [Database; 3] = [
    Database {
        name: "mlsp",
        clients: 500,
    },
    Database {
        name: "airflow",
        clients: 10,
    },
    Database {
        name: "mlflow",
        clients: 10,
    },
];

/// A throw-away PostgreSQL and a pooler before it.
pub(crate) struct Stage {
    // Before the server that it talks to.
    pub(crate) pooler: Pooler,
    pub(crate) postgres: Postgres,
}

impl Stage {
    pub(crate) async fn set(program: Option<&Path>) -> Result<Self, Failure> {
        allow_many_sockets();
        println!("Starting a throw-away PostgreSQL ...");
        let postgres = Postgres::setup()
            .try_start()
            .await
            .map_err(Failure::Start)?;
        postgres.create_user(USER, PASSWORD).await;
        for database in &DATABASES {
            postgres.create_database(database.name).await;
            postgres
                .run_in(database.name, &table_of_visits(database.clients))
                .await;
        }
        println!("Starting the pooler ...");
        let setup = pooler_setup(program, &postgres);
        let pooler = match setup.clone().port(PORT).try_start().await {
            Err(StartError::PortTaken(port)) => {
                println!("Port {port} is taken, perhaps by another pooler: a free one instead.");
                setup.try_start().await
            }
            outcome => outcome,
        };
        Ok(Self {
            pooler: pooler.map_err(Failure::Start)?,
            postgres,
        })
    }

    pub(crate) fn introduce(&self) {
        let clients: usize = DATABASES.iter().map(|database| database.clients).sum();
        println!(
            "\nPooler on port {}, PostgreSQL on port {}. Transaction mode, {POOL_SIZE} seats a \
             pool.\n{clients} clients log in with SCRAM: {}.\n",
            self.pooler.port(),
            self.postgres.port(),
            DATABASES
                .map(|it| format!("{} on {}", it.clients, it.name))
                .join(", "),
        );
    }

    pub(crate) async fn report(
        &self,
        done: &Done,
        peak: &Peak,
        worked: Duration,
    ) -> Result<(), Failure> {
        let console = self.pooler.console().await;
        for what in ["POOLS", "STATS_TOTALS"] {
            println!("\nSHOW {what};");
            screen::print_table(&console.try_show(what).await.map_err(Failure::Console)?);
        }
        println!(
            "\n{} transactions in {:.0} s: {:.0} a second; {} failed.\n\
             The most sessions that PostgreSQL saw in a pool: {} (limit {POOL_SIZE}, and \
             {RESERVE} in reserve).\n",
            done.transactions,
            worked.as_secs_f64(),
            done.transactions as f64 / worked.as_secs_f64(),
            done.failed,
            peak.highest(),
        );
        let port = self.pooler.port();
        println!("A client:    PGPASSWORD={PASSWORD} psql -h 127.0.0.1 -p {port} -U {USER} mlsp");
        println!(
            "The console: PGPASSWORD={ADMIN_PASSWORD} psql -h 127.0.0.1 -p {port} -U {ADMIN} \
             pgbouncer"
        );
        Ok(())
    }
}

fn pooler_setup(program: Option<&Path>, postgres: &Postgres) -> PoolerSetup {
    let setup = program.map_or_else(Pooler::setup, Pooler::binary);
    DATABASES
        .iter()
        .fold(setup, |setup, it| {
            setup.database(it.name, &postgres.conn_info(it.name))
        })
        .user(USER, PASSWORD)
        .console_as(ADMIN, ADMIN_PASSWORD)
        .set("admin_users", ADMIN)
        .set("pool_mode", "transaction")
        .set("default_pool_size", POOL_SIZE)
        .set("min_pool_size", 10)
        .set("reserve_pool_size", RESERVE)
        .set("max_client_conn", 1000)
        .set("server_idle_timeout", 600)
        .set("server_lifetime", 3600)
        .set("query_wait_timeout", 120)
        .set("ignore_startup_parameters", "extra_float_digits")
}

/// One row for each client, so that committed updates can be counted afterwards.
fn table_of_visits(clients: usize) -> String {
    format!(
        "CREATE TABLE visits (client int PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 20);
         INSERT INTO visits SELECT client, 0 FROM generate_series(0, {clients} - 1) AS client;
         GRANT SELECT, UPDATE ON visits TO {USER}"
    )
}

/// Over a thousand sockets are more than many shells allow; the pooler inherits the limit.
fn allow_many_sockets() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If this is refused, the failing logins will say so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard);
    }
}

//! What the conversations share: a pooler of ours, set up for tests.

mod hosts;
mod manager;
mod road;
mod tills;

use std::path::Path;

use testkit::{
    Ask, ErrorFields, FakeClient, FakeServer, FakeServerSetup, Message, Pooler, PoolerSetup,
    Postgres, Step, eventually_async,
};
use tokio_postgres::{Client, Config, Error, NoTls};

pub(crate) use self::hosts::TwoHosts;
pub(crate) use self::manager::Manager;
pub(crate) use self::road::Road;
pub(crate) use self::tills::{Stay, Tills, Trouble};

/// The number of workers that every crossing of workers is tried with.
pub(crate) const WORKERS: [u32; 2] = [1, 3];

/// A pooler under test, as a stock installation would run it.
pub(crate) fn pgusher(workers: u32) -> PoolerSetup {
    Pooler::binary(env!("CARGO_BIN_EXE_pgusher")).set("workers", workers)
}

/// A pooler that trusts alice, bob and carol, and lends servers for a transaction.
pub(crate) fn trusting(workers: u32) -> PoolerSetup {
    pgusher(workers)
        .user("alice", "secret")
        .user("bob", "secret")
        .user("carol", "secret")
        .set("auth_type", "trust")
        .set("pool_mode", "transaction")
}

/// The same, with the database `app` on a fake server.
pub(crate) fn before(server: &FakeServer, workers: u32) -> PoolerSetup {
    trusting(workers).database("app", &server.conn_info("app"))
}

/// A PostgreSQL with the database `app`, where alice, bob and carol have the password `secret`.
pub(crate) async fn postgres() -> Postgres {
    let postgres = Postgres::start().await;
    postgres.create_database("app").await;
    for user in ["alice", "bob", "carol"] {
        postgres.create_user(user, "secret").await;
    }
    postgres
}

/// Which PostgreSQL the tests run with.
pub(crate) async fn major_version(postgres: &Postgres) -> u32 {
    let admin = postgres.admin_client().await;
    let row = admin.query_one("SHOW server_version_num", &[]).await;
    let number: u32 = row.unwrap().get::<_, &str>(0).parse().unwrap();
    number / 10_000
}

/// A trusting pooler with the database `app` on PostgreSQL.
pub(crate) fn before_postgres(postgres: &Postgres, workers: u32) -> PoolerSetup {
    trusting(workers).database("app", &postgres.conn_info("app"))
}

/// A client in the database `app`.
pub(crate) async fn client(pooler: &Pooler, user: &str) -> FakeClient {
    FakeClient::login_trust(&pooler.address(), user, "app").await
}

/// A client of alice's in the database `app`.
pub(crate) async fn alice(pooler: &Pooler) -> FakeClient {
    client(pooler, "alice").await
}

/// So many clients of alice in the database `app`, spread over the workers in this order.
pub(crate) async fn clients<const N: usize>(pooler: &Pooler) -> [FakeClient; N] {
    let mut clients = Vec::new();
    for _ in 0..N {
        clients.push(client(pooler, "alice").await);
    }
    clients.try_into().unwrap_or_else(|_| unreachable!())
}

/// A fake server that tells which of its connections answers `SELECT server`.
pub(crate) fn numbered() -> FakeServerSetup {
    FakeServer::setup().answer(async |ask: Ask| number(&ask))
}

/// The answer to `SELECT server`, for scripts of one's own.
pub(crate) fn number(ask: &Ask) -> Option<Vec<Step>> {
    let number = ask.connection.to_string();
    (ask.sql == "SELECT server").then(|| Step::one_row(&[("server", Some(&number))]))
}

/// Which connection of a [`numbered`] server serves the client now.
pub(crate) async fn server_of(client: &mut FakeClient) -> usize {
    let number = client.query_value("SELECT server").await;
    number.parse().unwrap()
}

/// Waits until so many clients are in line, over all pools.
pub(crate) async fn wait_for_waiting(pooler: &Pooler, count: i64) {
    let console = pooler.console().await;
    let in_line = async || {
        let pools = console.show("POOLS").await;
        pools
            .iter()
            .map(|pool| pool.number("cl_waiting"))
            .sum::<i64>()
    };
    eventually_async(&format!("{count} clients in line"), async || {
        in_line().await == count
    })
    .await;
}

/// Waits until so many sessions of alice's sleep.
pub(crate) async fn wait_for_sleepers(postgres: &Postgres, count: i64) {
    let admin = postgres.admin_client().await;
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE usename = 'alice' AND wait_event = 'PgSleep'";
    eventually_async("sleepers", async || {
        admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == count
    })
    .await;
}

/// How many servers the pooler has opened so far.
pub(crate) async fn servers_opened(pooler: &Pooler) -> usize {
    const LATEST: &str = "user=the_latest";
    // The log comes through a pipe: once this line is there, so are all before it.
    let before = pooler.log_count(LATEST);
    let mut marker = FakeClient::connect(&pooler.address()).await;
    marker.startup(&[("user", "the_latest")]).await;
    pooler.wait_for_log_count(LATEST, before + 1).await;
    pooler.log_count("new connection to server")
}

/// Says it all at once, and returns all that comes up to so many ReadyForQuery.
pub(crate) async fn converse(
    client: &mut FakeClient,
    say: &[Message],
    readies: usize,
) -> Vec<Message> {
    client.send_all(say).await;
    let mut answer = Vec::new();
    for _ in 0..readies {
        answer.extend(client.read_until_ready().await);
    }
    answer
}

/// Clients on every worker, in the database `aside`: once all are answered, the pooler has seen
/// what came before.
pub(crate) struct Witnesses(Vec<FakeClient>);

impl Witnesses {
    pub(crate) async fn on_every_worker(pooler: &Pooler, workers: u32) -> Self {
        let mut clients = Vec::new();
        for _ in 0..workers {
            clients.push(FakeClient::login_trust(&pooler.address(), "alice", "aside").await);
        }
        Self(clients)
    }

    pub(crate) async fn look(&mut self) {
        for client in &mut self.0 {
            assert_eq!(client.query_value("SELECT 'seen'").await, "seen");
        }
    }
}

/// How a login went: `in`, or the refusal in the words of [`refusal`].
pub(crate) async fn outcome(pooler: &Pooler, user: &str, password: &str, database: &str) -> String {
    told(pooler.try_connect(user, password, database).await)
}

/// The same over the pooler's unix socket.
pub(crate) async fn outcome_over_unix(
    pooler: &Pooler,
    user: &str,
    password: &str,
    database: &str,
) -> String {
    told(connect_over_unix(pooler.dir(), pooler.port(), user, password, database).await)
}

async fn connect_over_unix(
    dir: &Path,
    port: u16,
    user: &str,
    password: &str,
    database: &str,
) -> Result<Client, Error> {
    let mut config = Config::new();
    config.host_path(dir).port(port);
    config.user(user).password(password).dbname(database);
    let (client, connection) = testkit::in_time("a login", config.connect(NoTls)).await?;
    // Its errors reach the client's next query.
    tokio::spawn(connection);
    Ok(client)
}

fn told(login: Result<Client, Error>) -> String {
    match login {
        Ok(_) => "in".to_owned(),
        Err(error) => refusal(&error),
    }
}

/// What the other side said: `FATAL 08P01 no such database: x`.
pub(crate) fn refusal(error: &Error) -> String {
    match error.as_db_error() {
        Some(error) => format!(
            "{} {} {}",
            error.severity(),
            error.code().code(),
            error.message()
        ),
        None => format!("{error:?}"),
    }
}

/// The same of a message that a scripted client read.
pub(crate) fn words(error: &ErrorFields) -> String {
    format!("{} {} {}", error.severity(), error.code(), error.text())
}

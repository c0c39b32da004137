//! Real clients, as people run them, find nothing missing.

use testkit::{Pooler, Postgres, Scratch, in_time};
use tokio::task::JoinSet;
use tokio_postgres::types::Type;

use crate::{
    programs::{Place, for_alice, is_too_old, run},
    support::{WORKERS, postgres, servers_opened},
};

#[tokio::test]
async fn pgbench_loses_no_transaction() {
    const CLIENTS: u32 = 20;
    const EACH: u32 = 25;
    let postgres = postgres().await;
    for (mode, seats) in [("transaction", 5), ("session", CLIENTS)] {
        for workers in WORKERS {
            let pooler = for_alice(workers, mode, seats, &postgres).start().await;
            let place = Place::tcp(pooler.port());
            run("pgbench", &place, &["-i", "-s", "1", "-q"])
                .await
                .well();
            for protocol in ["simple", "extended", "prepared"] {
                let (clients, each) = (CLIENTS.to_string(), EACH.to_string());
                // A thread for each: those that wait in PQprepare keep no transaction waiting.
                let load = [
                    "-n", "-M", protocol, "-c", &clients, "-j", &clients, "-t", &each,
                ];
                let report = run("pgbench", &place, &load).await.well();
                let all = CLIENTS * EACH;
                let processed = format!("actually processed: {all}/{all}");
                assert!(report.contains(&processed), "{report}");
                assert!(
                    report.contains("failed transactions: 0 (0.000%)"),
                    "{report}"
                );
            }
            assert_books_balance(&postgres, i64::from(3 * CLIENTS * EACH)).await;
            let servers = servers_opened(&pooler).await;
            assert!(servers <= seats as usize, "{servers} servers");
        }
    }
}

/// Every transaction of pgbench books one amount in four tables.
async fn assert_books_balance(postgres: &Postgres, transactions: i64) {
    let admin = postgres.admin_client_in("app").await;
    let sums = "SELECT (SELECT sum(abalance) FROM pgbench_accounts), \
                (SELECT sum(tbalance) FROM pgbench_tellers), \
                (SELECT sum(bbalance) FROM pgbench_branches), \
                sum(delta), count(*) FROM pgbench_history";
    let row = admin.query_one(sums, &[]).await.unwrap();
    let delta: i64 = row.get(3);
    let booked: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(booked, [delta; 3]);
    assert_eq!(row.get::<_, i64>(4), transactions);
}

/// A session at psql: scripts, errors, \copy both ways, \c, cursors, descriptions.
const PSQL_SCRIPT: &str = r"
CREATE TABLE IF NOT EXISTS towns (name text PRIMARY KEY, people int);
TRUNCATE towns;
\copy towns FROM STDIN
Lima	10
Oslo	1
\.
\copy (SELECT * FROM towns ORDER BY name) TO 'towns.copy'
\copy towns FROM 'towns.copy'
SELECT * FROM towns ORDER BY name;
\d towns
SELECT 1 AS one, 'x' AS two \gdesc
SELECT count(*) AS count FROM towns \gset
\echo there are :count towns
SELECT 1/0;
BEGIN;
SELECT absent FROM towns;
SELECT 'not reached';
ROLLBACK;
\c app
SHOW application_name;
\set FETCH_COUNT 2
SELECT generate_series(1, 5);
\unset FETCH_COUNT
SELECT 1; SELECT 2 \; SELECT 3;
\encoding LATIN1
SHOW client_encoding;
DO $$ BEGIN RAISE NOTICE 'look'; END $$;
SELECT;
;
\q
";

#[tokio::test]
async fn psql_says_what_it_says_without_a_pooler() {
    let postgres = postgres().await;
    let scratch = Scratch::new("script").unwrap();
    let script = scratch.write("script.sql", PSQL_SCRIPT).unwrap();
    let args = ["-X", "-a", "-f", script.to_str().unwrap()];
    // psql speaks of a table that is there already only from the second time on.
    let direct = Place::tcp(postgres.port());
    run("psql", &direct, &args).await;
    let expected = run("psql", &direct, &args).await;
    for workers in WORKERS {
        for mode in ["transaction", "session"] {
            let pooler = for_alice(workers, mode, 5, &postgres).start().await;
            let (tcp, unix) = (
                Place::tcp(pooler.port()),
                Place::unix(pooler.dir(), pooler.port()),
            );
            for place in [tcp, unix] {
                let said = run("psql", &place, &args).await;
                assert_eq!(said.out, expected.out);
                assert_eq!(said.err, expected.err);
                assert_eq!(said.status, expected.status);
            }
        }
    }
}

#[tokio::test]
async fn pg_dump_writes_what_it_writes_without_a_pooler() {
    let postgres = postgres().await;
    if is_too_old("pg_dump", &postgres).await {
        return;
    }
    let direct = Place::tcp(postgres.port());
    run("pgbench", &direct, &["-i", "-s", "1", "-q"])
        .await
        .well();
    let expected = without_key(&run("pg_dump", &direct, &[]).await.well());
    assert!(expected.lines().count() > 100_000);
    for workers in WORKERS {
        for mode in ["transaction", "session"] {
            let pooler = for_alice(workers, mode, 5, &postgres).start().await;
            let dump = run("pg_dump", &Place::tcp(pooler.port()), &[]).await.well();
            assert!(without_key(&dump) == expected, "{mode}: the dumps differ");
        }
    }
}

/// A dump without the key that psql guards itself with, which is never the same twice.
fn without_key(dump: &str) -> String {
    let lines = dump.lines();
    let same =
        lines.filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"));
    same.flat_map(|line| [line, "\n"]).collect()
}

#[tokio::test]
async fn pg_isready_finds_it_accepting_connections() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = for_alice(workers, "transaction", 1, &postgres)
            .start()
            .await;
        let unix = Place::unix(pooler.dir(), pooler.port());
        for place in [Place::tcp(pooler.port()), unix] {
            let told = run("pg_isready", &place, &[]).await.well();
            assert!(told.contains("accepting connections"), "{told}");
        }
    }
}

async fn tokio_postgres_client(pooler: &Pooler) -> tokio_postgres::Client {
    pooler.connect("alice", "secret", "app").await
}

#[tokio::test]
async fn tokio_postgres_shares_servers_with_unnamed_statements() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = for_alice(workers, "transaction", 3, &postgres)
            .start()
            .await;
        let mut clients = JoinSet::new();
        for name in 0..20 {
            let mut client = tokio_postgres_client(&pooler).await;
            clients.spawn(async move {
                for round in 0..20 {
                    let tag = format!("{name}-{round}");
                    let typed = client.query_typed("SELECT $1", &[(&tag, Type::TEXT)]).await;
                    assert_eq!(typed.unwrap()[0].get::<_, &str>(0), tag);
                    let transaction = client.transaction().await.unwrap();
                    let sql = format!("SELECT '{tag}'");
                    transaction.batch_execute(&sql).await.unwrap();
                    transaction.commit().await.unwrap();
                }
            });
        }
        in_time("twenty clients", clients.join_all()).await;
        assert!(servers_opened(&pooler).await <= 3);
    }
}

#[tokio::test]
async fn tokio_postgres_keeps_named_statements_in_a_session() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = for_alice(workers, "session", 5, &postgres).start().await;
        let mut clients = JoinSet::new();
        for name in 0..5 {
            let client = tokio_postgres_client(&pooler).await;
            clients.spawn(async move {
                let statement = client.prepare("SELECT $1::int + 1").await.unwrap();
                for number in name..name + 100 {
                    let row = client.query_one(&statement, &[&number]).await.unwrap();
                    assert_eq!(row.get::<_, i32>(0), number + 1);
                }
            });
        }
        in_time("five clients", clients.join_all()).await;
    }
}

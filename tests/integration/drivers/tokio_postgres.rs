//! tokio-postgres, on a normal day: it prepares everything, sends ahead, and looks types up.

use std::collections::BTreeSet;

use futures_util::{SinkExt, TryStreamExt, future::join_all, pin_mut, stream::poll_fn};
use testkit::{Pooler, PoolerSetup, Postgres, eventually_async, in_time};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_postgres::{
    AsyncMessage, Client, Config, CopyInSink, Error, NoTls, Row, Statement, error::SqlState,
};

use crate::{
    programs::for_alice,
    support::{WORKERS, postgres},
};

const TAGGED: &str =
    "SELECT n, $1::text AS tag, pg_backend_pid() AS pid FROM generate_series(1, 10) n";

/// A pool of three seats, for more clients than that.
fn three_seats(workers: u32, postgres: &Postgres) -> PoolerSetup {
    for_alice(workers, "transaction", 3, postgres)
}

async fn client(pooler: &Pooler) -> Client {
    pooler.connect("alice", "secret", "app").await
}

/// The SQLSTATE that must have come.
#[track_caller]
fn state<T>(answer: Result<T, Error>) -> SqlState {
    let error = answer.err().expect("an error");
    error
        .code()
        .unwrap_or_else(|| panic!("{error:?}"))
        .to_owned()
}

/// Answers of the one tag, and who served them.
#[track_caller]
fn only_for(tag: &str, rows: &[Row]) -> BTreeSet<i32> {
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!(row.get::<_, &str>("tag"), tag);
    }
    rows.iter().map(|row| row.get("pid")).collect()
}

#[tokio::test]
async fn every_row_goes_to_its_asker() {
    let postgres = postgres().await;
    let table = "CREATE TABLE notes (tag text); GRANT ALL ON notes TO PUBLIC";
    postgres.run_in("app", table).await;
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).start().await;
        let mut askers = JoinSet::new();
        for asker in 0..20 {
            let client = client(&pooler).await;
            askers.spawn(asks_in_every_way(client, asker));
        }
        let answers = in_time("twenty clients", askers.join_all()).await;
        let servers: BTreeSet<i32> = answers.into_iter().flatten().collect();
        assert!(servers.len() <= 3, "{servers:?}");
    }
}

/// Returns who served.
async fn asks_in_every_way(mut client: Client, asker: i32) -> BTreeSet<i32> {
    let common = client.prepare(TAGGED).await.unwrap();
    let own = format!("{TAGGED} WHERE n <> {asker}");
    let own = client.prepare(&own).await.unwrap();
    let divide = client.prepare("SELECT 1 / $1::int").await.unwrap();
    let mut servers = BTreeSet::new();
    for round in 0..10 {
        let tag = format!("{asker}-{round}");
        for statement in [&common, &own] {
            let rows = client.query(statement, &[&tag]).await.unwrap();
            servers.extend(only_for(&tag, &rows));
        }
        let failed = client.query(&divide, &[&0]).await;
        assert_eq!(state(failed), SqlState::DIVISION_BY_ZERO);
        let passing = client.query(TAGGED, &[&tag]).await.unwrap();
        servers.extend(only_for(&tag, &passing));
        in_transaction(&mut client, &common, &tag).await;
    }
    servers
}

async fn in_transaction(client: &mut Client, common: &Statement, tag: &str) {
    let mut transaction = client.transaction().await.unwrap();
    let insert = "INSERT INTO notes VALUES ($1) RETURNING tag, pg_backend_pid() AS pid";
    let mut servers = BTreeSet::new();
    let inserted = transaction.query(insert, &[&tag]).await.unwrap();
    servers.extend(only_for(tag, &inserted));
    let savepoint = transaction.savepoint("here").await.unwrap();
    let failed = savepoint.query("SELECT absent", &[]).await;
    assert_eq!(state(failed), SqlState::UNDEFINED_COLUMN);
    let not_heard = savepoint.query(common, &[&tag]).await;
    assert_eq!(state(not_heard), SqlState::IN_FAILED_SQL_TRANSACTION);
    savepoint.rollback().await.unwrap();
    let rows = transaction.query(common, &[&tag]).await.unwrap();
    servers.extend(only_for(tag, &rows));
    let notes = "SELECT tag, pg_backend_pid() AS pid FROM notes";
    let mine = transaction.query(notes, &[]).await.unwrap();
    servers.extend(only_for(tag, &mine));
    assert_eq!(servers.len(), 1, "{servers:?}");
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn queries_sent_ahead_are_answered_in_turn() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).start().await;
        let mut askers = JoinSet::new();
        for _ in 0..10 {
            let client = client(&pooler).await;
            askers.spawn(async move {
                let add = client.prepare("SELECT $1::int + $2").await.unwrap();
                let divide = client.prepare("SELECT $1::int / $2").await.unwrap();
                let ahead = (0..100).map(async |n: i32| {
                    let statement = if n % 7 == 0 { &divide } else { &add };
                    let answer = client.query_one(statement, &[&n, &(n % 2)]).await;
                    match n {
                        _ if n % 14 == 0 => assert_eq!(state(answer), SqlState::DIVISION_BY_ZERO),
                        _ if n % 7 == 0 => assert_eq!(answer.unwrap().get::<_, i32>(0), n),
                        _ => assert_eq!(answer.unwrap().get::<_, i32>(0), n + n % 2),
                    }
                });
                join_all(ahead).await;
            });
        }
        in_time("ten clients", askers.join_all()).await;
    }
}

#[tokio::test]
async fn more_statements_than_a_server_may_remember_all_work() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let few = three_seats(workers, &postgres).set("max_prepared_statements", 7);
        let pooler = few.start().await;
        let mut askers = JoinSet::new();
        for asker in 0..5 {
            let client = client(&pooler).await;
            askers.spawn(async move {
                let mut statements = Vec::new();
                for n in 0..30 {
                    let sql = format!("SELECT $1 || ' {n} {}'", asker % 2);
                    statements.push(client.prepare(&sql).await.unwrap());
                }
                for n in (0..30).chain((0..30).rev()) {
                    let row = client.query_one(&statements[n], &[&"it is"]).await.unwrap();
                    assert_eq!(row.get::<_, &str>(0), format!("it is {n} {}", asker % 2));
                }
            });
        }
        in_time("five clients", askers.join_all()).await;
        let known = "SELECT count(*) FROM pg_prepared_statements";
        let row = client(&pooler).await.query_typed(known, &[]).await.unwrap();
        assert!(row[0].get::<_, i64>(0) <= 7);
    }
}

#[tokio::test]
async fn statements_prepared_again_after_ddl_are_new() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).start().await;
        let client = client(&pooler).await;
        let columns = async |sql: &str| {
            let statement = client.prepare(sql).await?;
            client.query(&statement, &[]).await?;
            Ok::<_, Error>(statement.columns().len())
        };
        let all = "SELECT * FROM widening";
        assert_eq!(state(columns(all).await), SqlState::UNDEFINED_TABLE);
        let create = "CREATE TABLE widening (a int)";
        client.batch_execute(create).await.unwrap();
        // A Parse that failed is not remembered.
        assert_eq!(columns(all).await.unwrap(), 1);
        for more in 2..5 {
            let old = client.prepare(all).await.unwrap();
            let alter = format!("ALTER TABLE widening ADD b{more} int");
            client.batch_execute(&alter).await.unwrap();
            let outdated = client.query(&old, &[]).await;
            assert_eq!(state(outdated), SqlState::FEATURE_NOT_SUPPORTED);
            assert_eq!(columns(all).await.unwrap(), more);
        }
        let drop = "DROP TABLE widening";
        client.batch_execute(drop).await.unwrap();
    }
}

#[tokio::test]
async fn types_are_looked_up_by_statements_of_the_drivers_own() {
    let postgres = postgres().await;
    let types = "CREATE TYPE mood AS ENUM ('sad', 'glad'); \
                 CREATE DOMAIN short AS text; \
                 CREATE TYPE pair AS (mood mood, shorts short[])";
    postgres.run_in("app", types).await;
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).start().await;
        let mut askers = JoinSet::new();
        for _ in 0..10 {
            let client = client(&pooler).await;
            askers.spawn(async move {
                let sql = "SELECT $1::mood, $2::short, $3::pair, $4::mood[]";
                let statement = client.prepare(sql).await.unwrap();
                let names = statement.params().iter().map(|kind| kind.name().to_owned());
                let names: Vec<_> = names.collect();
                assert_eq!(names, ["mood", "short", "pair", "_mood"]);
            });
        }
        in_time("ten clients", askers.join_all()).await;
    }
}

#[tokio::test]
async fn portals_page_through_rows() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).start().await;
        let mut askers = JoinSet::new();
        for asker in 0..20 {
            let mut client = client(&pooler).await;
            askers.spawn(async move {
                let tag = asker.to_string();
                let transaction = client.transaction().await.unwrap();
                let portal = transaction.bind(TAGGED, &[&tag]).await.unwrap();
                let other = transaction.bind(TAGGED, &[&"other"]).await.unwrap();
                let mut pages = Vec::new();
                for (portal, tag) in [(&portal, tag.as_str()), (&other, "other")].repeat(4) {
                    let rows = transaction.query_portal(portal, 3).await.unwrap();
                    only_for(tag, &rows);
                    pages.push(rows.len());
                }
                assert_eq!(pages, [3, 3, 3, 3, 3, 3, 1, 1]);
                transaction.commit().await.unwrap();
            });
        }
        in_time("twenty clients", askers.join_all()).await;
    }
}

#[tokio::test]
async fn copies_go_in_and_out() {
    let postgres = postgres().await;
    let table = "CREATE TABLE numbers (asker int, n int); GRANT ALL ON numbers TO PUBLIC";
    postgres.run_in("app", table).await;
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).start().await;
        let mut askers = JoinSet::new();
        for asker in 0..20 {
            let client = client(&pooler).await;
            askers.spawn(async move {
                let lines: String = (0..1000).map(|n| format!("{asker}\t{n}\n")).collect();
                assert_eq!(copy_in(&client, &lines).await.unwrap(), 1000);
                let mine = format!("SELECT * FROM numbers WHERE asker = {asker} ORDER BY n");
                let out = format!("COPY ({mine}) TO STDOUT");
                let chunks = client.copy_out(&out).await.unwrap();
                let chunks: Vec<_> = chunks.try_collect().await.unwrap();
                assert!(chunks.concat() == lines.as_bytes());

                let wrong = copy_in(&client, "1\tno number\n").await;
                assert_eq!(state(wrong), SqlState::INVALID_TEXT_REPRESENTATION);
                // Dropped in the middle: the driver says CopyFail.
                drop(client.copy_in::<_, &[u8]>(INTO).await.unwrap());
                let delete = "DELETE FROM numbers WHERE asker = $1";
                assert_eq!(client.execute(delete, &[&asker]).await.unwrap(), 1000);
            });
        }
        in_time("twenty clients", askers.join_all()).await;
    }
}

const INTO: &str = "COPY numbers FROM STDIN";

async fn copy_in(client: &Client, lines: &str) -> Result<u64, Error> {
    let sink: CopyInSink<&[u8]> = client.copy_in(INTO).await?;
    pin_mut!(sink);
    // The sink wants what lives for ever.
    for piece in lines.to_owned().leak().as_bytes().chunks(700) {
        sink.send(piece).await?;
    }
    sink.finish().await
}

#[tokio::test]
async fn cancels_reach_their_own_query() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).start().await;
        let holder = client(&pooler).await;
        let (cancelled, other) = (client(&pooler).await, client(&pooler).await);
        let token = cancelled.cancel_token();
        let lock = "SELECT pg_advisory_xact_lock(7)";
        holder.batch_execute("BEGIN").await.unwrap();
        holder.execute(lock, &[]).await.unwrap();
        let blocked = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        let blocked = holder.prepare(blocked).await.unwrap();
        let until = async |count| {
            let now = async || holder.query(&blocked, &[]).await.unwrap().len() == count;
            eventually_async("blocked queries", now).await;
        };
        let ((), ended, went_on) = tokio::join!(
            async {
                until(2).await;
                token.cancel_query(NoTls).await.unwrap();
                until(1).await;
                holder.batch_execute("COMMIT").await.unwrap();
            },
            cancelled.execute(lock, &[]),
            other.execute(lock, &[]),
        );
        assert_eq!(state(ended), SqlState::QUERY_CANCELED);
        assert_eq!(went_on.unwrap(), 1);
        assert_eq!(cancelled.execute(lock, &[]).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn notices_go_to_whom_they_concern() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).start().await;
        let mut askers = JoinSet::new();
        for asker in 0..20 {
            let (client, mut notices) = listening_client(&pooler).await;
            askers.spawn(async move {
                for round in 0..5 {
                    let tag = format!("{asker}-{round}");
                    let warn = format!("DO $$ BEGIN RAISE WARNING '{tag}'; END $$");
                    client.execute(&warn, &[]).await.unwrap();
                    assert_eq!(notices.recv().await.unwrap(), tag);
                }
                drop(client);
                assert_eq!(notices.recv().await, None);
            });
        }
        in_time("twenty clients", askers.join_all()).await;
    }
}

/// A client, and what it is told besides.
async fn listening_client(pooler: &Pooler) -> (Client, mpsc::UnboundedReceiver<String>) {
    let config: Config = pooler.conn_str("alice", "app").parse().unwrap();
    let login = config.clone().password("secret").connect(NoTls).await;
    let (client, mut connection) = login.unwrap();
    let (told, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut messages = poll_fn(|context| connection.poll_message(context));
        while let Some(message) = messages.try_next().await.unwrap() {
            if let AsyncMessage::Notice(notice) = message {
                told.send(notice.message().to_owned()).unwrap();
            }
        }
    });
    (client, heard)
}

//! PostgreSQL's own programs, on a normal day: benches in every mode, dumps restored, psql's loops.

use testkit::{Pooler, Postgres, Scratch, Signal, client_program, eventually_async};

use crate::{
    programs::{Place, Running, Said, for_alice, is_too_old, run},
    support::{WORKERS, postgres},
};

/// A pooler of three seats for each database, before a PostgreSQL in which alice may do much.
async fn three_seats(workers: u32, postgres: &Postgres) -> Pooler {
    let any = format!("host=127.0.0.1 port={}", postgres.port());
    let setup = for_alice(workers, "transaction", 3, postgres).database("*", &any);
    setup.start().await
}

/// A database in which alice may make schemas.
async fn create_database(postgres: &Postgres, name: &str) {
    postgres.create_database(name).await;
    let grant = format!("GRANT CREATE ON DATABASE {name} TO alice");
    postgres.run(&grant).await;
}

/// One for each client, for pgbench waits in PQprepare: a client without a seat would keep those
/// of its thread that have one from going on.
const THREADS: &str = "-j20";

/// What each client reads must be what it asked for; in pgbench only an error ends badly.
const TAGGED: &str = r"
\set mine random(1, 1000000000)
BEGIN;
SELECT :mine AS told, :client_id AS who \gset
END;
SELECT :mine AS again \gset
\if :told <> :mine OR :again <> :mine OR :who <> :client_id
SELECT 1 / 0 AS meant_for_somebody_else;
\endif
";

const PIPELINED: &str = r"
\startpipeline
BEGIN;
INSERT INTO tally VALUES (:client_id);
SELECT count(*) FROM tally WHERE client = :client_id;
END;
SELECT :client_id;
\endpipeline
";

#[tokio::test]
async fn pgbench_tells_each_client_its_own_in_every_mode() {
    let postgres = postgres().await;
    let scratch = Scratch::new("bench").unwrap();
    let tagged = scratch.write("tagged.sql", TAGGED).unwrap();
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).await;
        let place = Place::tcp(pooler.port());
        for protocol in ["simple", "extended", "prepared"] {
            let load = ["-n", "-c20", THREADS, "-t20", "-M", protocol, "-f"];
            let load = [&load[..], &[tagged.to_str().unwrap()]].concat();
            let report = run("pgbench", &place, &load).await.well();
            assert!(report.contains("actually processed: 400/400"), "{report}");
        }
    }
}

#[tokio::test]
async fn pgbench_keeps_its_pipelines_and_connects_anew() {
    let postgres = postgres().await;
    let tally = "CREATE TABLE tally (client int); GRANT ALL ON tally TO PUBLIC";
    postgres.run_in("app", tally).await;
    let scratch = Scratch::new("bench").unwrap();
    let pipelined = scratch.write("pipelined.sql", PIPELINED).unwrap();
    let mut transactions = 0;
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).await;
        let place = Place::tcp(pooler.port());
        for protocol in ["extended", "prepared"] {
            for (each, connections) in [("-t20", &[][..]), ("-t5", &["-C"])] {
                let load = ["-n", "-c20", THREADS, each, "-M", protocol, "-f"];
                let load = [connections, &load, &[pipelined.to_str().unwrap()]].concat();
                run("pgbench", &place, &load).await.well();
            }
            transactions += 20 * (20 + 5);
        }
    }
    let admin = postgres.admin_client_in("app").await;
    let booked = admin.query_one("SELECT count(*) FROM tally", &[]).await;
    assert_eq!(booked.unwrap().get::<_, i64>(0), transactions);
}

/// One of everything that a dump treats in its own way.
const TOWN: &str = r"
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL, mood mood, CHECK (name <> ''));
CREATE INDEX people_name ON people (lower(name));
CREATE VIEW happy AS SELECT * FROM people WHERE mood = 'glad';
CREATE MATERIALIZED VIEW moods AS SELECT mood, count(*) FROM people GROUP BY mood;
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION two() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 2; END $$;
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
CREATE TRIGGER shouts BEFORE UPDATE ON people FOR EACH ROW EXECUTE FUNCTION shout();
INSERT INTO people (name, mood)
    SELECT 'name ' || n, (ARRAY['sad', 'glad']::mood[])[n % 2 + 1] FROM generate_series(1, 3000) n;
CREATE TABLE letters (person int REFERENCES people, text text, bytes bytea);
INSERT INTO letters SELECT id, E'tab\there \\ and ünïcødé', '\x00ff' FROM people;
CREATE SCHEMA places;
CREATE TABLE places.numbers AS SELECT generate_series(1, 20000) AS n;
SELECT lo_from_bytea(4711, '\xdeadbeef');
COMMENT ON TABLE people IS 'It''s people';
";

#[tokio::test]
async fn pg_restore_makes_what_pg_dump_saw() {
    let postgres = postgres().await;
    if is_too_old("pg_dump", &postgres).await {
        return;
    }
    let direct = Place::tcp(postgres.port());
    create_database(&postgres, "town").await;
    let build = ["-d", "town", "-v", "ON_ERROR_STOP=1", "-c", TOWN];
    run("psql", &direct, &build).await.well();
    let expected = dump(&direct, "town").await;
    assert!(expected.lines().count() > 25_000);
    let ways: [(&str, &[&str], &[&str]); 2] = [
        ("whole", &["-Fc"], &[]),
        // Each of the two holds a seat, and the one that leads them another.
        ("pieces", &["-Fd", "-j2"], &["-j3"]),
    ];
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).await;
        let place = Place::tcp(pooler.port());
        for (name, dumping, restoring) in ways {
            let copy = format!("{name}_{workers}");
            create_database(&postgres, &copy).await;
            let scratch = Scratch::new("dump").unwrap();
            let file = scratch.path().join("town.dump");
            let file = file.to_str().unwrap();
            let args = [dumping, &["-d", "town", "-f", file]].concat();
            run("pg_dump", &place, &args).await.well();
            let args = [restoring, &["--exit-on-error", "-d", &copy, file]].concat();
            run("pg_restore", &place, &args).await.well();
            let restored = dump(&place, &copy).await;
            assert!(restored == expected, "{copy}: the dumps differ");
        }
    }
}

async fn dump(place: &Place, database: &str) -> String {
    let dump = run("pg_dump", place, &["-d", database]).await.well();
    // psql guards itself with keys that are never the same twice.
    let lines = dump.lines().filter(|line| !line.contains("restrict "));
    lines.collect::<Vec<_>>().join("\n")
}

/// `\watch` goes on until an error, `\c` to another database and back, `\copy` through programs.
const LOOPS: &str = r"
CREATE SEQUENCE rounds;
SELECT 6 / (4 - nextval('rounds')) AS share \watch 0.01
SELECT 'goes on';
DROP SEQUENCE rounds;
CREATE TABLE numbers (n int);
\copy numbers FROM PROGRAM 'seq 1 100000'
\copy (SELECT * FROM numbers ORDER BY n) TO PROGRAM 'md5sum'
\copy numbers FROM PROGRAM 'seq 1 50000; echo x'
SELECT count(*), sum(n) FROM numbers;
\c postgres
SELECT current_database();
\c app alice
SELECT count(*) FROM numbers;
\c -reuse-previous=on dbname=app application_name=again
SHOW application_name;
SELECT format('SELECT %s AS n', n) FROM generate_series(1, 3) n \gexec
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT 1 / 0;
SELECT 'goes on';
DROP TABLE numbers;
COMMIT;
\d numbers
";

#[tokio::test]
async fn psql_watches_reconnects_and_copies_as_without_a_pooler() {
    let postgres = postgres().await;
    let scratch = Scratch::new("script").unwrap();
    let script = scratch.write("loops.sql", LOOPS).unwrap();
    let args = ["-X", "-a", "-f", script.to_str().unwrap()];
    let expected = run("psql", &Place::tcp(postgres.port()), &args).await;
    assert!(expected.err.contains("division by zero"));
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).await;
        let said = run("psql", &Place::tcp(pooler.port()), &args).await;
        assert_eq!(without_times(&said), without_times(&expected));
        assert_eq!(said.err, expected.err);
        assert_eq!(said.status, expected.status);
    }
}

/// Its output, but for the times that `\watch` tells.
fn without_times(said: &Said) -> Vec<&str> {
    let lines = said.out.lines();
    lines
        .filter(|line| !line.contains("(every 0.01s)"))
        .collect()
}

#[tokio::test]
async fn a_key_press_ends_what_psql_waits_for() {
    let postgres = postgres().await;
    let admin = postgres.admin_client().await;
    let sleeping = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    for workers in WORKERS {
        let pooler = three_seats(workers, &postgres).await;
        for place in [Place::tcp(postgres.port()), Place::tcp(pooler.port())] {
            let args = ["-X", "-c", "SELECT 'woken up' FROM pg_sleep(600)"];
            let psql = Running::start(&client_program("psql"), &place, &args);
            eventually_async("sleep", async || {
                !admin.query(sleeping, &[]).await.unwrap().is_empty()
            })
            .await;
            psql.signal(Signal::SIGINT);
            let said = psql.end().await;
            let cancelled = "ERROR:  canceling statement due to user request\n";
            // "Cancel request sent" is what psql itself says.
            assert!(said.err.ends_with(cancelled), "{}", said.err);
            assert!(admin.query(sleeping, &[]).await.unwrap().is_empty());
        }
    }
}

//! PostgreSQL's own tools: backups, WAL archives, decoded changes.

use std::fs;
use std::path::{Path, PathBuf};

use testkit::{Postgres, Scratch};

use super::{few_seats, publishing};
use crate::programs::{Place, is_too_old, run};
use crate::streams::{assert_grew_less, peak};
use crate::support::{WORKERS, servers_opened};

/// The most that the pooler may grow while a tool reads from it, in bytes.
const MOST: u64 = 4 << 20;

#[tokio::test]
async fn pg_basebackup_makes_backups_that_pg_verifybackup_finds_complete() {
    let postgres = publishing().await;
    if is_too_old("pg_basebackup", &postgres).await {
        return;
    }
    for workers in WORKERS {
        let pooler = few_seats(workers, &postgres).start().await;
        let place = Place::tcp(pooler.port());
        run("psql", &place, &["-c", "SELECT 1"]).await.well();
        let before = peak(&pooler);
        for wal in ["stream", "fetch"] {
            let scratch = Scratch::new("backup").unwrap();
            let target = scratch.path().join("data");
            let target = target.to_str().unwrap();
            let quick = ["--checkpoint=fast", "--no-sync"];
            let args = [&["-D", target, "-X", wal][..], &quick].concat();
            run("pg_basebackup", &place, &args).await.well();
            run("pg_verifybackup", &place, &[target]).await.well();
        }
        assert_grew_less(&pooler, before, MOST);
        // psql's, one for the backup with the WAL in it, and two where a second one streams it.
        assert_eq!(servers_opened(&pooler).await, 4);
    }
}

/// Where the WAL ends now, and the name of the file that it ends in.
async fn wal_end(postgres: &Postgres) -> (String, String) {
    let admin = postgres.admin_client().await;
    let sql = "SELECT lsn::text, pg_walfile_name(lsn) FROM pg_current_wal_flush_lsn() AS lsn";
    let row = admin.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn insert_rows(postgres: &Postgres) {
    let sql = "INSERT INTO t SELECT generate_series(1, 10000)";
    postgres.run_in("app", sql).await;
}

/// The archived segments, the last of which may be unfinished.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.file_stem().unwrap().len() == "00000001".len() * 3;
    let mut segments: Vec<_> = files.filter(is_segment).collect();
    segments.sort();
    segments
}

#[tokio::test]
async fn pg_receivewal_keeps_the_wal_that_the_server_wrote() {
    let postgres = publishing().await;
    if is_too_old("pg_receivewal", &postgres).await {
        return;
    }
    postgres.run_in("app", "CREATE TABLE t (n int)").await;
    let slot = "SELECT pg_create_physical_replication_slot('archive', true)";
    postgres.run(slot).await;
    for workers in WORKERS {
        let pooler = few_seats(workers, &postgres).start().await;
        let place = Place::tcp(pooler.port());
        insert_rows(&postgres).await;
        let (end, last_file) = wal_end(&postgres).await;
        // It stops when it sees more than it wants.
        insert_rows(&postgres).await;

        let scratch = Scratch::new("wal").unwrap();
        let (target, endpos) = (scratch.path(), format!("--endpos={end}"));
        let dir = target.to_str().unwrap();
        let slot = ["--slot=archive", "--synchronous", "--no-loop"];
        let args = [&slot[..], &["-D", dir, &endpos]].concat();
        run("pg_receivewal", &place, &args).await.well();

        let archived = segments(target);
        let is_last = |file: &PathBuf| file.file_stem().unwrap() == &*last_file;
        assert!(archived.iter().any(is_last), "{archived:?}");
        for file in &archived {
            let own = postgres.socket_dir().join("data/pg_wal");
            let own = fs::read(own.join(file.file_stem().unwrap())).unwrap();
            let got = fs::read(file).unwrap();
            let end = got.iter().rposition(|&byte| byte != 0).unwrap();
            assert!(got[..end] == own[..end], "{} differs", file.display());
        }
    }
}

#[tokio::test]
async fn pg_receivewal_makes_and_drops_its_slot() {
    let postgres = publishing().await;
    for workers in WORKERS {
        let pooler = few_seats(workers, &postgres).start().await;
        let place = Place::tcp(pooler.port());
        let slots = async || {
            let admin = postgres.admin_client().await;
            let sql = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'archive'";
            admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
        };
        for (order, left) in [("--create-slot", 1), ("--drop-slot", 0)] {
            let args = ["--slot=archive", order];
            run("pg_receivewal", &place, &args).await.well();
            assert_eq!(slots().await, left);
        }
    }
}

#[tokio::test]
async fn pg_recvlogical_tells_the_changes_of_its_database() {
    let postgres = publishing().await;
    let table = "CREATE TABLE towns (name text PRIMARY KEY)";
    postgres.run_in("app", table).await;
    for workers in WORKERS {
        let pooler = few_seats(workers, &postgres).start().await;
        let place = Place::tcp(pooler.port());
        let slot = ["-d", "app", "--slot=changes"];
        let args = |more: &[&'static str]| [&slot[..], more].concat();
        let create = args(&["--create-slot", "--plugin=test_decoding"]);
        run("pg_recvlogical", &place, &create).await.well();
        let change = "INSERT INTO towns VALUES ('Lima'), ('Oslo'); TRUNCATE towns";
        postgres.run_in("app", change).await;
        let (end, _) = wal_end(&postgres).await;
        postgres
            .run_in(
                "app",
                "INSERT INTO towns VALUES ('Rome'); DELETE FROM towns",
            )
            .await;

        let endpos = format!("--endpos={end}");
        let (start, to_stdout) = (["--start", "--no-loop"], ["-f", "-", &endpos]);
        let args = [&slot[..], &start, &to_stdout].concat();
        let told = run("pg_recvlogical", &place, &args).await.well();
        let rows = told.lines().filter(|line| line.starts_with("table"));
        let expected = [
            "table public.towns: INSERT: name[text]:'Lima'",
            "table public.towns: INSERT: name[text]:'Oslo'",
            "table public.towns: TRUNCATE: (no-flags)",
        ];
        assert_eq!(rows.collect::<Vec<_>>(), expected, "{told}");
        let drop = [&slot[..], &["--drop-slot"]].concat();
        run("pg_recvlogical", &place, &drop).await.well();
    }
}

//! The same questions, asked of Debian's PgBouncer and of pgusher: where both have a column, its
//! type and its place among the others agree, and so do the answers to what both refuse.

use std::path::{Path, PathBuf};

use testkit::{FakeClient, Message, Pooler, transcript};

use super::operator;
use crate::support::pgusher;

/// Tables that PgBouncer 1.18 does not have yet.
const LATER: [&str; 3] = ["STATE", "PEERS", "PEER_POOLS"];

const TABLES: [&str; 18] = [
    "VERSION",
    "CONFIG",
    "DATABASES",
    "POOLS",
    "CLIENTS",
    "SERVERS",
    "USERS",
    "LISTS",
    "SOCKETS",
    "ACTIVE_SOCKETS",
    "FDS",
    "MEM",
    "DNS_HOSTS",
    "DNS_ZONES",
    "STATS",
    "STATS_TOTALS",
    "STATS_AVERAGES",
    "TOTALS",
];

/// A column of 1.18 that pgusher does not have, and what later versions call it.
const RENAMED: [(&str, &str, &str); 1] = [("DATABASES", "reserve_pool", "reserve_pool_size")];

/// What both answer alike, to the last byte.
const ALIKE: [&str; 20] = [
    "",
    "-- comment",
    "SHOW",
    "SHOW NONSENSE",
    "SHOW VERSION; SHOW VERSION",
    "SELECT 1",
    "BEGIN",
    "RELOAD now",
    "abcdefghijklmnop",
    "SHOW timezone",
    "SHOW client_encoding",
    "SHOW standard_conforming_strings",
    "SET timezone = 'UTC'",
    "SET default_pool_size = 7",
    "SET nonsense = 7",
    "DISABLE",
    "RESUME",
    "PAUSE nowhere",
    "PAUSE pgbouncer",
    "RELOAD",
];

/// What pgusher answers otherwise, and why.
const OTHERWISE: [(&str, &str); 1] = [(
    "SHOW VERSION",
    "each tells its own, and pgusher the PgBouncer that it stands for",
)];

/// Where `make test` puts it.
fn pgbouncer() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = root.join("target/pgbouncer/usr/sbin/pgbouncer");
    assert!(
        program.exists(),
        "no PgBouncer: .ci/fetch-pgbouncer target/pgbouncer"
    );
    program
}

/// Both, in this order, configured alike.
async fn both() -> [Pooler; 2] {
    let program = pgbouncer();
    let libraries = format!("../lib/{}-linux-gnu", std::env::consts::ARCH);
    let libraries = program.parent().unwrap().join(libraries);
    let theirs = Pooler::binary(&program).env("LD_LIBRARY_PATH", libraries.to_str().unwrap());
    let nowhere = "host=127.0.0.1 port=1";
    [
        theirs.database("shop", nowhere).start().await,
        pgusher(1).database("shop", nowhere).start().await,
    ]
}

/// Names and types of a table's columns.
async fn columns(operator: &mut FakeClient, table: &str) -> Vec<(String, i32)> {
    let answer = operator.query(&format!("SHOW {table}")).await;
    let Some(names) = answer[0].columns() else {
        panic!("SHOW {table}: {}", transcript(&answer));
    };
    let types = answer[0].column_types().unwrap();
    names.into_iter().zip(types).collect()
}

#[tokio::test]
async fn columns_that_both_have_are_alike() {
    let [theirs, ours] = both().await;
    let (mut theirs, mut ours) = (operator(&theirs).await, operator(&ours).await);
    for table in TABLES {
        let old = columns(&mut theirs, table).await;
        let new = columns(&mut ours, table).await;
        for (name, _) in &old {
            let renamed = RENAMED
                .iter()
                .any(|row| (row.0, row.1) == (table, name.as_str()));
            let there = new.iter().any(|(ours, _)| ours == name);
            assert!(there != renamed, "SHOW {table}: {name}");
        }
        let both = |columns: &[(String, i32)], others: &[(String, i32)]| {
            let known = |name: &String| others.iter().any(|(other, _)| other == name);
            let columns = columns.iter().filter(|(name, _)| known(name));
            columns.cloned().collect::<Vec<_>>()
        };
        assert_eq!(both(&new, &old), both(&old, &new), "SHOW {table}");
    }
    for (table, _, name) in RENAMED {
        let new = columns(&mut ours, table).await;
        assert!(new.iter().any(|(ours, _)| ours == name), "{table}.{name}");
    }
    for table in LATER {
        let answer = theirs.query(&format!("SHOW {table}")).await;
        assert!(answer[0].error_fields().is_some(), "1.18 has {table}");
        columns(&mut ours, table).await;
    }
}

#[tokio::test]
async fn what_both_refuse_or_do_is_answered_alike() {
    let [theirs, ours] = both().await;
    let (mut theirs, mut ours) = (operator(&theirs).await, operator(&ours).await);
    let encoded = |answer: &[Message]| answer.iter().map(Message::encode).collect::<Vec<_>>();
    for query in ALIKE {
        let (old, new) = (theirs.query(query).await, ours.query(query).await);
        assert_eq!(transcript(&new), transcript(&old), "{query:?}");
        assert_eq!(encoded(&new), encoded(&old), "{query:?}");
    }
    for (query, why) in OTHERWISE {
        let (old, new) = (theirs.query(query).await, ours.query(query).await);
        assert_ne!(transcript(&new), transcript(&old), "{query:?}: {why}");
    }
}

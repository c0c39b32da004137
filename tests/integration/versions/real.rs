//! The same with real peers: PostgreSQL 18, and libpq 18 as a client.

use std::path::Path;
use std::process::Command;

use testkit::{Address, Message, Postgres, Side, Tx, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{ALICE, CANCELED, alice_of, told_to_all};
use crate::support::{
    WORKERS, alice, before_postgres, major_version, postgres, trusting, wait_for_sleepers,
};

/// A PostgreSQL that speaks protocol 3.2, if it is one that is tested with: `make test PG=18`.
async fn newest() -> Option<Postgres> {
    let postgres = postgres().await;
    (major_version(&postgres).await >= 18).then_some(postgres)
}

#[tokio::test]
async fn postgresql_18_tells_of_versions_what_we_tell() {
    let Some(postgres) = newest().await else {
        return;
    };
    postgres
        .prepend_hba("host all alice 127.0.0.1/32 trust")
        .await;
    let pooler = before_postgres(&postgres, 1).start().await;
    let theirs = told_to_all(&postgres.address(), &ALICE).await;
    assert_eq!(told_to_all(&pooler.address(), &ALICE).await, theirs);
}

#[tokio::test]
async fn queries_on_postgresql_18_are_cancelled_with_its_long_keys() {
    let Some(postgres) = newest().await else {
        return;
    };
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers);
        let pooler = setup.set("default_pool_size", 1).start().await;
        for minor in [0, 2] {
            let mut client = alice_of(&pooler, minor).await;
            client.send(Message::query("SELECT pg_sleep(60)")).await;
            wait_for_sleepers(&postgres, 1).await;
            client.cancel_me().await;
            assert_eq!(client.expect_error().await.code(), CANCELED);
            assert_eq!(client.read().await, Message::ready(Tx::Idle));
        }
    }
}

/// Passes one session on to a server, and tells all that the server said when it is over.
async fn overhear(listener: TcpListener, server: Address) -> Vec<u8> {
    let Address::Tcp(server) = server else {
        unreachable!("it listens on TCP");
    };
    let (mut client, _) = listener.accept().await.unwrap();
    let mut server = TcpStream::connect(server).await.unwrap();
    let (mut from_server, mut to_server) = server.split();
    let (mut from_client, mut to_client) = client.split();
    let asked = async {
        tokio::io::copy(&mut from_client, &mut to_server).await?;
        to_server.shutdown().await
    };
    let mut said = Vec::new();
    let answered = async {
        let mut piece = [0; 4096];
        loop {
            match from_server.read(&mut piece).await? {
                0 => return to_client.shutdown().await,
                count => {
                    said.extend_from_slice(&piece[..count]);
                    to_client.write_all(&piece[..count]).await?;
                }
            }
        }
    };
    let (asked, answered) = tokio::join!(asked, answered);
    asked.and(answered).unwrap();
    said
}

#[tokio::test]
async fn postgresql_18_is_asked_for_3_2_and_gives_a_long_key() {
    let Some(postgres) = newest().await else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let said = tokio::spawn(overhear(listener, postgres.address()));
    let pooler = trusting(1)
        .database("app", &format!("host=127.0.0.1 port={port}"))
        .start()
        .await;
    assert_eq!(alice(&pooler).await.query_value("SELECT 'on'").await, "on");
    drop(pooler);

    let mut said = in_time("the end of the session", said).await.unwrap();
    let messages = std::iter::from_fn(|| Message::take(Side::Server, &mut said));
    let key = messages.into_iter().find(|message| message.tag == b'K');
    assert_eq!(key.unwrap().body.len(), 4 + 32);
}

#[tokio::test]
async fn libpq_18_asks_for_3_2_and_cancels_with_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv/bin/python");
    assert!(python.exists(), "no drivers in Python: make .venv/ready");
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers).start().await;
        let mut client = Command::new(&python);
        client.arg(root.join("tests/drivers/libpq_3_2.py"));
        client.args(["127.0.0.1", &pooler.port().to_string()]);
        let output = tokio::task::spawn_blocking(move || client.output()).await;
        let output = output.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

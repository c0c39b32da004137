//! Protocol 3.2 and its long cancel keys, to clients and to servers.

mod real;
mod servers;

use std::fmt::Write;

use expect_test::expect;
use testkit::{CancelKey, FakeClient, FakeServer, Message, Pooler};

use crate::support::{WORKERS, before, servers_opened};

const ALICE: [(&str, &str); 2] = [("user", "alice"), ("database", "app")];
const CANCELED: &str = "57014";

/// A client of this minor version of protocol 3.
async fn alice_of(pooler: &Pooler, minor: u16) -> FakeClient {
    let mut client = FakeClient::connect(&pooler.address()).await;
    client.startup_of(minor, &ALICE).await;
    client.read_auth_ok().await;
    client.read_welcome().await;
    client
}

/// What versions and extensions a client may ask for.
const ASKED: [(u16, &[&str]); 9] = [
    (0, &[]),
    (1, &[]),
    (2, &[]),
    (3, &[]),
    (9999, &[]),
    (0, &["_pq_.one", "_pq_.two"]),
    (1, &["_pq_.one"]),
    (2, &["_pq_.one"]),
    (9999, &["_pq_.one"]),
];

/// What somebody who asks for that is told of it, and how long a secret it gets.
async fn told(address: &testkit::Address, asked: (u16, &[&str]), login: &[(&str, &str)]) -> String {
    let (minor, extensions) = asked;
    let mut client = FakeClient::connect(address).await;
    let extensions = extensions.iter().map(|&name| (name, "1"));
    let parameters: Vec<_> = login.iter().copied().chain(extensions).collect();
    client.startup_of(minor, &parameters).await;
    let mut welcome = client.read_until_ready().await;
    let key = welcome.iter().find(|message| message.tag == b'K').unwrap();
    let key_len = key.body.len();
    welcome.retain(|message| message.tag == b'v');
    let negotiated = testkit::transcript(&welcome);
    format!("key of {key_len} bytes {}", negotiated.trim_end())
}

/// The same for all that may be asked for.
async fn told_to_all(address: &testkit::Address, login: &[(&str, &str)]) -> String {
    let mut table = String::new();
    for (minor, extensions) in ASKED {
        let answer = told(address, (minor, extensions), login).await;
        writeln!(table, "3.{minor} {}: {answer}", extensions.join(" ")).unwrap();
    }
    table
}

#[tokio::test]
async fn clients_get_the_protocol_they_ask_for_and_hear_once_what_they_do_not_get() {
    let server = FakeServer::start().await;
    let pooler = before(&server, 1).start().await;
    expect![[r#"
        3.0 : key of 8 bytes 
        3.1 : key of 8 bytes 
        3.2 : key of 36 bytes 
        3.3 : key of 36 bytes < NegotiateProtocolVersion 3.2 without []
        3.9999 : key of 36 bytes < NegotiateProtocolVersion 3.2 without []
        3.0 _pq_.one _pq_.two: key of 8 bytes < NegotiateProtocolVersion 3.0 without [_pq_.one, _pq_.two]
        3.1 _pq_.one: key of 8 bytes < NegotiateProtocolVersion 3.1 without [_pq_.one]
        3.2 _pq_.one: key of 36 bytes < NegotiateProtocolVersion 3.2 without [_pq_.one]
        3.9999 _pq_.one: key of 36 bytes < NegotiateProtocolVersion 3.2 without [_pq_.one]
    "#]]
    .assert_eq(&told_to_all(&pooler.address(), &ALICE).await);
}

#[tokio::test]
async fn the_console_gives_long_keys_too() {
    let server = FakeServer::start().await;
    let pooler = before(&server, 1).set("stats_users", "alice").start().await;
    let console = [("user", "alice"), ("database", "pgbouncer")];
    let answer = told(&pooler.address(), (2, &[]), &console).await;
    assert_eq!(answer.trim_end(), "key of 36 bytes");
}

#[tokio::test]
async fn a_long_key_cancels_only_if_it_fits_to_its_last_byte() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers).start().await;
        for minor in [0, 2] {
            let mut client = alice_of(&pooler, minor).await;
            client.send(Message::query("HOLD door")).await;
            server.gate("door").wait_for_waiting(1).await;
            let CancelKey { pid, secret } = client.cancel_key().clone();
            assert_eq!(secret.len(), if minor == 2 { 32 } else { 4 });
            let before = server.cancels().len();
            let mut wrong = vec![secret[..4].to_vec(), [&secret[..], &[0; 28]].concat()];
            for place in 0..secret.len() {
                let mut secret = secret.clone();
                secret[place] ^= 1;
                wrong.push(secret);
            }
            wrong.retain(|it| *it != secret);
            for secret in wrong {
                FakeClient::cancel(&pooler.address(), &CancelKey { pid, secret }).await;
            }
            assert_eq!(server.cancels().len(), before);
            client.cancel_me().await;
            assert_eq!(client.expect_error().await.code(), CANCELED);
            assert_eq!(server.cancels().len(), before + 1);
        }
    }
}

#[tokio::test]
async fn a_cancel_request_of_impossible_length_is_refused() {
    let server = FakeServer::start().await;
    let pooler = before(&server, 1).start().await;
    for len in [3, 257] {
        let key = CancelKey {
            pid: 1,
            secret: vec![1; len],
        };
        FakeClient::cancel(&pooler.address(), &key).await;
    }
    assert_eq!(servers_opened(&pooler).await, 0);
    let log = pooler.log_count("invalid startup packet layout: expected terminator as last byte");
    // One line for the connection's end and one for the error, each.
    assert_eq!(log, 4);
}

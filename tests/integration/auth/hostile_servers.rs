//! Servers that are not what they say: no login of ours goes wrong in a worse way than failing.

use std::fmt::Write;
use std::sync::Arc;

use expect_test::expect;
use testkit::{Ask, FakeServer, Message, Side, Step, Tx, scram_secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{WORKERS, outcome, pgusher};

/// What a server says next, to the message that it has just read.
type Say = fn(&[u8]) -> Vec<u8>;

/// A server that says these things in turn, whatever it hears; returns its port.
async fn rude(script: Vec<Say>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // It ends when the pooler has had enough.
            tokio::spawn(be_rude(stream, script.clone()));
        }
    });
    port
}

async fn be_rude(mut stream: TcpStream, script: Vec<Say>) -> std::io::Result<()> {
    let mut heard = vec![0; 10_000];
    for say in script {
        let count = stream.read(&mut heard).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&say(&heard[..count])).await?;
    }
    while stream.read(&mut heard).await? > 0 {}
    Ok(())
}

fn error(fields: &[u8]) -> Vec<u8> {
    Message {
        side: Side::Server,
        tag: b'E',
        body: fields.to_vec(),
    }
    .encode()
}

fn asks_sasl(_: &[u8]) -> Vec<u8> {
    Message::auth(10, b"SCRAM-SHA-256\0\0").encode()
}

/// The challenge that `make` makes of the client's nonce.
fn challenge(heard: &[u8], make: impl Fn(&str) -> String) -> Vec<u8> {
    let heard = String::from_utf8_lossy(heard);
    let nonce = heard.rsplit("r=").next().unwrap_or_default();
    Message::auth(11, make(nonce).as_bytes()).encode()
}

const SALT: &str = "c2FsdHNhbHRzYWx0c2FsdA==";

/// Each offence, and the script of the server that commits it.
fn offences() -> Vec<(&'static str, Vec<Say>)> {
    let scram = |say: Say| vec![asks_sasl as Say, say];
    vec![
        (
            "error without SQLSTATE",
            vec![|_| error(b"SFATAL\0Mgo away\0\0")],
        ),
        (
            "error without words",
            vec![|_| error(b"SFATAL\0C28000\0\0")],
        ),
        ("error without anything", vec![|_| error(b"\0")]),
        ("error without end", vec![|_| error(b"SFATAL\0C28000\0Mgo")]),
        (
            "error with an odd SQLSTATE",
            vec![|_| error(b"SFATAL\0C\xff\0Mgo away\0\0")],
        ),
        ("error of 2 MB", vec![|_| error(&vec![b'M'; 2 << 20])]),
        (
            "no protocol",
            vec![|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()],
        ),
        ("a length of 0", vec![|_| b"R\0\0\0\0".to_vec()]),
        ("a negative length", vec![|_| b"R\xff\xff\xff\xff".to_vec()]),
        ("ready before the login", vec![|_| b"Z\0\0\0\x05I".to_vec()]),
        (
            "a request without its number",
            vec![|_| b"R\0\0\0\x06\0\0".to_vec()],
        ),
        ("GSSAPI", vec![|_| Message::auth(7, b"").encode()]),
        (
            "an MD5 salt of 3 bytes",
            vec![|_| Message::auth(5, b"abc").encode()],
        ),
        (
            "no mechanism of ours",
            vec![|_| Message::auth(10, b"PLAIN\0SCRAM-SHA-1\0\0").encode()],
        ),
        (
            "mechanisms without end",
            vec![|_| Message::auth(10, &b"X\0".repeat(5000)).encode()],
        ),
        (
            "a challenge before the question",
            vec![|_| Message::auth(11, b"r=x,s=c2FsdA==,i=1").encode()],
        ),
        (
            "welcome in the middle of SCRAM",
            scram(|_| Message::auth_ok().encode()),
        ),
        (
            "MD5 in the middle of SCRAM",
            scram(|_| Message::auth(5, b"salt").encode()),
        ),
        (
            "its own nonce alone",
            scram(|heard| challenge(heard, |_| format!("r=abc,s={SALT},i=4096"))),
        ),
        (
            "our nonce alone",
            scram(|heard| challenge(heard, |r| format!("r={r},s={SALT},i=4096"))),
        ),
        (
            "a nonce of 600 bytes",
            scram(|heard| {
                challenge(heard, |r| {
                    format!("r={r}{},s={SALT},i=4096", "n".repeat(600))
                })
            }),
        ),
        (
            "a nonce of 1 MB",
            scram(|heard| {
                challenge(heard, |r| {
                    format!("r={r}{},s={SALT},i=4096", "n".repeat(1_000_000))
                })
            }),
        ),
        (
            "no salt",
            scram(|heard| challenge(heard, |r| format!("r={r}x,s=,i=4096"))),
        ),
        (
            "a salt that is no base64",
            scram(|heard| challenge(heard, |r| format!("r={r}x,s=***,i=4096"))),
        ),
        (
            "0 iterations",
            scram(|heard| challenge(heard, |r| format!("r={r}x,s={SALT},i=0"))),
        ),
        (
            "2^31 iterations",
            scram(|heard| challenge(heard, |r| format!("r={r}x,s={SALT},i=2147483648"))),
        ),
        (
            "2^31 - 1 iterations",
            scram(|heard| challenge(heard, |r| format!("r={r}x,s={SALT},i=2147483647"))),
        ),
        (
            "2^64 iterations",
            scram(|heard| challenge(heard, |r| format!("r={r}x,s={SALT},i=18446744073709551616"))),
        ),
        (
            "-1 iterations",
            scram(|heard| challenge(heard, |r| format!("r={r}x,s={SALT},i=-1"))),
        ),
        (
            "an extension that must be known",
            scram(|heard| challenge(heard, |r| format!("m=x,r={r}x,s={SALT},i=1"))),
        ),
        (
            "half a challenge",
            scram(|heard| challenge(heard, |r| format!("r={r}x,s={SALT}"))),
        ),
        (
            "the challenge twice",
            vec![
                asks_sasl,
                |heard| challenge(heard, |r| format!("r={r}x,s={SALT},i=1")),
                |heard| challenge(heard, |r| format!("r={r}x,s={SALT},i=1")),
            ],
        ),
        (
            "a forged signature",
            vec![
                asks_sasl,
                |heard| challenge(heard, |r| format!("r={r}x,s={SALT},i=1")),
                |_| Message::auth(12, b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").encode(),
            ],
        ),
        (
            "no signature",
            vec![
                asks_sasl,
                |heard| challenge(heard, |r| format!("r={r}x,s={SALT},i=1")),
                |_| Message::auth_ok().encode(),
            ],
        ),
        (
            "a refusal in SCRAM's own words",
            vec![
                asks_sasl,
                |heard| challenge(heard, |r| format!("r={r}x,s={SALT},i=1")),
                |_| Message::auth(12, b"e=invalid-proof").encode(),
            ],
        ),
        (
            "a key of 3 bytes",
            vec![|_| [Message::auth_ok().encode(), b"K\0\0\0\x07abc".to_vec()].concat()],
        ),
    ]
}

#[tokio::test]
async fn whatever_a_server_says_at_the_login_it_fails_and_the_client_hears_of_it() {
    let honest = FakeServer::start().await;
    let mut setup = pgusher(1)
        .database("honest", &honest.conn_info("honest"))
        .user("alice", "secret")
        .set("auth_type", "trust")
        .set("server_tls_sslmode", "disable");
    for (number, (_, script)) in offences().into_iter().enumerate() {
        let port = rude(script).await;
        let conn_info = format!("host=127.0.0.1 port={port} user=clerk password=secret");
        setup = setup.database(&format!("rude{number}"), &conn_info);
    }
    // What nobody is told at once is told when the login has taken too long.
    let setup = setup.set("client_login_timeout", 3);
    let pooler = Arc::new(setup.set("server_login_retry", 60).start().await);

    let logins = offences()
        .into_iter()
        .enumerate()
        .map(|(number, (name, _))| {
            let (pooler, database) = (pooler.clone(), format!("rude{number}"));
            let login = async move { outcome(&pooler, "alice", "", &database).await };
            (name, tokio::spawn(login))
        });
    let mut table = String::new();
    for (name, login) in logins.collect::<Vec<_>>() {
        writeln!(table, "{name}: {}", login.await.unwrap()).unwrap();
    }
    expect![[r#"
        error without SQLSTATE: FATAL 08P01 go away
        error without words: FATAL 28000 server login failed
        error without anything: FATAL 08P01 server login failed
        error without end: FATAL 28000 server login failed
        error with an odd SQLSTATE: FATAL 08P01 go away
        error of 2 MB: FATAL 08P01 client_login_timeout (server down)
        no protocol: FATAL 08P01 client_login_timeout (server down)
        a length of 0: FATAL 08P01 client_login_timeout (server down)
        a negative length: FATAL 08P01 client_login_timeout (server down)
        ready before the login: FATAL 08P01 client_login_timeout (server down)
        a request without its number: FATAL 08P01 client_login_timeout (server down)
        GSSAPI: FATAL 08P01 server login failed: unsupported authentication method 7
        an MD5 salt of 3 bytes: FATAL 08P01 client_login_timeout (server down)
        no mechanism of ours: FATAL 08P01 server login failed: none of the server's SASL authentication mechanisms are supported
        mechanisms without end: FATAL 08P01 client_login_timeout (server down)
        a challenge before the question: FATAL 08P01 server login failed: unexpected authentication message
        welcome in the middle of SCRAM: FATAL 08P01 server login failed: failed to verify server signature
        MD5 in the middle of SCRAM: FATAL 08P01 server login failed: unexpected authentication message
        its own nonce alone: FATAL 08P01 server login failed: SCRAM nonce mismatch
        our nonce alone: FATAL 08P01 server login failed: SCRAM nonce mismatch
        a nonce of 600 bytes: FATAL 08P01 server login failed: SCRAM nonce mismatch
        a nonce of 1 MB: FATAL 08P01 server login failed: malformed SCRAM message (too long)
        no salt: FATAL 08P01 server login failed: malformed SCRAM message (the salt is not usable)
        a salt that is no base64: FATAL 08P01 server login failed: malformed SCRAM message (the salt is not usable)
        0 iterations: FATAL 08P01 server login failed: SCRAM iteration count 0 is out of range
        2^31 iterations: FATAL 08P01 server login failed: SCRAM iteration count 2147483648 is out of range
        2^31 - 1 iterations: FATAL 08P01 server login failed: SCRAM iteration count 2147483647 is out of range
        2^64 iterations: FATAL 08P01 server login failed: SCRAM iteration count 18446744073709551615 is out of range
        -1 iterations: FATAL 08P01 server login failed: malformed SCRAM message (the iteration count is no number)
        an extension that must be known: FATAL 08P01 server login failed: the peer requires an unsupported SCRAM extension
        half a challenge: FATAL 08P01 server login failed: malformed SCRAM message (an attribute is missing)
        the challenge twice: FATAL 08P01 server login failed: unexpected authentication message
        a forged signature: FATAL 08P01 server login failed: invalid server signature
        no signature: FATAL 08P01 server login failed: failed to verify server signature
        a refusal in SCRAM's own words: FATAL 08P01 server login failed: failed to verify server signature
        a key of 3 bytes: FATAL 08P01 client_login_timeout (server down)
    "#]].assert_eq(&table);
    assert_eq!(outcome(&pooler, "alice", "", "honest").await, "in");
}

#[tokio::test]
async fn a_server_that_asks_for_less_than_we_can_prove_gets_nothing() {
    // We have keys only, and so can't be talked into a hash or the password itself.
    let mut setup = pgusher(1)
        .user("vera", &scram_secret("secret"))
        .set("server_tls_sslmode", "disable");
    let scripts: [Say; 2] = [
        |_| Message::auth(3, b"").encode(),
        |_| Message::auth(5, b"salt").encode(),
    ];
    for (number, script) in scripts.into_iter().enumerate() {
        let port = rude(vec![script]).await;
        let conn_info = format!("host=127.0.0.1 port={port}");
        setup = setup.database(&format!("rude{number}"), &conn_info);
    }
    let pooler = setup.start().await;
    for database in ["rude0", "rude1"] {
        assert_eq!(
            outcome(&pooler, "vera", "secret", database).await,
            "FATAL 08P01 server login failed: wrong password type"
        );
    }
}

/// What comes instead of a row with a name and a secret.
fn nonsense(user: &str) -> Vec<Step> {
    let row = |body: &[u8]| {
        let (side, tag, body) = (Side::Server, b'D', body.to_vec());
        Step::Raw(Message { side, tag, body }.encode())
    };
    let done = Step::Send(Message::command_complete("SELECT 1"));
    match user {
        "cut" => vec![row(b"\0\x02\0\0\0\x05al"), done],
        "negative" => vec![row(b"\0\x02\xff\xff\xff\xfe\0\0\0\0"), done],
        "more" => vec![row(b"\0\x02\0\0\0\x01a\0\0\0\x01b!"), done],
        "latin1" => vec![row(b"\0\x02\0\0\0\x01\xe9\0\0\0\x01b"), done],
        "huge" => vec![row(&vec![0; 2 << 20]), done],
        "copy" => vec![Step::CopyIn],
        "open" => vec![Step::Tx(Tx::Open), done],
        "codeless" => vec![Step::Raw(error(b"SERROR\0Mno code\0\0"))],
        "dead" => vec![Step::Die],
        _ => vec![Step::DieAbruptly],
    }
}

#[tokio::test]
async fn answers_to_auth_query_that_make_no_sense_let_nobody_in() {
    let fake = FakeServer::setup().answer(async |ask: Ask| {
        let user = ask.values.first()?.clone()?;
        Some(nonsense(&user))
    });
    let fake = fake.start().await;
    for workers in WORKERS {
        let mut pooler = pgusher(workers)
            .database("shop", &fake.conn_info("shop"))
            .user("usher", "keys")
            .set("auth_user", "usher")
            .start()
            .await;
        for user in [
            "cut", "negative", "more", "latin1", "huge", "copy", "open", "codeless", "dead",
            "abruptly",
        ] {
            assert_eq!(
                outcome(&pooler, user, "b", "shop").await,
                "FATAL 08P01 bouncer config error",
                "{user}"
            );
        }
        assert!(pooler.is_running());
    }
}

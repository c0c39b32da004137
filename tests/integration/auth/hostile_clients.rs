//! Clients at the door who mean no good: each is sent away, and the others never notice.

use std::fmt::Write;

use expect_test::expect;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use testkit::{
    FakeClient, FakeServer, Message, Pooler, PoolerSetup, eventually_async, md5_secret,
    scram_secret, startup_packet,
};

use crate::support::{outcome, pgusher, words};

fn door(fake: &FakeServer) -> PoolerSetup {
    pgusher(1)
        .database("shop", &fake.conn_info("shop"))
        .user("alice", "secret")
        .user("vera", &scram_secret("secret"))
        .user("mary", &md5_secret("mary", "secret"))
}

/// What a client hears who says this and nothing else.
async fn told(pooler: &Pooler, bytes: &[u8]) -> String {
    let mut client = FakeClient::connect(&pooler.address()).await;
    // Who is refused early may be gone before all is said.
    let _ = client.try_send_raw(bytes).await;
    last_words(&mut client).await
}

async fn last_words(client: &mut FakeClient) -> String {
    let heard = client.expect_closed().await;
    match heard
        .last()
        .map(|message| (message, message.error_fields()))
    {
        None => "nothing".to_owned(),
        Some((_, Some(error))) => words(&error),
        Some((message, None)) => message.to_string(),
    }
}

fn packet(len: i32, body: &[u8]) -> Vec<u8> {
    [&len.to_be_bytes()[..], body].concat()
}

#[tokio::test]
async fn first_packets_that_can_not_be_are_refused_by_their_header() {
    let fake = FakeServer::start().await;
    let mut pooler = door(&fake).start().await;
    let version = 196_608_i32.to_be_bytes();
    let endless = vec![b'x'; 100_000];
    let unended = [&version[..], b"user\0alice\0database\0shop\0"].concat();
    let odd = [&version[..], b"user\0alice\0database\0\0"].concat();
    let nameless = [&version[..], b"\0alice\0\0"].concat();
    let behind = [&version[..], b"user\0alice\0\0more\0"].concat();
    let cases: [(&str, Vec<u8>); 17] = [
        ("a length of 0", packet(0, &version)),
        ("a length of 4", packet(4, &version)),
        ("a length of 7", packet(7, &version)),
        ("a negative length", packet(-1, &version)),
        ("the most negative length", packet(i32::MIN, &version)),
        ("the greatest length", packet(i32::MAX, &version)),
        ("one byte too many", packet(10_001, &version)),
        ("endless letters", endless),
        ("endless zeros", vec![0; 100_000]),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("a password", Message::password("secret").encode()),
        ("a query", Message::query("SELECT 1").encode()),
        ("protocol 2", packet(8, &131_072_i32.to_be_bytes())),
        ("no end", packet(unended.len() as i32 + 4, &unended)),
        ("no value", packet(odd.len() as i32 + 4, &odd)),
        ("no name", packet(nameless.len() as i32 + 4, &nameless)),
        (
            "more behind the end",
            packet(behind.len() as i32 + 4, &behind),
        ),
    ];
    let mut table = String::new();
    for (name, bytes) in cases {
        writeln!(table, "{name}: {}", told(&pooler, &bytes).await).unwrap();
    }
    expect![[r#"
        a length of 0: FATAL 08P01 bad packet header: '0000000000030000'
        a length of 4: FATAL 08P01 bad packet header: '0000000400030000'
        a length of 7: FATAL 08P01 bad packet header: '0000000700030000'
        a negative length: FATAL 08P01 bad packet header: 'ffffffff00030000'
        the most negative length: FATAL 08P01 bad packet header: '8000000000030000'
        the greatest length: FATAL 08P01 bad packet header: '7fffffff00030000'
        one byte too many: FATAL 08P01 bad packet header: '0000271100030000'
        endless letters: FATAL 08P01 bad packet header: '7878787878787878'
        endless zeros: FATAL 08P01 bad packet header: '0000000000000000'
        HTTP: FATAL 08P01 bad packet header: '474554202f204854'
        a password: FATAL 08P01 bad packet header: '700000000b736563'
        a query: FATAL 08P01 bad packet header: '510000000d53454c'
        protocol 2: FATAL 08P01 old V2 protocol not supported
        no end: FATAL 08P01 invalid startup packet layout: expected terminator as last byte
        no value: FATAL 08P01 invalid startup packet layout: expected terminator as last byte
        no name: FATAL 08P01 invalid startup packet layout: expected terminator as last byte
        more behind the end: FATAL 08P01 invalid startup packet layout: expected terminator as last byte
    "#]].assert_eq(&table);
    // Who says nothing, or not even half of it, and goes.
    for bytes in [&b""[..], &[0], &startup_packet(&[("user", "alice")])[..9]] {
        let mut client = FakeClient::connect(&pooler.address()).await;
        client.send_raw(bytes).await;
        client.half_close();
        assert_eq!(last_words(&mut client).await, "nothing");
    }
    assert_eq!(outcome(&pooler, "alice", "secret", "shop").await, "in");
    assert!(pooler.is_running());
}

#[tokio::test]
async fn nobody_asks_for_encryption_for_ever() {
    let fake = FakeServer::start().await;
    let pooler = door(&fake).start().await;
    let ssl = packet(8, &80_877_103_i32.to_be_bytes());
    let mut client = FakeClient::connect(&pooler.address()).await;
    client.send_raw(&ssl).await;
    assert_eq!(client.read_byte().await, Some(b'N'));
    client.send_raw(&ssl).await;
    assert_eq!(
        last_words(&mut client).await,
        "FATAL 08P01 client re-sent startup pkt"
    );
}

/// A client that has been asked for its password, or for SASL.
async fn asked(pooler: &Pooler, user: &str) -> FakeClient {
    let mut client = FakeClient::connect(&pooler.address()).await;
    client
        .startup(&[("user", user), ("database", "shop")])
        .await;
    assert_eq!(client.read().await.tag, b'R');
    client
}

fn sasl(data: &str) -> Message {
    Message::sasl_initial("SCRAM-SHA-256", data.as_bytes())
}

#[tokio::test]
async fn answers_that_are_no_password_and_no_sasl_are_refused() {
    let fake = FakeServer::start().await;
    let pooler = door(&fake).start().await;
    let long = "n".repeat(600);
    let huge = "x".repeat(70_000);
    let header = |tag: u8, len: i32| [&[tag][..], &len.to_be_bytes()].concat();
    let cases: [(&str, Vec<u8>); 17] = [
        ("a password in clear", Message::password("secret").encode()),
        (
            "an MD5 answer",
            Message::password("md5e8a48653851e28c69d0506508fb27fc5").encode(),
        ),
        ("nothing at all", Message::client(b'p', []).encode()),
        (
            "another mechanism",
            Message::sasl_initial("PLAIN", b"\0alice\0secret").encode(),
        ),
        (
            "the one with channel binding",
            Message::sasl_initial("SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=,r=x").encode(),
        ),
        (
            "a cut mechanism",
            Message::client(b'p', b"SCRAM-SHA").encode(),
        ),
        (
            "a cut length",
            Message::client(b'p', b"SCRAM-SHA-256\0\0\0").encode(),
        ),
        (
            "a length too great",
            Message::client(b'p', b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,").encode(),
        ),
        ("no nonce", sasl("n,,n=").encode()),
        ("an empty nonce", sasl("n,,n=,r=").encode()),
        (
            "an overlong nonce",
            sasl(&format!("n,,n=,r={long}")).encode(),
        ),
        (
            "an overlong message",
            sasl(&format!("n,,n=,r=x,x={}", "y".repeat(2000))).encode(),
        ),
        (
            "no UTF-8",
            Message::sasl_initial("SCRAM-SHA-256", b"n,,n=,r=\xff").encode(),
        ),
        ("a mandatory extension", sasl("n,,m=x,n=,r=x").encode()),
        ("someone else's name", sasl("n,a=bob,n=,r=x").encode()),
        (
            "a message of 70,000 bytes",
            Message::password(&huge).encode(),
        ),
        ("a header of 2 GB", header(b'p', i32::MAX)),
    ];
    let mut table = String::new();
    for (name, bytes) in cases {
        let mut of_users = Vec::new();
        for user in ["alice", "vera", "nobody"] {
            let mut client = asked(&pooler, user).await;
            let _ = client.try_send_raw(&bytes).await;
            of_users.push(last_words(&mut client).await);
        }
        let [alice, rest @ ..] = &of_users[..] else {
            unreachable!()
        };
        assert!(
            rest.iter().all(|told| told == alice),
            "{name}: {of_users:?}"
        );
        writeln!(table, "{name}: {alice}").unwrap();
    }
    expect![[r#"
        a password in clear: FATAL 08P01 SASL authentication failed
        an MD5 answer: FATAL 08P01 SASL authentication failed
        nothing at all: FATAL 08P01 SASL authentication failed
        another mechanism: FATAL 08P01 client selected an invalid SASL authentication mechanism
        the one with channel binding: FATAL 08P01 client selected an invalid SASL authentication mechanism
        a cut mechanism: FATAL 08P01 SASL authentication failed
        a cut length: FATAL 08P01 SASL authentication failed
        a length too great: FATAL 08P01 SASL authentication failed
        no nonce: FATAL 08P01 SASL authentication failed
        an empty nonce: FATAL 08P01 SASL authentication failed
        an overlong nonce: FATAL 08P01 SASL authentication failed
        an overlong message: FATAL 08P01 SASL authentication failed
        no UTF-8: FATAL 08P01 SASL authentication failed
        a mandatory extension: FATAL 08P01 SASL authentication failed
        someone else's name: FATAL 08P01 SASL authentication failed
        a message of 70,000 bytes: FATAL 08P01 bad packet header: '7000011175'
        a header of 2 GB: FATAL 08P01 bad packet header: '707fffffff'
    "#]].assert_eq(&table);
    assert_eq!(outcome(&pooler, "vera", "secret", "shop").await, "in");
}

/// What a client hears who answers the challenge with what `make` makes of it.
async fn second(pooler: &Pooler, user: &str, make: impl Fn(&str) -> String) -> String {
    let mut client = asked(pooler, user).await;
    client.send(sasl("n,,n=,r=abc")).await;
    let challenge = String::from_utf8(client.read_auth(11).await).unwrap();
    let nonce = challenge.split(',').next().unwrap();
    client
        .send(Message::sasl_response(make(nonce).as_bytes()))
        .await;
    last_words(&mut client).await
}

#[tokio::test]
async fn last_messages_of_scram_that_are_cut_forged_or_repeated_prove_nothing() {
    const PROOF: &str = "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
    const LONG: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let fake = FakeServer::start().await;
    let pooler = door(&fake).start().await;
    type Make = fn(&str) -> String;
    let cases: [(&str, Make); 14] = [
        ("nothing", |_| String::new()),
        ("the first again", |_| "n,,n=,r=abc".into()),
        ("no proof", |nonce| format!("c=biws,{nonce}")),
        ("an empty proof", |nonce| format!("c=biws,{nonce},p=")),
        ("a short proof", |nonce| format!("c=biws,{nonce},p={PROOF}")),
        ("a wrong proof", |nonce| format!("c=biws,{nonce},p={LONG}")),
        ("no base64", |nonce| {
            format!("c=biws,{nonce},p={}", LONG.replace('A', "*"))
        }),
        ("unpadded base64", |nonce| {
            format!("c=biws,{nonce},p={}", LONG.trim_end_matches('='))
        }),
        ("another nonce", |_| format!("c=biws,r=abcdef,p={LONG}")),
        ("the client's own nonce", |_| {
            format!("c=biws,r=abc,p={LONG}")
        }),
        ("another binding", |nonce| {
            format!("c=eSws,{nonce},p={LONG}")
        }),
        ("no binding", |nonce| format!("{nonce},p={LONG}")),
        ("twice the nonce", |nonce| {
            format!("c=biws,{nonce},{nonce},p={LONG}")
        }),
        ("too much", |nonce| {
            format!("c=biws,{nonce},x={},p={LONG}", "y".repeat(2000))
        }),
    ];
    for (name, make) in cases {
        for user in ["alice", "vera", "mary", "nobody"] {
            let told = second(&pooler, user, make).await;
            assert_eq!(
                told, "FATAL 08P01 SASL authentication failed",
                "{name} {user}"
            );
        }
    }
    assert_eq!(outcome(&pooler, "vera", "secret", "shop").await, "in");
}

#[tokio::test]
async fn nobody_talks_a_stored_verifier_down_to_md5() {
    let fake = FakeServer::start().await;
    let pooler = door(&fake).set("auth_type", "md5").start().await;
    let mut client = FakeClient::connect(&pooler.address()).await;
    client
        .startup(&[("user", "vera"), ("database", "shop")])
        .await;
    assert_eq!(client.read_auth(10).await, b"SCRAM-SHA-256\0\0");
    // As if MD5 had been asked for: whatever the hash, it is no SASL.
    client
        .send(Message::password("md5e8a48653851e28c69d0506508fb27fc5"))
        .await;
    assert_eq!(
        last_words(&mut client).await,
        "FATAL 08P01 SASL authentication failed"
    );
}

#[tokio::test]
async fn names_can_not_forge_lines_of_the_log() {
    let fake = FakeServer::start().await;
    let pooler = door(&fake).start().await;
    let name =
        "eve\n2026-01-01 00:00:00.000 UTC [1] LOG forged\u{1b}[2J\r\0".trim_end_matches('\0');
    let mut client = FakeClient::connect(&pooler.address()).await;
    client.startup(&[("user", name), ("database", name)]).await;
    client.read_auth(10).await;
    let line = pooler.wait_for_log("login attempt: db=eve").await;
    assert!(line.contains("user=eve"), "{line:?}");
    assert!(!line.contains('\u{1b}') && !line.contains('\r'), "{line:?}");
}

#[tokio::test]
async fn five_thousand_half_open_logins_keep_nobody_out_and_are_all_sent_away() {
    const CROWD: usize = 5000;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let fake = FakeServer::start().await;
    let pooler = door(&fake)
        .set("max_client_conn", CROWD + 100)
        .set("client_login_timeout", 0)
        .start()
        .await;
    let console = pooler.console().await;
    let hello = startup_packet(&[("user", "alice"), ("database", "shop")]);
    let before = pooler.rss();
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let mut client = FakeClient::connect(&pooler.address()).await;
        // Silent, in the middle of the first packet, or at the question for the password.
        let said = [0, 9, hello.len()][number % 3];
        client.send_raw(&hello[..said]).await;
        crowd.push(client);
    }
    let logins = async || {
        let row = console.show_row("LISTS", "list", "login_clients").await;
        row.number("items")
    };
    eventually_async("the crowd to be at the door", async || {
        logins().await == CROWD as i64
    })
    .await;
    let each = (pooler.rss() - before) / CROWD as u64;
    assert!(each < 20_000, "{each} bytes each");
    assert_eq!(outcome(&pooler, "alice", "secret", "shop").await, "in");
    let served = pooler.connect("vera", "secret", "shop").await;
    served.simple_query("SELECT 'served'").await.unwrap();
    console.run("SET client_login_timeout = 1").await;

    for client in &mut crowd {
        let told = last_words(client).await;
        assert_eq!(told, "FATAL 08P01 client_login_timeout");
    }
    assert_eq!(logins().await, 0);
    served.simple_query("SELECT 'served on'").await.unwrap();
}

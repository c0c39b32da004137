//! Clients: who must encrypt, who may, and what is agreed on.

use testkit::{
    Authority, FakeClient, FakeServer, Message, Pooler, Startup, TlsTunnel, startup_packet,
};

use super::{assert_refused, psql, serving};
use crate::support::{WORKERS, alice, before, outcome, outcome_over_unix, words};

async fn pooler(workers: u32, sslmode: &str) -> (Authority, FakeServer, Pooler) {
    let authority = Authority::new("authority");
    let server = FakeServer::start().await;
    let setup = before(&server, workers);
    let pooler = serving(setup, sslmode, &authority.issue("localhost"));
    (authority, server, pooler.start().await)
}

#[tokio::test]
async fn psql_is_served_over_tls_and_the_log_and_the_console_tell_how() {
    for workers in WORKERS {
        let (_authority, _server, pooler) = pooler(workers, "require").await;
        let answer = psql(&pooler, "sslmode=require", "SELECT one").await;
        assert_eq!(answer.as_deref(), Ok("one"));
        pooler
            .wait_for_log("login attempt: db=app user=alice tls=TLSv1.3/TLS_AES_256_GCM_SHA384")
            .await;

        let tunnel = TlsTunnel::to(&pooler.address()).await;
        let mut client = FakeClient::login_trust(&tunnel.address(), "alice", "app").await;
        assert_eq!(client.query_value("SELECT two").await, "two");
        let tunnelled = TlsTunnel::to(&pooler.address()).await;
        let console = console_over(&tunnelled).await;
        assert_eq!(console, ["TLSv1.3/TLS_AES_256_GCM_SHA384"; 2]);
    }
}

/// The tls column of SHOW CLIENTS, asked for through a tunnel.
async fn console_over(tunnel: &TlsTunnel) -> Vec<String> {
    let address = tunnel.address();
    let mut console = FakeClient::connect(&address).await;
    let login = [("user", "testkit_admin"), ("database", "pgbouncer")];
    console.startup(&login).await;
    console.read_auth_ok().await;
    console.read_welcome().await;
    let answer = console.query("SHOW CLIENTS").await;
    let columns = answer.iter().find_map(Message::columns).unwrap();
    let tls = columns.iter().position(|name| name == "tls").unwrap();
    let rows = answer.iter().filter_map(Message::values);
    rows.filter_map(|mut row| row.swap_remove(tls)).collect()
}

#[tokio::test]
async fn sslmode_says_who_may_and_who_must_encrypt() {
    let refused = "FATAL 08P01 SSL required";
    for (sslmode, clear, over_tls) in [
        ("disable", "in", false),
        ("allow", "in", true),
        ("prefer", "in", true),
        ("require", refused, true),
    ] {
        let (_authority, _server, pooler) = pooler(1, sslmode).await;
        assert_eq!(
            outcome(&pooler, "alice", "", "app").await,
            clear,
            "{sslmode}"
        );
        // Nobody listens in there.
        let over_unix = outcome_over_unix(&pooler, "alice", "", "app").await;
        assert_eq!(over_unix, "in", "{sslmode}");
        let encrypted = psql(&pooler, "sslmode=require", "SELECT 1").await;
        assert_eq!(encrypted.is_ok(), over_tls, "{sslmode}: {encrypted:?}");
        if !over_tls {
            assert_refused(encrypted, "server does not support SSL");
        }
        let either = psql(&pooler, "sslmode=prefer", "SELECT 1").await;
        assert_eq!(either.as_deref(), Ok("1"), "{sslmode}");
    }
}

#[tokio::test]
async fn a_unix_socket_has_no_tls() {
    let (_authority, _server, pooler) = pooler(1, "require").await;
    let mut client = FakeClient::connect(&pooler.unix_address()).await;
    client.send_raw(&Startup::Tls.encode()).await;
    assert_eq!(client.read_byte().await, Some(b'N'));
    client
        .startup(&[("user", "alice"), ("database", "app")])
        .await;
    client.read_auth_ok().await;
}

#[tokio::test]
async fn tls_may_begin_without_asking() {
    for workers in WORKERS {
        let (_authority, _server, pooler) = pooler(workers, "require").await;
        let tunnel = TlsTunnel::directly_to(&pooler.address()).await;
        let mut client = FakeClient::login_trust(&tunnel.address(), "alice", "app").await;
        assert_eq!(client.query_value("SELECT direct").await, "direct");
    }
}

#[tokio::test]
async fn without_tls_its_first_byte_is_no_packet() {
    let (_authority, _server, pooler) = pooler(1, "disable").await;
    let mut client = FakeClient::connect(&pooler.address()).await;
    client.send_raw(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]).await;
    let error = client.expect_error().await;
    assert_eq!(
        words(&error),
        "FATAL 08P01 bad packet header: '1603010005010000'"
    );
}

#[tokio::test]
async fn what_was_said_before_encryption_began_is_refused() {
    let startup = startup_packet(&[("user", "alice"), ("database", "app")]);
    for sslmode in ["disable", "require"] {
        let (_authority, _server, pooler) = pooler(1, sslmode).await;
        for (request, expected) in [
            (Startup::Tls, "SSL request"),
            (Startup::Gss, "GSSAPI encryption request"),
        ] {
            let mut client = FakeClient::connect(&pooler.address()).await;
            client
                .send_raw(&[request.encode(), startup.clone()].concat())
                .await;
            let told = words(&client.expect_error().await);
            assert_eq!(
                told,
                format!("FATAL 08P01 received unencrypted data after {expected}")
            );
            assert!(client.expect_closed().await.is_empty());
        }
    }
}

#[tokio::test]
async fn tls_inside_tls_is_refused() {
    let (_authority, _server, pooler) = pooler(1, "require").await;
    let tunnel = TlsTunnel::to(&pooler.address()).await;
    let mut client = FakeClient::connect(&tunnel.address()).await;
    client.send_raw(&Startup::Tls.encode()).await;
    let error = client.expect_error().await;
    assert_eq!(words(&error), "FATAL 08P01 SSL req inside SSL");
}

#[tokio::test]
async fn a_handshake_that_is_none_ends_the_connection_and_nobody_elses() {
    for workers in WORKERS {
        let (_authority, _server, pooler) = pooler(workers, "require").await;
        let tunnel = TlsTunnel::to(&pooler.address()).await;
        let mut witness = FakeClient::login_trust(&tunnel.address(), "alice", "app").await;
        for garbage in [
            b"GET / HTTP/1.1\r\n\r\n".as_slice(),
            &[0; 100],
            &[0x16; 3000],
        ] {
            let mut client = FakeClient::connect(&pooler.address()).await;
            client.send_raw(&Startup::Tls.encode()).await;
            assert_eq!(client.read_byte().await, Some(b'S'));
            client.send_raw(garbage).await;
            // An alert perhaps, and the end.
            while client.read_byte().await.is_some() {}
        }
        pooler
            .wait_for_log_count("TLS handshake error: handshake failed", 3)
            .await;
        pooler
            .wait_for_log_count("closing because: TLS handshake failed", 3)
            .await;
        // Whoever leaves in the middle is only gone.
        let mut client = FakeClient::connect(&pooler.address()).await;
        client.send_raw(&Startup::Tls.encode()).await;
        assert_eq!(client.read_byte().await, Some(b'S'));
        client.reset();
        assert_eq!(
            witness.query_value("SELECT 'still here'").await,
            "still here"
        );
    }
}

#[tokio::test]
async fn a_handshake_counts_against_the_login_timeout() {
    let authority = Authority::new("authority");
    let server = FakeServer::start().await;
    let setup = before(&server, 1).set("client_login_timeout", 1);
    let pooler = serving(setup, "require", &authority.issue("localhost"));
    let pooler = pooler.start().await;
    let mut client = FakeClient::connect(&pooler.address()).await;
    client.send_raw(&Startup::Tls.encode()).await;
    assert_eq!(client.read_byte().await, Some(b'S'));
    pooler
        .wait_for_log("closing because: client_login_timeout")
        .await;
    assert_eq!(client.read_byte().await, None);
}

#[tokio::test]
async fn protocols_and_ciphers_are_the_ones_that_were_asked_for() {
    const TLS12: &str = "sslmode=require ssl_max_protocol_version=TLSv1.2";
    const TLS13: &str = "sslmode=require ssl_min_protocol_version=TLSv1.3";
    let authority = Authority::new("authority");
    let server = FakeServer::start().await;
    let certificate = authority.issue("localhost");
    for (setting, value, over12, over13) in [
        (
            "client_tls_protocols",
            "tlsv1.2",
            Some("ECDHE-ECDSA-AES256-GCM-SHA384"),
            None,
        ),
        (
            "client_tls_protocols",
            "tlsv1.3",
            None,
            Some("TLS_AES_256_GCM_SHA384"),
        ),
        (
            "client_tls_ciphers",
            "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256",
            Some("ECDHE-ECDSA-CHACHA20-POLY1305"),
            Some("TLS_AES_256_GCM_SHA384"),
        ),
        (
            "client_tls13_ciphers",
            "TLS_CHACHA20_POLY1305_SHA256",
            Some("ECDHE-ECDSA-AES256-GCM-SHA384"),
            Some("TLS_CHACHA20_POLY1305_SHA256"),
        ),
    ] {
        let setup = before(&server, 1).set(setting, value);
        let pooler = serving(setup, "require", &certificate).start().await;
        for (how, version, cipher) in [(TLS12, "TLSv1.2", over12), (TLS13, "TLSv1.3", over13)] {
            let answer = psql(&pooler, how, "SELECT 1").await;
            match cipher {
                Some(cipher) => {
                    assert_eq!(answer.as_deref(), Ok("1"), "{setting} = {value}, {version}");
                    let line = format!("user=alice tls={version}/{cipher}");
                    pooler.wait_for_log(&line).await;
                }
                None => assert_refused(answer, "alert protocol version"),
            }
        }
    }
}

#[tokio::test]
async fn the_curve_is_the_one_that_was_asked_for() {
    let authority = Authority::new("authority");
    let server = FakeServer::start().await;
    let setup = before(&server, 1).set("client_tls_ecdhcurve", "secp384r1");
    let pooler = serving(setup, "require", &authority.issue("localhost"));
    let back = pooler.start().await;
    // Of servers the console tells the curve.
    let front = before(&server, 1)
        .database(
            "app",
            &format!("host=127.0.0.1 port={} dbname=app", back.port()),
        )
        .set("server_tls_sslmode", "require")
        .start()
        .await;
    let client = alice(&front).await;
    front
        .wait_for_log("SSL established: TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=secp384r1")
        .await;
    client.close().await;
}

#[tokio::test]
async fn what_can_not_be_had_is_warned_of_once() {
    let authority = Authority::new("authority");
    let server = FakeServer::start().await;
    let setup = before(&server, 1)
        .set("client_tls_protocols", "all")
        .set("client_tls_dheparams", "legacy");
    let mut pooler = serving(setup, "require", &authority.issue("localhost"))
        .start()
        .await;
    for warning in [
        "TLS 1.0 and 1.1 are not spoken here",
        "client_tls_dheparams = legacy",
    ] {
        pooler.wait_for_log(warning).await;
        assert_eq!(pooler.log_count(warning), 1);
    }
    pooler.signal(testkit::Signal::SIGHUP);
    pooler.wait_for_log("RELOAD: 0 settings changed").await;
    assert_eq!(pooler.log_count("TLS 1.0 and 1.1"), 1);
}

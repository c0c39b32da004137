//! Servers: when they are talked to over TLS, and which of them are believed.

use testkit::{Authority, Certificate, FakeServer, Pooler, PoolerSetup, Postgres, TlsDoor, Visit};

use super::{encrypted, serving, with_alice};
use crate::support::{WORKERS, alice, before, outcome, trusting};

/// A pooler before a PostgreSQL that is found by this name.
fn before_host(postgres: &Postgres, host: &str) -> PoolerSetup {
    let conn_info = format!("host={host} port={} dbname=app", postgres.port());
    trusting(1).database("app", &conn_info)
}

fn believing(setup: PoolerSetup, sslmode: &str, authority: &Authority) -> PoolerSetup {
    setup
        .set("server_tls_sslmode", sslmode)
        .set("server_tls_ca_file", authority.certificate().cert.display())
}

/// Whether PostgreSQL says of alice's sessions that they are encrypted.
const IS_ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// What a client hears that wants to see whether its server's connection is encrypted: `t` or `f`,
/// or why there is none.
async fn seen(pooler: &Pooler) -> String {
    match pooler.try_connect("alice", "", "app").await {
        Ok(client) => {
            let rows = client.simple_query(IS_ENCRYPTED).await.unwrap();
            let value = rows.iter().find_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            });
            value.unwrap().to_owned()
        }
        Err(error) => crate::support::refusal(&error),
    }
}

#[tokio::test]
async fn sslmode_says_whether_servers_are_talked_to_over_tls() {
    let authority = Authority::new("authority");
    let with_tls = with_alice(encrypted(&authority.issue("localhost"))).await;
    let without = with_alice(Postgres::setup()).await;
    let refused = "FATAL 08P01 server refused SSL";
    for (sslmode, where_it_is, where_not) in [
        ("disable", "f", "f"),
        ("allow", "t", "f"),
        ("prefer", "t", "f"),
        ("require", "t", refused),
    ] {
        let pooler = |postgres| {
            let setup = before_host(postgres, "127.0.0.1");
            setup.set("server_tls_sslmode", sslmode).start()
        };
        assert_eq!(
            seen(&pooler(&with_tls).await).await,
            where_it_is,
            "{sslmode}"
        );
        let pooler = pooler(&without).await;
        assert_eq!(seen(&pooler).await, where_not, "{sslmode}");
        if where_not == refused {
            pooler
                .wait_for_log("closing because: server refused SSL")
                .await;
        }
    }
}

#[tokio::test]
async fn the_console_and_the_log_tell_how_servers_are_encrypted() {
    let authority = Authority::new("authority");
    let postgres = with_alice(encrypted(&authority.issue("localhost"))).await;
    for (setting, value, cipher) in [
        (
            "server_tls_sslmode",
            "prefer",
            "TLSv1.3/TLS_AES_256_GCM_SHA384",
        ),
        (
            "server_tls_protocols",
            "tlsv1.2",
            "TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384",
        ),
        (
            "server_tls13_ciphers",
            "TLS_AES_128_GCM_SHA256",
            "TLSv1.3/TLS_AES_128_GCM_SHA256",
        ),
        (
            "server_tls_ciphers",
            "TLS_CHACHA20_POLY1305_SHA256:HIGH",
            "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256",
        ),
    ] {
        let setup = before_host(&postgres, "127.0.0.1").set(setting, value);
        let pooler = setup.start().await;
        assert_eq!(seen(&pooler).await, "t");
        // PostgreSQL's own curve.
        let expected = format!("{cipher}/ECDH=prime256v1");
        let line = pooler.wait_for_log("SSL established: ").await;
        assert!(line.ends_with(&expected), "{line}");
        let servers = pooler.console().await.show("SERVERS").await;
        assert_eq!(&servers[0]["tls"], expected);
    }
}

#[tokio::test]
async fn a_server_is_believed_by_its_certificate() {
    let authority = Authority::new("authority");
    let other = Authority::new("authority");
    let san = authority
        .request("x")
        .extension("subjectAltName = DNS:localhost");
    let own = Authority::new("localhost");
    let refused = |why| format!("certificate verify failed: {why}");
    let shown = authority.issue("localhost");
    let postgres = with_alice(encrypted(&shown)).await;
    for (what, certificate, verify_ca, verify_full) in [
        ("version 1", authority.issue("localhost"), None, None),
        ("version 3", san.issue(), None, None),
        (
            "another name",
            authority.issue("elsewhere"),
            None,
            Some("hostname mismatch"),
        ),
        (
            "a wildcard",
            authority.issue("*"),
            None,
            Some("hostname mismatch"),
        ),
        (
            "another authority's",
            other.issue("localhost"),
            Some("certificate signature failure"),
            Some("certificate signature failure"),
        ),
        (
            "run out",
            authority.request("localhost").days(-1).issue(),
            Some("certificate has expired"),
            Some("certificate has expired"),
        ),
        (
            "its own authority's",
            own.certificate().clone(),
            Some("CaUsedAsEndEntity"),
            Some("CaUsedAsEndEntity"),
        ),
    ] {
        certificate.replace(&shown);
        // It reads its certificate again along with its rules.
        postgres.prepend_hba("local all postgres trust").await;
        for (sslmode, expected) in [("verify-ca", verify_ca), ("verify-full", verify_full)] {
            let setup = before_host(&postgres, "localhost");
            let pooler = believing(setup, sslmode, &authority).start().await;
            let told = outcome(&pooler, "alice", "", "app").await;
            match expected {
                None => assert_eq!(told, "in", "{what}, {sslmode}"),
                Some(why) => {
                    assert!(told.contains(&refused(why)), "{what}, {sslmode}: {told}");
                    pooler
                        .wait_for_log("closing because: TLS handshake failed")
                        .await;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_may_be_its_own_authority_and_for_an_address() {
    let own = Authority::new("127.0.0.1");
    let postgres = with_alice(encrypted(own.certificate())).await;
    for (host, expected) in [("127.0.0.1", true), ("localhost", false)] {
        let setup = before_host(&postgres, host);
        let pooler = believing(setup, "verify-full", &own).start().await;
        let told = outcome(&pooler, "alice", "", "app").await;
        assert_eq!(told == "in", expected, "{host}: {told}");
    }
}

#[tokio::test]
async fn without_an_authority_of_our_own_the_systems_are_believed() {
    let authority = Authority::new("authority");
    let postgres = with_alice(encrypted(&authority.issue("localhost"))).await;
    let other = Authority::new("authority");
    for (file, expected) in [
        (authority.certificate(), true),
        (other.certificate(), false),
    ] {
        // What OpenSSL's variable names stands for the system's.
        let pooler = before_host(&postgres, "localhost")
            .set("server_tls_sslmode", "verify-full")
            .env("SSL_CERT_FILE", file.cert.to_str().unwrap())
            .start()
            .await;
        let told = outcome(&pooler, "alice", "", "app").await;
        assert_eq!(told == "in", expected, "{told}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_our_certificate_sees_it() {
    let authority = Authority::new("authority");
    let ca = &authority.certificate().cert;
    let setup = encrypted(&authority.issue("localhost"))
        .set("ssl_ca_file", ca.display())
        .hba("local all postgres trust\nhostssl all all 127.0.0.1/32 cert\n");
    let postgres = with_alice(setup).await;
    let shown = |certificate: &Certificate| {
        believing(
            before_host(&postgres, "localhost"),
            "verify-full",
            &authority,
        )
        .set("server_tls_cert_file", certificate.cert.display())
        .set("server_tls_key_file", certificate.key.display())
    };
    let v3 = authority
        .request("alice")
        .extension("extendedKeyUsage = clientAuth");
    for certificate in [authority.issue("alice"), v3.issue()] {
        let pooler = shown(&certificate).start().await;
        assert_eq!(seen(&pooler).await, "t");
    }
    let pooler = shown(&authority.issue("bob")).start().await;
    let told = outcome(&pooler, "alice", "", "app").await;
    assert!(told.contains("certificate authentication failed"), "{told}");
    let setup = before_host(&postgres, "localhost");
    let pooler = believing(setup, "verify-full", &authority).start().await;
    let told = outcome(&pooler, "alice", "", "app").await;
    assert!(told.contains("valid client certificate"), "{told}");
}

#[tokio::test]
async fn servers_hear_the_name_that_they_are_called_by() {
    let authority = Authority::new("authority");
    let san = authority
        .request("x")
        .extension("subjectAltName = DNS:localhost");
    let server = FakeServer::start().await;
    let door = TlsDoor::before(&server.address(), &san.issue()).await;
    for (host, name) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
        let pooler = before(&server, 1).database("app", &door.conn_info(host, "app"));
        let pooler = pooler.set("server_tls_sslmode", "require").start().await;
        assert_eq!(alice(&pooler).await.query_value("SELECT 1").await, "1");
        let name = name.map(str::to_owned);
        let resumed = false;
        assert_eq!(
            door.visits().last(),
            Some(&Visit::Encrypted { name, resumed })
        );
    }
}

#[tokio::test]
async fn sessions_with_servers_are_resumed() {
    let authority = Authority::new("authority");
    let san = authority
        .request("x")
        .extension("subjectAltName = DNS:localhost");
    let certificate = san.issue();
    for (sslmode, resumes) in [("require", true), ("verify-full", false)] {
        let server = FakeServer::start().await;
        let door = TlsDoor::before(&server.address(), &certificate).await;
        let setup = before(&server, 1).database("app", &door.conn_info("localhost", "app"));
        let setup = setup.set("server_lifetime", 0);
        let pooler = believing(setup, sslmode, &authority).start().await;
        let mut client = alice(&pooler).await;
        for _ in 0..3 {
            client.query_value("SELECT 1").await;
        }
        let resumed = |visit: &Visit| matches!(visit, Visit::Encrypted { resumed: true, .. });
        let visits = door.visits();
        assert!(visits.len() >= 3, "{visits:?}");
        assert_eq!(visits.iter().any(resumed), resumes, "{sslmode}: {visits:?}");
    }
}

#[tokio::test]
async fn tls_with_servers_may_begin_without_asking() {
    for workers in WORKERS {
        let authority = Authority::new("authority");
        let server = FakeServer::start().await;
        // Ours takes it so; of PostgreSQL only 17 and later do.
        let back = serving(
            before(&server, workers),
            "require",
            &authority.issue("localhost"),
        );
        let back = back.start().await;
        let conn_info = format!("host=localhost port={} dbname=app", back.port());
        let front = before(&server, workers).database("app", &conn_info);
        let front = believing(front, "verify-full", &authority)
            .set("server_tls_negotiation", "direct")
            .start()
            .await;
        assert_eq!(alice(&front).await.query_value("SELECT 1").await, "1");
        back.wait_for_log("user=alice tls=TLSv1.3/").await;
    }
}

#[tokio::test]
async fn tls_without_asking_needs_a_server_that_must_have_it() {
    let exit = trusting(1)
        .set("server_tls_negotiation", "direct")
        .run_to_exit()
        .await;
    let expected = "server_tls_negotiation needs server_tls_sslmode = require";
    assert!(exit.log.contains(expected), "{}", exit.log);
}

#[tokio::test]
async fn what_a_server_says_before_encryption_began_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let liar = tokio::spawn(async move {
        for answer in [b"SR\0\0\0\x08\0\0\0\0".as_slice(), b"E"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 8];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(answer).await.unwrap();
            let _ = stream.read(&mut request).await;
        }
    });
    let conn_info = format!("host=127.0.0.1 port={port} dbname=app");
    let pooler = trusting(1)
        .database("app", &conn_info)
        .set("server_login_retry", 0)
        .start()
        .await;
    let client = tokio::spawn({
        let address = pooler.address();
        async move { testkit::FakeClient::login_trust(&address, "alice", "app").await }
    });
    pooler
        .wait_for_log("received unencrypted data after SSL response")
        .await;
    pooler
        .wait_for_log("unexpected answer to SSL request: 0x45")
        .await;
    liar.await.unwrap();
    client.abort();
}

//! Each setting of TLS, changed by RELOAD: what those see who come after it.

use testkit::{Authority, FakeClient, FakeServer, Pooler, in_time};
use tokio::{io::AsyncReadExt, net::TcpListener};

use super::reload::{console, strict};
use super::{assert_refused, encrypted, psql, serving, shows, with_alice};
use crate::support::{alice, before, outcome, trusting};

#[tokio::test]
async fn clients_are_encrypted_as_the_reload_says() {
    let [authority, other] = [Authority::new("authority"), Authority::new("other")];
    let certificates = [authority.issue("localhost"), other.issue("localhost")];
    let server = FakeServer::start().await;
    let setup = serving(before(&server, 1), "allow", &certificates[0]);
    let mut pooler = setup.start().await;
    let mut console = console(&pooler).await;
    let asked = async |pooler: &Pooler, how: &str| psql(pooler, how, "SELECT 1").await;
    for (key, value, cipher) in [
        (
            "client_tls_protocols",
            "tlsv1.2",
            "TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384",
        ),
        (
            "client_tls_ciphers",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
        (
            "client_tls_protocols",
            "secure",
            "TLSv1.3/TLS_AES_256_GCM_SHA384",
        ),
        (
            "client_tls13_ciphers",
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLSv1.3/TLS_CHACHA20_POLY1305_SHA256",
        ),
    ] {
        let line = format!("user=alice tls={cipher}");
        assert_eq!(pooler.log_count(&line), 0, "{key}: not yet");
        pooler.reload(|setup| setup.set(key, value)).await;
        assert_eq!(asked(&pooler, "sslmode=require").await.as_deref(), Ok("1"));
        pooler.wait_for_log(&line).await;
    }

    // Servers of another pooler tell which curve it is.
    let conn_info = format!("host=127.0.0.1 port={} dbname=app", pooler.port());
    let front = before(&server, 1).database("app", &conn_info);
    let front = front.set("server_tls_sslmode", "require").start().await;
    pooler
        .reload(|setup| setup.set("client_tls_ecdhcurve", "secp384r1"))
        .await;
    alice(&front).await.close().await;
    front.wait_for_log("/ECDH=secp384r1").await;

    let [cert, key] = [&certificates[1].cert, &certificates[1].key].map(|path| path.display());
    assert_refused(strict(&pooler, &other).await, "certificate verify failed");
    pooler
        .reload(|setup| {
            let setup = setup.set("client_tls_cert_file", cert);
            setup.set("client_tls_key_file", key)
        })
        .await;
    assert_eq!(strict(&pooler, &other).await.as_deref(), Ok("1"));

    let shown = format!("sslmode=require {}", shows(&authority.issue("a")));
    for (judge, lets_in) in [(&authority, true), (&other, false)] {
        let ca = judge.certificate().cert.display();
        pooler.rewrite(|setup| {
            let setup = setup.set("client_tls_ca_file", ca);
            setup.set("client_tls_sslmode", "verify-ca")
        });
        console.query("RELOAD").await;
        assert_eq!(asked(&pooler, &shown).await.is_ok(), lets_in);
    }
    let clear = asked(&pooler, "sslmode=disable").await;
    assert_refused(clear, "SSL required");
}

#[tokio::test]
async fn servers_are_encrypted_as_the_reload_says() {
    let [authority, other] = [Authority::new("authority"), Authority::new("other")];
    let ca = authority.certificate().cert.display().to_string();
    let setup = encrypted(&authority.issue("localhost")).set("ssl_ca_file", &ca);
    let postgres = with_alice(setup).await;
    let conn_info = format!("host=localhost port={} dbname=app", postgres.port());
    let mut pooler = trusting(1).database("app", &conn_info).start().await;
    let console = pooler.console().await;
    for (key, value, cipher) in [
        ("server_tls_sslmode", "disable", ""),
        (
            "server_tls_sslmode",
            "require",
            "TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=prime256v1",
        ),
        (
            "server_tls_protocols",
            "tlsv1.2",
            "TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384/ECDH=prime256v1",
        ),
        (
            "server_tls_ciphers",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "TLSv1.2/ECDHE-ECDSA-AES128-GCM-SHA256/ECDH=prime256v1",
        ),
        (
            "server_tls_protocols",
            "secure",
            "TLSv1.3/TLS_AES_256_GCM_SHA384/ECDH=prime256v1",
        ),
        (
            "server_tls13_ciphers",
            "TLS_AES_128_GCM_SHA256",
            "TLSv1.3/TLS_AES_128_GCM_SHA256/ECDH=prime256v1",
        ),
    ] {
        pooler.reload(|setup| setup.set(key, value)).await;
        alice(&pooler).await.query("SELECT 1").await;
        let servers = console.show("SERVERS").await;
        let told = servers.last().unwrap();
        assert_eq!(&told["tls"], cipher, "{key} = {value}");
    }

    const NAME: &str = "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let own = authority.issue("us");
    pooler
        .reload(|setup| {
            let setup = setup.set("server_tls_cert_file", own.cert.display());
            setup.set("server_tls_key_file", own.key.display())
        })
        .await;
    assert_eq!(alice(&pooler).await.query_value(NAME).await, "/CN=us");

    for (judge, told) in [(&authority, "in"), (&other, "certificate verify failed")] {
        let ca = judge.certificate().cert.display();
        pooler
            .reload(|setup| {
                let setup = setup.set("server_tls_sslmode", "verify-full");
                setup.set("server_tls_ca_file", ca)
            })
            .await;
        let outcome = outcome(&pooler, "alice", "", "app").await;
        assert!(outcome.contains(told), "{outcome}");
    }
}

#[tokio::test]
async fn servers_are_asked_for_encryption_or_not_as_the_reload_says() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let conn_info = format!("host=127.0.0.1 port={port} dbname=app");
    let setup = trusting(1).database("app", &conn_info);
    let setup = setup.set("server_tls_sslmode", "require");
    let mut pooler = setup.set("server_login_retry", 0).start().await;
    let mut client = FakeClient::connect(&pooler.address()).await;
    client
        .startup(&[("user", "alice"), ("database", "app")])
        .await;
    // A request to encrypt, or TLS's own first byte.
    for (negotiation, first) in [("postgres", 0), ("direct", 0x16)] {
        pooler
            .reload(|setup| setup.set("server_tls_negotiation", negotiation))
            .await;
        in_time("such a first byte", async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if stream.read_u8().await.is_ok_and(|byte| byte == first) {
                    break;
                }
            }
        })
        .await;
    }
}

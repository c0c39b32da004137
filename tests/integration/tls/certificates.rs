//! Certificates that clients see, and those that they show.

use testkit::{Authority, FakeServer, Key, Pooler};

use super::{asking, assert_refused, believes, psql, serving, shows};
use crate::support::{WORKERS, before};

#[tokio::test]
async fn psql_believes_what_we_show_in_whatever_shape_it_comes() {
    let authority = Authority::new("authority");
    let server = FakeServer::start().await;
    let keys = [Key::EcSec1, Key::EcPkcs8, Key::RsaPkcs1, Key::RsaPkcs8];
    for key in keys {
        let v3 = authority.request("x").key(key);
        let v3 = v3.extension("subjectAltName = DNS:localhost").issue();
        for certificate in [authority.request("localhost").key(key).issue(), v3] {
            let pooler = serving(before(&server, 1), "require", &certificate);
            let pooler = pooler.start().await;
            let how = format!(
                "host=localhost sslmode=verify-full {}",
                believes(&authority)
            );
            for version in ["TLSv1.2", "TLSv1.3"] {
                let how = format!("{how} ssl_min_protocol_version={version}");
                let how = format!("{how} ssl_max_protocol_version={version}");
                let answer = psql(&pooler, &how, "SELECT 1").await;
                assert_eq!(answer.as_deref(), Ok("1"), "{key:?} {version}");
            }
        }
    }
}

#[tokio::test]
async fn the_certificates_between_ours_and_the_authority_are_shown_too() {
    let authority = Authority::new("authority");
    let below = authority
        .request("below")
        .extension("basicConstraints = critical, CA:TRUE");
    let below = below.issue();
    let leaf = authority.request("x").signed_by(&below);
    let mut leaf = leaf.extension("subjectAltName = DNS:localhost").issue();
    leaf.cert = authority.joined(&[&leaf.cert, &below.cert]);
    let server = FakeServer::start().await;
    let pooler = serving(before(&server, 1), "require", &leaf).start().await;
    let how = format!(
        "host=localhost sslmode=verify-full {}",
        believes(&authority)
    );
    assert_eq!(psql(&pooler, &how, "SELECT 1").await.as_deref(), Ok("1"));
}

async fn verifying(workers: u32, authority: &Authority) -> (FakeServer, Pooler) {
    let server = FakeServer::start().await;
    let setup = before(&server, workers);
    let pooler = asking(setup, &authority.issue("localhost"), authority);
    (server, pooler.start().await)
}

#[tokio::test]
async fn with_verify_full_clients_need_a_certificate_of_our_authority() {
    for workers in WORKERS {
        let authority = Authority::new("authority");
        let (_server, pooler) = verifying(workers, &authority).await;
        let v3 = authority
            .request("alice")
            .extension("extendedKeyUsage = clientAuth");
        for certificate in [authority.issue("alice"), v3.issue()] {
            let how = format!("sslmode=require {}", shows(&certificate));
            assert_eq!(psql(&pooler, &how, "SELECT 1").await.as_deref(), Ok("1"));
        }
        let none = psql(&pooler, "sslmode=require", "SELECT 1").await;
        assert_refused(none, "alert certificate required");
        pooler
            .wait_for_log(
                "TLS handshake error: handshake failed: peer did not return a certificate",
            )
            .await;
        let clear = psql(&pooler, "sslmode=disable", "SELECT 1").await;
        assert_refused(clear, "SSL required");
    }
}

const UNSIGNED: &str = "unable to get local issuer certificate";

#[tokio::test]
async fn certificates_that_do_not_count_are_refused_with_the_reason_in_the_log() {
    let authority = Authority::new("authority");
    let (_server, pooler) = verifying(1, &authority).await;
    let namesake = Authority::new("authority");
    let stranger = Authority::new("stranger");
    let someone = authority.issue("someone");
    for (certificate, alert, reason) in [
        (
            namesake.issue("alice"),
            "alert decrypt error",
            "certificate signature failure",
        ),
        (stranger.issue("alice"), "alert unknown ca", UNSIGNED),
        (
            authority.request("alice").days(-1).issue(),
            "alert",
            "certificate has expired",
        ),
        (
            authority.request("alice").signed_by(&someone).issue(),
            "alert unknown ca",
            UNSIGNED,
        ),
        (
            authority
                .request("alice")
                .extension("extendedKeyUsage = serverAuth")
                .issue(),
            "alert unsupported certificate",
            "certificate does not allow extended key usage",
        ),
    ] {
        let how = format!("sslmode=require {}", shows(&certificate));
        assert_refused(psql(&pooler, &how, "SELECT 1").await, alert);
        let line = format!("certificate verify failed: {reason}");
        pooler.wait_for_log(&line).await;
    }
}

#[tokio::test]
async fn with_less_than_verify_ca_a_clients_certificate_is_not_even_asked_for() {
    let authority = Authority::new("authority");
    let stranger = Authority::new("stranger");
    let server = FakeServer::start().await;
    for sslmode in ["allow", "prefer", "require"] {
        let pooler = serving(before(&server, 1), sslmode, &authority.issue("localhost"));
        let pooler = pooler
            .set("client_tls_ca_file", authority.certificate().cert.display())
            .start()
            .await;
        let how = format!("sslmode=require {}", shows(&stranger.issue("alice")));
        assert_eq!(psql(&pooler, &how, "SELECT 1").await.as_deref(), Ok("1"));
    }
}

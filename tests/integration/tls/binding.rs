//! SCRAM logins that are bound to the certificate: psql to us, and we to PostgreSQL.

use testkit::{Authority, FakeClient, FakeServer, Key, Login, Message, Pooler, TlsDoor, TlsTunnel};

use super::{assert_refused, encrypted, psql, serving, with_alice};
use crate::support::{WORKERS, outcome, pgusher, words};

const BOUND: &str = "sslmode=require channel_binding=require";

/// The secret that PostgreSQL has stored for alice.
async fn stored(postgres: &testkit::Postgres) -> String {
    let admin = postgres.admin_client().await;
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = 'alice'";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn channel_binding_works_with_a_known_password_and_with_a_stored_verifier() {
    let authority = Authority::new("authority");
    for workers in WORKERS {
        let certificate = authority.issue("localhost");
        let postgres = with_alice(encrypted(&certificate)).await;
        for secret in ["secret".to_owned(), stored(&postgres).await] {
            let setup = pgusher(workers)
                .user("alice", &secret)
                .database("app", &postgres.conn_info("app"))
                .set("pool_mode", "transaction");
            let pooler = serving(setup, "require", &certificate);
            let pooler = pooler.set("server_tls_sslmode", "require").start().await;
            let answer = psql(&pooler, BOUND, "SELECT 1").await;
            assert_eq!(answer.as_deref(), Ok("1"));
            let wrong = format!("{BOUND} password=wrong");
            assert_refused(
                psql(&pooler, &wrong, "SELECT 1").await,
                "SASL authentication failed",
            );
        }
    }
}

#[tokio::test]
async fn binding_follows_the_hash_that_the_certificate_was_signed_with() {
    let authority = Authority::with_key("authority", Key::RsaPkcs8);
    let server = FakeServer::start().await;
    for digest in ["-sha224", "-sha256", "-sha384", "-sha512"] {
        let certificate = authority.request("localhost").digest(digest).issue();
        let pooler = bindable(&server, &certificate).await;
        let answer = psql(&pooler, BOUND, "SELECT 1").await;
        assert_eq!(answer.as_deref(), Ok("1"), "{digest}");
    }
    let pss = authority.request("localhost").pss();
    let pooler = bindable(&server, &pss.digest("-sha384").issue()).await;
    assert_eq!(psql(&pooler, BOUND, "SELECT 1").await.as_deref(), Ok("1"));
}

async fn bindable(server: &FakeServer, certificate: &testkit::Certificate) -> Pooler {
    let setup = pgusher(1)
        .user("alice", "secret")
        .database("app", &server.conn_info("app"));
    serving(setup, "require", certificate).start().await
}

#[tokio::test]
async fn where_no_hash_is_defined_binding_is_not_offered_and_logins_work() {
    let authority = Authority::with_key("authority", Key::Ed25519);
    let server = FakeServer::start().await;
    let pooler = bindable(&server, &authority.issue("localhost")).await;
    let answer = psql(&pooler, "sslmode=require", "SELECT 1").await;
    assert_eq!(answer.as_deref(), Ok("1"));
    assert_refused(
        psql(&pooler, BOUND, "SELECT 1").await,
        "channel binding is required, but server did not offer",
    );
}

#[tokio::test]
async fn in_the_clear_binding_is_not_offered() {
    let authority = Authority::new("authority");
    let server = FakeServer::start().await;
    let setup = pgusher(1)
        .user("alice", "secret")
        .database("app", &server.conn_info("app"));
    let pooler = serving(setup, "allow", &authority.issue("localhost"))
        .start()
        .await;
    assert_eq!(mechanisms(&pooler.address()).await, ["SCRAM-SHA-256"]);
    let tunnel = TlsTunnel::to(&pooler.address()).await;
    let offered = mechanisms(&tunnel.address()).await;
    assert_eq!(offered, ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
}

/// The mechanisms that alice is offered.
async fn mechanisms(address: &testkit::Address) -> Vec<String> {
    let mut client = FakeClient::connect(address).await;
    client
        .startup(&[("user", "alice"), ("database", "app")])
        .await;
    let offer = client.read_auth(10).await;
    let names = offer
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    names
        .map(|name| String::from_utf8(name.to_vec()).unwrap())
        .collect()
}

#[tokio::test]
async fn a_client_from_whom_the_offer_was_hidden_is_refused() {
    let authority = Authority::new("authority");
    let server = FakeServer::start().await;
    let pooler = bindable(&server, &authority.issue("localhost")).await;
    let tunnel = TlsTunnel::to(&pooler.address()).await;
    for (mechanism, first) in [
        // It could bind, and was told that we can't.
        ("SCRAM-SHA-256", "y,,n=,r=abcdefghijklmnopqrstuvwx"),
        (
            "SCRAM-SHA-256",
            "p=tls-server-end-point,,n=,r=abcdefghijklmnopqrstuvwx",
        ),
        ("SCRAM-SHA-256-PLUS", "n,,n=,r=abcdefghijklmnopqrstuvwx"),
        (
            "SCRAM-SHA-256-PLUS",
            "p=tls-unique,,n=,r=abcdefghijklmnopqrstuvwx",
        ),
    ] {
        let mut client = FakeClient::connect(&tunnel.address()).await;
        client
            .startup(&[("user", "alice"), ("database", "app")])
            .await;
        client.read_auth(10).await;
        client
            .send(Message::sasl_initial(mechanism, first.as_bytes()))
            .await;
        let told = words(&client.expect_error().await);
        assert_eq!(
            told, "FATAL 08P01 SASL authentication failed",
            "{mechanism} {first}"
        );
    }
}

#[tokio::test]
async fn who_sits_between_a_client_and_us_with_another_certificate_is_found_out() {
    let authority = Authority::new("authority");
    let san = authority
        .request("x")
        .extension("subjectAltName = DNS:localhost");
    let server = FakeServer::start().await;
    let pooler = bindable(&server, &authority.issue("localhost")).await;
    // Whoever believes any certificate talks to them first.
    let onward = TlsTunnel::to(&pooler.address()).await;
    let between = TlsDoor::before(&onward.address(), &san.issue()).await;
    let how = format!("{BOUND} port={}", between.port());
    assert_refused(
        psql(&pooler, &how, "SELECT 1").await,
        "SASL authentication failed",
    );
    // A login that is not bound does not notice.
    let how = format!(
        "sslmode=require channel_binding=disable port={}",
        between.port()
    );
    assert_eq!(psql(&pooler, &how, "SELECT 1").await.as_deref(), Ok("1"));
}

#[tokio::test]
async fn who_sits_between_us_and_a_server_with_another_certificate_is_found_out() {
    let authority = Authority::new("authority");
    let san = authority
        .request("x")
        .extension("subjectAltName = DNS:localhost");
    let postgres = with_alice(encrypted(&authority.issue("localhost"))).await;
    let onward = TlsTunnel::to(&postgres.address()).await;
    let between = TlsDoor::before(&onward.address(), &san.issue()).await;
    let pooler = pgusher(1)
        .user("alice", "secret")
        .database("app", &between.conn_info("localhost", "app"))
        .start()
        .await;
    let told = outcome(&pooler, "alice", "secret", "app").await;
    assert!(told.contains("channel binding"), "{told}");
    postgres
        .wait_for_log("SCRAM channel binding check failed")
        .await;
}

#[tokio::test]
async fn a_server_that_does_not_offer_binding_is_logged_in_to_all_the_same() {
    let authority = Authority::new("authority");
    let san = authority
        .request("x")
        .extension("subjectAltName = DNS:localhost");
    let secret = testkit::scram_secret("secret");
    let server = FakeServer::setup()
        .login(Login::Scram(secret))
        .start()
        .await;
    let door = TlsDoor::before(&server.address(), &san.issue()).await;
    let pooler = pgusher(1)
        .user("alice", "secret")
        .database("app", &door.conn_info("localhost", "app"))
        .start()
        .await;
    assert_eq!(outcome(&pooler, "alice", "secret", "app").await, "in");
}

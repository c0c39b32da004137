//! Clients whose certificates vouch for them, and rules that tell TLS from the clear.

use testkit::{
    Authority, Certificate, FakeClient, FakeServer, Gate, Login, Pooler, PoolerSetup, TlsTunnel,
};

use super::{asking, assert_refused, psql, serving, shows};
use crate::support::{WORKERS, before, outcome, outcome_over_unix, wait_for_waiting};

const REFUSED: &str = "certificate authentication failed";
const NO_RULE: &str = "no authentication method is found";

/// How this user's psql fares, which shows this certificate.
async fn login(pooler: &Pooler, user: &str, certificate: &Certificate) -> Result<String, String> {
    let how = format!("user={user} sslmode=require {}", shows(certificate));
    psql(pooler, &how, "SELECT 1").await
}

#[track_caller]
fn assert_in(outcome: Result<String, String>) {
    assert_eq!(outcome.as_deref(), Ok("1"));
}

fn with_rules(setup: PoolerSetup, rules: &str, ident: &str) -> PoolerSetup {
    setup
        .set("auth_type", "hba")
        .set("auth_hba_file", "{dir}/hba.conf")
        .set("auth_ident_file", "{dir}/ident.conf")
        .file("hba.conf", rules)
        .file("ident.conf", ident)
}

#[tokio::test]
async fn with_auth_type_cert_clients_are_who_their_certificates_say() {
    let authority = Authority::new("authority");
    let alices = authority.issue("alice");
    let bobs = authority
        .request("someone")
        .extension("subjectAltName = DNS:robert, DNS:bob")
        .issue();
    let nobodys = authority.issue("nobody");
    let server = FakeServer::start().await;
    for workers in WORKERS {
        let setup = before(&server, workers).set("auth_type", "cert");
        let setup = asking(setup, &authority.issue("localhost"), &authority);
        let pooler = setup.start().await;
        assert_in(login(&pooler, "alice", &alices).await);
        assert_in(login(&pooler, "bob", &bobs).await);
        for (user, certificate) in [
            ("bob", &alices),
            ("alice", &bobs),
            ("robert", &bobs),
            ("nobody", &nobodys),
        ] {
            assert_refused(login(&pooler, user, certificate).await, REFUSED);
        }
        // The unix socket has no certificates, and the password does not help.
        let told = outcome_over_unix(&pooler, "alice", "secret", "app").await;
        assert_eq!(told, format!("FATAL 08P01 {REFUSED}"));
    }
}

#[tokio::test]
async fn a_map_says_who_the_owner_of_a_certificate_may_be() {
    let authority = Authority::new("authority");
    let server = FakeServer::start().await;
    let rules = "hostssl app alice,bob all cert map=staff\nhostssl app carol all cert";
    let ident = "staff worker alice\nstaff worker.example.net bob";
    for workers in WORKERS {
        let setup = with_rules(before(&server, workers), rules, ident);
        let setup = asking(setup, &authority.issue("localhost"), &authority);
        let pooler = setup.start().await;
        let worker = authority.issue("worker");
        assert_in(login(&pooler, "alice", &worker).await);
        assert_refused(login(&pooler, "bob", &worker).await, REFUSED);
        assert_refused(login(&pooler, "carol", &worker).await, REFUSED);
        let host = authority
            .request("worker")
            .extension("subjectAltName = DNS:worker.example.net")
            .issue();
        assert_in(login(&pooler, "bob", &host).await);
        // Where there is a map, a namesake is nobody in particular.
        let alices = authority.issue("alice");
        assert_refused(login(&pooler, "alice", &alices).await, REFUSED);
        assert_in(login(&pooler, "carol", &authority.issue("carol")).await);
    }
}

#[tokio::test]
async fn hostssl_and_hostnossl_are_about_clients_with_tls_and_without() {
    let authority = Authority::new("authority");
    let server = FakeServer::start().await;
    let rules = "hostssl app alice all trust\nhostnossl app bob all trust\n\
                 host app carol all trust\nhostssl all all all cert";
    for workers in WORKERS {
        let setup = with_rules(before(&server, workers), rules, "");
        let setup = serving(setup, "allow", &authority.issue("localhost"));
        let pooler = setup.start().await;
        let over_tls = async |user: &str| {
            let how = format!("user={user} sslmode=require");
            psql(&pooler, &how, "SELECT 1").await
        };
        assert_in(over_tls("alice").await);
        assert_in(over_tls("carol").await);
        // Certificates that nobody asks for vouch for nobody.
        let bobs = authority.issue("bob");
        assert_refused(login(&pooler, "bob", &bobs).await, REFUSED);
        let line = pooler
            .wait_for_log("cert: no client is asked for a certificate")
            .await;
        assert!(line.contains("hba.conf"), "{line}");

        let no_rule = format!("FATAL 08P01 {NO_RULE}");
        for (user, expected) in [("alice", &*no_rule), ("bob", "in"), ("carol", "in")] {
            assert_eq!(outcome(&pooler, user, "", "app").await, expected, "{user}");
        }
    }
}

#[tokio::test]
async fn who_leaves_the_door_over_tls_is_forgotten_at_once() {
    let authority = Authority::new("authority");
    for workers in WORKERS {
        let entrance = Gate::closed();
        let setup = FakeServer::setup().login(Login::Behind(entrance.clone()));
        let server = setup.start().await;
        let setup = before(&server, workers);
        let setup = serving(setup, "allow", &authority.issue("localhost"));
        let pooler = setup.start().await;
        let tunnel = TlsTunnel::to(&pooler.address()).await;
        let mut client = FakeClient::connect(&tunnel.address()).await;
        let who = [("user", "alice"), ("database", "app")];
        client.startup(&who).await;
        wait_for_waiting(&pooler, 1).await;
        drop(client);
        wait_for_waiting(&pooler, 0).await;
        pooler
            .wait_for_log("closing because: client unexpected eof")
            .await;
    }
}

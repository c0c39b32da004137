//! TLS, towards clients and towards servers: with the real psql and a real PostgreSQL, as OpenSSL
//! speaks it, and with scripted peers behind tunnels.

mod binding;
mod certificates;
mod changes;
mod clients;
mod reload;
mod servers;
mod traffic;
mod vouching;

use testkit::{Authority, Certificate, Pooler, PoolerSetup, Postgres, PostgresSetup};

use crate::programs::{Place, run};

/// A pooler that shows this certificate to clients, and insists on TLS as far as this says.
fn serving(setup: PoolerSetup, sslmode: &str, certificate: &Certificate) -> PoolerSetup {
    setup
        .set("client_tls_sslmode", sslmode)
        .set("client_tls_cert_file", certificate.cert.display())
        .set("client_tls_key_file", certificate.key.display())
}

/// The same, asking clients for certificates of this authority.
fn asking(setup: PoolerSetup, certificate: &Certificate, authority: &Authority) -> PoolerSetup {
    serving(setup, "verify-full", certificate)
        .set("client_tls_ca_file", authority.certificate().cert.display())
}

/// A PostgreSQL that shows this certificate.
fn encrypted(certificate: &Certificate) -> PostgresSetup {
    Postgres::setup()
        .set("ssl", "on")
        .set("ssl_cert_file", certificate.cert.display())
        .set("ssl_key_file", certificate.key.display())
}

/// The database `app` and alice, with the password `secret`.
async fn with_alice(setup: PostgresSetup) -> Postgres {
    let postgres = setup.start().await;
    postgres.create_database("app").await;
    postgres.create_user("alice", "secret").await;
    postgres
}

/// What alice's psql prints when it connects to the pooler like this: `sslmode=require`.
async fn psql(pooler: &Pooler, how: &str, sql: &str) -> Result<String, String> {
    let place = Place::tcp(pooler.port());
    let said = run("psql", &place, &["-XAt", "-c", sql, how]).await;
    if said.status.success() {
        Ok(said.out.trim_end().to_owned())
    } else {
        Err(said.err.trim_end().to_owned())
    }
}

/// How psql was refused.
#[track_caller]
fn assert_refused(outcome: Result<String, String>, why: &str) {
    let told = outcome.expect_err("psql was let in");
    assert!(told.contains(why), "{told} is not {why}");
}

/// psql's words for a certificate and its key.
fn shows(certificate: &Certificate) -> String {
    let (cert, key) = (certificate.cert.display(), certificate.key.display());
    format!("sslcert={cert} sslkey={key}")
}

/// psql's word for whom it believes.
fn believes(authority: &Authority) -> String {
    format!("sslrootcert={}", authority.certificate().cert.display())
}

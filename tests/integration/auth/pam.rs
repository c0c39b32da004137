//! `pam`: passwords that the system's PAM stack checks, here one of Debian's libpam-wrapper.

use testkit::{FakeServer, PoolerSetup};

use super::typed_passwords_count;
use crate::support::{WORKERS, outcome, outcome_over_unix, pgusher, postgres};

const REFUSED: &str = "FATAL 08P01 PAM authentication failed";

/// A module that knows users and passwords from a file.
fn matrix() -> String {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let modules = libraries.map(|dir| dir.path().join("pam_wrapper/pam_matrix.so"));
    let found = modules.into_iter().find(|module| module.exists());
    let found = found.expect("install libpam-wrapper (make test does)");
    found.display().to_string()
}

/// A pooler with a PAM stack of its own, in which alice and bob have the password `secret`.
fn with_pam(setup: PoolerSetup) -> PoolerSetup {
    with_stack(setup, "")
}

/// The same, with more lines in the stack.
fn with_stack(setup: PoolerSetup, more: &str) -> PoolerSetup {
    let module = matrix();
    let stack = format!(
        "auth required {module} passdb={{dir}}/passdb
        account required {module} passdb={{dir}}/passdb
        {more}\n"
    );
    setup
        .file("pgbouncer", &stack)
        .file(
            "passdb",
            "alice:secret:pgbouncer\nbob:secret:pgbouncer\neve:secret:other\n",
        )
        .env("LD_PRELOAD", "libpam_wrapper.so")
        .env("PAM_WRAPPER", "1")
        .env("PAM_WRAPPER_SERVICE_DIR", "{dir}")
}

#[tokio::test]
async fn a_password_that_pam_takes_opens_the_server_too() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = pgusher(workers).database("app", &postgres.conn_info("app"));
        let setup = with_pam(setup).set("auth_type", "pam");
        let pooler = setup.start().await;
        typed_passwords_count(&pooler, "bob", REFUSED).await;
        // Known there, but not for our service.
        assert_eq!(outcome(&pooler, "eve", "secret", "app").await, REFUSED);
    }
}

#[tokio::test]
async fn an_hba_line_may_ask_pam_and_the_next_one_something_else() {
    let fake = FakeServer::start().await;
    let rules = "host all alice all pam\nhost all all all scram-sha-256\n";
    let setup = pgusher(1)
        .database("shop", &format!("{} user=clerk", fake.conn_info("shop")))
        .user("alice", "another")
        .user("bob", "another")
        .set("auth_type", "hba")
        .set("auth_hba_file", "{dir}/hba.conf")
        .file("hba.conf", rules);
    let pooler = with_pam(setup).start().await;
    assert_eq!(outcome(&pooler, "alice", "secret", "shop").await, "in");
    assert_eq!(outcome(&pooler, "alice", "another", "shop").await, REFUSED);
    assert_eq!(outcome(&pooler, "bob", "another", "shop").await, "in");
    let told = outcome(&pooler, "bob", "secret", "shop").await;
    assert_eq!(told, "FATAL 08P01 SASL authentication failed");
    pooler.wait_for_log("PAM: Authentication failure").await;
}

#[tokio::test]
async fn an_account_that_may_not_be_used_is_refused_whatever_its_password() {
    let fake = FakeServer::start().await;
    let shop = format!("{} user=clerk", fake.conn_info("shop"));
    let setup = pgusher(1).database("shop", &shop).set("auth_type", "pam");
    // The stack learns where clients come from; those on the unix socket come from nowhere.
    let only_tcp = "account required pam_succeed_if.so quiet rhost = 127.0.0.1";
    let pooler = with_stack(setup.clone(), only_tcp).start().await;
    assert_eq!(outcome(&pooler, "alice", "secret", "shop").await, "in");
    let told = outcome_over_unix(&pooler, "alice", "secret", "shop").await;
    assert_eq!(told, REFUSED);

    let nobody = with_stack(setup, "account required pam_deny.so");
    let pooler = nobody.start().await;
    assert_eq!(outcome(&pooler, "alice", "secret", "shop").await, REFUSED);
}

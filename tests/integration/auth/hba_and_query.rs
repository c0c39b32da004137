//! HBA rules about users whom only PostgreSQL knows: who is asked about, and what counts then.

use testkit::{FakeClient, PoolerSetup, Postgres, eventually_async};

use crate::support::{WORKERS, outcome, pgusher};

/// A PostgreSQL in which `usher` may read everybody's secret, and alice and bob have one.
async fn postgres() -> Postgres {
    let postgres = Postgres::start().await;
    postgres.create_user("usher", "keys").await;
    postgres.run("ALTER ROLE usher SUPERUSER").await;
    for user in ["alice", "bob"] {
        postgres.create_user(user, user).await;
    }
    postgres
}

/// A pooler with these rules, which knows `usher` alone and asks PostgreSQL for everybody else.
fn door(postgres: &Postgres, workers: u32, rules: &str) -> PoolerSetup {
    let rules = format!("host pgbouncer testkit_admin all scram-sha-256\n{rules}\n");
    pgusher(workers)
        .database("shop", &postgres.conn_info("postgres"))
        .user("usher", "keys")
        .set("auth_user", "usher")
        .set("auth_type", "hba")
        .set("auth_hba_file", "{dir}/hba.conf")
        .file("hba.conf", &rules)
}

#[tokio::test]
async fn rules_say_how_users_prove_themselves_whom_only_postgresql_knows() {
    let postgres = postgres().await;
    let rules = "host shop alice all scram-sha-256\nhost shop bob all password\n\
                 host shop all all trust";
    for workers in WORKERS {
        let pooler = door(&postgres, workers, rules).start().await;
        for user in ["alice", "bob"] {
            assert_eq!(outcome(&pooler, user, user, "shop").await, "in");
        }
        let told = outcome(&pooler, "alice", "bob", "shop").await;
        assert_eq!(told, "FATAL 08P01 SASL authentication failed");
        let told = outcome(&pooler, "bob", "alice", "shop").await;
        assert_eq!(told, "FATAL 08P01 password authentication failed");
        let told = outcome(&pooler, "nobody", "", "shop").await;
        assert_eq!(told, "FATAL 08P01 no such user");
    }
}

#[tokio::test]
async fn nobody_is_asked_about_those_who_are_kept_out_or_whom_others_check() {
    let postgres = postgres().await;
    // Nothing listens there.
    let rules = "host shop alice all reject\n\
                 host shop bob all ldap ldapserver=127.0.0.1 ldapport=1 ldapprefix=uid=";
    for workers in WORKERS {
        let pooler = door(&postgres, workers, rules).start().await;
        let told = outcome(&pooler, "alice", "alice", "shop").await;
        assert_eq!(told, "FATAL 08P01 login rejected");
        let told = outcome(&pooler, "carol", "carol", "shop").await;
        assert_eq!(told, "FATAL 08P01 no authentication method is found");
        let told = outcome(&pooler, "bob", "bob", "shop").await;
        assert_eq!(told, "FATAL 08P01 LDAP authentication failed");
        assert_eq!(pooler.log_count("new connection to server"), 0);
    }
}

#[tokio::test]
async fn who_turns_out_to_be_somebody_else_is_judged_as_that_user() {
    let postgres = postgres().await;
    let aliases = "SELECT rolname, rolpassword FROM pg_authid \
                   WHERE rolname = replace($1, 'known_as_', '')";
    let rules = "host shop known_as_alice,known_as_bob all trust\n\
                 host shop alice all scram-sha-256";
    for workers in WORKERS {
        let pooler = door(&postgres, workers, rules)
            .set("auth_query", aliases)
            .start()
            .await;
        let told = outcome(&pooler, "known_as_alice", "guess", "shop").await;
        assert_eq!(told, "FATAL 08P01 SASL authentication failed");
        assert_eq!(
            outcome(&pooler, "known_as_alice", "alice", "shop").await,
            "in"
        );
        let told = outcome(&pooler, "known_as_bob", "bob", "shop").await;
        assert_eq!(told, "FATAL 08P01 no authentication method is found");
    }
}

#[tokio::test]
async fn a_typed_password_opens_servers_that_a_stored_verifier_alone_can_not() {
    let postgres = postgres().await;
    // A verifier of the same password, which PostgreSQL's salt does not fit.
    let verifier = testkit::scram_secret("alice");
    for workers in WORKERS {
        let pooler = pgusher(workers)
            .database("shop", &postgres.conn_info("postgres"))
            .user("alice", &verifier)
            .set("server_login_retry", 1)
            .set("pool_mode", "transaction")
            .start()
            .await;
        let told = outcome(&pooler, "alice", "alice", "shop").await;
        assert_ne!(told, "in");
        pooler.console().await.run("SET auth_type = plain").await;
        eventually_async("the server is tried again", async || {
            outcome(&pooler, "alice", "alice", "shop").await == "in"
        })
        .await;
        // From here on servers are opened without her.
        pooler.console().await.run("RECONNECT").await;
        let mut alice = FakeClient::login_plain(&pooler.address(), "alice", "alice", "shop").await;
        assert_eq!(alice.query_value("SELECT current_user").await, "alice");
    }
}

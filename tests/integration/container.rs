//! A container's entrypoint: variables instead of an ini, and what is mounted.

use std::fs;

use testkit::{Pooler, PoolerSetup, Postgres};

use crate::support::{outcome, pgusher, postgres};

/// A password with every sign that scripts stumble over, and the same in a URL.
const PASSWORD: &str = "p@s:s/w?o#r%d 'x\"y$z";
const ESCAPED: &str = "p%40s%3As%2Fw%3Fo%23r%25d%20%27x%22y%24z";

/// A container without an ini. Its user list has the console's administrator alone.
fn container() -> PoolerSetup {
    pgusher(1)
        .without_ini()
        .arg("--entrypoint")
        .arg("/usr/bin/pgbouncer")
        .env("LISTEN_ADDR", "127.0.0.1")
        .env("LISTEN_PORT", "{port}")
        .env("ADMIN_USERS", "testkit_admin")
}

fn url(postgres: &Postgres, user: &str, password: &str) -> String {
    format!(
        "postgres://{user}:{password}@127.0.0.1:{}/app",
        postgres.port()
    )
}

/// What a client gets who asks in the database `app` for its name.
async fn name_in_app(pooler: &Pooler, user: &str, password: &str) -> String {
    let client = pooler.connect(user, password, "app").await;
    let row = client.query_one("SELECT current_user::text", &[]).await;
    row.unwrap().get(0)
}

#[tokio::test]
async fn a_url_is_all_it_takes_and_its_password_is_seen_nowhere() {
    let postgres = postgres().await;
    postgres.create_user("dora", PASSWORD).await;
    let pooler = container()
        .env("DATABASE_URL", &url(&postgres, "dora", ESCAPED))
        .start()
        .await;

    assert_eq!(name_in_app(&pooler, "dora", PASSWORD).await, "dora");
    let refusal = outcome(&pooler, "dora", "wrong", "app").await;
    assert!(
        refusal.contains("password authentication failed"),
        "{refusal}"
    );

    let port = postgres.port();
    pooler
        .wait_for_log(&format!("app = host=127.0.0.1 port={port} auth_user=dora"))
        .await;
    let log = pooler.log();
    assert!(!log.contains(PASSWORD) && !log.contains(ESCAPED), "{log}");
    assert!(!pooler.dir().join("pooler.ini").exists());
    let userlist = fs::read_to_string(pooler.dir().join("userlist.txt")).unwrap();
    assert!(!userlist.contains("dora"), "{userlist}");
}

#[tokio::test]
async fn users_whom_only_postgresql_knows_are_asked_of_it() {
    let postgres = postgres().await;
    let admin = postgres.admin_client().await;
    admin
        .batch_execute("CREATE ROLE chief SUPERUSER LOGIN PASSWORD 'chief'")
        .await
        .unwrap();
    let pooler = container()
        .env("DB_HOST", "127.0.0.1")
        .env("DB_PORT", &postgres.port().to_string())
        .env("DB_USER", "chief")
        .env("DB_PASSWORD", "chief")
        .env("AUTH_TYPE", "scram-sha-256")
        .env("POOL_MODE", "transaction")
        .start()
        .await;

    assert_eq!(name_in_app(&pooler, "bob", "secret").await, "bob");
    let console = pooler.console().await;
    let pools = console.show("POOLS").await;
    let bobs = pools.iter().find(|pool| &pool["user"] == "bob").unwrap();
    assert_eq!(&bobs["pool_mode"], "transaction");
}

#[tokio::test]
async fn a_secret_in_a_file_is_read_again_at_reload() {
    let postgres = postgres().await;
    let mut pooler = container()
        .env(
            "PGUSHER_DATABASE_URL",
            &format!("postgres://alice@127.0.0.1:{}/app", postgres.port()),
        )
        .env("PGUSHER_DB_PASSWORD_FILE", "{dir}/password")
        .file("password", "secret\n")
        .start()
        .await;
    assert_eq!(name_in_app(&pooler, "alice", "secret").await, "alice");

    let admin = postgres.admin_client().await;
    admin
        .batch_execute("ALTER ROLE alice PASSWORD 'another'")
        .await
        .unwrap();
    pooler
        .reload(|setup| setup.file("password", "another\n"))
        .await;
    pooler.console().await.run("RECONNECT").await;

    assert_eq!(name_in_app(&pooler, "alice", "another").await, "alice");
    let refusal = outcome(&pooler, "alice", "secret", "app").await;
    assert!(refusal.contains("authentication failed"), "{refusal}");
}

#[tokio::test]
async fn a_mounted_ini_wins_and_the_users_of_the_environment_are_added() {
    let postgres = postgres().await;
    let pooler = pgusher(1)
        .arg("--entrypoint")
        .arg("pgusher")
        .database("app", &postgres.conn_info("app"))
        .user("alice", "secret")
        .env("DB_HOST", "10.255.255.1")
        .env("DB_USER", "bob")
        .env("DB_PASSWORD", "secret")
        .env("LISTEN_PORT", "1")
        .start()
        .await;

    assert_eq!(name_in_app(&pooler, "alice", "secret").await, "alice");
    assert_eq!(name_in_app(&pooler, "bob", "secret").await, "bob");
    pooler
        .wait_for_log("environment: DB_HOST, LISTEN_PORT: not used")
        .await;
}

#[tokio::test]
async fn bitnamis_variables_lead_there_too() {
    let postgres = postgres().await;
    let pooler = pgusher(1)
        .without_ini()
        .arg("--entrypoint")
        .env("POSTGRESQL_HOST", "127.0.0.1")
        .env("POSTGRESQL_PORT", &postgres.port().to_string())
        .env("POSTGRESQL_USERNAME", "alice")
        .env("POSTGRESQL_PASSWORD", "secret")
        .env("POSTGRESQL_DATABASE", "app")
        .env("PGBOUNCER_DATABASE", "shop")
        .env("PGBOUNCER_PORT", "{port}")
        .env("PGBOUNCER_USERLIST", "\"bob\" \"secret\"")
        .arg("pgbouncer")
        .start()
        .await;

    for user in ["alice", "bob"] {
        let client = pooler.connect(user, "secret", "shop").await;
        let row = client
            .query_one("SELECT current_database()::text", &[])
            .await;
        assert_eq!(row.unwrap().get::<_, &str>(0), "app");
    }
}

#[tokio::test]
async fn the_sslmode_of_a_url_holds() {
    let postgres = postgres().await;
    let with = |mode: &str| format!("{}?sslmode={mode}", url(&postgres, "alice", "secret"));
    let strict = container()
        .env("DATABASE_URL", &with("require"))
        .start()
        .await;
    let refusal = outcome(&strict, "alice", "secret", "app").await;
    assert!(
        refusal.contains("TLS") || refusal.contains("SSL"),
        "{refusal}"
    );

    let lax = container()
        .env("DATABASE_URL", &with("disable"))
        .start()
        .await;
    assert_eq!(outcome(&lax, "alice", "secret", "app").await, "in");
}

#[tokio::test]
async fn on_a_host_nobody_listens_to_those_variables() {
    let exit = pgusher(1)
        .without_ini()
        .env("DATABASE_URL", "postgres://alice:secret@127.0.0.1/app")
        .run_to_exit()
        .await;
    assert!(!exit.status.success());
    assert!(exit.log.contains("cannot be read"), "{}", exit.log);
}

#[tokio::test]
async fn a_container_that_is_told_nothing_says_what_it_needs() {
    let exit = container().run_to_exit().await;
    assert!(!exit.status.success());
    assert!(
        exit.log
            .contains("nothing says where PostgreSQL is: set DATABASE_URL or DB_HOST"),
        "{}",
        exit.log
    );
}

#[tokio::test]
async fn check_shows_what_the_environment_says_without_its_secrets() {
    let exit = container()
        .arg("--check")
        .env("PGBOUNCER_DSN_0", "shop=host=h user=u password=s3cret")
        .env("POSTGRESQL_PASSWORD", "s3cret")
        .run_to_exit()
        .await;
    assert!(exit.status.success(), "{}", exit.log);
    assert!(
        exit.log.contains("shop = host=h user=u password=…"),
        "{}",
        exit.log
    );
    assert!(!exit.log.contains("s3cret"), "{}", exit.log);
}

#[tokio::test]
async fn any_other_command_takes_the_poolers_place() {
    let setup = || pgusher(1).without_ini().arg("--entrypoint");
    let told = setup()
        .arg("echo")
        .arg("-n")
        .arg("told")
        .run_to_exit()
        .await;
    assert!(told.status.success());
    assert!(told.log.starts_with("told "), "{}", told.log);

    let missing = setup().arg("no-such-program").run_to_exit().await;
    assert!(!missing.status.success());
    assert!(
        missing.log.contains("pgusher: no-such-program: "),
        "{}",
        missing.log
    );
}

#[tokio::test]
async fn the_healthcheck_finds_the_pooler_that_the_environment_asked_for() {
    let postgres = postgres().await;
    let pooler = container()
        .env("DATABASE_URL", &url(&postgres, "alice", "secret"))
        .start()
        .await;
    let port = pooler.port().to_string();
    let ask = |port: &str| {
        let setup = pgusher(1).without_ini().arg("--entrypoint").arg("pgusher");
        let setup = setup.arg("--healthcheck").env("LISTEN_ADDR", "127.0.0.1");
        let setup = setup.env("LISTEN_PORT", port).env("DB_HOST", "127.0.0.1");
        setup.run_to_exit()
    };
    let healthy = ask(&port).await;
    assert!(healthy.status.success(), "{}", healthy.log);
    drop(pooler);
    assert!(!ask(&port).await.status.success());
}

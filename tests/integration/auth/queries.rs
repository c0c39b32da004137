//! Users whom only PostgreSQL knows: found by auth_query, and served in pools of their own.

use testkit::{PoolerSetup, Postgres, client_program};

use crate::support::{WORKERS, outcome, pgusher};

/// A PostgreSQL in which `usher` may read secrets, and a pooler that knows nobody else.
async fn library() -> Postgres {
    let postgres = Postgres::start().await;
    postgres.create_user("usher", "keys").await;
    postgres.run("ALTER ROLE usher SUPERUSER").await;
    postgres
}

fn door(postgres: &Postgres, workers: u32) -> PoolerSetup {
    pgusher(workers)
        .database("shop", &postgres.conn_info("postgres"))
        .user("usher", "keys")
        .set("auth_user", "usher")
}

#[tokio::test]
async fn psql_logs_in_as_a_user_whom_only_postgresql_knows() {
    let postgres = library().await;
    postgres.create_user("alice", "secret").await;
    for workers in WORKERS {
        let pooler = door(&postgres, workers).start().await;
        let mut psql = std::process::Command::new(client_program("psql"));
        psql.args(["-X", "-At", "-c", "SELECT current_user"]);
        psql.arg(pooler.conn_str("alice", "shop"));
        let said = psql.env("PGPASSWORD", "secret").output().expect("psql");
        assert_eq!(String::from_utf8_lossy(&said.stdout), "alice\n", "{said:?}");
        let wrong = outcome(&pooler, "alice", "guess", "shop").await;
        assert_eq!(wrong, "FATAL 08P01 SASL authentication failed");
        let nobody = outcome(&pooler, "nobody", "secret", "shop").await;
        assert_eq!(nobody, "FATAL 08P01 no such user");
    }
}

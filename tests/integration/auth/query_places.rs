//! Where auth_query runs, as whom, and that no client can reach into it.

use testkit::{FakeClient, FakeServer, FakeServerSetup, PoolerSetup, Postgres, Step};

use crate::support::{WORKERS, outcome, pgusher};

/// A fake server on which every user has the password `right`, but for `nobody`.
fn knowing() -> FakeServerSetup {
    FakeServer::setup().answer(async |ask: testkit::Ask| {
        let asked = ask.sql.contains("rolname").then_some(ask.values)?;
        let user = asked.first().cloned().flatten()?;
        if user == "nobody" {
            return Some(vec![Step::Send(testkit::Message::command_complete(
                "SELECT 0",
            ))]);
        }
        let row = [("rolname", Some(user.as_str())), ("secret", Some("right"))];
        Some(Step::one_row(&row))
    })
}

fn door(workers: u32) -> PoolerSetup {
    pgusher(workers)
        .user("usher", "keys")
        .set("auth_user", "usher")
}

/// User and database of each connection, in order of arrival.
fn seen(fake: &FakeServer) -> Vec<String> {
    let connections = fake.connections();
    let seen = connections.iter().map(|connection| {
        let parameter = |name| connection.parameter(name).unwrap_or_default();
        format!("{}@{}", parameter("user"), parameter("database"))
    });
    seen.collect()
}

#[tokio::test]
async fn the_query_runs_where_the_client_goes_unless_auth_dbname_says_otherwise() {
    for workers in WORKERS {
        let fake = knowing().start().await;
        let conn_info = |name: &str| fake.conn_info(name);
        let pooler = door(workers)
            .database("shop", &conn_info("shop"))
            .database("till", &format!("{} auth_dbname=ledger", conn_info("till")))
            .database("ledger", &conn_info("books"))
            .database(
                "safe",
                &format!(
                    "{} auth_user=keeper auth_query='SELECT rolname, rolpassword FROM safe($1)'",
                    conn_info("safe")
                ),
            )
            .database("*", &conn_info("rest").replace("dbname=rest", ""))
            .user("keeper", "keys")
            .start()
            .await;
        let login = async |database: &str| {
            assert_eq!(outcome(&pooler, "alice", "right", database).await, "in");
        };
        login("shop").await;
        login("till").await;
        login("safe").await;
        assert_eq!(
            seen(&fake),
            [
                "usher@shop",
                "alice@shop",
                "usher@books",
                "alice@till",
                "keeper@safe",
                "alice@safe"
            ]
        );
        let safe = fake.connection(4).await;
        let asked = safe.received()[0].to_string();
        assert!(asked.contains("FROM safe($1)"), "{asked}");

        // Of all databases, by way of `*`, too.
        let console = pooler.console().await;
        console.run("SET auth_dbname = elsewhere").await;
        login("shop").await;
        pooler
            .wait_for_log("registered new auto-database: elsewhere")
            .await;
        assert_eq!(seen(&fake)[6..], ["usher@elsewhere"]);
        login("till").await;
        assert_eq!(seen(&fake).len(), 7, "a database's own setting goes first");
    }
}

#[tokio::test]
async fn an_auth_dbname_that_is_missing_disabled_or_the_console_is_named() {
    let fake = knowing().start().await;
    let pooler = door(1)
        .database("shop", &fake.conn_info("shop"))
        .database("ledger", &fake.conn_info("ledger"))
        .set("auth_dbname", "nowhere")
        .start()
        .await;
    let login = || outcome(&pooler, "alice", "right", "shop");
    assert_eq!(login().await, "FATAL 08P01 bouncer config error");
    let missing = "authentication database \"nowhere\" is not configured";
    pooler.wait_for_log(missing).await;

    let console = pooler.console().await;
    console.run("SET auth_dbname = ledger").await;
    console.run("DISABLE ledger").await;
    let disabled = "FATAL 08P01 authentication database \"ledger\" is disabled";
    assert_eq!(login().await, disabled);
    console.run("ENABLE ledger").await;
    assert_eq!(login().await, "in");

    assert!(
        console
            .try_run("SET auth_dbname = pgbouncer")
            .await
            .is_err()
    );
    let reserved = "cannot use the reserved \"pgbouncer\" database as an auth_dbname";
    pooler.wait_for_log(reserved).await;
}

#[tokio::test]
async fn operators_may_be_known_to_auth_dbname_alone() {
    let fake = knowing().start().await;
    let pooler = door(1)
        .database("ledger", &fake.conn_info("ledger"))
        .set("stats_users", "olga")
        .start()
        .await;
    let login = |user| outcome(&pooler, user, "right", "pgbouncer");
    // The console itself has no users to ask for.
    assert_eq!(login("olga").await, "FATAL 08P01 bouncer config error");
    let console = pooler.console().await;
    console.run("SET auth_dbname = ledger").await;
    assert_eq!(login("olga").await, "in");
    assert_eq!(login("alice").await, "FATAL 08P01 not allowed");
    assert_eq!(login("nobody").await, "FATAL 08P01 no such user");
    assert_eq!(seen(&fake), ["usher@ledger"]);
}

#[tokio::test]
async fn databases_that_do_not_exist_and_clients_who_need_no_proof_ask_nobody() {
    let fake = knowing().start().await;
    let conn_info = format!("{} user=clerk", fake.conn_info("shop"));
    let pooler = door(1).database("shop", &conn_info).start().await;
    let told = outcome(&pooler, "alice", "right", "nowhere").await;
    assert_eq!(told, "FATAL 08P01 SASL authentication failed");
    let console = pooler.console().await;
    console.run("SET auth_type = any").await;
    assert_eq!(outcome(&pooler, "whoever", "", "shop").await, "in");
    assert_eq!(seen(&fake), ["clerk@shop"]);
}

#[tokio::test]
async fn nothing_of_the_client_reaches_the_query_but_its_name() {
    for workers in WORKERS {
        let fake = knowing().parameter("search_path", "public").start().await;
        let pooler = door(workers)
            .database("shop", &fake.conn_info("shop"))
            .set("track_extra_parameters", "search_path")
            .set("auth_type", "plain")
            .start()
            .await;
        let mut client = FakeClient::connect(&pooler.address()).await;
        let parameters = [
            ("user", "alice'; --"),
            ("database", "shop"),
            ("search_path", "mine"),
            ("timezone", "CET"),
            ("options", "-c search_path=mine"),
        ];
        client.startup(&parameters).await;
        client.read_auth(3).await;
        let usher = fake.connection(0).await;
        let names: Vec<_> = usher.parameters.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["user", "database"]);
        let said: Vec<_> = usher.received().iter().map(ToString::to_string).collect();
        assert!(said[0].starts_with("Parse \"\" "), "{said:?}");
        assert_eq!(
            said[1..4],
            ["Bind \"\" to \"\" [\"alice'; --\"]", "Execute \"\"", "Sync"],
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn sessions_in_the_same_pool_can_not_deceive_the_query() {
    let postgres = Postgres::start().await;
    for user in ["usher", "bob"] {
        postgres.create_user(user, "right").await;
    }
    postgres
        .run(
            "CREATE SCHEMA lib; CREATE SCHEMA trap; GRANT ALL ON SCHEMA lib, trap TO usher;
             CREATE TABLE lib.guests AS SELECT 'bob' AS name, 'right' AS secret;
             CREATE TABLE trap.guests AS SELECT 'bob' AS name, 'forged' AS secret;
             GRANT ALL ON lib.guests, trap.guests TO usher",
        )
        .await;
    for workers in WORKERS {
        let conn_info = postgres.conn_info("postgres");
        let pooler = pgusher(workers)
            .database(
                "shop",
                &format!("{conn_info} connect_query='SET search_path = lib'"),
            )
            .user("usher", "right")
            .set("auth_user", "usher")
            .set(
                "auth_query",
                "SELECT name, secret FROM guests WHERE name = $1",
            )
            .set("default_pool_size", 1)
            .set("pool_mode", "transaction")
            .start()
            .await;
        let usher = pooler.connect("usher", "right", "shop").await;
        for deceit in [
            "SET search_path = trap",
            "CREATE TEMP TABLE guests AS SELECT 'bob' AS name, 'forged' AS secret",
            "SET role = 'bob'",
        ] {
            let _ = usher.simple_query(deceit).await;
            let told = outcome(&pooler, "bob", "forged", "shop").await;
            assert_eq!(told, "FATAL 08P01 SASL authentication failed", "{deceit}");
            assert_eq!(outcome(&pooler, "bob", "right", "shop").await, "in");
        }
        // What the database's own connect_query set is there again.
        usher.simple_query("TABLE guests").await.unwrap();
    }
}

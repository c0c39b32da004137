//! Values keep their meaning, and are told as the server spells them.

use testkit::{FakeServer, Message, Postgres, transcript};

use super::alice_with;
use crate::support::{WORKERS, alice, before, before_postgres, major_version, postgres};

#[tokio::test]
async fn a_value_spelled_in_another_way_is_set_once() {
    let postgres = Postgres::setup().set("log_statement", "all").start().await;
    postgres.create_user("alice", "secret").await;
    postgres.create_database("app").await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let spelled = [("datestyle", "iso"), ("client_encoding", "utf-8")];
        let (mut client, _) = alice_with(&pooler, &spelled).await;
        let mut other = alice(&pooler).await;
        let before = postgres.log().matches("SET DateStyle=").count();
        for _ in 0..5 {
            client.query("SELECT 'spelled'").await;
            other.query("SELECT 'other'").await;
        }
        let last = format!("the last with {workers} workers");
        postgres.run(&format!("SELECT '{last}'")).await;
        postgres.wait_for_log(&last).await;
        let after = postgres.log().matches("SET DateStyle=").count();
        assert_eq!(after - before, 1);
    }
}

#[tokio::test]
async fn quotes_and_backslashes_stay_part_of_the_value() {
    let awkward = [
        "o'hara",
        r"back\slash\",
        r"\'; DROP TABLE t; --",
        "'';SELECT 1",
        "\"quoted\"",
        "$$dollars$$",
        "",
    ];
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut between = alice(&pooler).await;
        between.query("SET application_name = 'between'").await;
        for value in awkward {
            for conforming in ["on", "off"] {
                let own = [
                    ("application_name", value),
                    ("standard_conforming_strings", conforming),
                ];
                let (mut client, _) = alice_with(&pooler, &own).await;
                for _ in 0..2 {
                    assert_eq!(client.query_value("SHOW application_name").await, value);
                    assert_eq!(
                        between.query_value("SHOW application_name").await,
                        "between"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_search_path_stays_one_whatever_it_looks_like() {
    let awkward = [
        "\"$user\", public",
        "\"\"",
        "\"Quoted, name\", other",
        "x;drop",
        "o'hara",
        r"back\slash",
    ];
    let postgres = postgres().await;
    if major_version(&postgres).await < 18 {
        // It tells nobody its search_path.
        return;
    }
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut between = alice(&pooler).await;
        between.query("SET search_path = 'elsewhere'").await;
        for value in awkward {
            let (mut client, _) = alice_with(&pooler, &[("search_path", value)]).await;
            for _ in 0..2 {
                assert_eq!(client.query_value("SHOW search_path").await, value);
                assert_eq!(between.query_value("SHOW search_path").await, "elsewhere");
            }
        }
    }
}

#[tokio::test]
async fn a_client_hears_once_how_the_server_spells_its_values() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let spelled = [("datestyle", "iso"), ("client_encoding", "utf-8")];
        let (mut client, welcome) = alice_with(&pooler, &spelled).await;
        let told = |name, value| Message::parameter_status(name, value);
        assert!(welcome.contains(&told("client_encoding", "utf-8")));
        let news = client.query("SELECT 'first'").await;
        assert_eq!(news[0], told("DateStyle", "ISO, MDY"));
        assert_eq!(news[1], told("client_encoding", "UTF8"));
        assert_eq!(news[2].tag, b'T');
        assert_eq!(client.query("SELECT 'second'").await[0].tag, b'T');

        // The same without a SET: the server has the value already, in other letters.
        let (mut client, _) = alice_with(&pooler, &[("client_encoding", "utf8")]).await;
        let news = client.query("SELECT 'first'").await;
        assert_eq!(news[0], told("client_encoding", "UTF8"));
        assert_eq!(news[1].tag, b'T');
    }
}

#[tokio::test]
async fn a_value_that_is_too_long_to_be_read_is_the_next_clients_under_no_circumstances() {
    for workers in WORKERS {
        let server = FakeServer::setup().parameter("search_path", "public");
        let server = server.start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let long = "a, ".repeat(2000);
        let long = long.trim();
        let (mut client, mut next) = (alice(&pooler).await, alice(&pooler).await);
        let told = client.query(&format!("SET search_path = '{long}'")).await;
        assert_eq!(told[0], Message::parameter_status("search_path", long));
        pooler
            .wait_for_log("closing because: unreadable server parameter")
            .await;
        assert_eq!(next.query_value("SELECT 'fine'").await, "fine");
        assert_eq!(server.connection(1).await.queries(), ["SELECT 'fine'"]);
        assert!(!transcript(&next.query("SELECT 'on'").await).contains("search_path"));
    }
}

//! Logical replication between two clusters, with the pooler before the publisher.

use testkit::{Postgres, eventually_async};

use super::{few_seats, publishing};
use crate::support::WORKERS;

/// The names in the table `towns`, in order.
async fn towns(postgres: &Postgres) -> String {
    let admin = postgres.admin_client_in("app").await;
    let sql = "SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM towns";
    admin.query_one(sql, &[]).await.unwrap().get(0)
}

async fn wait_for_towns(postgres: &Postgres, expected: &str) {
    eventually_async(&format!("the towns {expected:?}"), async || {
        towns(postgres).await == expected
    })
    .await;
}

#[tokio::test]
async fn a_subscription_follows_its_publisher_and_leaves_nothing_behind() {
    for workers in WORKERS {
        let publisher = publishing().await;
        let subscriber = Postgres::setup().set("wal_level", "logical").start().await;
        subscriber.create_database("app").await;
        let table = "CREATE TABLE towns (name text PRIMARY KEY)";
        subscriber.run_in("app", table).await;
        let published = "INSERT INTO towns VALUES ('Lima'); GRANT ALL ON towns TO alice; \
                         CREATE PUBLICATION news FOR TABLE towns";
        publisher
            .run_in("app", &format!("{table}; {published}"))
            .await;
        let pooler = few_seats(workers, &publisher).start().await;

        let port = pooler.port();
        let conn_info = format!("host=127.0.0.1 port={port} user=alice password=secret dbname=app");
        let subscribe =
            format!("CREATE SUBSCRIPTION news CONNECTION '{conn_info}' PUBLICATION news");
        subscriber.run_in("app", &subscribe).await;
        wait_for_towns(&subscriber, "Lima").await;

        let client = pooler.connect("alice", "secret", "app").await;
        for (change, expected) in [
            (
                "INSERT INTO towns VALUES ('Oslo'), ('Rome')",
                "Lima Oslo Rome",
            ),
            ("DELETE FROM towns WHERE name = 'Lima'", "Oslo Rome"),
            (
                "UPDATE towns SET name = 'Kyiv' WHERE name = 'Rome'",
                "Kyiv Oslo",
            ),
        ] {
            client.batch_execute(change).await.unwrap();
            wait_for_towns(&subscriber, expected).await;
        }
        let console = pooler.console().await;
        let follower = console
            .show_row("CLIENTS", "application_name", "news")
            .await;
        assert_eq!(&follower["replication"], "logical");
        let server = console
            .show_row("SERVERS", "application_name", "news")
            .await;
        assert_eq!(&server["replication"], "logical");
        assert_eq!(follower["link"], server["ptr"]);

        subscriber.run_in("app", "DROP SUBSCRIPTION news").await;
        let none = async || {
            let servers = console.show("SERVERS").await;
            servers
                .iter()
                .all(|server| &server["replication"] == "none")
        };
        eventually_async("the end of the last replication server", none).await;
        let slots = publisher.admin_client().await;
        let slots = slots.query("SELECT FROM pg_replication_slots", &[]).await;
        assert!(slots.unwrap().is_empty());
    }
}

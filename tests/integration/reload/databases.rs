//! Databases: new, gone, elsewhere, larger and smaller, while clients are on them.

use testkit::{FakeClient, FakeServer, Gate, Login, Message, Pooler, eventually_async, in_time};

use super::{alice, shop};
use crate::support::{WORKERS, outcome, refusal, words};

#[tokio::test]
async fn a_pool_grows_for_those_who_wait_and_shrinks_without_breaking_anybody() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let conn_info = |size| format!("{} pool_size={size}", fake.conn_info("shop"));
        let mut pooler = shop(workers, &fake)
            .database("shop", &conn_info(1))
            .start()
            .await;
        let console = pooler.console().await;
        let mut held = Vec::new();
        for _ in 0..5 {
            let client = alice(&pooler).await;
            held.push(tokio::spawn(async move {
                client.simple_query("HOLD till").await.unwrap();
                client
            }));
        }
        eventually_async("four clients in line", async || {
            console.pool("shop", "alice").await.number("cl_waiting") == 4
        })
        .await;
        pooler
            .reload(|setup| setup.database("shop", &conn_info(4)))
            .await;
        let till = fake.gate("till");
        till.wait_for_waiting(4).await;
        assert_eq!(console.pool("shop", "alice").await.number("cl_waiting"), 1);

        pooler
            .reload(|setup| setup.database("shop", &conn_info(2)))
            .await;
        // Who has a server keeps it to the end of the transaction.
        assert_eq!(till.waiting(), 4);
        till.open();
        for client in held {
            let client = client.await.unwrap();
            client.simple_query("SELECT 1").await.unwrap();
        }
        fake.wait_for_logged_in(2).await;
        assert_eq!(fake.logged_in_max(), 4);
    }
}

#[tokio::test]
async fn clients_of_a_removed_database_are_told_and_its_servers_closed() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = shop(workers, &fake)
            .set("default_pool_size", 1)
            .database("till", &fake.conn_info("till"))
            .start()
            .await;
        let console = pooler.console().await;
        let till = pooler.connect("alice", "a", "till").await;
        till.simple_query("SELECT 1").await.unwrap();
        let (idle, busy, in_line) = (
            alice(&pooler).await,
            alice(&pooler).await,
            alice(&pooler).await,
        );
        let busy = tokio::spawn(async move { busy.simple_query("HOLD till").await });
        fake.gate("till").wait_for_waiting(1).await;
        let in_line = tokio::spawn(async move { in_line.simple_query("SELECT 1").await });
        eventually_async("a client in line", async || {
            console.pool("shop", "alice").await.number("cl_waiting") == 1
        })
        .await;

        let removed = "FATAL 08P01 database removed";
        pooler.reload(|setup| setup.without_database("shop")).await;
        assert_eq!(refusal(&busy.await.unwrap().unwrap_err()), removed);
        assert_eq!(refusal(&in_line.await.unwrap().unwrap_err()), removed);
        in_time("the idle client's end", async {
            while !idle.is_closed() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        fake.wait_for_logged_in(1).await;
        till.simple_query("SELECT 1").await.unwrap();
        let told = outcome(&pooler, "alice", "a", "shop").await;
        assert_eq!(told, "FATAL 08P01 no such database: shop");
        assert_eq!(console.show("DATABASES").await.len(), 2);

        pooler
            .reload(|setup| setup.database("shop", &fake.conn_info("shop")))
            .await;
        alice(&pooler).await.simple_query("SELECT 1").await.unwrap();
    }
}

#[tokio::test]
async fn a_login_that_waits_for_a_removed_database_is_told_so() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let fake = FakeServer::setup().login(Login::Behind(gate.clone()));
        let fake = fake.start().await;
        let mut pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let mut login = FakeClient::connect(&pooler.address()).await;
        let who = [("user", "alice"), ("database", "shop")];
        login.startup(&who).await;
        login.answer_scram("a").await;
        eventually_async("a login in line", async || {
            let pools = console.show("POOLS").await;
            pools.iter().any(|row| &row["cl_waiting"] == "1")
        })
        .await;
        pooler.reload(|setup| setup.without_database("shop")).await;
        let told = words(&login.expect_error().await);
        assert_eq!(told, "FATAL 08P01 database removed");
    }
}

#[tokio::test]
async fn a_database_that_moves_takes_its_clients_along() {
    for workers in WORKERS {
        let [old, new] = [FakeServer::start().await, FakeServer::start().await];
        let mut pooler = shop(workers, &old).start().await;
        let idle = alice(&pooler).await;
        idle.simple_query("SELECT 1").await.unwrap();
        let busy = alice(&pooler).await;
        busy.simple_query("BEGIN").await.unwrap();
        let new_info = new.conn_info("shop");
        pooler
            .reload(|setup| setup.database("shop", &new_info))
            .await;

        idle.simple_query("SELECT 1").await.unwrap();
        assert_eq!(new.connections().len(), 1);
        // What was begun ends where it was begun.
        busy.simple_query("SELECT 1").await.unwrap();
        busy.simple_query("COMMIT").await.unwrap();
        old.wait_for_logged_in(0).await;
        busy.simple_query("SELECT 1").await.unwrap();
        assert!(old.connections().len() <= 2);

        // The same host under another name of the database.
        pooler
            .reload(|setup| setup.database("shop", &new.conn_info("annex")))
            .await;
        let before = new.connections().len();
        for client in [idle, busy] {
            client.simple_query("SELECT 1").await.unwrap();
        }
        let annex = &new.connections()[before];
        assert_eq!(annex.parameter("database"), Some("annex"));
    }
}

#[tokio::test]
async fn a_forced_user_can_be_given_changed_and_taken_away() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = shop(workers, &fake).start().await;
        let users = || {
            let seen = fake.connections();
            let users = seen
                .iter()
                .map(|one| one.parameter("user").unwrap().to_owned());
            users.collect::<Vec<_>>()
        };
        alice(&pooler).await;
        for user in [" user=clerk", " user=cashier", ""] {
            let conn_info = fake.conn_info("shop") + user;
            pooler
                .reload(|setup| setup.database("shop", &conn_info))
                .await;
            let client = alice(&pooler).await;
            client.simple_query("SELECT 1").await.unwrap();
        }
        assert_eq!(users(), ["alice", "clerk", "cashier", "alice"]);
    }
}

#[tokio::test]
async fn clients_of_a_forced_user_who_is_one_no_more_part_between_two_transactions() {
    let told = "FATAL 08P01 database configuration changed";
    for workers in WORKERS {
        for user in [" user=cashier", ""] {
            let fake = FakeServer::start().await;
            let forced = fake.conn_info("shop") + " user=clerk pool_size=1";
            let mut pooler = shop(workers, &fake)
                .database("shop", &forced)
                .database("till", &(fake.conn_info("till") + " user=clerk"))
                .start()
                .await;
            let console = pooler.console().await;
            let till = pooler.connect("alice", "a", "till").await;
            let mut idle = scripted_alice(&pooler).await;
            let mut in_line = scripted_alice(&pooler).await;
            let busy = alice(&pooler).await;
            busy.simple_query("BEGIN").await.unwrap();
            in_line.send(Message::query("SELECT 1")).await;
            eventually_async("a client in line", async || {
                console.pool("shop", "clerk").await.number("cl_waiting") == 1
            })
            .await;
            let conn_info = fake.conn_info("shop") + user;
            pooler
                .reload(|setup| setup.database("shop", &conn_info))
                .await;
            for client in [&mut idle, &mut in_line] {
                assert_eq!(words(&client.expect_error().await), told);
            }
            busy.simple_query("SELECT 1").await.unwrap();
            busy.simple_query("COMMIT").await.unwrap();
            in_time("the end of the third", async {
                while !busy.is_closed() {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            till.simple_query("SELECT 1").await.unwrap();
            alice(&pooler).await.simple_query("SELECT 1").await.unwrap();
            let seen = fake.connections();
            let expected = if user.is_empty() { "alice" } else { "cashier" };
            assert_eq!(seen.last().unwrap().parameter("user"), Some(expected));
        }
    }
}

async fn scripted_alice(pooler: &Pooler) -> FakeClient {
    FakeClient::login_scram(&pooler.address(), "alice", "a", "shop").await
}

#[tokio::test]
async fn databases_made_from_the_star_follow_it() {
    for workers in WORKERS {
        let [old, new] = [FakeServer::start().await, FakeServer::start().await];
        let star = |fake: &FakeServer| format!("host=127.0.0.1 port={}", fake.port());
        let mut pooler = shop(workers, &old)
            .without_database("shop")
            .database("*", &star(&old))
            .start()
            .await;
        let client = alice(&pooler).await;
        client.simple_query("SELECT 1").await.unwrap();
        assert_eq!(old.connections()[0].parameter("database"), Some("shop"));

        pooler
            .reload(|setup| setup.database("*", &star(&new)))
            .await;
        client.simple_query("SELECT 1").await.unwrap();
        assert_eq!(new.connections()[0].parameter("database"), Some("shop"));
        old.wait_for_logged_in(0).await;

        // Listed by name, it stays where it is.
        pooler
            .reload(|setup| {
                let setup = setup.without_database("*");
                setup.database("shop", &new.conn_info("shop"))
            })
            .await;
        client.simple_query("SELECT 1").await.unwrap();
        assert_eq!(new.connections().len(), 1);

        pooler.reload(|setup| setup.without_database("shop")).await;
        new.wait_for_logged_in(0).await;
        let told = outcome(&pooler, "alice", "a", "shop").await;
        assert_eq!(told, "FATAL 08P01 no such database: shop");
    }
}

#[tokio::test]
async fn a_reload_does_not_end_a_pause() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let client = alice(&pooler).await;
        client.simple_query("SELECT 1").await.unwrap();
        console.run("PAUSE shop").await;
        let conn_info = format!("{} pool_size=3", fake.conn_info("shop"));
        pooler
            .reload(|setup| setup.database("shop", &conn_info))
            .await;
        let row = console.show_row("DATABASES", "name", "shop").await;
        assert_eq!((row.number("paused"), row.number("pool_size")), (1, 3));
        let queued = tokio::spawn(async move { client.simple_query("SELECT 1").await });
        eventually_async("a client in line", async || {
            console.pool("shop", "alice").await.number("cl_waiting") == 1
        })
        .await;
        console.run("RESUME shop").await;
        queued.await.unwrap().unwrap();
    }
}

//! SUSPEND, and what RESUME does after it; PAUSE and RESUME in each other's way.

use std::fmt::Write;

use expect_test::expect;
use testkit::{
    Console, FakeClient, FakeServer, Message, Pooler, eventually_async, in_time, transcript,
};

use super::{alice, asks, operator, shop};
use crate::support::{
    Stay, Tills, WORKERS, before, before_postgres, client, postgres, wait_for_waiting, words,
};

async fn state(console: &Console) -> String {
    let row = console.show_row("STATE", "value", "yes").await;
    row["key"].to_owned()
}

/// Queries and transactions that clients have begun so far.
async fn begun(console: &Console) -> (i64, i64) {
    let row = console.show_row("STATS_TOTALS", "database", "app").await;
    (row.number("query_count"), row.number("bytes_sent"))
}

#[tokio::test]
async fn suspended_nothing_moves_and_resumed_everybody_goes_on() {
    let postgres = postgres().await;
    Tills::prepare(&postgres).await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 3)
            .start()
            .await;
        let console = pooler.console().await;
        let tills = Tills::open(10, &pooler.address(), Stay::Long);
        for _ in 0..5 {
            tills.sell(50).await;
            console.run("SUSPEND").await;
            assert_eq!(state(&console).await, "suspended");
            let before = begun(&console).await;
            // Whoever comes now is not taken in before RESUME.
            let mut late = FakeClient::connect(&pooler.address()).await;
            late.startup(&[("user", "alice"), ("database", "app")])
                .await;
            assert_eq!(begun(&console).await, before);
            console.run("RESUME").await;
            late.read_until_ready().await;
        }
        tills.sell(50).await;
        assert_eq!(tills.close(&postgres).await, []);
    }
}

/// A pooler with one seat before a fake server, whose patience ends after a while.
async fn one_seat(fake: &FakeServer, workers: u32) -> Pooler {
    before(fake, workers)
        .set("default_pool_size", 1)
        .set("suspend_timeout", 3)
        .start()
        .await
}

#[tokio::test]
async fn whoever_is_in_line_is_served_before_everything_stands_still() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = before(&fake, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let console = pooler.console().await;
        let mut holder = client(&pooler, "alice").await;
        let mut in_line = client(&pooler, "alice").await;
        holder.query("BEGIN").await;
        in_line.send(Message::query("SELECT 'in line'")).await;
        wait_for_waiting(&pooler, 1).await;

        let suspend = tokio::spawn(async move { console.run("SUSPEND").await });
        pooler.wait_for_log("SUSPEND command issued").await;
        holder.query("COMMIT").await;
        assert_eq!(
            in_line.read_until_ready().await[1].values().unwrap()[0].as_deref(),
            Some("in line")
        );
        suspend.await.unwrap();
    }
}

#[tokio::test]
async fn after_suspend_timeout_whoever_is_not_still_is_dropped_and_nobody_else() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = one_seat(&fake, workers).await;
        let console = pooler.console().await;
        let mut holder = client(&pooler, "alice").await;
        let mut idle = client(&pooler, "alice").await;
        let mut in_line = client(&pooler, "alice").await;
        let mut halfway = client(&pooler, "alice").await;
        holder.query("BEGIN").await;
        in_line.send(Message::query("SELECT 1")).await;
        halfway.send_raw(b"Q\0\0").await;
        let mut at_login = FakeClient::connect(&pooler.address()).await;
        at_login.send_raw(&[0, 0]).await;
        wait_for_waiting(&pooler, 1).await;

        console.run("SUSPEND").await;
        pooler.wait_for_log("suspend_timeout: dropping").await;
        for victim in [&mut in_line, &mut halfway, &mut at_login] {
            let told = words(&victim.expect_error().await);
            assert_eq!(told, "FATAL 08P01 suspend_timeout");
        }
        // They are heard when it is over.
        holder.send(Message::query("COMMIT")).await;
        idle.send(Message::query("SELECT 1")).await;
        assert_eq!(fake.connections()[0].queries().last().unwrap(), "BEGIN");
        console.run("RESUME").await;
        for survivor in [&mut holder, &mut idle] {
            survivor.read_until_ready().await;
        }
    }
}

#[tokio::test]
async fn a_query_that_runs_goes_on_and_its_answer_waits() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = before(&fake, workers).start().await;
        let console = pooler.console().await;
        let mut busy = client(&pooler, "alice").await;
        let till = fake.gate("till");
        busy.send(Message::query("HOLD till")).await;
        till.wait_for_waiting(1).await;
        console.run("SUSPEND").await;
        till.open();
        till.wait_for_waiting(0).await;
        let clients = console.show("CLIENTS").await;
        let row = clients.iter().find(|row| row["database"] == *"app");
        assert_eq!(&row.unwrap()["state"], "active");
        console.run("RESUME").await;
        busy.read_until_ready().await;
    }
}

#[tokio::test]
async fn without_an_operator_nothing_stays_suspended() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = before(&fake, workers).start().await;
        let mut client = client(&pooler, "alice").await;
        for leaves_before_the_answer in [false, true] {
            let address = pooler.address();
            let login = FakeClient::login_trust(&address, "testkit_admin", "pgbouncer");
            let mut operator = login.await;
            if leaves_before_the_answer {
                // Half a query holds it up.
                client.send_raw(b"Q\0\0").await;
                operator.send(Message::query("SUSPEND")).await;
            } else {
                operator.query("SUSPEND").await;
            }
            let issued = 1 + usize::from(leaves_before_the_answer);
            pooler
                .wait_for_log_count("SUSPEND command issued", issued)
                .await;
            operator.reset();
            if leaves_before_the_answer {
                pooler.wait_for_log("SUSPEND was given up").await;
                client.send_raw(b"\0\x0dSELECT 1\0").await;
                client.read_until_ready().await;
            } else {
                let told = "admin disappeared when suspended, doing RESUME";
                pooler.wait_for_log(told).await;
                client.query("SELECT 1").await;
            }
        }
    }
}

#[tokio::test]
async fn a_rest_that_is_cancelled_or_ended_by_others_is_over_and_says_so() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let busy = alice(&pooler).await;
        busy.simple_query("BEGIN").await.unwrap();
        let mut halfway = FakeClient::login_scram(&pooler.address(), "alice", "a", "shop").await;
        for (command, end) in [
            ("PAUSE", "RESUME"),
            ("PAUSE shop", "RESUME shop"),
            ("SUSPEND", "RESUME"),
        ] {
            if command == "SUSPEND" {
                halfway.send_raw(b"Q\0\0").await;
            }
            for cancelled in [true, false] {
                let mut operator = operator(&pooler).await;
                let issued =
                    format!("{command} command issued").replace("PAUSE shop", "PAUSE 'shop'");
                let before = pooler.log_count(&issued);
                operator.send(Message::query(command)).await;
                pooler.wait_for_log_count(&issued, before + 1).await;
                if cancelled && command != "SUSPEND" {
                    operator.cancel_me().await;
                } else {
                    // Under SUSPEND nobody is let in, a cancel request neither.
                    in_time(end, console.run(end)).await;
                }
                let told = words(&operator.expect_error().await);
                assert_eq!(told, "ERROR 57014 canceling statement due to user request");
                operator.read_until_ready().await;
                eventually_async("the end of it", async || state(&console).await == "active").await;
            }
        }
        let late = asks(in_time("a login", alice(&pooler)).await, "SELECT 1");
        in_time("a query", late).await.unwrap().1.unwrap();
        in_time("the end", busy.simple_query("COMMIT"))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_rests_already_is_not_put_to_rest_again() {
    let fake = FakeServer::start().await;
    let pooler = shop(1, &fake).start().await;
    let mut operator = operator(&pooler).await;
    let mut told = String::new();
    for command in [
        "PAUSE shop",
        "SUSPEND",
        "PAUSE",
        "RESUME",
        "RESUME shop",
        "SUSPEND",
        "SUSPEND",
        "PAUSE",
        "PAUSE shop",
        "KILL shop",
        "RESUME shop",
        "RESUME",
        "RESUME",
        "PAUSE",
        "SUSPEND",
        "PAUSE shop",
        "RESUME shop",
        "RESUME",
        "RESUME pgbouncer",
        "WAIT_CLOSE pgbouncer",
        "ENABLE pgbouncer",
        "SUSPEND shop",
    ] {
        let answer = operator.query(command).await;
        let outcome = match answer[0].error_fields() {
            Some(error) => words(&error),
            None => transcript(&answer[..1]).trim().to_owned(),
        };
        writeln!(told, "{command}: {outcome}").unwrap();
    }
    // What PgBouncer 1.18 answers.
    expect![[r#"
        PAUSE shop: < CommandComplete "PAUSE"
        SUSPEND: ERROR 08P01 cannot suspend with paused databases
        PAUSE: < CommandComplete "PAUSE"
        RESUME: < CommandComplete "RESUME"
        RESUME shop: < CommandComplete "RESUME"
        SUSPEND: < CommandComplete "SUSPEND"
        SUSPEND: ERROR 08P01 already suspended/paused
        PAUSE: ERROR 08P01 already suspended/paused
        PAUSE shop: ERROR 08P01 already suspended/paused
        KILL shop: ERROR 08P01 already suspended/paused
        RESUME shop: ERROR 08P01 database shop is not paused
        RESUME: < CommandComplete "RESUME"
        RESUME: ERROR 08P01 pooler is not paused/suspended
        PAUSE: < CommandComplete "PAUSE"
        SUSPEND: ERROR 08P01 already suspended/paused
        PAUSE shop: ERROR 08P01 already suspended/paused
        RESUME shop: ERROR 08P01 database shop is not paused
        RESUME: < CommandComplete "RESUME"
        RESUME pgbouncer: ERROR 08P01 database pgbouncer is not paused
        WAIT_CLOSE pgbouncer: ERROR 08P01 cannot wait in admin db: pgbouncer
        ENABLE pgbouncer: ERROR 08P01 cannot disable admin db: pgbouncer
        SUSPEND shop: ERROR 08P01 invalid command 'SUSPEND shop', use SHOW HELP;
    "#]]
    .assert_eq(&told);
}

//! Commands: what they do to clients and servers, and what is said when they can't.

use std::fmt::Write;

use expect_test::expect;
use testkit::{
    Console, FakeClient, FakeServer, Gate, Login, Message, eventually_async, transcript,
};

use super::{alice, asks, operator, shop};
use crate::support::{WORKERS, outcome, pgusher, refusal, words};

async fn waiting(console: &Console) -> i64 {
    console.pool("shop", "alice").await.number("cl_waiting")
}

async fn state(console: &Console) -> String {
    let row = console.show_row("STATE", "value", "yes").await;
    row["key"].to_owned()
}

#[tokio::test]
async fn pause_waits_for_transactions_and_resume_serves_all_who_came_meanwhile() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let busy = alice(&pooler).await;
        busy.simple_query("BEGIN").await.unwrap();
        let idle = alice(&pooler).await;

        let (pauser, watcher) = (pooler.console().await, &console);
        let pause = tokio::spawn(async move { pauser.run("PAUSE").await });
        eventually_async("the pause", async || state(watcher).await == "paused").await;
        let mut queued = vec![asks(idle, "SELECT queued")];
        // Logins go on: their welcome is known.
        for _ in 0..5 {
            queued.push(asks(alice(&pooler).await, "SELECT queued"));
        }
        eventually_async("six clients in line", async || waiting(watcher).await == 6).await;
        assert!(!pause.is_finished());
        busy.simple_query("SELECT 1").await.unwrap();
        busy.simple_query("COMMIT").await.unwrap();
        pause.await.unwrap();
        fake.wait_for_logged_in(0).await;
        assert_eq!(waiting(&console).await, 6);

        let told = console.try_run("PAUSE").await.unwrap_err();
        assert_eq!(refusal(&told), "ERROR 08P01 already suspended/paused");
        console.run("RESUME").await;
        assert_eq!(state(&console).await, "active");
        for client in queued {
            client.await.unwrap().1.unwrap();
        }
    }
}

#[tokio::test]
async fn a_paused_database_leaves_the_others_alone() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake)
            .database("till", &fake.conn_info("till"))
            .start()
            .await;
        let console = pooler.console().await;
        let shopper = alice(&pooler).await;
        shopper.simple_query("SELECT 1").await.unwrap();
        console.run("PAUSE shop").await;
        let paused = async |name| {
            let row = console.show_row("DATABASES", "name", name).await;
            row.number("paused") == 1
        };
        assert!(paused("shop").await && !paused("till").await);
        assert_eq!(state(&console).await, "active");

        let queued = asks(shopper, "SELECT 1");
        eventually_async("a client in line", async || waiting(&console).await == 1).await;
        let till = pooler.connect("alice", "a", "till").await;
        till.simple_query("SELECT 1").await.unwrap();
        console.run("RESUME shop").await;
        queued.await.unwrap().1.unwrap();
        assert!(!paused("shop").await);
    }
}

#[tokio::test]
async fn a_pause_that_is_cancelled_or_left_is_over() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let busy = alice(&pooler).await;
        busy.simple_query("BEGIN").await.unwrap();

        for leaves in [false, true] {
            let mut operator = operator(&pooler).await;
            operator.send(Message::query("PAUSE")).await;
            eventually_async("the pause", async || state(&console).await == "paused").await;
            let queued = asks(alice(&pooler).await, "SELECT 1");
            if leaves {
                operator.reset();
            } else {
                operator.cancel_me().await;
                let told = words(&operator.expect_error().await);
                assert_eq!(told, "ERROR 57014 canceling statement due to user request");
                operator.read_until_ready().await;
            }
            queued.await.unwrap().1.unwrap();
            assert_eq!(state(&console).await, "active");
        }
        busy.simple_query("COMMIT").await.unwrap();
    }
}

#[tokio::test]
async fn kill_drops_everybody_and_leaves_the_database_paused() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake)
            .set("default_pool_size", 2)
            .database("till", &fake.conn_info("till"))
            .start()
            .await;
        let console = pooler.console().await;
        let at_the_till = pooler.connect("alice", "a", "till").await;
        at_the_till.simple_query("SELECT 1").await.unwrap();
        let idle = alice(&pooler).await;
        let in_transaction = alice(&pooler).await;
        in_transaction.simple_query("BEGIN").await.unwrap();
        let busy = asks(alice(&pooler).await, "HOLD till");
        fake.gate("till").wait_for_waiting(1).await;
        let in_line = asks(alice(&pooler).await, "SELECT 1");
        eventually_async("a client in line", async || waiting(&console).await == 1).await;

        console.run("KILL shop").await;
        for victim in [
            busy,
            in_line,
            asks(idle, "SELECT 1"),
            asks(in_transaction, "COMMIT"),
        ] {
            let told = refusal(&victim.await.unwrap().1.unwrap_err());
            // Those who idled may find the connection closed before they read.
            let died = told == "FATAL 08P01 database removed" || told.contains("Closed");
            assert!(died, "{told}");
        }
        fake.wait_for_logged_in(1).await;
        at_the_till.simple_query("SELECT 1").await.unwrap();
        let row = console.show_row("DATABASES", "name", "shop").await;
        assert_eq!(row.number("paused"), 1);
        assert_eq!(row.number("current_client_connections"), 0);
        console.run("RESUME shop").await;
        alice(&pooler).await.simple_query("SELECT 1").await.unwrap();

        console.run("KILL").await;
        at_the_till.simple_query("SELECT 1").await.unwrap_err();
        let told = console.try_run("RESUME").await.unwrap_err();
        assert_eq!(refusal(&told), "ERROR 08P01 pooler is not paused/suspended");
        for database in ["shop", "till"] {
            console.run(&format!("RESUME {database}")).await;
            assert_eq!(outcome(&pooler, "alice", "a", database).await, "in");
        }
    }
}

#[tokio::test]
async fn kill_client_ends_one_session_by_its_id() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let clients = [
            alice(&pooler).await,
            alice(&pooler).await,
            alice(&pooler).await,
        ];
        let rows = console.show("CLIENTS").await;
        let mut ids: Vec<_> = rows
            .iter()
            .filter(|row| row["database"] == *"shop")
            .map(|row| row.number("id"))
            .collect();
        ids.sort_unstable();
        let [first, second, third] = clients;
        let second = asks(second, "HOLD till");
        fake.gate("till").wait_for_waiting(1).await;

        console.run(&format!("KILL_CLIENT {}", ids[1])).await;
        let told = second.await.unwrap().1.unwrap_err();
        assert_eq!(refusal(&told), "FATAL 08P01 admin forced disconnect");
        // Its server was in the middle of a query.
        fake.wait_for_logged_in(0).await;
        for client in [first, third] {
            client.simple_query("SELECT 1").await.unwrap();
        }
        let gone = format!("KILL_CLIENT {}", ids[1]);
        eventually_async("the client to be unknown", async || {
            let told = console.try_run(&gone).await;
            told.is_err_and(|error| refusal(&error) == "ERROR 08P01 client not found")
        })
        .await;
    }
}

#[tokio::test]
async fn a_killed_operator_is_told_so_too() {
    let pooler = pgusher(1).start().await;
    let mut victim = operator(&pooler).await;
    let console = pooler.console().await;
    let ids = console.show("CLIENTS").await;
    let id = ids.iter().map(|row| row.number("id")).min().unwrap();
    console.run(&format!("KILL_CLIENT {id}")).await;
    let told = words(&victim.expect_error().await);
    assert_eq!(told, "FATAL 08P01 admin forced disconnect");
    assert!(victim.expect_closed().await.is_empty());
}

#[tokio::test]
async fn reconnect_replaces_servers_between_transactions_and_wait_close_waits_for_the_last() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let busy = alice(&pooler).await;
        let idle = alice(&pooler).await;
        busy.simple_query("BEGIN").await.unwrap();
        idle.simple_query("SELECT 1").await.unwrap();
        fake.wait_for_logged_in(2).await;

        console.run("RECONNECT").await;
        fake.wait_for_logged_in(1).await;
        let rows = console.show("SERVERS").await;
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].number("close_needed"), 1);
        let waiter = pooler.console().await;
        let wait_close = tokio::spawn(async move { waiter.run("WAIT_CLOSE shop").await });
        busy.simple_query("SELECT 1").await.unwrap();
        assert!(!wait_close.is_finished());
        busy.simple_query("COMMIT").await.unwrap();
        wait_close.await.unwrap();
        fake.wait_for_logged_in(0).await;
        pooler
            .wait_for_log("closing because: database configuration changed")
            .await;
        for client in [busy, idle] {
            client.simple_query("SELECT 1").await.unwrap();
        }
        console.run("WAIT_CLOSE").await;
    }
}

#[tokio::test]
async fn reconnect_gives_up_logins_that_hang() {
    for workers in WORKERS {
        let fake = FakeServer::setup().login(Login::Behind(Gate::closed()));
        let fake = fake.start().await;
        let pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        for command in ["RECONNECT", "RECONNECT shop"] {
            let before = fake.connections().len();
            let mut login = FakeClient::connect(&pooler.address()).await;
            login
                .startup(&[("user", "alice"), ("database", "shop")])
                .await;
            login.answer_scram("a").await;
            let hanging = fake.connection(before).await;
            console.run(command).await;
            hanging.wait_closed().await;
            // The next attempt does not wait for server_login_retry.
            fake.connection(before + 1).await;
            login.reset();
            console.run("KILL shop").await;
            fake.connection(before + 1).await.wait_closed().await;
            console.run("RESUME shop").await;
        }
    }
}

#[tokio::test]
async fn a_wait_that_is_cancelled_is_answered() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake).start().await;
        let busy = alice(&pooler).await;
        busy.simple_query("BEGIN").await.unwrap();
        pooler.console().await.run("RECONNECT").await;
        for command in ["WAIT_CLOSE", "WAIT_CLOSE shop", "PAUSE shop"] {
            let mut operator = operator(&pooler).await;
            let before = pooler.log_count("command issued");
            operator.send(Message::query(command)).await;
            pooler
                .wait_for_log_count("command issued", before + 1)
                .await;
            operator.cancel_me().await;
            let told = words(&operator.expect_error().await);
            assert_eq!(told, "ERROR 57014 canceling statement due to user request");
            operator.read_until_ready().await;
            operator.query("SHOW VERSION").await;
        }
        busy.simple_query("COMMIT").await.unwrap();
        busy.simple_query("SELECT 1").await.unwrap();
    }
}

#[tokio::test]
async fn a_disabled_database_keeps_its_clients_and_takes_no_others() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let client = alice(&pooler).await;
        console.run("DISABLE shop").await;
        let refused = "FATAL 08P01 database \"shop\" is disabled";
        assert_eq!(outcome(&pooler, "alice", "a", "shop").await, refused);
        client.simple_query("SELECT 1").await.unwrap();
        let row = console.show_row("DATABASES", "name", "shop").await;
        assert_eq!(row.number("disabled"), 1);
        console.run("ENABLE shop").await;
        assert_eq!(outcome(&pooler, "alice", "a", "shop").await, "in");
    }
}

#[tokio::test]
async fn commands_that_can_not_be_done_say_why_and_the_console_goes_on() {
    let fake = FakeServer::start().await;
    let pooler = shop(1, &fake).start().await;
    let mut operator = operator(&pooler).await;
    let mut told = String::new();
    for command in [
        "",
        ";",
        "SELECT 1",
        "SHOW",
        "SHOW NOTHING",
        "SHOW POOLS; SHOW POOLS",
        "-- POOLS",
        "SHOW POOLS /* all */",
        "PAUSE shop till",
        "RELOAD shop",
        "SHUTDOWN NOW",
        "SET",
        "SET x",
        "KILLL shop",
        "it's",
        "DISABLE",
        "ENABLE",
        "KILL_CLIENT",
        "KILL_CLIENT x",
        "KILL_CLIENT 999999",
        "PAUSE nowhere",
        "RESUME nowhere",
        "RESUME shop",
        "RESUME",
        "DISABLE nowhere",
        "RECONNECT nowhere",
        "KILL nowhere",
        "WAIT_CLOSE nowhere",
        "PAUSE pgbouncer",
        "KILL pgbouncer",
        "DISABLE pgbouncer",
        "RECONNECT pgbouncer",
        "SET no_such_key = 1",
        "A_COMMAND_TOO_LONG",
    ] {
        let answer = operator.query(command).await;
        let [error, ready] = &answer[..] else {
            panic!("{command}: {}", transcript(&answer));
        };
        assert_eq!(ready.to_string(), "ReadyForQuery idle");
        let error = words(&error.error_fields().unwrap());
        writeln!(told, "{command}: {error}").unwrap();
    }
    expect![[r#"
        : ERROR 08P01 invalid command '', use SHOW HELP;
        ;: ERROR 08P01 invalid command ';', use SHOW HELP;
        SELECT 1: ERROR 08P01 invalid command 'SELECT 1', use SHOW HELP;
        SHOW: ERROR 08P01 invalid command 'SHOW', use SHOW HELP;
        SHOW NOTHING: ERROR 08P01 invalid command 'SHOW NOTHING', use SHOW HELP;
        SHOW POOLS; SHOW POOLS: ERROR 08P01 invalid command 'SHOW POOLS; SHOW POOLS', use SHOW HELP;
        -- POOLS: ERROR 08P01 invalid command '-- POOLS', use SHOW HELP;
        SHOW POOLS /* all */: ERROR 08P01 invalid command 'SHOW POOLS /* all */', use SHOW HELP;
        PAUSE shop till: ERROR 08P01 invalid command 'PAUSE shop till', use SHOW HELP;
        RELOAD shop: ERROR 08P01 invalid command 'RELOAD shop', use SHOW HELP;
        SHUTDOWN NOW: ERROR 08P01 invalid command 'SHUTDOWN NOW', use SHOW HELP;
        SET: ERROR 08P01 invalid command 'SET', use SHOW HELP;
        SET x: ERROR 08P01 invalid command 'SET x', use SHOW HELP;
        KILLL shop: ERROR 08P01 invalid command 'KILLL shop', use SHOW HELP;
        it's: ERROR 08P01 invalid command 'it's', use SHOW HELP;
        DISABLE: ERROR 08P01 a database is required
        ENABLE: ERROR 08P01 a database is required
        KILL_CLIENT: ERROR 08P01 invalid client pointer supplied
        KILL_CLIENT x: ERROR 08P01 invalid client pointer supplied
        KILL_CLIENT 999999: ERROR 08P01 client not found
        PAUSE nowhere: ERROR 08P01 no such database: nowhere
        RESUME nowhere: ERROR 08P01 no such database: nowhere
        RESUME shop: ERROR 08P01 database shop is not paused
        RESUME: ERROR 08P01 pooler is not paused/suspended
        DISABLE nowhere: ERROR 08P01 no such database: nowhere
        RECONNECT nowhere: ERROR 08P01 no such database: nowhere
        KILL nowhere: ERROR 08P01 no such database: nowhere
        WAIT_CLOSE nowhere: ERROR 08P01 no such database: nowhere
        PAUSE pgbouncer: ERROR 08P01 cannot pause admin db: pgbouncer
        KILL pgbouncer: ERROR 08P01 cannot kill admin db: pgbouncer
        DISABLE pgbouncer: ERROR 08P01 cannot disable admin db: pgbouncer
        RECONNECT pgbouncer: ERROR 08P01 cannot reconnect admin db: pgbouncer
        SET no_such_key = 1: ERROR 08P01 SET failed
        A_COMMAND_TOO_LONG: ERROR 08P01 bad arguments
    "#]]
    .assert_eq(&told);
    for command in [
        "PAUSE \"shop\"",
        "resume shop ;",
        "\tEnable\nshop",
        "SHOW \"pools\"",
    ] {
        let answer = operator.query(command).await;
        assert!(
            answer.iter().all(|message| message.tag != b'E'),
            "{command}"
        );
    }
}

#[tokio::test]
async fn what_has_no_place_at_the_console_ends_the_session() {
    let pooler = pgusher(1).start().await;
    let mut told = String::new();
    for message in [Message::client(b'F', [0; 8]), Message::client(b'?', [])] {
        let mut operator = operator(&pooler).await;
        operator.send(message.clone()).await;
        let answer = operator.expect_closed().await;
        writeln!(told, "{message}\n{}", transcript(&answer)).unwrap();
    }
    expect![[r#"
        FunctionCall 0 []
        < ErrorResponse ERROR 08P01: unsupported packet type for admin console: 70
        < ReadyForQuery idle
        < ErrorResponse FATAL 08P01: bad packet

        '?'
        < ErrorResponse FATAL 08P01: unknown pkt

    "#]]
    .assert_eq(&told);
    pooler.console().await.show("POOLS").await;
}

//! The extended protocol at the console, as drivers speak it.

use expect_test::expect;
use testkit::{FakeClient, FakeServer, Message, Pooler, eventually_async, transcript};

use super::{alice, operator, shop};
use crate::support::{WORKERS, pgusher};

/// Sends them at once, and hears the answer as lines.
async fn told(client: &mut FakeClient, messages: &[Message]) -> String {
    client.send_all(messages).await;
    transcript(&client.read_until_ready().await)
}

#[tokio::test]
async fn statements_portals_and_errors_are_as_at_a_server() {
    let pooler = pgusher(1).start().await;
    let mut operator = operator(&pooler).await;
    let portal_of_three = [
        Message::parse("state", "SHOW STATE"),
        Message::describe_statement("state"),
        Message::bind("p", "state", &[]),
        Message::execute_rows("p", 2),
        Message::flush(),
        Message::execute_rows("p", 2),
        Message::close_portal("p"),
        Message::sync(),
    ];
    let failed = [
        Message::parse("", "SHOW NONSENSE"),
        Message::bind("", "", &[]),
        Message::execute(""),
        Message::sync(),
    ];
    let with_parameter = [
        Message::parse("", "RESUME $1"),
        Message::describe_statement(""),
        Message::bind("", "", &[Some("nowhere")]),
        Message::execute(""),
        Message::sync(),
    ];
    let mut answers = String::new();
    for messages in [&portal_of_three[..], &failed, &with_parameter] {
        answers += &told(&mut operator, messages).await;
        answers += "\n";
    }
    expect![[r#"
        < ParseComplete
        < ParameterDescription
        < RowDescription key, value
        < BindComplete
        < DataRow ["active", "yes"]
        < DataRow ["paused", "no"]
        < PortalSuspended
        < DataRow ["suspended", "no"]
        < CommandComplete "SHOW"
        < CloseComplete
        < ReadyForQuery idle

        < ErrorResponse ERROR 08P01: invalid command 'SHOW NONSENSE', use SHOW HELP;
        < ReadyForQuery idle

        < ParseComplete
        < ParameterDescription
        < NoData
        < BindComplete
        < ErrorResponse ERROR 08P01: no such database: nowhere
        < ReadyForQuery idle

    "#]]
    .assert_eq(&answers);
}

#[tokio::test]
async fn a_driver_that_knows_no_other_protocol_looks_and_commands() {
    let fake = FakeServer::start().await;
    for workers in WORKERS {
        let pooler = shop(workers, &fake).start().await;
        let _alice = alice(&pooler).await;
        let admin = "testkit_admin";
        let client = pooler.connect(admin, admin, "pgbouncer").await;
        let pools = client.query("SHOW POOLS", &[]).await.unwrap();
        let shop = pools.iter().find(|row| row.get::<_, &str>(0) == "shop");
        // In binary, since this driver takes nothing else.
        assert_eq!(shop.unwrap().get::<_, i32>("cl_active"), 1);
        let set = client.prepare("SET default_pool_size = $1").await.unwrap();
        assert_eq!(client.execute(&set, &[&"7"]).await.unwrap(), 0);
        let state = client.query("SHOW DATABASES", &[]).await.unwrap();
        assert_eq!(state[1].get::<_, i32>("pool_size"), 7);
        let error = client.query("SHOW NONSENSE", &[]).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "08P01");
        let victim = client.query("SHOW CLIENTS", &[]).await.unwrap();
        let victim = victim.iter().find(|row| row.get::<_, &str>(1) == "alice");
        let id = i64::from(victim.unwrap().get::<_, i32>("id"));
        client.execute("KILL_CLIENT $1", &[&id]).await.unwrap();
        eventually_async("her end", async || {
            let rows = client.query("SHOW CLIENTS", &[]).await.unwrap();
            rows.iter().all(|row| row.get::<_, &str>(1) != "alice")
        })
        .await;
    }
}

#[tokio::test]
async fn a_prepared_pause_waits_and_is_taken_back_with_its_operator() {
    let fake = FakeServer::start().await;
    let pooler: Pooler = shop(1, &fake).start().await;
    let mut alice = FakeClient::login_scram(&pooler.address(), "alice", "a", "shop").await;
    alice.query("BEGIN").await;
    let mut operator = operator(&pooler).await;
    let pause = [
        Message::parse("", "PAUSE"),
        Message::bind("", "", &[]),
        Message::execute(""),
        Message::sync(),
    ];
    operator.send_all(&pause).await;
    pooler.wait_for_log("PAUSE command issued").await;
    drop(operator);
    pooler.wait_for_log("PAUSE was given up").await;
    alice.query("COMMIT").await;
}

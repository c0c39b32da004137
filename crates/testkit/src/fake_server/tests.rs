//! The fake server and the fake client understand each other, and so does a real driver.

use expect_test::expect;
use tokio_postgres::NoTls;

use super::*;
use crate::{FakeClient, Message, Side, Tx, in_time, transcript};

async fn client_of(server: &FakeServer) -> FakeClient {
    FakeClient::login_trust(&server.address(), "alice", "app").await
}

#[tokio::test]
async fn every_kind_of_login_lets_the_right_password_in() {
    let server = FakeServer::start().await;
    let at = server.address();
    FakeClient::login_trust(&at, "alice", "app").await;
    server.set_login(Login::Plain("secret".into()));
    FakeClient::login_plain(&at, "alice", "secret", "app").await;
    server.set_login(Login::Md5("secret".into()));
    FakeClient::login_md5(&at, "alice", "secret", "app").await;
    server.set_login(Login::Scram(scram_secret("secret")));
    FakeClient::login_scram(&at, "alice", "secret", "app").await;
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let server = FakeServer::setup()
        .login(Login::Scram(scram_secret("secret")))
        .start()
        .await;
    let url = format!(
        "host=127.0.0.1 port={} user=alice password=guess",
        server.port()
    );

    let error = tokio_postgres::connect(&url, NoTls)
        .await
        .err()
        .expect("no way in");

    assert_eq!(error.code().map(|code| code.code()), Some("28P01"));
    assert_eq!(server.logged_in_max(), 0);
}

#[tokio::test]
async fn a_transaction_reads_as_a_transcript() {
    let server = FakeServer::start().await;
    let mut client = client_of(&server).await;

    let mut talk = client.query("BEGIN; SELECT 'one'").await;
    talk.extend(client.query("FAIL 22012 division by zero").await);
    talk.extend(client.query("SELECT 'two'").await);
    talk.extend(client.query("ROLLBACK").await);
    talk.extend(client.query("").await);

    expect![[r#"
        < CommandComplete "BEGIN"
        < RowDescription ?column?
        < DataRow ["one"]
        < CommandComplete "SELECT 1"
        < ReadyForQuery in transaction
        < ErrorResponse ERROR 22012: division by zero
        < ReadyForQuery in failed transaction
        < ErrorResponse ERROR 25P02: current transaction is aborted, commands ignored until end of transaction block
        < ReadyForQuery in failed transaction
        < CommandComplete "ROLLBACK"
        < ReadyForQuery idle
        < EmptyQueryResponse
        < ReadyForQuery idle
    "#]]
    .assert_eq(&transcript(&talk));
}

#[tokio::test]
async fn a_pipeline_skips_from_an_error_to_its_sync() {
    let server = FakeServer::start().await;
    let mut client = client_of(&server).await;
    client
        .send_all(&[
            Message::parse("s", "SELECT $1"),
            Message::describe_statement("s"),
            Message::bind("", "s", &[Some("x")]),
            Message::execute(""),
            Message::bind("", "absent", &[]),
            Message::execute(""),
            Message::sync(),
        ])
        .await;

    expect![[r#"
        < ParseComplete
        < ParameterDescription
        < RowDescription ?column?
        < BindComplete
        < DataRow ["x"]
        < CommandComplete "SELECT 1"
        < ErrorResponse ERROR 26000: prepared statement "absent" does not exist
        < ReadyForQuery idle
    "#]]
    .assert_eq(&transcript(&client.read_until_ready().await));
}

#[tokio::test]
async fn copy_runs_in_both_directions() {
    let server = FakeServer::start().await;
    let mut client = client_of(&server).await;
    client.send(Message::query("COPY t FROM STDIN")).await;
    client.read_until(b'G').await;
    client
        .send_all(&[
            Message::copy_data(Side::Client, b"1\n"),
            Message::copy_data(Side::Client, b"2\n"),
            Message::copy_done(Side::Client),
        ])
        .await;
    let mut talk = client.read_until_ready().await;
    talk.extend(client.query("COPY t TO STDOUT 2 3").await);

    expect![[r#"
        < CommandComplete "COPY 2"
        < ReadyForQuery idle
        < CopyOutResponse
        < CopyData "xxx"
        < CopyData "xxx"
        < CopyDone
        < CommandComplete "COPY 2"
        < ReadyForQuery idle
    "#]]
    .assert_eq(&transcript(&talk));
}

#[tokio::test]
async fn answers_cut_into_bytes_arrive_whole() {
    let server = FakeServer::setup().chunks(Chunks::Of(1)).start().await;
    let mut client = client_of(&server).await;
    assert_eq!(client.query_value("SELECT 'whole'").await, "whole");

    let bytes = Message::query("SELECT 'both ways'").encode();
    client.send_bytewise(&bytes).await;
    assert_eq!(
        client.read_until_ready().await[1].values(),
        Some(vec![Some("both ways".into())])
    );
}

#[tokio::test]
async fn a_held_query_waits_for_its_gate_or_a_cancel() {
    let server = FakeServer::start().await;
    let mut client = client_of(&server).await;

    client.send(Message::query("HOLD door")).await;
    server.gate("door").wait_for_waiting(1).await;
    client.cancel_me().await;
    assert_eq!(client.expect_error().await.code(), "57014");
    client.read_until_ready().await;
    assert_eq!(server.cancels(), [client.cancel_key().clone()]);

    client.send(Message::query("HOLD door")).await;
    server.gate("door").open();
    client.read_until_ready().await;
}

#[tokio::test]
async fn sessions_are_counted_while_they_last() {
    let server = FakeServer::start().await;
    let (first, second) = (client_of(&server).await, client_of(&server).await);
    assert_eq!(server.logged_in(), 2);

    first.reset();
    server.wait_for_logged_in(1).await;
    second.close().await;
    server.wait_for_logged_in(0).await;
    assert_eq!(server.logged_in_max(), 2);
    assert!(server.connection(0).await.is_closed());
}

#[tokio::test]
async fn a_connection_can_be_spoken_to_and_cut_off_from_outside() {
    let server = FakeServer::start().await;
    let mut client = client_of(&server).await;
    let connection = server.connection(0).await;

    connection.send(Message::notice("soon")).await.unwrap();
    assert_eq!(
        client.read().await.to_string(),
        "NoticeResponse NOTICE 00000: soon"
    );
    connection.close();
    assert_eq!(client.expect_closed().await, []);
}

#[tokio::test]
async fn a_script_of_ones_own_comes_before_the_built_in_one() {
    let server = FakeServer::setup()
        .answer(async |ask: Ask| {
            (ask.sql == "SELECT me").then(|| Step::one_row(&[("me", Some(&ask.user))]))
        })
        .start()
        .await;
    let mut client = client_of(&server).await;

    assert_eq!(client.query_value("SELECT me").await, "alice");
    assert_eq!(client.query_value("SELECT you").await, "you");
    assert_eq!(
        server.connection(0).await.queries(),
        ["SELECT me", "SELECT you"]
    );
}

#[tokio::test]
async fn a_stream_waits_for_a_reader_that_does_not_read() {
    let server = FakeServer::start().await;
    let mut client = client_of(&server).await;
    client.send(Message::query("STREAM 100000 1000")).await;

    let rows = client.read_until_ready().await;

    assert_eq!(
        rows.iter().filter(|message| message.tag == b'D').count(),
        100_000
    );
}

#[tokio::test]
async fn a_real_driver_talks_to_the_fake_server() {
    let server = FakeServer::setup()
        .login(Login::Scram(scram_secret("secret")))
        .unix_socket()
        .start()
        .await;
    let over_tcp = format!(
        "host=127.0.0.1 port={} user=alice password=secret",
        server.port()
    );
    let dir = server.socket_dir().display();
    let over_unix = format!(
        "host={dir} port={} user=alice password=secret",
        server.port()
    );
    for url in [over_tcp, over_unix] {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        let driver = tokio::spawn(connection);
        let row = client.query_one("SELECT $1", &[&"bound"]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "bound");
        drop(client);
        in_time("the driver's end", driver).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_parameter_that_was_told_is_told_again_when_set() {
    let server = FakeServer::start().await;
    let mut client = client_of(&server).await;

    let answer = client.query("SET timezone = 'Europe/Berlin'").await;

    assert_eq!(
        answer[0].parameter(),
        Some(("TimeZone".into(), "Europe/Berlin".into()))
    );
    assert_eq!(answer.last(), Some(&Message::ready(Tx::Idle)));
}

#[tokio::test]
async fn nobody_gets_in_after_the_server_stopped_listening() {
    let server = FakeServer::start().await;
    let mut client = client_of(&server).await;

    server.stop_listening().await;

    assert!(FakeClient::try_connect(&server.address()).await.is_err());
    assert_eq!(client.query_value("SELECT still").await, "still");
}

//! Servers die in every state, or talk nonsense: only their own clients hear of it.

use testkit::{Ask, FakeClient, FakeServer, Login, Message, Step, Tx, eventually_async};

use super::Scene;
use crate::support::{WORKERS, wait_for_waiting};

/// How a server goes.
#[derive(Clone, Copy)]
enum Death {
    Close,
    Reset,
}

const DEATHS: [Death; 2] = [Death::Close, Death::Reset];

impl Death {
    fn query(self) -> &'static str {
        match self {
            Self::Close => "DIE",
            Self::Reset => "DIE ABRUPTLY",
        }
    }
}

const CRASHED: &str = "ErrorResponse FATAL 08P01: server conn crashed?";

/// What a client is told until its connection closes.
async fn last_words(client: &mut FakeClient) -> Vec<String> {
    let messages = client.expect_closed().await;
    messages.iter().map(Message::to_string).collect()
}

/// A client asks a server that answers like this, and is told what is expected; others are
/// served, and the pool is whole.
async fn told_by(answer: fn() -> Vec<Step>, expected: &[&str]) {
    for workers in WORKERS {
        let server = FakeServer::setup()
            .answer(move |ask: Ask| async move { (ask.sql == "ASK").then(answer) })
            .start()
            .await;
        let scene = Scene::with(server, workers, |setup| setup).await;
        let mut bystander = scene.client().await;
        let mut client = scene.client().await;
        bystander.query("BEGIN").await;

        client.send(Message::query("ASK")).await;

        assert_eq!(last_words(&mut client).await, expected);
        bystander.query("COMMIT").await;
        scene.is_whole().await;
    }
}

#[tokio::test]
async fn a_server_that_dies_in_a_query_is_said_to_have_crashed() {
    for workers in WORKERS {
        let scene = Scene::start(workers).await;
        for death in DEATHS {
            let mut client = scene.client().await;
            client.send(Message::query(death.query())).await;

            assert_eq!(last_words(&mut client).await, [CRASHED]);
            scene.is_whole().await;
        }
    }
}

#[tokio::test]
async fn a_server_that_dies_in_a_transaction_takes_its_client_along() {
    for workers in WORKERS {
        let scene = Scene::start(workers).await;
        let mut client = scene.client().await;
        client.query("BEGIN").await;

        scene.server.connection(0).await.close();
        assert_eq!(last_words(&mut client).await, [CRASHED]);
        scene.is_whole().await;
    }
}

#[tokio::test]
async fn a_servers_last_words_reach_its_client() {
    told_by(
        || {
            let words = "terminating connection due to administrator command";
            let farewell = Message::error("FATAL", "57P01", words).encode();
            vec![Step::Raw(farewell), Step::Die]
        },
        &[
            "ErrorResponse FATAL 57P01: terminating connection due to administrator command",
            CRASHED,
        ],
    )
    .await;
}

#[tokio::test]
async fn a_server_that_dies_between_two_rows_is_said_to_have_crashed() {
    told_by(
        || {
            let row = Message::data_row(&[Some("first")]);
            vec![
                Step::Send(Message::row_description(&["n"])),
                Step::Send(row),
                Step::Die,
            ]
        },
        &["RowDescription n", "DataRow [\"first\"]", CRASHED],
    )
    .await;
}

#[tokio::test]
async fn a_server_that_dies_within_a_row_leaves_no_words_that_would_be_taken_for_the_rest() {
    told_by(
        || {
            let row = Message::data_row(&[Some("cut short")]).encode();
            vec![Step::Raw(row[..row.len() - 5].to_vec()), Step::Die]
        },
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_server_that_sends_no_messages_at_all_harms_its_own_client_only() {
    told_by(
        || {
            vec![
                Step::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
                Step::Die,
            ]
        },
        &[],
    )
    .await;
}

#[tokio::test]
async fn a_server_whose_lengths_cannot_be_is_closed() {
    told_by(
        || vec![Step::Raw(b"D\0\0\0\x01rest of nothing".to_vec())],
        &["ErrorResponse FATAL 08P01: unclean server"],
    )
    .await;
}

#[tokio::test]
async fn a_server_with_an_unknown_transaction_status_is_closed() {
    told_by(
        || vec![Step::Raw(Message::server(b'Z', *b"?").encode())],
        &["ErrorResponse FATAL 08P01: unclean server"],
    )
    .await;
}

/// What a server says beyond its answer stays with the client who asked, and ends its session: it
/// would keep the server for ever.
#[tokio::test]
async fn a_server_that_answers_too_much_is_never_lent_again() {
    let too_much: [fn() -> Vec<Step>; 3] = [
        || vec![Step::Raw(Message::ready(Tx::Idle).encode())],
        || vec![Step::Raw(Message::parse_complete().encode())],
        || vec![Step::Raw(Message::server(b'?', *b"what?").encode())],
    ];
    for workers in WORKERS {
        for more in too_much {
            let server = FakeServer::setup()
                .answer(move |ask: Ask| async move {
                    let done = Step::Send(Message::command_complete("ASK"));
                    (ask.sql == "ASK").then(|| [more(), vec![done]].concat())
                })
                .start()
                .await;
            let scene = Scene::with(server, workers, |setup| setup).await;
            let mut client = scene.client().await;
            client.send(Message::query("ASK")).await;
            let heard = client.expect_closed().await;
            let error = heard.last().and_then(Message::error_fields);
            let error = error.expect("an error at the end");
            assert_eq!(error.text(), "out of step with the server");

            scene.server.connection(0).await.wait_closed().await;
            scene.is_whole().await;
        }
    }
}

#[tokio::test]
async fn a_server_that_dies_at_login_is_tried_again() {
    for workers in WORKERS {
        let scene = Scene::start(workers).await;
        let [mut first, mut second] = [scene.client().await, scene.client().await];
        first.query("BEGIN").await;
        scene.server.set_login(Login::Close);

        second.send(Message::query("SELECT 'waited'")).await;
        scene
            .pooler
            .wait_for_log("closing because: login failed")
            .await;
        scene.server.set_login(Login::Trust);

        second.read_until_ready().await;
        first.query("COMMIT").await;
        scene.is_whole().await;
    }
}

/// A server that dies at this query of the pooler's own, the first time it hears it.
async fn dying_at(query: &'static str) -> FakeServer {
    let script = move |ask: Ask| async move {
        let dies = ask.connection == 0 && ask.sql.starts_with(query);
        dies.then(|| vec![Step::Die])
    };
    FakeServer::setup().answer(script).start().await
}

#[tokio::test]
async fn a_server_that_dies_in_its_reset_costs_nobody_anything() {
    for workers in WORKERS {
        let server = dying_at("DISCARD ALL").await;
        let scene = Scene::with(server, workers, |setup| setup.set("pool_mode", "session")).await;
        let mut client = scene.client().await;
        client.query("SELECT 1").await;
        client.close().await;

        scene.server.connection(0).await.wait_closed().await;
        scene.is_whole().await;
    }
}

#[tokio::test]
async fn a_server_that_dies_in_its_reset_costs_the_next_in_line_nothing() {
    for workers in WORKERS {
        let server = dying_at("DISCARD ALL").await;
        let change = |setup: testkit::PoolerSetup| {
            setup
                .set("pool_mode", "session")
                .set("default_pool_size", 1)
        };
        let scene = Scene::with(server, workers, change).await;
        let [mut first, mut next] = [scene.client().await, scene.client().await];
        first.query("SELECT 1").await;
        next.send(Message::query("SELECT 'next'")).await;
        wait_for_waiting(&scene.pooler, 1).await;
        first.close().await;

        next.read_until_ready().await;
    }
}

#[tokio::test]
async fn a_server_that_dies_while_it_takes_on_parameters_is_said_to_have_crashed() {
    for workers in WORKERS {
        let scene = Scene::with(dying_at("SET ").await, workers, |setup| setup).await;
        scene.client().await.query("SELECT 1").await;
        // The client has its answer a moment before the server is free.
        let console = scene.pooler.console().await;
        eventually_async("an idle server", async || {
            console.pool("app", "alice").await.number("sv_idle") == 1
        })
        .await;
        let mut client = FakeClient::connect(&scene.pooler.address()).await;
        client
            .startup(&[
                ("user", "alice"),
                ("database", "app"),
                ("timezone", "Europe/Berlin"),
            ])
            .await;
        client.read_auth_ok().await;
        client.read_welcome().await;

        client.send(Message::query("SELECT 1")).await;
        assert_eq!(last_words(&mut client).await, [CRASHED]);
        scene.is_whole().await;
    }
}

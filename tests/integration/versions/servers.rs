//! What servers are offered, and what becomes of those that are older.

use testkit::{FakeClient, FakeServer, Login, Message, Newer, Pooler, eventually};

use super::{ALICE, CANCELED};
use crate::support::{WORKERS, alice, before, words};

/// Which minor versions the fake server was asked for, in order.
fn offered(server: &FakeServer) -> Vec<u32> {
    let connections = server.connections();
    let minors = connections.iter().map(|it| it.version.checked_sub(3 << 16));
    minors.map(Option::unwrap).collect()
}

/// Logs in clients that hold a server each: so many servers are opened, one after the other.
async fn hold_servers(pooler: &Pooler, count: usize) -> Vec<FakeClient> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = alice(pooler).await;
        client.query("BEGIN").await;
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn a_server_that_negotiates_down_is_offered_less_from_then_on() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers).start().await;
        let clients = hold_servers(&pooler, 3).await;
        assert_eq!(offered(&server), [2, 0, 0]);

        // It may have been replaced.
        drop(clients);
        server.wait_for_logged_in(0).await;
        pooler.console().await.run("RECONNECT").await;
        hold_servers(&pooler, 2).await;
        assert_eq!(offered(&server), [2, 0, 0, 2, 0]);
    }
}

#[tokio::test]
async fn a_server_that_speaks_3_2_is_offered_it_every_time() {
    for workers in WORKERS {
        let setup = FakeServer::setup().newer_protocols(Newer::SpokenUpTo(2));
        let server = setup.cancel_secret_len(32).start().await;
        let pooler = before(&server, workers).start().await;
        hold_servers(&pooler, 3).await;
        assert_eq!(offered(&server), [2, 2, 2]);
    }
}

#[tokio::test]
async fn a_server_that_makes_no_sense_of_3_2_is_asked_again_with_3_0_and_never_bothered_again() {
    let refused = |code: &str, text: &str| Newer::Refused {
        code: code.to_owned(),
        text: text.to_owned(),
    };
    let ways = [
        refused("08P01", "bad packet header: '0000002900030002'"),
        refused("0A000", "unsupported frontend protocol 3.2"),
        Newer::HungUpOn,
        Newer::Claims(9),
    ];
    for workers in WORKERS {
        for way in ways.clone() {
            let server = FakeServer::setup().newer_protocols(way).start().await;
            let pooler = before(&server, workers).start().await;
            hold_servers(&pooler, 2).await;
            assert_eq!(offered(&server), [2, 0, 0]);
        }
    }
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words_whatever_it_was_asked_first() {
    for (code, asked) in [("08P01", &[2, 0][..]), ("28000", &[2]), ("53300", &[2])] {
        let refuse = Login::Refuse {
            code: code.to_owned(),
            text: "not you".to_owned(),
        };
        let server = FakeServer::setup().login(refuse);
        let server = server.newer_protocols(Newer::SpokenUpTo(2)).start().await;
        let pooler = before(&server, 1).start().await;
        let mut client = FakeClient::connect(&pooler.address()).await;
        client.startup(&ALICE).await;
        let error = client.expect_error().await;
        assert_eq!(words(&error), format!("FATAL {code} not you"));
        assert_eq!(offered(&server), asked, "{code}");

        // What went wrong had nothing to do with the protocol: it is not remembered.
        server.set_login(Login::Trust);
        drop((client, pooler));
        let pooler = before(&server, 1).set("server_login_retry", 0);
        let pooler = pooler.start().await;
        alice(&pooler).await;
        assert_eq!(offered(&server).last(), Some(&2), "{code}");
    }
}

#[tokio::test]
async fn a_key_of_a_server_is_kept_whatever_its_length_and_brought_back_whole() {
    for workers in WORKERS {
        for len in [4, 32, 256] {
            let setup = FakeServer::setup().newer_protocols(Newer::SpokenUpTo(2));
            let server = setup.cancel_secret_len(len).start().await;
            let pooler = before(&server, workers).start().await;
            let mut client = alice(&pooler).await;
            client.send(Message::query("HOLD door")).await;
            server.gate("door").wait_for_waiting(1).await;
            client.cancel_me().await;
            assert_eq!(client.expect_error().await.code(), CANCELED);
            assert_eq!(server.cancels(), [server.connection(0).await.key.clone()]);
            let row = pooler.console().await.show("SERVERS").await.remove(0);
            assert_eq!(row.number("remote_pid"), 1000, "its process id");
        }
    }
}

#[tokio::test]
async fn a_server_with_an_impossible_key_is_none() {
    for len in [3, 257] {
        let setup = FakeServer::setup().cancel_secret_len(len);
        let server = setup.start().await;
        let pooler = before(&server, 1).start().await;
        let mut client = FakeClient::connect(&pooler.address()).await;
        client.startup(&ALICE).await;
        let text = "server login failed: unexpected message 'K'";
        pooler.wait_for_log(text).await;
        eventually("the connection's end", || {
            server.connections().iter().all(|it| it.is_closed())
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_without_a_key_serves_and_can_not_be_cancelled() {
    let server = FakeServer::setup().cancel_secret_len(0).start().await;
    let pooler = before(&server, 1).start().await;
    let mut client = alice(&pooler).await;
    client.send(Message::query("HOLD door")).await;
    server.gate("door").wait_for_waiting(1).await;
    client.cancel_me().await;
    assert_eq!(server.cancels(), []);
    server.gate("door").open();
    let answer = client.read_until_ready().await;
    assert_eq!(answer[0].command_tag().as_deref(), Some("HOLD"));
}

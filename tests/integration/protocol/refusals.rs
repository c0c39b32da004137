//! What a client may not send, or may send at odd moments, is its own affair.

use testkit::{FakeClient, FakeServer, Message, Pooler, in_time, startup_packet};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{run_unnamed, script};
use crate::support::{WORKERS, alice, before, before_postgres, converse, postgres};

async fn converse_with_error(client: &mut FakeClient, say: &[Message], code: &str) {
    let answer = converse(client, say, 1).await;
    let error = answer[0].error_fields().expect("an error");
    assert_eq!(error.code(), code, "{error}");
}

#[tokio::test]
async fn a_named_statement_lives_as_long_as_a_session() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .set("pool_mode", "session")
            .start()
            .await;
        let mut client = alice(&pooler).await;
        let parse = [Message::parse("s1", "SELECT $1::int + 1"), Message::sync()];
        converse(&mut client, &parse, 1).await;
        for (value, sum) in [("1", "2"), ("41", "42")] {
            let run = [
                Message::bind("", "s1", &[Some(value)]),
                Message::execute(""),
                Message::sync(),
            ];
            let answer = converse(&mut client, &run, 1).await;
            assert_eq!(answer[1].values(), Some(vec![Some(sum.into())]));
        }
        client.close().await;

        // DISCARD ALL came between.
        let mut next = alice(&pooler).await;
        let say = [Message::describe_statement("s1"), Message::sync()];
        converse_with_error(&mut next, &say, "26000").await;
    }
}

/// Messages that nobody may send, and what their sender hears.
fn offences() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let header = |tag: u8, len: i32| [&[tag][..], &len.to_be_bytes()].concat();
    vec![
        ("an unknown type", header(b'y', 4), "unkn pkt"),
        (
            "a server's type",
            Message::ready(testkit::Tx::Idle).encode(),
            "unkn pkt",
        ),
        ("a password", Message::password("late").encode(), "unkn pkt"),
        (
            "a length of 3",
            header(b'Q', 3),
            "bad packet header: '5100000003'",
        ),
        (
            "no length",
            header(b'S', 0),
            "bad packet header: '5300000000'",
        ),
        (
            "a negative length",
            header(b'Q', -1),
            "bad packet header: '51ffffffff'",
        ),
        (
            "the most negative length",
            header(b'd', i32::MIN),
            "bad packet header: '6480000000'",
        ),
        (
            "more than max_packet_size",
            header(b'Q', 1_000_000),
            "bad packet header: '51000f4240'",
        ),
    ]
}

#[tokio::test]
async fn an_offence_ends_the_offender_and_nobody_else() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let mut pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 2)
            .set("max_packet_size", 900_000)
            .start()
            .await;
        let mut bystander = alice(&pooler).await;
        bystander.query("BEGIN; CREATE TEMP TABLE mine ()").await;
        for (name, bytes, text) in offences() {
            // At rest, and with a server of its own.
            for before in ["", "BEGIN"] {
                let mut offender = alice(&pooler).await;
                if !before.is_empty() {
                    offender.query(before).await;
                }
                offender.send_raw(&bytes).await;
                let error = offender.expect_error().await;
                assert_eq!(error.severity(), "FATAL", "{name}");
                assert_eq!((error.code(), error.text()), ("08P01", text), "{name}");
                assert_eq!(offender.expect_closed().await, []);
            }
            bystander.query_value("SELECT count(*) FROM mine").await;
        }
        assert!(pooler.is_running());
        pooler
            .wait_for_log("pooler error: bad packet header: '51ffffffff'")
            .await;
        assert_eq!(alice(&pooler).await.query_value("SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn a_transaction_ends_with_the_client_that_is_refused() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        client.query("BEGIN").await;
        client.send(Message::client(b'y', [])).await;
        assert_eq!(client.expect_error().await.text(), "unkn pkt");
        server.connection(0).await.wait_closed().await;
        assert_eq!(alice(&pooler).await.query_value("SELECT on").await, "on");
    }
}

#[tokio::test]
async fn nobody_is_told_why_in_the_middle_of_a_message() {
    const ROW: usize = 64 << 20;
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = TcpStream::connect(("127.0.0.1", pooler.port()))
            .await
            .unwrap();
        let mut say = startup_packet(&[("user", "alice"), ("database", "app")]);
        say.extend(Message::query(&format!("STREAM 1 {ROW}")).encode());
        client.write_all(&say).await.unwrap();
        server
            .connection(0)
            .await
            .wait_for("the query", |said| said.tag == b'Q')
            .await;
        let mut heard = vec![0; 1 << 20];
        client.read_exact(&mut heard).await.unwrap();
        client
            .write_all(&Message::client(b'y', []).encode())
            .await
            .unwrap();

        in_time("the end", client.read_to_end(&mut heard))
            .await
            .unwrap();
        assert!(heard.len() < ROW);
        assert_eq!(
            heard.last(),
            Some(&b'x'),
            "the row was cut off, and that is all"
        );
        pooler.wait_for_log("pooler error: unkn pkt").await;
    }
}

#[tokio::test]
async fn disable_pqexec_leaves_the_extended_protocol() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .set("disable_pqexec", 1)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        let extended = script([&run_unnamed("SELECT 'bound'", &[]), &[Message::sync()]]);
        let answer = converse(&mut client, &extended, 1).await;
        assert_eq!(answer[3].values(), Some(vec![Some("bound".into())]));

        client.send(Message::query("SELECT 1")).await;
        assert_eq!(client.expect_error().await.text(), "PQexec disallowed");
        client.expect_closed().await;
    }
}

#[tokio::test]
async fn requests_may_follow_the_startup_packet_in_the_same_breath() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = FakeClient::connect(&pooler.address()).await;
        let mut breath = startup_packet(&[("user", "alice"), ("database", "app")]);
        breath.extend(Message::query("SELECT 'first'").encode());
        for message in run_unnamed("SELECT 'second'", &[]) {
            breath.extend(message.encode());
        }
        breath.extend(Message::sync().encode());
        client.send_raw(&breath).await;

        client.read_auth_ok().await;
        client.read_welcome().await;
        let answer = converse(&mut client, &[], 2).await;
        let rows: Vec<_> = answer.iter().filter_map(Message::values).collect();
        assert_eq!(
            rows,
            [[Some("first".to_owned())], [Some("second".to_owned())]]
        );
    }
}

#[tokio::test]
async fn a_client_may_take_its_leave_at_any_moment() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("prepared_statement_errors", "postgres")
            .start()
            .await;
        let leave = Message::terminate();
        let moments = [
            vec![leave.clone()],
            vec![Message::query("SELECT 1"), leave.clone()],
            vec![Message::query("BEGIN"), leave.clone()],
            vec![Message::query("HOLD never"), leave.clone()],
            vec![Message::parse("", "SELECT 1"), leave.clone()],
            script([
                &run_unnamed("SELECT 1", &[]),
                &[Message::flush(), leave.clone()],
            ]),
            script([
                &run_unnamed("HOLD never", &[]),
                &[Message::sync(), leave.clone()],
            ]),
            vec![
                Message::bind("", "absent", &[]),
                Message::flush(),
                leave.clone(),
            ],
            vec![Message::query("COPY t FROM STDIN"), leave],
        ];
        for moment in moments {
            leaves(&pooler, &moment).await;
            assert_eq!(
                alice(&pooler).await.query_value("SELECT next").await,
                "next"
            );
        }
        assert_eq!(server.logged_in_max(), 1, "no seat was lent twice");
    }
}

async fn leaves(pooler: &Pooler, last_words: &[Message]) {
    let before = pooler.log_count("closing because: client close request");
    let mut client = alice(pooler).await;
    client.send_all(last_words).await;
    client.expect_closed().await;
    pooler
        .wait_for_log_count("closing because: client close request", before + 1)
        .await;
}

//! What goes over encrypted connections: a lot of it, slowly, across workers, and cancel requests.

use std::fs;

use testkit::{
    Authority, FakeClient, FakeServer, Message, Pooler, Signal, TlsDoor, TlsTunnel, Visit,
    eventually_async, in_time,
};

use super::{encrypted, psql, serving, with_alice};
use crate::programs::{Place, run};
use crate::support::{WORKERS, before, numbered, pgusher, server_of, trusting, wait_for_waiting};

const MEGABYTE: usize = 1 << 20;

/// A pooler with TLS on both sides: a door stands before the server, a tunnel before the clients.
struct Scene {
    pooler: Pooler,
    tunnel: TlsTunnel,
    door: TlsDoor,
    server: FakeServer,
    _authority: Authority,
}

impl Scene {
    async fn with(workers: u32, server: FakeServer, seats: u32) -> Self {
        let authority = Authority::new("authority");
        let san = authority
            .request("x")
            .extension("subjectAltName = DNS:localhost");
        let door = TlsDoor::before(&server.address(), &san.issue()).await;
        let setup = before(&server, workers)
            .database("app", &door.conn_info("localhost", "app"))
            .set("server_tls_sslmode", "require")
            .set("default_pool_size", seats);
        let pooler = serving(setup, "allow", &authority.issue("localhost"))
            .start()
            .await;
        let tunnel = TlsTunnel::to(&pooler.address()).await;
        Self {
            pooler,
            tunnel,
            door,
            server,
            _authority: authority,
        }
    }

    async fn alice(&self) -> FakeClient {
        FakeClient::login_trust(&self.tunnel.address(), "alice", "app").await
    }
}

#[tokio::test]
async fn large_results_and_copies_go_through_unchanged() {
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    let postgres = with_alice(encrypted(&certificate)).await;
    for workers in WORKERS {
        let setup = pgusher(workers)
            .user("alice", "secret")
            .database("app", &postgres.conn_info("app"))
            .set("pool_mode", "transaction")
            .set("server_tls_sslmode", "require");
        let pooler = serving(setup, "require", &certificate).start().await;
        let place = Place::tcp(pooler.port());
        let script = [
            "-c",
            "CREATE TABLE IF NOT EXISTS much (id int, text text)",
            "-c",
            "TRUNCATE much",
            "-c",
            "INSERT INTO much SELECT i, repeat(i::text, 50) FROM generate_series(1, 50000) i",
            "-c",
            "\\copy much TO 'much.copy'",
            "-c",
            "\\copy much FROM 'much.copy'",
            "-c",
            "SELECT count(*), sum(id), sum(length(text)) FROM much",
            "-c",
            "SELECT repeat('x', 30000000) \\g /dev/null",
            "-c",
            "SELECT md5(string_agg(text, '' ORDER BY id, text)) FROM much",
        ];
        let args = [&["-XAtq", "sslmode=require"], script.as_slice()].concat();
        let said = run("psql", &place, &args).await.well();
        let direct = postgres.admin_client_in("app").await;
        let expected = "SELECT md5(string_agg(text, '' ORDER BY id, text)) FROM much";
        let expected: String = direct.query_one(expected, &[]).await.unwrap().get(0);
        let lines: Vec<_> = said.lines().collect();
        let length = lines[0].rsplit('|').next().unwrap();
        assert!(lines[0].starts_with("100000|2500050000|"), "{said}");
        assert!(length.parse::<u64>().unwrap() > 20_000_000, "{said}");
        assert_eq!(lines[1], expected);
    }
}

#[tokio::test]
async fn a_slow_reader_stops_its_server_and_memory_has_a_ceiling() {
    const ROWS: usize = 100;
    for workers in WORKERS {
        let scene = Scene::with(workers, FakeServer::start().await, 2).await;
        let console = scene.pooler.console().await;
        let (mut slow, mut quick) = (scene.alice().await, scene.alice().await);
        quick.query_value("SELECT 'warm'").await;
        let before = peak(&scene.pooler);
        slow.send(Message::query(&format!("STREAM {ROWS} {MEGABYTE}")))
            .await;
        let mut last = 0;
        eventually_async("a standstill", async || {
            for _ in 0..50 {
                assert_eq!(quick.query_value("SELECT 'quick'").await, "quick");
            }
            let (now, quick) = (sent(&console).await, 50 * 100);
            let stands = now > 0 && now <= last + quick;
            last = now;
            stands
        })
        .await;
        assert!(
            last < (ROWS * MEGABYTE) as i64 / 2,
            "{last} bytes were sent to nobody"
        );
        let mut rows = 0;
        in_time("the stream", async {
            loop {
                match slow.read().await.tag {
                    b'D' => rows += 1,
                    b'Z' => return,
                    _ => {}
                }
            }
        })
        .await;
        assert_eq!(rows, ROWS);
        let grown = peak(&scene.pooler) - before;
        assert!(grown < 4 << 20, "grew by {grown} bytes");
    }
}

async fn sent(console: &testkit::Console) -> i64 {
    console
        .show_row("STATS", "database", "app")
        .await
        .number("total_sent")
}

/// The most memory that the pooler ever had, in bytes.
fn peak(pooler: &Pooler) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pooler.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap() * 1024
}

#[tokio::test]
async fn an_encrypted_server_serves_the_clients_of_every_worker() {
    for workers in WORKERS {
        let scene = Scene::with(workers, numbered().start().await, 1).await;
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(scene.alice().await);
        }
        for round in 0..20 {
            for client in &mut clients {
                assert_eq!(server_of(client).await, 0);
                let text = format!("{round}").repeat(2000);
                let answer = client.query_value(&format!("SELECT '{text}'")).await;
                assert_eq!(answer, text);
            }
        }
        assert_eq!(scene.server.logged_in_max(), 1);
        let encrypted = |visit: &Visit| matches!(visit, Visit::Encrypted { .. });
        assert!(scene.door.visits().iter().all(encrypted));
    }
}

#[tokio::test]
async fn many_requests_at_once_are_answered_in_order() {
    for workers in WORKERS {
        let scene = Scene::with(workers, FakeServer::start().await, 2).await;
        let mut client = scene.alice().await;
        let asked: Vec<_> = (0..500)
            .map(|n| Message::query(&format!("SELECT '{n}'")))
            .collect();
        client.send_all(&asked).await;
        for n in 0..500 {
            let answer = client.read_until_ready().await;
            let value = answer.iter().find_map(Message::values).unwrap();
            assert_eq!(value, [Some(n.to_string())]);
        }
        // Byte by byte each of them is a record of its own.
        client
            .send_bytewise(&Message::query("SELECT 'slowly'").encode())
            .await;
        let answer = client.read_until_ready().await;
        let value = answer.iter().find_map(Message::values).unwrap();
        assert_eq!(value, [Some("slowly".to_owned())]);
    }
}

#[tokio::test]
async fn cancel_requests_are_taken_over_tls_and_passed_on_over_tls() {
    for workers in WORKERS {
        let scene = Scene::with(workers, FakeServer::start().await, 2).await;
        let mut client = scene.alice().await;
        client.query_value("SELECT 1").await;
        for over_tls in [true, false] {
            let visits = scene.door.visits().len();
            client.send(Message::query("HOLD till")).await;
            scene.server.gate("till").wait_for_waiting(1).await;
            // libpq before 17 sends cancel requests in the clear.
            let address = if over_tls {
                scene.tunnel.address()
            } else {
                scene.pooler.address()
            };
            FakeClient::cancel(&address, client.cancel_key()).await;
            assert_eq!(client.expect_error().await.code(), "57014");
            client.read_until_ready().await;
            let new = scene.door.visits().split_off(visits);
            let [Visit::Encrypted { .. }] = new.as_slice() else {
                panic!("{new:?}");
            };
        }
        assert_eq!(scene.server.cancels().len(), 2);
    }
}

#[tokio::test]
async fn psql_cancels_through_us_over_tls() {
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    let postgres = with_alice(encrypted(&certificate)).await;
    let setup = pgusher(1)
        .user("alice", "secret")
        .database("app", &postgres.conn_info("app"))
        .set("server_tls_sslmode", "require");
    let pooler = serving(setup, "require", &certificate).start().await;
    let place = Place::tcp(pooler.port());
    let sleep = ["-XAtq", "sslmode=require", "-c", "SELECT pg_sleep(60)"];
    let psql = crate::programs::Running::start(&testkit::client_program("psql"), &place, &sleep);
    eventually_async("the query to run", async || {
        let admin = postgres.admin_client().await;
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
        admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    psql.signal(Signal::SIGINT);
    let said = psql.end().await;
    assert!(
        said.err.contains("canceling statement due to user request"),
        "{}",
        said.err
    );
}

#[tokio::test]
async fn a_client_that_waits_and_leaves_over_tls_is_noticed() {
    for workers in WORKERS {
        let scene = Scene::with(workers, FakeServer::start().await, 1).await;
        let mut holder = scene.alice().await;
        holder.query("BEGIN").await;
        let mut waiter = scene.alice().await;
        waiter.send(Message::query("SELECT 1")).await;
        wait_for_waiting(&scene.pooler, 1).await;
        // Its farewell is encrypted like all else.
        drop(waiter);
        wait_for_waiting(&scene.pooler, 0).await;
        holder.query("COMMIT").await;
        assert_eq!(holder.query_value("SELECT 'on'").await, "on");
    }
}

#[tokio::test]
async fn who_leaves_without_a_tls_farewell_is_no_cause_for_alarm() {
    let scene = Scene::with(1, FakeServer::start().await, 1).await;
    let mut client = scene.alice().await;
    client.query_value("SELECT 1").await;
    // The tunnel goes, and its sockets with it.
    let Scene { pooler, tunnel, .. } = scene;
    drop(tunnel);
    pooler
        .wait_for_log("closing because: client unexpected eof")
        .await;
    let log = pooler.log();
    let of_alice = log.lines().filter(|line| line.contains("app/alice@"));
    for line in of_alice {
        assert!(line.contains(" LOG "), "{line}");
    }
    drop(client);
}

#[tokio::test]
async fn the_last_words_to_a_client_arrive_before_the_end_of_its_tls() {
    for workers in WORKERS {
        let scene = Scene::with(workers, FakeServer::start().await, 1).await;
        let mut client = scene.alice().await;
        client.query_value("SELECT 1").await;
        let console = scene.pooler.console().await;
        console.run("KILL app").await;
        let told = client.expect_error().await;
        assert_eq!(told.text(), "database removed");
        assert!(client.expect_closed().await.is_empty());
    }
}

#[tokio::test]
async fn an_encrypted_server_that_dies_is_noticed_while_it_idles() {
    for workers in WORKERS {
        let scene = Scene::with(workers, FakeServer::start().await, 1).await;
        let mut client = scene.alice().await;
        client.query_value("SELECT 1").await;
        scene.server.connection(0).await.reset();
        scene
            .pooler
            .wait_for_log("closing because: server conn crashed?")
            .await;
        assert_eq!(client.query_value("SELECT 'again'").await, "again");
    }
}

#[tokio::test]
async fn psql_converses_with_a_pooler_behind_a_pooler() {
    let authority = Authority::new("authority");
    let certificate = authority.issue("localhost");
    let postgres = with_alice(encrypted(&certificate)).await;
    for workers in WORKERS {
        let back = trusting(workers)
            .user("alice", "secret")
            .database("app", &postgres.conn_info("app"))
            .set("server_tls_sslmode", "require");
        let back = serving(back, "require", &certificate).start().await;
        let conn_info = format!("host=localhost port={} dbname=app", back.port());
        let front = trusting(workers)
            .database("app", &conn_info)
            .set("server_tls_sslmode", "verify-full")
            .set("server_tls_ca_file", authority.certificate().cert.display());
        let front = serving(front, "require", &certificate).start().await;
        let sum = "SELECT sum(length(repeat('x', i))) FROM generate_series(1, 1000) i";
        let answer = psql(&front, "sslmode=require", sum).await;
        assert_eq!(answer.as_deref(), Ok("500500"));
    }
}

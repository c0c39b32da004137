//! Several processes that know each other: a cancel request that reaches the wrong one goes on to
//! the right one, and to no query but its own.

use std::time::Duration;

use testkit::{
    Address, CancelKey, FakeClient, FakeServer, Message, Pooler, PoolerSetup, Postgres,
    eventually_async, in_time,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::{WORKERS, before, before_postgres, postgres, wait_for_sleepers};

const CANCELED: &str = "57014";

/// Cancel requests that must hit, over all clients.
const HITS: usize = 108;

/// So many processes on one port, each of which knows all the others' unix sockets.
async fn family(setup: PoolerSetup, size: usize) -> Vec<Pooler> {
    let member = |id: usize| setup.clone().set("so_reuseport", 1).set("peer_id", id);
    let mut family = vec![member(1).start().await];
    for id in 2..=size {
        let port = family[0].port();
        family.push(member(id).shared_port(port).start().await);
    }
    let lines = family.iter().zip(1..).map(|(pooler, id)| {
        let (dir, port) = (pooler.dir().display(), pooler.port());
        format!("{id} = host={dir} port={port}\n")
    });
    let peers = format!("[peers]\n{}", lines.collect::<String>());
    for pooler in &mut family {
        reload(pooler, &peers).await;
    }
    family
}

/// Has just this process read new sections: on the port that it shares, others may answer.
async fn reload(pooler: &mut Pooler, section: &str) {
    pooler.rewrite(|setup| setup.section(section));
    let before = pooler.log_count("RELOAD: ");
    pooler.signal(testkit::Signal::SIGHUP);
    pooler.wait_for_log_count("RELOAD: ", before + 1).await;
}

async fn client_at(address: &Address) -> FakeClient {
    FakeClient::login_trust(address, "alice", "app").await
}

#[tokio::test]
async fn a_cancel_finds_its_way_from_process_to_process() {
    const CLIENTS: usize = 2;
    let postgres = postgres().await;
    for (workers, size) in WORKERS.into_iter().zip([2, 3]) {
        let setup = before_postgres(&postgres, workers).set("default_pool_size", 2 * CLIENTS);
        let family = family(setup, size).await;
        let (mut racers, mut bystanders) = (JoinSet::new(), JoinSet::new());
        for (home, pooler) in family.iter().enumerate() {
            for number in 0..CLIENTS {
                let client = client_at(&pooler.unix_address()).await;
                let doors = family.iter().map(Pooler::unix_address);
                let doors = doors.enumerate().filter(|(door, _)| *door != home);
                let doors: Vec<_> = doors.map(|(_, address)| address).collect();
                racers.spawn(race(client, doors, HITS / (size * CLIENTS)));
                let client = client_at(&pooler.unix_address()).await;
                bystanders.spawn(stand_by(client, home * CLIENTS + number));
            }
        }
        tokio::select! {
            hits = racers.join_all() => assert_eq!(hits.into_iter().sum::<usize>(), HITS),
            Some(harmed) = bystanders.join_next() => panic!("{harmed:?}"),
        }
    }
}

/// Has long queries cancelled through other doors than its own; each time until it is hit.
async fn race(mut client: FakeClient, doors: Vec<Address>, rounds: usize) -> usize {
    let key = client.cancel_key().clone();
    for round in 0..rounds {
        client.send(Message::query("SELECT pg_sleep(600)")).await;
        let door = &doors[round % doors.len()];
        let cancels = async {
            loop {
                FakeClient::cancel(door, &key).await;
            }
        };
        tokio::select! {
            error = client.expect_error() => assert_eq!(error.code(), CANCELED),
            () = cancels => {}
        }
        client.read_until_ready().await;
    }
    rounds
}

/// Runs queries that nobody cancels, for ever: each must bring its own tag.
async fn stand_by(mut client: FakeClient, number: usize) {
    for round in 0.. {
        let tag = format!("bystander {number}, {round}");
        let sql = format!("SELECT '{tag}' FROM pg_sleep(0.001)");
        assert_eq!(client.query_value(&sql).await, tag);
    }
}

#[tokio::test]
async fn processes_that_share_a_port_cancel_each_others_queries() {
    const CLIENTS: usize = 24;
    let postgres = postgres().await;
    for workers in WORKERS {
        let family = tcp_family(&postgres, workers, CLIENTS).await;
        // The kernel chooses who gets the client, and who the cancel request.
        let shared = family[0].address();
        let both_passed_some_on = || {
            let mut members = family.iter().zip([2, 1]);
            members.all(|(pooler, other)| {
                let passed_on = format!("passed on to peer {other}");
                pooler.log_count(&passed_on) > 0
            })
        };
        eventually_async("requests to be passed on both ways", async || {
            cancel_all(&postgres, &shared, CLIENTS).await;
            both_passed_some_on()
        })
        .await;
    }
}

/// So many clients sleep, and have themselves woken.
async fn cancel_all(postgres: &Postgres, address: &Address, clients: usize) {
    let mut sleepers = Vec::new();
    for _ in 0..clients {
        let mut client = client_at(address).await;
        client.send(Message::query("SELECT pg_sleep(600)")).await;
        sleepers.push(client);
    }
    wait_for_sleepers(postgres, clients as i64).await;
    for mut client in sleepers {
        client.cancel_me().await;
        assert_eq!(client.expect_error().await.code(), CANCELED);
        client.read_until_ready().await;
        assert_eq!(client.query_value("SELECT 'on'").await, "on");
    }
}

/// Two processes on one port, each with an address of its own that the other knows.
async fn tcp_family(postgres: &Postgres, workers: u32, pool_size: usize) -> [Pooler; 2] {
    let setup = before_postgres(postgres, workers)
        .set("default_pool_size", pool_size)
        .set("so_reuseport", 1)
        .set("verbose", 1)
        .section("[peers]\n1 = host=127.0.0.2 port={port}\n2 = host=127.0.0.3 port={port}");
    let member = |id: usize, own: &str| {
        let addresses = format!("127.0.0.1, {own}");
        setup
            .clone()
            .set("peer_id", id)
            .set("listen_addr", addresses)
    };
    let first = member(1, "127.0.0.2").start().await;
    let second = member(2, "127.0.0.3").shared_port(first.port());
    [first, second.start().await]
}

#[tokio::test]
async fn a_wrong_key_hits_nothing_wherever_it_goes() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let family = family(before(&server, workers), 2).await;
        let [here, there] = [&family[0], &family[1]].map(Pooler::unix_address);
        let mut busy = client_at(&there).await;
        busy.send(Message::query("HOLD door")).await;
        server.gate("door").wait_for_waiting(1).await;
        let right = busy.cancel_key().clone();
        assert_eq!(peer_of(&right), 2);

        let mut guessed = right.clone();
        guessed.secret[0] ^= 1;
        let mut exhausted = right.clone();
        exhausted.secret[3] &= !0b11;
        let of_others = [1, 3].map(|id| of_peer(&right, id));
        for key in [guessed, exhausted].iter().chain(&of_others) {
            FakeClient::cancel(&here, key).await;
        }
        FakeClient::cancel(&there, &of_others[0]).await;
        family[0]
            .wait_for_log("cancel request for peer 2 was passed on too often")
            .await;
        family[0]
            .wait_for_log("cancel request for unknown peer 3 dropped")
            .await;
        assert_eq!(server.cancels(), []);

        FakeClient::cancel(&here, &right).await;
        assert_eq!(busy.expect_error().await.code(), CANCELED);
        assert_eq!(server.cancels().len(), 1);
    }
}

#[tokio::test]
async fn no_request_circles_for_ever() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("peer_id", 1)
            .set("verbose", 1)
            .section("[peers]\n2 = host={dir} port={port}")
            .start()
            .await;
        let client = client_at(&pooler.address()).await;

        let astray = of_peer(client.cancel_key(), 2);
        FakeClient::cancel(&pooler.address(), &astray).await;
        pooler.wait_for_log("was passed on too often").await;
        assert_eq!(pooler.log_count("is passed on to peer 2"), 3);
    }
}

#[tokio::test]
async fn as_many_requests_go_to_a_peer_at_a_time_as_it_has_seats() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let pooler = before(&server, workers)
            .set("peer_id", 1)
            .set("cancel_wait_timeout", 1)
            .section(&format!(
                "[peers]\n2 = host=127.0.0.1 port={port} pool_size=1"
            ))
            .start()
            .await;
        let own = client_at(&pooler.address()).await.cancel_key().clone();
        let key = of_peer(&own, 2);
        assert_eq!(own.secret[3] & 0b11, 0b11);

        let (address, first) = (pooler.address(), key.clone());
        let first = tokio::spawn(async move { FakeClient::cancel(&address, &first).await });
        let (mut carrier, _) = in_time("the first", listener.accept()).await.unwrap();
        let mut passed_on = key.clone();
        passed_on.secret[3] -= 1;
        assert_eq!(read_key(&mut carrier).await, passed_on);
        FakeClient::cancel(&pooler.address(), &key).await;
        pooler
            .wait_for_log("peer 2 closing because: cancel_wait_timeout")
            .await;
        assert!(!first.is_finished());

        carrier.shutdown().await.unwrap();
        in_time("the end of the first", first).await.unwrap();
        let address = pooler.address();
        let third = FakeClient::cancel(&address, &key);
        let taken = async { listener.accept().await.map(drop) };
        let (taken, ()) = tokio::join!(tokio::time::timeout(PATIENCE, taken), third);
        taken.unwrap().unwrap();
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

/// Reads a cancel request of protocol 3.0.
async fn read_key(carrier: &mut TcpStream) -> CancelKey {
    let mut packet = [0; 16];
    carrier.read_exact(&mut packet).await.unwrap();
    assert_eq!(packet[..8], [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e]);
    CancelKey {
        pid: u32::from_be_bytes(packet[8..12].try_into().unwrap()),
        secret: packet[12..].to_vec(),
    }
}

/// The process whose client has this key.
fn peer_of(key: &CancelKey) -> u16 {
    let [_, low, high, _] = key.pid.to_be_bytes();
    u16::from_le_bytes([low, high])
}

/// The same key as another process might have given it.
fn of_peer(key: &CancelKey, id: u16) -> CancelKey {
    let [first, _, _, last] = key.pid.to_be_bytes();
    let [low, high] = id.to_le_bytes();
    CancelKey {
        pid: u32::from_be_bytes([first, low, high, last]),
        secret: key.secret.clone(),
    }
}

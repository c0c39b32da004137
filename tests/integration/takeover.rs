//! `-R`: one process after the other takes the sockets over, and nobody notices.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use testkit::{Address, FakeClient, FakeServer, Message, Pooler, PoolerSetup, Signal, eventually};
use tokio::task::JoinSet;

use crate::support::{WORKERS, before, before_postgres, postgres, wait_for_sleepers};

const CANCELED: &str = "57014";

/// How many processes follow the first.
const HEIRS: usize = 5;

/// A process that takes over from the last of these, on the sockets of the first.
pub(crate) async fn heir(setup: &PoolerSetup, running: &[Pooler]) -> Pooler {
    let first = &running[0];
    let setup = setup.clone().arg("-R").inherited_port(first.port());
    let setup = setup.set("unix_socket_dir", first.dir().display());
    let heir = setup.start().await;
    let old = running.last().unwrap();
    old.wait_for_log("another process has taken over").await;
    heir
}

#[tokio::test]
async fn five_take_overs_in_a_row_go_unnoticed() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let setup = before(&server, workers);
        let mut running = vec![setup.clone().start().await];
        let (tcp, unix) = (running[0].address(), running[0].unix_address());
        let served = Arc::new(AtomicUsize::new(0));
        let mut load = JoinSet::new();
        for address in [&tcp, &unix, &tcp, &unix] {
            load.spawn(come_and_go(address.clone(), served.clone()));
        }
        let mut staying = Vec::new();
        for _ in 0..HEIRS {
            let mut client = FakeClient::login_trust(&tcp, "alice", "app").await;
            client.query("BEGIN").await;
            staying.push(client);
            let before = served.load(Ordering::SeqCst);
            let heir = heir(&setup, &running).await;
            running.push(heir);
            eventually("more clients", || {
                served.load(Ordering::SeqCst) > before + 20
            })
            .await;
        }
        if let Some(failed) = load.try_join_next() {
            panic!("{failed:?}");
        }

        // Each is served by the process that it came to, for as long as its transaction lasts.
        for (client, process) in staying.iter_mut().zip(&mut running) {
            assert_eq!(
                client.query_value("SELECT 'still here'").await,
                "still here"
            );
            assert!(process.is_running());
        }
        for (client, process) in staying.iter_mut().zip(&mut running) {
            client.query("COMMIT").await;
            assert!(process.wait_exit().await.success());
        }
        for mut client in staying {
            assert_eq!(client.query_value("SELECT 'moved'").await, "moved");
        }
        let before = served.load(Ordering::SeqCst);
        eventually("more clients", || {
            served.load(Ordering::SeqCst) > before + 20
        })
        .await;
        assert!(load.try_join_next().is_none());
        load.shutdown().await;

        running[HEIRS].signal(Signal::SIGTERM);
        assert!(running[HEIRS].wait_exit().await.success());
        let Address::Unix(path) = unix else {
            unreachable!()
        };
        assert!(!path.exists());
    }
}

/// Clients, one after the other, each with one query: any failure is a panic.
async fn come_and_go(address: Address, served: Arc<AtomicUsize>) {
    loop {
        let mut client = FakeClient::login_trust(&address, "alice", "app").await;
        assert_eq!(client.query_value("SELECT 'served'").await, "served");
        client.close().await;
        served.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn cancel_requests_find_the_process_that_has_their_client() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers);
        let mut running = vec![setup.clone().start().await];
        let mut sleepers = Vec::new();
        for number in 1..=3 {
            let mut client = FakeClient::login_trust(&running[0].address(), "alice", "app").await;
            client.send(Message::query("SELECT pg_sleep(600)")).await;
            wait_for_sleepers(&postgres, number).await;
            sleepers.push(client);
            let heir = heir(&setup, &running).await;
            running.push(heir);
        }
        for (number, mut client) in sleepers.into_iter().enumerate() {
            client.cancel_me().await;
            assert_eq!(client.expect_error().await.code(), CANCELED);
            // The others sleep on.
            wait_for_sleepers(&postgres, 2 - number as i64).await;
        }
    }
}

#[tokio::test]
async fn the_old_process_has_a_door_for_its_operators_and_the_new_one_the_pid_file() {
    let server = FakeServer::start().await;
    let setup = before(&server, 1);
    let pidfile = testkit::Scratch::new("pid").unwrap();
    let pidfile = pidfile.path().join("pooler.pid");
    let setup = setup.set("pidfile", pidfile.display());
    let manager = crate::support::Manager::new();
    let setup = setup.env("NOTIFY_SOCKET", &manager.path.display().to_string());
    let mut first = setup.clone().start().await;
    let mut client = FakeClient::login_trust(&first.address(), "alice", "app").await;
    client.query("BEGIN").await;
    let second = heir(&setup, std::slice::from_ref(&first)).await;
    for told in ["READY=1", &format!("MAINPID={}", second.pid()), "READY=1"] {
        assert_eq!(manager.hears(), told);
    }
    let pid = || fs::read_to_string(&pidfile).unwrap().trim().to_owned();
    assert_eq!(pid(), second.pid().to_string());

    let Address::Unix(socket) = first.unix_address() else {
        unreachable!()
    };
    let door = format!("{}.take-over.{}", socket.display(), first.pid());
    let door = Address::Unix(door.into());
    let user = "testkit_admin";
    let mut operator = FakeClient::login_trust(&door, user, "pgbouncer").await;
    let clients = operator.query("SHOW CLIENTS").await;
    let ours = clients.iter().filter_map(Message::values);
    assert!(
        ours.flatten()
            .any(|value| value.as_deref() == Some("alice"))
    );
    drop(operator);

    client.close().await;
    assert!(first.wait_exit().await.success());
    assert_eq!(pid(), second.pid().to_string());
}

#[tokio::test]
async fn health_is_told_by_the_process_that_takes_clients_in() {
    let server = FakeServer::start().await;
    let setup = before(&server, 1).metrics();
    let first = setup.clone().start().await;
    // Its process is not ready for anybody else any more.
    let _client = FakeClient::login_trust(&first.address(), "alice", "app").await;
    let mut running = vec![first];
    for _ in 0..2 {
        let heir = heir(&setup, &running).await;
        heir.wait_for_log("metrics at").await;
        assert_eq!(heir.page("/readyz").await.status, 200);
        running.push(heir);
    }
}

#[tokio::test]
async fn an_heir_that_fails_to_start_leaves_everything_as_it_was() {
    let server = FakeServer::start().await;
    let setup = before(&server, 1);
    let first = setup.clone().start().await;
    let exit = setup
        .clone()
        .arg("-R")
        .inherited_port(first.port())
        .set("unix_socket_dir", first.dir().display())
        .set("pidfile", "{dir}/no such directory/pooler.pid")
        .run_to_exit()
        .await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    first.wait_for_log("take-over failed").await;
    for address in [first.address(), first.unix_address()] {
        let mut client = FakeClient::login_trust(&address, "alice", "app").await;
        assert_eq!(client.query_value("SELECT 'here'").await, "here");
    }
    heir(&setup, &[first]).await;
}

#[tokio::test]
async fn without_a_process_to_take_over_from_it_just_starts() {
    let server = FakeServer::start().await;
    let pooler = before(&server, 1).arg("-R").start().await;
    pooler
        .wait_for_log("there is no process to take over from")
        .await;
    let mut client = FakeClient::login_trust(&pooler.address(), "alice", "app").await;
    assert_eq!(client.query_value("SELECT 'here'").await, "here");
}

#[tokio::test]
async fn whoever_speaks_another_version_is_refused_and_nothing_has_happened() {
    use std::io::{Read, Write};

    let server = FakeServer::start().await;
    let setup = before(&server, 1);
    let first = setup.clone().start().await;
    let Address::Unix(socket) = first.unix_address() else {
        unreachable!()
    };
    let place = format!("{}.take-over", socket.display());
    for (hello, answer) in [
        (
            "pgusher take-over 2\n",
            "refused: expected pgusher take-over 1\n",
        ),
        // It leaves before it has taken anything.
        ("pgusher take-over 1\n", "hands 1 0\nsockets\n"),
    ] {
        let mut stranger = std::os::unix::net::UnixStream::connect(&place).unwrap();
        stranger.write_all(hello.as_bytes()).unwrap();
        let mut said = vec![0; answer.len()];
        stranger.read_exact(&mut said).unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), answer);
    }
    first.wait_for_log_count("take-over failed", 2).await;
    let mut client = FakeClient::login_trust(&first.address(), "alice", "app").await;
    assert_eq!(client.query_value("SELECT 'here'").await, "here");
    drop(client);
    heir(&setup, &[first]).await;
}

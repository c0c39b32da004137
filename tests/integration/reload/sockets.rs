//! What the kernel is told of sockets, read back from its table of them.

use std::fs;

use testkit::{FakeClient, FakeServer, Message, Pooler, eventually, eventually_async};

use crate::support::{WORKERS, alice, before};

/// A TCP socket of the pooler's, as the kernel tells of it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Bytes that the peer has not taken yet.
    unsent: usize,
    /// Seconds until the peer is probed, if it is.
    probe_in: Option<u64>,
}

impl Entry {
    /// The socket with these ports, the pooler's first, once the peer has what was sent to it.
    async fn at_rest(local: u16, remote: u16) -> Self {
        eventually("the peer to have it all", || {
            Self::of(local, remote).unsent == 0
        })
        .await;
        Self::of(local, remote)
    }

    /// The socket with these ports, the pooler's first.
    fn of(local: u16, remote: u16) -> Self {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let row = table.lines().skip(1).find_map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            let port = |address: &str| u16::from_str_radix(&address[9..], 16).unwrap();
            let it = (port(words[1]), port(words[2])) == (local, remote);
            it.then(|| (words[4].to_owned(), words[5].to_owned()))
        });
        let (queues, timer) = row.unwrap_or_else(|| panic!("no socket {local} to {remote}"));
        let number = |hex: &str| u64::from_str_radix(hex, 16).unwrap();
        let (unsent, _) = queues.split_once(':').unwrap();
        let (kind, ticks) = timer.split_once(':').unwrap();
        Self {
            unsent: number(unsent) as usize,
            // There are a hundred ticks in a second.
            probe_in: (kind == "02").then(|| number(ticks) / 100),
        }
    }
}

/// The pooler's ends of a client that has just come and of a server that was just opened for it.
async fn ends(pooler: &Pooler, server: &FakeServer) -> (FakeClient, [(u16, u16); 2]) {
    let console = pooler.console().await;
    console.run("RECONNECT").await;
    server.wait_for_logged_in(0).await;
    let mut client = alice(pooler).await;
    client.query("SELECT 1").await;
    let row = console.show_row("CLIENTS", "database", "app").await;
    let theirs = row.number("port") as u16;
    let row = console.show_row("SERVERS", "database", "app").await;
    let ours = row.number("local_port") as u16;
    (client, [(pooler.port(), theirs), (ours, server.port())])
}

#[tokio::test]
async fn connections_that_come_after_a_reload_are_probed_as_it_says() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let mut pooler = before(&server, workers).start().await;
        let probed = async |pooler: &Pooler| {
            let (client, ends) = ends(pooler, &server).await;
            let mut probed = Vec::new();
            for (ours, theirs) in ends {
                probed.push(Entry::at_rest(ours, theirs).await.probe_in);
            }
            client.close().await;
            probed
        };
        let system = fs::read_to_string("/proc/sys/net/ipv4/tcp_keepalive_time").unwrap();
        let system: u64 = system.trim().parse().unwrap();
        let near = |probe_in: Option<u64>, seconds: u64| {
            probe_in.is_some_and(|left| (seconds - 60..=seconds).contains(&left))
        };
        for probe_in in probed(&pooler).await {
            assert!(near(probe_in, system), "{probe_in:?}");
        }
        pooler.reload(|setup| setup.set("tcp_keepidle", 1000)).await;
        for probe_in in probed(&pooler).await {
            assert!(near(probe_in, 1000), "{probe_in:?}");
        }
        pooler.console().await.run("SET tcp_keepalive = 0").await;
        assert_eq!(probed(&pooler).await, [None, None]);
        pooler.reload(|setup| setup.set("tcp_keepalive", 0)).await;
        assert_eq!(probed(&pooler).await, [None, None]);
        pooler.console().await.run("SET tcp_keepalive = 1").await;
        for probe_in in probed(&pooler).await {
            assert!(near(probe_in, 1000), "{probe_in:?}");
        }
    }
}

/// Many bytes, for somebody who does not read them.
const MUCH: &str = "STREAM 20000 1000";

#[tokio::test]
async fn a_peer_that_takes_nothing_is_left_after_tcp_user_timeout() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let mut pooler = before(&server, workers).start().await;
        pooler
            .reload(|setup| setup.set("tcp_user_timeout", 1000))
            .await;
        let mut client = alice(&pooler).await;
        client.send(Message::query(MUCH)).await;
        pooler
            .wait_for_log("closing because: client unexpected eof")
            .await;
    }
}

#[tokio::test]
async fn the_kernel_keeps_as_much_for_a_peer_as_tcp_socket_buffer_says() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let mut pooler = before(&server, workers).start().await;
        let kept = async |pooler: &Pooler| {
            let (mut client, [(ours, theirs), _]) = ends(pooler, &server).await;
            client.send(Message::query(MUCH)).await;
            let console = pooler.console().await;
            eventually_async("more to come than the kernel takes", async || {
                !console.show("ACTIVE_SOCKETS").await.is_empty()
            })
            .await;
            let kept = Entry::of(ours, theirs).unsent;
            client.reset();
            kept
        };
        pooler
            .reload(|setup| setup.set("tcp_socket_buffer", 20_000))
            .await;
        let few = kept(&pooler).await;
        // What is written at once is taken at once, even if it is more than there is room for.
        assert!(few <= 150_000, "{few}");
        let console = pooler.console().await;
        console.run("SET tcp_socket_buffer = 200000").await;
        let more = kept(&pooler).await;
        // By itself it makes room for megabytes.
        assert!((200_000..1_000_000).contains(&more), "{more}");
    }
}

#[tokio::test]
async fn who_connects_and_is_silent_is_kept_back_by_the_kernel_if_it_is_told_to() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers).start().await;
        let console = pooler.console().await;
        let logins = async || {
            let row = console.show_row("LISTS", "list", "login_clients").await;
            row.number("items")
        };
        // Who comes after them is served after them: it is told what became of them.
        let kept_back = async || {
            let silent = FakeClient::connect(&pooler.address()).await;
            alice(&pooler).await.close().await;
            let kept_back = logins().await == 0;
            drop(silent);
            kept_back
        };
        let nobody = async || eventually_async("no login", async || logins().await == 0).await;

        assert!(!kept_back().await);
        nobody().await;
        console.run("SET tcp_defer_accept = 1").await;
        // No longer than a second, which may be over on a busy machine.
        eventually_async("a client to be kept back", kept_back).await;
        nobody().await;
        console.run("SET tcp_defer_accept = 0").await;
        assert!(!kept_back().await);
    }
}

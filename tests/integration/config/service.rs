//! Under a service manager: what it is told, the sockets that it holds, its journal.

use std::{
    fs::{self, Permissions},
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use testkit::{Address, FakeClient, FakeServer, Pooler, PoolerSetup, Scratch, Signal, eventually};
use tokio::task::JoinSet;

use crate::support::{Manager, WORKERS, before, pgusher};

/// Where the binary is once it is installed.
const INSTALLED: &str = "/usr/bin/pgusher";

#[test]
fn the_units_are_as_systemd_wants_them() {
    let scratch = Scratch::new("units").unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.arg("verify");
    for name in ["pgusher.service", "pgusher.socket"] {
        let path = format!("{}/etc/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(path).unwrap();
        for line in text.lines() {
            let is_known = line.is_empty()
                || line.starts_with(['#', '['])
                || line
                    .split_once('=')
                    .is_some_and(|(key, _)| !key.contains(' '));
            assert!(is_known, "{name}: {line}");
        }
        let text = text.replace(INSTALLED, env!("CARGO_BIN_EXE_pgusher"));
        verify.arg(scratch.write(name, &text).unwrap());
    }
    // Where there is no systemd, the lines at least look like a unit's.
    if let Ok(verdict) = verify.output() {
        let said = String::from_utf8_lossy(&verdict.stderr).into_owned();
        let ours: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("pgusher"))
            .collect();
        assert_eq!(ours, Vec::<&str>::new());
    }
}

/// How many restarts a load has to bear.
const RESTARTS: usize = 5;

fn monotonic_micros() -> i64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000
}

#[tokio::test]
async fn the_manager_is_told_of_readiness_reloads_and_the_end() {
    let manager = Manager::new();
    let path = manager.path.display().to_string();
    let mut pooler = pgusher(1).env("NOTIFY_SOCKET", &path).start().await;
    assert_eq!(manager.hears(), "READY=1");
    // A reload that fails is over, too.
    for broken in [false, true] {
        if broken {
            pooler.rewrite(|setup| setup.set("pool_mode", "none"));
        }
        let before = monotonic_micros();
        pooler.signal(Signal::SIGHUP);
        let told = manager.hears();
        let micros = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let micros: i64 = micros.parse().unwrap();
        assert!((before..=monotonic_micros()).contains(&micros), "{told}");
        assert_eq!(manager.hears(), "READY=1");
    }
    pooler.signal(Signal::SIGTERM);
    assert_eq!(manager.hears(), "STOPPING=1");
    assert!(pooler.wait_exit().await.success());
}

/// Sockets that are held here, over all restarts.
struct Held {
    fd: OwnedFd,
    address: Address,
    _scratch: Option<Scratch>,
}

impl Held {
    fn tcp() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            address: Address::Tcp(listener.local_addr().unwrap()),
            fd: listener.into(),
            _scratch: None,
        }
    }

    fn unix() -> Self {
        let scratch = Scratch::new("held").unwrap();
        let path = scratch.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        Self {
            address: Address::Unix(path),
            fd: listener.into(),
            _scratch: Some(scratch),
        }
    }

    fn for_a(&self, setup: PoolerSetup) -> PoolerSetup {
        setup.given(self.fd.try_clone().unwrap(), self.address.clone())
    }
}

#[tokio::test]
async fn a_given_socket_is_listened_on_whatever_the_settings_say() {
    for held in [Held::tcp(), Held::unix()] {
        let server = FakeServer::start().await;
        let setup = before(&server, 1).set("listen_addr", "192.0.2.1");
        let mut pooler = held.for_a(setup).start().await;
        let mut client = FakeClient::login_trust(&held.address, "alice", "app").await;
        assert_eq!(client.query_value("SELECT 'here'").await, "here");
        assert_eq!(pooler.log_count("cannot listen"), 0);
        let Address::Unix(own) = pooler.unix_address() else {
            unreachable!()
        };
        assert!(!own.exists());
        client.close().await;

        pooler.signal(Signal::SIGTERM);
        assert!(pooler.wait_exit().await.success());
        if let Address::Unix(theirs) = &held.address {
            assert!(theirs.exists());
        }
    }
}

#[tokio::test]
async fn restarts_behind_a_held_socket_go_unnoticed() {
    for (workers, held) in WORKERS.into_iter().zip([Held::tcp(), Held::unix()]) {
        let server = FakeServer::start().await;
        let setup = held.for_a(before(&server, workers));
        let mut pooler = setup.clone().start().await;
        let served = Arc::new(AtomicUsize::new(0));
        let mut load = JoinSet::new();
        for _ in 0..32 {
            load.spawn(come_and_go(held.address.clone(), served.clone()));
        }
        for _ in 0..RESTARTS {
            let before = served.load(Ordering::SeqCst);
            eventually("more clients", || {
                served.load(Ordering::SeqCst) > before + 200
            })
            .await;
            pooler.signal(Signal::SIGTERM);
            assert!(pooler.wait_exit().await.success());
            pooler = setup.clone().start().await;
        }
        if let Some(failed) = load.try_join_next() {
            panic!("{failed:?}");
        }
        load.shutdown().await;
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
async fn lines_for_the_journal_begin_with_their_rank() {
    let pooler = started_for_the_journal().await;
    let up = pooler.wait_for_log("process up").await;
    assert!(up.starts_with("<6>20"), "{up}");
    crate::support::outcome(&pooler, "nobody", "", "nowhere").await;
    let error = pooler.wait_for_log("pooler error").await;
    assert!(error.starts_with("<4>20"), "{error}");
    // Somebody else's stderr.
    let plain = pgusher(1).env("JOURNAL_STREAM", "1:1").start().await;
    let up = plain.wait_for_log("process up").await;
    assert!(up.starts_with("20"), "{up}");
}

/// A pooler that is told which stream its stderr is, as a service manager does it.
async fn started_for_the_journal() -> Pooler {
    pgusher(1)
        .through_shell("JOURNAL_STREAM=$(stat -L -c %d:%i /dev/stderr); export JOURNAL_STREAM")
        .start()
        .await
}

//! PostgreSQL goes away under load and comes back: what is lost is counted.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use testkit::{FakeServer, Login, Message, Pooler, Postgres, eventually, in_time};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};

use crate::support::{Road, WORKERS, before, client, postgres, trusting};

const CLIENTS: usize = 8;

/// What clients are told while nobody can log in.
const FAILING: &str = "server login has been failing, cached error: ";

/// A transaction that its client knows to have failed.
#[derive(Debug)]
struct Failed {
    begun: Instant,
    text: String,
}

/// What became of one client's transactions.
#[derive(Debug, Default)]
struct Ledger {
    booked: BTreeSet<(i32, i32)>,
    failed: Vec<Failed>,
}

/// Clients who book line after line, each line a transaction, and log in again when they must.
struct Bookkeepers {
    booked: Arc<AtomicUsize>,
    refused: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Ledger>>,
}

impl Bookkeepers {
    fn of(pooler: &Arc<Pooler>) -> Self {
        let (booked, refused) = (Arc::<AtomicUsize>::default(), Arc::default());
        let over = Arc::<AtomicBool>::default();
        let clients = (0..CLIENTS).map(|number| {
            let clerk = Clerk {
                number: i32::try_from(number).unwrap(),
                pooler: pooler.clone(),
                booked: booked.clone(),
                refused: Arc::clone(&refused),
                over: over.clone(),
                ledger: Ledger::default(),
            };
            tokio::spawn(clerk.work())
        });
        let clients = clients.collect();
        Self {
            booked,
            refused,
            over,
            clients,
        }
    }

    async fn go_on(&self, lines: usize) {
        let goal = self.booked.load(Ordering::Relaxed) + lines;
        eventually("lines to be booked", || {
            self.booked.load(Ordering::Relaxed) >= goal
        })
        .await;
    }

    async fn are_told(&self, text: &str) {
        eventually("clients to be told why nothing can be booked", || {
            let refused = self.refused.lock().unwrap();
            refused.iter().any(|told| told.contains(text))
        })
        .await;
    }

    async fn end(self) -> Ledger {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Ledger::default();
        for client in self.clients {
            let ledger = in_time("a client to end", client).await.unwrap();
            all.booked.extend(ledger.booked);
            all.failed.extend(ledger.failed);
        }
        all
    }
}

struct Clerk {
    number: i32,
    pooler: Arc<Pooler>,
    booked: Arc<AtomicUsize>,
    refused: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
    ledger: Ledger,
}

impl Clerk {
    async fn work(mut self) -> Ledger {
        let mut line = 0;
        while !self.is_over() {
            let begun = Instant::now();
            match self.pooler.try_connect("alice", "secret", "app").await {
                Ok(client) => self.book(&client, &mut line).await,
                Err(error) => self.fails(begun, &error).await,
            }
        }
        self.ledger
    }

    async fn book(&mut self, client: &Client, line: &mut i32) {
        while !self.is_over() {
            *line += 1;
            let (number, begun) = (self.number, Instant::now());
            let booking = format!("BEGIN; INSERT INTO ledger VALUES ({number}, {line}); COMMIT");
            if let Err(error) = client.batch_execute(&booking).await {
                return self.fails(begun, &error).await;
            }
            self.ledger.booked.insert((number, *line));
            self.booked.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn fails(&mut self, begun: Instant, error: &Error) {
        let text = match error.as_db_error() {
            Some(error) => error.message().to_owned(),
            None => format!("{error:?}"),
        };
        self.refused.lock().unwrap().push(text.clone());
        self.ledger.failed.push(Failed { begun, text });
        // As any client would: it is no use asking a thousand times a second.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// PostgreSQL with a ledger for alice.
async fn with_ledger() -> Postgres {
    let postgres = postgres().await;
    let table = "CREATE TABLE ledger (client int, line int); GRANT ALL ON ledger TO PUBLIC";
    postgres.run_in("app", table).await;
    postgres
}

async fn start(workers: u32, conn_info: &str) -> Arc<Pooler> {
    let pooler = trusting(workers)
        .database("app", conn_info)
        .set("default_pool_size", 4)
        .set("server_login_retry", 3)
        .start()
        .await;
    Arc::new(pooler)
}

/// Nothing that was confirmed is lost, nobody but those whose servers died has been told of a
/// crash, and from the moment on when the pooler knew that the server was back nobody failed.
async fn nothing_is_lost(postgres: &Postgres, ledger: Ledger, back: Instant) {
    let admin = postgres.admin_client_in("app").await;
    let rows = admin.query("SELECT client, line FROM ledger", &[]).await;
    let kept: BTreeSet<(i32, i32)> = rows
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let lost: Vec<_> = ledger.booked.difference(&kept).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");

    let (told, crashed): (Vec<_>, Vec<_>) = ledger
        .failed
        .iter()
        .partition(|failed| failed.text.starts_with(FAILING));
    assert!(crashed.len() <= CLIENTS, "{crashed:?}");
    assert!(!told.is_empty());
    let late: Vec<_> = ledger.failed.iter().filter(|it| it.begun > back).collect();
    assert!(
        late.is_empty(),
        "failed though the server was back: {late:?}"
    );
    admin.batch_execute("TRUNCATE ledger").await.unwrap();
}

const BACK: &str = "server login works again after ";

#[tokio::test]
async fn a_kill_of_postgresql_costs_the_transactions_under_way_and_no_others_once_it_is_back() {
    let mut postgres = with_ledger().await;
    for workers in WORKERS {
        let pooler = start(workers, &postgres.conn_info("app")).await;
        let load = Bookkeepers::of(&pooler);
        load.go_on(100).await;

        postgres.kill_9().await;
        load.are_told("connect failed: Connection refused").await;
        postgres.start_again().await;
        pooler.wait_for_log(BACK).await;
        let back = Instant::now();
        load.go_on(100).await;

        nothing_is_lost(&postgres, load.end().await, back).await;
    }
}

#[tokio::test]
async fn a_port_that_is_dropped_costs_no_more_either() {
    let postgres = with_ledger().await;
    for workers in WORKERS {
        let mut road = Road::to(postgres.port()).await;
        let pooler = start(workers, &road.conn_info("app")).await;
        let load = Bookkeepers::of(&pooler);
        load.go_on(100).await;

        road.cut().await;
        load.are_told("connect failed: Connection refused").await;
        road.mend().await;
        pooler.wait_for_log(BACK).await;
        let back = Instant::now();
        load.go_on(100).await;

        nothing_is_lost(&postgres, load.end().await, back).await;
    }
}

#[tokio::test]
async fn a_postgresql_that_stands_still_costs_nothing_and_newcomers_are_told() {
    let mut postgres = with_ledger().await;
    for workers in WORKERS {
        let pooler = trusting(workers)
            .database("app", &postgres.conn_info("app"))
            .set("default_pool_size", 4)
            .set("server_connect_timeout", 1)
            .set("server_login_retry", 1)
            .start()
            .await;
        let pooler = Arc::new(pooler);
        let load = Bookkeepers::of(&pooler);
        load.go_on(100).await;

        postgres.pause();
        let told = pooler.try_connect("bob", "secret", "app").await;
        let told = told.unwrap_err();
        let told = told.as_db_error().expect("words").message().to_owned();
        assert!(
            told.starts_with(&format!("{FAILING}connect timeout at ")),
            "{told}"
        );
        postgres.cont();
        pooler.wait_for_log(BACK).await;
        in_time("bob", pooler.connect("bob", "secret", "app")).await;
        load.go_on(100).await;

        let ledger = load.end().await;
        assert!(ledger.failed.is_empty(), "{:?}", ledger.failed);
        let admin = postgres.admin_client_in("app").await;
        let kept = admin.query_one("SELECT count(*) FROM ledger", &[]).await;
        let kept: i64 = kept.unwrap().get(0);
        assert_eq!(usize::try_from(kept).unwrap(), ledger.booked.len());
        admin.batch_execute("TRUNCATE ledger").await.unwrap();
    }
}

#[tokio::test]
async fn nobody_need_ask_to_find_out_that_the_server_is_back() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("server_login_retry", 1)
            .start()
            .await;
        let mut asks = client(&pooler, "alice").await;
        let mut is_silent = client(&pooler, "alice").await;
        server.set_login(Login::Close);
        server.connection(0).await.close();
        pooler
            .wait_for_log("closing because: server conn crashed?")
            .await;
        asks.send(Message::query("SELECT 1")).await;
        asks.expect_error().await;
        asks.expect_closed().await;

        server.set_login(Login::Trust);

        pooler.wait_for_log(BACK).await;
        is_silent.query("SELECT 1").await;
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_server_login_retry_for_a_server_that_stays_away() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("server_login_retry", 1)
            .start()
            .await;
        let mut known = client(&pooler, "alice").await;
        server.stop_listening().await;
        server.connection(0).await.close();
        pooler
            .wait_for_log("closing because: server conn crashed?")
            .await;

        // One waits at its query, one at its login in a pool that never had a server.
        known.send(Message::query("SELECT 1")).await;
        let mut new = testkit::FakeClient::connect(&pooler.address()).await;
        new.startup(&[("user", "bob"), ("database", "app")]).await;

        for client in [&mut known, &mut new] {
            let told = client.expect_error().await.to_string();
            let words = format!("FATAL 08P01: {FAILING}connect failed: ");
            assert!(told.starts_with(&words), "{told}");
            let host = format!("127.0.0.1:{}, for ", server.port());
            let age = told.split_once(&host).map(|(_, age)| age);
            let age = age.and_then(|age| age.strip_suffix(" s (server_login_retry)"));
            let age = age.unwrap_or_else(|| panic!("{told}"));
            assert!(age.parse::<u64>().unwrap() >= 1, "{told}");
            client.expect_closed().await;
        }
    }
}

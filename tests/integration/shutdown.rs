//! The end of the process: who may stay how long, who still gets in, and what signals mean.

mod drain;
mod restarts;

use std::time::{Duration, Instant};

use testkit::{
    Address, Console, FakeClient, FakeServer, Gate, Login, Message, Pooler, PoolerSetup, Signal,
    eventually_async,
};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};

use crate::support::{WORKERS, outcome_over_unix, pgusher, refusal, words};

/// The longest that a process whose last client has left may take to end.
const SOON: Duration = Duration::from_secs(2);

/// A transaction pool `shop`/`alice` before a fake server.
fn shop(workers: u32, fake: &FakeServer) -> PoolerSetup {
    pgusher(workers)
        .database("shop", &fake.conn_info("shop"))
        .user("alice", "a")
        .set("pool_mode", "transaction")
}

async fn alice(pooler: &Pooler) -> Client {
    pooler.connect("alice", "a", "shop").await
}

async fn operator(address: &Address) -> FakeClient {
    let (user, password) = ("testkit_admin", "testkit_admin");
    FakeClient::login_scram(address, user, password, "pgbouncer").await
}

/// A client that runs a query while the test goes on.
fn asks(client: Client, sql: &'static str) -> JoinHandle<Result<(), Error>> {
    tokio::spawn(async move { client.simple_query(sql).await.map(drop) })
}

/// How the process is told.
#[derive(Clone, Copy, Debug)]
enum Told {
    By(Signal),
    Command(&'static str),
}

async fn tell(pooler: &mut Pooler, how: Told) {
    match how {
        Told::By(signal) => pooler.signal(signal),
        Told::Command(command) => {
            let mut operator = operator(&pooler.address()).await;
            let answer = operator.query(command).await;
            assert_eq!(answer[0].command_tag().as_deref(), Some("SHUTDOWN"));
        }
    }
    pooler.wait_for_log("shutting down: ").await;
    eventually_async("TCP to be refused", async || {
        FakeClient::try_connect(&pooler.address()).await.is_err()
    })
    .await;
}

const FOR_CLIENTS: [Told; 2] = [
    Told::By(Signal::SIGTERM),
    Told::Command("SHUTDOWN WAIT_FOR_CLIENTS"),
];
const FOR_SERVERS: [Told; 2] = [
    Told::By(Signal::SIGINT),
    Told::Command("SHUTDOWN WAIT_FOR_SERVERS"),
];

#[tokio::test]
async fn clients_that_are_there_are_served_to_their_end_and_the_process_ends_with_the_last() {
    for workers in WORKERS {
        for how in FOR_CLIENTS {
            let fake = FakeServer::start().await;
            let mut pooler = shop(workers, &fake).start().await;
            let (first, second) = (alice(&pooler).await, alice(&pooler).await);
            let busy = asks(alice(&pooler).await, "HOLD till");
            let till = fake.gate("till");
            till.wait_for_waiting(1).await;
            tell(&mut pooler, how).await;

            // Also who idled, and as often as they like.
            for client in [&first, &second, &first] {
                client.simple_query("SELECT 1").await.unwrap();
            }
            let refused = "FATAL 08P01 pooler is shutting down";
            let told = outcome_over_unix(&pooler, "alice", "a", "shop").await;
            assert_eq!(told, refused);
            // Whoever they say they are, and wherever they want to go.
            let told = outcome_over_unix(&pooler, "nobody", "", "nowhere").await;
            assert_eq!(told, refused);
            let mut operator = operator(&pooler.unix_address()).await;
            let answer = operator.query("SHOW POOLS").await;
            assert!(answer.iter().any(|message| message.tag == b'D'));
            operator.send(Message::query("RESUME")).await;
            let told = words(&operator.expect_error().await);
            assert_eq!(told, "ERROR 08P01 pooler is shutting down");

            drop((first, second));
            till.open();
            assert!(pooler.is_running());
            busy.await.unwrap().unwrap();
            let left = Instant::now();
            assert!(pooler.wait_exit().await.success(), "{how:?}");
            assert!(left.elapsed() < SOON, "{how:?}: {:?}", left.elapsed());
            fake.wait_for_logged_in(0).await;
        }
    }
}

#[tokio::test]
async fn without_clients_it_is_over_at_once() {
    for how in FOR_CLIENTS.into_iter().chain(FOR_SERVERS) {
        let fake = FakeServer::start().await;
        let mut pooler = shop(3, &fake).start().await;
        alice(&pooler).await.simple_query("SELECT 1").await.unwrap();
        match how {
            Told::By(signal) => pooler.signal(signal),
            Told::Command(command) => pooler.console().await.run(command).await,
        }
        let told = Instant::now();
        assert!(pooler.wait_exit().await.success());
        assert!(told.elapsed() < SOON, "{how:?}: {:?}", told.elapsed());
        fake.wait_for_logged_in(0).await;
    }
}

async fn waiting(console: &Console) -> i64 {
    console.pool("shop", "alice").await.number("cl_waiting")
}

#[tokio::test]
async fn waiting_for_servers_lets_transactions_end_and_sends_away_who_is_in_line() {
    for workers in WORKERS {
        for how in FOR_SERVERS {
            let fake = FakeServer::start().await;
            let mut pooler = shop(workers, &fake)
                .set("default_pool_size", 2)
                .start()
                .await;
            let console = pooler.console().await;
            let in_transaction = alice(&pooler).await;
            in_transaction.simple_query("BEGIN").await.unwrap();
            let busy = asks(alice(&pooler).await, "HOLD till");
            let till = fake.gate("till");
            till.wait_for_waiting(1).await;
            let idle = alice(&pooler).await;
            let in_line = asks(alice(&pooler).await, "SELECT 1");
            eventually_async("a client in line", async || waiting(&console).await == 1).await;
            tell(&mut pooler, how).await;

            let told = refusal(&in_line.await.unwrap().unwrap_err());
            assert_eq!(told, "FATAL 08P01 server shutting down");
            in_transaction.simple_query("SELECT 1").await.unwrap();
            till.open();
            busy.await.unwrap().unwrap();
            // Nothing new is begun.
            let late = asks(idle, "SELECT 1");
            eventually_async("the late client in line", async || {
                waiting(&console).await == 1
            })
            .await;
            in_transaction.simple_query("COMMIT").await.unwrap();
            let done = Instant::now();
            assert!(pooler.wait_exit().await.success(), "{how:?}");
            assert!(done.elapsed() < SOON, "{how:?}: {:?}", done.elapsed());
            late.await.unwrap().unwrap_err();
            let queries = fake.connections().into_iter();
            let queries: Vec<_> = queries.flat_map(|one| one.queries()).collect();
            assert_eq!(queries.iter().filter(|sql| *sql == "SELECT 1").count(), 1);
        }
    }
}

#[tokio::test]
async fn whoever_waits_for_a_server_hears_of_it_also_when_nothing_else_holds_the_process() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = shop(workers, &fake).user("bob", "b").start().await;
        let in_line = alice(&pooler).await;
        fake.set_login(Login::Behind(Gate::closed()));
        fake.connections()[0].close();
        fake.wait_for_logged_in(0).await;
        let in_line = asks(in_line, "SELECT 1");
        let mut at_login = FakeClient::connect(&pooler.address()).await;
        at_login
            .startup(&[("user", "bob"), ("database", "shop")])
            .await;
        at_login.answer_scram("b").await;
        fake.connection(2).await;

        pooler.signal(Signal::SIGINT);
        let told = "FATAL 08P01 server shutting down";
        assert_eq!(refusal(&in_line.await.unwrap().unwrap_err()), told);
        assert_eq!(words(&at_login.expect_error().await), told);
        assert!(pooler.wait_exit().await.success());
    }
}

#[tokio::test]
async fn an_immediate_shutdown_waits_for_nobody() {
    for workers in WORKERS {
        for by_signal in [true, false] {
            let fake = FakeServer::start().await;
            let mut pooler = shop(workers, &fake).start().await;
            let busy = asks(alice(&pooler).await, "HOLD till");
            fake.gate("till").wait_for_waiting(1).await;
            let mut operator = operator(&pooler.address()).await;
            if by_signal {
                pooler.signal(Signal::SIGQUIT);
            } else {
                operator.send(Message::query("SHUTDOWN")).await;
            }
            // The connection just drops.
            assert!(operator.expect_closed().await.is_empty());
            let told = Instant::now();
            assert!(pooler.wait_exit().await.success());
            assert!(told.elapsed() < SOON);
            busy.await.unwrap().unwrap_err();
            fake.wait_for_logged_in(0).await;
        }
    }
}

#[tokio::test]
async fn a_second_signal_means_it() {
    use Signal::{SIGINT, SIGTERM};
    for (first, second) in [
        (SIGTERM, SIGTERM),
        (SIGTERM, SIGINT),
        (SIGINT, SIGINT),
        (SIGINT, SIGTERM),
    ] {
        let fake = FakeServer::start().await;
        let mut pooler = shop(3, &fake).start().await;
        let client = alice(&pooler).await;
        client.simple_query("BEGIN").await.unwrap();
        tell(&mut pooler, Told::By(first)).await;
        client.simple_query("SELECT 1").await.unwrap();
        pooler.signal(second);
        let told = Instant::now();
        assert!(pooler.wait_exit().await.success(), "{first} {second}");
        assert!(told.elapsed() < SOON);
        client.simple_query("SELECT 1").await.unwrap_err();
    }
}

#[tokio::test]
async fn usr1_pauses_and_usr2_resumes_unless_the_process_shuts_down() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let mut pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let client = alice(&pooler).await;
        client.simple_query("BEGIN").await.unwrap();
        let state = async || {
            let row = console.show_row("STATE", "value", "yes").await;
            row["key"].to_owned()
        };
        pooler.signal(Signal::SIGUSR1);
        eventually_async("the pause", async || state().await == "paused").await;
        let queued = asks(alice(&pooler).await, "SELECT 1");
        eventually_async("a client in line", async || waiting(&console).await == 1).await;
        client.simple_query("COMMIT").await.unwrap();
        fake.wait_for_logged_in(0).await;
        pooler.signal(Signal::SIGUSR2);
        queued.await.unwrap().unwrap();
        assert_eq!(state().await, "active");
        pooler.signal(Signal::SIGUSR2);
        pooler
            .wait_for_log("SIGUSR2: pooler is not paused/suspended")
            .await;

        client.simple_query("BEGIN").await.unwrap();
        tell(&mut pooler, FOR_SERVERS[0]).await;
        pooler.signal(Signal::SIGUSR2);
        pooler
            .wait_for_log("got SIGUSR2 while shutting down, ignoring")
            .await;
        assert_eq!(state().await, "paused");
        client.simple_query("COMMIT").await.unwrap();
        assert!(pooler.wait_exit().await.success());
    }
}

#[tokio::test]
async fn limits_and_files_can_still_be_changed_while_it_waits_for_clients() {
    let fake = FakeServer::start().await;
    let mut pooler = shop(3, &fake).start().await;
    let client = alice(&pooler).await;
    tell(&mut pooler, FOR_CLIENTS[0]).await;
    pooler.rewrite(|setup| setup.set("default_pool_size", 3));
    pooler.signal(Signal::SIGHUP);
    pooler
        .wait_for_log("RELOAD: default_pool_size = 3 (was 20)")
        .await;
    client.simple_query("SELECT 1").await.unwrap();
    drop(client);
    assert!(pooler.wait_exit().await.success());
}

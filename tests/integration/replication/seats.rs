//! A replication client's server counts towards the limits, takes its place in line, and is gone
//! when its client is.

use std::time::{Duration, Instant};

use testkit::{FakeClient, Login, Message, Pooler, eventually_async};

use super::{asking, follower, follower_to_be, last_words, let_in, pooler_with_seats};
use crate::support::{
    WORKERS, alice, before, client, numbered, server_of, servers_opened, wait_for_waiting,
};

#[tokio::test]
async fn a_replication_client_has_a_server_that_nobody_else_gets() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 2).await;
        let mut pooled = alice(&pooler).await;
        assert_eq!(server_of(&mut pooled).await, 0);
        let more = [
            ("replication", "database"),
            ("application_name", "follower"),
            ("options", "-c geqo=off -d 5"),
        ];
        let mut own = let_in(asking(&pooler.address(), "alice", &more).await).await;
        assert_eq!(server_of(&mut own).await, 1);
        let connection = server.connection(1).await;
        for (name, value) in [("user", "alice"), ("database", "app")].iter().chain(&more) {
            assert_eq!(connection.parameter(name), Some(*value));
        }
        // Neither is it lent between two of its client's requests.
        pooled.query("BEGIN").await;
        let mut waiting = alice(&pooler).await;
        waiting.send(Message::query("SELECT server")).await;
        wait_for_waiting(&pooler, 1).await;
        let console = pooler.console().await;
        let row = console.show_row("SERVERS", "replication", "logical").await;
        assert_eq!((&row["state"], &row["close_needed"]), ("active", "0"));
        let link = row["ptr"].to_owned();
        let row = console.show_row("CLIENTS", "replication", "logical").await;
        assert_eq!((&row["state"], &row["link"]), ("active", &*link));

        own.close().await;
        connection.wait_closed().await;
        assert!(connection.received().ends_with(&[Message::terminate()]));
        let answer = waiting.read_until_ready().await;
        assert_eq!(answer[1].values(), Some(vec![Some("2".into())]));
        let queries = connection.queries();
        assert_eq!(queries, ["SELECT server"], "not even a reset query");
    }
}

#[tokio::test]
async fn an_idle_server_makes_way_for_a_replication_client() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 2).await;
        let [mut first, mut second] = [alice(&pooler).await, alice(&pooler).await];
        first.query("BEGIN").await;
        second.query("BEGIN").await;
        second.query("COMMIT").await;

        let mut own = follower(&pooler).await;
        assert_eq!(server_of(&mut own).await, 2);
        server.connection(1).await.wait_closed().await;
        pooler.wait_for_log("closing because: evicted").await;
        assert_eq!(server_of(&mut first).await, 0);
        assert_eq!(server.logged_in_max(), 2);
    }
}

#[tokio::test]
async fn who_came_first_is_served_first_whether_it_shares_or_not() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 1).await;
        let mut holder = alice(&pooler).await;
        holder.query("BEGIN").await;
        let mut early = alice(&pooler).await;
        let started = Instant::now();
        early.send(Message::query("BEGIN")).await;
        wait_for_waiting(&pooler, 1).await;
        // Whoever comes some milliseconds later may be first on another worker.
        have_waited(&pooler, started.elapsed() + Duration::from_millis(20)).await;
        let own = follower_to_be(&pooler).await;
        wait_for_waiting(&pooler, 2).await;
        have_waited(&pooler, started.elapsed() + Duration::from_millis(20)).await;
        let mut late = alice(&pooler).await;
        late.send(Message::query("SELECT server")).await;
        wait_for_waiting(&pooler, 3).await;

        holder.query("COMMIT").await;
        early.read_until_ready().await;
        assert_eq!(server_of(&mut early).await, 0);
        early.query("COMMIT").await;
        let mut own = let_in(own).await;
        assert_eq!(server_of(&mut own).await, 1);
        own.close().await;
        let answer = late.read_until_ready().await;
        assert_eq!(answer[1].values(), Some(vec![Some("2".into())]));
        assert_eq!(server.logged_in_max(), 1);
    }
}

/// Waits until the first in line has waited for longer than this.
async fn have_waited(pooler: &Pooler, time: Duration) {
    let console = pooler.console().await;
    eventually_async("a wait", async || {
        let pool = console.pool("app", "alice").await;
        let micros = pool.number("maxwait") * 1_000_000 + pool.number("maxwait_us");
        micros > i64::try_from(time.as_micros()).unwrap()
    })
    .await;
}

/// How a client leaves.
const WAYS: [fn(FakeClient); 2] = [FakeClient::reset, drop];

#[tokio::test]
async fn a_replication_client_that_dies_gives_its_seat_back() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 1).await;
        for leaves in WAYS {
            let mut own = follower(&pooler).await;
            let streaming = Message::query("STREAM 1000 1000000");
            own.send(streaming).await;
            own.read_until(b'D').await;
            leaves(own);
            let mut next = alice(&pooler).await;
            assert_eq!(next.query_value("SELECT 'next'").await, "next");
        }
        assert_eq!(server.logged_in_max(), 1);
    }
}

#[tokio::test]
async fn a_replication_client_that_dies_in_line_leaves_the_line() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 1).await;
        let mut holder = alice(&pooler).await;
        holder.query("BEGIN").await;
        for leaves in WAYS {
            let own = follower_to_be(&pooler).await;
            wait_for_waiting(&pooler, 1).await;
            leaves(own);
            wait_for_waiting(&pooler, 0).await;
        }
        holder.query("COMMIT").await;
        assert_eq!(server_of(&mut holder).await, 0);
        assert_eq!(server.connections().len(), 1);
    }
}

#[tokio::test]
async fn a_replication_client_waits_no_longer_than_others() {
    for workers in WORKERS {
        let (_server, pooler) = pooler_with_seats(workers, 1).await;
        pooler
            .console()
            .await
            .run("SET query_wait_timeout = 1")
            .await;
        let mut holder = alice(&pooler).await;
        holder.query("BEGIN").await;
        let mut own = follower_to_be(&pooler).await;
        assert_eq!(last_words(&mut own).await, "08P01 query_wait_timeout");
        wait_for_waiting(&pooler, 0).await;
        holder.query("COMMIT").await;
        follower(&pooler).await;
    }
}

#[tokio::test]
async fn a_replication_client_has_the_reserve_when_it_has_waited_long() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 1).await;
        let console = pooler.console().await;
        console.run("SET reserve_pool_timeout = 1").await;
        console.run("SET reserve_pool_size = 1").await;
        let mut holder = alice(&pooler).await;
        holder.query("BEGIN").await;
        let mut own = follower(&pooler).await;
        assert_eq!(server_of(&mut own).await, 1);
        let log = "taking connection from reserve_pool";
        pooler.wait_for_log(log).await;
        let second = follower_to_be(&pooler).await;
        wait_for_waiting(&pooler, 1).await;
        own.close().await;
        let_in(second).await;
        assert_eq!(server.logged_in_max(), 2);
    }
}

#[tokio::test]
async fn limits_that_pools_share_count_replication_servers() {
    for workers in WORKERS {
        let server = numbered().start().await;
        let setup = before(&server, workers).set("max_db_connections", 2);
        let pooler = setup.start().await;
        let mut bob = client(&pooler, "bob").await;
        bob.query("SELECT 1").await;
        let first = follower(&pooler).await;
        let second = follower(&pooler).await;
        server.connection(0).await.wait_closed().await;
        let third = follower_to_be(&pooler).await;
        wait_for_waiting(&pooler, 1).await;
        bob.send(Message::query("SELECT server")).await;
        wait_for_waiting(&pooler, 2).await;

        first.close().await;
        let third = let_in(third).await;
        second.close().await;
        let answer = bob.read_until_ready().await;
        assert_eq!(answer[1].values(), Some(vec![Some("4".into())]));
        third.close().await;
        assert_eq!(server.logged_in_max(), 2);
    }
}

#[tokio::test]
async fn a_replication_client_waits_until_the_server_is_back() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 1).await;
        let door = server.gate("login");
        let down = Login::Refuse {
            code: "57P03".into(),
            text: "the database system is starting up".into(),
        };
        server.set_login(down);
        let own = follower_to_be(&pooler).await;
        pooler
            .wait_for_log("the database system is starting up")
            .await;
        server.set_login(Login::Behind(door.clone()));
        door.wait_for_waiting(1).await;
        assert_eq!(sv_login(&pooler).await, 1);
        door.open();
        let_in(own).await;
        assert_eq!(servers_opened(&pooler).await, 1);
    }
}

/// Logins to servers that are under way.
async fn sv_login(pooler: &Pooler) -> i64 {
    let console = pooler.console().await;
    console.pool("app", "alice").await.number("sv_login")
}

#[tokio::test]
async fn a_replication_client_that_dies_while_its_server_logs_in_takes_it_along() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 1).await;
        let door = server.gate("login");
        server.set_login(Login::Behind(door.clone()));
        for (count, leaves) in (1..).zip(WAYS) {
            let own = follower_to_be(&pooler).await;
            let connection = server.connection(count - 1).await;
            eventually_async("the login", async || sv_login(&pooler).await == 1).await;
            leaves(own);
            connection.wait_closed().await;
            eventually_async("its end", async || sv_login(&pooler).await == 0).await;
        }
        door.open();
        follower(&pooler).await;
    }
}

#[tokio::test]
async fn replication_is_no_hope_for_those_whom_the_server_refuses() {
    for workers in WORKERS {
        let (server, pooler) = pooler_with_seats(workers, 2).await;
        let mut pooled = alice(&pooler).await;
        let _own = follower(&pooler).await;
        server.connection(0).await.close();
        server.set_login(Login::Refuse {
            code: "53300".into(),
            text: "too many connections".into(),
        });
        pooler
            .wait_for_log("closing because: server conn crashed?")
            .await;
        pooled.send(Message::query("SELECT 1")).await;
        assert_eq!(last_words(&mut pooled).await, "53300 too many connections");
    }
}

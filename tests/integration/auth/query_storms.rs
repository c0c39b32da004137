//! Many logins at once, slow answers and none: nobody hangs, and PostgreSQL is not overrun.

use std::sync::atomic::{AtomicUsize, Ordering};

use testkit::{
    Ask, FakeClient, FakeServer, FakeServerSetup, Gate, Login, Message, Pooler, PoolerSetup, Step,
    eventually, eventually_async,
};

use crate::support::{WORKERS, outcome, pgusher, wait_for_waiting, words};

/// A fake server on which every user has the password `right`; it tells after `gate` opens.
fn behind(gate: &Gate) -> FakeServerSetup {
    let gate = gate.clone();
    FakeServer::setup().answer(move |ask: Ask| {
        let gate = gate.clone();
        async move {
            let asked = ask.sql.contains("rolname").then_some(ask.values)?;
            let user = asked.first().cloned().flatten()?;
            let row = [("rolname", Some(user.as_str())), ("secret", Some("right"))];
            let mut answer = vec![Step::Wait(gate)];
            answer.extend(Step::one_row(&row));
            Some(answer)
        }
    })
}

fn door(fake: &FakeServer, workers: u32) -> PoolerSetup {
    pgusher(workers)
        .database("shop", &fake.conn_info("shop"))
        .user("usher", "keys")
        .set("auth_user", "usher")
        .set("auth_type", "plain")
        .set("max_client_conn", 2000)
}

/// How often the server was asked about somebody.
fn times_asked(fake: &FakeServer) -> usize {
    let connections = fake.connections();
    let asked = connections.iter().map(|connection| {
        let said = connection.received();
        said.iter().filter(|message| message.tag == b'E').count()
    });
    asked.sum()
}

/// A client that has told its name, and waits to be asked for its password.
async fn newcomer(pooler: &Pooler, user: &str) -> FakeClient {
    let mut client = FakeClient::connect(&pooler.address()).await;
    client
        .startup(&[("user", user), ("database", "shop")])
        .await;
    client
}

async fn newcomers(pooler: &Pooler, user: &str, count: usize) -> Vec<FakeClient> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(newcomer(pooler, user).await);
    }
    clients
}

/// Waits until so many clients have told their names.
async fn wait_for_attempts(pooler: &Pooler, count: usize) {
    let attempt = "login attempt: db=shop";
    pooler.wait_for_log_count(attempt, count).await;
}

#[tokio::test]
async fn a_thousand_logins_of_one_user_take_two_queries_and_not_a_thousand() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let fake = behind(&gate).start().await;
        let pooler = door(&fake, workers).start().await;
        let mut first = newcomer(&pooler, "alice").await;
        gate.wait_for_waiting(1).await;
        let mut storm = newcomers(&pooler, "alice", 999).await;
        wait_for_attempts(&pooler, 1000).await;
        assert_eq!(times_asked(&fake), 1);

        gate.open();
        first.read_auth(3).await;
        for client in &mut storm {
            client.read_auth(3).await;
        }
        // One for the first, one for all who came while it was asked about; and other workers may
        // have told of a login a moment before it was in line.
        let asked = times_asked(&fake);
        assert!((2..=1 + workers as usize).contains(&asked), "{asked}");
        assert_eq!(fake.connections().len(), 1);
        // And they get in with it.
        first.send(Message::password("right")).await;
        first.read_auth_ok().await;
    }
}

#[tokio::test]
async fn whoever_comes_after_the_query_was_sent_is_answered_by_a_newer_one() {
    for workers in WORKERS {
        // The secret changes while it is first asked for.
        let doors = [Gate::closed(), Gate::closed()];
        let at = doors.clone();
        let count = AtomicUsize::new(0);
        let fake = FakeServer::setup().answer(move |ask: Ask| {
            let is_question = ask.sql.contains("rolname");
            let times = count.fetch_add(usize::from(is_question), Ordering::SeqCst);
            let secret = if times == 0 { "old" } else { "new" };
            let gate = at[times.min(1)].clone();
            async move {
                let row = [("rolname", Some("alice")), ("secret", Some(secret))];
                let mut answer = vec![Step::Wait(gate)];
                answer.extend(Step::one_row(&row));
                is_question.then_some(answer)
            }
        });
        let fake = fake.start().await;
        let pooler = door(&fake, workers).start().await;
        let mut early = newcomer(&pooler, "alice").await;
        doors[0].wait_for_waiting(1).await;
        let mut late = newcomers(&pooler, "alice", 5).await;
        wait_for_attempts(&pooler, 6).await;

        doors[0].open();
        early.read_auth(3).await;
        early.send(Message::password("old")).await;
        doors[1].wait_for_waiting(1).await;
        doors[1].open();
        for client in &mut late {
            client.read_auth(3).await;
            client.send(Message::password("new")).await;
            client.read_auth_ok().await;
        }
        early.read_auth_ok().await;
    }
}

#[tokio::test]
async fn different_users_are_asked_about_within_the_limits_of_the_pool() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let fake = behind(&gate).start().await;
        let pooler = door(&fake, workers)
            .set("default_pool_size", 2)
            .start()
            .await;
        let mut clients = Vec::new();
        for number in 0..20 {
            clients.push(newcomer(&pooler, &format!("guest{number}")).await);
        }
        gate.wait_for_waiting(2).await;
        let console = pooler.console().await;
        eventually_async("18 questions in line", async || {
            let pool = console.pool("shop", "usher").await;
            pool.number("cl_waiting") == 18 && pool.number("sv_active") == 2
        })
        .await;
        // Who logs in is no client yet.
        assert_eq!(console.show("CLIENTS").await.len(), 1);
        gate.open();
        for client in &mut clients {
            client.read_auth(3).await;
        }
        assert_eq!(times_asked(&fake), 20);
        assert_eq!(fake.logged_in_max(), 2);
    }
}

#[tokio::test]
async fn a_slow_answer_is_waited_for_as_long_as_a_login_may_take() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let fake = behind(&gate).start().await;
        let pooler = door(&fake, workers)
            .set("client_login_timeout", 1)
            .start()
            .await;
        let mut clients = newcomers(&pooler, "alice", 3).await;
        for client in &mut clients {
            let told = words(&client.expect_error().await);
            assert!(
                told.starts_with("FATAL 08P01 client_login_timeout"),
                "{told}"
            );
            client.expect_closed().await;
        }
        // Nobody waits any more: the query is stopped, and its server closed.
        fake.connection(0).await.wait_closed().await;
        eventually("the query to be cancelled", || !fake.cancels().is_empty()).await;
        gate.open();
        assert_eq!(outcome(&pooler, "alice", "right", "shop").await, "in");
    }
}

#[tokio::test]
async fn clients_that_leave_in_the_middle_leave_nothing_behind() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let fake = behind(&gate).start().await;
        let pooler = door(&fake, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let asked = newcomer(&pooler, "alice").await;
        gate.wait_for_waiting(1).await;
        let (in_line, resets) = (
            newcomers(&pooler, "bob", 3).await,
            newcomers(&pooler, "carol", 3).await,
        );
        let console = pooler.console().await;
        wait_for_waiting(&pooler, 2).await;
        drop((asked, in_line));
        for client in resets {
            client.reset();
        }
        eventually_async("everybody to be forgotten", async || {
            let pool = console.pool("shop", "usher").await;
            let logins = console.show_row("LISTS", "list", "login_clients").await;
            let of_pool = ["cl_waiting", "sv_active", "sv_login"];
            let left: i64 = of_pool.iter().map(|column| pool.number(column)).sum();
            left + logins.number("items") == 0
        })
        .await;
        assert_eq!(times_asked(&fake), 1);
        gate.open();
        assert_eq!(outcome(&pooler, "bob", "right", "shop").await, "in");
    }
}

#[tokio::test]
async fn a_quick_answer_keeps_its_server_though_nobody_waits_for_it_any_more() {
    let gate = Gate::closed();
    let fake = behind(&gate).start().await;
    let pooler = door(&fake, 1).start().await;
    drop({
        let client = newcomer(&pooler, "alice").await;
        gate.wait_for_waiting(1).await;
        client
    });
    pooler
        .wait_for_log("closing because: client unexpected eof")
        .await;
    gate.open();
    assert_eq!(outcome(&pooler, "alice", "right", "shop").await, "in");
    let usher = fake
        .connections()
        .iter()
        .filter(|c| c.parameter("user") == Some("usher"))
        .count();
    assert_eq!((usher, times_asked(&fake)), (1, 2));
}

#[tokio::test]
async fn a_server_that_is_down_is_called_that_and_the_next_to_come_need_not_wait() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        fake.stop_listening().await;
        let pooler = door(&fake, workers)
            .set("client_login_timeout", 1)
            .start()
            .await;
        let login = || outcome(&pooler, "alice", "right", "shop");
        let told = tokio::join!(login(), login(), login());
        let down = "FATAL 08P01 client_login_timeout (server down)";
        let failing = "FATAL 08P01 server login has been failing, cached error: connect failed";
        for told in [told.0, told.1, told.2] {
            assert!(told == down || told.starts_with(failing), "{told}");
        }
        let mut told = login().await;
        if told == down {
            // It came while somebody looked whether the server is back; that is not done again soon.
            told = login().await;
        }
        assert!(told.starts_with(failing), "{told}");
        let console = pooler.console().await;
        console.run("SET client_login_timeout = 0").await;
        console.run("SET query_wait_timeout = 1").await;
        console.run("SET server_login_retry = 0").await;
        assert_eq!(login().await, "FATAL 08P01 query_wait_timeout");
    }
}

#[tokio::test]
async fn a_server_that_refuses_auth_user_speaks_for_itself() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        fake.set_login(Login::Refuse {
            code: "28P01".into(),
            text: "no usher of ours".into(),
        });
        let pooler = door(&fake, workers).start().await;
        let login = || outcome(&pooler, "alice", "right", "shop");
        let told = login().await;
        assert_eq!(told, "FATAL 28P01 no usher of ours");
        pooler.wait_for_log("shop/usher: server login failed").await;
        let told = login().await;
        assert!(
            told.starts_with("FATAL 08P01 server login has been failing"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_server_that_dies_or_takes_too_long_over_the_answer_is_left() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let fake = behind(&gate).start().await;
        let pooler = door(&fake, workers).start().await;
        let mut clients = vec![newcomer(&pooler, "alice").await];
        gate.wait_for_waiting(1).await;
        let console = pooler.console().await;
        console.run("SET query_timeout = 1").await;
        // For whom a second query runs when the first has come to nothing.
        clients.extend(newcomers(&pooler, "alice", 2).await);
        wait_for_attempts(&pooler, 3).await;
        fake.connection(0).await.close();
        for client in &mut clients {
            let told = words(&client.expect_error().await);
            assert_eq!(told, "FATAL 08P01 bouncer config error");
        }
        pooler
            .wait_for_log("closing because: server conn crashed?")
            .await;
        pooler.wait_for_log("closing because: query timeout").await;
        eventually("the query to be cancelled", || !fake.cancels().is_empty()).await;
    }
}

#[tokio::test]
async fn kill_and_shutdown_reach_those_who_wait_for_the_answer() {
    for workers in WORKERS {
        for (command, told) in [
            ("KILL shop", "FATAL 08P01 database removed"),
            (
                "SHUTDOWN WAIT_FOR_SERVERS",
                "FATAL 08P01 server shutting down",
            ),
        ] {
            let door_of_server = Gate::closed();
            let fake = FakeServer::setup()
                .login(Login::Behind(door_of_server.clone()))
                .start()
                .await;
            let pooler = door(&fake, workers).start().await;
            let mut clients = newcomers(&pooler, "alice", 3).await;
            door_of_server.wait_for_waiting(1).await;
            wait_for_attempts(&pooler, 3).await;
            let console = pooler.console().await;
            console.run(command).await;
            for client in &mut clients {
                assert_eq!(words(&client.expect_error().await), told);
            }
        }
    }
}

#[tokio::test]
async fn a_paused_database_answers_after_resume() {
    for workers in WORKERS {
        let gate = Gate::closed();
        gate.open();
        let fake = behind(&gate).start().await;
        let pooler = door(&fake, workers).start().await;
        let console = pooler.console().await;
        console.run("PAUSE shop").await;
        let mut client = newcomer(&pooler, "alice").await;
        wait_for_waiting(&pooler, 1).await;
        console.run("RESUME shop").await;
        client.read_auth(3).await;
    }
}

//! What PgBouncer does not show: who waits, for whom, and what the file says otherwise.

use std::fs;

use testkit::{FakeClient, FakeServer, Gate, Login, Message, Pooler, eventually_async};

use super::{operator, shop};
use crate::support::{WORKERS, wait_for_waiting};

async fn alice(pooler: &Pooler) -> FakeClient {
    FakeClient::login_scram(&pooler.address(), "alice", "a", "shop").await
}

#[tokio::test]
async fn a_full_pool_tells_who_fills_it_and_who_waits() {
    let fake = FakeServer::start().await;
    for workers in WORKERS {
        let pooler = shop(workers, &fake).set("default_pool_size", 1);
        let pooler = pooler.start().await;
        let console = pooler.console().await;
        let mut culprit = FakeClient::connect(&pooler.address()).await;
        let who = [("user", "alice"), ("database", "shop")];
        culprit
            .startup(&[who[0], who[1], ("application_name", "report")])
            .await;
        culprit.answer_scram("a").await;
        culprit.read_auth_ok().await;
        culprit.read_welcome().await;
        culprit.query("BEGIN").await;
        let mut first = alice(&pooler).await;
        first.send(Message::query("SELECT 1")).await;
        wait_for_waiting(&pooler, 1).await;
        let mut second = alice(&pooler).await;
        second.send(Message::query("SELECT 2")).await;
        wait_for_waiting(&pooler, 2).await;

        let waiters = console.show("WAITERS").await;
        let places: Vec<_> = waiters.iter().map(|row| row.number("place")).collect();
        assert_eq!(places, [1, 2]);
        assert!(waiters[0].number("id") < waiters[1].number("id"));
        assert_eq!(&waiters[0]["client_user"], "alice");

        let blockers = console.show("BLOCKERS").await;
        let [blocker] = blockers.as_slice() else {
            panic!("not one, but {}", blockers.len());
        };
        let told = ["database", "user", "waiting", "state", "application_name"];
        let told = told.map(|column| &blocker[column]);
        assert_eq!(
            told,
            ["shop", "alice", "2", "idle in transaction", "report"]
        );
        assert!(blocker.number("xact_age") >= blocker.number("state_age"));

        let command = format!("KILL_CLIENT {}", &blocker["id"]);
        operator(&pooler).await.query(&command).await;
        first.read_until_ready().await;
        second.read_until_ready().await;
        assert!(console.show("WAITERS").await.is_empty());
    }
}

#[tokio::test]
async fn whoever_waits_at_login_for_the_first_server_is_in_line_too() {
    for workers in WORKERS {
        let gate = Gate::closed();
        let fake = FakeServer::setup().login(Login::Behind(gate.clone()));
        let fake = fake.start().await;
        let pooler = shop(workers, &fake).start().await;
        let console = pooler.console().await;
        let mut logins = Vec::new();
        for name in ["first", "second", "third"] {
            logins.push(at_login(&pooler, name).await);
            wait_for_waiting(&pooler, logins.len() as i64).await;
        }
        let pool = console.pool("shop", "alice").await;
        assert_eq!(pool.number("cl_active"), 0);
        assert!(pool.number("maxwait") > 0 || pool.number("maxwait_us") > 0);
        let waiters = console.show("WAITERS").await;
        let told = |row: &testkit::Row| {
            let columns = ["place", "client_user", "application_name"];
            columns.map(|column| row[column].to_owned()).join(" ")
        };
        assert_eq!(
            waiters.iter().map(told).collect::<Vec<_>>(),
            ["1 alice first", "2 alice second", "3 alice third"]
        );
        let clients = console.show("CLIENTS").await;
        let waiting = clients.iter().filter(|row| row["state"] == *"waiting");
        assert_eq!(waiting.count(), 3);
        for (list, items) in [("used_clients", 4), ("login_clients", 0)] {
            let row = console.show_row("LISTS", "list", list).await;
            assert_eq!(row.number("items"), items, "{list}");
        }

        let kill = format!("KILL_CLIENT {}", &waiters[1]["id"]);
        console.run(&kill).await;
        let mut killed = logins.remove(1);
        let killed = killed.expect_error().await;
        assert_eq!(killed.text(), "admin forced disconnect");
        wait_for_waiting(&pooler, 2).await;
        gate.open();
        for login in &mut logins {
            login.read_welcome().await;
        }
        assert!(console.show("WAITERS").await.is_empty());
        let pool = console.pool("shop", "alice").await;
        assert_eq!(
            (pool.number("cl_active"), pool.number("cl_waiting")),
            (2, 0)
        );
    }
}

#[tokio::test]
async fn whoever_waits_for_a_server_that_is_away_is_in_line_from_login_on() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        fake.stop_listening().await;
        let pooler = shop(workers, &fake).set("server_login_retry", 100);
        let pooler = pooler.start().await;
        let console = pooler.console().await;
        let mut login = at_login(&pooler, "till").await;
        pooler.wait_for_log("closing because: connect failed").await;
        let waiters = console.show("WAITERS").await;
        assert_eq!(waiters.len(), 1);
        assert_eq!(&waiters[0]["application_name"], "till");
        assert_eq!(console.pool("shop", "alice").await.number("cl_waiting"), 1);
        console.run("KILL shop").await;
        let told = login.expect_error().await;
        assert_eq!(told.text(), "database removed");
    }
}

/// A client of alice's who has proven who she is, and is not welcomed yet.
async fn at_login(pooler: &Pooler, application_name: &str) -> FakeClient {
    let mut client = FakeClient::connect(&pooler.address()).await;
    let name = ("application_name", application_name);
    client
        .startup(&[("user", "alice"), ("database", "shop"), name])
        .await;
    client.answer_scram("a").await;
    client
}

#[tokio::test]
async fn what_the_file_says_otherwise_is_told_until_it_is_followed() {
    let fake = FakeServer::start().await;
    let mut pooler = shop(1, &fake).start().await;
    let console = pooler.console().await;
    let differences = async || {
        let rows = console.show("CONFIG_DIFF").await;
        let line = |row: &testkit::Row| {
            let columns = ["section", "key", "running", "file", "takes"];
            columns.map(|column| row.get(column).unwrap_or("NULL").to_owned())
        };
        rows.iter()
            .map(|row| line(row).join(" "))
            .collect::<Vec<_>>()
    };
    assert_eq!(differences().await, [""; 0]);

    operator(&pooler).await.query("SET query_timeout = 5").await;
    assert_eq!(differences().await, ["pgbouncer query_timeout 5 0 RELOAD"]);
    let conn_info = fake.conn_info("other");
    pooler.rewrite(|setup| {
        setup
            .set("default_pool_size", 7)
            .set("listen_backlog", 99)
            .database("other", &conn_info)
    });
    assert_eq!(
        differences().await,
        [
            "pgbouncer default_pool_size 20 7 RELOAD",
            "pgbouncer query_timeout 5 0 RELOAD",
            "pgbouncer listen_backlog 128 99 restart",
            "databases other NULL defined RELOAD",
        ]
    );
    operator(&pooler).await.query("RELOAD").await;
    let listen_backlog = "pgbouncer listen_backlog 128 99 restart";
    assert_eq!(differences().await, [listen_backlog]);
}

#[tokio::test]
async fn a_file_that_can_not_be_read_is_an_error_and_changes_nothing() {
    let fake = FakeServer::start().await;
    let pooler = shop(1, &fake).start().await;
    let ini = fs::read_dir(pooler.dir()).unwrap();
    let ini = ini.map(|entry| entry.unwrap().path());
    let ini = ini.filter(|path| path.extension().is_some_and(|ending| ending == "ini"));
    for path in ini {
        fs::write(path, "[pgbouncer]\nnonsense = 1\nfolly = 1\n").unwrap();
    }
    let answer = operator(&pooler).await.query("SHOW CONFIG_DIFF").await;
    let error = answer[0].error_fields().unwrap();
    assert_eq!(error.get('C'), "F0000");
    pooler.wait_for_log_count("SHOW CONFIG_DIFF: ", 2).await;
}

#[tokio::test]
async fn a_socket_with_half_a_message_is_an_active_one() {
    let fake = FakeServer::start().await;
    let pooler = shop(1, &fake).start().await;
    let console = pooler.console().await;
    let mut alice = alice(&pooler).await;
    alice.query("SELECT 1").await;
    assert!(console.show("ACTIVE_SOCKETS").await.is_empty());
    alice.send_raw(b"Q\0\0\0").await;
    eventually_async("the half of her message", async || {
        let rows = console.show("ACTIVE_SOCKETS").await;
        rows.len() == 1 && rows[0].number("recv_pos") == 4 && &rows[0]["state"] == "cl_active"
    })
    .await;
    let sockets = console.show("SOCKETS").await;
    let states: Vec<_> = sockets.iter().map(|row| &row["state"]).collect();
    assert_eq!(states, ["cl_active", "cl_active", "sv_idle"]);

    let fds = console.show("FDS").await;
    let tasks: Vec<_> = fds.iter().map(|row| &row["task"]).collect();
    assert_eq!(tasks, ["client", "client", "server"]);
    let open = format!("/proc/{}/fd", pooler.pid());
    for row in &fds {
        let target = fs::read_link(format!("{open}/{}", &row["fd"])).unwrap();
        assert!(target.to_string_lossy().starts_with("socket:"));
        assert_eq!(row.get("password"), None);
    }
    let memory = console.show("MEM").await;
    let servers = memory.iter().find(|row| &row["name"] == "server").unwrap();
    assert_eq!(servers.number("used"), 1);
}

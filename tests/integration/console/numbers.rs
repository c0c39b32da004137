//! The numbers are true: of clients and servers in every state, and of the traffic.

use testkit::{FakeClient, FakeServer, Message, Row, eventually_async};

use super::{alice, asks, shop};
use crate::support::{WORKERS, pgusher};

/// These columns of a row, as text.
fn only(row: &Row, columns: &[&str]) -> String {
    let told = columns
        .iter()
        .map(|column| format!("{column}={}", &row[*column]));
    told.collect::<Vec<_>>().join(" ")
}

fn states(rows: &[Row]) -> Vec<&str> {
    let mut states: Vec<_> = rows.iter().map(|row| &row["state"]).collect();
    states.sort_unstable();
    states
}

const CLIENTS: [&str; 2] = ["cl_active", "cl_waiting"];
const SERVERS: [&str; 4] = ["sv_active", "sv_idle", "sv_used", "sv_login"];

#[tokio::test]
async fn pools_clients_and_servers_are_shown_as_they_are() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake)
            .set("default_pool_size", 2)
            .start()
            .await;
        let console = pooler.console().await;
        let mut busy = Vec::new();
        for _ in 0..2 {
            busy.push(asks(alice(&pooler).await, "HOLD till"));
        }
        let till = fake.gate("till");
        till.wait_for_waiting(2).await;
        let _idle = alice(&pooler).await;
        let waiting = asks(alice(&pooler).await, "SELECT 1");
        let pool = async || console.pool("shop", "alice").await;
        eventually_async("a client in line", async || {
            pool().await.number("cl_waiting") == 1
        })
        .await;

        let row = pool().await;
        // Who idles counts as active.
        assert_eq!(only(&row, &CLIENTS), "cl_active=3 cl_waiting=1");
        assert_eq!(
            only(&row, &SERVERS),
            "sv_active=2 sv_idle=0 sv_used=0 sv_login=0"
        );
        assert!(row.number("maxwait") > 0 || row.number("maxwait_us") > 0);
        let clients = console.show("CLIENTS").await;
        let (consoles, clients): (Vec<_>, Vec<_>) = clients
            .into_iter()
            .partition(|row| row["database"] == *"pgbouncer");
        assert_eq!(states(&consoles), ["active"]);
        assert_eq!(states(&clients), ["active", "active", "idle", "waiting"]);
        let servers = console.show("SERVERS").await;
        assert_eq!(states(&servers), ["active", "active"]);
        for server in &servers {
            let client = clients.iter().find(|row| row["ptr"] == server["link"]);
            let client = client.expect("the client of an active server");
            assert_eq!(
                (&client["link"], &client["state"]),
                (&server["ptr"], "active")
            );
            assert_eq!(&server["port"], &fake.port().to_string());
        }
        let database = console.show_row("DATABASES", "name", "shop").await;
        assert_eq!(database.number("current_connections"), 2);
        assert_eq!(database.number("current_client_connections"), 4);
        let user = console.show_row("USERS", "name", "alice").await;
        assert_eq!(user.number("current_connections"), 2);
        assert_eq!(user.number("current_client_connections"), 4);
        let list = async |name| {
            console
                .show_row("LISTS", "list", name)
                .await
                .number("items")
        };
        assert_eq!(list("used_clients").await, 5);
        assert_eq!(list("used_servers").await, 2);
        assert_eq!(list("pools").await, 2);

        till.open();
        let (_client, answer) = waiting.await.unwrap();
        answer.unwrap();
        for client in busy {
            let (client, answer) = client.await.unwrap();
            answer.unwrap();
            drop(client);
        }
        eventually_async("two clients and two idle servers", async || {
            let row = pool().await;
            only(&row, &CLIENTS) == "cl_active=2 cl_waiting=0"
                && only(&row, &SERVERS) == "sv_active=0 sv_idle=2 sv_used=0 sv_login=0"
        })
        .await;
        assert_eq!(states(&console.show("SERVERS").await), ["idle", "idle"]);
        assert_eq!(pool().await.number("maxwait_us"), 0);
    }
}

#[tokio::test]
async fn servers_at_login_and_those_due_for_a_probe_are_told_apart() {
    for workers in WORKERS {
        let gate = testkit::Gate::closed();
        let fake = FakeServer::setup().login(testkit::Login::Behind(gate.clone()));
        let fake = fake.start().await;
        let pooler = shop(workers, &fake)
            .set("server_check_delay", 0)
            .start()
            .await;
        let console = pooler.console().await;
        let login = async { alice(&pooler).await };
        let watch = async {
            eventually_async("a server at login and its client", async || {
                let pools = console.show("POOLS").await;
                let row = pools.iter().find(|row| row["database"] == *"shop");
                row.is_some_and(|row| {
                    only(row, &["sv_login", "cl_waiting"]) == "sv_login=1 cl_waiting=1"
                })
            })
            .await;
            gate.open();
        };
        let (_alice, ()) = tokio::join!(login, watch);
        let row = console.pool("shop", "alice").await;
        assert_eq!(
            only(&row, &SERVERS),
            "sv_active=0 sv_idle=0 sv_used=1 sv_login=0"
        );
        assert_eq!(states(&console.show("SERVERS").await), ["used"]);
    }
}

/// What a client said and heard, by its messages' bytes.
#[derive(Default)]
struct Traffic {
    said: usize,
    heard: usize,
}

impl Traffic {
    /// Sends messages in one write, and reads up to so many ReadyForQuery.
    async fn ask(&mut self, client: &mut FakeClient, messages: &[Message], answers: usize) {
        client.send_all(messages).await;
        self.said += bytes(messages);
        for _ in 0..answers {
            self.heard += bytes(&client.read_until_ready().await);
        }
    }
}

fn bytes(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.encode().len()).sum()
}

#[tokio::test]
async fn queries_transactions_and_bytes_are_counted_exactly() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake).start().await;
        let mut traffic = Traffic::default();
        let address = pooler.address();
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(FakeClient::login_scram(&address, "alice", "a", "shop").await);
        }
        for client in &mut clients {
            let query = |sql| [Message::query(sql)];
            // One transaction of three queries,
            for sql in ["BEGIN", "SELECT 1", "COMMIT"] {
                traffic.ask(client, &query(sql), 1).await;
            }
            // one of its own, however long its answer is,
            traffic.ask(client, &query("STREAM 1000 100"), 1).await;
            // one that fails, one with several statements,
            traffic
                .ask(client, &query("FAIL 22012 division by zero"), 1)
                .await;
            traffic.ask(client, &query("SELECT 1; SELECT 2"), 1).await;
            // one of the extended protocol,
            let extended = [
                Message::parse("", "SELECT $1"),
                Message::bind("", "", &[Some("x")]),
                Message::execute(""),
                Message::sync(),
            ];
            traffic.ask(client, &extended, 1).await;
            // three Syncs in a row, which are one.
            let syncs = [Message::sync(), Message::sync(), Message::sync()];
            traffic.ask(client, &syncs, 3).await;
        }
        let console = pooler.console().await;
        let totals = async || console.show_row("STATS_TOTALS", "database", "shop").await;
        let columns = [
            "client_login_count",
            "xact_count",
            "query_count",
            "server_assignment_count",
            "bytes_received",
            "bytes_sent",
            "client_parse_count",
            "bind_count",
        ];
        let row = totals().await;
        let expected = format!(
            "client_login_count=3 xact_count=18 query_count=24 server_assignment_count=18 \
             bytes_received={} bytes_sent={} client_parse_count=0 bind_count=0",
            traffic.said, traffic.heard
        );
        assert_eq!(only(&row, &columns), expected, "{workers} workers");
        assert!(row.number("query_time") <= row.number("xact_time"));
        if workers == 1 {
            // Between workers a server takes a moment to come over.
            assert_eq!(row.number("wait_time"), 0);
        }

        // They stay when those go who brought them.
        for client in clients {
            client.close().await;
        }
        eventually_async("the clients to leave", async || {
            console.show("CLIENTS").await.len() == 1
        })
        .await;
        assert_eq!(only(&totals().await, &columns), expected);
        // The other tables tell the same.
        let stats = console.show_row("STATS", "database", "shop").await;
        assert_eq!(stats.number("total_query_count"), 24);
        assert_eq!(stats.number("total_sent"), row.number("bytes_sent"));
        let sum = console
            .show_row("TOTALS", "name", "total_server_bytes")
            .await;
        let consoles = console
            .show_row("STATS_TOTALS", "database", "pgbouncer")
            .await;
        assert!(sum.number("value") >= row.number("bytes_sent"));
        assert!(sum.number("value") <= row.number("bytes_sent") + consoles.number("bytes_sent"));
    }
}

#[tokio::test]
async fn the_time_in_line_is_counted() {
    for workers in WORKERS {
        let fake = FakeServer::start().await;
        let pooler = shop(workers, &fake)
            .set("default_pool_size", 1)
            .start()
            .await;
        let console = pooler.console().await;
        let holder = asks(alice(&pooler).await, "HOLD till");
        let till = fake.gate("till");
        till.wait_for_waiting(1).await;
        let waiting = asks(alice(&pooler).await, "SELECT 1");
        let maxwait = async || {
            let row = console.pool("shop", "alice").await;
            row.number("maxwait") * 1_000_000 + row.number("maxwait_us")
        };
        eventually_async("a wait of 50 ms", async || maxwait().await >= 50_000).await;
        till.open();
        holder.await.unwrap().1.unwrap();
        waiting.await.unwrap().1.unwrap();
        let row = console.show_row("STATS_TOTALS", "database", "shop").await;
        assert!(row.number("wait_time") >= 50_000, "{row:?}");
        assert!(row.number("query_time") >= 50_000, "{row:?}");
    }
}

#[tokio::test]
async fn the_consoles_own_logins_and_queries_count_as_its_own() {
    let pooler = pgusher(1).start().await;
    let console = pooler.console().await;
    let _another = pooler.console().await;
    let row = console
        .show_row("STATS_TOTALS", "database", "pgbouncer")
        .await;
    assert_eq!(row.number("client_login_count"), 2);
    // This SHOW and the next.
    assert_eq!(row.number("query_count"), 1);
    let row = console
        .show_row("STATS_TOTALS", "database", "pgbouncer")
        .await;
    assert_eq!(row.number("query_count"), 2);
    let pool = console.pool("pgbouncer", "pgbouncer").await;
    assert_eq!(
        only(&pool, &["cl_active", "pool_mode"]),
        "cl_active=2 pool_mode=statement"
    );
}

//! What settings do when RELOAD brings them, to clients who are there and to those who come.

use testkit::{Console, FakeClient, FakeServer, Message, Pooler, eventually_async};

use crate::support::{before, client, clients, numbered, server_of, words};

/// Settings with two values each, and what is seen with the one and the other.
const ROWS: [(&str, [&str; 2], [&str; 2]); 24] = [
    (
        "admin_users",
        ["testkit_admin", "testkit_admin, alice"],
        ["FATAL 08P01 not allowed", "in"],
    ),
    (
        "application_name_add_host",
        ["0", "1"],
        ["till", "till - 127.0.0.1"],
    ),
    (
        "auth_file",
        ["{dir}/userlist.txt", "{dir}/few.txt"],
        ["in", NO_TRUST],
    ),
    (
        "auth_type",
        ["trust", "scram-sha-256"],
        ["in", "asked to prove it"],
    ),
    ("default_pool_size", ["1", "3"], ["1", "3"]),
    (
        "ignore_startup_parameters",
        ["", "hue"],
        ["FATAL 08P01 unsupported startup parameter: hue", "in"],
    ),
    ("log_connections", ["1", "0"], ["1", "0"]),
    ("log_disconnections", ["0", "1"], ["0", "1"]),
    ("log_pooler_errors", ["1", "0"], ["1", "0"]),
    ("logfile", ["", "{dir}/new.log"], ["no file", "a file"]),
    (
        "login_notify_message",
        ["", "closed at ten"],
        ["in", "closed at ten"],
    ),
    (
        "max_client_conn",
        ["100", "2"],
        [
            "in",
            "FATAL 08P01 no more connections allowed (max_client_conn)",
        ],
    ),
    (
        "max_db_client_connections",
        ["0", "1"],
        [
            "in",
            "FATAL 08P01 client connections exceeded (max_db_client_connections)",
        ],
    ),
    ("max_db_connections", ["0", "2"], ["4", "2"]),
    (
        "max_packet_size",
        ["65536", "50"],
        [
            "CommandComplete \"SELECT 1\"",
            "FATAL 08P01 bad packet header: '510000006e'",
        ],
    ),
    (
        "max_prepared_statements",
        ["200", "0"],
        ["renamed", "as it is"],
    ),
    (
        "max_user_client_connections",
        ["0", "1"],
        [
            "in",
            "FATAL 08P01 client connections exceeded (max_user_client_connections)",
        ],
    ),
    ("max_user_connections", ["3", "2"], ["3", "2"]),
    ("pool_mode", ["session", "transaction"], ["1", "0"]),
    (
        "prepared_statement_errors",
        ["pgbouncer", "postgres"],
        [
            "FATAL 08P01 prepared statement did not exist",
            "ERROR 26000 prepared statement \"gone\" does not exist",
        ],
    ),
    ("server_lifetime", ["3600", "0"], ["the same", "another"]),
    (
        "server_reset_query_always",
        ["0", "1"],
        ["SELECT 1", "DISCARD ALL"],
    ),
    ("server_round_robin", ["0", "1"], ["the same", "another"]),
    (
        "stats_users",
        ["", "alice"],
        ["FATAL 08P01 not allowed", "in"],
    ),
];

const NO_TRUST: &str = "FATAL 08P01 \"trust\" authentication failed";

struct Scene {
    pooler: Pooler,
    fake: FakeServer,
    console: Console,
}

#[tokio::test]
async fn what_a_setting_does_it_does_from_the_reload_on() {
    for (key, [old, new], [with_old, with_new]) in ROWS {
        let fake = numbered().start().await;
        let few = "\"testkit_admin\" \"testkit_admin\"\n";
        // Servers take turns within a worker.
        let workers = if key == "server_round_robin" { 1 } else { 3 };
        let setup = before(&fake, workers).file("few.txt", few);
        let pooler = setup.set(key, old).start().await;
        let console = pooler.console().await;
        let mut scene = Scene {
            pooler,
            fake,
            console,
        };
        assert_eq!(scene.seen(key).await, with_old, "{key} = {old}");
        scene.pooler.rewrite(|setup| setup.set(key, new));
        scene.console.run("RELOAD").await;
        assert_eq!(scene.seen(key).await, with_new, "{key} = {new}");
        scene.pooler.rewrite(|setup| setup.set(key, old));
        scene.console.run("RELOAD").await;
        if key != "logfile" {
            assert_eq!(scene.seen(key).await, with_old, "{key} = {old} again");
        }
    }
}

impl Scene {
    /// What is seen of a setting, by clients who are gone afterwards.
    async fn seen(&self, key: &str) -> String {
        let seen = self.look(key).await;
        eventually_async("nobody to be left", async || {
            let clients = self.console.show("CLIENTS").await;
            clients.iter().all(|client| client["database"] != *"app")
        })
        .await;
        seen
    }

    async fn look(&self, key: &str) -> String {
        match key {
            "admin_users" | "stats_users" => self.login("pgbouncer", &[]).await,
            "ignore_startup_parameters" => self.login("app", &[("hue", "red")]).await,
            "auth_file" | "auth_type" | "login_notify_message" => self.login("app", &[]).await,
            "max_client_conn" | "max_db_client_connections" | "max_user_client_connections" => {
                let _first = client(&self.pooler, "alice").await;
                self.login("app", &[]).await
            }
            "application_name_add_host" => self.application_name().await,
            "default_pool_size" | "max_db_connections" | "max_user_connections" => {
                self.seats(key).await
            }
            "log_connections" => self.lines("login attempt: db=app").await,
            "log_disconnections" => self.lines("closing because: unsupported").await,
            "log_pooler_errors" => self.lines("pooler error: unsupported").await,
            "logfile" => match self.pooler.dir().join("new.log").exists() {
                true => "a file".to_owned(),
                false => "no file".to_owned(),
            },
            "max_packet_size" => self.long_query().await,
            "max_prepared_statements" => self.statement().await,
            "prepared_statement_errors" => self.unknown_statement().await,
            "pool_mode" => {
                let mut client = client(&self.pooler, "alice").await;
                client.query("SELECT 1").await;
                let pool = self.console.pool("app", "alice").await;
                pool["sv_active"].to_owned()
            }
            "server_lifetime" | "server_round_robin" => self.next_server().await,
            "server_reset_query_always" => {
                client(&self.pooler, "alice").await.query("SELECT 1").await;
                let is_idle =
                    async || self.console.pool("app", "alice").await.number("sv_idle") == 1;
                eventually_async("an idle server", is_idle).await;
                self.fake.connections()[0].queries().pop().unwrap()
            }
            other => panic!("how is {other} seen?"),
        }
    }

    /// How a login of alice's goes.
    async fn login(&self, database: &str, parameters: &[(&str, &str)]) -> String {
        let mut client = FakeClient::connect(&self.pooler.address()).await;
        let who = [("user", "alice"), ("database", database)];
        client.startup(&[&who, parameters].concat()).await;
        let mut notice = None;
        loop {
            let message = client.read().await;
            match message.tag {
                b'E' => return words(&message.error_fields().unwrap()),
                b'N' => notice = message.error_fields(),
                b'R' if message.body[..4] != [0; 4] => return "asked to prove it".to_owned(),
                b'Z' => return notice.map_or("in".to_owned(), |it| it.text().to_owned()),
                _ => {}
            }
        }
    }

    async fn application_name(&self) -> String {
        let mut client = FakeClient::connect(&self.pooler.address()).await;
        let who = [
            ("user", "alice"),
            ("database", "app"),
            ("application_name", "till"),
        ];
        client.startup(&who).await;
        client.read_until_ready().await;
        let row = self.console.show_row("CLIENTS", "database", "app").await;
        row["application_name"]
            .split(':')
            .next()
            .unwrap()
            .to_owned()
    }

    /// How many servers are opened for four clients, once as many are as may be.
    async fn seats(&self, key: &str) -> String {
        let limit: i64 = self.console.setting(key).await.parse().unwrap();
        let seats = if limit == 0 { 4 } else { limit };
        let till = self.fake.gate("till");
        till.close();
        let mut clients: [FakeClient; 4] = clients(&self.pooler).await;
        for client in &mut clients {
            client.send(Message::query("HOLD till")).await;
        }
        till.wait_for_waiting(seats as usize).await;
        till.open();
        for client in &mut clients {
            client.read_until_ready().await;
        }
        // None was closed meanwhile; one more may have come too late to be of use.
        let opened = self.fake.logged_in().min(4).to_string();
        self.console.run("RECONNECT").await;
        self.fake.wait_for_logged_in(0).await;
        opened
    }

    /// How many lines a refused login leaves in the log.
    async fn lines(&self, text: &str) -> String {
        let before = self.pooler.log_count(text);
        let mark = self.pooler.log_count("RECONNECT command issued") + 1;
        self.login("app", &[("hue", "red")]).await;
        // Once this line is there, so are all before it.
        self.console.run("RECONNECT").await;
        let line = "RECONNECT command issued";
        self.pooler.wait_for_log_count(line, mark).await;
        (self.pooler.log_count(text) - before).to_string()
    }

    async fn long_query(&self) -> String {
        let mut client = client(&self.pooler, "alice").await;
        let sql = format!("SELECT '{}'", "x".repeat(96));
        client.send(Message::query(&sql)).await;
        loop {
            let message = client.read().await;
            match message.tag {
                b'E' => return words(&message.error_fields().unwrap()),
                b'C' => return message.to_string(),
                _ => {}
            }
        }
    }

    /// Under which name a server sees a statement.
    async fn statement(&self) -> String {
        let parsed = || {
            let servers = self.fake.connections().into_iter();
            let all = servers.flat_map(|server| server.received());
            all.filter(|message| message.tag == b'P')
                .map(|message| message.to_string())
                .collect::<Vec<_>>()
        };
        // No server has it yet.
        let sql = format!("SELECT {}", parsed().len());
        let mut client = client(&self.pooler, "alice").await;
        client
            .send_all(&[Message::parse("mine", &sql), Message::sync()])
            .await;
        client.read_until_ready().await;
        let parse = parsed().into_iter().find(|parse| parse.contains(&sql));
        match parse.unwrap().contains("\"mine\"") {
            true => "as it is".to_owned(),
            false => "renamed".to_owned(),
        }
    }

    async fn unknown_statement(&self) -> String {
        let mut client = client(&self.pooler, "alice").await;
        let describe = Message::client(b'D', *b"Sgone\0");
        client.send_all(&[describe, Message::sync()]).await;
        words(&client.expect_error().await)
    }

    /// Whether two queries in a row go to the same server.
    async fn next_server(&self) -> String {
        let [mut first, mut second] = clients(&self.pooler).await;
        for client in [&mut first, &mut second] {
            client.query("BEGIN").await;
        }
        for client in [&mut first, &mut second] {
            client.query("COMMIT").await;
        }
        let servers = [server_of(&mut first).await, server_of(&mut first).await];
        match servers[0] == servers[1] {
            true => "the same".to_owned(),
            false => "another".to_owned(),
        }
    }
}

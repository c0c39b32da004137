//! How settings are seen to act.

use nix::unistd::{User, getuid};
use testkit::{FakeClient, Message, eventually_async};

use super::Scene;
use crate::support::{client, clients, outcome, outcome_over_unix, server_of, words};

/// The account that this test runs as.
pub(super) fn account() -> String {
    User::from_uid(getuid()).unwrap().unwrap().name
}

impl Scene {
    /// Notes it if something else is seen of a setting.
    pub(super) async fn sees(&self, wrong: &mut Vec<String>, key: &str, expected: &str) {
        let seen = self.seen(key).await;
        if seen != expected {
            let value = self.console.setting(key).await;
            wrong.push(format!("{key} = {value}: {seen}, not {expected}"));
        }
    }

    /// What is seen of a setting, by clients who are gone afterwards.
    async fn seen(&self, key: &str) -> String {
        let seen = self.look(key).await;
        self.are_gone().await;
        seen
    }

    /// Waits until the last client has left.
    pub(in crate::reload) async fn are_gone(&self) {
        eventually_async("nobody to be left", async || {
            let clients = self.console.show("CLIENTS").await;
            clients.iter().all(|client| client["database"] != *"app")
        })
        .await;
    }

    async fn look(&self, key: &str) -> String {
        match key {
            "admin_users" | "stats_users" => self.login("pgbouncer", &[]).await,
            "ignore_startup_parameters" => self.login("app", &[("hue", "red")]).await,
            "auth_file" | "auth_hba_file" | "auth_type" | "login_notify_message" => {
                self.login("app", &[]).await
            }
            "auth_ident_file" => outcome_over_unix(&self.pooler, "alice", "", "app").await,
            "auth_dbname" | "auth_query" | "auth_user" => self.question(key).await,
            "max_client_conn" | "max_db_client_connections" | "max_user_client_connections" => {
                self.second_login().await
            }
            "application_name_add_host" => self.application_name().await,
            "default_pool_size" | "max_db_connections" | "max_user_connections" => {
                let limit: usize = self.console.setting(key).await.parse().unwrap();
                self.seats(if limit == 0 { 4 } else { limit }).await
            }
            "log_connections" => self.lines("login attempt: db=app").await,
            "log_disconnections" => self.lines("closing because: unsupported").await,
            "log_pooler_errors" => self.lines("pooler error: unsupported").await,
            "logfile" => match self.pooler.dir().join("new.log").exists() {
                true => "a file".to_owned(),
                false => "no file".to_owned(),
            },
            "log_format" => self.last_line().await,
            "metrics_old_names" => {
                let page = self.pooler.page("/metrics").await;
                match page.body.contains("pgbouncer_stats_queries_pooled_total{") {
                    true => "told".to_owned(),
                    false => "not told".to_owned(),
                }
            }
            "min_pool_size" => {
                let minimum: usize = self.console.setting(key).await.parse().unwrap();
                self.minimum(minimum.max(1)).await
            }
            "peer_id" => {
                let client = client(&self.pooler, "alice").await;
                let Message { body, .. } = Message::backend_key(client.cancel_key());
                // After the four bytes of a process id that this is not.
                u16::from_le_bytes([body[1], body[2]]).to_string()
            }
            "max_packet_size" => self.long_query().await,
            "max_prepared_statements" => self.statement().await,
            "prepared_statement_memory" => self.long_statement().await,
            "scram_iterations" => self.iterations().await,
            "server_check_delay" | "server_check_query" => self.probe().await,
            "server_fast_close" => self.outdated().await,
            "session_backend_pid" => {
                let _client = client(&self.pooler, "alice").await;
                let pool = self.console.pool("app", "alice").await;
                pool["sv_active"].to_owned()
            }
            "verbose" => self.talk().await,
            "prepared_statement_errors" => self.unknown_statement().await,
            "pool_mode" => self.kept().await,
            "server_lifetime" | "server_round_robin" => self.next_server().await,
            "server_reset_query" | "server_reset_query_always" => {
                client(&self.pooler, "alice").await.query("SELECT 1").await;
                let is_idle =
                    async || self.console.pool("app", "alice").await.number("sv_idle") == 1;
                eventually_async("an idle server", is_idle).await;
                self.fake.connections()[0].queries().pop().unwrap()
            }
            other => panic!("how is {other} seen?"),
        }
    }

    /// Has the console change it.
    pub(super) async fn set(&self, key: &str, value: &str) {
        let dir = self.pooler.dir().display().to_string();
        let value = value.replace("{dir}", &dir).replace('\'', "''");
        self.console.run(&format!("SET {key} = '{value}'")).await;
    }

    /// How a login goes while another client is there.
    pub(in crate::reload) async fn second_login(&self) -> String {
        let _first = client(&self.pooler, "alice").await;
        self.login("app", &[]).await
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

    /// How many servers a client keeps that is between two transactions.
    pub(in crate::reload) async fn kept(&self) -> String {
        let mut client = client(&self.pooler, "alice").await;
        client.query("SELECT 1").await;
        let pool = self.console.pool("app", "alice").await;
        pool["sv_active"].to_owned()
    }

    /// How many servers are opened for four clients, once as many are as may be.
    pub(in crate::reload) async fn seats(&self, seats: usize) -> String {
        let till = self.fake.gate("till");
        till.close();
        let mut clients: [FakeClient; 4] = clients(&self.pooler).await;
        for client in &mut clients {
            client.send(Message::query("HOLD till")).await;
        }
        till.wait_for_waiting(seats).await;
        // Whoever comes free may be closed for another's sake: they are counted before that.
        eventually_async("all to have a seat or none to come", async || {
            let pool = self.console.pool("app", "alice").await;
            pool.number("cl_active") + pool.number("cl_waiting") == 4
                && pool.number("sv_login") == 0
        })
        .await;
        let opened = self.fake.logged_in().min(4).to_string();
        till.open();
        for client in &mut clients {
            client.read_until_ready().await;
        }
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

    /// Whether the log tells more of a login that fails than that it did.
    async fn talk(&self) -> String {
        let before = self.pooler.log_count("] DEBUG ");
        outcome(&self.pooler, "alice", "wrong", "app").await;
        self.lines("").await;
        match self.pooler.log_count("] DEBUG ") > before {
            true => "talks".to_owned(),
            false => "silent".to_owned(),
        }
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

    /// What a login of somebody unknown has the pooler ask, where, and as whom.
    pub(in crate::reload) async fn question(&self, key: &str) -> String {
        let asked = || {
            let servers = self.fake.connections().into_iter();
            let all = servers.flat_map(|server| {
                let parameter = |name| server.parameter(name).unwrap().to_owned();
                let (user, database) = (parameter("user"), parameter("database"));
                let asked = server.received().into_iter().filter(|it| it.tag == b'P');
                let told = move |parse: Message| match key {
                    "auth_user" => user.clone(),
                    "auth_dbname" => database.clone(),
                    _ => {
                        let text = String::from_utf8_lossy(&parse.body).into_owned();
                        text.split('\0').nth(1).unwrap().to_owned()
                    }
                };
                asked.map(told)
            });
            all.collect::<Vec<_>>()
        };
        let before = asked();
        FakeClient::login_trust(&self.pooler.address(), "dave", "app").await;
        let mut new = asked();
        for known in before {
            let place = new.iter().position(|it| *it == known).unwrap();
            new.remove(place);
        }
        let [told] = &new[..] else {
            panic!("not one question, but {new:?}");
        };
        told.clone()
    }

    /// How the log's last line looks.
    async fn last_line(&self) -> String {
        self.lines("login attempt").await;
        let log = self.pooler.log();
        let mut lines = log.lines().rev();
        let line = lines.find(|line| line.contains("RECONNECT command issued"));
        match line.unwrap().starts_with('{') {
            true => "JSON".to_owned(),
            false => "text".to_owned(),
        }
    }

    /// How many servers there are for a client who asks for nothing.
    pub(in crate::reload) async fn minimum(&self, servers: usize) -> String {
        self.console.run("RECONNECT").await;
        self.fake.wait_for_logged_in(0).await;
        let _client = client(&self.pooler, "alice").await;
        self.fake.wait_for_logged_in(servers).await;
        self.fake.logged_in().to_string()
    }

    async fn long_statement(&self) -> String {
        let mut client = client(&self.pooler, "alice").await;
        let sql = format!("SELECT '{}'", "x".repeat(3000));
        client
            .send_all(&[Message::parse("long", &sql), Message::sync()])
            .await;
        let answer = client.read().await;
        match answer.error_fields() {
            Some(error) => format!("ErrorResponse {}", error.code()),
            None => answer.to_string(),
        }
    }

    /// What alice is to do for her proof.
    async fn iterations(&self) -> String {
        let mut client = FakeClient::connect(&self.pooler.address()).await;
        client
            .startup(&[("user", "alice"), ("database", "app")])
            .await;
        client.read_auth(10).await;
        let first = Message::sasl_initial("SCRAM-SHA-256", b"n,,n=,r=once");
        client.send(first).await;
        let challenge = client.read_auth(11).await;
        let challenge = String::from_utf8(challenge).unwrap();
        challenge.rsplit(',').next().unwrap().to_owned()
    }

    /// What a server is asked before a query, after it had one.
    async fn probe(&self) -> String {
        let mut client = client(&self.pooler, "alice").await;
        client.query("SELECT 'first'").await;
        client.query("SELECT 'second'").await;
        let queries = self.fake.connections()[0].queries();
        match &queries[queries.len() - 2..] {
            [first, _] if first == "SELECT 'first'" => "nothing".to_owned(),
            [probe, _] => format!("{probe:?}"),
            _ => unreachable!(),
        }
    }

    /// What becomes of a session whose server must be replaced.
    async fn outdated(&self) -> String {
        let mut client = client(&self.pooler, "alice").await;
        client.query("SELECT 1").await;
        self.console.run("RECONNECT").await;
        // Workers hear of it after us: only a client who need not go may ask for something.
        if self.console.setting("server_fast_close").await == "0" {
            client.send(Message::query("SELECT 2")).await;
        }
        match client.read().await {
            message if message.tag == b'E' => words(&message.error_fields().unwrap()),
            _ => "stays".to_owned(),
        }
    }
}

//! Which parameters are tracked: those that the server reported.

use std::fmt::Write;

use expect_test::expect;
use testkit::{FakeClient, FakeServer, Message, Pooler, eventually_async, transcript};

use super::alice_with;
use crate::support::{TwoHosts, WORKERS, alice, before, trusting, words};

#[tokio::test]
async fn what_a_server_does_not_report_is_never_set() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("track_extra_parameters", "search_path, IntervalStyle")
            .start()
            .await;
        let own = [("search_path", "private")];
        let (mut client, welcome) = alice_with(&pooler, &own).await;
        assert!(!transcript(&welcome).contains("search_path"));
        client.query("ASK once").await;
        alice(&pooler).await.query("ASK other").await;
        client.query("ASK again").await;
        let asked = server.connection(0).await.queries();
        assert_eq!(asked, ["ASK once", "ASK other", "ASK again"]);
    }
}

#[tokio::test]
async fn a_parameter_that_was_not_reported_at_login_stays_untracked() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut client = alice(&pooler).await;
        client.query("BEGIN").await;
        let told = Message::parameter_status("search_path", "mine");
        server.connection(0).await.send(told.clone()).await.unwrap();
        assert_eq!(client.read().await, told);
        client.query("COMMIT").await;
        alice(&pooler).await.query("ASK other").await;
        let asked = server.connection(0).await.queries();
        assert_eq!(asked, ["BEGIN", "COMMIT", "ASK other"]);
    }
}

#[tokio::test]
async fn what_another_product_reports_is_tracked_once_somebody_has_set_it() {
    for workers in WORKERS {
        let server = FakeServer::setup()
            .parameter("search_path", "public")
            .parameter("other.flavour", "plain")
            .start()
            .await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut sweet, welcome) = alice_with(&pooler, &[]).await;
        expect![[r#"
            < ParameterStatus integer_datetimes=on
            < ParameterStatus is_superuser=off
            < ParameterStatus server_encoding=UTF8
            < ParameterStatus server_version=15.0 (fake)
            < ParameterStatus session_authorization=fake
            < ParameterStatus DateStyle=ISO, MDY
            < ParameterStatus client_encoding=UTF8
            < ParameterStatus TimeZone=UTC
            < ParameterStatus standard_conforming_strings=on
            < ParameterStatus application_name=
            < ParameterStatus IntervalStyle=postgres
            < ParameterStatus search_path=public
            < ParameterStatus other.flavour=plain
            < BackendKeyData
            < ReadyForQuery idle
        "#]]
        .assert_eq(&transcript(&welcome));
        let mut plain = alice(&pooler).await;
        sweet.query("SET other.flavour = 'sweet'").await;
        plain.query("ASK plain").await;
        sweet.query("ASK sweet").await;
        expect![[r#"
            [
                "SET other.flavour = 'sweet'",
                "SET other.flavour='plain';",
                "ASK plain",
                "SET other.flavour='sweet';",
                "ASK sweet",
            ]
        "#]]
        .assert_debug_eq(&server.connection(0).await.queries());
    }
}

#[tokio::test]
async fn a_search_path_is_set_as_a_list_and_never_as_sql() {
    for workers in WORKERS {
        let server = FakeServer::setup().parameter("search_path", "\"$user\", public");
        let server = server.start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut mine, _) = alice_with(&pooler, &[("search_path", "a, drop table t")]).await;
        mine.query("ASK mine").await;
        alice(&pooler).await.query("ASK other").await;
        expect![[r#"
            [
                "SELECT pg_catalog.set_config('search_path','a, drop table t',false);",
                "ASK mine",
                "SELECT pg_catalog.set_config('search_path','\"$user\", public',false);",
                "ASK other",
            ]
        "#]]
        .assert_debug_eq(&server.connection(0).await.queries());
    }
}

#[tokio::test]
async fn who_asks_for_what_the_server_does_not_report_is_refused_unless_that_is_ignored() {
    let server = FakeServer::start().await;
    let newer = FakeServer::setup().parameter("search_path", "public");
    let newer = newer.start().await;
    let setup = before(&server, 1).database("newer", &newer.conn_info("app"));
    let lenient = setup.clone();
    let pooler = setup.start().await;
    let lenient = lenient.set("ignore_startup_parameters", "search_path");
    let lenient = lenient.start().await;
    let ways = [("search_path", "a"), ("options", "-c search_path=a")];
    let mut table = String::new();
    for (rules, pooler) in [("", &pooler), ("ignored, ", &lenient)] {
        for database in ["app", "newer"] {
            for (name, value) in ways {
                let mut client = FakeClient::connect(&pooler.address()).await;
                let who = [("user", "alice"), ("database", database), (name, value)];
                client.startup(&who).await;
                let welcome = client.read_until_end_of_login().await;
                let told = welcome.last().and_then(Message::error_fields);
                let told = told.map_or_else(|| path_in(&welcome), |error| words(&error));
                writeln!(table, "{rules}{database}, {name}: {told}").unwrap();
            }
        }
    }
    expect![[r#"
        app, search_path: FATAL 08P01 unsupported startup parameter: search_path
        app, options: FATAL 08P01 unsupported startup parameter in options: search_path
        newer, search_path: a
        newer, options: a
        ignored, app, search_path: none
        ignored, app, options: none
        ignored, newer, search_path: public
        ignored, newer, options: public
    "#]]
    .assert_eq(&table);
}

/// The search_path that a welcome tells.
fn path_in(welcome: &[Message]) -> String {
    let mut told = welcome.iter().filter_map(Message::parameter);
    let path = told.find(|(name, _)| name == "search_path");
    path.map_or_else(|| "none".to_owned(), |(_, value)| value)
}

#[tokio::test]
async fn what_connect_query_sets_is_what_clients_begin_with() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let query = "SET TimeZone = Asia/Tokyo";
        let info = format!("{} connect_query='{query}'", server.conn_info("app"));
        let pooler = trusting(workers).database("app", &info).start().await;
        let (mut client, welcome) = alice_with(&pooler, &[]).await;
        let told = Message::parameter_status("TimeZone", "Asia/Tokyo");
        assert!(welcome.contains(&told), "{}", transcript(&welcome));
        client.query("ASK").await;
        assert_eq!(server.connection(0).await.queries(), [query, "ASK"]);
    }
}

/// A pool over two hosts, each of which is held by a client of its own until it is needed.
struct Held {
    pooler: Pooler,
    hosts: TwoHosts,
    /// Who holds the host of that place.
    holders: Vec<FakeClient>,
}

impl Held {
    async fn start(hosts: TwoHosts, workers: u32) -> Self {
        let pooler = trusting(workers)
            .database("app", &hosts.conn_info())
            .set("default_pool_size", 2)
            .start()
            .await;
        let mut holders = Vec::new();
        for _ in 0..2 {
            let mut holder = alice(&pooler).await;
            holder.query("BEGIN").await;
            holders.push(holder);
        }
        assert_eq!(hosts.connections(), [1, 1]);
        Self {
            pooler,
            hosts,
            holders,
        }
    }

    /// Has a client ask on that host, and nowhere else; returns what it is told.
    async fn ask(&mut self, host: usize, client: &mut FakeClient, sql: &str) -> Vec<Message> {
        self.let_go(host).await;
        let answer = client.query(sql).await;
        let console = self.pooler.console().await;
        eventually_async("a free server", async || {
            console.pool("app", "alice").await.number("sv_idle") == 1
        })
        .await;
        self.holders[host].query("BEGIN").await;
        answer
    }

    /// Has its holder let go of a host.
    async fn let_go(&mut self, host: usize) {
        self.holders[host].query("COMMIT").await;
    }

    /// All that a host was asked, but for what its holder said.
    async fn asked(&self, host: usize) -> Vec<String> {
        let connection = self.hosts.servers[host].connection(0).await;
        let mut asked = connection.queries();
        asked.retain(|sql| !["BEGIN", "COMMIT"].contains(&sql.as_str()));
        asked
    }
}

#[tokio::test]
async fn hosts_that_differ_in_what_nobody_may_set_serve_the_same_clients() {
    for workers in WORKERS {
        let version = |text| FakeServer::setup().parameter("other.version", text);
        let hosts = TwoHosts::of([version("7"), version("8")]).await;
        let mut scene = Held::start(hosts, workers).await;
        let mut client = alice(&scene.pooler).await;
        for (host, told) in [(0, None), (1, Some("8")), (1, None), (0, Some("7"))] {
            let answer = scene.ask(host, &mut client, "ASK").await;
            let news = told.map(|version| Message::parameter_status("other.version", version));
            assert_eq!(
                answer.first().filter(|first| first.tag == b'S'),
                news.as_ref()
            );
        }
        assert_eq!(scene.asked(0).await, ["ASK", "ASK"]);
        assert_eq!(scene.asked(1).await, ["ASK", "ASK"]);
    }
}

#[tokio::test]
async fn a_client_keeps_its_search_path_over_hosts_that_do_not_report_it() {
    for workers in WORKERS {
        let newer = FakeServer::setup().parameter("search_path", "public");
        let hosts = TwoHosts::of([newer, FakeServer::setup()]).await;
        let mut scene = Held::start(hosts, workers).await;
        let (mut mine, mut other) = (alice(&scene.pooler).await, alice(&scene.pooler).await);
        scene.ask(0, &mut mine, "SET search_path = mine").await;
        scene.ask(1, &mut mine, "ASK mine").await;
        scene.ask(1, &mut other, "ASK other").await;
        scene.ask(0, &mut other, "ASK other").await;
        scene.ask(0, &mut mine, "ASK mine").await;
        expect![[r#"
            [
                "SET search_path = mine",
                "SELECT pg_catalog.set_config('search_path','public',false);",
                "ASK other",
                "SELECT pg_catalog.set_config('search_path','mine',false);",
                "ASK mine",
                "SELECT pg_catalog.set_config('search_path','public',false);",
            ]
        "#]]
        .assert_debug_eq(&scene.asked(0).await);
        assert_eq!(scene.asked(1).await, ["ASK mine", "ASK other"]);
    }
}

#[tokio::test]
async fn a_client_that_was_told_of_no_search_path_gets_the_servers_own() {
    for workers in WORKERS {
        let newer = FakeServer::setup().parameter("search_path", "public");
        let hosts = TwoHosts::of([FakeServer::setup(), newer]).await;
        let mut scene = Held::start(hosts, workers).await;
        let (mut setter, mut other) = (alice(&scene.pooler).await, alice(&scene.pooler).await);
        scene.let_go(1).await;
        setter.query("SET search_path = mine").await;
        let answer = other.query("ASK other").await;
        let told = Message::parameter_status("search_path", "public");
        assert_eq!(answer.first(), Some(&told));
        expect![[r#"
            [
                "SET search_path = mine",
                "SELECT pg_catalog.set_config('search_path','public',false);",
                "ASK other",
            ]
        "#]]
        .assert_debug_eq(&scene.asked(1).await);
    }
}

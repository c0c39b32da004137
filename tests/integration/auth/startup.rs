//! The door before the login: encryption, protocol versions, startup parameters.

use std::fmt::Write;

use expect_test::expect;
use testkit::{FakeClient, FakeServer, Message, Pooler, PoolerSetup, Startup, startup_packet_of};

use crate::support::{pgusher, words};

fn trusting(fake: &FakeServer) -> PoolerSetup {
    pgusher(1)
        .database("shop", &fake.conn_info("shop"))
        .user("alice", "a")
        .set("auth_type", "trust")
}

/// How a login with these parameters goes: `in`, or the refusal.
async fn outcome_with(pooler: &Pooler, parameters: &[(&str, &str)]) -> String {
    let mut client = FakeClient::connect(&pooler.address()).await;
    client.startup(parameters).await;
    outcome(&mut client).await
}

async fn outcome(client: &mut FakeClient) -> String {
    let answer = client.read().await;
    if let Some(error) = answer.error_fields() {
        assert!(client.expect_closed().await.is_empty());
        return words(&error);
    }
    client.read_welcome().await;
    "in".to_owned()
}

#[tokio::test]
async fn encryption_is_declined_and_the_login_goes_on_over_the_same_socket() {
    let fake = FakeServer::start().await;
    let pooler = trusting(&fake).start().await;
    let console = pooler.console().await;
    let before = console.show_row("CLIENTS", "database", "pgbouncer").await;

    let mut client = FakeClient::connect(&pooler.address()).await;
    for request in [Startup::Gss, Startup::Tls] {
        client.send_raw(&request.encode()).await;
        assert_eq!(client.read_byte().await, Some(b'N'));
    }
    client
        .startup(&[("user", "alice"), ("database", "shop")])
        .await;
    assert_eq!(outcome(&mut client).await, "in");
    assert_eq!(client.query_value("SELECT 1").await, "1");
    let row = console.show_row("CLIENTS", "database", "shop").await;
    assert_eq!(row.number("id"), before.number("id") + 1);

    for request in [Startup::Gss, Startup::Tls] {
        let mut client = FakeClient::connect(&pooler.unix_address()).await;
        client.send_raw(&request.encode()).await;
        assert_eq!(client.read_byte().await, Some(b'N'));
    }
}

/// A startup packet of this minor version of protocol 3, with these parameters besides.
fn packet(minor: u16, user: &str, database: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let who = [("user", user), ("database", database)];
    startup_packet_of(minor, &[&who, more].concat())
}

#[tokio::test]
async fn negotiation_comes_before_the_question_for_a_password() {
    let fake = FakeServer::start().await;
    let setup = trusting(&fake).set("auth_type", "scram-sha-256");
    let pooler = setup.start().await;
    let mut client = FakeClient::connect(&pooler.address()).await;
    client.send_raw(&packet(3, "alice", "shop", &[])).await;
    assert_eq!(client.read().await.tag, b'v');
    client.answer_scram("a").await;
    assert_eq!(outcome(&mut client).await, "in");
}

#[tokio::test]
async fn startup_parameters_are_tracked_ignored_or_refused_by_name() {
    let fake = FakeServer::start().await;
    let setup = trusting(&fake).set("stats_users", "alice");
    let pooler = setup.start().await;
    let long = "x".repeat(128);
    let who = [("user", "alice"), ("database", "shop")];
    let cases: [&[(&str, &str)]; 12] = [
        &[who[0], who[1], ("application_name", "till")],
        &[
            who[0],
            who[1],
            ("datestyle", "ISO"),
            ("IntervalStyle", "iso_8601"),
        ],
        &[who[0], who[1], ("extra_float_digits", "3")],
        &[
            who[0],
            who[1],
            ("options", "-c datestyle=ISO --timezone=UTC"),
        ],
        &[who[0], who[1], ("options", "-c geqo=off")],
        &[who[0], who[1], ("options", "-d 5")],
        &[who[0], who[1], ("replication", "false")],
        &[("user", "alice"), ("database", "")],
        &[("database", "shop")],
        &[("user", ""), ("database", "shop")],
        &[("user", &long), ("database", "shop")],
        &[
            ("user", "alice"),
            ("database", "pgbouncer"),
            ("extra_float_digits", "3"),
        ],
    ];
    let mut table = String::new();
    for parameters in cases {
        let outcome = outcome_with(&pooler, parameters).await;
        let told: Vec<_> = parameters
            .iter()
            .filter(|pair| !who.contains(pair))
            .map(|(name, value)| format!("{name}={}", value.replace(&long, "xxx…")))
            .collect();
        writeln!(table, "{}: {outcome}", told.join(" ")).unwrap();
    }
    expect![[r#"
        application_name=till: in
        datestyle=ISO IntervalStyle=iso_8601: in
        extra_float_digits=3: FATAL 08P01 unsupported startup parameter: extra_float_digits
        options=-c datestyle=ISO --timezone=UTC: in
        options=-c geqo=off: FATAL 08P01 unsupported startup parameter in options: geqo
        options=-d 5: FATAL 08P01 unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed
        replication=false: in
        database=: FATAL 08P01 no such database: alice
        : FATAL 08P01 no username supplied
        user=: FATAL 08P01 no username supplied
        user=xxx…: FATAL 08P01 username too long
        database=pgbouncer extra_float_digits=3: in
    "#]]
    .assert_eq(&table);
}

#[tokio::test]
async fn ignored_startup_parameters_are_dropped_wherever_they_stand() {
    let fake = FakeServer::start().await;
    let pooler = trusting(&fake);
    let pooler = pooler.set("ignore_startup_parameters", "extra_float_digits, geqo");
    let pooler = pooler.start().await;
    let login = async |name, value| {
        let who = [("user", "alice"), ("database", "shop"), (name, value)];
        outcome_with(&pooler, &who).await
    };
    assert_eq!(login("extra_float_digits", "3").await, "in");
    assert_eq!(login("options", "-c geqo=off -c datestyle=ISO").await, "in");
    let refused = "FATAL 08P01 unsupported startup parameter in options: jit";
    assert_eq!(login("options", "-c geqo=off -c jit=off").await, refused);

    let console = pooler.console().await;
    console.run("SET ignore_startup_parameters = options").await;
    assert_eq!(login("options", "-c jit=off --timezone=UTC").await, "in");
    let refused = "FATAL 08P01 unsupported startup parameter: geqo";
    assert_eq!(login("geqo", "off").await, refused);
    // None of this ever reached a server.
    for connection in fake.connections() {
        let names: Vec<_> = connection.parameters.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["user", "database"]);
    }
}

#[tokio::test]
async fn a_startup_packet_may_be_longer_than_pkt_buf() {
    let fake = FakeServer::start().await;
    let pooler = trusting(&fake).set("pkt_buf", 512).start().await;
    let name = "n".repeat(5000);
    let mut client = FakeClient::connect(&pooler.address()).await;
    let packet = packet(0, "alice", "shop", &[("application_name", &name)]);
    client.send_bytewise(&packet).await;
    assert_eq!(outcome(&mut client).await, "in");
}

/// The welcome's messages before ReadyForQuery, cancel keys masked.
fn told(welcome: &[Message]) -> String {
    let mut lines = String::new();
    for message in welcome {
        let line = match message.tag {
            b'K' => "BackendKeyData …".to_owned(),
            _ => message.to_string(),
        };
        writeln!(lines, "{line}").unwrap();
    }
    lines
}

#[tokio::test]
async fn the_welcome_is_the_servers_with_the_clients_own_values_and_a_notice() {
    let fake = FakeServer::start().await;
    let setup = trusting(&fake);
    let pooler = setup
        .set("login_notify_message", "the till closes at ten")
        .start()
        .await;
    let mut client = FakeClient::connect(&pooler.address()).await;
    client
        .startup(&[
            ("user", "alice"),
            ("database", "shop"),
            ("application_name", "till"),
            ("timezone", "CET"),
        ])
        .await;
    client.read_auth_ok().await;
    let welcome = client.read_welcome().await;
    expect![[r#"
        ParameterStatus integer_datetimes=on
        ParameterStatus is_superuser=off
        ParameterStatus server_encoding=UTF8
        ParameterStatus server_version=15.0 (fake)
        ParameterStatus session_authorization=fake
        ParameterStatus DateStyle=ISO, MDY
        ParameterStatus client_encoding=UTF8
        ParameterStatus TimeZone=CET
        ParameterStatus standard_conforming_strings=on
        ParameterStatus application_name=till
        ParameterStatus IntervalStyle=postgres
        BackendKeyData …
        NoticeResponse NOTICE 00000: the till closes at ten
        ReadyForQuery idle
    "#]]
    .assert_eq(&told(&welcome));
}

#[tokio::test]
async fn application_names_carry_the_clients_address_if_asked_to() {
    let fake = FakeServer::start().await;
    let setup = trusting(&fake);
    let pooler = setup.set("application_name_add_host", 1).start().await;
    let console = pooler.console().await;
    let name = async |client: &FakeClient| {
        let _still_here = client;
        let row = console.show_row("CLIENTS", "database", "shop").await;
        (row["application_name"].to_owned(), row.number("port"))
    };
    for (named, shown) in [("till", "till"), ("", "app")] {
        let mut client = FakeClient::connect(&pooler.address()).await;
        let parameters = [
            ("user", "alice"),
            ("database", "shop"),
            ("application_name", named),
        ];
        client.startup(&parameters).await;
        assert_eq!(outcome(&mut client).await, "in");
        let (shown_name, port) = name(&client).await;
        assert_eq!(shown_name, format!("{shown} - 127.0.0.1:{port}"));
        client.close().await;
        testkit::eventually_async("the client to leave", async || {
            console.show("CLIENTS").await.len() == 1
        })
        .await;
    }
    let client = FakeClient::login_trust(&pooler.unix_address(), "alice", "shop").await;
    let (shown_name, port) = name(&client).await;
    let (pid, host) = (std::process::id(), nix::unistd::gethostname().unwrap());
    let host = host.to_string_lossy();
    assert_eq!(shown_name, format!("app - unix({pid}@{host}):{port}"));
}

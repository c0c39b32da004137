//! Tracked parameters: each client has its own, whichever server it gets.

mod reported;
mod spelling;

use expect_test::expect;
use testkit::{Ask, FakeClient, FakeServer, Message, Pooler, Step, transcript};

use crate::support::{
    WORKERS, alice, before, before_postgres, major_version, postgres, servers_opened,
};

/// Logs alice in with these parameters; returns her welcome too.
async fn alice_with(pooler: &Pooler, parameters: &[(&str, &str)]) -> (FakeClient, Vec<Message>) {
    let mut client = FakeClient::connect(&pooler.address()).await;
    let who = [("user", "alice"), ("database", "app")];
    client.startup(&[&who, parameters].concat()).await;
    client.read_auth_ok().await;
    let welcome = client.read_welcome().await;
    (client, welcome)
}

/// What SHOW tells for each of these parameters.
async fn shown<'a>(client: &mut FakeClient, names: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
    let mut values = Vec::new();
    for (name, _) in names {
        values.push((*name, client.query_value(&format!("SHOW {name}")).await));
    }
    values
}

fn owned<'a>(pairs: &[(&'a str, &str)]) -> Vec<(&'a str, String)> {
    pairs
        .iter()
        .map(|&(name, value)| (name, value.to_owned()))
        .collect()
}

/// Values as PostgreSQL spells them, of which none is the default.
const TOKYO: [(&str, &str); 7] = [
    ("application_name", "tokyo"),
    ("TimeZone", "Asia/Tokyo"),
    ("DateStyle", "SQL, DMY"),
    ("client_encoding", "LATIN1"),
    ("standard_conforming_strings", "off"),
    ("IntervalStyle", "iso_8601"),
    ("default_transaction_read_only", "on"),
];
const LIMA: [(&str, &str); 7] = [
    ("application_name", "lima"),
    ("TimeZone", "America/Lima"),
    ("DateStyle", "German, DMY"),
    ("client_encoding", "LATIN2"),
    ("standard_conforming_strings", "on"),
    ("IntervalStyle", "sql_standard"),
    ("default_transaction_read_only", "off"),
];

/// Clients that have one set of values, each come by them in another way.
async fn in_every_way(pooler: &Pooler, values: &[(&str, &str)]) -> Vec<FakeClient> {
    let (at_startup, _) = alice_with(pooler, values).await;
    let joined = |front: &str, back: &str| -> String {
        let setting = |(name, value): &(&str, &str)| {
            format!("{front}{name}={}{back}", value.replace(' ', "\\ "))
        };
        values.iter().map(setting).collect()
    };
    let (by_options, _) = alice_with(pooler, &[("options", &joined("-c ", " "))]).await;
    let (by_long_options, _) = alice_with(pooler, &[("options", &joined(" --", ""))]).await;
    let mut by_set = alice(pooler).await;
    for (name, value) in values {
        by_set.query(&format!("SET {name} = '{value}'")).await;
    }
    vec![at_startup, by_options, by_long_options, by_set]
}

#[tokio::test]
async fn a_server_that_changes_hands_takes_each_clients_parameters() {
    let postgres = postgres().await;
    let tells_path = major_version(&postgres).await >= 18;
    let with_path = |values: &[(&'static str, &'static str)], path| {
        let path = tells_path.then_some(("search_path", path));
        values.iter().copied().chain(path).collect::<Vec<_>>()
    };
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let default = alice(&pooler).await.query_value("SHOW TimeZone").await;
        let (tokyo, lima) = (with_path(&TOKYO, "tokyo"), with_path(&LIMA, "lima"));
        let in_tokyo = in_every_way(&pooler, &tokyo).await;
        let in_lima = in_every_way(&pooler, &lima).await;
        for (mut in_tokyo, mut in_lima) in in_tokyo.into_iter().zip(in_lima) {
            for _ in 0..2 {
                assert_eq!(shown(&mut in_tokyo, &tokyo).await, owned(&tokyo));
                assert_eq!(shown(&mut in_lima, &lima).await, owned(&lima));
            }
        }
        assert_eq!(
            alice(&pooler).await.query_value("SHOW TimeZone").await,
            default
        );
        assert_eq!(servers_opened(&pooler).await, 1);
    }
}

#[tokio::test]
async fn sessions_have_their_own_parameters_too() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .set("pool_mode", "session")
            .start()
            .await;
        for place in [TOKYO, LIMA, TOKYO] {
            let (mut client, _) = alice_with(&pooler, &place).await;
            assert_eq!(shown(&mut client, &place).await, owned(&place));
            client.query("SET TimeZone = 'Africa/Dakar'").await;
            client.close().await;
        }
        let (mut next, welcome) = alice_with(&pooler, &[]).await;
        let default = next.query_value("SHOW TimeZone").await;
        let told = Message::parameter_status("TimeZone", &default);
        assert!(welcome.contains(&told), "{}", transcript(&welcome));
    }
}

#[tokio::test]
async fn only_what_differs_is_set_and_in_one_query() {
    for workers in WORKERS {
        let server = FakeServer::start().await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        // Names and values are compared without case.
        let same = [
            ("timezone", "utc"),
            ("client_encoding", "utf8"),
            ("datestyle", "iso, mdy"),
        ];
        let (mut first, _) = alice_with(&pooler, &same).await;
        let mut second = alice(&pooler).await;
        let other = [
            ("timezone", "Asia/Tokyo"),
            ("DATESTYLE", "German"),
            ("client_encoding", "UTF8"),
        ];
        let (mut third, _) = alice_with(&pooler, &other).await;
        let (mut fourth, _) = alice_with(&pooler, &other).await;

        let clients = [&mut first, &mut second, &mut third, &mut fourth];
        for (number, client) in clients.into_iter().enumerate() {
            client.query(&format!("ASK {number}")).await;
            client.query(&format!("ASK {number} again")).await;
        }
        first.query("ASK at last").await;
        expect![[r#"
            [
                "ASK 0",
                "ASK 0 again",
                "ASK 1",
                "ASK 1 again",
                "SET DateStyle='German';SET TimeZone='Asia/Tokyo';",
                "ASK 2",
                "ASK 2 again",
                "ASK 3",
                "ASK 3 again",
                "SET DateStyle='ISO, MDY';SET TimeZone='UTC';",
                "ASK at last",
            ]
        "#]]
        .assert_debug_eq(&server.connection(0).await.queries());
    }
}

#[tokio::test]
async fn a_server_that_keeps_silent_about_a_set_is_not_asked_again() {
    for workers in WORKERS {
        let server = FakeServer::setup()
            .answer(async |ask: Ask| {
                let done = Step::Send(Message::command_complete("SET"));
                ask.sql.starts_with("SET ").then(|| vec![done])
            })
            .start()
            .await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut client, _) = alice_with(&pooler, &[("timezone", "Asia/Tokyo")]).await;
        client.query("ASK once").await;
        client.query("ASK again").await;
        let asked = server.connection(0).await.queries();
        assert_eq!(
            asked,
            ["SET TimeZone='Asia/Tokyo';", "ASK once", "ASK again"]
        );
    }
}

#[tokio::test]
async fn the_welcome_tells_untracked_parameters_first_and_the_clients_own_values() {
    for workers in WORKERS {
        let server = FakeServer::setup()
            .parameter("search_path", "public")
            .start()
            .await;
        let pooler = before(&server, workers)
            .set("default_pool_size", 1)
            .set("track_extra_parameters", "search_path, IntervalStyle")
            .set("login_notify_message", "hello")
            .start()
            .await;
        let own = [("application_name", "mine"), ("timezone", "Asia/Tokyo")];
        for _ in 0..2 {
            let (mut client, welcome) = alice_with(&pooler, &own).await;
            expect![[r#"
                < ParameterStatus integer_datetimes=on
                < ParameterStatus is_superuser=off
                < ParameterStatus server_encoding=UTF8
                < ParameterStatus server_version=15.0 (fake)
                < ParameterStatus session_authorization=fake
                < ParameterStatus DateStyle=ISO, MDY
                < ParameterStatus client_encoding=UTF8
                < ParameterStatus TimeZone=Asia/Tokyo
                < ParameterStatus standard_conforming_strings=on
                < ParameterStatus application_name=mine
                < ParameterStatus search_path=public
                < ParameterStatus IntervalStyle=postgres
                < BackendKeyData
                < NoticeResponse NOTICE 00000: hello
                < ReadyForQuery idle
            "#]]
            .assert_eq(&transcript(&welcome));
            // What one client sets is nobody else's welcome.
            client.query("SET DateStyle = 'German'").await;
        }
    }
}

#[tokio::test]
async fn a_parameter_that_the_server_refuses_ends_its_client_and_nobody_else() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 2)
            .start()
            .await;
        let mut bystander = alice(&pooler).await;
        bystander.query("BEGIN; CREATE TEMP TABLE mine ()").await;
        for round in 1..=3 {
            let (mut client, _) = alice_with(&pooler, &[("timezone", "Nowhere/At_All")]).await;
            client.send(Message::query("SELECT 1")).await;
            let error = client.expect_error().await;
            assert_eq!(error.to_string(), "FATAL 08P01: invalid server parameter");
            assert_eq!(client.expect_closed().await, []);
            // The client's line and the server's.
            pooler
                .wait_for_log_count("closing because: invalid server parameter", 2 * round)
                .await;
            assert_eq!(
                alice(&pooler).await.query_value("SELECT 'fine'").await,
                "fine"
            );
        }
        assert_eq!(
            bystander.query_value("SELECT count(*) FROM mine").await,
            "0"
        );
    }
}

#[tokio::test]
async fn a_set_that_is_undone_is_undone_for_the_client_too() {
    let undone = [
        "BEGIN; SET TimeZone = 'Asia/Tokyo'; ROLLBACK",
        "BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; COMMIT",
        "BEGIN; SET TimeZone = 'Asia/Tokyo'; SAVEPOINT s; SET TimeZone = 'UTC'; ROLLBACK",
        "SET TimeZone = 'Asia/Tokyo'; RESET TimeZone",
        "SET TimeZone = 'Asia/Tokyo'; DISCARD ALL",
    ];
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let mut other = alice(&pooler).await;
        other.query("SET TimeZone = 'America/Lima'").await;
        let mut client = alice(&pooler).await;
        let default = client.query_value("SHOW TimeZone").await;
        for script in undone {
            for statement in script.split("; ") {
                client.query(statement).await;
            }
            assert_eq!(
                other.query_value("SHOW TimeZone").await,
                "America/Lima",
                "{script}"
            );
            assert_eq!(
                client.query_value("SHOW TimeZone").await,
                default,
                "{script}"
            );
        }
    }
}

#[tokio::test]
async fn a_set_that_is_committed_stays_with_its_client() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let pooler = before_postgres(&postgres, workers)
            .set("default_pool_size", 1)
            .start()
            .await;
        let (mut client, mut other) = (alice(&pooler).await, alice(&pooler).await);
        client.query("BEGIN").await;
        client.query("SET TimeZone = 'Asia/Tokyo'").await;
        client.query("COMMIT").await;
        assert_ne!(other.query_value("SHOW TimeZone").await, "Asia/Tokyo");
        assert_eq!(client.query_value("SHOW TimeZone").await, "Asia/Tokyo");
        client
            .query("SELECT set_config('TimeZone', 'Africa/Dakar', false)")
            .await;
        assert_ne!(other.query_value("SHOW TimeZone").await, "Africa/Dakar");
        assert_eq!(client.query_value("SHOW TimeZone").await, "Africa/Dakar");
    }
}

//! How clients prove who they are, and what those hear who can't.

use std::fmt::Write;

use expect_test::expect;
use testkit::{
    Account, Address, FakeClient, FakeServer, Message, Pooler, PoolerSetup, client_program,
    md5_secret, scram_secret,
};

use crate::support::{outcome, outcome_over_unix, pgusher};

const AUTH_TYPES: [&str; 5] = ["scram-sha-256", "md5", "plain", "trust", "any"];

/// Users `plain`, `md5` and `scram`, named after the way in which their password `right` is
/// stored. The database has a user of its own, without which `any` lets nobody in.
fn door(fake: &FakeServer) -> PoolerSetup {
    pgusher(1)
        .database("shop", &format!("{} user=clerk", fake.conn_info("shop")))
        .user("plain", "right")
        .user("md5", &md5_secret("md5", "right"))
        .user("scram", &scram_secret("right"))
}

/// The number of the authentication request that a login gets, in words.
pub(super) async fn asked(address: &Address, user: &str, database: &str) -> &'static str {
    let mut client = FakeClient::connect(address).await;
    client
        .startup(&[("user", user), ("database", database)])
        .await;
    let answer = client.read().await;
    match (answer.tag, &answer.body[..]) {
        (b'R', [0, 0, 0, 0]) => "nothing",
        (b'R', [0, 0, 0, 3]) => "password",
        (b'R', [0, 0, 0, 5, _, _, _, _]) => "md5",
        (b'R', [0, 0, 0, 10, mechanisms @ ..]) if mechanisms == b"SCRAM-SHA-256\0\0" => "scram",
        (b'E', _) => "no more",
        _ => panic!("{answer}"),
    }
}

#[tokio::test]
async fn every_method_takes_the_secrets_that_it_can_check() {
    let fake = FakeServer::start().await;
    let pooler = door(&fake).start().await;
    let console = pooler.console().await;

    let mut table = String::new();
    for auth_type in AUTH_TYPES {
        console.run(&format!("SET auth_type = '{auth_type}'")).await;
        for user in ["plain", "md5", "scram", "nobody"] {
            let asked = asked(&pooler.address(), user, "shop").await;
            let right = outcome(&pooler, user, "right", "shop").await;
            let wrong = outcome(&pooler, user, "wrong", "shop").await;
            writeln!(
                table,
                "{auth_type} {user}: {asked}? right: {right}; wrong: {wrong}"
            )
            .unwrap();

            let over_unix = outcome_over_unix(&pooler, user, "right", "shop").await;
            assert_eq!(over_unix, right, "{auth_type} {user}, over the unix socket");
            let over_unix = outcome_over_unix(&pooler, user, "wrong", "shop").await;
            assert_eq!(over_unix, wrong, "{auth_type} {user}, over the unix socket");
        }
    }
    expect![[r#"
        scram-sha-256 plain: scram? right: in; wrong: FATAL 08P01 SASL authentication failed
        scram-sha-256 md5: scram? right: FATAL 08P01 SASL authentication failed; wrong: FATAL 08P01 SASL authentication failed
        scram-sha-256 scram: scram? right: in; wrong: FATAL 08P01 SASL authentication failed
        scram-sha-256 nobody: scram? right: FATAL 08P01 SASL authentication failed; wrong: FATAL 08P01 SASL authentication failed
        md5 plain: md5? right: in; wrong: FATAL 08P01 password authentication failed
        md5 md5: md5? right: in; wrong: FATAL 08P01 password authentication failed
        md5 scram: scram? right: in; wrong: FATAL 08P01 SASL authentication failed
        md5 nobody: md5? right: FATAL 08P01 password authentication failed; wrong: FATAL 08P01 password authentication failed
        plain plain: password? right: in; wrong: FATAL 08P01 password authentication failed
        plain md5: password? right: in; wrong: FATAL 08P01 password authentication failed
        plain scram: password? right: in; wrong: FATAL 08P01 password authentication failed
        plain nobody: password? right: FATAL 08P01 password authentication failed; wrong: FATAL 08P01 password authentication failed
        trust plain: nothing? right: in; wrong: in
        trust md5: nothing? right: in; wrong: in
        trust scram: nothing? right: in; wrong: in
        trust nobody: no more? right: FATAL 08P01 "trust" authentication failed; wrong: FATAL 08P01 "trust" authentication failed
        any plain: nothing? right: in; wrong: in
        any md5: nothing? right: in; wrong: in
        any scram: nothing? right: in; wrong: in
        any nobody: nothing? right: in; wrong: in
    "#]].assert_eq(&table);
}

#[tokio::test]
async fn only_a_right_password_learns_that_there_is_no_such_database() {
    let fake = FakeServer::start().await;
    let pooler = door(&fake).start().await;
    let console = pooler.console().await;

    let mut table = String::new();
    for auth_type in AUTH_TYPES {
        console.run(&format!("SET auth_type = '{auth_type}'")).await;
        for user in ["plain", "nobody"] {
            let asked = asked(&pooler.address(), user, "nowhere").await;
            let right = outcome(&pooler, user, "right", "nowhere").await;
            let wrong = outcome(&pooler, user, "wrong", "nowhere").await;
            writeln!(
                table,
                "{auth_type} {user}: {asked}? right: {right}; wrong: {wrong}"
            )
            .unwrap();
        }
    }
    expect![[r#"
        scram-sha-256 plain: scram? right: FATAL 08P01 no such database: nowhere; wrong: FATAL 08P01 SASL authentication failed
        scram-sha-256 nobody: scram? right: FATAL 08P01 SASL authentication failed; wrong: FATAL 08P01 SASL authentication failed
        md5 plain: md5? right: FATAL 08P01 no such database: nowhere; wrong: FATAL 08P01 password authentication failed
        md5 nobody: md5? right: FATAL 08P01 password authentication failed; wrong: FATAL 08P01 password authentication failed
        plain plain: password? right: FATAL 08P01 no such database: nowhere; wrong: FATAL 08P01 password authentication failed
        plain nobody: password? right: FATAL 08P01 password authentication failed; wrong: FATAL 08P01 password authentication failed
        trust plain: no more? right: FATAL 08P01 no such database: nowhere; wrong: FATAL 08P01 no such database: nowhere
        trust nobody: no more? right: FATAL 08P01 "trust" authentication failed; wrong: FATAL 08P01 "trust" authentication failed
        any plain: no more? right: FATAL 08P01 no such database: nowhere; wrong: FATAL 08P01 no such database: nowhere
        any nobody: no more? right: FATAL 08P01 no such database: nowhere; wrong: FATAL 08P01 no such database: nowhere
    "#]].assert_eq(&table);
}

/// Salt and iterations that a user is given, without the nonce that differs each time.
async fn scram_challenge(address: &Address, user: &str) -> String {
    let mut client = FakeClient::connect(address).await;
    client
        .startup(&[("user", user), ("database", "shop")])
        .await;
    client.read_auth(10).await;
    let first = Message::sasl_initial("SCRAM-SHA-256", b"n,,n=,r=aNonceOfOurs");
    client.send(first).await;
    let challenge = String::from_utf8(client.read_auth(11).await).unwrap();
    let (nonce, rest) = challenge.split_once(',').unwrap();
    assert!(nonce.starts_with("r=aNonceOfOurs"), "{challenge}");
    rest.to_owned()
}

#[tokio::test]
async fn an_unknown_user_gets_the_same_salt_every_time_as_a_known_one_does() {
    let fake = FakeServer::start().await;
    let pooler = door(&fake).set("scram_iterations", 5000).start().await;
    let address = pooler.address();
    for user in ["nobody", "plain", "md5", "scram"] {
        let first = scram_challenge(&address, user).await;
        assert_eq!(scram_challenge(&address, user).await, first, "{user}");
        // What is stored says itself how often it was hashed.
        let iterations = if user == "scram" { "i=4096" } else { "i=5000" };
        assert!(first.ends_with(iterations), "{user}: {first}");
    }
    let (nobody, no_one) = (
        scram_challenge(&address, "nobody").await,
        scram_challenge(&address, "no one").await,
    );
    assert_ne!(nobody, no_one);
}

#[tokio::test]
async fn a_password_may_have_65530_bytes_and_not_one_more() {
    let fake = FakeServer::start().await;
    let longest = "p".repeat(65_530);
    let too_long = format!("{longest}p");
    let pooler = door(&fake).user("long", &longest).start().await;
    let console = pooler.console().await;
    for (auth_type, refused) in [
        ("plain", "FATAL 08P01 password authentication failed"),
        ("scram-sha-256", "FATAL 08P01 SASL authentication failed"),
        ("md5", "FATAL 08P01 password authentication failed"),
    ] {
        console.run(&format!("SET auth_type = '{auth_type}'")).await;
        assert_eq!(outcome(&pooler, "long", &longest, "shop").await, "in");
        let told = outcome(&pooler, "long", &too_long, "shop").await;
        assert_eq!(told, refused, "{auth_type}");
    }
}

#[tokio::test]
async fn an_empty_password_is_called_that() {
    let fake = FakeServer::start().await;
    let pooler = door(&fake).set("auth_type", "plain").start().await;
    assert_eq!(
        outcome(&pooler, "plain", "", "shop").await,
        "FATAL 08P01 empty password returned by client"
    );
}

#[tokio::test]
async fn any_needs_a_database_with_a_user_of_its_own() {
    let fake = FakeServer::start().await;
    let pooler = door(&fake)
        .database("open", &fake.conn_info("open"))
        .set("auth_type", "any")
        .start()
        .await;
    let told = outcome(&pooler, "whoever", "", "open").await;
    assert_eq!(told, "FATAL 08P01 bouncer config error");
    assert_eq!(outcome(&pooler, "whoever", "", "shop").await, "in");
    assert_eq!(fake.connections()[0].parameter("user"), Some("clerk"));
}

/// Runs a console command with the real psql, as the account that runs the pooler.
fn psql_as_ourselves(pooler: &Pooler, user: &str) -> (bool, String) {
    let mut psql = Account::for_servers().command(client_program("psql"));
    psql.arg("-h").arg(pooler.dir());
    psql.args(["-p", &pooler.port().to_string(), "-U", user]);
    psql.args(["--no-password", "-X", "-At", "-d", "pgbouncer"]);
    psql.args(["-c", "SET query_timeout = 7"]);
    let output = psql.current_dir("/").output().expect("psql");
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both).into_owned();
    (output.status.success(), text)
}

/// Our own account is an administrator, whatever files say.
pub(super) fn the_console_is_ours(pooler: &Pooler) {
    let (done, said) = psql_as_ourselves(pooler, "pgbouncer");
    assert!(done, "{said}");
}

#[tokio::test]
async fn the_account_that_runs_us_is_admin_on_the_unix_socket_as_user_pgbouncer_only() {
    let pooler = pgusher(1).start().await;
    the_console_is_ours(&pooler);
    assert_eq!(pooler.console().await.setting("query_timeout").await, "7");

    let (done, said) = psql_as_ourselves(&pooler, "testkit_admin");
    assert!(!done && said.contains("no password supplied"), "{said}");

    assert_eq!(
        asked(&pooler.address(), "pgbouncer", "pgbouncer").await,
        "scram"
    );
    let ours = Account::for_servers().uid() == nix::unistd::getuid().as_raw();
    let over_unix = asked(&pooler.unix_address(), "pgbouncer", "pgbouncer").await;
    assert_eq!(over_unix, if ours { "nothing" } else { "scram" });
}

#[tokio::test]
async fn the_console_is_for_admins_and_for_those_who_may_look() {
    let setup = pgusher(1).user("alice", "a").user("vera", "v");
    let pooler = setup.set("stats_users", "vera").start().await;
    let console = |user: &'static str, password: &'static str| {
        let pooler = &pooler;
        async move { outcome(pooler, user, password, "pgbouncer").await }
    };
    assert_eq!(console("alice", "a").await, "FATAL 08P01 not allowed");
    let wrong = "FATAL 08P01 SASL authentication failed";
    assert_eq!(console("alice", "b").await, wrong);
    assert_eq!(console("vera", "v").await, "in");
    assert_eq!(console("nobody", "").await, wrong);

    pooler.console().await.run("SET auth_type = any").await;
    assert_eq!(console("nobody", "").await, "in");
    let guest = pooler.connect("nobody", "", "pgbouncer").await;
    let told = guest.simple_query("PAUSE").await.unwrap_err();
    assert_eq!(
        crate::support::refusal(&told),
        "ERROR 08P01 admin access needed"
    );
}

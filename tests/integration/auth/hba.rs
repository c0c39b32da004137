//! `auth_type = hba`: which line of the file is about whom, and what it makes of them.

use std::fmt::Write;

use expect_test::expect;
use testkit::{FakeClient, FakeServer, Pooler, PoolerSetup, md5_secret, scram_secret};

use super::clients::asked;
use crate::support::{
    WORKERS, before_postgres, outcome, outcome_over_unix, pgusher, postgres, refusal,
};

/// The administrator of the tests, who comes over TCP.
const ADMIN: &str = "host pgbouncer testkit_admin 127.0.0.1/32 scram-sha-256";

fn hba(setup: PoolerSetup, rules: &str) -> PoolerSetup {
    setup
        .set("auth_type", "hba")
        .set("auth_hba_file", "{dir}/hba.conf")
        .file("hba.conf", &format!("{ADMIN}\n{rules}\n"))
}

/// A database `shop` with a user of its own, so that every client who is let in has a server.
fn shop(fake: &FakeServer) -> PoolerSetup {
    pgusher(1).database("shop", &format!("{} user=clerk", fake.conn_info("shop")))
}

#[tokio::test]
async fn two_lines_let_one_user_in_and_keep_the_others_out() {
    let postgres = postgres().await;
    for workers in WORKERS {
        let setup = before_postgres(&postgres, workers);
        let rules = "host app alice 127.0.0.0/8 scram-sha-256\nhost app bob all reject";
        let pooler = hba(setup, rules).start().await;

        let address = pooler.address();
        let mut alice = FakeClient::login_scram(&address, "alice", "secret", "app").await;
        assert_eq!(alice.query_value("SELECT current_user").await, "alice");

        let told = outcome(&pooler, "alice", "wrong", "app").await;
        assert_eq!(told, "FATAL 08P01 SASL authentication failed");
        let told = outcome(&pooler, "bob", "secret", "app").await;
        assert_eq!(told, "FATAL 08P01 login rejected");
        let told = outcome(&pooler, "carol", "secret", "app").await;
        assert_eq!(told, "FATAL 08P01 no authentication method is found");
        let told = outcome_over_unix(&pooler, "alice", "secret", "app").await;
        assert_eq!(told, "FATAL 08P01 no authentication method is found");
    }
}

#[tokio::test]
async fn each_door_has_its_own_lines() {
    let rules = "
        # type     database  user         address        method
        local      shop      plain                       trust
        local      sameuser  scram                       trust
        local      all       md5                         md5
        local      all       all                         reject
        hostssl    all       all          all            trust
        hostnossl  shop      md5,scram    127.0.0.0 255.0.0.0  md5
        host       shop      plain        127.0.0.2/32   trust
        host       shop      plain        ::/0           trust
        host       shop      plain        127.0.0.1/32   password
        host       @shops    nobody       all            trust
        host       \"all\"     all          all            trust
        host       shop      known        all            peer
        host       shop      certified    all            cert
    ";
    let fake = FakeServer::start().await;
    let pooler = hba(shop(&fake), rules)
        .database("scram", &format!("{} user=clerk", fake.conn_info("scram")))
        .user("plain", "right")
        .user("known", "right")
        .user("certified", "right")
        .user("md5", &md5_secret("md5", "right"))
        .user("scram", &scram_secret("right"))
        .file("shops", "hr,\nshop # and no other")
        .start()
        .await;

    let mut table = String::new();
    for (user, database) in [
        ("plain", "shop"),
        ("md5", "shop"),
        ("scram", "shop"),
        ("scram", "scram"),
        ("nobody", "shop"),
        ("known", "shop"),
        ("certified", "shop"),
    ] {
        let over_tcp = asked(&pooler.address(), user, database).await;
        let tcp = outcome(&pooler, user, "right", database).await;
        let over_unix = asked(&pooler.unix_address(), user, database).await;
        let unix = outcome_over_unix(&pooler, user, "right", database).await;
        writeln!(table, "{user} to {database}: tcp {over_tcp}? {tcp}").unwrap();
        writeln!(table, "  unix {over_unix}? {unix}").unwrap();
    }
    expect![[r#"
        plain to shop: tcp password? in
          unix nothing? in
        md5 to shop: tcp md5? in
          unix md5? in
        scram to shop: tcp scram? in
          unix no more? FATAL 08P01 login rejected
        scram to scram: tcp no more? FATAL 08P01 no authentication method is found
          unix nothing? in
        nobody to shop: tcp no more? FATAL 08P01 "trust" authentication failed
          unix no more? FATAL 08P01 login rejected
        known to shop: tcp no more? FATAL 08P01 unix socket login rejected
          unix no more? FATAL 08P01 login rejected
        certified to shop: tcp no more? FATAL 08P01 certificate authentication failed
          unix no more? FATAL 08P01 login rejected
    "#]]
    .assert_eq(&table);
}

#[tokio::test]
async fn what_does_not_exist_is_told_only_behind_the_door() {
    let fake = FakeServer::start().await;
    let rules = "host shop,nowhere plain all password";
    let pooler = hba(shop(&fake), rules).user("plain", "right").start().await;
    for (user, password, database, told) in [
        ("plain", "right", "nowhere", "no such database: nowhere"),
        (
            "plain",
            "wrong",
            "nowhere",
            "password authentication failed",
        ),
        (
            "plain",
            "right",
            "elsewhere",
            "no authentication method is found",
        ),
        (
            "nobody",
            "right",
            "shop",
            "no authentication method is found",
        ),
    ] {
        let heard = outcome(&pooler, user, password, database).await;
        assert_eq!(heard, format!("FATAL 08P01 {told}"));
    }
}

#[tokio::test]
async fn reload_reads_the_files_again() {
    let fake = FakeServer::start().await;
    let setup = shop(&fake).user("alice", "right").user("bob", "right");
    let mut pooler = hba(setup, "host shop alice all trust").start().await;
    let refused = "FATAL 08P01 no authentication method is found";
    assert_eq!(outcome(&pooler, "bob", "", "shop").await, refused);

    pooler.rewrite(|setup| hba(setup, "host shop bob all trust"));
    // Written is not yet read, not even by a SET of something else.
    let console = pooler.console().await;
    console.run("SET query_timeout = 7").await;
    assert_eq!(outcome(&pooler, "bob", "", "shop").await, refused);

    console.run("RELOAD").await;
    assert_eq!(outcome(&pooler, "bob", "", "shop").await, "in");
    assert_eq!(outcome(&pooler, "alice", "", "shop").await, refused);

    // A file that is gone changes nothing at all.
    std::fs::remove_file(pooler.dir().join("hba.conf")).unwrap();
    let told = console.try_run("RELOAD").await.unwrap_err();
    assert!(refusal(&told).starts_with("ERROR F0000 RELOAD failed"));
    let line = pooler.wait_for_log("auth_hba_file").await;
    assert!(line.ends_with("hba.conf: No such file or directory (os error 2)"));
    assert_eq!(outcome(&pooler, "bob", "", "shop").await, "in");
}

#[tokio::test]
async fn a_bad_line_is_skipped_and_named_in_the_log() {
    let fake = FakeServer::start().await;
    let rules = "
        host shop alice localhost trust
        host shop +staff all trust
        host shop bob all trust clientcert=1
        host shop alice all password
    ";
    let setup = shop(&fake).user("alice", "right").user("bob", "right");
    let ident = "\n# nothing but\nbroken\n";
    let setup = setup.set("auth_ident_file", "{dir}/ident.conf");
    let setup = hba(setup, rules).file("ident.conf", ident);
    let checked = setup.clone().arg("--check").run_to_exit().await;
    assert!(checked.status.success());
    assert_eq!(checked.log.matches("the line is skipped").count(), 4);

    let pooler = setup.start().await;
    assert_eq!(outcome(&pooler, "alice", "right", "shop").await, "in");
    let told = outcome(&pooler, "bob", "", "shop").await;
    assert_eq!(told, "FATAL 08P01 no authentication method is found");
    pooler.wait_for_log_count("the line is skipped", 4).await;
    expect![[r#"
        ident.conf: line 3: expected a map, a system user and a database user; the line is skipped
        hba.conf: line 3: "localhost" is no address: expected all, an address with /bits, or an address and a mask; the line is skipped
        hba.conf: line 4: "+staff" is not supported; the line is skipped
        hba.conf: line 5: option "clientcert" is not supported here; the line is skipped
    "#]]
    .assert_eq(&skipped(&pooler));
}

/// What the log says about skipped lines, files named as in their directory.
fn skipped(pooler: &Pooler) -> String {
    let dir = format!("{}/", pooler.dir().display());
    let log = pooler.log();
    let lines = log
        .lines()
        .filter(|line| line.ends_with("the line is skipped"));
    let told = lines.filter_map(|line| Some(format!("{}\n", line.split_once(&dir)?.1)));
    told.collect()
}

#[tokio::test]
async fn set_takes_effect_at_once() {
    let fake = FakeServer::start().await;
    let pooler = shop(&fake)
        .user("alice", "right")
        .file("one", &format!("{ADMIN}\nhost shop all all trust"))
        .file("other", &format!("{ADMIN}\nhost shop all all reject\noops"))
        .start()
        .await;
    let console = pooler.console().await;
    let set = async |key: &str, file: &str| {
        let value = pooler.dir().join(file).display().to_string();
        console.run(&format!("SET {key} = '{value}'")).await;
    };
    let scram = "FATAL 08P01 SASL authentication failed";
    assert_eq!(outcome(&pooler, "alice", "wrong", "shop").await, scram);

    set("auth_hba_file", "one").await;
    console.run("SET auth_type = hba").await;
    assert_eq!(outcome(&pooler, "alice", "wrong", "shop").await, "in");

    set("auth_hba_file", "other").await;
    let told = outcome(&pooler, "alice", "wrong", "shop").await;
    assert_eq!(told, "FATAL 08P01 login rejected");
    pooler
        .wait_for_log("other: line 3: \"oops\" is no type")
        .await;

    let told = console.try_run("SET auth_hba_file = '/nowhere'").await;
    assert_eq!(refusal(&told.unwrap_err()), "ERROR 08P01 SET failed");
    console.run("SET auth_type = 'scram-sha-256'").await;
    assert_eq!(outcome(&pooler, "alice", "wrong", "shop").await, scram);
}

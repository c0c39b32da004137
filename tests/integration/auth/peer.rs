//! `peer`: clients on the unix socket whose account vouches for them.

use nix::unistd::{User, getuid};
use testkit::{FakeServer, PoolerSetup};

use crate::support::{outcome, outcome_over_unix, pgusher};

const REJECTED: &str = "FATAL 08P01 unix socket login rejected";

/// The account that this test runs as.
fn account() -> String {
    User::from_uid(getuid()).unwrap().unwrap().name
}

/// A pooler whose unix socket asks the kernel, with these name maps.
fn door(fake: &FakeServer, rules: &str, ident: &str) -> PoolerSetup {
    pgusher(1)
        .database("shop", &format!("{} user=clerk", fake.conn_info("shop")))
        .user("alice", "right")
        .user("bob", "right")
        .user(&account(), "right")
        .set("auth_type", "hba")
        .set("auth_hba_file", "{dir}/hba.conf")
        .set("auth_ident_file", "{dir}/ident.conf")
        .file("hba.conf", rules)
        .file("ident.conf", ident)
}

const CONSOLE: &str = "host pgbouncer testkit_admin all scram-sha-256";

#[tokio::test]
async fn an_account_is_its_namesake_and_nobody_else() {
    let fake = FakeServer::start().await;
    let rules = format!("{CONSOLE}\nlocal all all peer\nhost all all all peer");
    let pooler = door(&fake, &rules, "").start().await;
    let me = account();
    assert_eq!(outcome_over_unix(&pooler, &me, "", "shop").await, "in");
    assert_eq!(
        outcome_over_unix(&pooler, "alice", "", "shop").await,
        REJECTED
    );
    // TCP says nothing about accounts.
    assert_eq!(outcome(&pooler, &me, "", "shop").await, REJECTED);
    // The password does not help.
    let told = outcome_over_unix(&pooler, "alice", "right", "shop").await;
    assert_eq!(told, REJECTED);
}

#[tokio::test]
async fn a_map_says_who_an_account_may_be() {
    let fake = FakeServer::start().await;
    let rules = format!(
        "{CONSOLE}
        local all alice,bob,nobody peer map=staff
        local all all              peer map=gone"
    );
    let me = account();
    let ident = format!("staff \"{me}\" alice\nstaff someone_else bob\nstaff \"{me}\" nobody\n");
    let mut pooler = door(&fake, &rules, &ident).start().await;
    let login = async |user: &str| outcome_over_unix(&pooler, user, "", "shop").await;
    assert_eq!(login("alice").await, "in");
    assert_eq!(login("bob").await, REJECTED);
    // A map does not make users: no file knows this one.
    assert_eq!(login("nobody").await, REJECTED);
    // Nobody wrote that map, and the log says so.
    assert_eq!(login(&me).await, REJECTED);
    pooler
        .wait_for_log("no line of auth_ident_file is about map=gone")
        .await;

    let all = format!("staff \"{me}\" all\n");
    pooler.reload(|setup| setup.file("ident.conf", &all)).await;
    let login = async |user: &str| outcome_over_unix(&pooler, user, "", "shop").await;
    assert_eq!(login("bob").await, "in");
    assert_eq!(login("nobody").await, REJECTED);
}

#[tokio::test]
async fn the_console_asks_as_the_lines_say_but_for_our_own_account() {
    let fake = FakeServer::start().await;
    let rules = format!("{CONSOLE}\nlocal pgbouncer alice trust\nlocal all all reject");
    let pooler = door(&fake, &rules, "");
    let pooler = pooler.set("stats_users", "alice").start().await;
    let told = outcome_over_unix(&pooler, "alice", "", "pgbouncer").await;
    assert_eq!(told, "in");
    let told = outcome_over_unix(&pooler, "testkit_admin", "testkit_admin", "pgbouncer").await;
    assert_eq!(told, "FATAL 08P01 login rejected");
    super::clients::the_console_is_ours(&pooler);
}

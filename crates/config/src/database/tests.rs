use expect_test::expect;

use super::*;
use crate::host::SocketDir;
use crate::{peer, user};

fn database(text: &str) -> Database {
    Database::parse("app", text).unwrap()
}

#[test]
fn an_empty_string_is_the_database_of_that_name_behind_the_local_socket() {
    let app = database("");

    assert_eq!(app, Database::new("app"));
    assert_eq!((app.dbname(), app.hosts.len(), app.port), ("app", 0, 5432));
    assert_eq!(app.pool_user("alice"), "alice");
}

#[test]
fn every_key_of_the_lists_is_known_and_every_other_is_not() {
    for key in KEYS {
        let value = match *key {
            "pool_mode" => "session",
            "load_balance_hosts" => "disable",
            _ => "1",
        };
        Database::parse("app", &format!("{key}={value}")).unwrap();
    }
    for key in user::KEYS {
        let value = if *key == "pool_mode" { "session" } else { "1" };
        user::User::parse("bob", &format!("{key}={value}")).unwrap();
    }
}

#[test]
fn hosts_are_a_list_of_names_addresses_and_socket_directories() {
    let app = database("host=db1,10.0.0.2,/run/pg user=shop port=6000 load_balance_hosts=Disable");

    assert_eq!(app.hosts.len(), 3);
    assert_eq!(
        app.hosts[2],
        Host::Unix(SocketDir::Directory("/run/pg".into()))
    );
    assert_eq!(app.load_balance_hosts, LoadBalanceHosts::Disable);
    assert_eq!(app.pool_user("alice"), "shop");
}

#[test]
fn sizes_below_0_and_limits_of_0_are_left_to_the_wider_setting() {
    let app = database("pool_size=-1 min_pool_size=0 max_db_connections=0 server_lifetime=0");

    assert_eq!(app.pool_size, None);
    assert_eq!(app.min_pool_size, Some(0));
    assert_eq!(app.max_db_connections, None);
    assert_eq!(app.server_lifetime, None);
    assert_eq!(
        database("query_wait_timeout=0").query_wait_timeout,
        Some(Duration::ZERO)
    );
    assert_eq!(database("reserve_pool=3").reserve_pool_size, Some(3));
}

#[test]
fn an_auto_database_is_the_template_under_its_own_name() {
    let template = Database::parse("*", "host=db pool_size=3").unwrap();
    let fixed = Database::parse("*", "host=db dbname=main").unwrap();

    let app = template.for_auto("app");

    assert_eq!(
        (app.name.as_str(), app.dbname(), app.pool_size),
        ("app", "app", Some(3))
    );
    assert!(app.auto);
    assert_eq!(fixed.for_auto("app").dbname(), "main");
}

#[test]
fn startup_parameters_are_those_that_were_given() {
    let app = database("client_encoding=UTF8 timezone='Europe/Paris'");

    let parameters: Vec<_> = app.startup_parameters().collect();
    assert_eq!(
        parameters,
        [("client_encoding", "UTF8"), ("timezone", "Europe/Paris")]
    );
}

#[test]
fn a_refused_entry_says_which_key_and_why() {
    let refusals: Vec<_> = [
        "host=db:5432",
        "port=0",
        "port=54x2",
        "pool_size=many",
        "pool_size=99999999999",
        "pool_mode=fast",
        "pool_sise=3",
        "sslmode=require",
        "auth_dbname=pgbouncer",
        "query_wait_timeout=-1",
        "password=two hunter2=x",
        "password=two prot=1",
    ]
    .iter()
    .map(|text| Database::parse("app", text).unwrap_err())
    .map(|error| format!("{}: {}", error.key, error.problem))
    .collect();

    expect![[r#"
        host: expected a host name, an IPv4 or IPv6 address, /directory or @name (the port goes into port=), got "db:5432"
        port: expected a port from 1 to 65535, got "0"
        port: expected a whole number, got "54x2"
        pool_size: expected a whole number, got "many"
        pool_size: expected a whole number, got "99999999999"
        pool_mode: expected session, transaction or statement, got "fast"
        pool_sise: unknown key, did you mean pool_size?
        sslmode: unknown key
        auth_dbname: expected a database name (cannot use the reserved "pgbouncer" database as an auth_dbname), got "pgbouncer"
        query_wait_timeout: expected a number of seconds, 0 or more, without a unit, got "-1"
        password: expected quotes round a value with blanks
        prot: unknown key, did you mean port?"#]].assert_eq(&refusals.join("\n"));
}

#[test]
fn a_peer_has_a_host_and_pgbouncers_port() {
    let peer = peer::Peer::parse(3, "host=/tmp/third").unwrap();

    assert_eq!((peer.port, peer.pool_size), (6432, None));
    assert!(peer::Peer::parse(3, "port=6432").is_err());
    assert_eq!(peer::Peer::parse_id("0"), None);
}

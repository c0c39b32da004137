use super::*;

const INI: &str = "\
[databases]
app = pool_size=10 pool_mode=statement min_pool_size=4 server_lifetime=60 query_wait_timeout=7
plain =

[users]
alice = pool_size=3 pool_mode=session reserve_pool_size=1 query_timeout=5 max_user_connections=8
carol = pool_size=0 query_wait_timeout=0 client_idle_timeout=9 max_user_client_connections=2

[pgbouncer]
pool_mode = transaction
default_pool_size = 20
min_pool_size = 2
max_db_connections = 50
max_user_client_connections = 6
query_timeout = 30
query_wait_timeout = 120
";

fn config(text: &str) -> Config {
    let read = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    Config::from_text("x.ini", text, [], read).unwrap()
}

fn pool(database: &str, user: &str) -> PoolSettings {
    let config = config(INI);
    config.pool_settings(&config.database(database).unwrap(), user)
}

fn client(database: &str, user: &str) -> ClientSettings {
    let config = config(INI);
    config.client_settings(&config.database(database).unwrap(), user)
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn the_user_wins_over_the_database_and_the_database_over_the_rest() {
    let modes = [
        pool("app", "alice"),
        pool("app", "bob"),
        pool("plain", "bob"),
    ];

    assert_eq!(
        modes.each_ref().map(|pool| pool.pool_mode),
        [
            PoolMode::Session,
            PoolMode::Statement,
            PoolMode::Transaction
        ]
    );
    assert_eq!(
        modes.each_ref().map(|pool| pool.pool_size),
        [Some(3), Some(10), Some(20)]
    );
    assert_eq!(
        modes.each_ref().map(|pool| pool.query_timeout),
        [seconds(5), seconds(30), seconds(30)]
    );
    assert_eq!(
        modes.each_ref().map(|pool| pool.reserve_pool_size),
        [1, 0, 0]
    );
    assert_eq!(
        modes.each_ref().map(|pool| pool.max_user_connections),
        [Some(8), None, None]
    );
}

#[test]
fn a_pool_size_of_0_is_no_limit() {
    assert_eq!(pool("app", "carol").pool_size, None);
    assert_eq!(pool("app", "carol").min_pool_size, 4);
}

#[test]
fn the_servers_kept_ready_are_never_more_than_the_pool_holds() {
    assert_eq!(pool("app", "alice").min_pool_size, 3);
    assert_eq!(pool("plain", "bob").min_pool_size, 2);
}

#[test]
fn a_database_without_a_lifetime_takes_the_global_one() {
    assert_eq!(pool("app", "bob").server_lifetime, Duration::from_secs(60));
    assert_eq!(
        pool("plain", "bob").server_lifetime,
        Duration::from_secs(3600)
    );
    assert_eq!(pool("plain", "bob").max_db_connections, Some(50));
}

#[test]
fn a_user_can_be_allowed_to_wait_forever() {
    let waits = [
        client("app", "carol"),
        client("app", "bob"),
        client("plain", "bob"),
    ];

    assert_eq!(
        waits.each_ref().map(|client| client.query_wait_timeout),
        [None, seconds(7), seconds(120)]
    );
    assert_eq!(waits[0].client_idle_timeout, seconds(9));
    assert_eq!(
        waits
            .each_ref()
            .map(|client| client.max_user_client_connections),
        [Some(2), Some(6), Some(6)]
    );
}

#[test]
fn servers_are_reset_in_session_pooling_or_always_if_asked() {
    let reset = |ini: &str, mode: &str| {
        let config = config(&format!(
            "[pgbouncer]\npool_mode = {mode}\n{ini}\n[databases]\na ="
        ));
        config
            .pool_settings(&config.database("a").unwrap(), "bob")
            .reset_query
    };

    assert_eq!(reset("", "session").as_deref(), Some("DISCARD ALL"));
    assert_eq!(reset("", "transaction"), None);
    assert_eq!(
        reset("server_reset_query_always = 1", "statement").as_deref(),
        Some("DISCARD ALL")
    );
    assert_eq!(reset("server_reset_query =", "session"), None);
}

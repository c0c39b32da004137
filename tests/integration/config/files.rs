//! What the pooler reads: ini files as they are found in the wild, includes, the environment.

use testkit::{FakeServer, Pooler, PoolerSetup, Signal};

use crate::support::{outcome, pgusher};

/// As Debian's package installs it, without its comments.
const DEBIAN: &str = "\
[databases]

[users]

[pgbouncer]
logfile = /var/log/postgresql/pgbouncer.log
pidfile = /var/run/postgresql/pgbouncer.pid
listen_addr = localhost
listen_port = 6432
unix_socket_dir = /var/run/postgresql
auth_type = md5
auth_file = /etc/pgbouncer/userlist.txt
";

/// As edoburu's image writes it at its first start.
const EDOBURU: &str = "\
################## Auto generated ##################
[databases]
* = host=postgres port=5432 auth_user=postgres
app = host=postgres port=5432 auth_user=app client_encoding=UTF8

[pgbouncer]
listen_addr = 0.0.0.0
listen_port = 5432
unix_socket_dir =
user = postgres
auth_file = /etc/pgbouncer/userlist.txt
auth_type = scram-sha-256
pool_mode = transaction
max_client_conn = 1000
ignore_startup_parameters = extra_float_digits

# Log settings
admin_users = postgres
################## end file ##################
";

/// The file as it is, led by the environment to where a test may listen, read and write.
fn led_by_environment(ini: &str) -> PoolerSetup {
    let setup = pgusher(1).ini(ini).user("alice", "a").user("postgres", "p");
    [
        ("LISTEN_ADDR", "127.0.0.1"),
        ("LISTEN_PORT", "{port}"),
        ("UNIX_SOCKET_DIR", "{dir}"),
        ("AUTH_FILE", "{dir}/userlist.txt"),
        ("PIDFILE", "{dir}/pooler.pid"),
        ("LOGFILE", "{dir}/pooler.log"),
        ("USER", ""),
        ("ADMIN_USERS", "testkit_admin"),
    ]
    .into_iter()
    .fold(setup, |setup, (key, value)| {
        setup.env(&format!("PGUSHER_{key}"), value)
    })
}

#[tokio::test]
async fn the_files_that_people_have_run() {
    let fake = FakeServer::start().await;
    for (ini, pool_mode) in [
        (DEBIAN, "session"),
        (EDOBURU, "transaction"),
        (include_str!("../../../etc/pgusher.ini"), "transaction"),
    ] {
        let ini = ini
            .replace("host=postgres port=5432", "host=127.0.0.1 port=5432")
            .replace("port=5432", &format!("port={}", fake.port()));
        let pooler = led_by_environment(&ini).start().await;
        let console = pooler.console().await;
        assert_eq!(console.setting("pool_mode").await, pool_mode);
        let told = outcome(&pooler, "alice", "a", "app").await;
        let expected = match ini.contains("* =") {
            true => "in",
            false => "FATAL 08P01 no such database: app",
        };
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn a_file_that_spells_out_every_default_runs_as_one_that_says_nothing() {
    let pooler = pgusher(1).start().await;
    let console = pooler.console().await;
    let config = console.show("CONFIG").await;
    let mut setup = pgusher(1);
    for row in &config {
        let ours = [
            "listen_addr",
            "listen_port",
            "unix_socket_dir",
            "auth_type",
            "auth_file",
            "admin_users",
            "tcp_defer_accept",
        ];
        let ours = ours.contains(&&row["key"]);
        if let (Some(default), false) = (row.get("default"), ours) {
            setup = setup.set(&row["key"], default);
        }
    }
    let spelled_out = setup.set("workers", 1).start().await;
    let console = spelled_out.console().await;
    for (row, same) in config.iter().zip(console.show("CONFIG").await) {
        let names_its_own_place = ["auth_file", "conffile", "listen_port", "unix_socket_dir"];
        if !names_its_own_place.contains(&&row["key"]) {
            assert_eq!(*row, same);
        }
    }
    assert_eq!(spelled_out.log_count("do not act yet"), 0);
}

#[tokio::test]
async fn what_does_not_act_yet_is_named_once_at_the_start() {
    let fake = FakeServer::start().await;
    let pooler = pgusher(1)
        .database("shop", &fake.conn_info("shop"))
        .set("pkt_buf", 2048)
        .set("sbuf_loopcnt", 20)
        .set("max_prepared_statements", 200)
        .start()
        .await;
    let line = pooler.wait_for_log("do not act yet").await;
    let (_, keys) = line.split_once("do not act yet: ").unwrap();
    assert_eq!(keys, "pkt_buf, sbuf_loopcnt");
    assert!(line.contains("WARNING"), "{line}");
    pooler.wait_for_log("process up").await;
    assert_eq!(pooler.log_count("do not act yet"), 1);
}

#[tokio::test]
async fn the_environment_wins_over_the_file_also_after_a_reload() {
    let mut pooler = pgusher(1)
        .set("default_pool_size", 7)
        .env("PGUSHER_DEFAULT_POOL_SIZE", "8")
        .env("PGUSHER_POOL_MODE", "Transaction")
        .env("PGUSHER_PORT", "tcp://10.0.0.1:6432")
        .env("PGUSHER_MAX_CLIENT_CON", "5")
        .env("PGUSHER_MIN_POOL_SIZE", "many")
        .start()
        .await;
    let settings = async |pooler: &Pooler| {
        let console = pooler.console().await;
        let sizes = (
            console.setting("default_pool_size").await,
            console.setting("min_pool_size").await,
        );
        (sizes.0, sizes.1, console.setting("pool_mode").await)
    };
    let expected = ("8".to_owned(), "0".to_owned(), "transaction".to_owned());
    assert_eq!(settings(&pooler).await, expected);
    for complaint in [
        "WARNING environment: PGUSHER_PORT: unknown key",
        "WARNING environment: PGUSHER_MAX_CLIENT_CON: unknown key, did you mean max_client_conn?",
        "WARNING environment: PGUSHER_MIN_POOL_SIZE: expected a whole number, 0 or more, got \"many\"",
    ] {
        pooler.wait_for_log(complaint).await;
    }
    pooler
        .reload(|setup| setup.set("default_pool_size", 9).set("min_pool_size", 1))
        .await;
    let expected = ("8".to_owned(), "1".to_owned(), "transaction".to_owned());
    assert_eq!(settings(&pooler).await, expected);
}

#[tokio::test]
async fn includes_are_read_from_the_working_directory_wherever_a_line_may_start() {
    let fake = FakeServer::start().await;
    let databases = format!("[databases]\nshop = {}\n", fake.conn_info("shop"));
    let mut pooler = pgusher(1)
        .user("alice", "a")
        // The section that the file leaves open is the one that goes on.
        .file("databases.ini", &databases)
        .file("sizes.ini", "default_pool_size = 3\n%include more.ini\n")
        .file("more.ini", "min_pool_size = 2\n")
        .set("%include sizes.ini\nmax_client_conn", 50)
        .section("%include databases.ini\n")
        .start()
        .await;
    let console = pooler.console().await;
    assert_eq!(console.setting("default_pool_size").await, "3");
    assert_eq!(console.setting("min_pool_size").await, "2");
    assert_eq!(outcome(&pooler, "alice", "a", "shop").await, "in");
    pooler
        .reload(|setup| setup.file("more.ini", "min_pool_size = 4\n"))
        .await;
    assert_eq!(console.setting("min_pool_size").await, "4");
}

#[tokio::test]
async fn a_userlist_counts_up_to_its_first_broken_line_which_the_log_names() {
    let fake = FakeServer::start().await;
    let pooler = pgusher(1)
        .database("shop", &fake.conn_info("shop"))
        .file(
            "userlist.txt",
            "; who may come in\n\"al\"\"ice\" \"a\" and more\n\nbob \"b\"\n\"carol\" \"c\"\n",
        )
        .start()
        .await;
    assert_eq!(outcome(&pooler, "al\"ice", "a", "shop").await, "in");
    let refused = "FATAL 08P01 SASL authentication failed";
    assert_eq!(outcome(&pooler, "bob", "b", "shop").await, refused);
    assert_eq!(outcome(&pooler, "carol", "c", "shop").await, refused);
    pooler
        .wait_for_log("userlist.txt: line 4: broken auth file")
        .await;
}

#[tokio::test]
async fn lines_that_are_switched_off_are_not_written() {
    let fake = FakeServer::start().await;
    for off in ["log_connections", "log_disconnections", "log_pooler_errors"] {
        let mut pooler = pgusher(1)
            .database("shop", &fake.conn_info("shop"))
            .user("alice", "a")
            .set(off, 0)
            .start()
            .await;
        let refused = "FATAL 08P01 SASL authentication failed";
        assert_eq!(outcome(&pooler, "alice", "wrong", "shop").await, refused);
        pooler.signal(Signal::SIGQUIT);
        pooler.wait_exit().await;
        // The log comes through a pipe: once this line is there, so are all before it.
        pooler.wait_for_log("got SIGQUIT").await;

        let log = pooler.log();
        let said = |text: &str| {
            log.lines()
                .any(|line| line.contains("shop") && line.contains(text))
        };
        let expected = |setting: &str| setting != off;
        assert_eq!(said("login attempt"), expected("log_connections"), "{off}");
        assert_eq!(
            said("closing because"),
            expected("log_disconnections"),
            "{off}"
        );
        assert_eq!(said("pooler error"), expected("log_pooler_errors"), "{off}");
    }
}

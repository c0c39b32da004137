use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::{AuthType, Host, Password, PoolMode, Workers, not_yet};

fn no_files(_: &Path) -> io::Result<String> {
    Err(io::ErrorKind::NotFound.into())
}

fn with_environment(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter();
    let environment = environment.map(|(name, value)| (name.to_string(), value.to_string()));
    Config::from_text("x.ini", text, environment, no_files)
}

fn config(text: &str) -> Config {
    with_environment(text, &[]).unwrap()
}

fn refuses(text: &str, expect: Expect) {
    expect.assert_eq(&with_environment(text, &[]).unwrap_err().to_string());
}

/// The shape of the file that Debian's package installs, as far as it is not comments.
const DEBIAN: &str = "\
;;;
;;; PgBouncer configuration file
;;;

[databases]

;; foodb over Unix socket
;foodb =

;; redirect bardb to bazdb on localhost
;bardb = host=localhost dbname=bazdb

;; use custom pool sizes
;nondefaultdb = pool_size=50 reserve_pool_size=10

[users]

;user1 = pool_size=5 reserve_pool_size=2 pool_mode=transaction max_user_connections=50

;; Configuration section
[pgbouncer]

logfile = /var/log/postgresql/pgbouncer.log
pidfile = /var/run/postgresql/pgbouncer.pid

listen_addr = localhost
listen_port = 6432

unix_socket_dir = /var/run/postgresql
;unix_socket_mode = 0777

;client_tls_sslmode = disable

auth_type = md5
auth_file = /etc/pgbouncer/userlist.txt
;admin_users = user2, someadmin, otheradmin

;pool_mode = session
;server_reset_query = DISCARD ALL
;ignore_startup_parameters = extra_float_digits
max_client_conn = 100
default_pool_size = 20
";

/// The shape of the file that edoburu's image writes at its first start.
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

# Connection sanity checks, timeouts

# TLS settings

# Dangerous timeouts
################## end file ##################
";

#[test]
fn the_file_of_debians_package_loads() {
    let config = config(DEBIAN);

    assert!(config.databases.is_empty() && config.auto_database.is_none());
    assert_eq!(config.settings.auth_type, AuthType::Md5);
    assert_eq!(
        config.settings.listen_addr.iter().collect::<Vec<_>>(),
        ["localhost"]
    );
    assert_eq!(not_yet(&config), Vec::<&str>::new());
}

#[test]
fn the_file_of_edoburus_image_loads() {
    let config = config(EDOBURU);

    assert_eq!(config.settings.unix_socket_dir, None);
    assert_eq!(config.settings.pool_mode, PoolMode::Transaction);
    assert_eq!(
        config.databases["app"].client_encoding.as_deref(),
        Some("UTF8")
    );
    let other = config.database("other").unwrap();
    assert_eq!(other.hosts, [Host::Name("postgres".into())]);
    assert_eq!(not_yet(&config), Vec::<&str>::new());
}

#[test]
fn a_database_is_its_own_entry_or_made_from_the_template_or_unknown() {
    let with_template = config("[pgbouncer]\n[databases]\napp = port=1\n* = port=2");
    let port = |config: &Config, name: &str| config.database(name).map(|database| database.port);

    assert_eq!(port(&with_template, "app"), Some(1));
    assert_eq!(port(&with_template, "other"), Some(2));
    assert_eq!(port(&with_template, "pgbouncer"), None);
    assert_eq!(port(&with_template, ""), None);
    assert_eq!(port(&with_template, &"x".repeat(64)), None);
    assert_eq!(
        port(&config("[pgbouncer]\n[databases]\napp ="), "other"),
        None
    );
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = with_environment(
        "[pgbouncer]\ndefault_pool_size = 5\nmax_client_conn = 7",
        &[
            ("PGUSHER_DEFAULT_POOL_SIZE", "9"),
            ("PGUSHER_WORKERS", "3"),
            ("HOME", "/"),
        ],
    )
    .unwrap();

    assert_eq!(config.settings.default_pool_size, 9);
    assert_eq!(config.settings.max_client_conn, 7);
    assert_eq!(
        config.settings.workers,
        Workers::Fixed(3.try_into().unwrap())
    );
    assert_eq!(config.warnings, []);
}

#[test]
fn what_the_environment_says_wrongly_only_warns() {
    let config = with_environment(
        "[pgbouncer]\nlisten_port = 7000",
        &[
            ("PGUSHER_PORT", "tcp://10.0.0.1:6432"),
            ("PGUSHER_LISTEN_PORT", "tcp://10.0.0.1:6432"),
            ("PGUSHER_POOL_MOD", "session"),
        ],
    )
    .unwrap();

    assert_eq!(config.settings.listen_port, 7000);
    let warnings: Vec<_> = config.warnings.iter().map(Finding::to_string).collect();
    expect![[r#"
        environment: PGUSHER_LISTEN_PORT: expected a whole number from 0 to 65535, got "tcp://10.0.0.1:6432"
        environment: PGUSHER_POOL_MOD: unknown key, did you mean pool_mode?
        environment: PGUSHER_PORT: unknown key"#]].assert_eq(&warnings.join("\n"));
}

#[test]
fn every_mistake_is_reported_at_once_with_file_line_and_key() {
    refuses(
        "[pgbouncer]\n\
         pool_mode = fast\n\
         max_client_connections = 100\n\
         query_timeout = 30s\n\
         [databases]\n\
         app = host=db pool_sise=3\n\
         bad = host db\n\
         pgbouncer = host=db\n\
         a-name-that-is-much-too-long-for-a-database-of-postgresql-which-allows-63-bytes =\n\
         [users]\n\
         bob = max_connections=3\n\
         [peers]\n\
         one = host=x\n\
         2 = port=1\n",
        expect![[r#"
            x.ini:2: pool_mode: expected session, transaction or statement, got "fast"
            x.ini:3: max_client_connections: unknown key, did you mean max_client_conn?
            x.ini:4: query_timeout: expected a number of seconds, 0 or more, without a unit, got "30s"
            x.ini:6: app: pool_sise: unknown key, did you mean pool_size?
            x.ini:7: bad: host: expected key=value
            x.ini:8: pgbouncer: this database name is reserved for the console
            x.ini:9: a-name-that-is-much-too-long-for-a-database-of-postgresql-which-allows-63-bytes: the name is longer than 63 bytes
            x.ini:11: bob: max_connections: unknown key, did you mean max_user_connections?
            x.ini:13: one: expected a peer id from 1 to 65535, got "one"
            x.ini:14: 2: needs host"#]],
    );
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let error = Config::load(Path::new("no/such/file.ini"), []).unwrap_err();

    expect!["no/such/file.ini: cannot be read: No such file or directory (os error 2)"]
        .assert_eq(&error.to_string());
}

#[test]
fn syntax_errors_come_out_as_they_were_found() {
    refuses(
        "[pgbouncer]\nwhat\n%include more.ini",
        expect![[r#"
            x.ini:2: expected key = value, a [section], or a comment
            x.ini:3: more.ini: cannot be read: entity not found"#]],
    );
    refuses(
        "",
        expect!["x.ini: main section missing, expected [pgbouncer]"],
    );
}

#[test]
fn settings_that_need_another_one_say_which() {
    refuses(
        "[pgbouncer]\nauth_type = hba",
        expect!["x.ini:2: auth_type: needs auth_hba_file"],
    );
    refuses(
        "[pgbouncer]\nauth_type = cert\nclient_tls_sslmode = require\nclient_tls_cert_file = c",
        expect![[r#"
            x.ini:2: auth_type: needs client_tls_sslmode = verify-full
            x.ini:3: client_tls_sslmode: needs client_tls_key_file"#]],
    );
    refuses(
        "[pgbouncer]\nclient_tls_sslmode = verify-full\nclient_tls_cert_file = c\nclient_tls_key_file = k",
        expect!["x.ini:2: client_tls_sslmode: needs client_tls_ca_file"],
    );
    refuses(
        "[pgbouncer]\npeer_id = 16384\nstats_period = 0",
        expect![[r#"
            x.ini:2: peer_id: expected a whole number from 0 to 16383, got "16384"
            x.ini:3: stats_period: expected 1 second or more, got "0""#]],
    );
    refuses(
        "[pgbouncer]\npeer_id = 1\nsession_backend_pid = 1",
        expect!["x.ini:3: session_backend_pid: needs peer_id = 0"],
    );
}

#[test]
fn database_names_keep_their_case_and_dots() {
    let config =
        config("[pgbouncer]\n[databases]\nMy.Db = port=1\nmy.db = port=2\n'a[0]' = port=3");

    let names: Vec<_> = config.databases.keys().map(String::as_str).collect();
    assert_eq!(names, ["My.Db", "a[0]", "my.db"]);
}

/// Reads the passwords of `[databases]`, with files and environment made up.
fn passwords(entries: &str) -> String {
    let read: ReadFile = |path| match path.to_str() {
        Some("good") => Ok("from a file\r\n".to_owned()),
        Some("two lines") => Ok("one\ntwo\n".to_owned()),
        Some("empty") => Ok("\n".to_owned()),
        Some("binary") => Ok("\u{fffd}\n".to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    let environment = [("GOOD", " from outside "), ("EMPTY", "")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let text = format!("[pgbouncer]\n[databases]\n{entries}");
    match Config::from_text("x.ini", &text, environment, read) {
        Ok(config) => {
            let password =
                |d: &Database| format!("{:?}", d.password.as_ref().map(Password::reveal));
            config.all_databases().map(password).collect()
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_password_may_be_in_a_file_or_in_the_environment() {
    assert_eq!(passwords("a = password_file=good"), "Some(\"from a file\")");
    assert_eq!(
        passwords("a = password_file='two lines'"),
        "Some(\"one\\ntwo\")"
    );
    assert_eq!(
        passwords("* = password_env=GOOD"),
        "Some(\" from outside \")"
    );
}

#[test]
fn a_password_that_is_not_where_it_should_be_is_an_error_without_it() {
    let mut told = String::new();
    for entry in [
        "password_file=missing",
        "password_file=empty",
        "password_file=binary",
        "password_env=MISSING",
        "password_env=EMPTY",
        "password=hush password_env=GOOD",
        "password_env=GOOD password=hush",
        "password_env=GOOD password_file=good",
    ] {
        told.push_str(&passwords(&format!("a = {entry}")));
        told.push('\n');
    }
    expect![[r#"
        x.ini:3: a: password_file: cannot be read: missing: entity not found
        x.ini:3: a: password_file: expected a password there, and there is none
        x.ini:3: a: password_file: expected a password in UTF-8
        x.ini:3: a: password_env: there is no environment variable MISSING
        x.ini:3: a: password_env: expected a password there, and there is none
        x.ini:3: a: password: expected one of password, password_file and password_env
        x.ini:3: a: password: expected one of password, password_file and password_env
        x.ini:3: a: password_file: expected one of password, password_file and password_env
    "#]]
    .assert_eq(&told);
}

#[test]
fn boot_settings_survive_a_reload_and_the_others_do_not() {
    let old = config("[pgbouncer]\nlisten_port = 1\nserver_lifetime = 1\nauth_file = a");
    let new = config("[pgbouncer]\nlisten_port = 2\nserver_lifetime = 2");

    let running = new.keeping_boot_settings_of(&old);

    assert_eq!(running.settings.listen_port, 1);
    assert_eq!(running.settings.server_lifetime, Duration::from_secs(2));
    assert_eq!(running.settings.auth_file, None);
}

#[test]
fn what_does_not_act_yet_is_named_once_and_only_if_asked_for() {
    let asking = config("[pgbouncer]\nsbuf_loopcnt = 20\npkt_buf = 1\npkt_buf = 2");
    let content = config(
        "[pgbouncer]\nauth_type = PAM\nserver_tls_sslmode = allow\nsyslog = 0\ndns_max_ttl = 15.0",
    );

    assert_eq!(not_yet(&asking), ["pkt_buf", "sbuf_loopcnt"]);
    assert_eq!(not_yet(&content), Vec::<&str>::new());
}

#[test]
fn every_key_that_does_not_act_yet_is_a_setting() {
    for row in crate::NOT_YET {
        let setting = SETTINGS.iter().find(|setting| setting.name == row.key);
        assert!(setting.is_some(), "{}", row.key);
    }
}

proptest! {
    #[test]
    fn no_text_makes_loading_panic(
        text in "(\\PC|\n|[ ='*]|host=|port=|pool_mode=|\\[databases\\]\n|\\[users\\]\n|\\[peers\\]\n){0,80}"
    ) {
        let _ = with_environment(&format!("[pgbouncer]\n{text}"), &[]);
    }
}

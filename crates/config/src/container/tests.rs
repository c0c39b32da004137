use std::io;

use expect_test::{Expect, expect};

use super::*;
use crate::{AuthType, Config, PoolMode, SslMode};

/// The files of a container, as far as these tests have any.
fn files(path: &Path) -> io::Result<String> {
    let text = match path.to_str() {
        Some("/run/secrets/password") => "s3cret\n",
        Some("/run/secrets/url") => "postgres://alice:s3cret@db/app\n",
        Some("/mounted/pgbouncer.ini") => "[databases]\nx = host=h\n[pgbouncer]\n",
        Some("/mounted/userlist.txt" | "/lists/userlist.txt") => "\"bob\" \"known\"\n",
        _ => return Err(io::ErrorKind::NotFound.into()),
    };
    Ok(text.to_owned())
}

fn try_config(path: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let environment = variables.iter().map(owned).collect();
    Config::in_container(path.as_ref(), environment, files).map_err(|error| error.to_string())
}

fn config(variables: &[(&str, &str)]) -> Config {
    try_config("/etc/pgbouncer/pgbouncer.ini", variables).unwrap()
}

fn users(config: &Config) -> &str {
    config.userlist.as_ref().map_or("", Password::reveal)
}

/// The ini that is made, and the user list.
fn makes(variables: &[(&str, &str)], expect: Expect) {
    let config = config(variables);
    let warnings = config
        .warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"));
    let ini = config.shown.as_deref().unwrap();
    expect.assert_eq(&format!(
        "{ini}---\n{}{}",
        users(&config),
        warnings.collect::<String>()
    ));
}

fn refuses(variables: &[(&str, &str)], expect: Expect) {
    expect.assert_eq(&try_config("/etc/pgbouncer/pgbouncer.ini", variables).unwrap_err());
}

#[test]
fn a_url_becomes_a_database_and_a_user() {
    makes(
        &[(
            "DATABASE_URL",
            "postgres://alice:p%40ss@db:5433/app?sslmode=require",
        )],
        expect![[r#"
            [databases]
            app = host=db port=5433 auth_user=alice
            [pgbouncer]
            admin_users = postgres
            auth_type = md5
            ignore_startup_parameters = extra_float_digits
            listen_addr = 0.0.0.0
            listen_port = 5432
            server_tls_sslmode = require
            unix_socket_dir =
            ---
            "alice" "p@ss"
        "#]],
    );
}

#[test]
fn variables_of_the_database_do_the_same() {
    makes(
        &[
            ("DB_HOST", "10.0.0.5"),
            ("DB_USER", "al\"ice"),
            ("DB_PASSWORD", "it's \"secret\""),
            ("DB_PORT", ""),
            ("POOL_MODE", "transaction"),
            ("MAX_CLIENT_CONN", "500"),
            ("POOL_SIZE", "7"),
            ("TIMEZONE", "Europe/Zurich or so"),
            ("USER", "root"),
            ("PATH", "/bin"),
        ],
        expect![[r#"
            [databases]
            * = host=10.0.0.5 port=5432 auth_user='al"ice' pool_size=7 timezone='Europe/Zurich or so'
            [pgbouncer]
            admin_users = postgres
            auth_type = md5
            ignore_startup_parameters = extra_float_digits
            listen_addr = 0.0.0.0
            listen_port = 5432
            max_client_conn = 500
            pool_mode = transaction
            unix_socket_dir =
            ---
            "al""ice" "it's ""secret"""
        "#]],
    );
}

#[test]
fn several_urls_become_several_databases() {
    makes(
        &[(
            "DATABASE_URLS",
            "postgres://a:1@h/one,postgres://h1:6000,h2:6000/my%20db?client_encoding=latin1&schema=x",
        )],
        expect![[r#"
            [databases]
            one = host=h port=5432 auth_user=a
            "my db" = host=h1,h2 port=6000 auth_user=postgres client_encoding=latin1
            [pgbouncer]
            admin_users = postgres
            auth_type = md5
            ignore_startup_parameters = extra_float_digits
            listen_addr = 0.0.0.0
            listen_port = 5432
            unix_socket_dir =
            ---
            "a" "1"
            warning: environment: DATABASE_URLS: these parameters are not used: schema
        "#]],
    );
}

#[test]
fn with_names_of_our_own_the_defaults_are_our_own() {
    makes(
        &[
            ("PGUSHER_DATABASE_URL", "postgres://alice@db/app"),
            ("PGUSHER_DB_PASSWORD_FILE", "/run/secrets/password"),
            ("PGUSHER_MAX_CLIENT_CONN", "77"),
            ("PGUSHER_PORT", "tcp://10.0.0.1:6432"),
        ],
        expect![[r#"
            [databases]
            app = host=db port=5432 auth_user=alice
            [pgbouncer]
            admin_users = alice
            auth_type = scram-sha-256
            ignore_startup_parameters = extra_float_digits
            listen_addr = 0.0.0.0
            pool_mode = transaction
            unix_socket_dir =
            ---
            "alice" "s3cret"
            warning: environment: PGUSHER_PORT: unknown key
        "#]],
    );
    let own = config(&[
        ("PGUSHER_DB_HOST", "db"),
        ("PGUSHER_MAX_CLIENT_CONN", "77"),
        ("MAX_CLIENT_CONN", "66"),
    ]);
    assert_eq!(own.settings.max_client_conn, 77);
}

#[test]
fn bitnamis_variables_have_bitnamis_defaults() {
    makes(
        &[
            ("POSTGRESQL_PASSWORD", "s3cret"),
            ("POSTGRESQL_HOST", "pg"),
            ("PGBOUNCER_DATABASE", "app"),
            ("POSTGRESQL_DATABASE", "inside"),
            ("PGBOUNCER_SET_DATABASE_USER", "yes"),
            ("PGBOUNCER_SET_DATABASE_PASSWORD", "yes"),
            ("PGBOUNCER_POOL_MODE", "transaction"),
            ("PGBOUNCER_PORT", "6000"),
            ("PGBOUNCER_CONNECT_QUERY", "SELECT 'a'"),
            ("PGBOUNCER_DSN_0", "x=host=h password='p w' dbname=y"),
            ("PGBOUNCER_DSN_1", "y=host=z"),
            ("PGBOUNCER_USERLIST", "\"bob\" \"b\"\n\"carol\" \"c\"\n"),
        ],
        expect![[r#"
            [databases]
            app = host=pg port=5432 dbname=inside user=postgres password=… connect_query='SELECT ''a'''
            x = host=h password=… dbname=y
            y = host=z
            [pgbouncer]
            admin_users = postgres
            auth_type = scram-sha-256
            ignore_startup_parameters = extra_float_digits
            listen_addr = 0.0.0.0
            listen_port = 6000
            pool_mode = transaction
            unix_socket_dir =
            ---
            "postgres" "s3cret"
            "bob" "b"
            "carol" "c"
        "#]],
    );
}

#[test]
fn a_service_that_is_called_db_is_no_port() {
    makes(
        &[("DB_HOST", "db"), ("DB_PORT", "tcp://10.0.0.1:5432")],
        expect![[r#"
            [databases]
            * = host=db port=5432 auth_user=postgres
            [pgbouncer]
            admin_users = postgres
            auth_type = md5
            ignore_startup_parameters = extra_float_digits
            listen_addr = 0.0.0.0
            listen_port = 5432
            unix_socket_dir =
            ---
            warning: environment: DB_PORT: not used: this is an address, not a port
        "#]],
    );
}

#[test]
fn secrets_may_be_in_files() {
    let from_file = config(&[("DATABASE_URL_FILE", "/run/secrets/url")]);
    assert_eq!(users(&from_file), "\"alice\" \"s3cret\"\n");
    let ldap = config(&[
        ("DB_HOST", "h"),
        ("PGUSHER_AUTH_LDAP_OPTIONS_FILE", "/run/secrets/password"),
    ]);
    assert_eq!(ldap.settings.auth_ldap_options.unwrap().reveal(), "s3cret");
    assert!(ldap.shown.unwrap().contains("auth_ldap_options = …\n"));
}

#[test]
fn a_mounted_file_is_the_configuration_and_users_are_added() {
    let variables = [
        ("DB_HOST", "db"),
        ("DB_USER", "alice"),
        ("DB_PASSWORD", "secret"),
        ("POOL_MODE", "transaction"),
        ("PGUSHER_DEFAULT_POOL_SIZE", "3"),
    ];
    let mounted = try_config("/mounted/pgbouncer.ini", &variables).unwrap();

    assert_eq!(mounted.settings.pool_mode, PoolMode::Session);
    assert_eq!(mounted.settings.default_pool_size, 3);
    assert_eq!(mounted.databases.keys().collect::<Vec<_>>(), ["x"]);
    assert_eq!(users(&mounted), "\"alice\" \"secret\"\n");
    assert_eq!(mounted.shown, None);
    assert_eq!(
        mounted.warnings[0].to_string(),
        "environment: DB_HOST, POOL_MODE: not used, since /mounted/pgbouncer.ini is there"
    );
}

#[test]
fn beside_a_mounted_file_a_secret_that_can_not_be_read_is_told() {
    let variables = [("DB_USER", "alice"), ("DB_PASSWORD_FILE", "/no")];
    let mounted = try_config("/mounted/pgbouncer.ini", &variables).unwrap();
    let warnings: Vec<_> = mounted.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["environment: DB_PASSWORD_FILE: cannot be read: /no: entity not found"]
    );
}

#[test]
fn a_user_list_counts_if_it_is_there() {
    let db = ("DB_HOST", "db");
    let beside = try_config("/lists/pgbouncer.ini", &[db]).unwrap();
    assert_eq!(
        beside.settings.auth_file.unwrap(),
        Path::new("/lists/userlist.txt")
    );
    let elsewhere = config(&[db, ("AUTH_FILE", "/lists/userlist.txt")]);
    assert_eq!(
        elsewhere.settings.auth_file.unwrap(),
        Path::new("/lists/userlist.txt")
    );
    assert_eq!(
        config(&[db, ("AUTH_FILE", "/not/there")])
            .settings
            .auth_file,
        None
    );
}

#[test]
fn a_variable_wins_over_a_url() {
    let url = ("DATABASE_URL", "postgres://db/app?sslmode=require");
    let config = config(&[
        url,
        ("SERVER_TLS_SSLMODE", "disable"),
        ("AUTH_TYPE", "plain"),
    ]);
    assert_eq!(config.settings.server_tls_sslmode, SslMode::Disable);
    assert_eq!(config.settings.auth_type, AuthType::Plain);
}

#[test]
fn what_is_wrong_is_said_by_the_variables_name_and_without_secrets() {
    refuses(
        &[],
        expect![
            "environment: nothing says where PostgreSQL is: set DATABASE_URL or DB_HOST, or mount /etc/pgbouncer/pgbouncer.ini"
        ],
    );
    refuses(
        &[
            ("DB_HOST", "h"),
            ("LISTEN_PORT", "many"),
            ("POOL_SIZE", "few"),
            ("DB_PASSWORD_FILE", "/no"),
        ],
        expect![[r#"
            environment: DB_PASSWORD_FILE: cannot be read: /no: entity not found
            environment: LISTEN_PORT: expected a whole number from 0 to 65535, got "many""#]],
    );
    refuses(
        &[("DB_HOST", "h"), ("POOL_SIZE", "few")],
        expect![[r#"environment: *: pool_size: expected a whole number, got "few""#]],
    );
    refuses(
        &[(
            "DATABASE_URLS",
            "postgres://a:100%@h/x,postgres://u:p@h/y?sslmode=yes",
        )],
        expect![[r#"
            environment: DATABASE_URLS: expected %25 for a % in a URL, and %xx of UTF-8 for other characters
            environment: DATABASE_URLS: expected disable, allow, prefer, require, verify-ca or verify-full, got "yes""#]],
    );
    refuses(
        &[(
            "DATABASE_URLS",
            "postgres://h/x?sslmode=allow,postgres://h/x?sslmode=require",
        )],
        expect![[r#"
            environment: DATABASE_URLS: server_tls_sslmode holds for all servers, and the URLs differ in it
            environment: DATABASE_URLS: two databases are called x"#]],
    );
    refuses(
        &[
            ("DB_HOST", "h"),
            ("DB_USER", "a"),
            ("DB_PASSWORD", "two\nlines"),
        ],
        expect!["environment: expected a user and a password of one line each"],
    );
    refuses(
        &[
            ("DB_HOST", "h"),
            ("DB_PASSWORD", "s3cret"),
            ("DB_PASSWORD_FILE", "/run/secrets/password"),
        ],
        expect!["environment: DB_PASSWORD: given twice, here and by DB_PASSWORD_FILE"],
    );
    refuses(
        &[
            ("DB_HOST", "h"),
            ("AUTH_QUERY", "SELECT 1\n[pgbouncer]"),
            ("DB_NAME", "a\nb = host=evil"),
        ],
        expect![[r#"
            environment: DB_NAME: expected one line of UTF-8
            environment: AUTH_QUERY: expected one line of UTF-8"#]],
    );
    refuses(
        &[("DB_HOST", "h"), ("AUTH_TYPE", "hba")],
        expect!["environment: auth_type: needs auth_hba_file"],
    );
}

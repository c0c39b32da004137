use expect_test::expect;

use super::*;

fn with(key: &str, value: &str) -> Settings {
    let mut settings = Settings::default();
    settings.set(key, value).unwrap();
    settings
}

fn shown(settings: &Settings, key: &str) -> Option<String> {
    settings.rows().find(|row| row.name == key).unwrap().value
}

fn refusal(key: &str, value: &str) -> String {
    let mut settings = Settings::default();
    let error = settings.set(key, value).unwrap_err();
    assert_eq!(
        settings,
        Settings::default(),
        "a refused value changes nothing"
    );
    error.to_string()
}

#[test]
fn show_config_has_pgbouncers_100_rows_in_its_order_and_then_ours() {
    let names: Vec<_> = Settings::default().rows().map(|row| row.name).collect();

    let (pgbouncers, ours) = names.split_at(100);
    assert!(ours.is_sorted() && ours.contains(&"workers"), "{ours:?}");
    let mut pgbouncers = pgbouncers.to_vec();
    let quirk = pgbouncers.iter().position(|name| *name == "pool_mode");
    pgbouncers.swap(quirk.unwrap(), quirk.unwrap() + 1);
    assert!(pgbouncers.is_sorted(), "alphabetical but for pool_mode");
}

#[test]
fn every_default_is_of_its_rows_type_and_survives_being_shown() {
    for row in Settings::default().rows() {
        let mut settings = Settings::default();
        if let Some(default) = row.default {
            settings.set(row.name, default).unwrap();
        }
        if let Some(value) = &row.value {
            settings.set(row.name, value).unwrap();
        }
        assert_eq!(settings, Settings::default(), "{}", row.name);
    }
}

#[test]
fn unset_settings_are_null_and_empty_ones_are_empty() {
    let settings = Settings::default();
    let row = |key| settings.rows().find(|row| row.name == key).unwrap();

    assert_eq!(
        (row("auth_file").value, row("auth_file").default),
        (None, None)
    );
    assert_eq!(row("logfile").value.as_deref(), Some(""));
    assert_eq!(row("verbose").value.as_deref(), Some("0"));
    assert_eq!(row("verbose").default, None);
    assert_eq!(
        shown(&with("server_reset_query", ""), "server_reset_query").unwrap(),
        ""
    );
}

#[test]
fn values_are_shown_as_pgbouncer_shows_them() {
    let shown = [
        ("unix_socket_mode", "0777"),
        ("server_idle_timeout", "0.50"),
        ("pool_mode", "Transaction"),
        ("log_stats", "0x1"),
        ("listen_addr", "127.0.0.1, ::1"),
        ("server_check_query", "<empty>"),
        ("tcp_user_timeout", "1500"),
        ("unix_socket_dir", "@pgusher"),
    ]
    .map(|(key, value)| shown(&with(key, value), key).unwrap());

    assert_eq!(
        shown,
        [
            "511",
            "0.5",
            "transaction",
            "1",
            "127.0.0.1, ::1",
            "<empty>",
            "1500",
            "@pgusher"
        ]
    );
}

#[test]
fn only_boot_settings_are_not_changeable() {
    let at_boot: Vec<_> = Settings::default()
        .rows()
        .filter(|row| !row.changeable)
        .map(|row| row.name)
        .collect();

    expect![[r#"
        [
            "disable_pqexec",
            "job_name",
            "listen_addr",
            "listen_backlog",
            "listen_port",
            "pidfile",
            "pkt_buf",
            "resolv_conf",
            "so_reuseport",
            "track_extra_parameters",
            "unix_socket_dir",
            "unix_socket_group",
            "unix_socket_mode",
            "user",
            "io_uring",
            "metrics_label_limit",
            "metrics_listen_addr",
            "metrics_port",
            "workers",
        ]
    "#]]
    .assert_debug_eq(&at_boot);
}

#[test]
fn a_refusal_names_key_value_what_was_expected_and_the_nearest_key() {
    let refusals = [
        ("pool_mode", "transactional"),
        ("default_pool_size", "-1"),
        ("default_pool_size", "20 connections"),
        ("log_connections", "on"),
        ("query_timeout", "30s"),
        ("auth_type", "password"),
        ("workers", "0"),
        ("auth_dbname", "pgbouncer"),
        ("listen_port", "70000"),
        ("pool_mod", "session"),
        ("Pool_Mode", "session"),
        ("max_client_connections", "100"),
        ("query_db_wait_timeout", "1"),
        ("stats_users_prefix", "x"),
        ("pool_size", "1"),
        ("shoe_size", "43"),
        ("", ""),
    ]
    .map(|(key, value)| refusal(key, value));

    expect![[r#"
        pool_mode: expected session, transaction or statement, got "transactional"
        default_pool_size: expected a whole number, 0 or more, got "-1"
        default_pool_size: expected a whole number, 0 or more, got "20 connections"
        log_connections: expected 0 or 1, got "on"
        query_timeout: expected a number of seconds, 0 or more, without a unit, got "30s"
        auth_type: expected any, trust, plain, md5, scram-sha-256, cert, hba, ldap or pam, got "password"
        workers: expected auto, or a whole number from 1 to 64, got "0"
        auth_dbname: expected a database name (cannot use the reserved "pgbouncer" database as an auth_dbname), got "pgbouncer"
        listen_port: expected a whole number from 0 to 65535, got "70000"
        pool_mod: unknown key, did you mean pool_mode?
        Pool_Mode: unknown key, did you mean pool_mode?
        max_client_connections: unknown key, did you mean max_client_conn?
        query_db_wait_timeout: unknown key, did you mean query_wait_timeout?
        stats_users_prefix: unknown key, did you mean stats_users?
        pool_size: unknown key, did you mean default_pool_size?
        shoe_size: unknown key
        : unknown key"#]].assert_eq(&refusals.join("\n"));
}

#[test]
fn the_old_name_of_job_name_works() {
    assert_eq!(with("service_name", "pooler").job_name, "pooler");
}

#[test]
fn debug_output_hides_the_ldap_options() {
    let settings = with("auth_ldap_options", "ldapbindpasswd=hunter2");

    assert!(!format!("{settings:?}").contains("hunter2"));
}

#[test]
fn who_may_only_look_sees_ldap_options_up_to_their_password() {
    let public = |settings: &Settings| {
        let mut rows = settings.rows();
        rows.find(|row| row.name == "auth_ldap_options")
            .unwrap()
            .public
    };
    let mut settings = Settings::default();
    let options = "ldapserver=d ldapbasedn=dc=x";
    settings.set("auth_ldap_options", options).unwrap();
    assert_eq!(public(&settings).as_deref(), Some(options));

    let more = format!("{options} ldapbindpasswd=\"hush hush\" ldaptls=1");
    settings.set("auth_ldap_options", &more).unwrap();
    assert_eq!(
        public(&settings).unwrap(),
        "ldapserver=d ldapbasedn=dc=x ldapbindpasswd=…"
    );
    assert_eq!(
        shown(&settings, "auth_ldap_options").as_deref(),
        Some(&*more)
    );
}

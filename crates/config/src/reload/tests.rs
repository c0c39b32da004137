use super::*;

fn config(text: &str) -> Config {
    let read = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
    Config::from_text("x.ini", text, [], read).unwrap()
}

fn changes(old: &str, new: &str) -> Changes {
    Changes::between(&config(old), &config(new))
}

/// What becomes of the database `a` when its connection string changes.
fn database(old: &str, new: &str) -> Option<DatabaseChange> {
    let ini = |text: &str| format!("[pgbouncer]\n[databases]\na = {text}");
    let changes = changes(&ini(old), &ini(new));
    changes.databases.first().map(|(_, change)| *change)
}

#[test]
fn the_same_file_changes_nothing() {
    let ini =
        "[pgbouncer]\nverbose=1\n[databases]\n* =\na = host=x\n[users]\nbob =\n[peers]\n1 = host=x";

    assert!(changes(ini, ini).is_empty());
}

#[test]
fn changed_settings_are_told_with_both_values_and_boot_ones_apart() {
    let changes = changes(
        "[pgbouncer]\nserver_lifetime = 60\nlisten_port = 1",
        "[pgbouncer]\nlisten_port = 2\nauth_file = users.txt",
    );

    let told = |changes: &[SettingChange]| -> Vec<String> {
        let tell =
            |change: &SettingChange| format!("{} {:?} {:?}", change.name, change.old, change.new);
        changes.iter().map(tell).collect()
    };
    assert_eq!(
        told(&changes.settings),
        [
            "auth_file None Some(\"users.txt\")",
            "server_lifetime Some(\"60\") Some(\"3600\")"
        ]
    );
    assert_eq!(
        told(&changes.at_boot),
        ["listen_port Some(\"1\") Some(\"2\")"]
    );
}

#[test]
fn a_secret_setting_is_told_without_its_value() {
    let changes = changes(
        "[pgbouncer]",
        "[pgbouncer]\nauth_ldap_options = ldapbindpasswd=x",
    );

    assert_eq!(changes.settings[0].new.as_deref(), Some("…"));
}

#[test]
fn databases_come_and_go_and_the_template_with_them() {
    let changes = changes(
        "[pgbouncer]\n[databases]\ngone =\nsame =",
        "[pgbouncer]\n[databases]\n* = host=x\nnew =\nsame =",
    );

    assert_eq!(
        changes.databases,
        [
            ("*".to_owned(), DatabaseChange::Added),
            ("gone".to_owned(), DatabaseChange::Removed),
            ("new".to_owned(), DatabaseChange::Added),
        ]
    );
}

#[test]
fn servers_connect_anew_when_where_who_or_what_they_are_differs() {
    for (old, new) in [
        ("", "dbname=b"),
        ("host=x", "host=x,y"),
        ("", "port=5433"),
        ("", "user=bob"),
        ("user=bob", ""),
        ("", "auth_query='select 1'"),
        ("", "auth_dbname=b"),
        ("", "connect_query='select 1'"),
        ("", "timezone=UTC"),
    ] {
        assert_eq!(
            database(old, new),
            Some(DatabaseChange::Reconnect),
            "{old} -> {new}"
        );
    }
}

#[test]
fn servers_stay_when_only_limits_manners_or_the_password_differ() {
    for (old, new) in [
        ("", "pool_size=3"),
        ("password=a", "password=b"),
        ("", "pool_mode=session"),
        ("", "load_balance_hosts=disable"),
        ("", "query_wait_timeout=1"),
    ] {
        assert_eq!(
            database(old, new),
            Some(DatabaseChange::Adjusted),
            "{old} -> {new}"
        );
    }
    assert_eq!(database("", "dbname=a"), Some(DatabaseChange::Adjusted));
    assert_eq!(database("port=5432", "port = 5432"), None);
}

#[test]
fn an_auto_database_follows_the_template() {
    let old = config("[pgbouncer]\n[databases]\n* = host=x");
    let new = config("[pgbouncer]\n[databases]\n* = host=y");
    let change = |new: &Config| {
        DatabaseChange::between(old.database("a").as_deref(), new.database("a").as_deref())
    };

    assert_eq!(change(&new), Some(DatabaseChange::Reconnect));
    assert_eq!(
        change(&config("[pgbouncer]")),
        Some(DatabaseChange::Removed)
    );
    assert_eq!(change(&old), None);
}

#[test]
fn users_and_peers_come_go_and_change() {
    let changes = changes(
        "[pgbouncer]\n[users]\na = pool_size=1\nb =\n[peers]\n1 = host=x",
        "[pgbouncer]\n[users]\na = pool_size=2\nc =\n[peers]\n1 = host=x\n2 = host=y",
    );

    let name = |name: &str| name.to_owned();
    assert_eq!(
        changes.users,
        [
            (name("a"), Membership::Changed),
            (name("b"), Membership::Removed),
            (name("c"), Membership::Added),
        ]
    );
    assert_eq!(changes.peers, [(2, Membership::Added)]);
}
